"""Judged search as tables: a folder's items, queries and judgments, whatever their columns are called there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F32, I32, I64, CatalogView
from honeyguide.errors import DataError
from honeyguide.intake.catalog import catalog_view, items_table
from honeyguide.schema.wire import Item

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Judged", "folders", "load"]

ITEMS_FILE, QUERIES_FILE, QRELS_FILE = "items.parquet", "queries.parquet", "qrels.parquet"


@dataclass(frozen=True)
class Judged:
    """A catalog and judged queries. `rows[i]` and `grades[i]` are query i's judgments, sorted by row."""

    name: str
    view: CatalogView
    popularity: F32 | None  # higher first; None where nothing of the kind is known
    queries: list[str]
    rows: list[I32]
    grades: list[F32]

    def sample(self, most: int, seed: int = 0) -> Judged:
        """So many of the queries, drawn with a fixed seed, in the drawn order."""
        if len(self.queries) <= most:
            return self
        return self.part(np.random.default_rng(seed).permutation(len(self.queries))[:most])

    def part(self, which: Sequence[int] | I32 | I64) -> Judged:
        """Some of the queries."""
        chosen = [int(at) for at in which]
        return replace(
            self, queries=[self.queries[at] for at in chosen], rows=[self.rows[at] for at in chosen],
            grades=[self.grades[at] for at in chosen],
        )  # fmt: skip


def folders(data: Path) -> list[Path]:
    """The folder itself if it holds judged search, else those of its folders that do."""
    found = [data] if _reader(data) is not None else sorted(one for one in data.iterdir() if _reader(one) is not None)
    if not found:
        raise DataError(
            expected=f"{ITEMS_FILE}, {QUERIES_FILE} and {QRELS_FILE} in {data}",
            got=", ".join(sorted(one.name for one in data.iterdir())[:8]) or "nothing",
            do="Name a folder of judged queries; docs/search.md tells the columns.",
        )
    return found


def load(folder: Path) -> Judged:
    """Read one folder; DataError if a file or column is missing, or no query has a judgment of an item."""
    reader = _reader(folder)
    if reader is None:
        raise DataError(
            expected=f"{ITEMS_FILE}, {QUERIES_FILE} and {QRELS_FILE} in {folder}",
            got="others",
            do="Name another folder.",
        )
    return reader(folder)


def _reader(folder: Path) -> Callable[[Path], Judged] | None:
    if not folder.is_dir():
        return None
    have = {one.name for one in folder.iterdir()}
    for files, reader in (
        ({ITEMS_FILE, QUERIES_FILE, QRELS_FILE}, _stated),
        ({"corpus.parquet", "judgments.parquet"}, _films),
        ({"products.parquet", QRELS_FILE}, _products),
        ({"docs.parquet", QUERIES_FILE, QRELS_FILE}, _documents),
    ):
        if files <= have:
            return reader
    return None


