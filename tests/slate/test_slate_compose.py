"""The slate against plain loops, its laws, and the cases at the edge."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from slate_oracle import Plan, catalog, mmr, reciprocal_ranks

from honeyguide.errors import ConfigError, DataError
from honeyguide.schema import columns as c
from honeyguide.schema.tables import SLATE
from honeyguide.schema.wire import Filters
from honeyguide.slate.compose import Composer, SlateConfig, SlateResult
from honeyguide.slate.diversify import unit_rows
from honeyguide.testing.slates import check_slates

HEADS = {"like": True, "dislike": True, "watch": False}


def config(**parts: dict) -> SlateConfig:
    return SlateConfig.model_validate(parts)


def blend_slate(blend: list[float], k: int, composer: Composer, **request: object) -> SlateResult:
    """Candidates 0..n-1 with no heads."""
    rows = np.arange(len(blend), dtype=np.int32)
    request.setdefault("request_id", "r")
    return composer.compose(rows, scores=np.zeros((len(rows), 0)), blend=np.array(blend), k=k, **request)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- against plain loops


@st.composite
def cases(draw: st.DrawFn) -> dict:
    n = draw(st.integers(0, 7))
    k = draw(st.integers(1, 5))
    n_items = 9
    categories = [draw(st.lists(st.integers(0, 2), max_size=2, unique=True)) for _ in range(n_items)]
    pins = draw(st.dictionaries(st.integers(1, 5), st.integers(0, 10), max_size=2))
    return {
        "seed": draw(st.integers(0, 10_000)),
        "rows": draw(st.permutations(range(n_items)))[:n],
        "k": k,
        "categories": categories,
        "seen": draw(st.lists(st.integers(0, n_items - 1), max_size=2)),
        "pins": {slot: row for slot, row in pins.items() if list(pins.values()).count(row) == 1},
        "cap": draw(st.sampled_from([None, None, 1, 2])),
        "cap_first": draw(st.integers(1, 5)),
        "weight": draw(st.sampled_from([1.0, 0.7, 0.2])),
        "mmr_pool": draw(st.integers(1, 8)),
        "epsilon": draw(st.sampled_from([0.0, 0.3, 1.0])),
        "pool": draw(st.integers(1, 4)),
        "floor": draw(st.sampled_from([0.0, 0.5])),
        "first_slot": draw(st.integers(1, 3)),
        "exempt": draw(st.sampled_from([[], [], [0]])),
        "ties": draw(st.booleans()),
        "nan": draw(st.booleans()),
    }


def composed(case: dict) -> tuple[SlateResult, Plan]:
    """The slate of the case, and the oracle's plan for it."""
    rng = np.random.default_rng(case["seed"])
    rows = np.array(case["rows"], np.int32)
    n, n_items = len(rows), 9
    scores, blend = rng.random((n, 3)), rng.random(n)
    if case["ties"]:
        scores, blend = np.round(scores, 0), np.round(blend, 0)
    if case["nan"] and n:
        scores[rng.integers(0, n), rng.integers(0, 3)] = np.nan
    vectors = unit_rows(rng.normal(size=(n_items, 4)).astype(np.float32))
    settings_ = config(
        utility={"weights": {"like": 1.0, "dislike": -0.5}, "rank_weights": {"watch": 0.3}, "blend_weight": 0.2},
        rules={
            "category_cap": case["cap"],
            "category_cap_first": case["cap_first"],
            "pins": [{"item_id": str(row), "position": slot} for slot, row in case["pins"].items()],
        },
        diversify={"mmr_lambda": case["weight"], "pool": case["mmr_pool"]},
        explore={key: case[key] for key in ("epsilon", "pool", "floor", "first_slot")},
    )
    view = catalog(n_items, case["categories"], 3)
    filters = Filters(categories=[f"c{i}" for i in case["exempt"]]) if case["exempt"] else None
    slate = Composer(settings_, HEADS, view, vectors).compose(
        rows, scores=scores, blend=blend, k=case["k"], request_id=str(case["seed"]),
        seen=np.array(case["seen"], np.int32), filters=filters,
    )  # fmt: skip

    passes = [
        row for row in range(n_items)
        if row not in case["seen"] and (not case["exempt"] or set(case["exempt"]) & set(case["categories"][row]))
    ]  # fmt: skip
    kept = [i for i in range(n) if rows[i] in passes]
    watch = reciprocal_ranks([scores[i, 2] for i in kept], 60.0)
    retrieved = reciprocal_ranks([blend[i] for i in kept], 60.0)
    utility = {
        int(rows[i]): 1.0 * scores[i, 0] - 0.5 * scores[i, 1] + 0.3 * watch[j] + 0.2 * retrieved[j]
        for j, i in enumerate(kept)
    }
    blend_of = {int(rows[i]): blend[i] for i in kept}
    pins = {slot - 1: row for slot, row in case["pins"].items() if row in passes and slot <= case["k"]}
    free = [row for row in utility if row not in pins.values()]
    numbers = sorted(
        (row for row in free if utility[row] == utility[row]), key=lambda r: (-utility[r], -blend_of[r], r)
    )
    order = numbers + sorted((row for row in free if utility[row] != utility[row]), key=lambda r: (-blend_of[r], r))
    relevance = dict.fromkeys(order, -1.0)
    if numbers:
        low, high = utility[numbers[min(len(numbers), case["mmr_pool"]) - 1]], utility[numbers[0]]
        for row in numbers:
            relevance[row] = max((utility[row] - low) / (high - low), 0.0) if high > low else 1.0
    categories = dict(enumerate(case["categories"]))
    plan = Plan(
        order, relevance, pins, categories, case["cap"], case["cap_first"], case["epsilon"], case["pool"],
        case["floor"], case["first_slot"], case["k"], set(case["exempt"]),
    )  # fmt: skip
    early = sum(slot < case["cap_first"] for slot in pins)

    def fits(row: int, chosen: list[int]) -> bool:
        if len(chosen) >= min(case["k"] - len(pins), case["cap_first"] - early):
            return True
        return plan._fits(row, tuple(chosen))

    steps = case["k"] - len(pins) + (case["pool"] if case["epsilon"] > 0 else 0)
    pinned = list(pins.values())
    plan.order = mmr(order, relevance, vectors, case["weight"], case["mmr_pool"], steps, fits, pinned)
    return slate, plan


