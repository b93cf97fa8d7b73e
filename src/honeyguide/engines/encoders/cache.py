"""An encoder that remembers: texts of a catalog on disk, the newest queries in memory."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from honeyguide.contracts import F32, Encoder, Progress

__all__ = ["CachedEncoder"]

_BATCH = 2_048
_KEY_BYTES = 16


class CachedEncoder:
    """`contracts.Encoder` beside another, asked only for texts that it has not met.

    folder: of vectors on disk, one part a call (`encode_all`); parts of another name, version or dimension are not
    looked at, and a part that cannot be read counts as none. most: texts kept in memory, the oldest go first.
    """

    def __init__(self, encoder: Encoder, folder: Path | None = None, *, most: int = 10_000) -> None:
        self._encoder, self._most = encoder, most
        self.name, self.version, self.dimension = encoder.name, encoder.version, encoder.dimension
        self._folder = None if folder is None else folder / f"{self.name}-{self.version}-{self.dimension}"
        self._newest: OrderedDict[tuple[bool, str], F32] = OrderedDict()
        self._lock = threading.Lock()

    def encode(self, texts: Sequence[str]) -> F32:
        """(n, dimension), as the encoder gives them."""
        return self._remembered(texts, query=False)

    def encode_queries(self, queries: Sequence[str]) -> F32:
        """(n, dimension), as the encoder gives them for queries."""
        return self._remembered(queries, query=True)

    def _remembered(self, texts: Sequence[str], *, query: bool) -> F32:
        out = np.zeros((len(texts), self.dimension), np.float32)
        wanted: dict[str, list[int]] = {}
        with self._lock:
            for at, text in enumerate(texts):
                found = self._newest.get((query, text))
                if found is None:
                    wanted.setdefault(text, []).append(at)
                else:
                    self._newest.move_to_end((query, text))
                    out[at] = found
        if wanted:
            ask = self._encoder.encode_queries if query else self._encoder.encode
            fresh = ask(list(wanted))
            with self._lock:
                for vector, (text, places) in zip(fresh, wanted.items(), strict=True):
                    out[places] = vector
                    self._newest[query, text] = vector.copy()
                while len(self._newest) > self._most:
                    self._newest.popitem(last=False)
        return out

    def encode_all(self, texts: Sequence[str], *, progress: Progress | None = None) -> F32:
        """(n, dimension) of many texts, from disk where they were met before; new ones are kept there."""
        keys = np.frombuffer(b"".join(_key(text) for text in texts), f"S{_KEY_BYTES}") if texts else np.zeros(0, "S16")
        out = np.zeros((len(texts), self.dimension), np.float32)
        known = np.zeros(len(texts), np.bool_)
        for path in self._parts():
            part = self._part(path)
            if part is None or not len(part[0]):
                continue
            order = np.argsort(part[0])
            place = np.minimum(np.searchsorted(part[0], keys, sorter=order), len(order) - 1)
            hit = ~known & (part[0][order[place]] == keys)
            out[hit] = part[1][order[place[hit]]]
            known |= hit
        missing, first = np.unique(keys[~known], return_index=True)
        if not len(missing):
            return out
        rows = np.flatnonzero(~known)[first]
        fresh = np.zeros((len(rows), self.dimension), np.float32)
        for start in range(0, len(rows), _BATCH):
            if progress is not None:
                progress("encode texts", start, len(rows))
            fresh[start : start + _BATCH] = self._encoder.encode([texts[at] for at in rows[start : start + _BATCH]])
        if progress is not None:
            progress("encode texts", len(rows), len(rows))
        out[~known] = fresh[np.searchsorted(missing, keys[~known])]
        self._keep(missing, fresh)
        return out

    def _parts(self) -> list[Path]:
        return [] if self._folder is None or not self._folder.is_dir() else sorted(self._folder.glob("*.npz"))

    def _part(self, path: Path) -> tuple[np.ndarray, F32] | None:
        try:
            with np.load(path, allow_pickle=False) as part:
                keys, vectors = part["keys"], part["vectors"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None  # half of one: its texts are encoded anew
        whole = vectors.shape == (len(keys), self.dimension) and vectors.dtype == np.float32
        return (keys.astype(f"S{_KEY_BYTES}"), vectors) if whole else None

    def _keep(self, keys: np.ndarray, vectors: F32) -> None:
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        fresh = self._folder / f".{uuid.uuid4().hex}"
        with fresh.open("wb") as sink:
            np.savez(sink, keys=keys, vectors=vectors)
        os.replace(fresh, self._folder / f"{uuid.uuid4().hex}.npz")


def _key(text: str) -> bytes:
    # Never a zero byte: numpy's fixed-size strings drop them at their end.
    told = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=_KEY_BYTES).digest()
    return told.replace(b"\0", b"\1")
