"""The data's quality as the API sends it, read with care: what is missing or of another kind is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["LIVE_REASONS", "DataQuality", "Day", "Found", "Load", "Reason"]

LIVE_REASONS = {
    "unknown_item": "The catalog does not hold the item.",
    "bad_time": "Neither ISO 8601 nor a time since 1970.",
    "in_the_future": "More than five minutes ahead of the server's clock.",
    "before_1990": "A default or a wrong unit.",
    "not_finite": "A value that is no finite number.",
    "bad_id": "Control characters in an id.",
}
"""Why `POST /v1/events` refuses an event."""


@dataclass(frozen=True)
class Found:
    """A rule of a contract that a load broke."""

    code: str
    severity: str
    detail: str
    people: tuple[str, ...] = ()  # who it is about, with their fullest minute and hour

    @property
    def word(self) -> str:
        """What was done about it."""
        return {"warn": "warning", "quarantine": "rows held back", "refuse": "refused"}.get(
            self.severity, self.severity
        )


@dataclass(frozen=True)
class Load:
    """One load of one table."""

    load_id: str
    table: str
    file: str
    at: str
    rows_in: int
    accepted: int
    quarantined: int
    replayed: int
    reasons: Mapping[str, int]
    findings: tuple[Found, ...]
    unjudged: tuple[str, ...]
    replay: bool

    @property
    def share(self) -> float:
        """Of its rows, how large a part was held back."""
        return self.quarantined / self.rows_in if self.rows_in else 0.0


@dataclass(frozen=True)
class Day:
    """Accepted events of a day; `usual` is the median of its weekday before, None where there were too few."""

    day: str
    events: int
    usual: float | None
    odd: bool


@dataclass(frozen=True)
class Reason:
    """A reason for holding rows back, with how many wait and how many re-entered."""

    code: str
    meaning: str
    held: int
    replayed: int


@dataclass(frozen=True)
class DataQuality:
    """All figures of the page; loads newest first, days oldest first."""

    rows_in: int
    accepted: int
    quarantined: int
    held: int
    replayed: int
    tables: tuple[Mapping[str, Any], ...]
    reasons: tuple[Reason, ...]
    loads: tuple[Load, ...]
    more_loads: int
    days: tuple[Day, ...]
    live: Mapping[str, int]

    @classmethod
    def read(cls, sent: Mapping[str, Any]) -> DataQuality:
        """Read what `/v1/quality` sends."""
        return cls(
            rows_in=_whole(sent.get("rows_in")),
            accepted=_whole(sent.get("accepted")),
            quarantined=_whole(sent.get("quarantined")),
            held=_whole(sent.get("held")),
            replayed=_whole(sent.get("replayed")),
            tables=tuple(_rows(sent.get("tables"))),
            reasons=tuple(
                Reason(
                    _text(row, "reason"), _text(row, "meaning"), _whole(row.get("held")), _whole(row.get("replayed"))
                )
                for row in _rows(sent.get("reasons"))
            ),
            loads=tuple(_load(row) for row in _rows(sent.get("loads"))),
            more_loads=_whole(sent.get("more_loads")),
            days=tuple(
                Day(_text(row, "day"), _whole(row.get("events")), _number(row.get("usual")), row.get("odd") is True)
                for row in _rows(sent.get("days"))
            ),
            live=_counts(sent.get("live")),
        )

    @property
    def live_sent(self) -> int:
        """Events sent since the server started."""
        return sum(self.live.values())

    @property
    def live_refused(self) -> dict[str, int]:
        """Those that did not enter, by reason, most first."""
        refused = {name: n for name, n in self.live.items() if name not in ("accepted", "duplicate")}
        return dict(sorted(refused.items(), key=lambda one: -one[1]))


def _load(row: Mapping[str, Any]) -> Load:
    found = _rows(row.get("findings"))
    return Load(
        load_id=_text(row, "load_id"),
        table=_text(row, "table"),
        file=_text(row, "file"),
        at=_text(row, "at"),
        rows_in=_whole(row.get("rows_in")),
        accepted=_whole(row.get("accepted")),
        quarantined=_whole(row.get("quarantined")),
        replayed=_whole(row.get("replayed")),
        reasons=_counts(row.get("reasons")),
        findings=tuple(_found(one) for one in found),
        unjudged=tuple(str(one) for one in _list(row.get("unjudged"))),
        replay=row.get("replay") is True,
    )


def _found(row: Mapping[str, Any]) -> Found:
    people = tuple(
        f"{_text(who, 'user_id')} ({_whole(who.get('per_minute')):,}, {_whole(who.get('per_hour')):,})"
        for who in _rows(row.get("people"))
    )
    return Found(_text(row, "code"), _text(row, "severity"), _text(row, "detail"), people)


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in _list(value) if isinstance(row, Mapping)]


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int:
    number = _number(value)
    return 0 if number is None else int(number)


def _counts(value: object) -> dict[str, int]:
    return {str(key): _whole(n) for key, n in value.items()} if isinstance(value, Mapping) else {}
