"""What reads a history where requests are answered: tables mapped into memory, and an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I32, I64, Queries
from honeyguide.engines.onnx.session import OnnxModel, Port
from honeyguide.errors import BuildError
from honeyguide.retrieval.deep.encode import Moments, newest
from honeyguide.retrieval.deep.ports import HIDDEN, STEPS

__all__ = ["FAR", "Reader", "moments_from", "moments_meta"]

FAR = 1e-3


class Reader:
    """A history and its moment as one vector.

    Each question is read by itself, so that it is answered alone as in a batch. May be asked from several threads.
    inputs: (items + 1, d) of what was taken, row 0 for nothing yet; places: (length, d); moments: (rows, d).
    """

    def __init__(self, path: Path, moments: Moments, inputs: F32, places: F32, told: F32, n_items: int) -> None:
        self.n_items, self.length, self.d = n_items, len(places), places.shape[1]
        self._moments, self._inputs, self._places, self._told = moments, inputs, places, told
        port = Port(STEPS, np.dtype(np.float32), (1, None, self.d))
        self._graph = OnnxModel(path, [port], [HIDDEN])

    def read(self, queries: Queries, start: int, stop: int) -> F32:
        """(stop - start, d) of the questions from `start` on."""
        out = np.empty((stop - start, self.d), np.float32)
        for q in range(start, stop):
            facts = {name: codes[q] for name, codes in queries.context.items() if name in self._moments.names}
            out[q - start] = self._one(*newest(queries, q, self.n_items, self.length), int(queries.now[q]), facts)
        return out

    def _one(self, items: I32, at: I64, now: int, facts: dict[str, Any]) -> F32:
        """Of a history's steps the times are known; the facts are those of the question alone."""
        given, last = items.astype(np.int64) + 1, at
        if len(given) < self.length:  # what nothing stands before
            given, last = np.concatenate([[0], given]), np.concatenate([[-1], at])
        steps = self._inputs[given] + self._places[: len(given)]
        if self._moments.width:
            here = np.append(at[len(at) - len(given) + 1 :], now)
            told = {name: np.zeros(len(here), np.int64) for name in facts}
            for name, code in facts.items():
                told[name][-1] = code
            steps += self._told[self._moments.rows(here, last, told)].sum(axis=1)
        found: F32 = self._graph.run({STEPS: steps[None]})[0][0]
        return found

    def check(self, folder: Path, what: str) -> None:
        """BuildError if ONNX Runtime says otherwise than PyTorch did."""
        asked, said = np.load(folder / "asked.npy"), np.load(folder / "said_of_asked.npy")
        far = float(np.abs(self._graph.run({STEPS: asked})[0][0] - said).max())
        if not far <= FAR:
            raise BuildError(
                expected=f"ONNX Runtime to say of `{what}` what PyTorch does", got=f"numbers that differ by {far:.2g}",
                do="Report this with the versions of torch, onnx and onnxruntime.",
            )  # fmt: skip


def moments_meta(moments: Moments) -> dict[str, Any]:
    """What `moments_from` reads."""
    return {"clock": moments.clock, "names": list(moments.names), "codes": [codes.tolist() for codes in moments.codes]}


def moments_from(meta: dict[str, Any], folder: Path) -> Moments:
    """Back from `moments_meta`. BuildError where it is not one."""
    try:
        told = meta["moments"]
        codes = tuple(np.array(one, np.int64) for one in told["codes"])
        return Moments(bool(told["clock"]), tuple(map(str, told["names"])), codes)
    except (KeyError, TypeError, ValueError) as error:
        raise BuildError(
            expected=f"moments in {folder / 'meta.json'}", got="what is none", do="Build again with this version."
        ) from error
