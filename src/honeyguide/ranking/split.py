"""Which rows a head learns from, stops on, is calibrated on and measured on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F32, I64, BoolArray

__all__ = ["Parts", "newest_groups", "split_by_time", "thin"]


@dataclass(frozen=True, slots=True)
class Parts:
    """Row numbers, oldest to newest: each part lies later than the one before, and no moment is in two parts."""

    fit: I64
    stop: I64
    calibrate: I64
    test: I64


def split_by_time(known: BoolArray, at: I64, group: I64 | None, shares: tuple[float, float, float]) -> Parts:
    """Split the known rows; `shares` are those of stop, calibrate and test, the rest is to learn from.

    With `group` a request stays whole, and lies where its last row does.
    """
    rows = np.flatnonzero(known)
    moments = at[rows] if group is None else _last_of_group(group[rows], at[rows])
    order = np.argsort(moments, kind="stable") if group is None else np.lexsort((group[rows], moments))
    rows, moments = rows[order], moments[order]
    held_out = np.cumsum(shares[::-1])[::-1]  # from here to the newest row
    first = np.minimum((len(rows) * (1.0 - held_out)).astype(np.int64), max(len(rows) - 1, 0))
    bounds = np.searchsorted(moments, moments[first], side="left") if len(rows) else first
    return Parts(*np.split(rows, bounds))


def thin(part: I64, label: F32, group: I64, others_per_group: int, rng: np.random.Generator) -> I64:
    """All rows with the outcome, and at most so many others per group, drawn evenly; order kept."""
    positive: BoolArray = label[part] > 0.5
    others = np.flatnonzero(~positive)
    order = others[np.lexsort((rng.random(len(others)), group[part[others]]))]
    of = group[part[order]]
    nth = np.arange(len(order)) - np.searchsorted(of, of, side="left")
    return part[np.sort(np.append(np.flatnonzero(positive), order[nth < others_per_group]))]


def newest_groups(part: I64, group: I64, max_rows: int) -> I64:
    """The newest rows, at most `max_rows`, without the group that the limit would cut."""
    if len(part) <= max_rows:
        return part
    cut, kept = group[part[-max_rows - 1]], part[-max_rows:]
    return kept[group[kept] != cut]


def _last_of_group(group: I64, at: I64) -> I64:
    """The last moment of each row's group, (n,)."""
    _, inverse = np.unique(group, return_inverse=True)
    last = np.full(int(inverse.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, inverse, at)
    return last[inverse]
