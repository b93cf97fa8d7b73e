"""What a file holds and which of its columns is which: the guess that `honeyguide init` prints."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.errors import DataError
from honeyguide.intake.files import Format, Raw, read
from honeyguide.intake.naming import RATING_NAMES, by_content, by_name, squeezed
from honeyguide.intake.values import text, times
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Detected", "assigned", "detect", "guess", "resolve", "yes"]

_MUST_HAVE: dict[str, tuple[Column, ...]] = {
    EVENTS.name: (c.USER_ID, c.ITEM_ID, c.HAPPENED_AT),
    ITEMS.name: (c.ITEM_ID,),
    USERS.name: (c.USER_ID,),
}


_YES, _NO = ["1", "1.0", "true", "t", "yes", "y"], ["0", "0.0", "false", "f", "no", "n"]
_OUTCOMES = {
    name: action
    for action, names in {
        "click": "click clicked clicks clk",
        "conversion": "conversion converted convert",
        "purchase": "purchase purchased bought buy",
        "order": "order ordered",
        "cart": "cart addtocart addedtocart carted",
        "save": "save saved",
        "like": "like liked",
        "play": "play played",
    }.items()
    for name in names.split()
}
"""Names of columns that say whether what was shown led to an action."""


@dataclass(frozen=True, slots=True)
class Detected:
    """A file's format, the columns found in it, and what a person should know about the guess."""

    format: Format
    mapping: dict[Column, str]  # our column -> the file's
    notes: tuple[str, ...]
    default_action: str | None = None  # the action of every row where the file has no such column
    outcomes: dict[str, str] = field(default_factory=dict)  # 0/1 columns beside what was shown -> the action that 1 is
    how: dict[Column, str] = field(default_factory=dict)  # why each column was taken, for a person

    def lines(self) -> list[str]:
        """The mapping as text, a column per line, then the notes."""
        return [f"{ours} <- {theirs}" for ours, theirs in self.mapping.items()] + list(self.notes)


def detect(path: Path, table: Table = EVENTS, *, mapping: Mapping[Column, str] | None = None) -> Detected:
    """Look at the beginning of a file. Raises DataError if it is unreadable or lacks a column that `table` needs."""
    raw = read(Path(path), sample=True)
    found = resolve(raw, table, mapping)
    if table is EVENTS and raw.table.num_rows:
        unit = times(raw.table[found.mapping[c.HAPPENED_AT]]).unit
        note = f"{found.mapping[c.HAPPENED_AT]} holds {unit}."
        found = replace(found, notes=(*found.notes, note))
    return found


def guess(path: Path) -> Table:
    """Which of our tables a file most looks like: events, items or users."""
    names = read(Path(path), sample=True).table.column_names
    for table in (EVENTS, ITEMS, USERS):
        if all(column in by_name(table, names) for column in _MUST_HAVE[table.name]):
            return table
    return EVENTS


def assigned(files: Sequence[tuple[Path, Table]], mapping: Mapping[str, str] | None) -> list[dict[Column, str]]:
    """A mapping (our column -> theirs) parted by file: to each what its table and its header have.

    Raises DataError for a column of ours that no table has, and for one of theirs that no file has.
    """
    made: list[dict[Column, str]] = [{} for _ in files]
    if not mapping:
        return made
    headers = [read(path, sample=True).table.column_names for path, _ in files]
    for ours, theirs in mapping.items():
        takers = [at for at, (_, table) in enumerate(files) if ours in table.columns]
        if not takers:
            known = dict.fromkeys(str(column) for _, table in files for column in table.columns)
            raise DataError(
                expected="a column of Honeyguide's before the = of a mapping",
                got=repr(ours),
                do=f"The columns of these files' tables are {', '.join(known)}.",
            )
        holders = [at for at in takers if theirs in headers[at]]
        if not holders:
            raise DataError(
                expected=f"a column {theirs!r} (for {ours}) in {', '.join(files[at][0].name for at in takers)}",
                got=_listed([name for at in takers for name in headers[at]]),
                do="Correct the mapping: it is OUR_COLUMN=THEIR_COLUMN.",
            )
        for at in holders:
            made[at][next(column for column in files[at][1].columns if column == ours)] = theirs
    return made


