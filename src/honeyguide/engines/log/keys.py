"""Keys the server makes: unique over processes and machines, ordered by time, under a microsecond each."""

from __future__ import annotations

import os
from itertools import count
from time import time_ns

__all__ = ["time_key"]

_COUNTER_MASK = (1 << 32) - 1
_counter = count()
_process = ""


def _draw_process() -> None:
    # 44 random bits tell processes and machines apart; a forked child must not go on with its parent's.
    global _process
    _process = f"{int.from_bytes(os.urandom(6), 'little') >> 4:011x}"


_draw_process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_draw_process)


def time_key() -> str:
    """32 hexadecimal digits: microseconds since the epoch (13), a counter (8), the process (11).

    Keys of one process sort in the order they were made (unless the clock is set back); those of several sort to the
    microsecond. The counter makes them unique even if the clock stands still or steps back: `next` on it is atomic,
    and it repeats only after four billion keys.
    """
    return f"{time_ns() // 1000:013x}{next(_counter) & _COUNTER_MASK:08x}{_process}"
