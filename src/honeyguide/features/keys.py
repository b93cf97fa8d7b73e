"""What aggregates are grouped by, as one number each: the same for events, for labels and for a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import I64
from honeyguide.features.definition import HOP_US, HOUR, Key
from honeyguide.kernels.hashtable import EMPTY

__all__ = ["numbers"]

_U64 = npt.NDArray[np.uint64]


def numbers(key: Key, user: Any, item: Any, at: Any, context: Mapping[str, Any]) -> I64:
    """The number of each row's entity, EMPTY where it has none: a row or the context that the key asks for is missing.

    user, item: rows, -1 unknown; at: microseconds; context: `code64` of the facts of the moment. Arrays or scalars that
    broadcast. A person's or an item's number is its row; a person x item is exact too; the others are 64-bit hashes of
    the item and the context, of which ten million share one in 3 of a million sets.
    """
    user, item, at = (np.asarray(column, np.int64) for column in (user, item, at))
    if key.entity == "user":
        made, known = user, user >= 0
    elif key.entity == "item":
        made, known = item, item >= 0
    elif key.entity == "user_item":
        made, known = (user << 32) | item, (user >= 0) & (item >= 0)
    else:
        if key.context == HOUR:
            code = ((at + key.offset_us) % (24 * HOP_US["hour"])) // key.band_us + 1
        else:
            code = np.asarray(context.get(str(key.context), 0), np.int64)
        made, known = _mixed(code ^ _mixed(item)), (item >= 0) & (code != 0)
        known &= made != EMPTY
    found: I64 = np.where(known, made, EMPTY)
    return found


def _mixed(key: I64) -> I64:
    """`kernels.hashtable.mix` of an array."""
    x: _U64 = np.atleast_1d(key).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: I64 = (x ^ (x >> np.uint64(31))).astype(np.int64).reshape(np.shape(key))
    return mixed
