"""Coverage and width of off-policy intervals in worlds whose truth is known; many logs at once, by counts of cells."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import ndtri

from honeyguide.contracts import F64
from honeyguide.flows.bench.ope_strata import Stratum
from honeyguide.kernels.intervals import Intervals
from honeyguide.kernels.ope_intervals import (
    bootstrap_intervals,
    empirical_bernstein,
    hedged_betting,
    tail_interval,
    wald_interval,
)
from honeyguide.kernels.ope_models import shrunken_means
from honeyguide.kernels.ope_values import Sums, design_moments, empirical_moments, optimistic, switched

__all__ = ["ESS_LEAST", "N3_LEAST", "PEERS", "Measured", "measure", "peers"]

ESS_LEAST, N3_LEAST = 100.0, 25.0
PEERS = ("normal", "bootstrap", "studentised", "bernstein", "betting")
_NAMES = ("ips", "snips", "dr", "sndr", "dros", "switch")
_CHUNK_CELLS = 4_000_000
_Z = float(ndtri(0.975))


@dataclass
class Measured:
    """What an estimator did in one stratum, log by log."""

    truth: float
    estimate: list[F64] = field(default_factory=list)
    low: list[F64] = field(default_factory=list)
    high: list[F64] = field(default_factory=list)
    answered: list[F64] = field(default_factory=list)

    def add(self, found: Intervals, answered: F64, least: float = 0.0, most: float = 1.0) -> None:
        """Another batch of logs; the interval is cut to what a reward can be."""
        self.estimate.append(found.estimate)
        self.low.append(np.clip(found.low, least, most))
        self.high.append(np.clip(found.high, least, most))
        self.answered.append(np.broadcast_to(answered, found.estimate.shape).astype(np.float64))

    def figures(self, oracle: float | None = None) -> dict[str, float | None]:
        """coverage and width over the oracle's, of the answered logs; share answered; root mean square error of all.

        oracle: the width of an interval that knows the estimator's spread: 2 z sd; default by the logs themselves.
        """
        estimate, low, high, answered = (
            np.concatenate(one) for one in (self.estimate, self.low, self.high, self.answered)
        )
        said = answered > 0
        known = np.isfinite(estimate)
        width = oracle or 2 * _Z * float(estimate[known].std())
        inside = (low <= self.truth) & (self.truth <= high)
        return {
            "coverage": float(inside[said].mean()) if said.any() else None,
            "width_over_oracle": float(np.nanmedian((high - low)[said])) / width if said.any() and width > 0 else None,
            "answered": float(said.mean()),
            "rmse": float(np.sqrt(np.mean((estimate[known] - self.truth) ** 2))),
        }


def measure(stratum: Stratum, logs: int, seed: int) -> dict[str, Measured]:
    """Every estimator with an interval on `logs` logs of a stratum, with the kernels that `honeyguide ope` uses.

    `snips-chosen-only` is SNIPS where the other actions' propensities were not logged (verdict UNVERIFIED).
    A log is its counts: how often each (context, action) was drawn, and how often it was rewarded, in two halves that
    give each other the reward model.
    """
    rng = np.random.default_rng(seed)
    contexts, actions = stratum.logged.shape
    cells = contexts * actions
    found = {name: Measured(stratum.truth) for name in (*_NAMES, "snips-chosen-only")}
    share = (stratum.contexts[:, None] * stratum.logged).ravel()
    w_cell = stratum.weights.ravel()
    g_cells = {name: _tuned(name, w_cell, share, stratum.n) for name in ("dros", "switch")}
    batch = max(1, _CHUNK_CELLS // (cells * 4))
    for start in range(0, logs, batch):
        k = min(batch, logs - start)
        halves = [stratum.n // 2, stratum.n - stratum.n // 2]
        drawn = np.stack([rng.multinomial(half, share / share.sum(), size=k) for half in halves], axis=1)
        hits = rng.binomial(drawn, stratum.mean.ravel())
        # Columns: half x cell x (no reward, reward); `times` says how often each came.
        times = np.stack([drawn - hits, hits], -1).reshape(k, -1).astype(np.float64)
        w, r = np.tile(np.repeat(w_cell, 2), 2), np.tile([0.0, 1.0], 2 * cells)
        in_context = drawn.sum(1).reshape(k, contexts, actions).sum(2)
        design = design_moments(
            stratum.target.ravel(),
            stratum.logged.ravel(),
            np.repeat(in_context, actions, axis=1).astype(float),
            stratum.n,
        )
        happened = empirical_moments(w, times)
        answered = ((design.ess >= ESS_LEAST) & (design.n3 >= N3_LEAST)).astype(np.float64)
        tail = np.fmax(design.tail_weight, np.nan_to_num(happened.tail_weight))
        other = (slice(None), slice(None, None, -1))
        shape = (k, 2, contexts, actions)
        q = shrunken_means(hits[other].reshape(shape).astype(float), drawn[other].reshape(shape).astype(float))
        v = np.broadcast_to((q * stratum.target).sum(-1, keepdims=True), shape)
        q_row, v_row = (np.repeat(part.reshape(k, 2 * cells), 2, axis=1) for part in (q, v))
        model = (times * v_row).sum(1) / stratum.n
        zero, one = np.zeros_like(times), np.ones_like(times)
        plain = Sums(w * r + zero, w + zero, zero, one)
        modelled = Sums(w * (r - q_row), w + zero, v_row, one)
        for name in ("ips", "snips"):
            interval = tail_interval(plain, tail, 1.0, 0.0, normalised=name == "snips", times=times)
            found[name].add(interval, answered)
        came = np.nan_to_num(happened.tail_weight)
        said = ((happened.ess >= ESS_LEAST) & (happened.n3 >= N3_LEAST)).astype(np.float64)
        blind = tail_interval(plain, came, 1.0, 0.0, normalised=True, times=times)
        found["snips-chosen-only"].add(blind, said)
        for name in ("dr", "sndr"):
            interval = tail_interval(modelled, tail, 1 - model, -model, normalised=name == "sndr", times=times)
            found[name].add(interval, answered)
        for name, (g_cell, lost) in g_cells.items():
            g = np.tile(np.repeat(g_cell, 2), 2)
            shrunk = Sums(g * (r - q_row), g + zero, v_row, one)
            g_tail = np.nan_to_num(empirical_moments(g, times).tail_weight)
            raw = tail_interval(shrunk, g_tail, 1 - model, -model, normalised=False, times=times)
            biased = Intervals(raw.estimate, raw.low - lost * model, raw.high + lost * (1 - model))
            found[name].add(biased, answered)
    return found


def _tuned(name: str, w: F64, share: F64, n: int) -> tuple[F64, float]:
    """Weights by the design's rule (see evaluation.replay.tuning) and the mean weight that was lost."""
    grid = np.append(np.geomspace(w[w > 0].min() ** 2, w.max() ** 2 * 100, 19), np.inf)
    best: tuple[float, F64, float] | None = None
    for parameter in grid if name == "dros" else np.sqrt(grid):
        g = optimistic(w, parameter) if name == "dros" else switched(w, parameter)
        lost = float((share * (w - g)).sum())
        cost = lost**2 + float((share * g**2).sum()) / n
        if best is None or cost < best[0]:
            best = (cost, g, lost)
    if best is None:
        return w, 0.0
    return best[1], max(best[2], 0.0)


