"""The chances of a list under a policy: they are those that were logged, and those that plain counting finds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.compose import Composer, SlateConfig

ITEMS, HEADS = 14, {"click": True, "next": False}


def catalog(seed: int) -> CatalogView:
    rng = np.random.default_rng(seed)
    n = ITEMS
    return CatalogView(
        Vocabulary(f"i{row}" for row in range(n)), [""] * n, [""] * n,
        Ragged.of([[int(rng.integers(3))] for _ in range(n)]), ["a", "b", "c"], Ragged.empty(n), [],
        np.full(n, -1, np.int32), [], np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32),
        rng.random(n) > 0.1, np.zeros(n, np.int64),
    )  # fmt: skip


def policy(draw: st.DrawFn) -> SlateConfig:
    pins = [{"item_id": f"i{n}", "position": p} for n, p in draw(st.sampled_from([[], [(2, 2)], [(5, 1), (3, 4)]]))]
    return SlateConfig.model_validate({
        "utility": {
            "weights": {"click": draw(st.floats(0.1, 2.0))},
            "rank_weights": {"next": draw(st.sampled_from([0.0, 0.3]))},
            "blend_weight": draw(st.sampled_from([0.0, 0.5])),
        },
        "rules": {"category_cap": draw(st.sampled_from([None, 1, 2])),
                  "category_cap_first": draw(st.sampled_from([2, 20])), "hide_seen": draw(st.booleans()), "pins": pins},
        "diversify": {"mmr_lambda": draw(st.sampled_from([0.5, 1.0])), "pool": draw(st.sampled_from([4, 100]))},
        "explore": {"epsilon": draw(st.sampled_from([0.0, 0.3, 1.0])), "pool": draw(st.integers(1, 9)),
                    "floor": draw(st.sampled_from([0.0, 0.4])), "first_slot": draw(st.sampled_from([1, 3]))},
    })  # fmt: skip


@st.composite
def cases(draw: st.DrawFn) -> tuple[Composer, Composer, dict[str, object]]:
    seed = draw(st.integers(0, 10_000))
    rng = np.random.default_rng(seed)
    view = catalog(seed)
    vectors = rng.normal(size=(ITEMS, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    n = draw(st.integers(1, ITEMS))
    asked = {
        "scores": rng.random((n, 2)), "blend": rng.random(n), "k": draw(st.integers(1, 6)),
        "seen": rng.integers(0, ITEMS, 2).astype(np.int32), "rows": rng.permutation(ITEMS)[:n].astype(np.int32),
    }  # fmt: skip
    return Composer(policy(draw), HEADS, view, vectors), Composer(policy(draw), HEADS, view, vectors), asked


@settings(max_examples=120, deadline=None)
@given(cases(), st.integers(0, 5))
def test_the_chances_of_its_own_list_are_the_logged_ones(case: tuple[Composer, Composer, dict], number: int) -> None:
    one, other, asked = case
    rows = asked["rows"]
    rest = {name: value for name, value in asked.items() if name != "rows"}
    slate = one.compose(rows, request_id=f"r{number}", **rest)
    odds = one.odds(rows, slate.rows, **rest)
    assert len(odds.start) == len(slate) + 1
    for slot, (row, propensity) in enumerate(zip(slate.rows, slate.propensity, strict=True)):
        mine = slice(odds.start[slot], odds.start[slot + 1])
        assert odds.chance[mine].sum() == pytest.approx(1.0)
        assert odds.chance[mine][odds.rows[mine] == row].sum() == pytest.approx(propensity)
        assert len(set(odds.rows[mine].tolist())) == mine.stop - mine.start
    # What another policy would have done given this list: a distribution too, never over what is there already.
    theirs = other.odds(rows, slate.rows, **rest)
    for slot in range(len(slate)):
        mine = slice(theirs.start[slot], theirs.start[slot + 1])
        assert theirs.chance[mine].sum() == pytest.approx(1.0) or mine.start == mine.stop
        assert not {*slate.rows[:slot].tolist()} & {*theirs.rows[mine].tolist()} or other.config.rules.pins


def test_the_chances_are_those_of_counting() -> None:
    view, rng = catalog(3), np.random.default_rng(3)
    config = SlateConfig.model_validate({
        "utility": {"weights": {"click": 1.0}}, "diversify": {"mmr_lambda": 1.0}, "rules": {"category_cap": 2},
        "explore": {"epsilon": 0.6, "pool": 4},
    })  # fmt: skip
    composer = Composer(config, HEADS, view)
    rows, rest = (
        np.arange(ITEMS, dtype=np.int32),
        {"scores": rng.random((ITEMS, 2)), "blend": rng.random(ITEMS), "k": 3},
    )
    drawn = [composer.compose(rows, request_id=f"n{n}", **rest).rows for n in range(30_000)]
    given_first = Counter(tuple(one[:1].tolist()) for one in drawn).most_common(1)[0][0]
    second = Counter(int(one[1]) for one in drawn if tuple(one[:1].tolist()) == given_first)
    shown = next(one for one in drawn if tuple(one[:1].tolist()) == given_first)
    odds = composer.odds(rows, shown, **rest)
    mine = slice(odds.start[1], odds.start[2])
    n = sum(second.values())
    told = dict(zip(odds.rows[mine].tolist(), odds.chance[mine].tolist(), strict=True))
    assert set(second) == set(told)
    for row, chance in told.items():
        assert second[row] / n == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / n))
