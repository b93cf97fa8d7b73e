"""Whether early outcomes may stand for late ones: off-policy value of a late outcome rests on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F64
from honeyguide.errors import DataError
from honeyguide.kernels.ope_checks import surrogacy_sample_size, surrogacy_test, surrogate_basis

__all__ = ["FLAGGED_BELOW", "Surrogacy", "surrogacy"]

FLAGGED_BELOW = 0.055
"""At .05 the power at the formula's sample size is .80 less what the fit of h costs; at .055 it is .80 and a little."""


@dataclass(frozen=True, slots=True)
class Surrogacy:
    """The verdict on surrogates. `needed`: units in both arms to find a direct effect of a tenth of a deviation."""

    z: float
    p_value: float
    flagged: bool
    explained: float  # share of the late outcome's variance that the surrogates explain
    needed: int
    says: str


def surrogacy(late: F64, early: F64, arm: npt.NDArray[np.integer]) -> Surrogacy:
    """Test Y - h(S) between two randomised arms.

    late: (n,) outcomes; early: (n, surrogates); arm: (n,) 0 or 1. Raises DataError where nothing can be tested. That no
    direct effect is found proves surrogacy only for effects that `needed` says could have been found, and never rules
    out a common cause of S and Y within the arms.
    """
    late, early = np.asarray(late, np.float64), np.asarray(early, np.float64)
    if len(late) != len(early) or len(late) != len(arm) or not np.isin(arm, (0, 1)).all():
        raise DataError(
            expected="one late outcome, one row of surrogates and an arm of 0 or 1 for each unit",
            got=f"{len(late)}, {len(early)} and {len(arm)} rows, arms {sorted(set(np.asarray(arm).tolist()))[:4]}",
            do="Align the three.",
        )
    if not (np.isfinite(late).all() and np.isfinite(early).all()):
        raise DataError(
            expected="finite outcomes", got="some that are not", do="Leave out units without a late outcome."
        )
    test = surrogacy_test(late, early, arm)
    if not np.isfinite(test.p_value):
        raise DataError(
            expected="two arms, outcomes that differ, and more units than surrogates",
            got=f"{len(late)} units",
            do="Wait for more units.",
        )
    deviation = float(late.std())
    fitted = surrogate_basis(early)
    residual = late - fitted @ np.linalg.lstsq(fitted, late, rcond=None)[0]
    explained = float(np.clip(1 - residual.var() / deviation**2, 0.0, 1.0))
    needed = int(np.ceil(surrogacy_sample_size(explained, 0.1)))
    flagged = test.p_value < FLAGGED_BELOW
    says = (
        f"The arm moves the late outcome beyond what the surrogates say (z {test.statistic:+.2f}): do not use them."
        if flagged
        else "No direct effect was found beside the surrogates."
    )
    return Surrogacy(test.statistic, test.p_value, bool(flagged), explained, needed, says)
