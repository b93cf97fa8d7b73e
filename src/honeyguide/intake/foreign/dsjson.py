"""VW / Azure Personalizer DSJSON: decisions with the probability of every action, what was chosen and what it cost.

Contextual bandits (`a`, `p`), conditional bandits with slots (`_outcomes`, `_slots`) and slates (`_slot_id`). A reward
is the cost with its sign turned. A decision becomes a row of Decisions per slot, and for the events an impression of
what was chosen, followed by an action `reward` where there was one. An observation without its decision is none, nor is
a decision that was never activated (`_skipLearn`): both go to quarantine as they stand. `pdrop` and
`_original_label_cost` stay in context. Sources: VowpalWabbit wiki "DSJSON" and its parser, `parse_example_json.h`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import msgspec

from honeyguide.intake.foreign.base import File, Importer
from honeyguide.intake.foreign.facts import ITEM_COLUMNS, item_facts
from honeyguide.intake.foreign.records import Head, Record, records
from honeyguide.intake.foreign.rows import Part, Rows, Unfit, identity, number, text, word
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import DECISIONS, EVENTS, ITEMS

__all__ = ["DSJSON"]

_COLUMNS = {
    EVENTS.name: (
        c.EVENT_ID, c.USER_ID, c.ITEM_ID, c.ACTION, c.VALUE, c.HAPPENED_AT, c.REQUEST_ID, c.POSITION, c.PROPENSITY,
    ),
    DECISIONS.name: (
        c.REQUEST_ID, c.POSITION, c.HAPPENED_AT, c.POLICY_VERSION, c.OFFERED, c.PROBABILITIES, c.CHOSEN, c.PROPENSITY,
        c.REWARD,
    ),
    ITEMS.name: ITEM_COLUMNS,
}  # fmt: skip
_SHAPES = ("_label_cost", "_outcomes", "a", "p")
_TIMES = ("Timestamp", "EnqueuedTimeUtc")
_MAPPED = {
    "_label_cost", "_label_probability", "_label_Action", "_labelIndex", "_outcomes", "a", "p", "c", "EventId",
    "Version", "VWState", *_TIMES,
}  # fmt: skip
_ACTION_ID = ("_tag", "_id", "id")
_PERSON = {"userid", "user", "uid", "personid", "visitorid", "customerid", "id"}
_CLOSE = 1e-4  # probabilities are logged as 32-bit floats


@dataclass(frozen=True, slots=True)
class _Choice:
    """One slot's choice among the actions on offer."""

    offered: list[str]
    probabilities: list[float] | None
    chosen: str
    propensity: float
    reward: float | None
    facts: dict[str, Any]


def _role(head: Head) -> str | None:
    if head.written != "json":
        return None
    decided = [one for one in head.first if isinstance(one.get("c"), dict) and any(name in one for name in _SHAPES)]
    return "decisions" if 2 * len(decided) > len(head.first) or (decided and _dangling(head)) else None


def _dangling(head: Head) -> bool:
    return all("EventId" in one for one in head.first)


def _read(files: Sequence[File], rows: Rows) -> Iterator[Part]:
    known: dict[str, int] = {}
    for file in files:
        yield from rows.begin(file.path, _COLUMNS)
        for record in records(file.path, file.written):
            if record.fields is None:
                _refuse(record, "", rows)
                continue
            try:
                _decision(record, record.fields, rows, known)
            except Unfit as unfit:
                _refuse(record, str(unfit), rows)
            yield from rows.full()
    yield from rows.all()


def _refuse(record: Record, why: str, rows: Rows) -> None:
    """A line without a decision counts once in each table that it could have given rows to."""
    rows.refuse(EVENTS, record, why)
    rows.refuse(DECISIONS, record, why)


