"""Search traffic in figures: volumes, what came of searches, by class, language and segment, and what has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from honeyguide.kernels.intervals import wilson_interval

__all__ = ["Search", "report", "share_difference"]

WEEK = 7
WORST = 50
_OUTCOMES = ("clicked", "reformulated", "again", "abandoned", "unknown")


@dataclass(frozen=True, slots=True)
class Search:
    """One answered search."""

    words: str
    day: int  # days since the epoch, UTC
    user_id: str | None
    hits: int
    outcome: str  # of `_OUTCOMES`
    first_position: int | None  # the highest slot that was acted on
    next_query: str | None
    query_class: str
    language: str
    segment: str


def share_difference(now: tuple[int, int], before: tuple[int, int]) -> dict[str, float] | None:
    """Share now less share before with its 95 % interval; (part, whole) each; None where one of them has no whole.

    Searches count as independent; several of one person are not, so the interval is somewhat too narrow.
    Source: Newcombe 1998, method 10 (from Wilson intervals).
    """
    if not now[1] or not before[1]:
        return None
    p, q = now[0] / now[1], before[0] / before[1]
    (_, l1, u1), (_, l2, u2) = _wilson(*now), _wilson(*before)
    low = p - q - ((p - l1) ** 2 + (u2 - q) ** 2) ** 0.5
    high = p - q + ((u1 - p) ** 2 + (q - l2) ** 2) ** 0.5
    return {"estimate": p - q, "low": low, "high": high}


def _wilson(part: int, whole: int) -> tuple[float, float, float]:
    found = wilson_interval([part], [whole])
    return float(found.estimate[0]), float(found.low[0]), float(found.high[0])


def volume_ratio(now: int, before: int) -> dict[str, float] | None:
    """Volume now over before with a 95 % interval, both counts Poisson; None without any before or now.

    Source: the exact conditional test's score form: now / (now + before) is binomial.
    """
    if not now or not before:
        return None
    _, low, high = _wilson(now, now + before)
    return {"estimate": now / before, "low": low / (1 - low), "high": high / (1 - high) if high < 1 else float("inf")}


def _figures(rows: Sequence[Search]) -> dict[str, Any]:
    counts = {name: sum(row.outcome == name for row in rows) for name in _OUTCOMES}
    n, known = len(rows), len(rows) - counts["unknown"]
    zero = sum(row.hits == 0 for row in rows)
    told: dict[str, Any] = {
        "searches": n, "people": len({row.user_id for row in rows if row.user_id}),
        "queries": len({row.words for row in rows}), **counts, "zero": zero,
    }  # fmt: skip
    for name, part, whole in (
        ("zero_rate", zero, n), ("click_rate", counts["clicked"], known),
        ("reformulation_rate", counts["reformulated"], known), ("abandon_rate", counts["abandoned"], known),
    ):  # fmt: skip
        if whole:
            estimate, low, high = _wilson(part, whole)
            told[name] = {"estimate": estimate, "low": low, "high": high}
        else:
            told[name] = None
    return told


def _changes(now: Sequence[Search], before: Sequence[Search]) -> dict[str, Any]:
    def part(rows: Sequence[Search], test: Callable[[Search], bool], known: bool) -> tuple[int, int]:
        of = [row for row in rows if not known or row.outcome != "unknown"]
        return sum(map(test, of)), len(of)

    def share(name: str) -> dict[str, float] | None:
        return share_difference(*(part(rows, lambda r: r.outcome == name, True) for rows in (now, before)))

    return {
        "searches": volume_ratio(len(now), len(before)),
        "zero_rate": share_difference(*(part(rows, lambda r: r.hits == 0, False) for rows in (now, before))),
        "click_rate": share("clicked"),
        "reformulation_rate": share("reformulated"),
        "abandon_rate": share("abandoned"),
    }  # fmt: skip


def report(searches: Sequence[Search], *, least: int = 5) -> dict[str, Any]:
    """All of it as plain values. The week is the last seven days of the log, against the seven before.

    least: how often a query must have been asked to be called bad by its clicks; without a hit once is enough.
    """
    if not searches:
        return {"searches": 0}
    last = max(row.day for row in searches)
    now = [row for row in searches if row.day > last - WEEK]
    before = [row for row in searches if last - 2 * WEEK < row.day <= last - WEEK]
    days = sorted({row.day for row in searches})[-90:]
    return {
        "searches": len(searches),
        "last_day": _day(last),
        "week": _figures(now),
        "before": _figures(before) if before else None,
        "change": _changes(now, before) if before else None,
        "days": [
            {"day": _day(day), "searches": len(of), "zero": sum(r.hits == 0 for r in of),
             "clicked": sum(r.outcome == "clicked" for r in of)}
            for day in days
            for of in ([row for row in searches if row.day == day],)
        ],
        "positions": _positions(now),
        "by_class": _by(now, before, lambda row: row.query_class),
        "by_language": _by(now, before, lambda row: row.language),
        "by_segment": _by(now, before, lambda row: row.segment),
        "bad": _bad(now, least),
        "reformulations": _rewritten(now),
    }  # fmt: skip


def _positions(rows: Sequence[Search]) -> list[dict[str, Any]]:
    """Where the first click of a search was: slot -> how many searches."""
    first = [row.first_position for row in rows if row.first_position is not None]
    counts = np.bincount(np.minimum(first, 21)) if first else np.zeros(0, int)
    return [
        {"position": f"{at}" if at < 21 else "21 and more", "searches": int(n)}
        for at, n in enumerate(counts)
        if at and n
    ]


def _by(now: Sequence[Search], before: Sequence[Search], key: Callable[[Search], str]) -> list[dict[str, Any]]:
    def of(rows: Iterable[Search], name: str) -> list[Search]:
        return [row for row in rows if key(row) == name]

    names = sorted({key(row) for row in now}, key=lambda name: (-len(of(now, name)), name))[:30]
    return [
        {
            "name": name,
            **_figures(of(now, name)),
            "change": _changes(of(now, name), of(before, name)) if before else None,
        }
        for name in names
    ]


def _bad(rows: Sequence[Search], least: int) -> list[dict[str, Any]]:
    """Queries that cost the most: searches without a hit, given up or asked anew, the most of them first."""
    of: dict[str, list[Search]] = {}
    for row in rows:
        of.setdefault(row.words, []).append(row)
    found: list[dict[str, Any]] = []
    for words, own in of.items():
        zero = sum(row.hits == 0 for row in own)
        lost = sum(row.hits == 0 or row.outcome in ("abandoned", "reformulated") for row in own)
        if not words or not lost or (not zero and len(own) < least):
            continue
        after = [row.next_query for row in own if row.outcome == "reformulated" and row.next_query]
        found.append({
            "query": words, "searches": len(own), "people": len({row.user_id for row in own if row.user_id}),
            "lost": lost, "zero": zero, "clicked": sum(row.outcome == "clicked" for row in own),
            "class": own[0].query_class, "language": own[0].language,
            "next": max(sorted(set(after)), key=after.count) if after else None,
        })  # fmt: skip
    return sorted(found, key=lambda row: (-row["lost"], row["query"]))[:WORST]


def _rewritten(rows: Sequence[Search]) -> list[dict[str, Any]]:
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.outcome == "reformulated" and row.next_query:
            counts[row.words, row.next_query] = counts.get((row.words, row.next_query), 0) + 1
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:WORST]
    return [{"query": query, "next": after, "searches": n} for (query, after), n in top]


def _day(number: int) -> str:
    return str(np.datetime64(number, "D"))