@given(cases())
@settings(max_examples=150)
def test_the_slate_is_one_of_the_oracle_s_with_its_probability(case: dict) -> None:
    slate, plan = composed(case)
    lists = plan.lists()
    assert sum(p for p, _ in lists.values()) == pytest.approx(1.0)
    shown = tuple(int(row) for row in slate.rows)
    assert shown in lists
    probability, steps = lists[shown]
    assert slate.list_propensity == pytest.approx(probability, rel=1e-9)
    assert slate.propensity == pytest.approx(np.array(steps), rel=1e-9)
    assert slate.pinned.tolist() == [row in plan.pins.values() for row in shown]


@given(cases())
@settings(max_examples=60)
def test_every_candidate_is_accounted_for(case: dict) -> None:
    slate, _ = composed(case)
    of_candidates = int((slate.index >= 0).sum())
    outranked = int(np.isin(slate.reasons, [7]).sum())
    assert of_candidates + sum(slate.dropped.values()) + outranked == len(case["rows"])
    assert (slate.candidates[slate.index[slate.index >= 0]] == slate.rows[slate.index >= 0]).all()
    assert (slate.reasons[slate.index[slate.index >= 0]] == 0).all()
    assert len(slate.refused_pins) + int(slate.pinned.sum()) == len(case["pins"])