def _decision(record: Record, fields: dict[str, Any], rows: Rows, known: dict[str, int]) -> None:
    shared, actions = _example(fields)
    ids = [_id_of(action) for action in actions]
    choices = _choices(fields, shared, actions, ids, rows)
    request = identity(fields.get("EventId"), "`EventId`") or hashlib.md5(record.raw.encode()).hexdigest()
    at = next((word(fields[name]) for name in _TIMES if fields.get(name) is not None), None)
    state = fields.get("VWState")
    policy = text(state.get("m")) if isinstance(state, dict) else None
    context = {name: value for name, value in shared.items() if name not in ("_multi", "_slots")}
    context |= {name: value for name, value in fields.items() if name not in _MAPPED}
    if fields.get("pdrop"):
        rows.say("{n} decisions carry pdrop: each stands for 1 / (1 - pdrop) decisions; it is in context.")
    if rows.want(ITEMS):
        _items(record.number, actions, ids, at, rows, known)
    person = _person(shared, rows) if rows.want(EVENTS) else ""
    for position, choice in enumerate(choices, 1):
        common: dict[Column, Any] = {
            c.REQUEST_ID: request,
            c.POSITION: str(position),
            c.HAPPENED_AT: at,
            c.PROPENSITY: repr(choice.propensity),
        }
        rows.give(DECISIONS, record.number, common | _decided(choice, policy), context | choice.facts)
        if not rows.want(EVENTS):
            continue
        event = common | {c.USER_ID: person, c.ITEM_ID: choice.chosen, c.ACTION: "impression"}
        event[c.EVENT_ID] = f"{request}/{position}"
        rows.give(EVENTS, record.number, event, context | choice.facts)
        if choice.reward:
            event |= {c.ACTION: "reward", c.VALUE: repr(choice.reward), c.EVENT_ID: f"{request}/{position}/reward"}
            rows.give(EVENTS, record.number, event, context | choice.facts)


def _decided(choice: _Choice, policy: str | None) -> dict[Column, Any]:
    return {
        c.POLICY_VERSION: policy or "unknown",
        c.OFFERED: choice.offered,
        c.PROBABILITIES: choice.probabilities,
        c.CHOSEN: choice.chosen,
        c.REWARD: None if choice.reward is None else repr(choice.reward),
    }