def _table(path: Path, needs: Sequence[str]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(expected=f"a Parquet file {path.name}", got=str(error)[:200], do="Write it again.") from error
    gone = [name for name in needs if name not in table.column_names]
    if gone:
        raise DataError(
            expected=f"the columns {', '.join(needs)} in {path.name}", got=f"no {', '.join(gone)}",
            do="docs/search.md tells the columns.",
        )  # fmt: skip
    return table


def _stated(folder: Path) -> Judged:
    rows = _table(folder / ITEMS_FILE, ("item_id",)).to_pylist()
    known = ("item_id", "title", "description", "categories", "people", "country", "year", "price", "popularity")

    def attributes(row: Mapping[str, Any]) -> dict[str, Any]:
        told = row.get("attributes")
        extra = {key: value for key, value in row.items() if key not in (*known, "attributes", "available", "known_at")}
        return _scalars({**_object(told), **extra})

    items = [
        Item(
            str(row["item_id"]), title=_text(row.get("title")), description=_text(row.get("description")),
            categories=_texts(row.get("categories")), people=_texts(row.get("people")),
            country=_text(row.get("country")), year=_whole(row.get("year")), price=_number(row.get("price")),
            attributes=attributes(row),
        )
        for row in rows
    ]  # fmt: skip
    popular = None
    if rows and "popularity" in rows[0]:
        popular = np.array([row["popularity"] or 0 for row in rows], np.float32)
    queries = _table(folder / QUERIES_FILE, ("query_id", "query"))
    qrels = _table(folder / QRELS_FILE, ("query_id", "item_id", "grade"))
    return _judged(
        folder.name, items, popular,
        dict(zip(map(str, queries["query_id"].to_pylist()), queries["query"].to_pylist(), strict=True)),
        _rows(qrels, ("query_id", "item_id", "grade")),
    )  # fmt: skip


def _rows(table: pa.Table, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """Rows of three columns, the ids as text."""
    query, item, grade = (table[name].to_pylist() for name in names)
    return [(str(q), str(i), g) for q, i, g in zip(query, item, grade, strict=True)]


def _films(folder: Path) -> Judged:
    rows = _table(folder / "corpus.parquet", ("id", "title", "overview", "votes")).to_pylist()
    items = [
        Item(
            row["id"], title=row["title"], description=row["overview"], categories=_texts(row["genres"]),
            people=_texts([row["director"], *(row["actors"] or [])]), year=_whole(row["year"]),
            attributes={
                "tags": " . ".join(row["tags"] or []), "characters": " . ".join(row["characters"] or []),
                "rating": row["rating"],
            },
        )
        for row in rows
    ]  # fmt: skip
    told = _table(folder / "judgments.parquet", ("query_id", "query", "doc_id", "grade"))
    queries = dict(zip(told["query_id"].to_pylist(), told["query"].to_pylist(), strict=True))
    grades = (told[name].to_pylist() for name in ("query_id", "doc_id", "grade"))
    votes = np.array([row["votes"] for row in rows], np.float32)
    return _judged(folder.name, items, votes, queries, zip(*grades, strict=True))


def _products(folder: Path) -> Judged:
    rows = _table(folder / "products.parquet", ("id", "title", "short_description", "supplier", "attrs")).to_pylist()
    items = []
    for row in rows:
        told = {key.removeprefix("attr_t_"): value for key, value in _object(row["attrs"]).items() if "attr_t_" in key}
        category = _text(row["product_type"])
        items.append(
            Item(
                row["id"], title=row["title"] or row["name"], description=row["short_description"],
                categories=[category] if category else [], people=_texts([row["supplier"]]),
                price=_number(row["price"]), attributes={"model": row["name"] or "", **_scalars(told)},
            )
        )  # fmt: skip
    qrels = _table(folder / QRELS_FILE, ("query", "docid", "rating"))
    asked = qrels["query"].to_pylist()
    grades = zip(asked, qrels["docid"].to_pylist(), qrels["rating"].to_pylist(), strict=True)
    return _judged(folder.name, items, None, {one: one for one in sorted(set(asked))}, grades)


def _documents(folder: Path) -> Judged:
    rows = _table(folder / "docs.parquet", ("doc_id", "title", "raw")).to_pylist()
    items = [
        Item(row["doc_id"], title=row["title"], description=_body(row["title"] or "", row["raw"] or "")) for row in rows
    ]
    queries = _table(folder / QUERIES_FILE, ("query_id", "text"))
    qrels = _table(folder / QRELS_FILE, ("query_id", "doc_id", "rel"))
    return _judged(
        folder.name, items, None,
        dict(zip(queries["query_id"].to_pylist(), queries["text"].to_pylist(), strict=True)),
        zip(*(qrels[name].to_pylist() for name in ("query_id", "doc_id", "rel")), strict=True),
    )  # fmt: skip


def _body(title: str, raw: str) -> str:
    """A document without its title and without the lines that say when and by whose hand it was typed in."""
    lines = raw.removeprefix(title).splitlines()
    return "\n".join(
        line for line in lines if not (line.startswith("CA") and line[2:8].isdigit()) and "CACM" not in line
    )


def _judged(name: str, items: Sequence[Item], popularity: F32 | None, queries: Mapping[str, str], qrels: Any) -> Judged:
    view = catalog_view(items_table(items, 0))
    of: dict[str, dict[int, float]] = {}
    place = {item.item_id: row for row, item in enumerate(items)}
    for query_id, item_id, grade in qrels:
        if item_id in place and query_id in queries:
            of.setdefault(query_id, {})[place[item_id]] = float(grade)
    kept = sorted(one for one, grades in of.items() if any(grade > 0 for grade in grades.values()))
    if not kept:
        raise DataError(
            expected="queries with judged items of the catalog", got="none", do="Check the ids of queries and items."
        )
    rows = [np.array(sorted(of[one]), np.int32) for one in kept]
    grades = [
        np.array([of[one][row] for row in mine.tolist()], np.float32) for one, mine in zip(kept, rows, strict=True)
    ]
    return Judged(name, view, popularity, [queries[one] or "" for one in kept], rows, grades)


def _object(told: Any) -> dict[str, Any]:
    import json

    if isinstance(told, dict):
        return told
    try:
        found = json.loads(told) if told else {}
    except ValueError as error:
        raise DataError(expected="attributes as JSON objects", got=str(error), do="Write them so.") from error
    return found if isinstance(found, dict) else {}


def _scalars(told: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in told.items():
        if isinstance(value, list):
            out[key] = " . ".join(str(one) for one in value)
        elif isinstance(value, str | int | float | bool):
            out[key] = value
    return out


def _text(value: Any) -> str | None:
    return str(value) if value not in (None, "") else None


def _texts(value: Any) -> list[str]:
    return list(dict.fromkeys(str(one) for one in (value if isinstance(value, list) else [value]) if one))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value == value and value >= 0 else None


def _whole(value: Any) -> int | None:
    return int(value) if isinstance(value, int | float) and value == value and -5000 <= value <= 3000 else None
