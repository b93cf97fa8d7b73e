"""`merchandising.toml`: rules that people, a command and the API may change, one by one; comments stay."""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import re
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from honeyguide.contracts import CatalogView
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import ConfigError, HoneyguideError, NotFoundError, RequestError
from honeyguide.flows.layout import Layout
from honeyguide.slate.merchandising import MerchRule, RuleBook, Stems, conflicts
from honeyguide.understanding.stems import LANGUAGES, stems

__all__ = ["Rules", "add", "listing", "read", "remove", "review", "rule_of"]

_logger = structlog.get_logger("honeyguide.merchandising")
FILE = "merchandising.toml"
MOST_RULES = 10_000
LOOK_EVERY_S = 0.5
_HEADER = re.compile(r"^\[\[rules\]\][^\S\n]*(?:#.*)?$", re.MULTILINE)
_ID = re.compile(r"^\s*id\s*=\s*(?P<id>\"[^\"]*\"|'[^']*')", re.MULTILINE)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: tuple[MerchRule, ...] = ()


def read(layout: Layout) -> tuple[MerchRule, ...]:
    """The rules of a workspace, () without a file. A ConfigError names the rule and the key that are wrong."""
    path = layout.root / FILE
    return _parsed(path.read_text(encoding="utf-8"), str(path)) if path.exists() else ()


def _parsed(text: str, where: str) -> tuple[MerchRule, ...]:
    try:
        given = tomllib.loads(text)
        found = _File.model_validate(given).rules
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(expected=f"TOML in {where}", got=str(error), do="Mend the line it names.") from error
    except ValidationError as error:
        raise _wrong(error, where, given.get("rules")) from error
    if len(found) > MOST_RULES:
        raise ConfigError(
            expected=f"at most {MOST_RULES:,} rules", got=f"{len(found):,}", do="Remove those that are over."
        )
    for rule in found:
        if rule.language is not None and rule.language not in LANGUAGES:
            raise ConfigError(
                expected=f"a language of rule {rule.id!r} that has a stemmer ({', '.join(LANGUAGES)})",
                got=repr(rule.language), do="Name one of them.",
            )  # fmt: skip
    ids = [rule.id for rule in found]
    twice = next((one for at, one in enumerate(ids) if one in ids[:at]), None)
    if twice is not None:
        raise ConfigError(
            expected=f"an id of its own for each rule in {where}", got=f"{twice!r} twice", do="Rename one."
        )
    return found


def _wrong(error: ValidationError, where: str, given: Any) -> ConfigError:
    first = error.errors()[0]
    place = [part for part in first["loc"] if part != "rules"]
    rule = ""
    number = place[0] if place else None
    if isinstance(number, int):
        place = place[1:]
        told = given[number].get("id") if isinstance(given, list) and isinstance(given[number], Mapping) else None
        rule = f"rule {told!r}" if isinstance(told, str) else f"rule {number + 1}"
    key = ".".join(str(part) for part in place)
    message = first["msg"].removeprefix("Value error, ")
    about = " of ".join(part for part in (key, rule) if part) or "rules"
    shown = f"{first['input']!r:.80}" if key and first["type"] != "missing" else "something else"
    return ConfigError(expected=f"a valid {about} in {where} ({message})", got=shown, do="Mend it.")


