"""What a slate may ask about the person and the time, beside the candidates."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from honeyguide.contracts import F32, I32

__all__ = ["NO_MOMENT", "Moment"]

_NO_ROWS: I32 = np.zeros(0, np.int32)
_NO_WEIGHTS: F32 = np.zeros(0, np.float32)


def _no_rows() -> I32:
    return _NO_ROWS


@dataclass(frozen=True, slots=True)
class Moment:
    """items, weights: the history that the list may mirror (or the seeds), with the strength of each sign of interest.

    too_often: rows that a frequency cap bars. shown, times: rows with how often each was shown without a reaction.
    """

    now_us: int = 0
    items: I32 = field(default_factory=_no_rows)
    weights: F32 = field(default_factory=lambda: _NO_WEIGHTS)
    too_often: I32 = field(default_factory=_no_rows)
    shown: I32 = field(default_factory=_no_rows)
    times: I32 = field(default_factory=_no_rows)


NO_MOMENT = Moment()
