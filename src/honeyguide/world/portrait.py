"""What a log looks like from far away: the figures by which a world is fitted to it and judged beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64, I32, I64
from honeyguide.kernels.world import DAY_US, HOUR_US

__all__ = ["Portrait", "distances"]

SESSION_GAP_US = HOUR_US // 2
"""A person who does nothing for half an hour has left."""
_LORENZ = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
_MOST = 20_000


@dataclass(frozen=True)
class Portrait:
    """Figures of a log of events by (user, item, at), sorted by time."""

    people: int
    items: int
    days: float
    events: int
    lorenz: F64  # share of the events on the most popular 1, 2, 5, 10, 20, 30, 50, 70 and 90 % of the items met
    session_events: F64  # events of each session (a sample, sorted)
    sessions_each: F64  # sessions of each person (sorted)
    gap_hours: F64  # hours between sessions (a sample, sorted)
    repeat_share: float  # events on an item that the person had met before
    pulse: F64  # (168,) activity by hour of the week, mean 1
    lost_share: float  # of the people of the first half: not seen in the second
    stable_share: float  # overlap of the top tenth of items between the halves
    position_rate: F64 | None = None  # clicks per list by slot, if the log tells of lists

    @classmethod
    def of(cls, user: I32, item: I32, at: I64, position_rate: F64 | None = None) -> Portrait:
        """From n >= 1 events in order of time."""
        by_user = np.lexsort((np.arange(len(user)), user))
        u, when, what = user[by_user], at[by_user], item[by_user]
        same = u[1:] == u[:-1]
        gap = np.diff(when)
        breaks = ~same | (gap > SESSION_GAP_US)
        start = np.concatenate([[0], np.flatnonzero(breaks) + 1])
        session_events = np.diff(np.concatenate([start, [len(u)]])).astype(np.float64)
        sessions_each = np.unique(u[start], return_counts=True)[1].astype(np.float64)
        between = gap[same & (gap > SESSION_GAP_US)] / HOUR_US
        pair = u.astype(np.int64) * (int(what.max()) + 1) + what
        counts = np.sort(np.unique(item, return_counts=True)[1])[::-1].astype(np.float64)
        share = np.cumsum(counts) / counts.sum()
        hours = np.bincount((at // HOUR_US + 72) % 168, minlength=168).astype(np.float64)
        half = (at[0] + at[-1]) // 2
        early = at <= half
        first, second = np.unique(user[early]), np.unique(user[~early])
        return cls(
            people=len(sessions_each),
            items=len(counts),
            days=max((int(at[-1]) - int(at[0])) / DAY_US, 1.0 / 24.0),
            events=len(user),
            lorenz=share[np.maximum(np.ceil(_LORENZ * len(counts)).astype(int) - 1, 0)],
            session_events=_sample(session_events),
            sessions_each=_sample(sessions_each),
            gap_hours=_sample(between) if len(between) else np.array([np.nan]),
            repeat_share=1.0 - len(np.unique(pair)) / len(pair),
            pulse=hours / hours.mean(),
            lost_share=float(1.0 - np.isin(first, second).mean()),
            stable_share=_overlap(item[early], item[~early], max(1, len(counts) // 10)),
            position_rate=position_rate,
        )


def _sample(values: F64) -> F64:
    ordered = np.sort(values)
    return ordered if len(ordered) <= _MOST else ordered[np.linspace(0, len(ordered) - 1, _MOST).astype(int)]


def _overlap(first: I32, second: I32, top: int) -> float:
    if not len(first) or not len(second):
        return float("nan")
    best = []
    for items in (first, second):
        ids, counts = np.unique(items, return_counts=True)
        best.append(ids[np.argsort(-counts, kind="stable")[:top]])
    return float(np.isin(best[0], best[1]).mean())


def distances(log: Portrait, world: Portrait) -> dict[str, float]:
    """How far a world is from a log, figure by figure: each between 0 (alike) and 1.

    Distributions: the largest distance of their distribution functions (Kolmogorov-Smirnov). Shares: the difference.
    The pulse: half the sum of differences of the hours' shares (total variation).
    """
    found = {
        "popularity": float(np.abs(log.lorenz - world.lorenz).max()),
        "events per session": _ks(log.session_events, world.session_events),
        "sessions per person and span": _ks(log.sessions_each, world.sessions_each),
        "hours between sessions": _ks(log.gap_hours, world.gap_hours),
        "repeats": abs(log.repeat_share - world.repeat_share),
        "hour of the week": float(np.abs(log.pulse - world.pulse).sum() / (2 * 168)),
        "people lost": abs(log.lost_share - world.lost_share),
        "stability of what is popular": abs(log.stable_share - world.stable_share),
    }
    if log.position_rate is not None and world.position_rate is not None:
        n = min(len(log.position_rate), len(world.position_rate))
        ours, theirs = (rate[:n] / max(rate[:n].max(), 1e-12) for rate in (world.position_rate, log.position_rate))
        found["clicks by slot, relative"] = float(np.abs(ours - theirs).max())
    return {name: value for name, value in found.items() if not np.isnan(value)}


def _ks(one: F64, other: F64) -> float:
    if np.isnan(one).any() or np.isnan(other).any():
        return float("nan")
    points = np.concatenate([one, other])
    cdf = [np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (one, other)]
    return float(np.abs(cdf[0] - cdf[1]).max())
