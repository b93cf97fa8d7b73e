"""What a file holds and which of its columns is which: the guess that `honeyguide init` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from honeyguide.errors import DataError
from honeyguide.intake.files import Format, Raw, read
from honeyguide.intake.naming import RATING_NAMES, by_content, by_name, squeezed
from honeyguide.intake.values import times
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = ["Detected", "assigned", "detect", "guess", "resolve"]

_MUST_HAVE: dict[str, tuple[Column, ...]] = {
    EVENTS.name: (c.USER_ID, c.ITEM_ID, c.HAPPENED_AT),
    ITEMS.name: (c.ITEM_ID,),
    USERS.name: (c.USER_ID,),
}


@dataclass(frozen=True, slots=True)
class Detected:
    """A file's format, the columns found in it, and what a person should know about the guess."""

    format: Format
    mapping: dict[Column, str]  # our column -> the file's
    notes: tuple[str, ...]
    default_action: str | None = None  # the action of every row where the file has no such column
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
    if table is EVENTS and c.ACTION not in mapping:
        rated = c.VALUE in mapping and (not raw.has_header or squeezed(mapping[c.VALUE]) in RATING_NAMES)
        action = "rating" if rated else "view"
        notes.append(f"No column says what people did: every row counts as {action!r}.")
    left = [name for name in names if name not in mapping.values()]
    if left:
        place = c.CONTEXT if table is EVENTS else c.ATTRIBUTES
        notes.append(f"Kept in {place} as JSON: {', '.join(left[:20])}{', ...' if len(left) > 20 else ''}.")
    guess_is = "by its name" if table is not EVENTS or raw.has_header else "by its content"
    how = {column: "as given" if column in chosen else guess_is for column in mapping}
    return Detected(raw.format, mapping, tuple(notes), action, how)


def _listed(names: list[str]) -> str:
    if len(names) == 1:
        return f"one column, {names[0]!r}"
    return "the columns " + ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
