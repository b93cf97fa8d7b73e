"""`honeyguide replay`: the newest day's requests answered again, by the present policy and by a changed one.

Both answer from the state of that very moment: features are a fold of the events, so they are folded up to the day's
start and then event by event. Nothing is logged.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.contracts import F64, Interactions, Progress
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import DataError, HoneyguideError, RequestError
from honeyguide.features.online import OnlineState
from honeyguide.flows import answer
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import Dataset, held, load
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.flows.simulation.arms import Arm, SimClock, drop_log, room_for, scratch
from honeyguide.flows.simulation.changes import Change, Changed
from honeyguide.flows.wiring import warmed
from honeyguide.kernels.rank_overlap import rank_biased_overlap
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS
from honeyguide.schema.wire import Answer, RecommendRequest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["replay"]

DAY_US = 86_400_000_000
EXAMPLES = 6
MOVERS = 10
WARM_UP = 20
"""Requests answered before the clock counts."""
HISTORIES = (
    (0, "nothing yet"),
    (10, "fewer than 10 events"),
    (100, "10 to 99 events"),
    (1 << 40, "100 events and more"),
)


@dataclass(frozen=True, slots=True)
class _Pair:
    """One request and both answers."""

    request: RecommendRequest
    at_us: int
    kind: str
    segment: str
    history: str
    before: Answer
    after: Answer
    cpu_us: tuple[float, float]
    logged: tuple[str, ...]
    logged_by: str

    @property
    def lists(self) -> tuple[list[str], list[str]]:
        return [one.item_id for one in self.before.items], [one.item_id for one in self.after.items]


def replay(
    folder: Path, change: Path | Change, *, requests: int = 2_000, html: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Answer the newest day's requests (at most `requests`, a seeded sample) under both policies.

    Returns the report as plain data. DataError without impressions, ConfigError for a change that cannot be. A change
    of what a build is made of is built first, on a copy. Nothing of the workspace is changed.
    """
    if requests < 1:
        raise RequestError(expected="one request or more", got=str(requests), do="Give another --requests.")
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    layout.current_build()
    wanted = change if isinstance(change, Change) else Change.load(change)
    changed = Changed.of(wanted, layout)
    day = _newest_day(layout)
    config = WorkspaceConfig.load(layout.config)
    with closing(tables_engine(config.engine)) as engine:
        data = load(layout, config, engine)
    clock = SimClock(day.start_us)
    present = Arm("present", layout, clock)
    room_for(layout)
    with disk_errors(layout.root), scratch(layout) as place:
        if changed.needs_build:
            tell("building the changed policy", 0, 1)
            other = Arm.of(layout, place / "changed", clock, changed)
            drop_log(other.layout)
            tell("building the changed policy", 1, 1)
        else:
            other = Arm("changed", layout, clock, changed)
        lives = [_at(arm, data, day.start_us, None if arm is present else changed.build_id) for arm in (present, other)]
        asked, left_out = _asked(day, lives[0], requests)
        if not asked:
            raise DataError(
                expected="requests that a policy answered, on surfaces that there are",
                got=", ".join(f"{count:,} {why}" for why, count in left_out.items()) or "none",
                do="Serve some recommendations first.",
            )
        pairs = list(_answered(asked, lives, clock, tell))
    report = _report(layout, wanted, changed, day, pairs, left_out, lives)
    if html is not None:
        from honeyguide.flows.simulation.replay_page import write_page

        write_page(report, html)
    return report


# ------------------------------------------------------------------------------------------------------ the day


@dataclass(frozen=True, slots=True)
class _Day:
    start_us: int
    rows: pa.Table  # Impressions of that day, oldest first

    @property
    def date(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self.start_us / 1e6))