def peers(stratum: Stratum, logs: int, seed: int, *, exact: bool) -> dict[str, Measured]:
    """The usual intervals of SNIPS (Bernstein and betting: of IPS) on the same kind of logs, never refusing.

    exact: also hedged betting, which walks through each log several dozen times.
    """
    rng = np.random.default_rng(seed)
    share = (stratum.contexts[:, None] * stratum.logged).ravel()
    w_cell = stratum.weights.ravel()
    names = PEERS if exact else PEERS[:-1]
    found = {name: Measured(stratum.truth) for name in names}
    one = np.ones(1)
    most = float(w_cell.max())
    for _ in range(logs):
        drawn = rng.multinomial(stratum.n, share / share.sum())
        hits = rng.binomial(drawn, stratum.mean.ravel())
        times = np.concatenate([drawn - hits, hits]).astype(np.float64)
        some = times > 0
        w, r = np.tile(w_cell, 2)[some], np.repeat([0.0, 1.0], len(w_cell))[some]
        times = times[some]
        sums = Sums((w * r)[None], w[None], np.zeros((1, len(w))), np.ones((1, len(w))))
        found["normal"].add(wald_interval(sums, normalised=True, times=times[None]), one)
        plain, studentised = bootstrap_intervals(w, r, times, resamples=200, seed=int(rng.integers(2**31)))
        found["bootstrap"].add(plain, one)
        found["studentised"].add(studentised, one)
        z = np.repeat(w * r, times.astype(np.int64))
        rng.shuffle(z)
        found["bernstein"].add(empirical_bernstein(z[None], most), one)
        if exact:
            found["betting"].add(hedged_betting(z[None], most), one)
    return found
