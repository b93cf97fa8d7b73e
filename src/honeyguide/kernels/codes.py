"""Texts as 64-bit numbers, a column at once or one by one: the same on every machine, process and version.

Among ten million different texts, two share a number in 3 of a million cases.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.hashtable import mix

__all__ = ["code64", "text_codes"]


@njit(cache=True)
def text_codes(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The number of each text `data[offsets[i]:offsets[i + 1]]` (UTF-8), 0 for an empty one and for no other.

    Eight bytes at a time go through `hashtable.mix`, the length first.
    """
    codes = np.zeros(offsets.shape[0] - 1, np.int64)
    for i in range(codes.shape[0]):
        first, end = offsets[i], offsets[i + 1]
        if first == end:
            continue
        code = mix(end - first)
        for start in range(first, end, 8):
            word = np.uint64(0)
            for k in range(start, min(start + 8, end)):
                word |= np.uint64(data[k]) << np.uint64(8 * (k - start))
            code = mix(code ^ np.int64(word))
        codes[i] = code if code != 0 else 1
    return codes


def code64(text: str | None) -> int:
    """The number of one text; 0 for none."""
    if not text:
        return 0
    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).copy()
    return int(text_codes(np.array([0, len(data)], np.int64), data)[0])