def _newest_day(layout: Layout) -> _Day:
    """The UTC day of the newest impression."""
    import pyarrow as pa

    shown = held(layout, IMPRESSIONS)
    if not shown.num_rows:
        raise DataError(
            expected=f"impressions in {layout.root}",
            got="none yet: nothing was served",
            do="Serve it (`honeyguide serve`), or make a shop with `honeyguide world`.",
        )
    at = shown[c.HAPPENED_AT].cast("int64").to_numpy()
    start = int(at.max()) // DAY_US * DAY_US
    rows = np.flatnonzero(at >= start)
    return _Day(start, shown.take(pa.array(rows[np.argsort(at[rows], kind="stable")])))


def _asked(day: _Day, live: Live, most: int) -> tuple[list[tuple[RecommendRequest, dict[str, Any]]], Counter[str]]:
    """The day's requests as they came, as far as they can be asked again; and why others cannot."""
    left_out: Counter[str] = Counter()
    found = []
    columns = (
        c.REQUEST_ID, c.USER_ID, c.SURFACE, c.HAPPENED_AT, c.POLICY_VERSION, c.CONTEXT, c.SEEDS, c.SHOWN_ITEMS,
        c.FALLBACK,
    )  # fmt: skip
    table = day.rows.select([str(name) for name in columns])
    at = table[c.HAPPENED_AT].cast("int64").to_pylist()
    for place, row in enumerate(table.drop_columns([c.HAPPENED_AT]).to_pylist()):
        surface = live.surfaces.get(row[c.SURFACE])
        if surface is None:
            left_out[f"on the surface {row[c.SURFACE]}, which answers without a policy"] += 1
            continue
        seeds = row[c.SEEDS] or []
        if surface.config.kind != "home" and not seeds:
            left_out[f"on the surface {row[c.SURFACE]}, logged without what they were about"] += 1
            continue
        if not row[c.SHOWN_ITEMS]:
            left_out["answered with an empty list"] += 1
            continue
        context = msgspec.json.decode(row[c.CONTEXT]) if row[c.CONTEXT] else {}
        request = RecommendRequest(
            row[c.SURFACE], user_id=row[c.USER_ID] or None, item_id=seeds[0] if surface.config.kind == "item" else None,
            board_items=seeds if surface.config.kind == "board" else [], k=min(len(row[c.SHOWN_ITEMS]), 200),
            context=context, request_id=row[c.REQUEST_ID], log=False,
        )  # fmt: skip
        found.append((request, {**row, "at": at[place]}))
    if len(found) > most:
        some = np.sort(np.random.default_rng(0).choice(len(found), most, replace=False))
        found = [found[int(place)] for place in some]
    return found, left_out


def _at(arm: Arm, data: Dataset, start_us: int, build_id: str | None) -> Live:
    """A policy that knows what was known when the day began, and learns of each later event when it happened."""
    if build_id is None:
        live = arm.make(arm.layout, None)
    else:
        live = Live(arm.layout, None, clock=arm.clock, config=arm.policy, build_id=build_id)
    events = data.interactions
    item = live.catalog.items.rows(data.catalog.items.ids)[events.item]
    user = np.array([live.users.add(user_id) for user_id in data.users.ids], np.int32)[events.user]
    code = {name: n for n, name in enumerate(live.online.actions)}
    action = np.array([code.get(name, -1) for name in events.actions], np.int16)[events.action]
    known = (item >= 0) & (action >= 0)
    told = Interactions(
        user[known], item[known].astype(np.int32), action[known], events.value[known], events.weight[known],
        events.at[known], len(live.users), len(live.catalog), live.online.actions,
        None if events.known_at is None else events.known_at[known],
        context={name: codes[known] for name, codes in events.context.items()},
    )  # fmt: skip
    live.online = OnlineState.build(live.online.features, told, live.catalog, at_us=start_us)
    return warmed(live)


