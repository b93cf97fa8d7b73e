"""The catalog: items and people from files through the gate, as arrays for the rooms, and to and from the wire."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import CatalogView, Ragged, TablesEngine
from honeyguide.intake import values
from honeyguide.intake.files import Raw, RawFile, read
from honeyguide.intake.importers import Detected, resolve
from honeyguide.intake.quality import (
    MAX_ID_LENGTH,
    BatchCheck,
    Gate,
    Report,
    Tally,
    concluded,
    fitted,
    gate_times,
    judge,
)
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import ITEMS, USERS, Table
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import Item

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "ItemsLoad",
    "UsersLoad",
    "bare_items",
    "catalog_view",
    "items_table",
    "load_items",
    "load_users",
    "put_items",
    "put_rows",
    "start_of_year_us",
    "wire_items",
]

_TITLE_YEAR = r"\((?P<year>(?:18|19|20)\d\d)\)\s*$"
_FALSE = ["0", "false", "False", "FALSE", "f", "no", "No", "NO", "n"]


@dataclass(frozen=True, slots=True)
class ItemsLoad:
    """`items` (a row per id, in the file's order) + `quarantine` = rows in."""

    items: pa.Table
    quarantine: pa.Table
    report: Report


@dataclass(frozen=True, slots=True)
class UsersLoad:
    """`users` (a row per id, in the file's order) + `quarantine` = rows in."""

    users: pa.Table
    quarantine: pa.Table
    report: Report


Source = Path | RawFile | Iterable[Raw]


def load_items(
    engine: TablesEngine,
    source: Source,
    *,
    mapping: Mapping[Column, str] | None = None,
    had: pa.Table | None = None,
    checks: Sequence[BatchCheck] = (),
    warns: Collection[str] = (),
    now: int,
) -> ItemsLoad:
    """Read a file of items through the gate; columns that are none of ours go to `attributes`.

    Of several rows with one id the newest stays (by `known_at` if the file has it, else the last). Without a time
    column a fact counts as known from the start of the item's year, else from 1970: say `known_at` if it was learnt
    later, or training reads the future.

    had: the catalog so far. A row that says of an item what is known already is a duplicate, one with an older
    `known_at` is superseded; any other takes its place, but for the columns that the file does not have.
    """
    raw = read(source)
    found = resolve(raw, ITEMS, mapping)
    gate, notes = Gate(raw, warns), list[str]()
    columns: dict[str, pa.Array] = {c.ITEM_ID: _id(gate, found, c.ITEM_ID, "missing_item")}
    for column in (c.TITLE, c.DESCRIPTION, c.COUNTRY, c.LANGUAGE, c.IMAGE_URL):
        if column in found.mapping:
            columns[column] = values.text(raw.table[found.mapping[column]])
    for column in (c.CATEGORIES, c.PEOPLE):
        if column in found.mapping:
            # RecBole's token_seq is cut at spaces, and so are the genres in its `token` columns.
            spaces = found.mapping[column] in raw.sequences or (raw.format == "recbole" and column == c.CATEGORIES)
            columns[column] = values.lists(raw.table[found.mapping[column]], spaces=spaces)
    columns |= _price_and_year(gate, found, columns.get(c.TITLE), notes)
    columns[c.ATTRIBUTES] = _attributes(gate, found, notes)
    columns[c.AVAILABLE] = _available(gate, found)
    columns[c.KNOWN_AT] = _known_at(gate, found, columns.get(c.YEAR), now, notes)
    return ItemsLoad(*_newest(engine, gate, found, ITEMS, columns, now, notes, had, checks))


def load_users(
    engine: TablesEngine,
    source: Source,
    *,
    mapping: Mapping[Column, str] | None = None,
    had: pa.Table | None = None,
    checks: Sequence[BatchCheck] = (),
    warns: Collection[str] = (),
    now: int,
) -> UsersLoad:
    """Read a file of people through the gate; all columns but the id go to `attributes`. Else as `load_items`."""
    raw = read(source)
    found = resolve(raw, USERS, mapping)
    gate, notes = Gate(raw, warns), list[str]()
    columns: dict[str, pa.Array] = {
        c.USER_ID: _id(gate, found, c.USER_ID, "missing_user"),
        c.ATTRIBUTES: _attributes(gate, found, notes),
    }
    columns[c.KNOWN_AT] = _known_at(gate, found, None, now, notes)
    return UsersLoad(*_newest(engine, gate, found, USERS, columns, now, notes, had, checks))


def _id(gate: Gate, found: Detected, column: Column, code: str) -> pa.Array:
    import pyarrow.compute as pc

    ids = values.text(gate.raw.table[found.mapping[column]])
    gate.refuse(ids.is_null().to_numpy(zero_copy_only=False), code)
    gate.refuse(pc.fill_null(pc.utf8_length(ids), 0).to_numpy(zero_copy_only=False) > MAX_ID_LENGTH, "id_too_long")
    return ids


def _price_and_year(gate: Gate, found: Detected, title: pa.Array | None, notes: list[str]) -> dict[str, pa.Array]:
    import pyarrow as pa
    import pyarrow.compute as pc

    made: dict[str, pa.Array] = {}
    if c.PRICE in found.mapping:
        price = values.numbers(gate.raw.table[found.mapping[c.PRICE]]).values
        gate.refuse(price < 0, "negative_price")
        made[c.PRICE] = pa.array(price, from_pandas=True)
    if c.YEAR in found.mapping:
        year = values.numbers(gate.raw.table[found.mapping[c.YEAR]]).values
        real = np.abs(year) <= 3000
        made[c.YEAR] = pa.array(np.where(real, year, 0).astype(np.int32), mask=~real)
    elif title is not None and len(title):
        in_title = pc.struct_field(pc.extract_regex(title, _TITLE_YEAR), "year")
        if in_title.null_count <= 0.2 * len(in_title):
            made[c.YEAR] = in_title.cast(pa.int32())
            notes.append("The year was read from the end of the title.")
    return made


def _attributes(gate: Gate, found: Detected, notes: list[str]) -> pa.Array:
    """What is in no column of ours; a year or price that is no number stays there as it came."""
    import pyarrow as pa

    raw, table = gate.raw, gate.raw.table
    rest = [name for name in table.column_names if name not in found.mapping.values()]
    left = values.objects(table.select(rest)) if raw.written is None else raw.written.objects(rest)
    odd: dict[str, pa.Array] = {}
    for column in (c.PRICE, c.YEAR):
        if column in found.mapping:
            name = found.mapping[column]
            unreadable = values.numbers(table[name]).unreadable
            if unreadable.any():
                odd[name] = pa.array(values.text(table[name]).to_pylist(), pa.string(), mask=~unreadable)
                notes.append(
                    f"{int(unreadable.sum()):,} values of {name} are no numbers: kept in attributes as they came."
                )
    if odd:
        left = values.both_objects(left, values.objects(pa.table(odd)))
    if c.ATTRIBUTES in found.mapping:
        return values.both_objects(values.text(table[found.mapping[c.ATTRIBUTES]]), left, name=c.ATTRIBUTES)
    return left


def _available(gate: Gate, found: Detected) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.AVAILABLE not in found.mapping:
        return pa.array(np.ones(gate.raw.table.num_rows, bool))
    words = values.text(gate.raw.table[found.mapping[c.AVAILABLE]])
    return pc.invert(pc.is_in(words, value_set=pa.array(_FALSE)))


def _known_at(gate: Gate, found: Detected, year: pa.Array | None, now: int, notes: list[str]) -> pa.Array:
    import pyarrow as pa

    n = gate.raw.table.num_rows
    default = np.zeros(n, np.int64) if year is None else start_of_year_us(year)
    if c.KNOWN_AT not in found.mapping:
        notes.append("No column says when a fact was known: it counts as known from the start of its year, else 1970.")
        return pa.array(default)
    given = gate_times(gate, found.mapping[c.KNOWN_AT])
    notes.append(f"{found.mapping[c.KNOWN_AT]} was read as {given.unit}.")
    return pa.array(np.where(given.missing, default, given.us))


def start_of_year_us(year: pa.Array) -> npt.NDArray[np.int64]:
    """The first moment of each year, in microseconds; 1970 where the year is null."""
    import pyarrow.compute as pc

    whole = pc.fill_null(year, 1970).to_numpy(zero_copy_only=False).astype(np.int64)
    return (whole - 1970).astype("datetime64[Y]").astype("datetime64[us]").astype(np.int64)


def _newest(
    engine: TablesEngine,
    gate: Gate,
    found: Detected,
    table: Table,
    columns: Mapping[str, pa.Array],
    now: int,
    notes: list[str],
    had: pa.Table | None,
    checks: Sequence[BatchCheck],
) -> tuple[pa.Table, pa.Table, Report]:
    """One row per id: the newest. The same row again is a duplicate, another one is superseded."""
    import ibis
    import pyarrow as pa
    import pyarrow.compute as pc

    (key,) = table.key
    rows = np.flatnonzero(gate.passing)
    judge(checks, gate, rows, _rows_of(table, columns, rows), table)
    rows = np.flatnonzero(gate.passing)
    at = pa.array(rows)
    keyed = engine.table(
        pa.table({c.ROW_NUMBER: at, key: columns[key].take(at), c.KNOWN_AT: columns[c.KNOWN_AT].take(at)})
    )
    ranked = ibis.window(group_by=key, order_by=[c.KNOWN_AT, c.ROW_NUMBER], preceding=None, following=None)
    winners = keyed.mutate(keyed[c.ROW_NUMBER].last().over(ranked).name(c.RANK)).order_by(c.ROW_NUMBER)
    winner = engine.arrow(winners.select(c.RANK))[c.RANK].to_numpy()
    beaten = winner != rows
    if beaten.any():
        content = values.objects(pa.table(dict(columns)))
        older, newer = pa.array(rows[beaten]), pa.array(winner[beaten])
        same = pc.fill_null(pc.equal(content.take(older), content.take(newer)), False).to_numpy(zero_copy_only=False)
        for code, which in (("duplicate", rows[beaten][same]), ("superseded", rows[beaten])):
            gate.refuse(_mask(gate, which), code)
    kept = np.flatnonzero(gate.passing)
    loaded = _rows_of(table, columns, kept)
    if had is not None:
        loaded, same, older = _beside(table, loaded, had, _told(found, columns))
        gate.refuse(_mask(gate, kept[same]), "duplicate")
        gate.refuse(_mask(gate, kept[older]), "superseded")
    quarantine, tally = gate.quarantine(now, table), Tally()
    tally.add(gate, quarantine)
    return loaded, quarantine, concluded(checks, tally.report(table, gate.raw.path, found, now, notes), table, {})


def _rows_of(table: Table, columns: Mapping[str, pa.Array], rows: npt.NDArray[np.int64]) -> pa.Table:
    import pyarrow as pa

    at = pa.array(rows)
    return fitted(table, {name: array.take(at) for name, array in columns.items()}, len(rows))


def _mask(gate: Gate, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    mask = np.zeros(gate.raw.table.num_rows, bool)
    mask[rows] = True
    return mask


def _told(found: Detected, columns: Mapping[str, pa.Array]) -> frozenset[str]:
    """The columns that a file has something to say of."""
    made_up = {c.AVAILABLE, c.KNOWN_AT} - found.mapping.keys()
    return frozenset(name for name, array in columns.items() if name not in made_up and array.null_count < len(array))


def _beside(
    table: Table, came: pa.Table, had: pa.Table, told: frozenset[str]
) -> tuple[pa.Table, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows that are news to a table, whole; which rows say what it knows already; which are older than that."""
    import pyarrow as pa
    import pyarrow.compute as pc

    (key,) = table.key
    place = pc.index_in(came[key].combine_chunks(), value_set=had[key].combine_chunks())
    known = place.is_valid().to_numpy(zero_copy_only=False)
    before = fitted(table, {name: had[name].combine_chunks().take(place) for name in had.column_names}, came.num_rows)
    texts = [values.objects(rows.select(sorted(told))) for rows in (came, before)]
    alike = pc.fill_null(pc.equal(*(pc.fill_null(text, "") for text in texts)), False).to_numpy(zero_copy_only=False)
    older = np.zeros(came.num_rows, bool)
    if c.KNOWN_AT in told:
        older = pc.fill_null(pc.less(came[c.KNOWN_AT], before[c.KNOWN_AT]), False).to_numpy()
    merged = [came[name] if name in told else pc.coalesce(before[name], came[name]) for name in came.column_names]
    news = ~known | ~(alike | older)
    rows = pa.table(merged, schema=came.schema).filter(pa.array(news))
    return rows, np.flatnonzero(known & alike), np.flatnonzero(known & older & ~alike)


def put_rows(table: Table, had: pa.Table, came: pa.Table) -> pa.Table:
    """Rows put into a table by id: in the place of those it has, so that rows keep their numbers, else behind."""
    import pyarrow as pa
    import pyarrow.compute as pc

    (key,) = table.key
    place = pc.index_in(came[key].combine_chunks(), value_set=had[key].combine_chunks())
    known = place.is_valid().to_numpy(zero_copy_only=False)
    order = np.arange(had.num_rows)
    order[pc.drop_null(place).to_numpy().astype(np.int64)] = had.num_rows + np.flatnonzero(known)
    order = np.concatenate([order, had.num_rows + np.flatnonzero(~known)])
    return pa.concat_tables([had, came]).take(pa.array(order)).combine_chunks()


def bare_items(events: pa.Table, known: pa.ChunkedArray | None) -> pa.Table:
    """Items of events that the catalog does not know, as Items without facts, known from their first event."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if known is None:
        return ITEMS.arrow().empty_table()
    strange = events.filter(pc.invert(pc.is_in(events[c.ITEM_ID], value_set=known.combine_chunks())))
    first = strange.group_by(c.ITEM_ID).aggregate([(c.HAPPENED_AT, "min")]).sort_by(c.ITEM_ID)
    n = first.num_rows
    return fitted(
        ITEMS,
        {
            c.ITEM_ID: first[c.ITEM_ID],
            c.AVAILABLE: pa.array(np.ones(n, bool)),
            c.KNOWN_AT: first[f"{c.HAPPENED_AT}_min"],
        },
        n,
    )


# ------------------------------------------------------------------------------------------------- as arrays


def catalog_view(items: pa.Table) -> CatalogView:
    """Items as arrays, in the table's order. Codes count by first appearance; a value named twice counts once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    category, category_names = _coded(items[c.CATEGORIES])
    people, people_names = _coded(items[c.PEOPLE])
    country = items[c.COUNTRY].combine_chunks().dictionary_encode()
    return CatalogView(
        items=Vocabulary(items[c.ITEM_ID].to_pylist()),
        title=pc.fill_null(items[c.TITLE], "").to_pylist(),
        description=pc.fill_null(items[c.DESCRIPTION], "").to_pylist(),
        category=category,
        category_names=category_names,
        people=people,
        people_names=people_names,
        country=pc.fill_null(country.indices, -1).to_numpy(zero_copy_only=False).astype(np.int32),
        country_names=country.dictionary.to_pylist(),
        year=pc.fill_null(items[c.YEAR].cast(pa.float32()), np.nan).to_numpy(),
        price=pc.fill_null(items[c.PRICE].cast(pa.float32()), np.nan).to_numpy(),
        available=items[c.AVAILABLE].to_numpy(),
        known_at=items[c.KNOWN_AT].cast(pa.int64()).to_numpy(),
        attributes=items[c.ATTRIBUTES],
    )


def _coded(column: pa.ChunkedArray) -> tuple[Ragged, list[str]]:
    import pyarrow.compute as pc

    nested = column.combine_chunks()
    flat = pc.list_flatten(nested)
    parent = pc.list_parent_indices(nested).to_numpy()
    valid = flat.is_valid().to_numpy(zero_copy_only=False)
    words = flat.filter(flat.is_valid()).dictionary_encode()
    code, parent = words.indices.to_numpy().astype(np.int64), parent[valid]
    names = words.dictionary.to_pylist()
    _, first = np.unique(parent * max(1, len(names)) + code, return_index=True)
    first.sort()
    sizes = np.bincount(parent[first], minlength=len(nested))
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Ragged(indptr, code[first].astype(np.int32)), names


# ------------------------------------------------------------------------------------------ to and from the wire


def items_table(items: Sequence[Item], known_at: int | Sequence[int]) -> pa.Table:
    """Wire items as rows of Items; empty lists and attributes become null."""
    import pyarrow as pa

    moments = [known_at] * len(items) if isinstance(known_at, int) else list(known_at)
    plain: dict[str, list[Any]] = {
        c.ITEM_ID: [item.item_id for item in items],
        c.TITLE: [item.title for item in items],
        c.DESCRIPTION: [item.description for item in items],
        c.CATEGORIES: [item.categories or None for item in items],
        c.PEOPLE: [item.people or None for item in items],
        c.COUNTRY: [item.country for item in items],
        c.YEAR: [item.year for item in items],
        c.PRICE: [item.price for item in items],
        c.LANGUAGE: [item.language for item in items],
        c.IMAGE_URL: [item.image_url for item in items],
        c.ATTRIBUTES: [msgspec.json.encode(item.attributes).decode() if item.attributes else None for item in items],
        c.AVAILABLE: [item.available for item in items],
        c.KNOWN_AT: moments,
    }
    schema = ITEMS.arrow()
    arrays = {
        name: pa.array(cells, pa.int64() if name == c.KNOWN_AT else schema.field(name).type)
        for name, cells in plain.items()
    }
    return fitted(ITEMS, arrays, len(items))


def wire_items(items: pa.Table) -> list[Item]:
    """Rows of Items as wire items. Attribute values that are no plain value travel as JSON text."""
    drop = {c.KNOWN_AT, c.ATTRIBUTES, c.CATEGORIES, c.PEOPLE}
    made = []
    for row in items.to_pylist():
        attributes = msgspec.json.decode(row[c.ATTRIBUTES]) if row[c.ATTRIBUTES] else {}
        made.append(
            Item(
                categories=row[c.CATEGORIES] or [],
                people=row[c.PEOPLE] or [],
                attributes={key: _plain(value) for key, value in attributes.items()},
                **{key: value for key, value in row.items() if key not in drop},
            )
        )
    return made


def _plain(value: Any) -> str | float | int | bool | None:
    if value is None or isinstance(value, str | float | int | bool):
        return value
    return msgspec.json.encode(value).decode()


def put_items(items: pa.Table, payloads: Sequence[bytes]) -> pa.Table:
    """Fold the log's `item` records into Items: replaced in place or appended, so that rows keep their numbers.

    A payload is a msgpack map of `wire.Item` fields (`attributes` as a map or as JSON text); `known_at` (microseconds)
    may stand beside them. Without it a changed item keeps the one it had and a new one gets the start of its year. The
    last payload of an id counts.
    """
    import pyarrow as pa

    decode = msgspec.msgpack.Decoder(dict[str, Any]).decode
    newest: dict[str, tuple[Item, int | None]] = {}
    for payload in payloads:
        fields = decode(payload)
        moment = fields.pop(c.KNOWN_AT, None)
        if isinstance(fields.get(c.ATTRIBUTES), str):
            fields[c.ATTRIBUTES] = msgspec.json.decode(fields[c.ATTRIBUTES])
        item = msgspec.convert(fields, Item)
        newest[item.item_id] = (item, moment)
    row_of = {key: row for row, key in enumerate(items[c.ITEM_ID].to_pylist())}
    had = items[c.KNOWN_AT].cast(pa.int64()).to_numpy()
    order, moments = np.arange(items.num_rows), []
    appended = []
    for at, (key, (item, moment)) in enumerate(newest.items(), items.num_rows):
        row = row_of.get(key)
        if row is None:
            appended.append(at)
        else:
            order[row] = at
        before = start_of_year_us(pa.array([item.year], pa.int32()))[0] if row is None else had[row]
        moments.append(int(before) if moment is None else int(moment))
    both = pa.concat_tables([items, items_table([item for item, _ in newest.values()], moments)])
    return both.take(pa.array(np.concatenate([order, np.array(appended, np.int64)]))).combine_chunks()
