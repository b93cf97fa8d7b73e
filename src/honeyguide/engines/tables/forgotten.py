"""Who was erased: salted hashes that name nobody, so that no old file brings a forgotten person back."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.engines.tables.arrow import published
from honeyguide.errors import DataError
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Forgotten"]


class Forgotten:
    """The file `<tables>/FORGOTTEN.json`: a random salt, and the hash and date of each erased person.

    With the salt at hand a guessed id can be tried, as with any list that must recognise a person; the file alone
    names nobody. A look costs a `stat` while the file stays as it is, and 0.7 us an id if anybody was forgotten.
    """

    def __init__(self, tables: Path) -> None:
        self.path = Path(tables) / "FORGOTTEN.json"
        self._stamp = (0, 0)
        self._salt = b""
        self._dates: dict[str, str] = {}

    def __bool__(self) -> bool:
        self._look()
        return bool(self._dates)

    @property
    def stamp(self) -> tuple[int, int]:
        """Changes when somebody is erased, or may return."""
        self._look()
        return self._stamp

    def hash(self, user_id: str) -> str:
        """The salted hash of an id, 32 hexadecimal digits."""
        self._look()
        return self._hash(user_id)

    def date(self, user_id: str) -> str | None:
        """When the person was erased (ISO date), None if never."""
        return self._dates.get(self._hash(user_id)) if self else None

    def among(self, user_ids: Iterable[str]) -> set[str]:
        """Those of the ids that were erased."""
        return {one for one in user_ids if self._hash(one) in self._dates} if self else set()

    def hashed(self, user_ids: Iterable[str], hashes: Iterable[str]) -> list[str]:
        """Those of the ids whose hash is one of `hashes`."""
        wanted = set(hashes)
        self._look()
        return [one for one in user_ids if self._hash(one) in wanted]

    def keep(self, table: pa.Table) -> pa.Table:
        """The rows that are of nobody who was erased."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if c.USER_ID not in table.column_names or not self:
            return table
        users = table[c.USER_ID]
        gone = self.among(one for one in pc.unique(users).to_pylist() if one is not None)
        if not gone:
            return table
        return table.filter(pc.invert(pc.is_in(users, value_set=pa.array(sorted(gone), users.type))))

    def add(self, user_id: str) -> str:
        """Remember that a person was erased; returns the hash."""
        self._look()
        if not self._salt:
            self._salt = os.urandom(16)
        hashed = self._hash(user_id)
        self._write(self._dates | {hashed: dt.datetime.now(dt.UTC).date().isoformat()})
        return hashed

    def allow(self, user_id: str) -> None:
        """Let a person return. DataError if nobody of that id was erased."""
        hashed = self.hash(user_id)
        if hashed not in self._dates:
            raise DataError(
                expected="a person who was erased", got=repr(user_id), do="Nothing keeps this person from returning."
            )
        self._write({key: date for key, date in self._dates.items() if key != hashed})

    def _hash(self, user_id: str) -> str:
        return blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, key=self._salt).hexdigest()

    def _write(self, dates: dict[str, str]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with published(self.path) as temporary:
            temporary.write_text(json.dumps({"salt": self._salt.hex(), "erased": dates}, indent=1))
        self._stamp = (0, 0)

    def _look(self) -> None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self._stamp, self._dates = (0, 0), {}
            return
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == self._stamp:
            return
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
            self._salt, self._dates = bytes.fromhex(read["salt"]), dict(read["erased"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                expected=f"the list of erased people in {self.path}",
                got=str(error),
                do="Restore it from a copy: without it, old files could bring erased people back.",
            ) from error
        self._stamp = stamp
