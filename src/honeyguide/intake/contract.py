"""What a table's loads must look like: a closed TOML file per table, written from the first load, edited by people.

Each rule has a severity: `warn` says it, `quarantine` holds the row back, `refuse` turns the whole load away.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from honeyguide.errors import ConfigError
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

__all__ = [
    "CONTRACTED",
    "GATE_MAY_WARN",
    "ROW_CODES",
    "BotRule",
    "ColumnRules",
    "LoadSeverity",
    "NullRule",
    "RangeRule",
    "ReferenceRule",
    "SchemaRule",
    "Severity",
    "ShareRule",
    "TableContract",
    "UniqueRule",
    "ValuesRule",
    "VolumeRule",
]

Severity = Literal["warn", "quarantine", "refuse"]
LoadSeverity = Literal["warn", "refuse"]
Share = Annotated[float, Field(ge=0, le=1)]

CONTRACTED: dict[str, Table] = {table.name: table for table in (EVENTS, ITEMS, USERS)}
"""The tables that may have a contract."""

ROW_CODES: dict[str, str] = {
    "null_value": "No value in a column whose contract wants one.",
    "out_of_range": "A number outside the range of its column's contract.",
    "value_not_allowed": "A value that its column's contract does not name.",
    "not_unique": "A value that came before, in a column whose contract wants each once.",
    "unknown_user": "A person whom the users do not hold.",
    "bot": "Of somebody who acts faster than people do.",
}
"""Reason codes that a contract adds to those of the gate."""

GATE_MAY_WARN = frozenset(
    {"broken_encoding", "time_in_future", "time_before_1990", "negative_price", "rating_out_of_range"}
)
"""What the gate finds and a row can still be kept with; all else that it finds leaves no row to keep."""

_NUMERIC = frozenset({"int16", "int32", "int64", "float32", "float64"})


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _RowRule(_Closed):
    """`refuse` holds the rows back too, and refuses the load if more than `tolerated_share` of its rows break it."""

    severity: Severity = "warn"
    tolerated_share: Share = 0.0


class RangeRule(_RowRule):
    """The smallest and the largest number, both allowed; either may be left out."""

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        return self


class ValuesRule(_RowRule):
    """The values there may be."""

    allowed: tuple[str, ...] = Field(min_length=1)


class NullRule(_RowRule):
    """Rows may lack the value up to `tolerated_share`; with `quarantine`, each row that lacks it is held back."""


class UniqueRule(_RowRule):
    """Each value once in a load (by 64-bit hashes: one of 100 million is wrongly doubled once in 3,700 loads)."""


class ReferenceRule(_RowRule):
    """The value must be an id of another table. Events of unknown items are kept as bare items under `warn`."""

    table: Literal["items", "users"]


class ColumnRules(_Closed):
    """Rules of one of our columns."""

    nulls: NullRule | None = None
    range: RangeRule | None = None
    values: ValuesRule | None = None
    unique: UniqueRule | None = None
    reference: ReferenceRule | None = None

    def rules(self) -> Iterator[tuple[str, _RowRule]]:
        """Those that are set, by name."""
        for name in ("nulls", "range", "values", "unique", "reference"):
            rule = getattr(self, name)
            if rule is not None:
                yield name, rule


class SchemaRule(_Closed):
    """The file's columns and what kind of values each held: our name where one is mapped, else the file's.

    Kinds: integer, number, time, boolean, list, text; `empty` fits all. `lost` is for a column that one of ours was
    read from, `gone` for any other. Judged by the file's beginning, so of JSON lines a rare field may seem gone.
    """

    columns: dict[str, str] = {}
    lost: LoadSeverity = "warn"
    gone: LoadSeverity = "warn"
    new: LoadSeverity = "warn"
    changed: LoadSeverity = "warn"


class FreshnessRule(_Closed):
    """The newest row is at most so old when it is loaded."""

    max_age_hours: float = Field(gt=0)
    severity: LoadSeverity = "warn"


class VolumeRule(_Closed):
    """Events of a day against the median of the same weekday in the eight weeks before it; see `intake.volume`."""

    lowest: float = Field(default=0.5, ge=0, lt=1)
    highest: float = Field(default=3.0, gt=1)
    severity: LoadSeverity = "warn"


class CutOffRule(_Closed):
    """Whether the rest of the last day is missing; see `intake.volume.cut_off`."""

    severity: LoadSeverity = "warn"


class RowsRule(_Closed):
    """A load has at least so many rows, as a share of the load before; for tables that come whole each time."""

    least_share: float = Field(default=0.5, ge=0)
    severity: LoadSeverity = "warn"


class ShareRule(_Closed):
    """At most so large a share of a load may be held back."""

    max_share: Share = 0.1
    severity: LoadSeverity = "warn"


class BotRule(_Closed):
    """More actions (impressions apart) of one person in a minute or an hour than these is a program."""

    per_minute: int = Field(ge=1)
    per_hour: int = Field(ge=1)
    severity: Severity = "warn"


class TableContract(_Closed):
    """All rules of a table. `gate` says what becomes of rows that the gate finds bad; what it does not name is
    quarantined."""

    table: Literal["events", "items", "users"]
    inferred_from: str = ""
    gate: dict[str, Severity] = {}
    file: SchemaRule | None = None
    freshness: FreshnessRule | None = None
    volume: VolumeRule | None = None
    last_day: CutOffRule | None = None
    rows: RowsRule | None = None
    quarantined: ShareRule | None = None
    bots: BotRule | None = None
    columns: dict[str, ColumnRules] = {}

    @model_validator(mode="after")
    def _fits_the_table(self) -> Self:
        table = CONTRACTED[self.table]
        ours: dict[str, Column] = {str(column): column for column in table.columns}
        for name, rules in self.columns.items():
            if name not in ours:
                raise ValueError(f"{table.name} has no column {name!r}; it has {', '.join(ours)}")
            if rules.range is not None and ours[name].dtype not in _NUMERIC:
                raise ValueError(f"{name} holds no numbers, so it has no range")
            if (rules.values or rules.unique) and ours[name].dtype != "string":
                raise ValueError(f"{name} holds no texts: values and unique are for texts")
            if rules.reference is not None and rules.reference.table not in _REFERABLE.get((table.name, name), ()):
                raise ValueError(f"{name} of {table.name} refers to no ids of {rules.reference.table}")
        for code, severity in self.gate.items():
            if severity == "warn" and code not in GATE_MAY_WARN:
                raise ValueError(f"a row with {code} cannot be kept: quarantine or refuse; warn is for {_listed()}")
        if table is not EVENTS:
            for name in ("volume", "last_day", "bots", "freshness"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for events")
        return self

    @property
    def unknown_item(self) -> Literal["add", "quarantine"]:
        """What becomes of events of items that the catalog does not hold."""
        rules = self.columns.get(_ITEM_ID)
        if rules is None or rules.reference is None or rules.reference.severity == "warn":
            return "add"
        return "quarantine"

    def gate_warns(self) -> frozenset[str]:
        """Codes with which the gate lets a row pass, only counting it."""
        return frozenset(code for code, severity in self.gate.items() if severity == "warn")

    @classmethod
    def load(cls, path: Path) -> TableContract:
        """Read and check a file; a ConfigError names the key that is wrong."""
        try:
            found = cls.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(expected=f"TOML in {path}", got=str(error), do="Mend the line it names.") from error
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"]) or "the file"
            unknown = first["type"] == "extra_forbidden"
            raise ConfigError(
                expected=f"only known keys in {path}" if unknown else f"a valid {key} in {path} ({first['msg']})",
                got=f"the unknown key {key!r}" if unknown else f"{first['input']!r:.80}",
                do="Mend or remove it; `docs/data-quality.md` lists the keys.",
            ) from error
        if found.table != path.stem:
            raise ConfigError(
                expected=f"the contract of {path.stem} in {path}", got=f"that of {found.table}", do="Rename the file."
            )
        return found

    def text(self) -> str:
        """The file, with a line before each part that says what it means."""
        lines = [*_HEAD.format(table=self.table).splitlines(), ""]
        plain = self.model_dump(mode="json", exclude_none=True)
        lines += [f"table = {_toml(self.table)}", f"inferred_from = {_toml(self.inferred_from)}", ""]
        lines += ["# What the gate finds in a row. What is not named here is quarantined.", "[gate]"]
        lines += [f"{code} = {_toml(severity)}" for code, severity in self.gate.items()]
        for name, said in _SAID.items():
            if name in plain:
                lines += ["", f"# {said}", f"[{name}]"]
                lines += [
                    f"{key} = {_toml(value)}" for key, value in plain[name].items() if not isinstance(value, dict)
                ]
                lines += [
                    f"columns.{_key(key)} = {_toml(kind)}" for key, kind in plain[name].get("columns", {}).items()
                ]
        for name, rules in plain.get("columns", {}).items():
            lines += ["", f"[columns.{_key(name)}]"]
            lines += [f"{rule} = {_toml(value)}" for rule, value in rules.items()]
        return "\n".join(lines) + "\n"


_ITEM_ID = "item_id"
_REFERABLE = {("events", "item_id"): ("items",), ("events", "user_id"): ("users",)}
_HEAD = """\
# What Honeyguide expects of each load of {table}. Inferred from the first load; yours to edit.
# severity: "warn" says it, "quarantine" holds the row back, "refuse" turns the whole load away.
# A rule on rows tolerates the share of rows given by tolerated_share (0.01 is one row in a hundred)."""
_SAID = {
    "file": "The file's columns and their kinds. lost: a column of ours was read from it; gone: any other.",
    "freshness": "How old the newest event may be when it is loaded.",
    "volume": "A day's events against the median of the same weekday in the eight weeks before.",
    "last_day": "Whether the rest of the last day is missing.",
    "rows": "Rows against the load before.",
    "quarantined": "The largest share of a load that may be held back.",
    "bots": "Actions of one person in a minute and in an hour that are still a person's.",
}


def _listed() -> str:
    return ", ".join(sorted(GATE_MAY_WARN))


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else _toml(name)


def _toml(value: Any) -> str:
    """A value as TOML writes it; JSON's strings are TOML's, but for DEL, which TOML wants escaped."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(one) for one in value) + "]"
    return repr(value).lower() if isinstance(value, bool) else repr(value)
