"""Where a person is named: in tables, in rows held back as they came, in reports and records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.intake.naming import by_name
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

__all__ = ["Person", "people_in"]

_CELLS = re.compile(r"[,;\t|\"'\s]+")
_USER = "user"
_TOLD = "[erased]"


class Person:
    """Whom to look for.

    An id that is a word of its own (`ada@example.org`, `u-10482`) is found wherever it stands. A number, or a text of
    fewer than six characters, may as well be a price or an item: it is found in what is known to be a person's id, in
    a line whose columns nobody knows as a cell of its own.
    """

    def __init__(self, user_id: str) -> None:
        self.id = user_id
        self.telling = len(user_id) >= 6 and not user_id.isdigit()
        spelt = {user_id, json.dumps(user_id)[1:-1], json.dumps(user_id, ensure_ascii=False)[1:-1]}
        spelt |= {user_id.replace('"', '""')}
        self._spelt = sorted(spelt)
        self._word = re.compile("|".join(rf"(?<!\w){re.escape(one)}(?!\w)" for one in self._spelt))

    def columns(self, names: list[str]) -> list[str] | None:
        """Columns of a table in which a person may be named; None if the table holds no people."""
        wanted = [[c.USER_ID], [c.ENTITY, c.ENTITY_ID], [c.RAW, c.DETAIL], [c.CONTEXT]]
        for some in wanted:
            if some[0] in names:
                return [str(name) for name in some if name in names]
        return None

    def rows(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """Which rows are the person's, or name them; the table has `columns` at least."""
        import pyarrow.compute as pc

        names = self.columns(table.column_names) or []
        if c.USER_ID in names:
            found = pc.equal(table[c.USER_ID], self.id)
        elif c.ENTITY in names:
            found = pc.and_(pc.equal(table[c.ENTITY], _USER), pc.equal(table[c.ENTITY_ID], self.id))
        else:
            return self._text_rows(table, names)
        return np.asarray(pc.fill_null(found, False).to_numpy(), np.bool_)

    def is_in(self, text: str) -> bool:
        """Whether a text (a line or a JSON document) names the person."""
        if not any(one in text for one in self._spelt):
            return False
        if self.telling:
            return self._word.search(text) is not None
        return self.id in people_in(text)

    def without(self, document: Any) -> Any:
        """A JSON document in which the person is named no more."""
        if isinstance(document, dict):
            return {self._hidden(key, key): self._of(key, value) for key, value in document.items()}
        if isinstance(document, list):
            return [self._of("", value) for value in document]
        return self._of("", document)

    def _of(self, key: str, value: Any) -> Any:
        if isinstance(value, dict | list):
            return self.without(value)
        return self._hidden(key, value) if isinstance(value, str) else value

    def _hidden(self, key: str, text: str) -> str:
        if self.telling:
            return self._word.sub(_TOLD, text)
        return _TOLD if text == self.id and _is_person(key) else text

    def _text_rows(self, table: pa.Table, names: list[str]) -> npt.NDArray[np.bool_]:
        import pyarrow.compute as pc

        found = np.zeros(table.num_rows, np.bool_)
        for name in names:
            near = np.zeros(table.num_rows, np.bool_)
            for spelt in self._spelt:
                near |= np.asarray(pc.fill_null(pc.match_substring(table[name], spelt), False).to_numpy(), np.bool_)
            for row in np.flatnonzero(near & ~found).tolist():
                found[row] = self.is_in(table[name][row].as_py())
        return found


def people_in(text: str) -> set[str]:
    """Who may be named in a row as it came: what stands under a person's key, else every value or cell."""
    document = _parsed(text)
    if document is None:
        return {cell for cell in _CELLS.split(text) if cell}
    pairs = list(_scalars(document))
    return {value for key, value in pairs if _is_person(key)} or {value for _, value in pairs}


def _parsed(text: str) -> Any:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None


def _scalars(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(document, dict):
        for name, value in document.items():
            yield from _scalars(value, name)
    elif isinstance(document, list):
        for value in document:
            yield from _scalars(value, key)
    else:
        yield key, str(document)


def _is_person(key: str) -> bool:
    return c.USER_ID in by_name(EVENTS, [key])
