"""Metrics against an independent library, hand cases and laws."""

from __future__ import annotations

import itertools
from collections import Counter

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Metric, Ragged
from honeyguide.errors import ConfigError, DataError
from honeyguide.evaluation.judged import judge
from honeyguide.evaluation.metrics import (
    MAP,
    METRICS,
    MRR,
    CalibrationError,
    Coverage,
    Diversity,
    HitRate,
    ItemFacts,
    ListMetric,
    Novelty,
    Precision,
    Recall,
    category_vectors,
    nDCG,
    parse_metric,
)
from honeyguide.kernels.metrics import self_information
from honeyguide.testing.metrics import check_metric, judged_case

THEIRS = {
    "nDCG@5": ir_measures.nDCG @ 5,
    "nDCG@10": ir_measures.nDCG @ 10,
    "nDCG": ir_measures.nDCG,
    "Recall@10": ir_measures.R @ 10,
    "Precision@10": ir_measures.P @ 10,
    "HitRate@10": ir_measures.Success @ 10,
    "MAP@10": ir_measures.AP @ 10,
    "MAP": ir_measures.AP,
    "MRR": ir_measures.RR,
}


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("width", [4, 20])
def test_values_equal_another_library_s(graded: bool, width: int) -> None:
    rng = np.random.default_rng(7)
    ranked, relevant = judged_case(120, width, n_items=200, relevant=12, seed=3)
    ranked[rng.random(ranked.shape) < 0.03] = -1
    grades = rng.integers(0 if graded else 1, 4 if graded else 2, len(relevant.values)).astype(np.float64)
    qrels, run = [], []
    for query in range(len(ranked)):
        low, high = relevant.indptr[query : query + 2]
        for item, grade in zip(relevant.values[low:high], grades[low:high], strict=True):
            qrels.append(ir_measures.Qrel(str(query), str(item), int(grade)))
        # The library ranks what it gets; an empty place is an item nobody judged.
        for place, item in enumerate(ranked[query]):
            run.append(ir_measures.ScoredDoc(str(query), str(item) if item >= 0 else f"none{place}", -float(place)))
    found = judge(ranked, relevant, [parse_metric(name) for name in THEIRS], grades=grades).values
    theirs = {(m.query_id, str(m.measure)): m.value for m in ir_measures.iter_calc(list(THEIRS.values()), qrels, run)}
    compared = 0
    for name, measure in THEIRS.items():
        for query, value in enumerate(found[name]):
            if np.isnan(value):
                assert theirs.get((str(query), str(measure)), 0.0) == 0.0
            else:
                assert value == pytest.approx(theirs[str(query), str(measure)], abs=1e-6), (name, query)
                compared += 1
    assert compared > 900


def test_a_child_s_case() -> None:
    ranked = np.array([[7, 3, 9, 1]], np.int32)
    relevant = Ragged.of([[3, 1, 5]])
    values = {
        metric.name: metric.per_query(ranked, relevant)[0]
        for metric in (nDCG(2), Recall(4), Precision(2), HitRate(1), HitRate(2), MAP(4), MRR(4), MRR(1), Precision(10))
    }
    assert values == pytest.approx(
        {
            "nDCG@2": (1 / np.log2(3)) / (1 + 1 / np.log2(3)),
            "Recall@4": 2 / 3,
            "Precision@2": 1 / 2,
            "HitRate@1": 0.0,
            "HitRate@2": 1.0,
            "MAP@4": (1 / 2 + 2 / 4) / 3,
            "MRR@4": 1 / 2,
            "MRR@1": 0.0,
            "Precision@10": 2 / 10,
        }
    )


@pytest.mark.parametrize(
    "metric",
    [nDCG(5), nDCG(), Recall(5), Precision(5), HitRate(5), MAP(5), MAP(), MRR(5), MRR()],
    ids=lambda metric: metric.name,
)
def test_the_conformance_kit_finds_nothing(metric: Metric) -> None:
    assert isinstance(metric, Metric)
    assert check_metric(metric) == []


def test_the_conformance_kit_finds_a_metric_that_is_none() -> None:
    class Late:
        name = "Late"

        def per_query(self, ranked: np.ndarray, relevant: Ragged) -> np.ndarray:
            return 1 - nDCG(5).per_query(ranked, relevant)

    problems = check_metric(Late())
    assert any("up one place" in problem for problem in problems)
    assert any("no list may be worth more" in problem for problem in problems)


@given(st.lists(st.integers(-1, 5), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=8))
@settings(max_examples=80)
def test_repeats_count_once(ranked: list[int], relevant: list[int]) -> None:
    lists = np.array([ranked], np.int32)
    kept = [item if item not in ranked[:place] else -1 for place, item in enumerate(ranked)]
    for metric in (nDCG(4), Recall(4), Precision(4), MAP(), MRR(3)):
        value = metric.per_query(lists, Ragged.of([relevant]))
        clean = metric.per_query(np.array([kept], np.int32), Ragged.of([sorted(set(relevant))]))
        assert value == pytest.approx(clean, nan_ok=True)
        assert np.isnan(value[0]) == (not relevant)


