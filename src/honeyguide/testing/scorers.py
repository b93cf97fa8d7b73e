"""What every `Scorer` must hold, whoever wrote it: run it in the scorer's own tests."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from honeyguide.contracts import F32, Scorer

__all__ = ["broken_scorer_laws"]


def broken_scorer_laws(scorer: Scorer, features: F32, *, seed: int = 0) -> list[str]:
    """The laws that a scorer breaks on these features (n, features), as sentences; an empty list is a pass.

    Give a few hundred rows as they come in service, with nan where a feature is missing.
    """
    return list(_broken(scorer, np.ascontiguousarray(features, np.float32), np.random.default_rng(seed)))


def _broken(scorer: Scorer, features: F32, rng: np.random.Generator) -> Iterator[str]:
    if not isinstance(scorer, Scorer):
        yield "it lacks `name`, `calibrated` or `score` of the Scorer contract"
        return
    if not (isinstance(scorer.name, str) and scorer.name):
        yield "`name` is no text"
    if not isinstance(scorer.calibrated, bool):
        yield "`calibrated` is neither True nor False"
    before = features.copy()
    scores = scorer.score(features)
    n = len(features)
    if not isinstance(scores, np.ndarray) or scores.shape != (n,) or scores.dtype != np.float64:
        yield f"`score` must give {n} float64 numbers, one per row"
        return
    if not np.array_equal(features, before, equal_nan=True):
        yield "`score` changes the features it is given"
    if np.isinf(scores).any():
        yield "`score` gives infinity"
    # nan is allowed (a score that is absent), but then always for the same rows.
    if not np.array_equal(scores, scorer.score(features), equal_nan=True):
        yield "the same features give other scores the second time"
    order = rng.permutation(n)
    if not np.array_equal(scores[order], scorer.score(features[order]), equal_nan=True):
        yield "a score depends on the order of the candidates"
    part = features[: max(1, n // 3)]
    if not np.array_equal(scores[: len(part)], scorer.score(part), equal_nan=True):
        yield "a score depends on the other candidates"
    if scorer.score(features[:0]).shape != (0,):
        yield "no candidates must give no scores"
    known = scores[~np.isnan(scores)]
    if scorer.calibrated and len(known) and not 0.0 <= known.min() <= known.max() <= 1.0:
        yield "it calls itself calibrated, but gives scores outside [0, 1]"
