"""Judgments of a workspace: a table, and a journal of what came over the API; files in and out; rankers compared."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.data import typed
from honeyguide.flows.layout import Layout
from honeyguide.schema import columns as c
from honeyguide.schema.tables import JUDGMENTS
from honeyguide.schema.wire import SearchRequest
from honeyguide.understanding.judgments import (
    GRADES,
    Judgment,
    agreement,
    compared,
    consensus,
    disagreement,
    newest,
    sampled,
)

if TYPE_CHECKING:
    pass

__all__ = ["append", "compare", "export", "fold", "import_file", "queue", "read", "sample", "summary"]

JOURNAL, QUEUE = "judgments.jsonl", "judgments_queue.json"
_QUERY, _ITEM, _GRADE, _ID = (
    ("query", "query_text", "q", "topic"), ("item_id", "doc_id", "docid", "document_id", "product_id", "id"),
    ("grade", "relevance", "label", "rating", "judgment", "score"), ("query_id", "qid", "topic_id"),
)  # fmt: skip


@contextmanager
def _alone(layout: Layout) -> Iterator[Path]:
    with disk_errors(layout.root), (layout.root / ".judgments").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield layout.root / JOURNAL


def append(layout: Layout, judgments: Sequence[Judgment]) -> None:
    """Keep judgments; on disk when it returns."""
    lines = [
        json.dumps([one.query, one.item_id, one.grade, one.rater, one.judged_at, one.language]) for one in judgments
    ]
    with _alone(layout) as path, path.open("a", encoding="utf-8") as file:
        file.write("".join(f"{line}\n" for line in lines))
        file.flush()
        os.fsync(file.fileno())


def read(layout: Layout) -> list[Judgment]:
    """Every judgment that counts: a rater's newest word on each pair."""
    with _alone(layout) as path:
        return newest([*_of_table(layout), *_of_journal(path)])


def fold(layout: Layout) -> list[Judgment]:
    """Move the journal into the table; all judgments."""
    import pyarrow as pa

    with _alone(layout) as path:
        had, came = _of_table(layout), _of_journal(path)
        told = newest([*had, *came])
        if came:
            columns = {
                c.QUERY: [one.query for one in told], c.ITEM_ID: [one.item_id for one in told],
                c.GRADE: pa.array([one.grade for one in told], pa.int32()), c.RATER: [one.rater for one in told],
                c.JUDGED_AT: pa.array([one.judged_at for one in told], pa.timestamp("us", tz="UTC")),
                c.LANGUAGE: pa.array([one.language for one in told], pa.string()),
            }  # fmt: skip
            Snapshots(layout.tables).write(
                JUDGMENTS.name, pa.table({str(k): v for k, v in columns.items()}, schema=JUDGMENTS.arrow())
            )
            path.unlink()
    return told


def _of_table(layout: Layout) -> list[Judgment]:
    rows = typed(Snapshots(layout.tables), JUDGMENTS)
    ats = rows[c.JUDGED_AT].cast("int64").to_pylist()
    names = (c.QUERY, c.ITEM_ID, c.GRADE, c.RATER)
    cells = zip(*(rows[name].to_pylist() for name in names), ats, rows[c.LANGUAGE].to_pylist(), strict=True)
    return [Judgment(*row) for row in cells]


def _of_journal(path: Path) -> list[Judgment]:
    if not path.exists():
        return []
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for at, line in enumerate(lines):
        try:
            found.append(Judgment(*json.loads(line)))
        except (ValueError, TypeError) as error:
            if at == len(lines) - 1:
                break  # the process ended while it wrote: that judgment was never promised
            raise DataError(
                expected=f"a judgment in line {at + 1} of {path}", got=line[:80], do="Remove it."
            ) from error
    return found


# ------------------------------------------------------------------------------------------------------- files


