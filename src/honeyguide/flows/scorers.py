"""Scorers from outside, wired: files read, endpoints connected, and their scores of the rows that heads learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F64, I64, Ragged, RankInput
from honeyguide.engines.http.posting import Posting
from honeyguide.errors import ConfigError, DataError
from honeyguide.ranking.deep.nets import DeepNet
from honeyguide.ranking.external import HttpScorer, OnnxScorer, Outside, ParquetScorer
from honeyguide.ranking.heads import HeadConfig, ScorerConfig
from honeyguide.ranking.models import Given
from honeyguide.ranking.rows import Rows
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

if TYPE_CHECKING:
    from honeyguide.engines.onnx.session import OnnxModel

__all__ = ["LOADERS", "key_of_files", "scores_of", "scorer_of"]

BUILD_DEADLINE_MS = 10_000.0
"""What an endpoint may take for a batch while the build asks: nobody waits for a page."""
MOST_ASKED = 60_000
"""Rows that an endpoint is asked about by a build, the newest: enough to choose, calibrate and measure on."""


def scorer_of(
    head: HeadConfig, root: Path, columns: Sequence[str], users: Vocabulary, items: Vocabulary
) -> Outside:  # fmt: skip
    """The scorer of a head. root: the workspace, where paths begin. ConfigError or DataError if it cannot be read."""
    config = head.scorer
    if config is None:
        raise ValueError(f"head {head.name!r} has no scorer")
    if config.kind == "http":
        scorer = HttpScorer(head.name, config, columns, Posting(config.url, config.headers))
        scorer.bind(lambda: (users.ids, items.ids))
        return scorer
    path = root / config.path
    if not path.is_file():
        raise ConfigError(
            expected=f"a file at {path}, which scores head {head.name!r}", got="nothing there",
            do="Mend `path` of the scorer in [[heads]]; it begins at the workspace's folder.",
        )  # fmt: skip
    if config.kind == "onnx":
        return OnnxScorer(head.name, config, columns, path, _open)
    return _parquet(head, config, path, users, items)


def _parquet(head: HeadConfig, config: ScorerConfig, path: Path, users: Vocabulary, items: Vocabulary) -> ParquetScorer:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        missing = [name for name in (c.ITEM_ID, c.SCORE) if name not in names]
        if missing:
            raise DataError(
                expected=f"columns {c.ITEM_ID} and {c.SCORE} (and {c.USER_ID}, if scores differ by person) in {path}",
                got=f"no {', '.join(missing)}; there are {', '.join(names[:12])}",
                do="Write the table with these columns.",
            )
        by_user = c.USER_ID in names
        table = pq.read_table(path, columns=[c.ITEM_ID, c.SCORE, *([c.USER_ID] if by_user else [])])
        scores = pc.cast(table[c.SCORE], pa.float64()).to_numpy()
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            expected=f"a Parquet table of scores in {path}", got=str(error).splitlines()[0], do="Write it again."
        ) from error

    def rows(name: str, known: Vocabulary) -> I64:
        found = pc.index_in(pc.cast(table[name], pa.string()), value_set=pa.array(known.ids, pa.string()))
        return pc.fill_null(found, -1).to_numpy().astype(np.int64)

    key = item = rows(c.ITEM_ID, items)
    known = item >= 0
    if by_user:
        user = rows(c.USER_ID, users)
        key, known = user * len(items) + item, known & (user >= 0)
    key, scores = key[known], scores[known]
    if not len(key):
        raise DataError(
            expected=f"scores of items of this catalog in {path}",
            got=f"{table.num_rows} rows, none of which names a known item" + (" and person" if by_user else ""),
            do=f"Write the ids as the workspace has them in {c.ITEM_ID}" + (f" and {c.USER_ID}." if by_user else "."),
        )
    order = np.argsort(key, kind="stable")
    key, scores = key[order], scores[order]
    twice = np.flatnonzero(key[1:] == key[:-1])
    if len(twice):
        raise DataError(
            expected=f"each item{' and person' if by_user else ''} once in {path}", got=f"{len(twice)} of them twice",
            do="Keep the row that counts.",
        )  # fmt: skip
    return ParquetScorer(head.name, config, key, scores, len(items), by_user)


def scores_of(heads: Sequence[HeadConfig], root: Path, columns: Sequence[str], rows: Rows, users: Vocabulary,
              items: Vocabulary) -> dict[str, list[Given]]:  # fmt: skip
    """What the scorers of these heads say of the rows, by head."""
    found: dict[str, list[Given]] = {}
    for index, head in enumerate(heads):
        if head.scorer is None:
            continue
        scorer = scorer_of(head, root, columns, users, items)
        known = np.flatnonzero(~np.isnan(rows.labels[:, index]))
        if head.scorer.kind == "http":
            newest = np.argsort(rows.at[known], kind="stable")[-MOST_ASKED:]
            known = np.sort(known[newest])
        found[head.name] = [Given(scorer, _ask(scorer, rows, known, head.scorer), {})]
    return found


def _ask(scorer: Outside, rows: Rows, known: I64, config: ScorerConfig) -> F64:
    """Scores by row, nan for rows that are not asked about."""
    out = np.full(len(rows.at), np.nan)
    serving, step = scorer.config, config.batch if config.kind == "http" else 8_192
    scorer.config = config.model_copy(update={"deadline_ms": max(config.deadline_ms, BUILD_DEADLINE_MS)})
    for start in range(0, len(known), step):
        part = known[start : start + step]
        out[part] = scorer.raw(_rows_as_input(rows, part))[:, 0]
    scorer.config = serving
    scorer.lapses.clear()
    scorer.lapsed = ""
    return out


def _rows_as_input(rows: Rows, part: I64) -> RankInput:
    """Rows as requests of one candidate each."""
    n = len(part)
    nobody = np.full(n, -1, np.int32)
    return RankInput(
        features=rows.features[part], request=np.arange(n, dtype=np.int32),
        items=nobody if rows.item is None else rows.item[part], users=nobody if rows.user is None else rows.user[part],
        at_us=rows.at[part], histories=Ragged.empty(n), history_at=np.zeros(0, np.int64),
        history_weights=np.zeros(0, np.float32), history_values=np.zeros(0, np.float32), seeds=Ragged.empty(n),
    )  # fmt: skip


def key_of_files(heads: Sequence[HeadConfig], root: Path) -> dict[str, Any]:
    """What says that a scorer's file is another one: size and time of change, by head."""
    found = {}
    for head in heads:
        if head.scorer is not None and head.scorer.kind != "http" and (root / head.scorer.path).is_file():
            stat = (root / head.scorer.path).stat()
            found[head.name] = [stat.st_size, stat.st_mtime_ns]
    return found


def _open(path: Path, outputs: Sequence[str] | None) -> OnnxModel:
    # ONNX Runtime is an extra: nobody pays for it who has no such scorer.
    from honeyguide.engines.onnx.session import OnnxModel

    return OnnxModel(path, None, outputs)


LOADERS: Mapping[str, Any] = {
    "deep": DeepNet.load,
    "onnx": lambda folder: OnnxScorer.load(folder, _open),
    "parquet": ParquetScorer.load,
    "http": lambda folder: HttpScorer.load(folder, lambda config: Posting(config.url, config.headers)),
}
"""How parts of a ranker are read again, by kind."""