def rule_of(given: Mapping[str, Any]) -> MerchRule:
    """A rule of what a command or a request says; RequestError if it is none."""
    try:
        return MerchRule.model_validate({key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = _wrong(error, "the request", None)
        raise RequestError(expected=wrong.expected, got=wrong.got, do=wrong.do) from error


def add(layout: Layout, rule: MerchRule) -> MerchRule:
    """Write a rule behind the others; a RequestError if its id is taken. Servers follow within half a second."""
    with _writing(layout) as text:
        if any(one.id == rule.id for one in _parsed(text.get, str(layout.root / FILE))):
            raise RequestError(
                expected="an id that no rule has", got=repr(rule.id), do="Remove that rule, or name another."
            )
        lines = ["[[rules]]"]
        for key, value in rule.model_dump(mode="json", exclude_defaults=True).items():
            lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
        text.put("\n".join([text.get.rstrip(), "", *lines, ""]).lstrip("\n"))
    return rule


def remove(layout: Layout, rule_id: str) -> MerchRule:
    """Take a rule away; NotFoundError if there is none of this id."""
    with _writing(layout) as text:
        known = {rule.id: rule for rule in _parsed(text.get, str(layout.root / FILE))}
        if rule_id not in known:
            raise NotFoundError(
                expected=f"a rule ({', '.join(list(known)[:5]) or 'there is none'})", got=repr(rule_id), do="Name one."
            )
        starts = [match.start() for match in _HEADER.finditer(text.get)]
        for start, end in zip(starts, [*starts[1:], len(text.get)], strict=True):
            named = _ID.search(text.get, start, end)
            if named is not None and tomllib.loads(f"id = {named['id']}")["id"] == rule_id:
                # What is written above the next rule is about that one.
                body = text.get[start:end]
                kept = (
                    re.search(r"(?:^[^\S\n]*#.*\n|^[^\S\n]*\n)*\Z", body, re.MULTILINE) if end < len(text.get) else None
                )
                text.put(text.get[:start] + (kept[0].lstrip("\n") if kept else "") + text.get[end:])
                break
        else:
            raise ConfigError(
                expected=f"the rule {rule_id!r} under a line [[rules]] with its id", got="another way of writing it",
                do=f"Take it out of {layout.root / FILE} by hand.",
            )  # fmt: skip
    return known[rule_id]


class _Text:
    def __init__(self, text: str) -> None:
        self.get = text
        self.changed = False

    def put(self, text: str) -> None:
        """Replace the text, to be written if it is still a file of rules."""
        self.get, self.changed = text, True


@contextmanager
def _writing(layout: Layout) -> Iterator[_Text]:
    """The file's text, for one writer at a time; written at the end if it was changed and is still good."""
    path = layout.root / FILE
    with disk_errors(layout.root), (layout.root / ".merchandising").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        text = _Text(path.read_text(encoding="utf-8") if path.exists() else "")
        yield text
        if text.changed:
            _parsed(text.get, str(path))
            atomic_write(path, text.get.encode())


class Rules:
    """The rules of a workspace as one process sees them: looked at again twice a second, when somebody asks."""

    def __init__(self, layout: Layout, clock: Callable[[], float] = time.monotonic, of: Stems = stems) -> None:
        self._layout, self._clock, self._stems = layout, clock, of
        self._stamp: tuple[int, int, int] | None = None
        self._looked = -LOOK_EVERY_S
        self._book = RuleBook()
        self.wrong = ""

    @property
    def book(self) -> RuleBook:
        """The rules in force; a file that cannot be read leaves those of before."""
        if self._clock() - self._looked >= LOOK_EVERY_S:
            self.look()
        return self._book

    def look(self) -> None:
        """Read the file if it has changed."""
        self._looked = self._clock()
        try:
            found = (self._layout.root / FILE).stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        except FileNotFoundError:
            stamp = (0, 0, 0)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._book, self.wrong = RuleBook(read(self._layout), self._stems), ""
        except (HoneyguideError, OSError, UnicodeDecodeError) as error:
            self.wrong = str(error)
            _logger.error("merchandising rules cannot be read; those of before stay in force", reason=self.wrong)


def listing(rules: Sequence[MerchRule], now: dt.datetime) -> list[dict[str, Any]]:
    """Rules as rows, in their order, with what each says and whether it is in force."""
    return [
        {**rule.model_dump(mode="json", exclude_defaults=True), "says": rule.says(), "state": rule.state(now)}
        for rule in rules
    ]


def review(rules: Sequence[MerchRule], catalog: CatalogView | None, now: dt.datetime) -> list[dict[str, Any]]:
    """What there is to say against rules: fights, items and categories that nobody knows, what is over.

    Rows of `rule`, `other` ("" if it is about one rule), `what`, `then`: what happens, or what to do.
    """
    alive = [rule for rule in rules if rule.state(now) != "over"]
    rows = [
        {"rule": one.first, "other": one.second, "what": one.about, "then": one.settled}
        for one in conflicts(alive, stems)
    ]
    for rule in rules:
        if rule.state(now) == "over":
            rows.append({"rule": rule.id, "other": "", "what": f"over since {rule.until:%Y-%m-%d %H:%M} UTC",
                         "then": "remove it"})  # fmt: skip
    if catalog is None:
        return rows
    names = {*catalog.category_names}
    for rule in alive:
        strange = [item for item in rule.items if catalog.items.row(item) < 0]
        gone = [item for item in rule.items if (row := catalog.items.row(item)) >= 0 and not catalog.available[row]]
        missing = [
            name for name in (*rule.categories, *([rule.category] if rule.category else [])) if name not in names
        ]
        for found, what in ((strange, "not in the catalog"), (gone, "not available"), (missing, "no category")):
            if found:
                more = f" and {len(found) - 5} more" if len(found) > 5 else ""
                rows.append({"rule": rule.id, "other": "", "what": f"{', '.join(found[:5])}{more}: {what}",
                             "then": "it does nothing"})  # fmt: skip
    return rows
