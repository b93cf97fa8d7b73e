"""The vectors that a source has learnt of people or items, as one file: for rankers, search and segments elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from honeyguide.contracts import F32, I32, Progress
from honeyguide.errors import ConfigError, NotFoundError, RequestError
from honeyguide.flows.candidates import BLOCK, questions
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.retrieval.deep.semantic import clusters
from honeyguide.schema import columns as c

__all__ = ["source_vectors"]

_NONE = np.zeros(0, np.int32)


def source_vectors(
    folder: Path | str, out: Path, *, source: str = "sequence", of: Literal["people", "items"] = "people",
    segments: int = 0, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write a vector for every person (or item) to a Parquet file: id, vector, and with `segments` the nearest of so
    many centres (k-means), the largest group first.

    A person's vector is that of the moment, with all that the log has brought. NotFoundError for a source that the
    build has not, ConfigError for one without vectors, RequestError for more segments than there are rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = Layout.open(folder)
    layout.current_build()
    log = open_log(layout.log, WorkspaceConfig.load(layout.config)) if layout.log.exists() else None
    try:
        live = Live(layout, log)
        asked: Any = live.pipeline.sources.get(source)
        if asked is None:
            raise NotFoundError(
                expected=f"a source of this build ({', '.join(live.pipeline.sources)})", got=repr(source),
                do="Name one of them, or add it to [[sources]] and build.",
            )  # fmt: skip
        if not hasattr(asked, "user_vectors" if of == "people" else "item_vectors"):
            raise ConfigError(
                expected=f"a source with vectors of {of}, such as `sequence` or `towers`", got=f"`{source}`",
                do="Name another with --source.",
            )  # fmt: skip
        vectors = _of_people(live, asked, progress) if of == "people" else np.asarray(asked.item_vectors())
        names = live.users if of == "people" else live.catalog.items
        ids = [names.id(row) for row in range(len(vectors))]
    finally:
        if log is not None:
            log.close()
    if segments > len(vectors):
        raise RequestError(
            expected=f"at most {len(vectors)} segments, as many as there are {of}", got=str(segments),
            do="Ask for fewer.",
        )  # fmt: skip
    columns: dict[str, Any] = {
        str(c.USER_ID if of == "people" else c.ITEM_ID): pa.array(ids, pa.string()),
        str(c.VECTOR): pa.array(list(vectors.astype(np.float64)), pa.list_(pa.float64())),
    }
    if segments:
        columns[str(c.SEGMENT)] = pa.array([str(one) for one in _groups(vectors, segments)], pa.string())
    partial = out.with_name(f".{out.name}.partial")
    pq.write_table(pa.table(columns), partial, compression="zstd")
    partial.replace(out)
    return {"path": str(out), "rows": len(vectors), "d": int(vectors.shape[1]), "source": source, "of": of,
            "segments": segments}  # fmt: skip


def _of_people(live: Live, source: Any, progress: Progress | None) -> F32:
    limit, now, people = live.config.surface("home").history, live.now_us(), len(live.users)
    parts: list[F32] = []
    for start in range(0, people, BLOCK):
        if progress is not None:
            progress("people", start, people)
        parts.append(source.user_vectors(questions(live, start, min(start + BLOCK, people), limit, now, _NONE)))
    return np.concatenate(parts) if parts else np.zeros((0, 1), np.float32)


def _groups(vectors: F32, segments: int) -> I32:
    """The group of each row, 0 the largest."""
    found = clusters(vectors, segments, seed=0)
    size = np.bincount(found, minlength=segments)
    place = np.empty(segments, np.int32)
    place[np.argsort(-size, kind="stable")] = np.arange(segments)
    return place[found]
