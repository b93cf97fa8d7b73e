"""Records of events with corrections, what features say of them in plain loops, the same records for each engine."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from honeyguide.contracts import RETRACT, CatalogView, Interactions, Ragged
from honeyguide.features.definition import HOP_US, Feature, FeatureSet
from honeyguide.intake.events import interactions
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS
from honeyguide.schema.vocabulary import Vocabulary

DAY = 86_400_000_000
BEGIN = 19_700 * DAY
N_USERS, N_ITEMS = 4, 5
ACTIONS = ("view", "rating", "buy")
SURFACES, QUERIES = (None, "home", "item"), (None, "Red  Shoes", "red shoes", "blau")
CATEGORIES = [[0], [0, 1], [1, 2], [], [2]]
PEOPLE = [[0, 1], [1], [], [2, 3], [3]]
USERS, ITEMS = Vocabulary(["u0", "u1", "u2", "u3"]), Vocabulary(["i0", "i1", "i2", "i3", "i4"])


class Record(NamedTuple):
    """A row of the log; `corrects` names an earlier row's number, of the same person."""

    at: int
    known: int
    user: int
    item: int
    action: str
    value: float
    surface: str | None
    query: str | None
    corrects: int | None = None


class Ask(NamedTuple):
    """A label: who and what (-1 nobody knows), when, and in which context."""

    at: int
    user: int
    item: int
    surface: str | None = None
    query: str | None = None


