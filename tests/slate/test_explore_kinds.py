"""Every kind of exploration against the documents, counted out by plain loops, and its propensities audited."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

sys.path.insert(0, str(Path(__file__).parent))
from slate_oracle import catalog

from honeyguide.errors import ConfigError
from honeyguide.slate.audit import audit
from honeyguide.slate.bandit import Experience, LearntReward
from honeyguide.slate.compose import Composer, SlateConfig, SlateResult
from honeyguide.slate.explore import ExploreConfig
from honeyguide.testing.slates import check_slates

HEADS = {"click": True, "buy": True}
KINDS = ("epsilon", "plackett_luce", "squarecb", "thompson", "linucb")
N = 7


def experience(seed: int = 0, reward: str = "click") -> Experience:
    rng = np.random.default_rng(seed)
    facts = np.column_stack([rng.normal(size=(400, 2)), rng.normal(size=(400, 2))])
    label = (rng.random(400) < 0.3).astype(np.float64)
    learnt = LearntReward.fit(reward, ("click", "buy"), facts, label, np.arange(400), seed=seed)
    return Experience(
        np.array([0, 500, 3, 90, 200, 0, 1_000]), rng.normal(size=(N, 2)).astype(np.float32), {reward: learnt}
    )


def config(explore: dict, **parts: dict) -> SlateConfig:
    return SlateConfig.model_validate({
        "utility": {"weights": {"click": 1.0, "buy": 0.5}}, "diversify": {"mmr_lambda": 1.0}, "explore": explore,
        **parts,
    })  # fmt: skip


def expected_of_slot(
    left: list[int], utility: dict[int, float], relevance: dict[int, float], plan: dict, lift: dict[int, np.ndarray],
    good: set[int], new: set[int], explores: bool,
) -> dict[int, float]:  # fmt: skip
    """Item -> chance, from the documents alone. `left` is in the order of the utility."""
    best = left[0]
    chance = dict.fromkeys(left, 0.0)
    able = [row for row in left if relevance[row] >= plan["floor"] and row in good]
    pool = able[: plan["pool"]] if plan["share"] > 0 else []
    fresh = [row for row in able if row in new] if plan["new_share"] > 0 else []
    rest = 1.0
    if explores and pool:
        rest -= plan["share"]
        if plan["kind"] == "epsilon":
            q = [1 / len(pool)] * len(pool)
        elif plan["kind"] == "plackett_luce":
            power = [np.exp(utility[row] / plan["temperature"]) for row in pool]
            q = [one / sum(power) for one in power]
        elif plan["kind"] == "squarecb":
            top = max(utility[row] for row in pool)
            q = [1 / (len(pool) + plan["gamma"] * (top - utility[row])) for row in pool]
            first = next(j for j, row in enumerate(pool) if utility[row] == top)
            q[first] = 1 - sum(one for j, one in enumerate(q) if j != first)
        else:
            votes = [0] * len(pool)
            for b in range(lift[pool[0]].shape[0]):
                values = [utility[row] + lift[row][b] for row in pool]
                votes[values.index(max(values))] += 1
            q = [vote / sum(votes) for vote in votes]
        for row, one in zip(pool, q, strict=True):
            chance[row] += plan["share"] * one
    if explores and fresh:
        rest -= plan["new_share"]
        for row in fresh:
            chance[row] += plan["new_share"] / len(fresh)
    chance[best] += rest
    return chance


def spread_by_cap(rows: list[int], k: int, pool: int, cap: int | None, categories: list[list[int]]) -> list[int]:
    """The diversity's order without vectors: while the list has slots, only what fits under the cap is next."""
    chosen: list[int] = []
    for step in range(min(k + pool, len(rows))):
        fits = [
            row for row in rows if row not in chosen
            and (not cap or step >= k or sum(categories[r] == categories[row] for r in chosen) < cap)
        ]  # fmt: skip
        if not fits:
            break
        chosen.append(fits[0])
    return chosen + [row for row in rows if row not in chosen]


@st.composite
def cases(draw: st.DrawFn) -> dict:
    kind = draw(st.sampled_from(KINDS))
    share = draw(st.sampled_from([0.05, 0.4, 0.8]))
    explore = {
        "kind": kind, "pool": draw(st.integers(1, 6)), "floor": draw(st.sampled_from([0.0, 0.0, 0.5])),
        "first_slot": draw(st.sampled_from([1, 1, 2])), "most_slots": draw(st.sampled_from([None, None, 0, 1, 2])),
        "new_share": draw(st.sampled_from([0.0, 0.0, 0.2])), "new_below": 100,
        "temperature": draw(st.sampled_from([0.05, 0.5])), "gamma": draw(st.sampled_from([1.0, 30.0])),
        "alpha": 2.0, "scale": draw(st.sampled_from([0.5, 3.0])), "replicates": draw(st.sampled_from([2, 9])),
        "posterior": draw(st.sampled_from(["bootstrap", "linear"])),
        "per": draw(st.sampled_from(["utility", "relevance"])),
        "floor_heads": draw(st.sampled_from([{}, {}, {"buy": 0.4}])),
    }  # fmt: skip
    explore["epsilon" if kind == "epsilon" else "share"] = share
    if kind in ("thompson", "linucb"):
        explore["reward"] = "click"
    return {"explore": explore, "share": share, "seed": draw(st.integers(0, 999)), "k": draw(st.integers(1, 4)),
            "cap": draw(st.sampled_from([None, None, 1, 2]))}  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(cases())