def resolve(raw: Raw, table: Table, given: Mapping[Column, str] | None) -> Detected:
    """The mapping in force: what the caller gave; for the rest what the names (or a headless file's content) say."""
    names = raw.table.column_names
    chosen: dict[Column, str] = {}
    for column, name in (given or {}).items():
        if name not in names:
            raise DataError(expected=f"a column {name!r} in {raw.path}", got=_listed(names), do="Correct the mapping.")
        chosen[column] = name
    guessed = by_name(table, [name for name in names if name not in chosen.values()])
    if table is EVENTS and not raw.has_header:
        guessed = by_content(raw.table)
    ours = [column for column in table.columns if column in guessed or column in chosen]
    taken = set(chosen.values())
    mapping = {
        column: chosen.get(column) or guessed[column]
        for column in ours
        if column in chosen or guessed[column] not in taken
    }
    missing = [column for column in _MUST_HAVE[table.name] if column not in mapping]
    if missing:
        raise DataError(
            expected=f"columns for {', '.join(missing)} in {raw.path}",
            got=_listed(names),
            do=f"Say which they are: `--map {missing[0]}=THEIR_COLUMN` (mapping={{...}} in Python); common names, "
            "such as customer_id or event_time, are known.",
        )
    notes = list(raw.notes)
    action = None
    outcomes = _outcomes(raw, mapping) if table is EVENTS else {}
    if table is EVENTS and c.ACTION not in mapping:
        rated = c.VALUE in mapping and (not raw.has_header or squeezed(mapping[c.VALUE]) in RATING_NAMES)
        action = "rating" if rated else "impression" if outcomes else "view"
        if action != "impression":
            notes.append(f"No column says what people did: every row counts as {action!r}.")
    if action != "impression":
        notes += [f"{name} was NOT read as an outcome: its rows say already what they are." for name in outcomes]
        outcomes = {}
    left = [name for name in names if name not in mapping.values() and name not in outcomes]
    if left:
        place = c.CONTEXT if table is EVENTS else c.ATTRIBUTES
        notes.append(f"Kept in {place} as JSON: {', '.join(left[:20])}{', ...' if len(left) > 20 else ''}.")
    guess_is = "by its name" if table is not EVENTS or raw.has_header else "by its content"
    how = {column: "as given" if column in chosen else guess_is for column in mapping}
    return Detected(raw.format, mapping, tuple(notes), action, outcomes, how)


def yes(column: pa.ChunkedArray) -> pa.Array:
    """Which cells say yes; null where one says neither yes nor no."""
    import pyarrow as pa
    import pyarrow.compute as pc

    words = pc.utf8_lower(text(column))
    said_yes, said_no = (pc.is_in(words, value_set=pa.array(those)) for those in (_YES, _NO))
    return pc.if_else(pc.or_(said_yes, said_no), said_yes, pa.scalar(None, pa.bool_()))


def _outcomes(raw: Raw, mapping: Mapping[Column, str]) -> dict[str, str]:
    """Columns that hold yes and no, and nothing else, under the name of an action (`clicked`, `is_purchase`)."""
    import pyarrow.compute as pc

    found: dict[str, str] = {}
    for name in raw.table.column_names:
        action = _OUTCOMES.get(re.sub(r"^(is|was|has|did)(?=[a-z])", "", squeezed(name)))
        if action is None or name in mapping.values() or action in found.values():
            continue
        cells = raw.table[name]
        said = yes(cells)
        whole = said.null_count == text(cells).null_count
        if whole and pc.any(said).as_py() and not pc.all(said).as_py():
            found[name] = action
    return found


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return f"one column, {names[0]!r}"
    return "the columns " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
