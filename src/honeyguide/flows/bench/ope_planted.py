"""Failures planted in logs, and sound logs beside them: how often the checks of `honeyguide ope` flag them."""

from __future__ import annotations

from typing import Any

import numpy as np

from honeyguide.contracts import F64
from honeyguide.evaluation.replay.checks import check_log
from honeyguide.evaluation.replay.log import DecisionLog, decision_log
from honeyguide.evaluation.replay.surrogates import surrogacy
from honeyguide.kernels.ope_checks import surrogacy_sample_size
from honeyguide.schema import columns as c

__all__ = ["PLANTED", "flagged", "made_log", "surrogacy_flagged"]

PLANTED: dict[str, tuple[str, ...]] = {
    "sound": ("propensities", "weights", "depends-on", "one-policy"),
    "sound/chosen-only": ("propensities", "one-policy"),
    "wrong-propensities/sharper": ("propensities", "weights", "depends-on"),
    "wrong-propensities/swapped": ("propensities", "weights", "depends-on"),
    "wrong-propensities/chosen-only": ("propensities",),
    "confounded/device": ("depends-on",),
    "confounded/time": ("depends-on",),
    "two-policies": ("one-policy",),
}
"""What was planted, and which checks count as having seen it."""

_N, _ACTIONS = 4_000, 8


def flagged(kind: str, logs: int, seed: int) -> float:
    """Share of the logs in which one of the checks that count was flagged."""
    rng = np.random.default_rng(seed)
    count = PLANTED[kind]
    hits = 0
    for _ in range(logs):
        checks = check_log(made_log(kind, rng))
        hits += any(check.flagged and check.name.partition(":")[0] in count for check in checks)
    return hits / logs


def made_log(kind: str, rng: np.random.Generator, n: int = _N) -> DecisionLog:
    """A log of one kind; `sound` is as it says it is."""
    import pyarrow as pa

    segment, device = rng.integers(0, 4, n), rng.integers(0, 2, n)
    late = np.arange(n) >= n // 2
    base = rng.dirichlet(np.full(_ACTIONS, 3.0), 4) * 0.9 + 0.1 / _ACTIONS
    stated = base[segment]
    if kind == "two-policies":
        stated = np.where(rng.random((n, 1)) < 0.5, stated, 1.0 / _ACTIONS)
    true = stated.copy()
    if kind.endswith(("sharper", "wrong-propensities/chosen-only")):
        true = _normal(stated**1.4)
    elif kind.endswith("swapped"):
        true[:, [0, 1]] = stated[:, [1, 0]]
    elif kind.startswith("confounded"):
        which = device == 1 if kind.endswith("device") else late
        true = _normal(np.where((np.arange(_ACTIONS) % 2 == 0) & which[:, None], stated * 1.3, stated))
        other = _normal(np.where((np.arange(_ACTIONS) % 2 == 0) & ~which[:, None], stated / 1.3, stated))
        true = np.where(which[:, None], true, other)
    action = (true.cumsum(1) > rng.random((n, 1))).argmax(1)
    reward = (rng.random(n) < 0.05 + 0.02 * action * (1 + device) / 2).astype(np.float64)
    offers = pa.array([f"a{place}" for place in range(_ACTIONS)]).take(pa.array(np.tile(np.arange(_ACTIONS), n)))
    ends = pa.array(np.arange(0, n * _ACTIONS + 1, _ACTIONS, dtype=np.int32))
    columns: dict[str, Any] = {
        c.CHOSEN: pa.array([f"a{place}" for place in action]),
        c.PROPENSITY: pa.array(stated[np.arange(n), action]),
        c.REWARD: pa.array(reward),
        c.HAPPENED_AT: pa.array(np.arange(n) * 1_000_000, pa.timestamp("us", tz="UTC")),
        c.OFFERED: pa.ListArray.from_arrays(ends, offers),
        c.CONTEXT: pa.array([f'{{"segment":"s{s}","device":"d{d}"}}' for s, d in zip(segment, device, strict=True)]),
    }
    if not kind.endswith("chosen-only"):
        columns[c.PROBABILITIES] = pa.ListArray.from_arrays(ends, pa.array(stated.ravel()))
    return decision_log(pa.table({str(name): column for name, column in columns.items()}))


def surrogacy_flagged(direct_share: float, tests: int, seed: int) -> tuple[float, int]:
    """Share of experiments flagged at the sample size of the formula for a direct share of .4, and that size."""
    rng = np.random.default_rng(seed)
    effect, explained, planned = 0.2, 0.5, 0.4
    n = int(np.ceil(surrogacy_sample_size(explained, planned * effect)))
    hits = 0
    for _ in range(tests):
        arm = rng.permutation(np.arange(n) % 2)
        early = rng.normal(size=n) + (1 - direct_share) * effect / np.sqrt(explained) * arm
        late = np.sqrt(explained) * early + direct_share * effect * arm + np.sqrt(1 - explained) * rng.normal(size=n)
        hits += surrogacy(late, early[:, None], arm).flagged
    return hits / tests, n


def _normal(probabilities: F64) -> F64:
    return probabilities / probabilities.sum(1, keepdims=True)