def test_lists_come_as_often_as_their_probability_says() -> None:
    settings_ = config(
        rules={"category_cap": 1, "category_cap_first": 2}, explore={"epsilon": 0.5, "pool": 3, "floor": 0.1}
    )
    view = catalog(6, [[0], [0], [1], [1], [], [2]], 3)
    composer = Composer(settings_, {}, view)
    blend = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    utility = [60 / (60 + i) for i in range(6)]
    relevance = {i: (u - utility[-1]) / (utility[0] - utility[-1]) for i, u in enumerate(utility)}
    greedy = [0, 2, 1, 3, 4, 5]  # slot 2 may not hold the second item of category 0
    plan = Plan(greedy, relevance, {}, {0: [0], 1: [0], 2: [1], 3: [1], 4: [], 5: [2]}, 1, 2, 0.5, 3, 0.1, 1, 3)
    expected = plan.lists()
    n = 6_000
    seen = Counter(tuple(blend_slate(blend, 3, composer, request_id=f"q{i}").rows.tolist()) for i in range(n))
    assert set(seen) <= set(expected)
    chi_square = sum((seen[shown] - n * p) ** 2 / (n * p) for shown, (p, _) in expected.items())
    freedom = len(expected) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_mmr_is_brute_force_greedy_on_a_full_size_request() -> None:
    rng = np.random.default_rng(3)
    n, d = 300, 32
    vectors = unit_rows(rng.normal(size=(n, d)).astype(np.float32) + 2 * rng.normal(size=(1, d)).astype(np.float32))
    blend = rng.permutation(n).astype(float)
    composer = Composer(config(diversify={"mmr_lambda": 0.5, "pool": 120}), {}, catalog(n), vectors)
    slate = blend_slate(blend.tolist(), 20, composer)
    order = np.argsort(-blend).tolist()
    utility = {row: 60 / (60 + rank) for rank, row in enumerate(order)}
    low, high = utility[order[119]], utility[order[0]]
    relevance = {row: max((u - low) / (high - low), 0.0) for row, u in utility.items()}
    expected = mmr(order, relevance, vectors, 0.5, 120, 20, lambda *_: True, [])[:20]
    assert slate.rows.tolist() == expected
    assert slate.rows.tolist() != order[:20]


# ------------------------------------------------------------------------------------------------- the laws


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"explore": {"epsilon": 0.2, "pool": 5}},
        {
            "utility": {"weights": {"like": 1.0}, "rank_weights": {"watch": 0.5}},
            "rules": {"category_cap": 3, "pins": [{"item_id": "3", "position": 2}]},
            "diversify": {"mmr_lambda": 0.6},
            "explore": {"epsilon": 0.4, "pool": 4, "floor": 0.2, "first_slot": 2},
        },
    ],
)
def test_the_conformance_kit_finds_nothing(parts: dict) -> None:
    rng = np.random.default_rng(0)
    view = catalog(50, [rng.choice(5, rng.integers(0, 3), replace=False).tolist() for _ in range(50)], 5)
    composer = Composer(config(**parts), HEADS, view, unit_rows(rng.normal(size=(45, 8)).astype(np.float32)))
    assert check_slates(composer.compose, n_items=50, n_heads=3, draws=1_000) == []


def test_the_conformance_kit_finds_a_lie() -> None:
    composer = Composer(config(explore={"epsilon": 0.5, "pool": 4}), HEADS, catalog(50))

    def liar(rows, *, scores, blend, k, request_id, seen):
        slate = composer.compose(rows, scores=scores, blend=blend, k=k, request_id=request_id, seen=seen)
        # Says that chance had twice its share.
        slate.propensity[slate.explored] *= 2
        return slate

    assert any(
        "propensity says" in problem or "product" in problem for problem in check_slates(liar, n_items=50, n_heads=3)
    )


@given(st.integers(0, 1_000))
@settings(max_examples=20)
def test_a_longer_slate_starts_with_the_shorter_without_chance_and_vectors(seed: int) -> None:
    rng = np.random.default_rng(seed)
    blend = rng.random(30).round(1).tolist()
    composer = Composer(config(), {}, catalog(30))
    assert blend_slate(blend, 20, composer).rows[:7].tolist() == blend_slate(blend, 7, composer).rows.tolist()


def test_an_answer_can_be_made_again_and_another_request_draws_anew() -> None:
    composer = Composer(config(explore={"epsilon": 1.0, "pool": 20}), {}, catalog(50))
    blend = np.arange(50.0).tolist()
    first = [blend_slate(blend, 10, composer, request_id="a").rows.tolist() for _ in range(2)]
    assert first[0] == first[1] != blend_slate(blend, 10, composer, request_id="b").rows.tolist()


# ------------------------------------------------------------------------------------------- cases at the edge