def _answered(
    asked: Sequence[tuple[RecommendRequest, dict[str, Any]]], lives: Sequence[Live], clock: SimClock, tell: Progress
) -> Any:
    for request, row in asked[:WARM_UP]:
        clock.turn(row["at"])
        for live in lives:
            _answer(live, request)
    for n, (request, row) in enumerate(asked):
        if n % 100 == 0:
            tell("replaying", n, len(asked))
        clock.turn(row["at"])
        found: list[tuple[Answer, float]] = [None, None]  # type: ignore[list-item]
        # In turns, so that neither policy always finds the other's memory warm.
        for place in (0, 1) if n % 2 == 0 else (1, 0):
            started = time.thread_time_ns()
            answered = _answer(lives[place], request)
            found[place] = answered, (time.thread_time_ns() - started) / 1000
        live = lives[0]
        surface = live.surfaces[request.surface]
        ask = answer.resolve(live, surface, request)
        names = live.segments.names
        events = len(live.online.history(ask.user, 1_000, ask.now_us).items)
        yield _Pair(
            request, row["at"], ask.kind, names[ask.segment] if 0 <= ask.segment < len(names) else "",
            next(name for most, name in HISTORIES if events < most or (most == 0 and events == 0)),
            found[0][0], found[1][0], (found[0][1], found[1][1]), tuple(row[c.SHOWN_ITEMS]), row[c.POLICY_VERSION],
        )  # fmt: skip
    tell("replaying", len(asked), len(asked))


def _answer(live: Live, request: RecommendRequest) -> Answer:
    try:
        return answer.recommend(live, request)
    except HoneyguideError as error:
        # An item page of an item that is gone: both policies say so, and both lists are empty.
        return Answer(
            request.request_id or "", request.surface, live.policy_version, live.build_id, [], fallback=error.got
        )


# ------------------------------------------------------------------------------------------------------- figures


def _report(
    layout: Layout, change: Change, changed: Changed, day: _Day, pairs: Sequence[_Pair], left_out: Mapping[str, int],
    lives: Sequence[Live],
) -> dict[str, Any]:  # fmt: skip
    figures = [_figures(*pair.lists) for pair in pairs]
    logged = [pair for pair in pairs if pair.logged_by == lives[0].policy_version]
    same = sum(list(pair.logged) == pair.lists[0] for pair in logged)
    report: dict[str, Any] = {
        "workspace": str(layout.root), "change": change.name, "day": day.date, "requests": len(pairs),
        "people": len({pair.request.user_id for pair in pairs}), "left_out": dict(left_out),
        "policies": [live.policy_version for live in lives], "built_anew": changed.needs_build,
        "all": _summary(figures),
        "by": {
            name: _groups(pairs, figures, key)
            for name, key in (
                ("surface", lambda pair: pair.request.surface), ("request", lambda pair: pair.kind),
                ("segment", lambda pair: pair.segment or "none"), ("history", lambda pair: pair.history),
            )
        },
        "histogram": np.histogram([one["rbo"] for one in figures], bins=10, range=(0.0, 1.0))[0].tolist(),
        "exposure": _exposure(pairs, lives), "speed": _speed(pairs),
        "fallbacks": [sum(one.fallback is not None for one in (p.before for p in pairs)),
                      sum(one.fallback is not None for one in (p.after for p in pairs))],
        "reproduced": {"requests": len(logged), "same": same},
        "examples": _examples(pairs, figures),
        "notes": _notes(pairs, logged, same, changed),
    }  # fmt: skip
    report["says"] = _says(report)
    return report


def _figures(before: Sequence[str], after: Sequence[str]) -> dict[str, float]:
    code = {item: n for n, item in enumerate(dict.fromkeys([*before, *after]))}
    one, other = [code[item] for item in before], [code[item] for item in after]
    place = {item: n for n, item in enumerate(other)}
    both = [abs(n - place[item]) for n, item in enumerate(one) if item in place]
    most = max(len(one), len(other), 1)
    return {
        "changed": float(one != other),
        "first": float(one[:1] != other[:1]),
        "overlap": len(both) / most if one or other else 1.0,
        "rbo": rank_biased_overlap(one, other),
        "moved": float(np.mean(both)) if both else float("nan"),
    }


