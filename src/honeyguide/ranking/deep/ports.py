"""The files of a network that serves, and what goes into them and comes out."""

from __future__ import annotations

import numpy as np

from honeyguide.engines.onnx.session import Port
from honeyguide.ranking.deep.encode import SIGNS

__all__ = ["INPUTS", "MANY", "ONE", "OUTPUT", "ports"]

ONE, MANY = "one.onnx", "many.onnx"
"""A request with its candidates; many requests at once."""
INPUTS = ("dense", "item", "history", "age", "sign", "mask", "user", "context", "seed", "request")
OUTPUT = "odds"


def ports(dense: int, item_dim: int, user_dim: int, facts: int, *, single: bool) -> list[Port]:
    """What the graphs take; the single one has one request."""
    f32, i64 = np.dtype(np.float32), np.dtype(np.int64)
    r = 1 if single else None
    found = [
        Port("dense", f32, (None, dense)), Port("item", f32, (None, item_dim)),
        Port("history", f32, (r, None, item_dim)), Port("age", i64, (r, None, 2)), Port("sign", f32, (r, None, SIGNS)),
        Port("mask", f32, (r, None)), Port("user", f32, (r, user_dim)), Port("context", i64, (r, facts)),
        Port("seed", f32, (r, item_dim + 1)),
    ]  # fmt: skip
    return found if single else [*found, Port("request", i64, (None,))]
