"""What all encoders share: vectors of unit length, zeros where there was nothing to read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from honeyguide.contracts import F32

__all__ = ["unit"]


def unit(vectors: F32, texts: Sequence[str]) -> F32:
    """Rows of unit length (n, d); a text without any sign that is no space, and a vector of no length, become zeros."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    bare = np.fromiter((not text or text.isspace() for text in texts), np.bool_, len(texts))
    keep = ~bare & np.isfinite(length) & (length > 0)
    scale = np.zeros_like(length)
    np.divide(1.0, length, out=scale, where=keep)
    return np.where(keep[:, None], vectors * scale[:, None], np.float32(0)).astype(np.float32, copy=False)
