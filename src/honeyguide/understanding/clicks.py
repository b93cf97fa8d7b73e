"""What clicks on searches say of results, once the place where they stood is taken out.

Three models of how people read a list: each rank is looked at with a chance of its own (position-based); from above
until something is clicked (cascade); from above until a click satisfies or patience ends (dynamic Bayesian network).
Takes: searches with what was shown and clicked.
Gives: how attractive each result is to each query.
Never: what people did elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from honeyguide.contracts import F64, I32
from honeyguide.kernels import clicks as kernel

__all__ = ["ClickModel", "Sessions", "fit", "inverse_propensity", "simulate"]

Kind = Literal["position", "cascade", "dbn"]
_STEPS: Final = 200
_STILL: Final = 1e-7  # of the mean log likelihood: below it nothing moves any more


@dataclass(frozen=True)
class Sessions:
    """Searches as arrays; a pair is a query with a document."""

    pairs: I32  # (sessions, ranks) into `queries` and `rows`; -1 beyond a list's end
    clicks: np.ndarray  # (sessions, ranks) uint8
    queries: list[str]  # (pairs,)
    rows: I32  # (pairs,)

    def __len__(self) -> int:
        return len(self.pairs)

    @classmethod
    def of(
        cls,
        queries: Sequence[str],
        shown: Sequence[Sequence[int]],
        clicked: Sequence[Sequence[int]],
        *,
        ranks: int = 20,
    ) -> Sessions:
        """From searches: the query, the rows that were shown in order, and the places (0 first) that were clicked.

        Ranks beyond the first `ranks` are not looked at; a list without any row is left out.
        """
        place: dict[tuple[str, int], int] = {}
        kept = [at for at, rows in enumerate(shown) if len(rows)]
        pairs = np.full((len(kept), ranks), -1, np.int32)
        clicks = np.zeros((len(kept), ranks), np.uint8)
        for s, at in enumerate(kept):
            for r, row in enumerate(shown[at][:ranks]):
                pairs[s, r] = place.setdefault((queries[at], int(row)), len(place))
            inside = [r for r in clicked[at] if 0 <= r < min(ranks, len(shown[at]))]
            clicks[s, inside] = 1
        return cls(pairs, clicks, [query for query, _ in place], np.array([row for _, row in place], np.int32))

    def shown(self) -> F64:
        """How often each pair was shown, (pairs,)."""
        return np.bincount(self.pairs[self.pairs >= 0], minlength=len(self.rows)).astype(np.float64)


@dataclass(frozen=True)
class ClickModel:
    """A fitted model. Probabilities lie inside (0, 1)."""

    kind: Kind
    attraction: F64  # (pairs,) that a result which is looked at is clicked
    examination: F64  # (ranks,) that a rank is looked at, over all sessions
    satisfaction: F64  # (pairs,) of the network: that a click is the last that is needed; nan elsewhere
    going_on: float  # of the network: that who is not satisfied looks at the next rank; nan elsewhere
    log_likelihood: float  # a session, on the sessions that it was fitted on; nan of the cascade
    steps: int

    @property
    def relevance(self) -> F64:
        """What ranks results: attraction, times satisfaction where the model has one, (pairs,)."""
        return self.attraction if np.isnan(self.satisfaction).all() else self.attraction * self.satisfaction


def fit(sessions: Sessions, kind: Kind = "position", *, prior: float = 1.0) -> ClickModel:
    """Fit one model. prior: of each probability, so many pseudo-observations at the mean of all; 0 for none.

    The position-based model says how much more one rank is looked at than another: its first rank counts as 1.
    """
    if not len(sessions):
        nothing = np.zeros(0)
        return ClickModel(kind, nothing, np.ones(sessions.pairs.shape[1]), nothing, np.nan, np.nan, 0)
    if kind == "position":
        return _position(sessions, prior)
    if kind == "cascade":
        first, looked = kernel.cascade_counts(sessions.pairs, sessions.clicks, len(sessions.rows))
        attraction = _share(first, looked, prior)
        none = np.full(len(first), np.nan)
        return ClickModel("cascade", attraction, _read_above(sessions, attraction), none, np.nan, np.nan, 1)
    return _network(sessions, prior)


def _position(sessions: Sessions, prior: float) -> ClickModel:
    shown = sessions.shown()
    ranks = sessions.pairs.shape[1]
    mean = sessions.clicks.sum() / max((sessions.pairs >= 0).sum(), 1)
    attraction = np.full(len(shown), min(max(float(mean), 0.01), 0.9))
    examined = 1 / (1 + np.arange(ranks)) ** 0.5
    before, taken, value = -np.inf, 0, 0.0
    for taken in range(1, _STEPS + 1):  # noqa: B007 - told in the result
        attractive, looked, listed, value = kernel.pbm_step(sessions.pairs, sessions.clicks, attraction, examined)
        value /= len(sessions)
        attraction = _share(attractive, shown, prior)
        examined = np.where(listed > 0, looked / np.maximum(listed, 1), examined)
        # Only products are known: the first rank is taken to be looked at always.
        scale = max(float(examined[0]), 1e-9)
        examined = np.clip(examined / scale, 1e-6, 1.0)
        attraction = np.clip(attraction * scale, 1e-6, 1 - 1e-6)
        if value - before < _STILL:
            break
        before = value
    none = np.full(len(shown), np.nan)
    return ClickModel("position", attraction, examined, none, np.nan, float(value), taken)


def _network(sessions: Sessions, prior: float) -> ClickModel:
    n = len(sessions.rows)
    attraction, satisfaction, going_on = np.full(n, 0.3), np.full(n, 0.5), 0.8
    before, taken, value = -np.inf, 0, 0.0
    for taken in range(1, _STEPS + 1):  # noqa: B007 - told in the result
        clicked, looked, pleased, tried, went, could, value = kernel.dbn_step(
            sessions.pairs, sessions.clicks, attraction, satisfaction, going_on
        )
        value /= len(sessions)
        attraction, satisfaction = _share(clicked, looked, prior), _share(pleased, tried, prior)
        going_on = min(max(went / could if could > 0 else going_on, 1e-6), 1 - 1e-6)
        if value - before < _STILL:
            break
        before = value
    seen = _read_on(sessions, attraction, satisfaction, going_on)
    return ClickModel("dbn", attraction, seen, satisfaction, float(going_on), float(value), taken)


def _share(hits: F64, trials: F64, prior: float) -> F64:
    """Shares, drawn to the mean of all by so many pseudo-observations."""
    mean = hits.sum() / max(trials.sum(), 1e-9)
    return np.clip((hits + prior * mean) / np.maximum(trials + prior, 1e-9), 1e-6, 1 - 1e-6)


def _read_above(sessions: Sessions, attraction: F64) -> F64:
    """By rank, the chance that nothing above was clicked."""
    return _read_on(sessions, attraction, np.ones(len(attraction)), 1.0)


def _read_on(sessions: Sessions, attraction: F64, satisfaction: F64, going_on: float) -> F64:
    live = sessions.pairs >= 0
    stops = np.where(live, (attraction * satisfaction)[np.maximum(sessions.pairs, 0)], 0.0)
    reach = np.cumprod(going_on * (1 - stops), axis=1)
    reach = np.concatenate([np.ones((len(reach), 1)), reach[:, :-1]], axis=1)
    return np.where(live, reach, 0).sum(axis=0) / np.maximum(live.sum(axis=0), 1)


def inverse_propensity(sessions: Sessions, examination: F64, *, least: float = 0.05) -> tuple[F64, F64]:
    """By pair, clicks weighed by the inverse of the chance that their rank was looked at, over showings; and how many
    showings that is worth.

    Unbiased for attraction where the chances are right and none lies below `least`, at which they are cut for the
    variance's sake. Source: Joachims, Swaminathan and Schnabel 2017.
    """
    chance = np.maximum(examination, least)
    live = sessions.pairs >= 0
    at = sessions.pairs[live]
    rank = np.broadcast_to(np.arange(sessions.pairs.shape[1]), sessions.pairs.shape)[live]
    clicked = sessions.clicks[live]
    n = len(sessions.rows)
    weighed = np.bincount(at, clicked / chance[rank], n)
    return weighed / np.maximum(sessions.shown(), 1), np.bincount(at, chance[rank], n).astype(np.float64)


def simulate(
    kind: Kind, pairs: I32, attraction: F64, *, examination: F64 | None = None, satisfaction: F64 | None = None,
    going_on: float = 1.0, seed: int = 0,
) -> np.ndarray:  # fmt: skip
    """Clicks (sessions, ranks) of people who read lists as a model says: the truth that a fit is checked against."""
    rng = np.random.default_rng(seed)
    live = pairs >= 0
    wanted = rng.random(pairs.shape) < np.where(live, attraction[np.maximum(pairs, 0)], 0.0)
    if kind == "position":
        chance = np.ones(pairs.shape[1]) if examination is None else examination
        return (wanted & (rng.random(pairs.shape) < chance)).astype(np.uint8)
    out = np.zeros(pairs.shape, np.uint8)
    reading = np.ones(len(pairs), np.bool_)
    pleases = np.ones(len(attraction)) if kind == "cascade" or satisfaction is None else satisfaction
    for r in range(pairs.shape[1]):
        out[:, r] = reading & wanted[:, r]
        content = rng.random(len(pairs)) < np.where(live[:, r], pleases[np.maximum(pairs[:, r], 0)], 0.0)
        reading &= ~(out[:, r].astype(bool) & content)
        if kind == "dbn":
            reading &= rng.random(len(pairs)) < going_on
    return out
