"""Steps of click models: what a session of shown results and clicks says, given the parameters so far.

A session is a row: `pairs` (sessions, ranks) number the query and document shown at each rank, -1 beyond the list's
end; `clicks` (sessions, ranks) are 1 where it was clicked.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["cascade_counts", "dbn_step", "pbm_step"]

F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
U8 = npt.NDArray[np.uint8]
_LEAST = 1e-12


@nb.njit(cache=True, nogil=True)
def pbm_step(pairs: I32, clicks: U8, attraction: F64, examined: F64) -> tuple[F64, F64, F64, float]:
    """One step of EM of the position-based model, P(click) = attraction * examined[rank].

    Returns, by pair, the expected number of times it was attractive; by rank, that of times it was looked at; how often
    each rank was shown; and the log likelihood. Source: Chuklin, Markov and de Rijke 2015, section 4.2.2.
    """
    attractive = np.zeros(len(attraction))
    looked = np.zeros(len(examined))
    shown = np.zeros(len(examined))
    likelihood = 0.0
    for s in range(pairs.shape[0]):
        for r in range(pairs.shape[1]):
            p = pairs[s, r]
            if p < 0:
                break
            a, e = attraction[p], examined[r]
            shown[r] += 1
            if clicks[s, r]:
                attractive[p] += 1
                looked[r] += 1
                likelihood += np.log(max(a * e, _LEAST))
            else:
                none = max(1 - a * e, _LEAST)
                attractive[p] += a * (1 - e) / none
                looked[r] += e * (1 - a) / none
                likelihood += np.log(none)
    return attractive, looked, shown, likelihood


@nb.njit(cache=True, nogil=True)
def cascade_counts(pairs: I32, clicks: U8, n_pairs: int) -> tuple[F64, F64]:
    """By pair, how often it was clicked first, and how often it was looked at: all above and at the first click."""
    first, looked = np.zeros(n_pairs), np.zeros(n_pairs)
    for s in range(pairs.shape[0]):
        for r in range(pairs.shape[1]):
            p = pairs[s, r]
            if p < 0:
                break
            looked[p] += 1
            if clicks[s, r]:
                first[p] += 1
                break
    return first, looked


@nb.njit(cache=True, nogil=True)
def dbn_step(
    pairs: I32, clicks: U8, attraction: F64, satisfaction: F64, going_on: float
) -> tuple[F64, F64, F64, F64, float, float, float]:
    """One step of EM of the dynamic Bayesian network: who is not satisfied by a click goes on with one probability.

    Returns by pair clicks, expected looks, expected satisfied clicks, clicks again (trials of satisfaction); then the
    expected goings-on and their trials; and the log likelihood. Source: Chapelle and Zhang 2009.
    """
    n = len(attraction)
    clicked, looked, satisfied, tried = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    went, could = 0.0, 0.0
    likelihood = 0.0
    ranks = pairs.shape[1]
    quiet = np.ones(ranks + 1)  # chance of no click from a rank on, if it is looked at
    for s in range(pairs.shape[0]):
        length, last = 0, -1
        for r in range(ranks):
            if pairs[s, r] < 0:
                break
            length = r + 1
            if clicks[s, r]:
                last = r
        quiet[length] = 1.0
        for r in range(length - 1, last, -1):
            after = going_on * quiet[r + 1] + 1 - going_on if r + 1 < length else 1.0
            quiet[r] = (1 - attraction[pairs[s, r]]) * after
        # Up to the last click everything was looked at.
        for r in range(last + 1):
            p = pairs[s, r]
            looked[p] += 1
            if clicks[s, r]:
                clicked[p] += 1
                tried[p] += 1
                likelihood += np.log(max(attraction[p], _LEAST))
                if r < last:
                    likelihood += np.log(max((1 - satisfaction[p]) * going_on, _LEAST))
            else:
                likelihood += np.log(max((1 - attraction[p]) * going_on, _LEAST))
            if r < last:
                went += 1
                could += 1
        chance = 1.0  # that the next rank was looked at
        if last >= 0:
            p = pairs[s, last]
            after = going_on * quiet[last + 1] + 1 - going_on if last + 1 < length else 1.0
            none = max(satisfaction[p] + (1 - satisfaction[p]) * after, _LEAST)
            likelihood += np.log(none)
            pleased = satisfaction[p] / none
            satisfied[p] += pleased
            chance = 0.0
            if last + 1 < length:
                on = going_on * quiet[last + 1] / max(after, _LEAST)
                could += 1 - pleased
                went += (1 - pleased) * on
                chance = (1 - pleased) * on
        elif length:
            likelihood += np.log(max(quiet[0], _LEAST))
        for r in range(last + 1, length):
            looked[pairs[s, r]] += chance
            if r + 1 < length:
                after = going_on * quiet[r + 1] + 1 - going_on
                on = going_on * quiet[r + 1] / max(after, _LEAST)
                could += chance
                went += chance * on
                chance *= on
    return clicked, looked, satisfied, tried, went, could, likelihood