def _example(fields: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    shared = fields.get("c")
    if not isinstance(shared, dict):
        if "RewardValue" in fields or "ActionTaken" in fields or "EventId" in fields:
            raise Unfit("An observation without its decision (dangling).")
        raise Unfit("No context `c`: this is no decision.")
    if fields.get("_skipLearn") is True:
        raise Unfit("The decision was never activated (_skipLearn): nobody saw what was chosen.")
    if "_label_ca" in fields or "_label_ca" in shared:
        raise Unfit("The action is a number of a continuous range, not one of a list.")
    actions = shared.get("_multi")
    if not isinstance(actions, list) or not actions or not all(isinstance(action, dict) for action in actions):
        raise Unfit("`c._multi` is no list of actions.")
    return shared, actions


# -------------------------------------------------------------------------------------------------- what was chosen


def _choices(
    fields: dict[str, Any], shared: dict[str, Any], actions: list[dict[str, Any]], ids: list[str], rows: Rows
) -> list[_Choice]:
    outcomes = fields.get("_outcomes")
    if outcomes is None:
        return [_bandit(fields, ids, rows)]
    if not isinstance(outcomes, list) or not outcomes or not all(isinstance(one, dict) for one in outcomes):
        raise Unfit("`_outcomes` is no list of outcomes.")
    slates = any("_slot_id" in action for action in actions)
    if slates:
        rows.say("{n} slates have one reward for all slots: it stands in each slot's row.")
        by_slot: list[list[str]] = [[] for _ in outcomes]
        for action, item in zip(actions, ids, strict=True):
            slot = action.get("_slot_id")
            if not isinstance(slot, int) or not 0 <= slot < len(outcomes):
                raise Unfit("An action's `_slot_id` is none of the slots.")
            by_slot[slot].append(item)
        reward = _reward(fields)
        return [_slot(outcome, own, reward, rows) for outcome, own in zip(outcomes, by_slot, strict=True)]
    slots = shared.get("_slots")
    if isinstance(slots, list) and len(slots) != len(outcomes):
        raise Unfit(f"{len(outcomes)} outcomes for {len(slots)} slots.")
    return [_slot(outcome, ids, _reward(outcome), rows) for outcome in outcomes]


def _bandit(fields: dict[str, Any], ids: list[str], rows: Rows) -> _Choice:
    """A contextual bandit's choice. `a` holds action numbers from 1, best first, `p` their probabilities."""
    order = fields.get("a")
    order = list(range(1, len(ids) + 1)) if order is None else order
    index = fields.get("_labelIndex")
    taken = fields.get("_label_Action", index + 1 if _is_int(index) else None)
    if taken is None and isinstance(order, list) and order:
        taken = order[0]
    if not _is_int(taken) or not 1 <= taken <= len(ids):
        raise Unfit("The chosen action is none of `c._multi`.")
    if _is_int(index) and index + 1 != taken:
        raise Unfit("`_label_Action` and `_labelIndex` name different actions.")
    numbers = _numbered(order, len(ids), 1)
    if taken not in numbers:
        raise Unfit("The chosen action is not among those in `a`.")
    chances = _probabilities(fields.get("p"), len(numbers))
    given = fields.get("_label_probability")
    if given is None and chances is not None:
        given = chances[numbers.index(taken)]
    propensity = _chance(given, "`_label_probability`")
    if chances is not None and abs(chances[numbers.index(taken)] - propensity) > _CLOSE * propensity:
        raise Unfit("`_label_probability` is not what `p` says of the chosen action.")
    offered = [ids[at - 1] for at in numbers]
    return _merged(_Choice(offered, chances, ids[taken - 1], propensity, _reward(fields), {}), rows)


def _slot(outcome: dict[str, Any], ids: list[str], reward: float | None, rows: Rows) -> _Choice:
    """A slot's choice. `_a` holds action numbers from 0, the chosen one first, `_p` their probabilities."""
    order, chances = outcome.get("_a"), outcome.get("_p")
    numbers = _numbered([order] if _is_int(order) else order, len(ids), 0)
    chances = [chances] if isinstance(chances, int | float) else chances
    facts = {name: value for name, value in outcome.items() if name not in ("_label_cost", "_a", "_p") and value != []}
    if isinstance(chances, list) and len(chances) == len(numbers) == 1:
        # Only the chosen action is logged; the slot's others were on offer with chances that nobody knows.
        propensity = _chance(chances[0], "`_p`")
        known = [1.0] if len(ids) == 1 and propensity == 1 else None
        return _merged(_Choice(ids, known, ids[numbers[0]], propensity, reward, facts), rows)
    probabilities = _probabilities(chances, len(numbers))
    if probabilities is None:
        raise Unfit("A slot without probabilities `_p`.")
    offered = [ids[at] for at in numbers]
    propensity = _chance(probabilities[0], "`_p`")
    return _merged(_Choice(offered, probabilities, offered[0], propensity, reward, facts), rows)


def _numbered(order: Any, actions: int, first: int) -> list[int]:
    if not isinstance(order, list) or not order or not all(_is_int(at) for at in order):
        raise Unfit("The action numbers are no list of numbers.")
    if len(set(order)) != len(order) or not all(0 <= at - first < actions for at in order):
        raise Unfit("An action number is repeated, or is none of the actions.")
    return order


def _probabilities(chances: Any, actions: int) -> list[float] | None:
    if chances is None:
        return None
    if not isinstance(chances, list) or len(chances) != actions:
        raise Unfit(f"The probabilities are not one for each of {actions} actions.")
    probabilities = [number(chance, "A probability") for chance in chances]
    if any(not 0 <= chance <= 1 + _CLOSE for chance in probabilities):
        raise Unfit("A probability is none: below 0 or above 1.")
    if abs(sum(probabilities) - 1) > _CLOSE:
        raise Unfit(f"The probabilities sum to {sum(probabilities):.4g}, not to 1.")
    return probabilities


def _merged(choice: _Choice, rows: Rows) -> _Choice:
    """The same with each item once: actions of one id are one item, whose chances add up."""
    distinct = dict.fromkeys(choice.offered)
    if len(distinct) == len(choice.offered):
        return choice
    rows.say("{n} decisions offer an item in several actions: it counts once, their probabilities are added.")
    if choice.probabilities is None:
        return replace(choice, offered=list(distinct))
    sums = dict.fromkeys(distinct, 0.0)
    for item, chance in zip(choice.offered, choice.probabilities, strict=True):
        sums[item] += chance
    return replace(
        choice, offered=list(sums), probabilities=list(sums.values()), propensity=min(sums[choice.chosen], 1)
    )


def _chance(value: Any, what: str) -> float:
    chance = number(value, what)
    if not 0 < chance <= 1 + _CLOSE:
        raise Unfit(f"{what} is no probability above zero.")
    return min(chance, 1.0)


def _reward(outcome: dict[str, Any]) -> float | None:
    cost = outcome.get("_label_cost")
    return None if cost is None else 0.0 - number(cost, "`_label_cost`")


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


# ------------------------------------------------------------------------------------------------ items and people


def _id_of(action: dict[str, Any]) -> str:
    """The action's own id: its tag, its `id`, or that of a namespace; without one, a digest of its features."""
    named = [action.get(name) for name in _ACTION_ID]
    named += [inner.get("id") for inner in action.values() if isinstance(inner, dict)]
    for value in named:
        if isinstance(value, str | int | float) and not isinstance(value, bool) and value != "":
            return word(value) or ""
    return f"action-{_digest(_features(action))}"


def _features(action: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in action.items() if name != "_slot_id"}


def _digest(value: Any) -> str:
    return hashlib.md5(msgspec.json.encode(value, order="sorted")).hexdigest()[:12]


def _items(
    number: int, actions: list[dict[str, Any]], ids: list[str], at: Any, rows: Rows, known: dict[str, int]
) -> None:
    for action, item in zip(actions, ids, strict=True):
        features = hash(msgspec.json.encode(action))
        if item in known:
            if known[item] != features:
                rows.say("{n} times an action came again with other features: those of its first decision stand.")
            continue
        known[item] = features
        facts, rest = item_facts(_flat(_features(action)))
        if not facts.get(c.TITLE):
            facts[c.TITLE] = (
                msgspec.json.encode(_features(action)).decode()[:200] if item.startswith("action-") else item
            )
        rows.give(ITEMS, number, facts | {c.ITEM_ID: item, c.AVAILABLE: "true", c.KNOWN_AT: at}, rest)


def _flat(action: dict[str, Any]) -> dict[str, Any]:
    """Features by name, without their namespaces where no two collide; `_title` counts as a title."""
    found: dict[str, Any] = {}

    def add(name: str, value: Any, space: str) -> None:
        key = name.lstrip("_") if name.lower() == "_title" else name
        found[key if key not in found else f"{space}.{key}"] = value

    for name, value in action.items():
        inner = [value] if isinstance(value, dict) else value if isinstance(value, list) else []
        if inner and all(isinstance(one, dict) for one in inner):
            for one in inner:
                for key, feature in one.items():
                    add(key, feature, name)
        elif name not in _ACTION_ID:
            add(name, value, "")
    return found


def _person(shared: dict[str, Any], rows: Rows) -> str:
    """The person's id if the context has one; else all who share the whole context count as one."""
    for space, inside in [("", shared), *((name, value) for name, value in shared.items() if isinstance(value, dict))]:
        for name, value in inside.items():
            plain = name.replace("_", "").lower()
            if plain in _PERSON and (plain != "id" or "user" in space.lower()) and text(value):
                return text(value) or ""
    rows.say("{n} decisions name no person: who shares the same context counts as one.")
    context = {name: value for name, value in shared.items() if name not in ("_multi", "_slots")}
    return f"context-{_digest(context)}"


DSJSON = Importer(
    "dsjson", "VW / Azure Personalizer DSJSON", (EVENTS, ITEMS, DECISIONS), _role, _read, frozenset({"decisions"})
)