def test_a_child_s_case() -> None:
    slate = blend_slate([0.1, 0.9, 0.5], 2, Composer(config(), {}, catalog(3)))
    assert slate.rows.tolist() == [1, 2]
    assert slate.index.tolist() == [1, 2]
    assert slate.propensity.tolist() == [1.0, 1.0]
    assert slate.list_propensity == 1.0
    assert slate.dropped == {}


def test_no_candidates_and_one_candidate_and_more_slots_than_items() -> None:
    composer = Composer(config(explore={"epsilon": 0.5}), {}, catalog(3))
    nothing = blend_slate([], 5, composer)
    assert len(nothing) == 0
    assert nothing.list_propensity == 1.0
    one = blend_slate([0.3], 5, composer)
    assert one.rows.tolist() == [0]
    assert one.list_propensity == pytest.approx(1.0)
    assert sorted(blend_slate([0.3, 0.2, 0.1], 200, composer).rows.tolist()) == [0, 1, 2]
    assert len(blend_slate([0.3, 0.2, 0.1], 1, composer)) == 1


def test_pins_keep_their_slots_and_refusals_are_told() -> None:
    pins = [
        {"item_id": "4", "position": 1},
        {"item_id": "5", "position": 2},
        {"item_id": "nobody", "position": 3},
        {"item_id": "6", "position": 4},
        {"item_id": "2", "position": 5},
        {"item_id": "0", "position": 9},
    ]
    view = catalog(7, available=[True, True, True, True, True, True, False])
    composer = Composer(config(rules={"pins": pins}), {}, view)
    slate = blend_slate([0.9, 0.8, 0.7, 0.6], 5, composer, seen=np.array([5], np.int32))
    assert slate.rows.tolist() == [4, 0, 1, 3, 2]
    assert slate.pinned.tolist() == [True, False, False, False, True]
    assert slate.index.tolist() == [-1, 0, 1, 3, 2]
    assert np.isnan(slate.utility[0])
    assert slate.refused_pins == {"5": "seen", "nobody": "unknown", "6": "unavailable", "0": "beyond_slots"}
    filtered = blend_slate([0.9, 0.8], 5, composer, filters=Filters(deny=["4"]))
    assert filtered.refused_pins["4"] == "filter_deny"


def test_a_pin_moves_up_where_there_is_nothing_before_it() -> None:
    composer = Composer(config(rules={"pins": [{"item_id": "2", "position": 4}]}), {}, catalog(3))
    assert blend_slate([0.5], 5, composer).rows.tolist() == [0, 2]


@pytest.mark.parametrize(
    "pins",
    [
        [{"item_id": "1", "position": 1}, {"item_id": "1", "position": 2}],
        [{"item_id": "1", "position": 1}, {"item_id": "2", "position": 1}],
        [{"item_id": "1", "position": 0}],
        [{"item_id": "", "position": 1}],
    ],
)
def test_pins_that_contradict_each_other_are_no_config(pins: list[dict]) -> None:
    with pytest.raises(ValueError):
        config(rules={"pins": pins})


def test_nan_sinks_below_every_number_and_is_never_explored() -> None:
    composer = Composer(
        config(utility={"weights": {"like": 1.0}}, explore={"epsilon": 1.0, "pool": 9}), {"like": True}, catalog(5)
    )
    rows = np.arange(5, dtype=np.int32)
    scores = np.array([[np.nan], [0.1], [np.nan], [0.9], [0.5]])
    for request in range(50):
        slate = composer.compose(rows, scores=scores, blend=np.array([1.0, 0, 2, 0, 0]), k=5, request_id=str(request))
        assert slate.rows[3:].tolist() == [2, 0]
        assert not slate.explored[3:].any()
        assert slate.propensity[3:].tolist() == [1.0, 1.0]


def test_duplicates_and_padding_and_rows_beyond_the_catalog() -> None:
    composer = Composer(config(), {}, catalog(3))
    rows = np.array([2, -1, 2, 7, 0], np.int32)
    slate = composer.compose(rows, scores=np.zeros((5, 0)), blend=np.arange(5.0), k=5, request_id="x")
    assert slate.rows.tolist() == [0, 2]
    assert slate.dropped == {"duplicate": 1, "unknown": 1}


