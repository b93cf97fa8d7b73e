"""Candidates for everybody as one file: a batch of any size in bounded memory, with what may and may not be in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import I32, Progress, Queries, Ragged
from honeyguide.errors import NotFoundError
from honeyguide.flows.answer import SEEN_LIMIT
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live
from honeyguide.schema import columns as c

__all__ = ["BLOCK", "candidates", "questions"]

BLOCK = 8_192
"""People at a time: memory is theirs, however many there are."""


def candidates(
    folder: Path | str, out: Path, *, k: int = 100, source: str | None = None, allow: Path | None = None,
    deny: Path | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Write `k` candidates of every known person to a Parquet file: person, item, position, score, best first.

    source: one of the build's sources in place of the blend of home. What people have had is left out. allow: a file
    with an item id per line, all others are left out; deny: those are. NotFoundError for ids of neither a source nor an
    item; what the filters leave empty has no rows, and `empty` counts these people.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    layout = Layout.open(folder)
    layout.current_build()
    log = open_log(layout.log, WorkspaceConfig.load(layout.config)) if layout.log.exists() else None
    try:
        live = Live(layout, log)
        asked = live.pipeline.blend if source is None else live.pipeline.sources.get(source)
        if asked is None:
            raise NotFoundError(
                expected=f"a source of this build ({', '.join(live.pipeline.sources)})", got=repr(source),
                do="Name one of them, or none for the blend.",
            )  # fmt: skip
        barred = _barred(live, allow, deny)
        surface = live.config.surface("home")
        now, people = live.now_us(), len(live.users)
        ids = np.array(live.catalog.items.ids, object)
        schema = pa.schema([(c.USER_ID, pa.string()), (c.ITEM_ID, pa.string()), (c.POSITION, pa.int32()),
                            (c.SCORE, pa.float32())])  # fmt: skip
        rows = empty = 0
        partial = out.with_name(f".{out.name}.partial")
        with pq.ParquetWriter(partial, schema, compression="zstd") as writer:
            for start in range(0, people, BLOCK):
                if progress is not None:
                    progress("people", start, people)
                stop = min(start + BLOCK, people)
                found = asked.retrieve(questions(live, start, stop, surface.history, now, barred), k)
                real = found.items >= 0
                person, slot = np.nonzero(real)
                empty += int((~real.any(axis=1)).sum())
                rows += len(person)
                named = np.array([live.users.id(row) for row in range(start, stop)], object)
                writer.write_table(
                    pa.table([named[person], ids[found.items[real]], slot.astype(np.int32) + 1, found.scores[real]],
                             schema=schema)
                )  # fmt: skip
        partial.replace(out)
        if progress is not None:
            progress("people", people, people)
    finally:
        if log is not None:
            log.close()
    return {"path": str(out), "people": people, "rows": rows, "empty": empty, "source": source or "blend"}


def questions(live: Live, start: int, stop: int, limit: int, now: int, barred: I32) -> Queries:
    """What people ask now, from row `start` to `stop`: their newest `limit` events, without what they have had."""
    pasts = [live.online.history(user, SEEN_LIMIT, now) for user in range(start, stop)]
    newest = [slice(max(len(past.items) - limit, 0), None) for past in pasts]
    history = Ragged.of([past.items[part] for past, part in zip(pasts, newest, strict=True)])
    exclude = Ragged.of([np.concatenate([past.items[live.had[past.actions]], barred]) for past in pasts])
    return Queries(
        history.indptr, history.values,
        np.concatenate([past.weights[part] for past, part in zip(pasts, newest, strict=True)]),
        np.concatenate([past.at[part] for past, part in zip(pasts, newest, strict=True)]),
        np.full(stop - start, now, np.int64), live.segment_rows(np.arange(start, stop)).astype(np.int32), exclude,
    )  # fmt: skip


def _barred(live: Live, allow: Path | None, deny: Path | None) -> I32:
    """Rows of the catalog that nobody gets."""
    barred = ~np.asarray(live.catalog.available, np.bool_)
    if allow is not None:
        allowed = np.zeros(len(barred), np.bool_)
        allowed[_rows(live, allow)] = True
        barred |= ~allowed
    if deny is not None:
        barred[_rows(live, deny)] = True
    return np.flatnonzero(barred).astype(np.int32)


def _rows(live: Live, path: Path) -> I32:
    names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    rows = live.catalog.items.rows(names)
    unknown = [name for name, row in zip(names, rows.tolist(), strict=True) if row < 0]
    if unknown:
        raise NotFoundError(
            expected=f"ids of items in {path}", got=", ".join(map(repr, unknown[:3])), do="Take these lines out."
        )
    return rows