def import_file(
    folder: Path | str, path: Path, *, rater: str = "imported", queries: Path | None = None
) -> dict[str, Any]:
    """CSV, Parquet or TREC qrels into the table. queries: a file of query_id and query, for qrels that name ids.

    Grades are 0 to 3; qrels' negative grades count as 0 and those above 3 as 3. Rows without a query, an item or a
    grade are refused, and counted with their reason.
    """
    layout = Layout.open(folder)
    texts = {str(row["query_id"]): str(row["query"]) for row in _rows(queries)} if queries is not None else {}
    now = time.time_ns() // 1000
    told: list[Judgment] = []
    refused: Counter[str] = Counter()
    for row in _rows(path):
        query = _first(row, _QUERY) or texts.get(str(_first(row, _ID)))
        if query is None and not queries:
            query = _first(row, _ID)
        item, grade = _first(row, _ITEM), _first(row, _GRADE)
        if query is None or item is None or not str(query).strip():
            refused["no query" if item is not None else "no item"] += 1
            continue
        try:
            number = round(float(str(grade)))
        except (ValueError, OverflowError):
            refused["no grade"] += 1
            continue
        who = str(row.get("rater") or row.get("user") or rater)
        told.append(Judgment(str(query)[:1_000], str(item), min(max(number, 0), 3), who, now, row.get("language")))
    if not told:
        raise DataError(
            expected=f"query (or query_id), item_id and grade in {path}", got=", ".join(refused) or "no rows",
            do="Name the columns so; of TREC qrels give the texts with --queries.",
        )  # fmt: skip
    append(layout, told)
    return {"imported": len(told), "refused": dict(refused), "judgments": len(fold(layout))}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _rows(path: Path) -> list[dict[str, Any]]:
    import csv

    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
    if path.suffix == ".parquet":
        try:
            return pq.read_table(path).to_pylist()
        except pa.ArrowInvalid as error:
            raise DataError(expected=f"Parquet in {path}", got=str(error)[:200], do="Check the file.") from error
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(expected=f"UTF-8 in {path}", got=str(error), do="Save it as UTF-8.") from error
    first = lines[0] if lines else ""
    if path.suffix in (".qrels", ".trec", ".txt") or (first and not set(",;\t") & set(first)):
        split = [line.split() for line in lines if line.strip()]
        if any(len(parts) != 4 for parts in split):
            raise DataError(
                expected=f"four words in each line of {path}: query_id 0 item_id grade", got=first[:80] or "nothing",
                do="Give CSV or Parquet a header with query, item_id and grade.",
            )  # fmt: skip
        return [{"query_id": q, "item_id": item, "grade": grade} for q, _, item, grade in split]
    delimiter = max(",;\t", key=first.count)
    return [
        {str(k).strip().casefold(): v for k, v in row.items()} for row in csv.DictReader(lines, delimiter=delimiter)
    ]


