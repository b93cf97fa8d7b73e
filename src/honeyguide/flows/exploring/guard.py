"""Guardrails of exploration, judged on what was shown and what followed; a surface that is hurt stops exploring."""

from __future__ import annotations

import datetime as dt
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from honeyguide.contracts import TablesEngine
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import held_expression
from honeyguide.flows.exploring.stops import Stop, changing, read
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS
from honeyguide.slate.explore import GuardrailConfig
from honeyguide.slate.harm import HarmTest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["check", "guarded", "status"]

_logger = structlog.get_logger("honeyguide.exploration")
_AT, _DID = "shown_at_us", "did_at_us"


def guarded(config: WorkspaceConfig) -> dict[str, tuple[GuardrailConfig, ...]]:
    """Surfaces that explore under guardrails."""
    return {
        name: surface.slate.explore.guardrails
        for name, surface in config.surfaces.items()
        if surface.slate.explore.guardrails and surface.slate.explore.explores
    }


def check(folder: Path, *, now_us: int | None = None) -> dict[str, Any]:
    """Judge every guardrail of the policy in service, stop what is hurt; returns `status` afterwards."""
    layout = Layout.open(folder)
    config = WorkspaceConfig.of_build(load_manifest(layout).config)
    moment = time.time_ns() // 1000 - round(config.clock.offset_s * 1e6) if now_us is None else now_us
    with changing(layout) as stops:
        judged = _judged(layout, config, stops.released, moment)
        for (surface, guardrail), test in judged.items():
            if test.hurts and surface not in stops.stopped:
                stop = Stop(
                    dt.datetime.fromtimestamp(moment / 1e6, dt.UTC).isoformat(timespec="seconds"), guardrail.action,
                    _why(guardrail, test), test.explored, test.unexplored, round(test.expected, 1),
                )  # fmt: skip
                stops.stopped[surface] = stop
                _logger.error("exploration stopped", surface=surface, guardrail=guardrail.action, reason=stop.why)
    return _report(layout, config, judged)


def status(folder: Path) -> dict[str, Any]:
    """How each surface explores, what stopped, and what its guardrails say so far; changes nothing."""
    layout = Layout.open(folder)
    config = WorkspaceConfig.of_build(load_manifest(layout).config)
    moment = time.time_ns() // 1000 - round(config.clock.offset_s * 1e6)
    return _report(layout, config, _judged(layout, config, read(layout).released, moment))


_Judged = dict[tuple[str, GuardrailConfig], HarmTest]


def _judged(layout: Layout, config: WorkspaceConfig, released: dict[str, int], now_us: int) -> _Judged:
    rules = guarded(config)
    tests = {(name, one): HarmTest(one.hurt, one.ratio, one.alpha) for name, own in rules.items() for one in own}
    if not tests:
        return tests
    with closing(tables_engine(config.engine)) as engine:
        for row in _followed(engine, layout, rules):
            surface, at = row[c.SURFACE], row[_AT]
            if at < released.get(surface, 0):
                continue
            place = _slot(row)
            if place is None:
                continue
            told = msgspec.json.decode(row[c.EXPLORATION]).get("explored", {})
            chance = told.get(str(place + 1))
            for one in rules[surface]:
                patience = round(one.within_hours * 3.6e9)
                if one.action == row[c.ACTION] and row[_DID] <= at + patience <= now_us:
                    whole = 1.0 - row[c.SHOWN_PROPENSITIES][place] if chance is None else chance
                    tests[surface, one].add(chance is not None, whole)
    return tests


def _followed(engine: TablesEngine, layout: Layout, rules: dict[str, tuple[GuardrailConfig, ...]]) -> Iterable[Any]:
    """Slots of lists with exploration that a guarded action followed, each once per action, oldest list first."""
    import pyarrow as pa

    shown, events = held_expression(engine, layout, IMPRESSIONS), held_expression(engine, layout, EVENTS)
    if shown is None or events is None:
        return []
    actions = sorted({one.action for own in rules.values() for one in own})
    lists = shown.filter(shown[c.EXPLORATION].notnull() & shown[c.SURFACE].isin(sorted(rules)))
    lists = lists.select(
        c.REQUEST_ID, c.SURFACE, c.SHOWN_ITEMS, c.SHOWN_PROPENSITIES, c.EXPLORATION,
        **{_AT: lists[c.HAPPENED_AT]},
    )  # fmt: skip
    did = events.filter(events[c.ACTION].isin(actions) & events[c.REQUEST_ID].notnull())
    did = did.group_by([str(c.REQUEST_ID), str(c.ITEM_ID), str(c.ACTION)]).aggregate(**{_DID: did[c.HAPPENED_AT].min()})
    found: pa.Table = engine.arrow(
        lists.join(did, [str(c.REQUEST_ID)]).order_by([_AT, str(c.REQUEST_ID), str(c.ITEM_ID), str(c.ACTION)])
    )
    for name in (_AT, _DID):
        at = found.schema.get_field_index(name)
        found = found.set_column(at, name, found[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()))
    return found.to_pylist()


def _slot(row: dict[str, Any]) -> int | None:
    items = row[c.SHOWN_ITEMS]
    return items.index(row[c.ITEM_ID]) if row[c.ITEM_ID] in items else None


def _why(guardrail: GuardrailConfig, test: HarmTest) -> str:
    said = "more" if guardrail.hurt == "more" else "less"
    return (
        f"{guardrail.action} follows what chance has shown {said} than {guardrail.ratio:g} x as often as the best: "
        f"{test.explored} of {test.explored + test.unexplored} were explored slots, {test.expected:.1f} would be at "
        f"{guardrail.ratio:g} x (evidence {min(test.evidence, 1e12):.3g} to 1)"
    )


def _report(layout: Layout, config: WorkspaceConfig, judged: _Judged) -> dict[str, Any]:
    stops = read(layout)
    rails: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for (of, one), test in judged.items():
        rails[of].append({
            "action": one.action, "hurt": one.hurt, "ratio": one.ratio, "alpha": one.alpha,
            "evidence": min(test.evidence, 1e300), "needed": 1.0 / one.alpha, "explored": test.explored,
            "unexplored": test.unexplored, "expected_explored": round(test.expected, 2), "hurts": test.hurts,
        })  # fmt: skip
    surfaces = {}
    for name, surface in config.surfaces.items():
        stop = stops.stopped.get(name)
        surfaces[name] = {
            "says": surface.slate.explore.describe(),
            "stopped": None if stop is None else msgspec.to_builtins(stop),
            "guardrails": rails.get(name, []),
        }
    return {"workspace": str(layout.root), "surfaces": surfaces}