# ------------------------------------------------------------------------------------------- list metrics


def test_list_metrics_equal_plain_loops() -> None:
    rng = np.random.default_rng(1)
    ranked, relevant = judged_case(60, 8, n_items=40, seed=2)
    ranked[rng.random(ranked.shape) < 0.2] = -1
    ranked[0] = -1
    ranked[1, 1:] = -1
    vectors = rng.normal(size=(40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[3] = 0
    people = rng.integers(0, 30, 40)
    facts = ItemFacts(40, self_information(people, 30), vectors)
    found = judge(ranked, relevant, [Novelty(5), Diversity(5), Diversity(), Coverage(2)], facts=facts)
    for query, row in enumerate(ranked):
        for cut, name in ((5, "Diversity@5"), (8, "Diversity")):
            pairs = list(itertools.combinations([item for item in row[:cut] if item >= 0], 2))
            far = [1 - float(vectors[a] @ vectors[b]) for a, b in pairs]
            assert found.values[name][query] == pytest.approx(np.mean(far) if far else np.nan, abs=1e-5, nan_ok=True)
        bits = [np.log2(30 / max(people[item], 1)) for item in row[:5] if item >= 0]
        assert found.values["Novelty@5"][query] == pytest.approx(np.mean(bits) if bits else np.nan, nan_ok=True)
    assert found.undefined()["Novelty@5"] >= 1
    shown, n_items = found.shown["Coverage@2"]
    assert shown.shape == (60, 2)
    assert n_items == 40


def test_category_vectors_have_length_one() -> None:
    class View:
        category = Ragged.of([[0, 2], [], [1]])
        category_names = ["a", "b", "c"]

    vectors = category_vectors(View())  # type: ignore[arg-type]
    assert np.linalg.norm(vectors, axis=1).tolist() == pytest.approx([1, 0, 1])
    assert (vectors[0] > 0).tolist() == [True, False, True]


# ------------------------------------------------------------------------------------------ names and values


@pytest.mark.parametrize("name", ["nDCG@10", "Recall@20", "MAP", "MRR@5", "Coverage@20", "Novelty@3", "Diversity@10"])
def test_names_go_there_and_back(name: str) -> None:
    metric = parse_metric(name)
    assert metric.name == str(metric) == name
    assert parse_metric(name.lower()) == metric
    assert hash(parse_metric(name)) == hash(metric)


def test_metrics_are_values() -> None:
    assert nDCG(10) == nDCG(10) != nDCG(20)
    assert nDCG(10) != Recall(10)
    assert len(METRICS) == len(Counter(metric.label for metric in METRICS.values()))


@pytest.mark.parametrize("name", ["nDCG@0", "nDCG@", "nDCG@-1", "nDCG@x", "ndgc@10", "", "@10", "nDCG@1.5"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError):
        parse_metric(name)


def test_lists_and_facts_that_do_not_fit_are_refused() -> None:
    ranked, relevant = judged_case(5, 4, n_items=20)
    with pytest.raises(DataError, match="one list per query"):
        judge(ranked[:4], relevant, [nDCG(3)])
    with pytest.raises(DataError, match="grades"):
        judge(ranked, relevant, [nDCG(3)], grades=np.ones(len(relevant.values) + 1))
    for metric in (Novelty(3), Diversity(3), Coverage(3)):
        assert isinstance(metric, ListMetric)
        with pytest.raises(ConfigError, match="facts"):
            judge(ranked, relevant, [metric])
    with pytest.raises(DataError, match="rows below"):
        judge(ranked, relevant, [Novelty(3)], facts=ItemFacts(20, np.ones(2)))


def test_no_queries_and_no_metrics() -> None:
    nothing = judge(np.zeros((0, 5), np.int32), Ragged.empty(0), [nDCG(3)])
    assert nothing.values["nDCG@3"].shape == (0,)
    assert judge(np.zeros((2, 5), np.int32), Ragged.empty(2), []).values == {}


# --------------------------------------------------------------------------------------------- calibration


def test_calibration_error_by_hand() -> None:
    p = [0.1] * 10 + [0.8] * 10
    y = [1] * 3 + [0] * 7 + [1] * 6 + [0] * 4
    assert CalibrationError(2).of(p, y) == pytest.approx((0.2 + 0.2) / 2)
    assert CalibrationError(5).of(p, y) == pytest.approx((0.2 + 0.2) / 2)  # equal probabilities share a bin
    assert CalibrationError().of([0.3, np.nan], [np.nan, 1]) is not None
    assert np.isnan(CalibrationError().of([], []))


def test_calibrated_probabilities_have_a_small_error_and_order_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    y = rng.random(20_000) < p
    error = CalibrationError().of(p, y)
    assert error < 0.015
    assert CalibrationError().of(p**2, y) > 0.1
    order = rng.permutation(len(p))
    assert CalibrationError().of(p[order], y[order]) == pytest.approx(error)
