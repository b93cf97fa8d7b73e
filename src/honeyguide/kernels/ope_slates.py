"""Off-policy value of lists: weights per slot, and one interval by request.

Arrays are (..., requests, slots); axes before are independent logs. `w` = target / logged probability of what stood in
the slot (1 in slots that a shorter list does not have), `r` its reward (0 there), `shown` whether the slot exists.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from honeyguide.kernels.intervals import Intervals
from honeyguide.kernels.ope_intervals import PSEUDO

__all__ = [
    "cascade_weights",
    "item_weights",
    "list_weights",
    "pseudo_inverse",
    "pseudo_inverse_weights",
    "slate_interval",
    "slate_value",
]

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


def list_weights(w: F64) -> F64:
    """SIPS: every slot weighs the whole list, prod of w. Needs no assumption, and an ESS that shrinks with the slots.

    Source: McInerney et al. 2020, eq. 2.
    """
    return np.broadcast_to(w.prod(-1, keepdims=True), w.shape)


def item_weights(w: F64) -> F64:
    """IIPS: a slot weighs its own item; right only if slots do not influence one another, and w is of marginals.

    Source: Li et al. 2018.
    """
    return w


def cascade_weights(w: F64) -> F64:
    """RIPS: a slot weighs itself and those above; right if people read from the top. Source: McInerney et al. 2020."""
    return np.cumprod(w, axis=-1).astype(np.float64)


def pseudo_inverse_weights(w: F64, shown: BoolArray) -> F64:
    """PI: 1 + sum of (w - 1) over the slots; right if the list's reward is a sum over (slot, item) pairs.

    For logging policies that fill the slots independently; w is of marginals. Weights may be negative.
    Source: Swaminathan et al. 2017, eq. 6 with a factored logging policy.
    """
    total = 1.0 + np.where(shown, w - 1.0, 0.0).sum(-1, keepdims=True)
    return np.broadcast_to(total, w.shape)


def pseudo_inverse(second: F64, target: F64, indicator: F64) -> F64:
    """PI weights for any logging policy over lists: target' pinv(second) indicator, (..., requests).

    second: (pairs, pairs) E of indicator indicator' under the logging policy; target: (pairs,) E under the target;
    indicator: (..., requests, pairs) which (slot, item) pairs the list has. Source: Swaminathan et al. 2017, eq. 5.
    """
    return indicator @ (np.linalg.pinv(second, hermitian=True) @ target)


def slate_value(weight: F64, r: F64, model: F64, shown: BoolArray, *, normalised: bool) -> F64:
    """Sum over slots of the weighted rewards, by n or by the slot's sum of weights, plus the mean of `model`.

    weight: of each slot. r: rewards, or residuals where there is a model; model: (..., requests) its own part.
    """
    n = r.shape[-2]
    total = (weight * r).sum(-2)
    if normalised:
        below = np.where(shown, weight, 0.0).sum(-2)
        share = shown.sum(-2) / n
        total = np.divide(total * share, below, out=np.zeros_like(total), where=below > 0)
    else:
        total = total / n
    return total.sum(-1) + model.mean(-1)


def slate_interval(
    weight: F64,
    r: F64,
    model: F64,
    shown: BoolArray,
    tail_weight: F64,
    up: F64,
    down: F64,
    *,
    normalised: bool,
    unit: I64 | None = None,
    n_units: int = 0,
    level: float = 0.95,
) -> Intervals:
    """As `ope_intervals.tail_interval`, with the request (or `unit`: the person) as what is independent.

    The pseudo-decisions are shared by the slots as the weighted rewards are, half of them evenly; tail_weight, up,
    down: (..., slots), the residuals of the best and the worst reward of a slot.
    """
    n = r.shape[-2]
    w = np.where(shown, weight, 0.0)
    size = w if normalised else shown.astype(np.float64)
    total, rewards = size.sum(-2), (w * r).sum(-2)
    share = shown.sum(-2) / n
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(total > 0, rewards / total, 0.0)
        part = np.abs(mean * share)
        slots = r.shape[-1]
        pseudo = PSEUDO * (0.5 / slots + 0.5 * part / np.maximum(part.sum(-1, keepdims=True), 1e-300))
        grown = total + 2 * pseudo * tail_weight
        centre = np.where(grown > 0, (rewards + pseudo * tail_weight * (up + down)) / grown, 0.0)
        each = np.where(grown > 0, share / grown, 0.0)
    influence = ((w * r - centre[..., None, :] * size) * each[..., None, :]).sum(-1)
    influence = influence + (model - model.mean(-1, keepdims=True)) / n
    if unit is not None:
        influence = np.bincount(unit, influence, n_units).astype(np.float64)
    variance = (influence**2).sum(-1)
    tails = pseudo * (tail_weight * each) ** 2 * ((up - centre) ** 2 + (down - centre) ** 2)
    half = ndtri(0.5 + level / 2) * np.sqrt(variance + tails.sum(-1))
    base = model.mean(-1)
    middle = base + (centre * share).sum(-1)
    return Intervals(base + (mean * share).sum(-1), middle - half, middle + half)