def test_the_chances_of_every_slot_are_those_of_the_documents(case: dict) -> None:
    rng = np.random.default_rng(case["seed"])
    scores, rows = rng.random((N, 2)), rng.permutation(N).astype(np.int32)
    categories = [[int(rng.integers(2))] for _ in range(N)]
    learnt = experience(case["seed"] % 5)
    made = config(case["explore"], rules={"category_cap": case["cap"]})
    composer = Composer(made, HEADS, catalog(N, categories, 2), experience=learnt)
    request = {"scores": scores, "blend": rng.random(N), "k": case["k"]}
    utility = {int(row): scores[i, 0] + 0.5 * scores[i, 1] for i, row in enumerate(rows)}
    by_worth = sorted(utility, key=lambda row: -utility[row])
    low, high = utility[by_worth[-1]], utility[by_worth[0]]
    relevance = {row: (utility[row] - low) / (high - low) for row in by_worth}
    order = spread_by_cap(by_worth, case["k"], case["explore"]["pool"], case["cap"], categories)
    worth = utility
    if case["explore"]["per"] == "relevance" and case["explore"]["kind"] in ("plackett_luce", "squarecb"):
        worth = relevance
    utility = {row: worth[better] for row, better in zip(order, by_worth, strict=True)}  # of its place
    good = {int(row) for i, row in enumerate(rows) if not made.explore.floor_heads or scores[i, 1] >= 0.4}
    new = {row for row in range(N) if learnt.shown[row] < 100}
    _, _, deviation, _ = composer.explorer.arrays(rows, scores)
    lift = {int(row): deviation[i] if deviation.size else np.zeros(1) for i, row in enumerate(rows)}
    plan = {**case["explore"], "share": case["share"]}

    slate = composer.compose(rows, request_id=f"r{case['seed']}", **request)
    odds = composer.odds(rows, slate.rows, **request)
    shown: list[int] = []
    aside = 0
    for slot, row in enumerate(slate.rows.tolist()):
        full = [c for c in (0, 1) if case["cap"] and sum(categories[r] == [c] for r in shown) >= case["cap"]]
        left = [r for r in order if r not in shown and categories[r][0] not in full]
        most = case["explore"]["most_slots"]
        explores = slot + 1 >= case["explore"]["first_slot"] and (most is None or aside < most)
        want = expected_of_slot(left, utility, relevance, plan, lift, good, new, explores)
        assert slate.propensity[slot] == pytest.approx(want[row], abs=1e-12)
        assert slate.aside[slot] == pytest.approx(1 - want[left[0]], abs=1e-12)
        mine = slice(odds.start[slot], odds.start[slot + 1])
        told = dict(zip(odds.rows[mine].tolist(), odds.chance[mine].tolist(), strict=True))
        for item in left:
            assert told.get(item, 0.0) == pytest.approx(want[item], abs=1e-12)
        assert sum(told.values()) == pytest.approx(1.0)
        assert bool(slate.explored[slot]) == (row != left[0])
        aside += row != left[0]
        shown.append(row)


def policy(kind: str, **more: object) -> Composer:
    explore = {"kind": kind, "pool": 6, "temperature": 0.2, "gamma": 8.0, "replicates": 16, "scale": 4.0, **more}
    if kind == "epsilon":
        explore["epsilon"] = explore.pop("share", 0.4)
    if kind in ("thompson", "linucb"):
        explore["reward"] = "click"
    return Composer(config(explore, rules={"category_cap": 2}), HEADS, catalog(N, [[0], [1]] * 3 + [[0]], 2),
                    experience=experience())  # fmt: skip


def audited(composer: Composer, draws: int, change=lambda slate: slate):
    rng = np.random.default_rng(5)
    rows = np.arange(N, dtype=np.int32)
    asked = {"scores": rng.random((N, 2)), "blend": rng.random(N), "k": 3}

    def draw(request_id: str) -> SlateResult:
        return change(composer.compose(rows, request_id=request_id, **asked))

    return audit(draw, lambda shown: composer.odds(rows, shown, **asked), draws=draws)


