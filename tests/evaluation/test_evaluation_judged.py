"""Figures, intervals and differences over people and segments; and the size that must be possible."""

from __future__ import annotations

import time

import numpy as np
import pytest

from honeyguide.contracts import Ragged
from honeyguide.evaluation import judged as module
from honeyguide.evaluation.judged import Units, compare, difference_name, judge, judged_table, summarise
from honeyguide.evaluation.metrics import Coverage, ItemFacts, Novelty, Recall, nDCG, parse_metric
from honeyguide.schema import columns as c
from honeyguide.schema.tables import JUDGED
from honeyguide.testing.metrics import judged_case


def row(rows: list[dict], **wanted: str) -> dict:
    found = [r for r in rows if all(r[key] == value for key, value in wanted.items())]
    assert len(found) == 1
    return found[0]


def test_the_figure_is_the_mean_over_defined_queries() -> None:
    ranked, relevant = judged_case(300, 10, n_items=100, seed=1)
    judgement = judge(ranked, relevant, [nDCG(10), Coverage(10)], facts=ItemFacts(100))
    units = Units.of(np.arange(300))
    half = np.arange(300) < 150
    rows = summarise(judgement, units, {"all": half | True, "half": half}, protocol="p", system="s")
    values = judgement.values["nDCG@10"]
    for segment, chosen in (("all", half | True), ("half", half)):
        found = row(rows, segment=segment, metric="nDCG@10")
        assert found[c.ESTIMATE] == pytest.approx(np.nanmean(values[chosen]))
        assert found[c.N] == np.sum(~np.isnan(values[chosen]))
        assert found[c.LOW] < found[c.ESTIMATE] < found[c.HIGH]
        coverage = row(rows, segment=segment, metric="Coverage@10")
        assert coverage[c.ESTIMATE] == len(set(ranked[chosen].ravel().tolist())) / 100
        assert coverage[c.LOW] is None
    assert judged_table(rows).schema.equals(JUDGED.arrow())
    assert judgement.undefined()["nDCG@10"] == np.isnan(values).sum()


def test_bootstrap_and_normal_intervals_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, relevant = judged_case(4_000, 10, n_items=300, seed=2)
    judgement = judge(ranked, relevant, [nDCG(10), Recall(10)])
    worse = judge(np.roll(ranked, 1, axis=1), relevant, [nDCG(10), Recall(5)])
    found = []
    for limit in (module.BOOTSTRAP_UP_TO, 10):
        monkeypatch.setattr(module, "BOOTSTRAP_UP_TO", limit)
        units = Units.of(np.arange(4_000) // 2)
        assert (units.weights is None) == (limit == 10)
        found.append(
            summarise(judgement, units, protocol="p", system="a")
            + compare(judgement, worse, units, protocol="p", system_a="a", system_b="b")
        )
    assert len(found[0]) == 3  # a difference only where both have the metric
    for a, b in zip(*found, strict=True):
        assert a[c.ESTIMATE] == pytest.approx(b[c.ESTIMATE])
        assert a[c.N] == b[c.N]
        assert a[c.LOW] == pytest.approx(b[c.LOW], abs=0.1 * (b[c.HIGH] - b[c.LOW]))
    assert found[0][2][c.SYSTEM] == difference_name("a", "b") == "a minus b"


def test_a_system_minus_itself_is_zero_and_a_better_one_is_above() -> None:
    ranked, relevant = judged_case(500, 10, n_items=100, seed=3)
    judgement = judge(ranked, relevant, [nDCG(10)])
    best = np.full_like(ranked, -1)
    for i in range(len(ranked)):
        best[i, : len(relevant.row(i))] = relevant.row(i)
    units = Units.of(np.arange(500))
    same = compare(judgement, judgement, units, protocol="p", system_a="a", system_b="a")[0]
    assert same[c.ESTIMATE] == same[c.LOW] == same[c.HIGH] == 0
    better = compare(judge(best, relevant, [nDCG(10)]), judgement, units, protocol="p", system_a="a", system_b="b")[0]
    assert better[c.LOW] > 0


def test_nobody_and_a_segment_of_one() -> None:
    ranked, relevant = judged_case(10, 5, n_items=50, seed=4)
    relevant = Ragged.of([[int(ranked[0, 0])]] + [[]] * 9)
    judgement = judge(ranked, relevant, [nDCG(5)])
    units = Units.of(np.arange(10))
    none = np.zeros(10, np.bool_)
    rows = summarise(judgement, units, {"all": ~none, "none": none}, protocol="p", system="s")
    assert len(rows) == 1
    assert (rows[0][c.ESTIMATE], rows[0][c.LOW], rows[0][c.N]) == (1.0, None, 1)


def test_other_people_s_metrics_are_welcome() -> None:
    class Seven:
        name = "Seven@1"

        def per_query(self, ranked: np.ndarray, relevant: Ragged) -> np.ndarray:
            return (ranked[:, 0] == 7).astype(float)

    ranked = np.array([[7, 1], [1, 7]], np.int32)
    found = judge(ranked, Ragged.of([[1], [1]]), [Seven(), nDCG(2)])
    assert list(found.values) == ["Seven@1", "nDCG@2"]
    assert found.values["Seven@1"].tolist() == [1.0, 0.0]


def test_chunks_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, relevant = judged_case(1_000, 10, n_items=100, seed=5)
    whole = judge(ranked, relevant, [nDCG(10), Recall(5)]).values
    monkeypatch.setattr(module, "_CHUNK", 64)
    for threads in (1, 3):
        parts = judge(ranked, relevant, [nDCG(10), Recall(5)], threads=threads).values
        for name, values in whole.items():
            assert np.array_equal(parts[name], values, equal_nan=True)


@pytest.mark.heavy
def test_a_million_people_are_judged_in_ten_seconds() -> None:
    n = 1_000_000
    ranked, relevant = judged_case(n, 20, n_items=50_000, seed=0)
    facts = ItemFacts(50_000, np.ones(50_000), np.zeros((50_000, 16), np.float32))
    names = ["nDCG@10", "nDCG@20", "Recall@10", "Recall@20", "Precision@20", "HitRate@10", "MAP@20", "MRR@20"]
    metrics = [*map(parse_metric, names), Novelty(20), Coverage(20)]
    judge(ranked[:10], Ragged.of([relevant.row(i) for i in range(10)]), metrics, facts=facts)  # compiles
    started = time.process_time()
    judgement = judge(ranked, relevant, metrics, facts=facts)
    rows = summarise(judgement, Units.of(np.arange(n)), protocol="p", system="s")
    cpu_s = time.process_time() - started
    assert len(rows) == 10
    assert cpu_s < 10