moments = st.builds(
    lambda days, us: BEGIN + int(days * DAY) + us,
    st.sampled_from([0, 0.01, 1 / 24, 0.5, 1, 1.5, 2, 3, 4, 5, 10]),
    st.integers(-1, 1),
)
delays = st.sampled_from([0, 0, 0, 1, 60_000_000, DAY // 24, DAY // 2, DAY, 3 * DAY])
# Halves are whole steps, so the plain sums of the oracle are exact too.
values = st.one_of(st.just(math.nan), st.integers(-4, 20).map(lambda v: v / 2))


@st.composite
def records(draw: st.DrawFn, most: int = 30, *, in_turn: bool = False) -> list[Record]:
    """Events in any order, late ones and corrections of some among them.

    in_turn: a correction is known after what it corrects.
    """
    made: list[Record] = []
    for _ in range(draw(st.integers(0, most))):
        at = draw(moments)
        roots = [n for n, r in enumerate(made) if r.corrects is None]
        root = draw(st.sampled_from(roots)) if roots and draw(st.integers(0, 4)) == 0 else None
        user = draw(st.integers(0, N_USERS - 1)) if root is None else made[root].user
        retracts = root is not None and draw(st.booleans())
        action = RETRACT if retracts else draw(st.sampled_from(ACTIONS))
        # Exact repeats are ties of everything.
        if root is None and made and made[-1].corrects is None and draw(st.integers(0, 5)) == 0:
            made.append(made[-1])
            continue
        known = at + draw(delays)
        if root is not None and in_turn:
            known = max(known, *(r.known + 1 for n, r in enumerate(made) if root in (n, r.corrects)))
        made.append(
            Record(
                at, known, user, draw(st.integers(0, N_ITEMS - 1)), action, draw(values),
                draw(st.sampled_from(SURFACES)), draw(st.sampled_from(QUERIES)), root,
            )
        )  # fmt: skip
    return made


asks = st.builds(
    Ask, moments, st.integers(-1, N_USERS - 1), st.integers(0, N_ITEMS - 1), st.sampled_from(SURFACES),
    st.sampled_from(QUERIES),
)  # fmt: skip


@st.composite
def feature_sets(draw: st.DrawFn, most: int = 8) -> FeatureSet:
    """Any aggregates over any entities."""

    def one(at: int) -> Feature:
        aggregates = ("count", "sum", "mean", "std", "ratio", "trend", "share", "rate", "recency", "tenure")
        aggregate = draw(st.sampled_from([*aggregates, "distinct", "min", "max"]))
        body: dict[str, object] = {"name": f"f{at}", "aggregate": aggregate}
        body["entity"] = draw(st.sampled_from(["user", "item", "user_item", "item_context", "query_item"]))
        if body["entity"] == "item_context":
            body["context"] = draw(st.sampled_from(["surface", "hour"]))
            body |= {"band_hours": draw(st.sampled_from([1, 6])), "utc_offset_hours": draw(st.sampled_from([0, -3.5]))}
        body["action"] = draw(st.sampled_from([None, *ACTIONS, "never seen"]))
        low, high = draw(st.sampled_from([(None, None), (1.0, None), (None, 2.0), (0.5, 4.0)]))
        body |= {"min_value": low, "max_value": high, "hop": draw(st.sampled_from(list(HOP_US)))}
        windows = st.sampled_from([1 / 48, 0.5, 1.0, 2.5])
        ways = {"window_days": windows}
        if aggregate in ("count", "sum", "mean", "ratio", "share"):
            ways["half_life_days"] = st.sampled_from([0.25, 2.0])
        if aggregate in ("sum", "mean", "std", "ratio", "distinct"):
            ways["last"] = st.integers(1, 4)
        if aggregate in ("min", "max"):
            ways = {"last": st.integers(1, 4)}
        if aggregate == "trend":
            body |= {"window_days": draw(windows), "of_days": draw(st.none() | windows)}
        elif aggregate not in ("rate", "recency", "tenure"):
            way = draw(st.sampled_from(sorted(ways) + ([] if aggregate in ("min", "max") else [None])))
            if way is not None:
                body[way] = draw(ways[way])
        if aggregate == "distinct":
            body["of"] = draw(st.sampled_from(["item", "user", *([] if "last" in body else ["category", "people"])]))
        if aggregate == "ratio":
            body["of_action"] = draw(st.sampled_from([None, "*", "view"]))
        if aggregate in ("mean", "ratio", "trend") and draw(st.booleans()):
            priors = [0.25] if "last" in body else ["overall", 0.25]
            body |= {"prior": draw(st.sampled_from(priors)), "strength": draw(st.sampled_from([1.0, 2.5]))}
        body["expires_days"] = draw(st.sampled_from([None, None, 0.5, 3.0]))
        return Feature.model_validate(body)

    return FeatureSet(tuple(one(at) for at in range(draw(st.integers(1, most)))))


def known_at(rows: list[Record], now: int) -> list[Record]:
    """The events that count at a moment: of each, the version that was known last."""
    newest: dict[int, tuple[tuple[int, int, str], Record]] = {}
    for number, row in enumerate(rows):
        root = number if row.corrects is None else row.corrects
        rank = (row.known, row.at, name_of(number))
        if row.known < now and (root not in newest or rank > newest[root][0]):
            newest[root] = (rank, row)
    return [row for _, row in newest.values() if row.action != RETRACT]


def name_of(number: int) -> str:
    """The id of a row."""
    return f"e{number:04}"


def plain(feature: Feature, rows: list[Record], ask: Ask) -> float:
    """The definition's words, in loops; every value as a float of 64 bits."""
    now, everybody = ask.at, known_at(rows, ask.at)

    def same(row: Record) -> bool:
        hour = (3600 * 1_000_000) * feature.band_hours

        def band(at: int) -> int:
            return (at + round(feature.utc_offset_hours * 3.6e9)) % DAY // hour

        by_item = row.item == ask.item
        return {
            "user": row.user == ask.user,
            "item": by_item,
            "user_item": by_item and row.user == ask.user,
            "item_context": by_item
            and (band(row.at) == band(now) if feature.context == "hour" else _said(row.surface, ask.surface)),
            "query_item": by_item and _said(spelt(row.query), spelt(ask.query)),
        }[feature.entity]

    bounded = feature.min_value is not None or feature.max_value is not None

    def meets(row: Record, action: str | None, *, bounds: bool, valued: bool) -> bool:
        if action is not None and row.action != action:
            return False
        if valued and math.isnan(row.value):
            return False
        if not bounds:
            return True
        low_ok = feature.min_value is None or row.value >= feature.min_value
        return low_ok and (feature.max_value is None or row.value <= feature.max_value)

    def chosen(action: str | None, days: float | None, *, bounds: bool, valued: bool, of_all: bool) -> list[Record]:
        start = -math.inf
        if days is not None:
            start = (now - round(days * DAY)) // HOP_US[feature.hop] * HOP_US[feature.hop]
        found = [r for r in everybody if (of_all or same(r)) and start <= r.at < now]
        return [r for r in found if meets(r, action, bounds=bounds, valued=valued)]

    needs_value = bounded or feature.aggregate in ("sum", "mean", "std", "min", "max")
    if feature.expires_days is not None:
        own = chosen(feature.action, None, bounds=True, valued=needs_value, of_all=False)
        if not own or now - max(r.at for r in own) > feature.expires_days * DAY:
            return math.nan
    if feature.last is not None:
        return _of_last(feature, chosen, meets)
    half = feature.half_life_days

    def weight(row: Record) -> float:
        return 1.0 if half is None else 0.5 ** ((now - row.at) / (half * DAY))

    own = chosen(feature.action, feature.window_days, bounds=True, valued=bounded, of_all=False)
    with_value = [row for row in own if not math.isnan(row.value)]
    match feature.aggregate:
        case "count":
            return sum(map(weight, own), 0.0)
        case "sum":
            return sum(weight(row) * row.value for row in with_value)
        case "std":
            return float(np.std([row.value for row in with_value])) if len(with_value) > 1 else math.nan
        case "share":
            of_all = chosen(feature.action, feature.window_days, bounds=True, valued=bounded, of_all=True)
            return sum(map(weight, own)) / sum(map(weight, of_all)) if of_all else math.nan
        case "distinct":
            return float(len(set(itertools.chain.from_iterable(_codes(feature, row) for row in own))))
        case "recency":
            return (now - max(row.at for row in own)) / DAY if own else math.nan
        case "tenure":
            return (now - min(row.at for row in own)) / DAY if own else math.nan
        case "rate":
            return len(own) / max(1.0, (now - min(row.at for row in own)) / DAY) if own else 0.0

    def parts(of_all: bool) -> tuple[float, float]:
        own = chosen(feature.action, feature.window_days, bounds=True, valued=needs_value, of_all=of_all)
        if feature.aggregate == "mean":
            return sum(weight(row) * row.value for row in own), sum(map(weight, own))
        if feature.aggregate == "trend":
            base = chosen(feature.action, feature.of_days, bounds=True, valued=bounded, of_all=of_all)
            return len(own), len(base)
        action, valued = _below(feature, bounded)
        base = chosen(action, feature.window_days, bounds=False, valued=valued, of_all=of_all)
        return sum(map(weight, own)), sum(map(weight, base))

    return _shrunk(feature, *parts(False), parts)


def _said(one: str | None, other: str | None) -> bool:
    return one is not None and one == other


def spelt(query: str | None) -> str | None:
    """A query as it is compared."""
    return None if query is None else " ".join(query.lower().split())


def _below(feature: Feature, bounded: bool) -> tuple[str | None, bool]:
    if feature.of_action is None:
        return feature.action, bounded
    return (None if feature.of_action == "*" else feature.of_action), False


def _codes(feature: Feature, row: Record) -> list[int]:
    return {"item": [row.item], "user": [row.user], "category": CATEGORIES[row.item], "people": PEOPLE[row.item]}[
        str(feature.of)
    ]


def _of_last(feature: Feature, chosen, meets) -> float:
    bounded = feature.min_value is not None or feature.max_value is not None
    if feature.aggregate == "ratio":
        action, valued = _below(feature, bounded)
        base = chosen(action, None, bounds=False, valued=valued, of_all=False)
        amounts = [(r.at, float(meets(r, feature.action, bounds=True, valued=bounded))) for r in base]
    elif feature.aggregate == "distinct":
        own = chosen(feature.action, None, bounds=True, valued=bounded, of_all=False)
        amounts = [(r.at, float(_codes(feature, r)[0])) for r in own]
    else:
        own = chosen(feature.action, None, bounds=True, valued=True, of_all=False)
        amounts = [(r.at, r.value) for r in own]
    last = [amount for _, amount in sorted(amounts)[-(feature.last or 0) :]]
    match feature.aggregate:
        case "sum":
            return float(sum(last))
        case "std":
            return float(np.std(last)) if len(last) > 1 else math.nan
        case "min":
            return min(last, default=math.nan)
        case "max":
            return max(last, default=math.nan)
        case "distinct":
            return float(len(set(last)))
    return _shrunk(feature, float(sum(last)), float(len(last)), None)


def _shrunk(feature: Feature, top: float, bottom: float, parts) -> float:
    if feature.prior is not None:
        centre: float | None = None
        if feature.prior != "overall":
            centre = float(feature.prior)
        else:
            above, below = parts(True)
            centre = above / below if below else None
        if centre is not None:
            top, bottom = top + feature.strength * centre, bottom + feature.strength
    return top / bottom if bottom else math.nan


# ------------------------------------------------------------------------------------------------ for the engines


def table_of(rows: Iterable[Record], users: Vocabulary = USERS) -> pa.Table:
    """Records as an EVENTS table, oldest first."""
    numbered = sorted(enumerate(rows), key=lambda pair: pair[1].at)

    def time(us: int) -> dt.datetime:
        return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=us)

    cells = [
        {
            c.EVENT_ID: name_of(n), c.USER_ID: users.id(r.user), c.ITEM_ID: ITEMS.id(r.item), c.ACTION: r.action,
            c.VALUE: None if math.isnan(r.value) else r.value, c.HAPPENED_AT: time(r.at), c.KNOWN_AT: time(r.known),
            c.SURFACE: r.surface, c.QUERY: r.query, c.CORRECTS: None if r.corrects is None else name_of(r.corrects),
        }
        for n, r in numbered
    ]  # fmt: skip
    return pa.Table.from_pylist(cells, schema=EVENTS.arrow())


def log_of(rows: Iterable[Record]) -> Interactions:
    """Records as the arrays that a build reads."""
    weights = dict.fromkeys(ACTIONS, 1.0)
    return interactions(table_of(rows), USERS, ITEMS, weights, (c.SURFACE, c.QUERY))


def catalog() -> CatalogView:
    """A catalog of five items."""
    n = N_ITEMS
    return CatalogView(
        ITEMS, [""] * n, [""] * n, Ragged.of(CATEGORIES), list("abc"), Ragged.of(PEOPLE), list("wxyz"),
        np.full(n, -1, np.int32), [], np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32),
        np.ones(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


def agree(got: np.ndarray, want: np.ndarray, features: FeatureSet, *, exact: bool = True) -> None:
    """Whole numbers exactly, the others to a billionth."""
    for column, feature in enumerate(features):
        name = f"{feature.name}: {feature!r}"
        np.testing.assert_array_equal(np.isnan(got[:, column]), np.isnan(want[:, column]), err_msg=name)
        whole = feature.aggregate in ("count", "sum", "distinct") and feature.half_life_days is None
        if exact and whole:
            np.testing.assert_array_equal(got[:, column], want[:, column], err_msg=name)
        np.testing.assert_allclose(got[:, column], want[:, column], rtol=1e-9, atol=1e-9, err_msg=name)
