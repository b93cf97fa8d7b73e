"""What data can and cannot support, before anyone trains on it: a level and five plain facts."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from honeyguide.intake.actions import impressions_among
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Evidence", "evidence"]

_DAY_US = 86_400_000_000
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


def evidence(events: pa.Table, impressions: pa.Table | None = None) -> Evidence:
    """Judge Events (and Impressions, if the system served any).

    `ties` is the share of events that share person and second with another one; `repeats` the share whose person met
    the item before; `density` the share of all person-item pairs that occur.
    """
    numbers = _numbers(events)
    level, missing = _level(events, impressions)
    facts = (_size(numbers), _signs(events, numbers), _order(numbers), _shown(level, missing), _chance(level, missing))
    return Evidence(level, facts, numbers)


def _numbers(events: pa.Table) -> dict[str, float | int | str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    acted = events.filter(pc.invert(_is_shown(events)))
    user, n_users = _codes(acted[c.USER_ID])
    item, n_items = _codes(acted[c.ITEM_ID])
    at = acted[c.HAPPENED_AT].cast(pa.int64()).to_numpy()
    n = len(at)
    second = np.sort(user * (1 << 36) + at // 1_000_000) if n else at
    same = np.zeros(n + 1, bool)
    same[1:-1] = second[1:] == second[:-1]
    pairs = len(np.unique(user * n_items + item))
    per_user = np.bincount(user, minlength=n_users) if n else np.zeros(0, np.int64)
    return {
        "events": n,
        "impressions": events.num_rows - n,
        "people": n_users,
        "items": n_items,
        "first": _day(at.min()) if n else "",
        "last": _day(at.max()) if n else "",
        "days": round(float(at.max() - at.min()) / _DAY_US, 1) if n else 0.0,
        "density": pairs / (n_users * n_items) if n else 0.0,
        "ties": float((same[1:] | same[:-1]).mean()) if n else 0.0,
        "repeats": 1 - pairs / n if n else 0.0,
        "median_events_per_person": float(np.median(per_user)) if n else 0.0,
        "people_with_one_event": float((per_user == 1).mean()) if n else 0.0,
    }


def _is_shown(events: pa.Table) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    names = impressions_among(events[c.ACTION].unique().to_pylist())
    return pc.is_in(events[c.ACTION], value_set=pa.array(names, pa.string()))


def _codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    coded = column.combine_chunks().dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), len(coded.dictionary)


def _day(us: np.int64) -> str:
    return (dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=int(us))).date().isoformat()


def _level(events: pa.Table, impressions: pa.Table | None) -> tuple[Level, tuple[str, ...]]:
    """The level reached, and the columns that the next levels lack."""
    if impressions is not None and impressions.num_rows:
        # Impressions carry list, request and propensities by their schema; only the experiment may be missing.
        positions = requests = propensities = True
        experiments = _filled(impressions[c.EXPERIMENT])
        any_shown = True
    else:
        shown = events.filter(_is_shown(events))
        any_shown = shown.num_rows > 0
        rows = shown if any_shown else events
        positions, requests, experiments, propensities = (
            _filled(rows[column]) for column in (c.POSITION, c.REQUEST_ID, c.EXPERIMENT, c.PROPENSITY)
        )
    has = {c.POSITION: positions, c.REQUEST_ID: requests, c.EXPERIMENT: experiments, c.PROPENSITY: propensities}
    lacking = (() if any_shown else ("impressions",)) + tuple(str(column) for column, there in has.items() if not there)
    if not any_shown or not positions:
        return "L0", lacking
    # Propensities are what the experiment's id is for; with them the log stands on its own.
    if requests and propensities:
        return "L3", lacking
    return ("L2" if requests and experiments else "L1"), lacking


def _filled(column: pa.ChunkedArray) -> bool:
    return bool(len(column) and 1 - column.null_count / len(column) >= _ENOUGH)


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


def _signs(events: pa.Table, numbers: dict[str, float | int | str]) -> str:
    import pyarrow.compute as pc

    counts = sorted(
        ((row["counts"], row["values"]) for row in events[c.ACTION].value_counts().to_pylist()), reverse=True
    )
    named = ", ".join(f"{action} ({count:,})" for count, action in counts[:5]) or "none"
    if not any(action == "rating" for _, action in counts):
        return f"Actions: {named}; no ratings, so liking can only be inferred from what people do."
    stars = pc.min_max(events.filter(pc.equal(events[c.ACTION], "rating"))[c.VALUE]).as_py()
    return (
        f"Actions: {named}; ratings from {stars['min']:g} to {stars['max']:g} tell like from dislike, "
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
