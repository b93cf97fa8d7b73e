"""Agreement against another library and published cases; rankers, samples and consensus by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, ndcg_score

from honeyguide.kernels.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from honeyguide.understanding.judgments import (
    Judgment,
    agreement,
    compared,
    consensus,
    disagreement,
    newest,
    sampled,
)

NAN = math.nan


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40))
def test_cohens_kappa_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    a, b = zip(*pairs, strict=True)
    if len({*a, *b}) < 2:
        assert cohen_kappa(a, b, 4) == 1.0
        return
    for weights, theirs in (("none", None), ("linear", "linear"), ("quadratic", "quadratic")):
        expected = cohen_kappa_score(a, b, labels=[0, 1, 2, 3], weights=theirs)
        assert cohen_kappa(a, b, 4, weights=weights) == pytest.approx(expected, abs=1e-12)


def test_fleiss_kappa_of_the_published_table() -> None:
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    assert fleiss_kappa(table) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([[3, 0], [0, 3]]) == 1.0
    assert math.isnan(fleiss_kappa(np.zeros((0, 4))))
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa([[2, 0], [1, 2]])


def test_krippendorffs_alpha_of_the_published_table() -> None:
    """Four observers, twelve units, gaps: Krippendorff 2011 gives .743 nominal, .815 ordinal, .849 interval."""
    ratings = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ])  # fmt: skip
    for level, alpha in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert krippendorff_alpha(ratings, level=level) == pytest.approx(alpha, abs=6e-4)
    assert krippendorff_alpha([[1, 1], [1, 1]]) == 1.0
    assert math.isnan(krippendorff_alpha([[1, NAN], [NAN, 1]]))


def word(query: str, item: str, grade: int, rater: str = "anna", at: int = 0) -> Judgment:
    return Judgment(query, item, grade, rater, at)


def test_a_raters_newest_word_counts_and_the_consensus_is_the_lower_median() -> None:
    told = [word("q", "a", 3, at=2), word("q", "a", 0, at=1), word("q", "a", 1, "bob"), word("q", "b", 2, "bob")]
    assert [(one.rater, one.grade) for one in newest(told) if one.item_id == "a"] == [("anna", 3), ("bob", 1)]
    assert consensus(told) == {"q": {"a": 1, "b": 2}}
    found = agreement(told)
    assert (found["judged"], found["judged_twice"], found["fleiss_raters"]) == (2, 1, 2)
    assert [(p["first"], p["second"], p["n"], p["same"]) for p in found["pairs"]] == [("anna", "bob", 1, 0.0)]
    assert agreement([])["alpha"] is None
    assert agreement([word("q", "a", 3)])["fleiss"] is None


def test_rankers_are_judged_as_scikit_learn_does() -> None:
    rng = np.random.default_rng(3)
    items = [f"i{n}" for n in range(12)]
    grades = {f"q{n}": {item: int(rng.integers(0, 4)) for item in items} for n in range(20)}
    runs = {name: {q: list(rng.permutation(items)) for q in grades} for name in ("old", "new")}
    found = {row["ranker"]: row for row in compared(runs, grades, k=5)}
    for name in runs:
        theirs = [
            ndcg_score([[2 ** grades[q][i] - 1 for i in items]], [[-runs[name][q].index(i) for i in items]], k=5)
            for q in grades
        ]
        assert found[name]["ndcg"] == pytest.approx(float(np.mean(theirs)))
    new = found["new"]
    assert new["gain"] == pytest.approx(new["ndcg"] - found["old"]["ndcg"])
    assert new["low"] <= new["gain"] <= new["high"]
    same = compared({"a": runs["old"], "b": runs["old"]}, grades)[1]
    assert (same["gain"], same["low"], same["high"]) == (0.0, 0.0, 0.0)


def test_unjudged_hits_count_as_bad_but_not_in_the_condensed_list() -> None:
    (row,) = compared({"r": {"q": ["x", "a"]}}, {"q": {"a": 3}}, k=10)
    assert row["ndcg"] == pytest.approx(1 / math.log2(3))
    assert row["ndcg_condensed"] == 1.0
    assert (row["precision"], row["judged"]) == (0.1, 0.5)
    assert compared({"r": {}}, {"q": {"a": 0}})[0]["ndcg"] is None  # nothing is right for it: no query


def test_disagreement() -> None:
    assert disagreement(["a", "b"], ["a", "b"]) == pytest.approx(0.0)
    assert disagreement(["a", "b"], ["c", "d"]) == pytest.approx(1.0)
    assert disagreement([], []) == 0.0
    assert disagreement(["a", "b", "c"], ["a", "c", "b"]) < disagreement(["a", "b", "c"], ["c", "b", "a"])


def test_samples() -> None:
    volumes = {f"q{n:02}": 100 - n for n in range(40)}
    assert sampled(volumes, 3, "head") == ["q00", "q01", "q02"]
    assert sampled(volumes, 2, "head", done=["q00"]) == ["q01", "q02"]
    tail = sampled(volumes, 10, "tail", seed=1)
    assert all(query >= "q20" for query in tail)
    assert tail == sampled(volumes, 10, "tail", seed=1) != sampled(volumes, 10, "tail", seed=2)
    assert sampled(volumes, 5, "disagreement", apart={"q07": 0.9, "q03": 0.4, "q01": 0.0}) == ["q07", "q03"]
    mixed = sampled(volumes, 6, "mixed", apart={"q07": 0.9})
    assert len(mixed) == len(set(mixed)) == 6
    assert {"q00", "q07"} < set(mixed)