@pytest.mark.parametrize("kind", KINDS)
def test_logged_propensities_are_the_realised_frequencies(kind: str) -> None:
    report = audited(policy(kind, share=0.6, new_share=0.2), 8_000)
    assert report.ok, report.problems
    assert report.lists > 20
    assert {test.name for test in report.tests} == {"first 1 slots", "first 2 slots", "first 3 slots", "slots"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_audit_holds_on_a_million_draws(kind: str) -> None:
    report = audited(policy(kind, share=0.6, new_share=0.2), 1_000_000)
    assert report.ok, report.problems


def _doubled(slate: SlateResult) -> SlateResult:
    """As a policy would log that forgets that the best may be drawn as well."""
    return replace(slate, propensity=np.where(slate.explored, slate.propensity, slate.propensity - 0.4 / 6))


def _moved(slate: SlateResult) -> SlateResult:
    """As a client would show that puts the second item first now and then."""
    rows = slate.rows.copy()
    if rows[0] % 2:
        rows[:2] = rows[:2][::-1]
    return replace(slate, rows=rows)


@pytest.mark.parametrize("breaks", [_doubled, _moved])
def test_the_audit_catches_a_broken_policy(breaks) -> None:
    assert not audited(policy("epsilon"), 20_000, breaks).ok


def test_the_audit_catches_a_policy_that_draws_more_than_it_says() -> None:
    rng = np.random.default_rng(5)
    rows, asked = np.arange(N, dtype=np.int32), {"scores": rng.random((N, 2)), "blend": rng.random(N), "k": 3}
    says, does = policy("plackett_luce"), policy("plackett_luce", temperature=0.23)

    def draw(request_id: str) -> SlateResult:
        slate = does.compose(rows, request_id=request_id, **asked)
        odds = says.odds(rows, slate.rows, **asked)
        told = [float(odds.chance[a:b][odds.rows[a:b] == row][0])
                for a, b, row in zip(odds.start[:-1], odds.start[1:], slate.rows, strict=True)]  # fmt: skip
        return replace(slate, propensity=np.array(told))

    report = audit(draw, lambda shown: says.odds(rows, shown, **asked), draws=25_000)
    assert not report.ok
    assert "furthest apart" in report.problems[0]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_laws_of_slates(kind: str) -> None:
    composer = policy(kind, new_share=0.1, share=0.5)
    assert check_slates(composer.compose, n_items=N, n_heads=2, k=3, draws=1_500) == []


# ---------------------------------------------------------------------------------------------- limits and extremes


def test_a_cold_plackett_luce_is_the_best_list_and_a_hot_one_is_even() -> None:
    rng = np.random.default_rng(0)
    rows, asked = np.arange(N, dtype=np.int32), {"scores": rng.random((N, 2)), "blend": rng.random(N), "k": 4}
    plain = Composer(config({}), HEADS, catalog(N)).compose(rows, request_id="r", **asked)
    cold = Composer(config({"kind": "plackett_luce", "temperature": 1e-6}), HEADS, catalog(N))
    hot = Composer(config({"kind": "plackett_luce", "temperature": 1e6}), HEADS, catalog(N))
    for number in range(20):
        slate = cold.compose(rows, request_id=f"r{number}", **asked)
        np.testing.assert_array_equal(slate.rows, plain.rows)
        assert slate.list_propensity == pytest.approx(1.0)
    even = hot.compose(rows, request_id="r", **asked)
    np.testing.assert_allclose(even.propensity, [1 / 7, 1 / 6, 1 / 5, 1 / 4], rtol=1e-5)


def test_with_diversity_the_likeliest_list_is_the_diversified_one() -> None:
    rng = np.random.default_rng(3)
    vectors = np.repeat(np.eye(3, dtype=np.float32), [3, 2, 2], axis=0)
    rows, asked = np.arange(N, dtype=np.int32), {"scores": rng.random((N, 2)), "blend": rng.random(N), "k": 4}
    diverse = {"mmr_lambda": 0.5}
    plain = Composer(config({}, diversify=diverse), HEADS, catalog(N), vectors).compose(rows, request_id="r", **asked)
    drawn = Composer(config({"kind": "plackett_luce"}, diversify=diverse), HEADS, catalog(N), vectors)
    odds = drawn.odds(rows, plain.rows, **asked)
    for slot, row in enumerate(plain.rows):
        mine = slice(odds.start[slot], odds.start[slot + 1])
        assert odds.rows[mine][odds.chance[mine].argmax()] == row


def test_linucb_draws_nothing_and_prefers_what_is_uncertain() -> None:
    learnt = experience().rewards["click"]
    wide = replace(learnt, covariance=np.diag([0.0, 0.0, 9.0, 0.0, 0.0]), spread=np.ones(4), centre=np.zeros(4))
    items = np.zeros((N, 2), np.float32)
    items[4, 0] = 1.0  # the one item of which the model is unsure
    known = Experience(np.full(N, 1_000), items, {"click": wide})
    made = config({"kind": "linucb", "reward": "click", "alpha": 1.0})
    composer = Composer(made, HEADS, catalog(N), experience=known)
    rows, asked = np.arange(N, dtype=np.int32), {"scores": np.full((N, 2), 0.5), "blend": np.arange(N, 0.0, -1), "k": 2}
    slate = composer.compose(rows, request_id="r", **asked)
    assert slate.rows.tolist() == [4, 0]
    assert slate.propensity.tolist() == [1.0, 1.0]
    assert slate.explored.tolist() == [True, False]
    assert not made.explore.draws


def test_where_nothing_was_learnt_epsilon_does_its_part_and_says_so() -> None:
    made = config({"kind": "thompson", "reward": "click", "share": 0.5, "epsilon": 0.25, "pool": 4, "new_share": 0.1})
    bare = Composer(made, HEADS, catalog(N))
    even = Composer(config({"epsilon": 0.25, "pool": 4, "new_share": 0.1}), HEADS, catalog(N))
    assert "0.25 of the slots evenly until then" in bare.explorer.note
    rng = np.random.default_rng(1)
    rows, asked = np.arange(N, dtype=np.int32), {"scores": rng.random((N, 2)), "blend": rng.random(N), "k": 4}
    for number in range(30):
        one, other = (c.compose(rows, request_id=f"r{number}", **asked) for c in (bare, even))
        np.testing.assert_array_equal(one.rows, other.rows)
        np.testing.assert_array_equal(one.propensity, other.propensity)


def test_linear_posterior_draws_stand_for_the_gaussian() -> None:
    learnt = experience().rewards["click"]
    made = ExploreConfig(kind="thompson", reward="click", posterior="linear", replicates=256)
    moves = learnt.directions(made)
    np.testing.assert_allclose(moves.mean(1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.cov(moves), learnt.covariance, atol=0.35 * learnt.covariance.diagonal().max())


def test_the_bootstrap_spreads_like_the_posterior_where_the_model_is_true() -> None:
    rng = np.random.default_rng(7)
    facts = rng.normal(size=(3_000, 3))
    label = (rng.random(3_000) < 0.4 + 0.1 * np.clip(facts[:, 0], -2, 2)).astype(np.float64)
    learnt = LearntReward.fit("click", (), facts, label, np.arange(3_000), seed=1)
    # Ridge by plain linear algebra.
    x = np.column_stack([np.clip((facts - facts.mean(0)) / facts.std(0), -5, 5), np.ones(3_000)])
    prior = np.diag([10.0, 10.0, 10.0, 1e-6])
    np.testing.assert_allclose(learnt.weights, np.linalg.solve(x.T @ x + prior, x.T @ label), rtol=1e-8)
    ratio = learnt.replicates.std(0) / np.sqrt(learnt.covariance.diagonal())
    assert ((ratio > 0.8) & (ratio < 1.25)).all()
    np.testing.assert_allclose(learnt.replicates.mean(0), learnt.weights, atol=4 * ratio.max() * 0.01)


def test_experience_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = replace(experience(), notes=("a note",))
    one.save(tmp_path)
    other = Experience.load(tmp_path)
    np.testing.assert_array_equal(one.shown, other.shown)
    np.testing.assert_array_equal(one.rewards["click"].replicates, other.rewards["click"].replicates)
    assert (other.notes, other.rewards["click"].heads) == (("a note",), ("click", "buy"))


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("explore", "said"),
    [
        ({"never": True, "epsilon": 0.1}, "never"),
        ({"never": True, "kind": "plackett_luce"}, "never"),
        ({"epsilon": 0.9, "new_share": 0.2}, "above 1"),
        ({"kind": "thompson"}, "reward"),
        ({"new_candidates": 5}, "new_share"),
        ({"kind": "softmax"}, "kind"),
        ({"temperature": 0.0}, "greater than 0"),
        ({"guardrails": [{"action": "hide", "hurt": "worse"}]}, "hurt"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(explore: dict, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ExploreConfig.model_validate(explore)


def test_a_floor_under_an_unknown_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="floor_heads"):
        Composer(config({"epsilon": 0.1, "floor_heads": {"like": 0.1}}), HEADS, catalog(N))


def test_one_candidate_and_more_slots_than_items() -> None:
    for kind in KINDS:
        composer = policy(kind, share=0.5)
        one = composer.compose(
            np.array([3], np.int32), scores=np.full((1, 2), 0.5), blend=np.ones(1), k=9, request_id="x"
        )
        assert one.rows.tolist() == [3]
        assert one.propensity.tolist() == [1.0]
        assert len(composer.compose(
            np.zeros(0, np.int32), scores=np.zeros((0, 2)), blend=np.zeros(0), k=3, request_id="x"
        )) == 0  # fmt: skip
