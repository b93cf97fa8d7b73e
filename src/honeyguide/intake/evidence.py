"""What data can and cannot support, before anyone trains on it: a level and five plain facts."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from honeyguide.contracts import TablesEngine
from honeyguide.intake.actions import impressions_among
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["Evidence", "evidence"]

RATING = "rating"
_ENOUGH = 0.95  # a field counts as logged if that share of the rows that should have it do
_FEW_TIES = 5.0  # percent
Level = Literal["L0", "L1", "L2", "L3"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """L0 interactions; L1 + impressions and positions; L2 + request and experiment ids; L3 + propensities.

    `facts`: size and span, signs of interest, order in time, impressions, experiments and propensities.
    """

    level: Level
    facts: tuple[str, str, str, str, str]
    numbers: dict[str, float | int | str]


def evidence(engine: TablesEngine, events: ir.Table, impressions: ir.Table | None = None) -> Evidence:
    """Judge Events (and Impressions, if the system served any). What is fetched is counts, whatever the log's size.

    People, pairs and moments are told apart by 64-bit hashes: one of 100 million is missed once in 3,700 logs.
    `ties` is the share of events that share person and second with another one; `repeats` the share whose person met
    the item before; `density` the share of all person-item pairs that occur.
    """
    counts = engine.arrow(events.group_by(c.ACTION).aggregate(**{c.N: events.count()}).order_by([c.N, c.ACTION]))
    actions = dict(zip(counts[c.ACTION].to_pylist()[::-1], counts[c.N].to_pylist()[::-1], strict=True))
    shown = impressions_among(actions)
    numbers = _numbers(engine, events.filter(events[c.ACTION].notin(shown)) if shown else events)
    numbers["impressions"] = sum(actions[action] for action in shown)
    level, missing = _level(engine, events, shown, impressions)
    facts = (
        _size(numbers),
        _signs(actions, _stars(engine, events) if RATING in actions else None),
        _order(numbers),
        _shown(level, missing),
        _chance(level, missing),
    )
    return Evidence(level, facts, numbers)


def _numbers(engine: TablesEngine, acted: ir.Table) -> dict[str, float | int | str]:
    at = acted[c.HAPPENED_AT]
    (row,) = engine.arrow(
        acted.aggregate(n=acted.count(), items=acted[c.ITEM_ID].nunique(), first=at.min(), last=at.max())
    ).to_pylist()
    n, n_items = row["n"], row["items"]
    # Keys of 64 bits: the texts themselves, of a hundred million events, do not fit where the engine counts them.
    who = engine.hash64(acted[c.USER_ID])
    pairs = _one(engine, acted.select(pair=engine.hash64(acted[c.USER_ID], acted[c.ITEM_ID])).distinct().count())
    moments = acted.group_by(moment=engine.hash64(acted[c.USER_ID], at.truncate("s"))).aggregate(n=acted.count())
    tied = _one(engine, moments["n"].sum(where=moments["n"] > 1)) or 0
    per_user = acted.group_by(who=who).aggregate(n=acted.count())
    found = engine.arrow(per_user.group_by("n").aggregate(people=per_user.count()))
    people = Counter(dict(zip(found["n"].to_pylist(), found["people"].to_pylist(), strict=True)))  # by their events
    n_users = people.total()
    of = np.array(sorted(people), np.int64)
    days = (row["last"] - row["first"]) / dt.timedelta(days=1) if n else 0.0
    return {
        "events": n,
        "impressions": 0,
        "people": n_users,
        "items": n_items,
        "first": row["first"].date().isoformat() if n else "",
        "last": row["last"].date().isoformat() if n else "",
        "days": round(days, 1),
        "density": pairs / (n_users * n_items) if n else 0.0,
        "ties": tied / n if n else 0.0,
        "repeats": 1 - pairs / n if n else 0.0,
        "median_events_per_person": float(np.median(np.repeat(of, [people[m] for m in of]))) if n else 0.0,
        "people_with_one_event": people[1] / n_users if n else 0.0,
    }


def _one(engine: TablesEngine, value: Any) -> Any:
    return engine.arrow(value.name("one").as_table())["one"][0].as_py()


def _stars(engine: TablesEngine, events: ir.Table) -> tuple[float, float] | None:
    rated = events.filter((events[c.ACTION] == RATING) & events[c.VALUE].notnull())
    (row,) = engine.arrow(rated.aggregate(low=rated[c.VALUE].min(), high=rated[c.VALUE].max())).to_pylist()
    return None if row["low"] is None else (row["low"], row["high"])


def _level(
    engine: TablesEngine, events: ir.Table, shown: list[str], impressions: ir.Table | None
) -> tuple[Level, tuple[str, ...]]:
    """The level reached, and the columns that the next levels lack."""
    told = (c.POSITION, c.REQUEST_ID, c.EXPERIMENT, c.PROPENSITY)
    any_shown = bool(shown)
    if impressions is not None and _one(engine, impressions.count()):
        # Impressions carry list, request and propensities by their schema; only the experiment may be missing.
        has = dict.fromkeys(told, True) | _filled(engine, impressions, (c.EXPERIMENT,))
        any_shown = True
    else:
        has = _filled(engine, events.filter(events[c.ACTION].isin(shown)) if any_shown else events, told)
    lacking = (() if any_shown else ("impressions",)) + tuple(str(column) for column in told if not has[column])
    if not any_shown or not has[c.POSITION]:
        return "L0", lacking
    # Propensities are what the experiment's id is for; with them the log stands on its own.
    if has[c.REQUEST_ID] and has[c.PROPENSITY]:
        return "L3", lacking
    return ("L2" if has[c.REQUEST_ID] and has[c.EXPERIMENT] else "L1"), lacking


def _filled(engine: TablesEngine, rows: ir.Table, columns: tuple[c.Column, ...]) -> dict[c.Column, bool]:
    (row,) = engine.arrow(rows.aggregate(n_=rows.count(), **{name: rows[name].count() for name in columns})).to_pylist()
    return {name: bool(row["n_"]) and row[name] / row["n_"] >= _ENOUGH for name in columns}


def _size(numbers: dict[str, float | int | str]) -> str:
    if not numbers["events"]:
        return "There are no events: nothing can be learnt yet."
    return (
        f"{_counted(numbers['events'], 'event', 'events')} of {_counted(numbers['people'], 'person', 'people')} on "
        f"{_counted(numbers['items'], 'item', 'items')}, "
        f"{numbers['first']} to {numbers['last']}; {_percent(numbers['density'])} of all pairs occur, "
        f"half of the people have at most {_counted(numbers['median_events_per_person'], 'event', 'events')}."
    )


def _counted(number: float | int | str, one: str, many: str) -> str:
    amount = float(number)
    return f"{amount:,.10g} {one if amount == 1 else many}"


def _percent(share: float | int | str) -> str:
    """Two digits that count, but never an exponent and never 100 % of what is less."""
    percent = 100 * float(share)
    if 0 < percent < 0.01:
        return "under 0.01 %"
    if 99.5 <= percent < 100:
        return "over 99 %"
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.2g} %"


def _signs(actions: dict[str, int], stars: tuple[float, float] | None) -> str:
    named = ", ".join(f"{action} ({count:,})" for action, count in list(actions.items())[:5]) or "none"
    if stars is None:
        return f"Actions: {named}; no ratings, so liking can only be inferred from what people do."
    return (
        f"Actions: {named}; ratings from {stars[0]:g} to {stars[1]:g} tell like from dislike, "
        f"but only for what people chose to rate."
    )


def _order(numbers: dict[str, float | int | str]) -> str:
    if 100 * float(numbers["ties"]) < _FEW_TIES:
        order = "so their order can be trusted"
    else:
        order = "so their order is the file's, and what counts as the next item depends on it"
    return (
        f"{_percent(numbers['ties'])} of the events share person and second with another, {order}; "
        f"{_percent(numbers['repeats'])} repeat an earlier pair of person and item."
    )


def _shown(level: Level, missing: tuple[str, ...]) -> str:
    if "impressions" in missing:
        return (
            "No impressions: what people saw and passed over is unknown, so a click-through rate cannot be calibrated; "
            "log each list as shown, with positions."
        )
    if level == "L0":
        return "Impressions without position: the pull of the upper slots cannot be told from the items'; log position."
    return "Impressions with positions: rates can be calibrated, and the pull of the upper slots can be estimated."


def _chance(level: Level, missing: tuple[str, ...]) -> str:
    if level == "L3":
        return "Propensities are logged: a new policy can be valued on this log before any A/B test."
    lacking = [name for name in (c.REQUEST_ID, c.POSITION, c.PROPENSITY) if name in missing]
    arms = "" if c.EXPERIMENT in missing else " A/B tests can be read, as arms are logged."
    return f"No propensity: off-policy evaluation is impossible; log {_enumerated(lacking)}.{arms}"


def _enumerated(names: list[str] | list[c.Column]) -> str:
    plain = [str(name) for name in names]
    return plain[0] if len(plain) == 1 else f"{', '.join(plain[:-1])} and {plain[-1]}"
