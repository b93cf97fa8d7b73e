"""The Open Bandit Dataset's files: a log per policy and campaign (`bts/men/men.csv`), and its `item_context.csv`.

Each row is one item in one slot with the probability of being there. The log names no people: who share the anonymous
features count as one. An item's number means another item in each campaign, so its id carries the campaign, which is
the log's file name; the policy is the folder above. Source: Saito, Aihara, Matsutani and Narita 2021; zr-obp.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.records import Head, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, number, word
from honeyguide.schema import columns as c
from honeyguide.schema.tables import DECISIONS, EVENTS, ITEMS

__all__ = ["OPEN_BANDIT"]

_COLUMNS = {
    EVENTS.name: (
        c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.HAPPENED_AT, c.SURFACE, c.REQUEST_ID, c.EXPERIMENT, c.POSITION,
        c.PROPENSITY,
    ),
    DECISIONS.name: (
        c.REQUEST_ID, c.POSITION, c.HAPPENED_AT, c.POLICY_VERSION, c.OFFERED, c.CHOSEN, c.PROPENSITY, c.REWARD,
    ),
    ITEMS.name: (c.ITEM_ID, c.CATEGORIES, c.AVAILABLE),
}  # fmt: skip
_NEEDED = ("timestamp", "item_id", "position", "click", "propensity_score")
_POLICIES = ("random", "bts")
_AFFINITY = "user-item_affinity"
_DIGITS = 8  # of 32 hex digits are enough to tell the few values of each anonymous feature apart


def _role(head: Head) -> str | None:
    if head.names >= set(_NEEDED):
        return "log"
    features = {name for name in head.names if name.startswith("item_feature")}
    return "item context" if "item_id" in head.names and features else None


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    logs = [file for file in files if file.role == "log"]
    contexts = [file for file in files if file.role != "log"]
    offered = {log.path: _offered(log, contexts, logs) for log in logs} if rows.want(DECISIONS) else {}
    seen: set[str] = set()
    for file in contexts:
        if not rows.want(ITEMS):
            continue
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(ITEMS, record)
            else:
                _item(record.number, record.fields, _campaign_of(file, logs), rows, seen)
            yield from rows.full()
    for file in logs:
        if not (rows.want(EVENTS) or rows.want(DECISIONS)):
            continue
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                rows.refuse(EVENTS, record)
                rows.refuse(DECISIONS, record)
                continue
            _row(record, file, offered.get(file.path), rows)
            yield from rows.full()
    yield from rows.all()


def _campaign(path: Path) -> str:
    return path.name.partition(".")[0]


def _policy(path: Path) -> str:
    above = [part for part in reversed(path.parts[:-1]) if part != _campaign(path)]
    return next((part for part in above if part in _POLICIES), above[0] if above else "logged")


def _beside(context: File, logs: Sequence[File]) -> list[File]:
    """The logs that an item context describes: those of its folder, or the only one there is."""
    near = [log for log in logs if log.path.parent == context.path.parent]
    return near or (list(logs) if len(logs) == 1 else [])


def _campaign_of(context: File, logs: Sequence[File]) -> str:
    near = _beside(context, logs)
    return _campaign(near[0].path) if near else context.path.parent.name


def _offered(log: File, contexts: Sequence[File], logs: Sequence[File]) -> list[str] | None:
    """The ids of all items of a log's campaign, in the order of its item context."""
    for context in contexts:
        if log in _beside(context, logs):
            found = (record.fields for record in records(context.path, context.written))
            ids = [fields.get("item_id") for fields in found if fields is not None]
            return [f"{_campaign(log.path)}:{word(item)}" for item in dict.fromkeys(ids) if item is not None]
    return None


def _item(number: int, fields: dict[str, Any], campaign: str, rows: Rows, seen: set[str]) -> None:
    item = word(fields.get("item_id"))
    item_id = None if item is None else f"{campaign}:{item}"
    if item_id in seen:
        rows.say("{n} items are described for each of several policies: once is enough.")
        return
    if item_id is not None:
        seen.add(item_id)
    rest = {name: value for name, value in fields.items() if name and name not in ("item_id", "column_1")}
    rows.give(ITEMS, number, {c.ITEM_ID: item_id, c.CATEGORIES: [campaign], c.AVAILABLE: "true"}, rest)


def _row(record: Any, file: File, offered: list[str] | None, rows: Rows) -> None:
    fields = record.fields
    campaign, policy = _campaign(file.path), _policy(file.path)
    features = [name for name in sorted(fields) if name.startswith("user_feature")]
    affinities = {name: fields[name] for name in fields if name.startswith(_AFFINITY)}
    context = {name: fields[name] for name in features}
    context |= {name: value for name, value in map(_affinity, affinities.items()) if value != 0}
    known = {*_NEEDED, *features, *affinities, "column_1"}
    context |= {name: value for name, value in fields.items() if name not in known}
    item, clicked = word(fields.get("item_id")), _yes(fields.get("click"))
    key = f"{policy}-{campaign}-{record.number - 1}"
    item_id = None if item is None else f"{campaign}:{item}"
    shared = {
        c.HAPPENED_AT: word(fields.get("timestamp")),
        c.REQUEST_ID: key,
        c.POSITION: word(fields.get("position")),
        c.PROPENSITY: word(fields.get("propensity_score")),
    }
    person = "-".join((word(fields[name]) or "")[:_DIGITS] for name in features)
    event = shared | {
        c.EVENT_ID: key,
        c.USER_ID: person or None,
        c.ITEM_ID: item_id,
        c.ACTION: "impression",
        c.SURFACE: campaign,
        c.EXPERIMENT: f"open-bandit={policy}",
    }
    if clicked is None:
        rows.refuse(EVENTS, record, "`click` is neither 0 nor 1.")
        rows.refuse(DECISIONS, record, "`click` is neither 0 nor 1.")
        return
    rows.give(EVENTS, record.number, event, context)
    if clicked:
        rows.give(EVENTS, record.number, event | {c.ACTION: "click", c.EVENT_ID: f"{key}-click"}, context)
        rows.say("{n} rows were clicked: each is an impression and a click.")
    if rows.want(DECISIONS):
        try:
            chance = number(fields.get("propensity_score"), "`propensity_score`")
            if item_id is None or not 0 < chance <= 1:
                raise Unfit("No item, or a propensity that is no probability above zero.")
        except Unfit as unfit:
            rows.refuse(DECISIONS, record, str(unfit))
            return
        reward = {c.REWARD: "1" if clicked else "0", c.CHOSEN: item_id, c.OFFERED: offered, c.POLICY_VERSION: policy}
        rows.give(DECISIONS, record.number, shared | reward, context)


def _affinity(named: tuple[str, Any]) -> tuple[str, Any]:
    """An affinity as a number, where it is one: most are 0."""
    try:
        return named[0], number(named[1], "")
    except Unfit:
        return named


def _yes(value: Any) -> bool | None:
    return {"0": False, "1": True, "0.0": False, "1.0": True}.get(word(value) or "")


OPEN_BANDIT = Importer(
    "open_bandit", "Open Bandit Dataset", (EVENTS, ITEMS, DECISIONS), _role, _read, frozenset({"log", "item context"})
)
