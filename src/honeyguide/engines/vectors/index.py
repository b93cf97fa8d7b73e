"""An index of vectors: what it was built of, what came since, what went, and how much it finds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, I32, I64, BoolArray, Candidates, Ragged
from honeyguide.engines.vectors import faiss_driver
from honeyguide.engines.vectors.config import VectorsConfig
from honeyguide.engines.vectors.scan import merged, scan
from honeyguide.errors import BuildError, DataError

__all__ = ["Vectors", "build_vectors"]

FORMAT = 1
_META, _GRAPH = "vectors.json", "faiss.index"
_ARRAYS = {"rows": np.int32, "vectors": np.float32, "alive": np.bool_, "new_rows": np.int32, "new_vectors": np.float32}
_SHARES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02)
"""Shares of the rows that a filter lets through, at which the effort is settled."""
_K = 10
_SLACK = 0.005
"""By which the sample must reach more than the recall that is asked for."""
_READ_COST = 1.5
"""What reading a row out of its place costs, against one in a list."""


class _Meta(msgspec.Struct, frozen=True):
    format: int
    kind: str
    config: dict[str, Any]
    shapes: dict[str, list[int]]
    effort: dict[str, int]  # by share
    recall: dict[str, float]  # by share


class Vectors:
    """Nearest rows by inner product. Implements `contracts.VectorIndex`.

    What was built is never changed: rows that are added are kept beside it and searched exactly, rows that go are
    marked. `rebuilt` makes one index of all, which pays from `merge_share` on (`wants_rebuild`).
    A filter that lets few rows through is answered exactly over these; one that lets many through is answered with an
    effort that was settled when the index was built, on filters drawn by chance and on filters that hide what is near.
    May be asked from several threads; `add` and `delete` need one caller at a time.
    """

    def __init__(
        self, config: VectorsConfig, kind: str, rows: I32, vectors: F32, alive: BoolArray, graph: Any,
        effort: Mapping[float, int], recall: Mapping[float, float], new: tuple[I32, F32] | None = None,
    ) -> None:  # fmt: skip
        self.config, self.kind = config, kind
        self._rows, self._vectors, self._alive, self._graph = rows, vectors, alive, graph
        self._effort, self._recall = dict(effort), dict(recall)
        self._new_rows, self._new_vectors = new or (np.zeros(0, np.int32), np.zeros((0, vectors.shape[1]), np.float32))
        self._plain = bool(len(rows) == 0 or (rows[0] == 0 and rows[-1] == len(rows) - 1))

    # ------------------------------------------------------------------------------------------------- facts

    def __len__(self) -> int:
        return int(self._alive.sum()) + len(self._new_rows)

    @property
    def dim(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    @property
    def measured(self) -> dict[str, float]:
        """Share of the true ten nearest found when it was built: "recall@10", and by filter, "recall@10_share_0.05"."""
        told = {f"recall@{_K}": self._recall.get(1.0, 1.0)}
        return told | {f"recall@{_K}_share_{share:g}": found for share, found in self._recall.items() if share < 1.0}

    @property
    def wants_rebuild(self) -> bool:
        """Whether so much was added or deleted that `rebuilt` pays."""
        changed = len(self._new_rows) + int((~self._alive).sum())
        return changed > self.config.merge_share * max(len(self._rows), 1)

    # ------------------------------------------------------------------------------------------------- asking

    def search(
        self, vectors: F32, k: int, *, allowed: BoolArray | None = None, exclude: Ragged | None = None
    ) -> Candidates:
        """The k rows of the largest inner product with each vector (n, d), best first, padded with -1 / nan.

        allowed: by row, whether it may be found; rows beyond it may not. exclude: rows not to give, for each vector.
        Raises DataError for vectors of another length or that are not finite, or an `exclude` of another n.
        """
        queries = _checked(vectors, self.dim)
        if exclude is not None and len(exclude) != len(queries):
            raise DataError(
                expected=f"one row of `exclude` for each of {len(queries)} vectors", got=f"{len(exclude)}",
                do="Pass as many, or None.",
            )  # fmt: skip
        k = max(int(k), 0)
        if not k or not len(queries):
            return Candidates(np.zeros((len(queries), k), np.int32), np.zeros((len(queries), k), np.float32))
        found = self._built(queries, k, allowed, exclude)
        if len(self._new_rows):
            keep = slice(None) if allowed is None else np.flatnonzero(_may(self._new_rows, allowed))
            rows, of = self._new_rows[keep], self._new_vectors[keep]
            found = merged(found, scan(of, rows, queries, k, None, _places(rows, exclude)), k)
        return found

    def _built(self, queries: F32, k: int, allowed: BoolArray | None, exclude: Ragged | None) -> Candidates:
        may = self._alive if allowed is None else self._alive & _may(self._rows, allowed)
        count, m = int(may.sum()), len(self._rows)
        places = None if self._plain else _places(self._rows, exclude)
        hidden = exclude if self._plain else places
        if self._graph is None or self._exact_pays(count) or k >= count // 4:
            if count == m:
                return scan(self._vectors, self._rows, queries, k, exclude, places)
            return self._over(np.flatnonzero(may), queries, k, exclude)
        effort = self._effort[min((share for share in self._effort if share * m >= count), default=1.0)]
        # As many more as may be excluded: what is left is then as long as it would be without exclusions.
        more = 0 if hidden is None or not len(hidden.values) else int(np.diff(hidden.indptr).max())
        most = min(-(-(k + more) // 64) * 64, m)
        scores, found = faiss_driver.search(self.kind, self._graph, queries, most, effort, None if count == m else may)
        if more and hidden is not None:
            for q in range(len(queries)):
                found[q, np.isin(found[q], hidden.row(q))] = -1
        scores = np.where(found >= 0, scores, np.nan).astype(np.float32)
        rows = np.where(found >= 0, self._rows[found], -1).astype(np.int32)
        order = np.lexsort((rows, np.where(np.isnan(scores), np.inf, -scores)), axis=1)[:, :k]
        out = Candidates(np.take_along_axis(rows, order, 1), np.take_along_axis(scores, order, 1))
        short = np.flatnonzero(out.items[:, -1] < 0)
        if len(short):  # what was read held too few that may be found
            again = self._over(np.flatnonzero(may), queries[short], k, _part(exclude, short))
            out.items[short], out.scores[short] = again.items, again.scores
        return out

    def _exact_pays(self, count: int) -> bool:
        """Whether reading the rows that may be found costs no more than the effort for so few of them."""
        if self.kind == "hnsw":
            return count <= 0.1 * len(self._rows)
        share = count / max(len(self._rows), 1)
        effort = self._effort[min((one for one in self._effort if one >= share), default=1.0)]
        return count * _READ_COST <= len(self._rows) * min(effort / self._graph.nlist, 1.0)

    def _over(self, places: I64, queries: F32, k: int, exclude: Ragged | None) -> Candidates:
        rows = self._rows[places]
        return scan(self._vectors[places], rows, queries, k, None, _places(rows, exclude))

    # ------------------------------------------------------------------------------------------------- changing

    def add(self, rows: I32, vectors: F32) -> None:
        """Rows with their vectors; one that is there already gets the new one. DataError if they do not fit."""
        rows, of = _checked_rows(rows), _checked(vectors, self.dim)
        if len(rows) != len(of):
            raise DataError(expected="a vector for each row", got=f"{len(rows)} and {len(of)}", do="Pass as many.")
        self.delete(rows)
        keep = len(rows) - 1 - np.unique(rows[::-1], return_index=True)[1]  # of a row that comes twice, the last
        every = np.concatenate([self._new_rows, rows[keep]])
        order = np.argsort(every, kind="stable")
        self._new_vectors = np.concatenate([self._new_vectors, of[keep]])[order]
        self._new_rows = every[order]

    def delete(self, rows: I32) -> int:
        """Forget rows; returns how many were there."""
        rows = _checked_rows(rows)
        place = np.searchsorted(self._rows, rows)
        place = np.unique(place[(place < len(self._rows))][self._rows[place[place < len(self._rows)]]
                                == rows[place < len(self._rows)]])  # fmt: skip
        gone = int(self._alive[place].sum())
        alive = self._alive.copy()  # a search that runs keeps its own
        alive[place] = False
        self._alive = alive
        stay = ~np.isin(self._new_rows, rows)
        gone += int((~stay).sum())
        self._new_rows, self._new_vectors = self._new_rows[stay], self._new_vectors[stay]
        return gone

    def rebuilt(self, *, seed: int = 0) -> Vectors:
        """A new index of all rows that are there now, measured anew."""
        places = np.flatnonzero(self._alive)
        rows = np.concatenate([self._rows[places], self._new_rows])
        return build_vectors(
            np.concatenate([self._vectors[places], self._new_vectors]), self.config, rows=rows, seed=seed
        )

    # ------------------------------------------------------------------------------------------------- keeping

    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder; the file that names the parts comes last."""
        arrays = {
            "rows": self._rows, "vectors": self._vectors, "alive": self._alive, "new_rows": self._new_rows,
            "new_vectors": self._new_vectors,
        }  # fmt: skip
        for name, array in arrays.items():
            np.save(folder / f"{name}.npy", array)
        if self._graph is not None:
            faiss_driver.write(self._graph, folder / _GRAPH)
        meta = _Meta(
            FORMAT, self.kind, self.config.model_dump(), {name: list(array.shape) for name, array in arrays.items()},
            {f"{share:g}": effort for share, effort in self._effort.items()},
            {f"{share:g}": recall for share, recall in self._recall.items()},
        )  # fmt: skip
        (folder / _META).write_bytes(msgspec.json.encode(meta))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map what `save` wrote. BuildError where it is missing, truncated or of another version."""

        def refuse(got: str) -> BuildError:
            return BuildError(expected=f"a saved index of vectors (format {FORMAT}) in {folder}", got=got,
                              do="Build again.")  # fmt: skip

        try:
            meta = msgspec.json.decode((folder / _META).read_bytes(), type=_Meta)
        except OSError as error:
            raise refuse(f"no readable {_META} ({error.strerror})") from error
        except msgspec.DecodeError as error:
            raise refuse(f"a {_META} that is not one") from error
        if meta.format != FORMAT:
            raise refuse(f"format {meta.format}")
        arrays: dict[str, npt.NDArray[Any]] = {}
        for name, dtype in _ARRAYS.items():
            shape = meta.shapes.get(name, [])
            try:
                # mmap of nothing is an error of the operating system, so empty arrays are read
                found = np.load(folder / f"{name}.npy", mmap_mode="c" if np.prod(shape) else None, allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise refuse(f"{name}.npy that is missing or truncated") from error
            if found.dtype != dtype or list(found.shape) != shape:
                raise refuse(f"{name}.npy with {found.dtype}{list(found.shape)} in place of {dtype.__name__}{shape}")
            arrays[name] = found.view(np.ndarray)
        graph = None
        if meta.kind != "exact":
            if not (folder / _GRAPH).is_file():
                raise refuse(f"no {_GRAPH}")
            graph = faiss_driver.read(folder / _GRAPH)
            if graph.ntotal != len(arrays["rows"]):
                raise refuse(f"{_GRAPH} of {graph.ntotal} rows in place of {len(arrays['rows'])}")
        return cls(
            VectorsConfig.model_validate(meta.config), meta.kind, arrays["rows"], arrays["vectors"], arrays["alive"],
            graph, {float(s): e for s, e in meta.effort.items()}, {float(s): r for s, r in meta.recall.items()},
            (arrays["new_rows"], arrays["new_vectors"]),
        )  # fmt: skip


def build_vectors(
    vectors: F32, config: VectorsConfig | None = None, *, rows: I32 | None = None, queries: F32 | None = None,
    seed: int = 0,
) -> Vectors:  # fmt: skip
    """An index over (m, d), its effort settled and its recall measured.

    rows: what each vector stands for, distinct; default 0, 1, 2, ... queries: such as will be asked; without them
    recall is measured on vectors of the index with a tenth of noise. Raises DataError for vectors that are not finite
    or rows that come twice, MissingExtraError where a kind of FAISS is asked for and FAISS is not there.
    """
    config = config or VectorsConfig()
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(
            expected="vectors as a matrix (rows, d), d above 0", got=f"shape {vectors.shape}", do="Pass such a one."
        )
    of = _checked(vectors, vectors.shape[1])
    m = len(of)
    names = np.arange(m, dtype=np.int32) if rows is None else _checked_rows(rows)
    if len(names) != m or len(np.unique(names)) != m:
        raise DataError(
            expected=f"a row of its own for each of {m} vectors", got=f"{len(np.unique(names))} distinct ones",
            do="Name each row once.",
        )  # fmt: skip
    if rows is not None and (names[1:] < names[:-1]).any():
        order = np.argsort(names)
        names, of = names[order], of[order]
    kind = config.kind
    if kind == "auto":
        kind = "ivf" if m > config.exact_up_to and faiss_driver.installed() else "exact"
    if m < 2:
        kind = "exact"
    alive = np.ones(m, np.bool_)
    if kind == "exact":
        return Vectors(config, kind, names, of, alive, None, {1.0: 0}, {1.0: 1.0})
    graph = faiss_driver.build(kind, of, config, seed)
    effort, recall = _settle(kind, graph, of, config, queries, seed)
    return Vectors(config, kind, names, of, alive, graph, effort, recall)


def _settle(
    kind: str, graph: Any, vectors: F32, config: VectorsConfig, queries: F32 | None, seed: int
) -> tuple[dict[float, int], dict[float, float]]:
    """The least effort that finds enough, for every share that a filter may let through."""
    rng = np.random.default_rng(seed)
    m, d = vectors.shape
    if queries is None:
        drawn = vectors[rng.choice(m, min(config.sample, m), replace=False)]
        length = np.linalg.norm(drawn, axis=1, keepdims=True)
        noise = rng.normal(size=drawn.shape).astype(np.float32) * (0.1 * length / d**0.5)
        queries = (drawn + noise).astype(np.float32)
    else:
        queries = _checked(queries, d)
        queries = queries[rng.choice(len(queries), min(config.sample, len(queries)), replace=False)]
    ladder = faiss_driver.efforts(kind, graph)
    every = np.arange(m, dtype=np.int32)
    effort: dict[float, int] = {}
    recall: dict[float, float] = {}
    least = 0
    for share in _SHARES:
        count = max(int(share * m), 1)
        direction = np.asarray(rng.normal(size=d), np.float32)
        away = np.zeros(m, np.bool_)  # a filter that goes with the vectors: hard, since what is near may all be hidden
        away[np.argpartition(vectors @ direction, m - count)[m - count :]] = True
        chance = np.zeros(m, np.bool_)
        chance[rng.choice(m, count, replace=False)] = True
        filters = [None] if count == m else [chance, away]
        truths = [
            scan(vectors, every, queries, _K, None, None) if one is None
            else scan(vectors[one], every[one], queries, _K, None, None)
            for one in filters
        ]  # fmt: skip
        wanted = config.recall if share == 1.0 else config.filtered_recall
        found, step = 0.0, least
        for step in range(least, len(ladder)):
            found = min(
                _found(faiss_driver.search(kind, graph, queries, 64, ladder[step], one)[1], truth.items)
                for one, truth in zip(filters, truths, strict=True)
            )
            if found >= min(wanted + _SLACK, 1.0):
                break
        least, effort[share], recall[share] = step, ladder[step], found
        if kind == "ivf" and count * _READ_COST <= m * ladder[step] / graph.nlist:
            recall[share] = 1.0  # answered exactly, and so are all that let fewer through
            break
        if kind == "hnsw" and count <= 0.1 * m:
            recall[share] = 1.0
            break
    return effort, recall


def _found(places: I64, truth: I32) -> float:
    """Share of the true nearest among the first as many that were found."""
    hits = sum(int(np.isin(want[want >= 0], got[:_K]).sum()) for got, want in zip(places, truth, strict=True))
    return hits / max(int((truth >= 0).sum()), 1)


def _may(rows: I32, allowed: BoolArray) -> BoolArray:
    """By row, whether it is allowed; rows beyond are not."""
    inside = rows < len(allowed)
    out = np.zeros(len(rows), np.bool_)
    out[inside] = allowed[rows[inside]]
    return out


def _places(rows: I32, exclude: Ragged | None) -> Ragged | None:
    """Excluded rows as places in ascending `rows`, -1 where there is none."""
    if exclude is None or not len(exclude.values) or not len(rows):
        return None if exclude is None else Ragged.empty(len(exclude))
    place = np.minimum(np.searchsorted(rows, exclude.values), len(rows) - 1)
    return Ragged(exclude.indptr, np.where(rows[place] == exclude.values, place, -1).astype(np.int32))


def _part(exclude: Ragged | None, which: I64) -> Ragged | None:
    return None if exclude is None else Ragged.of([exclude.row(int(q)) for q in which])


def _checked(vectors: F32, dim: int) -> F32:
    of = np.ascontiguousarray(vectors, np.float32)
    if of.ndim != 2 or of.shape[1] != dim:
        raise DataError(
            expected=f"vectors as a matrix (n, {dim})", got=f"shape {of.shape}", do="Ask with vectors of that length."
        )
    if not np.isfinite(of).all():
        bad = int((~np.isfinite(of).all(axis=1)).sum())
        raise DataError(
            expected="finite vectors", got=f"{bad} of {len(of)} that are not", do="Mend or leave out those rows."
        )
    return of


def _checked_rows(rows: I32) -> I32:
    of = np.asarray(rows)
    if of.ndim != 1 or (of.size and (of.dtype.kind not in "iu" or int(of.min()) < 0 or int(of.max()) >= 2**31)):
        raise DataError(
            expected="rows as whole numbers from 0 on",
            got=f"{of.dtype} of shape {of.shape}",
            do="Pass rows of the catalog.",
        )
    return of.astype(np.int32)