def test_explored_marks_only_what_the_utility_would_not_have_chosen() -> None:
    composer = Composer(config(explore={"epsilon": 1.0, "pool": 2}), {}, catalog(10))
    for request in range(40):
        slate = blend_slate(np.arange(10.0)[::-1].tolist(), 1, composer, request_id=str(request))
        assert slate.explored[0] == (slate.rows[0] != 0)
        assert slate.propensity[0] == pytest.approx(0.5)


def test_a_filtered_category_is_exempt_from_the_cap() -> None:
    view = catalog(6, [[0]] * 5 + [[1]], 2)
    composer = Composer(config(rules={"category_cap": 2}), {}, view)
    blend = [6.0, 5, 4, 3, 2, 1]
    capped = blend_slate(blend, 6, composer)
    assert capped.rows.tolist() == [0, 1, 5]
    assert capped.dropped == {"category_cap": 3}
    assert len(blend_slate(blend, 6, composer, filters=Filters(categories=["c0"]))) == 5


def test_read_only_memory_maps_are_fine(tmp_path: Path) -> None:
    vectors = unit_rows(np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32))
    np.save(tmp_path / "vectors.npy", vectors)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    seen = np.zeros(1, np.int32)
    seen.flags.writeable = False
    blend = np.random.default_rng(1).random(20).tolist()
    a, b = (Composer(config(diversify={"mmr_lambda": 0.3}), {}, catalog(20), v) for v in (vectors, mapped))
    assert blend_slate(blend, 9, a, seen=seen).rows.tolist() == blend_slate(blend, 9, b, seen=seen).rows.tolist()


def test_the_table_has_the_slots_and_the_reasons() -> None:
    view = catalog(5, available=[True, False, True, True, True])
    slate = blend_slate([0.5, 0.4, 0.3, 0.2], 2, Composer(config(), {}, view), seen=np.array([2], np.int32))
    table = slate.table("r1", view.items)
    assert table.schema.equals(SLATE.arrow())
    rows = table.to_pylist()
    assert [(row[c.ITEM_ID], row[c.POSITION], row[c.DROPPED_BY]) for row in rows] == [
        ("0", 1, None), ("3", 2, None), ("1", None, "unavailable"), ("2", None, "seen"),
    ]  # fmt: skip
    assert {row[c.REQUEST_ID] for row in rows} == {"r1"}


# ------------------------------------------------------------------------------------------------ bad input


def test_a_rank_only_head_is_not_summed_as_a_probability() -> None:
    with pytest.raises(ConfigError, match="only ranks"):
        Composer(config(utility={"weights": {"watch": 1.0}}), HEADS, catalog(3))


@pytest.mark.parametrize("field", ["weights", "rank_weights"])
def test_a_head_that_nobody_trained_is_refused(field: str) -> None:
    with pytest.raises(ConfigError, match="'lkie'"):
        Composer(config(utility={field: {"lkie": 1.0}}), HEADS, catalog(3))


def test_scores_that_are_no_probabilities_are_refused() -> None:
    composer = Composer(config(utility={"weights": {"like": 1.0}}), {"like": True}, catalog(3))
    with pytest.raises(DataError, match="'like'"):
        composer.compose(
            np.arange(2, dtype=np.int32), scores=np.array([[0.2], [3.1]]), blend=np.zeros(2), k=2, request_id="x"
        )


def test_shapes_that_do_not_fit_are_refused() -> None:
    composer = Composer(config(), HEADS, catalog(3))
    rows = np.arange(3, dtype=np.int32)
    with pytest.raises(DataError):
        composer.compose(rows, scores=np.zeros((3, 2)), blend=np.zeros(3), k=2, request_id="x")
    with pytest.raises(DataError):
        composer.compose(rows, scores=np.zeros((3, 3)), blend=np.zeros(2), k=2, request_id="x")


@pytest.mark.parametrize(
    "parts",
    [
        {"explore": {"epsilon": 1.1}},
        {"explore": {"epsilom": 0.1}},
        {"diversify": {"mmr_lambda": -0.1}},
        {"utility": {"weights": {"like": float("nan")}}},
        {"utility": {"rank_constant": 0}},
        {"rules": {"category_cap": 0}},
        {"rule": {}},
    ],
)
def test_the_config_is_closed(parts: dict) -> None:
    with pytest.raises(ValueError):
        config(**parts)
