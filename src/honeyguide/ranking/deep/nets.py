"""A trained network that serves: tables mapped into memory, two ONNX graphs, and no PyTorch."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, F64, I64, RankInput
from honeyguide.engines.onnx.session import OnnxModel
from honeyguide.errors import BuildError
from honeyguide.ranking.deep.encode import Encoded, Encoder, take_requests
from honeyguide.ranking.deep.ports import INPUTS, MANY, ONE, OUTPUT, ports

__all__ = ["DeepNet", "NetManifest"]

_MANIFEST = "net.json"
_TABLES = ("items", "users")
_BLOCK = 2_048
"""Candidates of many requests that are scored at once."""
_OWN_GRAPH = 8
"""Candidates of a request from which a call of its own is cheaper than gathering its history for each of them."""


class NetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a network is, beside its files."""

    heads: tuple[str, ...]
    columns: tuple[str, ...]
    int8: bool = False
    notes: tuple[str, ...] = ()  # what the build has to say of it
    figures: dict[str, float] = {}  # training: cpu_s, epochs, ...


class DeepNet:
    """Log-odds of `heads` (in their order) for candidates. May be called from several threads.

    Memory: the tables, 4 bytes x rows x dimensions, mapped; the graphs, some hundred kilobytes.
    Implements `ranking.models.Part`.
    """

    kind = "deep"

    def __init__(self, folder: Path, manifest: NetManifest) -> None:
        self.manifest, self._folder, self.heads = manifest, folder, manifest.heads
        self.encoder = Encoder.load(folder)
        self._items, self._users = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _TABLES)
        self._sizes = len(manifest.columns), self._items.shape[1], self._users.shape[1], len(self.encoder.cardinalities)
        self._one, self._many = (self._open(name, manifest.int8) for name in (ONE, MANY))

    def _open(self, name: str, int8: bool) -> OnnxModel:
        path = self._folder / (name.replace(".", ".int8.") if int8 else name)
        return OnnxModel(path, ports(*self._sizes, single=name == ONE), [OUTPUT])

    @property
    def context_keys(self) -> tuple[str, ...]:
        """The facts of a request that it looks at."""
        return self.encoder.context

    @property
    def history(self) -> int:
        """So many newest events of a person."""
        return self.encoder.sequence

    def with_int8(self) -> Self:
        """The same over the eight-bit graphs of its folder."""
        return type(self)(self._folder, msgspec.structs.replace(self.manifest, int8=True))

    def raw(self, given: RankInput) -> F64:
        """(n, heads). A request with many candidates is scored by itself, others together."""
        if given.features.ndim != 2 or given.features.shape[1] != len(self.manifest.columns):
            raise BuildError(
                expected=f"a matrix of {len(self.manifest.columns)} features",
                got=f"shape {given.features.shape}",
                do="Compute the features that the ranker was built with.",
            )
        n, requests = len(given), len(given.users)
        if requests == 1 and n:
            return self._single(given)
        out = np.empty((n, len(self.heads)))
        pointers = np.searchsorted(given.request, np.arange(requests + 1)).astype(np.int64)
        counts = np.diff(pointers)
        for request in np.flatnonzero(counts >= _OWN_GRAPH):
            part, rows = take_requests(given, np.array([request]), pointers)
            out[rows] = self._single(part)
        few = np.flatnonzero((counts < _OWN_GRAPH) & (counts > 0))
        if len(few):
            ends = np.cumsum(counts[few])
            cuts = np.unique(np.searchsorted(ends, np.arange(_BLOCK, ends[-1], _BLOCK)))
            for chosen in np.split(few, cuts):
                if len(chosen):
                    part, rows = take_requests(given, chosen, pointers)
                    out[rows] = self._together(part)
        return out

    def _single(self, given: RankInput) -> F64:
        found: F64 = self._one.run(self._arrays(given, self.encoder.requests(given)))[0].astype(np.float64)
        return found

    def _together(self, given: RankInput) -> F64:
        arrays = self._arrays(given, self.encoder.requests(given))
        arrays["request"] = given.request.astype(np.int64)
        found: F64 = self._many.run(arrays)[0].astype(np.float64)
        return found

    def _arrays(self, given: RankInput, coded: Encoded) -> dict[str, npt.NDArray[Any]]:
        # take is several times as fast as an index, and always C-ordered.
        item = self._items.take(self.encoder.items.of(given.items), axis=0)
        arrays = (
            np.ascontiguousarray(given.features, np.float32), item, self._items.take(coded.history, axis=0), coded.age,
            coded.sign, coded.mask, self._users.take(coded.user, axis=0), coded.context, self._seeds(coded),
        )  # fmt: skip
        return dict(zip(INPUTS, arrays, strict=False))

    def _seeds(self, coded: Encoded) -> F32:
        out = np.zeros((len(coded.user), self._items.shape[1] + 1), np.float32)
        if len(coded.seeds.values):
            lengths = np.diff(coded.seeds.indptr)
            of = np.repeat(np.arange(len(lengths)), lengths)
            np.add.at(out[:, :-1], of, self._items[coded.seeds.values])
            out[:, :-1] /= np.maximum(lengths, 1)[:, None]
            out[:, -1] = lengths > 0
        return out

    def save(self, folder: Path) -> None:
        """Copy its files into an existing folder."""
        folder.mkdir(exist_ok=True)
        for path in self._folder.iterdir():
            unused = path.name.endswith(".int8.onnx") and not self.manifest.int8
            # The rows that were held out while it learnt are no part of what serves.
            if path.is_file() and path.name not in ("raw.npy", _MANIFEST) and not unused:
                shutil.copyfile(path, folder / path.name)
        (folder / _MANIFEST).write_bytes(msgspec.json.encode(self.manifest))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote. BuildError if something is missing, damaged or does not fit together."""
        try:
            manifest = msgspec.json.decode((folder / _MANIFEST).read_bytes(), type=NetManifest)
            return cls(folder, manifest)
        except (OSError, ValueError, EOFError, msgspec.DecodeError) as error:
            raise BuildError(
                expected=f"a deep ranker in {folder.name}", got=str(error), do="Build again, or roll back."
            ) from error

    def of_rows(self, given: RankInput, rows: I64) -> F64:
        """`raw` of some candidates, with what their requests tell."""
        pointers = np.searchsorted(given.request, np.arange(len(given.users) + 1)).astype(np.int64)
        asked, request = np.unique(given.request[rows], return_inverse=True)
        part, _ = take_requests(given, asked.astype(np.int64), np.zeros_like(pointers))
        return self.raw(
            replace(part, features=given.features[rows], items=given.items[rows], request=request.astype(np.int32))
        )
