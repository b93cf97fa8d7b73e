"""What is counted before a network learns: ids that have rows, the spread of features, how positions are looked at."""

from __future__ import annotations

import numpy as np

from honeyguide.contracts import F32, F64, I32, I64, BoolArray, RankInput
from honeyguide.ranking.deep.config import DeepConfig
from honeyguide.ranking.deep.encode import Encoder, Ids, known_codes

__all__ = ["KNOTS", "Scales", "encoder_of", "examination_of", "scales_of"]

KNOTS = 12
_SAMPLE = 200_000
"""Rows that quantiles are taken from, at most."""
_LEAST_LOOK = 0.02
"""A position that is looked at less often weighs no more than one that is looked at so often."""


class Scales:
    """How each dense feature spreads over the rows that are learnt from."""

    def __init__(self, mean: F32, inverse: F32, knots: F32, steps: F32, gaps: list[int], empty: list[int]) -> None:
        self.mean, self.inverse, self.knots, self.steps = mean, inverse, knots, steps
        self.gaps, self.empty = gaps, empty


def encoder_of(config: DeepConfig, given: RankInput, rows: I64, requests: I64, n_items: int, n_users: int) -> Encoder:
    """From the candidates (`rows`) and requests that are learnt from."""
    histories = given.histories
    events = np.zeros(len(histories.values), np.bool_)
    edges = np.zeros(len(events) + 1, np.int64)
    np.add.at(edges, histories.indptr[:-1][requests], 1)
    np.add.at(edges, histories.indptr[1:][requests], -1)
    events[:] = np.cumsum(edges[:-1]) > 0
    seen = np.concatenate([given.items[rows], histories.values[events]])
    values = given.history_values[events]
    values = values[~np.isnan(values)].astype(np.float64)
    hashed = config.ids == "hashed"
    return Encoder(
        items=Ids.hashed(config.buckets) if hashed else Ids.dictionary(seen, n_items, config.min_count),
        users=Ids.hashed(config.buckets)
        if hashed
        else Ids.dictionary(given.users[given.request[rows]], n_users, config.min_count),
        context=config.context,
        codes=tuple(
            known_codes(given.context[name][requests], config.min_count) if name in given.context else np.zeros(0, int)
            for name in config.context
        ),
        clock=config.clock,
        sequence=config.sequence,
        mean=float(values.mean()) if len(values) else 0.0,
        spread=float(values.std()) or 1.0 if len(values) else 1.0,
        seeds=bool(np.diff(given.seeds.indptr)[requests].any()),
    )


def scales_of(features: F32, rows: I64, seed: int) -> Scales:
    """Means, spreads and quantiles of the features over `rows`, block by block; nan is left out."""
    width = features.shape[1]
    total, square, count = (np.zeros(width) for _ in range(3))
    for start in range(0, len(rows), 65_536):
        block = _finite(features[rows[start : start + 65_536]].astype(np.float64))
        count += (~np.isnan(block)).sum(axis=0)
        total += np.nansum(block, axis=0)
        square += np.nansum(block * block, axis=0)
    some = np.maximum(count, 1.0)
    mean = total / some
    spread = np.sqrt(np.maximum(square / some - mean * mean, 0.0))
    spread[spread <= 1e-6 * (1.0 + np.abs(mean))] = 1.0
    rng = np.random.default_rng(seed)
    drawn = rows if len(rows) <= _SAMPLE else np.sort(rng.choice(rows, _SAMPLE, replace=False))
    knots = np.zeros((width, KNOTS), np.float64)
    for column in range(width):
        known = _finite(features[drawn, column].astype(np.float64))
        known = known[~np.isnan(known)]
        if len(known):
            knots[column] = np.quantile(known, np.linspace(0.0, 1.0, KNOTS))
    knots32 = knots.astype(np.float32)
    widths = np.diff(knots32.astype(np.float64), axis=1)
    # Between equal knots lies a step: steep, yet finite in float32.
    least = 1e-6 * (1.0 + np.abs(knots[:, -1:] - knots[:, :1]))
    return Scales(
        mean.astype(np.float32), (1.0 / spread).astype(np.float32), knots32[:, :-1],
        (1.0 / np.maximum(widths, least)).astype(np.float32),
        np.flatnonzero((count < len(rows)) & (count > 0)).tolist(), np.flatnonzero(count == 0).tolist(),
    )  # fmt: skip


def _finite(block: F64) -> F64:
    return np.where(np.isfinite(block), block, np.nan)


def examination_of(config: DeepConfig, items: I32, position: I32, label: F32) -> F64:
    """How often each position is looked at, position 1 being 1: as configured, or found in the log.

    Found by items that were shown in two neighbouring positions: the ratio of what came of them there, each item
    weighed by its lesser number of showings. Source: Agarwal et al. 2019, section 4 (adjacent chain). Returns
    (positions + 1,), the entry of position 0 (not known) being 1.
    """
    most = int(position.max(initial=0))
    if config.examination:
        told = np.array(config.examination)
        looked = np.append(told, np.full(max(most - len(told), 0), told[-1]))
        return np.maximum(np.concatenate([[1.0], looked / looked[0]]), _LEAST_LOOK)
    known: BoolArray = (position > 0) & ~np.isnan(label)
    looked = np.ones(most + 1)
    found = {}
    for place in range(1, most + 1):
        of = known & (position == place)
        rows, inverse = np.unique(items[of], return_inverse=True)
        found[place] = rows, np.bincount(inverse, minlength=len(rows)), np.bincount(inverse, label[of], len(rows))
    for place in range(2, most + 1):
        (a, shown_a, taken_a), (b, shown_b, taken_b) = found[place - 1], found[place]
        _, ia, ib = np.intersect1d(a, b, return_indices=True)
        weight = np.minimum(shown_a[ia], shown_b[ib])
        above, below = (weight * taken_a[ia] / shown_a[ia]).sum(), (weight * taken_b[ib] / shown_b[ib]).sum()
        ratio = below / above if above > 0 and below > 0 else 1.0
        looked[place] = min(looked[place - 1] * ratio, 1.0)
    return np.maximum(looked, _LEAST_LOOK)