def export(folder: Path | str, out: Path) -> dict[str, Any]:
    """`queries.parquet` (query_id, query, language) and `qrels.parquet` (query_id, item_id, grade: the median)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = fold(Layout.open(folder))
    if not told:
        raise DataError(expected="judgments", got="none", do="Import some, or judge on the console's page.")
    grades = consensus(told)
    languages = {one.query: one.language for one in told if one.language is not None}
    ids = {query: f"q{at:06}" for at, query in enumerate(sorted(grades), 1)}
    out.mkdir(parents=True, exist_ok=True)
    texts = list(ids)
    pq.write_table(
        pa.table({"query_id": list(ids.values()), "query": texts,
                  "language": pa.array([languages.get(query) for query in texts], pa.string())}),
        out / "queries.parquet",
    )  # fmt: skip
    rows = [(ids[query], item, grade) for query in texts for item, grade in grades[query].items()]
    names = ("query_id", "item_id", "grade")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), out / "qrels.parquet")
    return {"folder": str(out), "queries": len(ids), "judgments": len(rows)}


# ----------------------------------------------------------------------------------------------------- rankers


Ranker = Callable[[str], list[str]]


def compare(
    folder: Path | str, *, builds: Sequence[str] = (), runs: Sequence[Path] = (), k: int = 10
) -> list[dict[str, Any]]:
    """The search in service, other builds and TREC runs (query_id Q0 item_id rank score name) on what was judged."""
    layout = Layout.open(folder)
    grades = consensus(fold(layout))
    if not grades:
        raise DataError(expected="judgments", got="none", do="Import some, or judge on the console's page.")
    found = {name: {query: ranker(query) for query in grades} for name, ranker in _rankers(layout, builds, 5 * k)}
    for path in runs:
        found[path.stem] = _run(path)
    return compared(found, grades, k=k)


def _rankers(layout: Layout, builds: Sequence[str], depth: int) -> Iterator[tuple[str, Ranker]]:
    from honeyguide.flows import answer
    from honeyguide.flows.live import Live
    from honeyguide.flows.wiring import open_desk

    def asking(search: Callable[[SearchRequest], Any]) -> Ranker:
        return lambda query: [
            item.item_id for item in search(SearchRequest(query, k=min(depth, 200), log=False)).items
        ]  # fmt: skip

    with closing(open_desk(str(layout.root), writable=False, watch=False)) as desk:
        yield "in service", asking(desk.search)
    for build in builds:
        live = Live(layout, None, build_id=build)
        yield build, asking(lambda request, live=live: answer.search(live, request))  # type: ignore[misc]


def _run(path: Path) -> dict[str, list[str]]:
    found: dict[str, list[tuple[int, str]]] = {}
    if not path.exists():
        raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
    for line in path.read_text(encoding="utf-8").splitlines():
        parts = line.rsplit(maxsplit=5)  # the query itself may stand where its id should, spaces and all
        if len(parts) != 6 or not parts[3].isdigit():
            raise DataError(
                expected="query Q0 item_id rank score name in each line", got=line[:80], do="See docs/judgments.md."
            )
        found.setdefault(parts[0], []).append((int(parts[3]), parts[2]))
    return {query: [item for _, item in sorted(rows)] for query, rows in found.items()}


def sample(
    folder: Path | str, *, n: int = 50, by: str = "mixed", against: str | None = None, seed: int = 0
) -> dict[str, Any]:
    """Choose queries of the log to judge, and make them the queue of the console's page.

    by: head, tail, disagreement (of the search in service and the build `against`, or the same without any word but the
    words) or mixed.
    """
    layout = Layout.open(folder)
    if by not in ("head", "tail", "disagreement", "mixed"):
        raise RequestError(expected="head, tail, disagreement or mixed", got=repr(by), do="Choose one.")
    from honeyguide.flows.past_queries import volumes

    asked = volumes(layout)
    if not asked:
        raise DataError(expected="searches in the log", got="none", do="Serve the workspace, or import judgments.")
    done = [*consensus(read(layout))]
    apart: dict[str, float] = {}
    if by in ("disagreement", "mixed") and against is not None:
        lists = [{q: ranker(q) for q in list(asked)[:500]} for _, ranker in _rankers(layout, [against], 10)]
        apart = {query: disagreement(lists[0][query], lists[1][query]) for query in lists[0]}
    elif by == "disagreement":
        raise RequestError(
            expected="--against BUILD, a ranker to disagree with",
            got="none",
            do="`honeyguide models list` names builds.",
        )
    chosen = sampled(asked, n, by, done=done, apart=apart, seed=seed)
    with disk_errors(layout.root):
        atomic_write(layout.root / QUEUE, json.dumps(chosen).encode())
    rows = [{"query": q, "searches": asked[q], "disagreement": apart.get(q)} for q in chosen]
    return {"by": by, "queries": rows, "of": len(asked), "judged_already": len(done)}


def queue(layout: Layout) -> list[str]:
    """Queries that wait to be judged: those that `sample` chose, else the most frequent ones of the log."""
    path = layout.root / QUEUE
    if path.exists():
        return [str(query) for query in json.loads(path.read_text())]
    from honeyguide.flows.past_queries import volumes

    return list(volumes(layout))[:100]


def summary(layout: Layout) -> dict[str, Any]:
    """What was judged, by whom, how well they agree, and what waits."""
    told = read(layout)
    by_grade = Counter(one.grade for one in told)
    judged = {one.query for one in told}
    waiting = [query for query in queue(layout) if query not in judged]
    return {
        "judgments": len(told), "queries": len(judged), "waiting": len(waiting),
        "grades": [{"grade": grade, "means": GRADES[grade], "n": by_grade[grade]} for grade in GRADES],
        **agreement(told),
    }  # fmt: skip