def _summary(figures: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    moved = [one["moved"] for one in figures if np.isfinite(one["moved"])]
    mean = {name: float(np.mean([one[name] for one in figures])) for name in ("changed", "first", "overlap", "rbo")}
    return {"requests": len(figures), **mean, "moved": float(np.mean(moved)) if moved else None}


def _groups(pairs: Sequence[_Pair], figures: Sequence[Mapping[str, float]], key: Any) -> list[dict[str, Any]]:
    groups: dict[str, list[Mapping[str, float]]] = {}
    for pair, one in zip(pairs, figures, strict=True):
        groups.setdefault(key(pair), []).append(one)
    return [{"group": name, **_summary(own)} for name, own in sorted(groups.items(), key=lambda g: -len(g[1]))]


def _exposure(pairs: Sequence[_Pair], lives: Sequence[Live]) -> dict[str, Any]:
    """Who is shown more and less: exposure of a slot is 1 / log2(1 + slot), as nDCG discounts it."""
    gain: Counter[str] = Counter()
    times: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    of_category: Counter[str] = Counter()
    total = 0.0
    catalog = lives[0].catalog
    for pair in pairs:
        for sign, shown, counter in zip((-1.0, 1.0), pair.lists, times, strict=True):
            for place, item in enumerate(shown):
                worth = 1.0 / float(np.log2(place + 2))
                gain[item] += sign * worth  # type: ignore[assignment]
                counter[item] += 1
                total += worth / 2
                row = catalog.items.row(item)
                for code in catalog.category.row(row)[:1].tolist() if row >= 0 else ():
                    of_category[catalog.category_names[code]] += sign * worth  # type: ignore[assignment]

    def rows(best: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
        return [
            {"item_id": item, "title": _title(lives[0], item), "gain": float(worth), "before": times[0][item],
             "after": times[1][item]}
            for item, worth in best
        ]  # fmt: skip

    ordered = sorted(gain.items(), key=lambda one: (-one[1], one[0]))
    categories = sorted(of_category.items(), key=lambda one: (-abs(one[1]), one[0]))[:MOVERS]
    moved = sum(abs(worth) for worth in gain.values()) / 2
    return {
        "moved_share": float(moved / total) if total else 0.0,
        "items_before": len(times[0]), "items_after": len(times[1]),
        "winners": rows([one for one in ordered[:MOVERS] if one[1] > 1e-9]),
        "losers": rows([one for one in ordered[::-1][:MOVERS] if one[1] < -1e-9]),
        "categories": [{"category": name, "gain_share": float(worth / total)} for name, worth in categories],
    }  # fmt: skip


def _title(live: Live, item_id: str) -> str:
    row = live.catalog.items.row(item_id)
    return live.facts(row).title if row >= 0 else item_id


def _speed(pairs: Sequence[_Pair]) -> dict[str, Any]:
    """Wall time by stage, and processor time of a request, of both policies."""
    stages: dict[str, list[list[float]]] = {}
    for pair in pairs:
        for place, one in enumerate((pair.before, pair.after)):
            for stage, us in one.stage_us.items():
                stages.setdefault(stage, [[], []])[place].append(us / 1000)
            stages.setdefault("in all", [[], []])[place].append(sum(one.stage_us.values()) / 1000)
    cpu = np.array([pair.cpu_us for pair in pairs]) / 1000

    def said(values: Sequence[float] | F64) -> dict[str, float | None]:
        if not len(values):
            return {"p50_ms": None, "p99_ms": None}
        return {"p50_ms": float(np.quantile(values, 0.5)), "p99_ms": float(np.quantile(values, 0.99))}

    names = [*(name for name in stages if name != "in all"), "in all"]
    return {
        "stages": [{"stage": n, "before": said(stages[n][0]), "after": said(stages[n][1])} for n in names],
        "cpu_ms": {
            "before": float(np.median(cpu[:, 0])), "after": float(np.median(cpu[:, 1])),
            "ratio": float(np.median(cpu[:, 1]) / max(np.median(cpu[:, 0]), 1e-9)),
        },
    }  # fmt: skip


def _examples(pairs: Sequence[_Pair], figures: Sequence[Mapping[str, float]]) -> list[dict[str, Any]]:
    """Of each surface in turn the list that changed most, then the next; different people."""
    order = sorted(range(len(pairs)), key=lambda n: (figures[n]["rbo"], n))
    chosen: list[int] = []
    people: set[str | None] = set()
    for n in order:
        if figures[n]["changed"] and pairs[n].request.user_id not in people:
            chosen.append(n)
            people.add(pairs[n].request.user_id)
        if len(chosen) == EXAMPLES:
            break
    found = []
    for n in chosen:
        pair = pairs[n]
        before, after = pair.lists
        found.append({
            "request_id": pair.request.request_id, "user_id": pair.request.user_id, "surface": pair.request.surface,
            "rbo": figures[n]["rbo"],
            "before": [_slot(one, place, after) for place, one in enumerate(pair.before.items[:10])],
            "after": [_slot(one, place, before) for place, one in enumerate(pair.after.items[:10])],
        })  # fmt: skip
    return found


def _slot(one: Any, place: int, other: Sequence[str]) -> dict[str, Any]:
    """A slot of one list; `moved`: places up (or down) from the other list, None where that does not hold it."""
    moved = other.index(one.item_id) - place if one.item_id in other else None
    return {"item_id": one.item_id, "title": one.title or one.item_id, "moved": moved, "reason": one.reason}


def _notes(pairs: Sequence[_Pair], logged: Sequence[_Pair], same: int, changed: Changed) -> list[str]:
    notes = [
        "Features are those of each request's own moment. Sources and heads are those of the build, which may have "
        "seen that day; for both policies alike, unless the change is built anew.",
        "Filters of a request are not logged: all are answered without.",
    ]
    if changed.needs_build:
        notes.append("The change needs a build of its own; it was made of today's tables, on a copy.")
    if logged:
        notes.append(
            f"{same:,} of {len(logged):,} lists that this very policy logged come out the same; the others differ by "
            "what the sources have learnt since."
        )
    if changed.change.world:
        notes.append("[[world]] says what happens in a simulation; a replay has real requests, and leaves it out.")
    return notes


def _says(report: Mapping[str, Any]) -> list[str]:
    every, speed = report["all"], report["speed"]
    said = [
        f"{every['changed']:.0%} of {report['requests']:,} lists of {report['day']} change, {every['first']:.0%} in "
        f"the first slot; {every['overlap']:.0%} of the items stay, rank-biased overlap {every['rbo']:.3f}"
        + (f", those that stay move {every['moved']:.1f} places." if every["moved"] is not None else "."),
    ]
    most = [group for group in report["by"]["history"] if group["requests"] >= 20]
    if len(most) > 1:
        ordered = sorted(most, key=lambda group: group["rbo"])
        said.append(
            f"Most for people with {ordered[0]['group']} (overlap {ordered[0]['rbo']:.3f}), least with "
            f"{ordered[-1]['group']} ({ordered[-1]['rbo']:.3f})."
        )
    stage = speed["stages"][-1]
    said.append(
        f"A request takes {stage['after']['p50_ms']:.2f} ms (p99 {stage['after']['p99_ms']:.2f}) in place of "
        f"{stage['before']['p50_ms']:.2f} ({stage['before']['p99_ms']:.2f}), and {speed['cpu_ms']['ratio']:.2f} times "
        "the processor time."
    )
    exposure = report["exposure"]
    said.append(
        f"{exposure['moved_share']:.0%} of the exposure goes to other items; {exposure['items_after']:,} items are "
        f"shown in place of {exposure['items_before']:,}."
    )
    return said
