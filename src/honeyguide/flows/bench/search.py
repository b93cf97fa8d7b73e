"""How well and how fast catalogs are searched: by words, with meaning, in a learnt order; typos, languages, intents.

Rules: 3,000 queries drawn with seed 0 (all of a smaller set); the whole catalog is searched; what was not judged counts
nothing (`_condensed`: is taken out of the list); equal scores stand by popularity, then by the catalog's order. What is
trained is trained by 5 folds of queries. Intervals are of queries (bootstrap, seed 0); differences are paired.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, I32, CatalogView, Ragged
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.errors import DataUnavailableError, HoneyguideError
from honeyguide.flows.bench.rows import row
from honeyguide.flows.bench.search_data import Judged, folders, load
from honeyguide.flows.encoders import EncoderConfig, open_encoder
from honeyguide.flows.search_config import SearchRankingConfig
from honeyguide.flows.search_learn import Lesson, Trial, interval, trials
from honeyguide.flows.search_tune import graded_ndcg, tuned
from honeyguide.flows.searching import Finder, Learnt, text_of
from honeyguide.ranking.search import folds_of
from honeyguide.retrieval.hybrid import DenseItems
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["run"]

QUERIES = 3_000
DEPTH = 1_000
ENCODER = EncoderConfig(use="minilm", letters=200)
LETTERS = {"ir_cacm": 800}  # of abstracts, which are what is searched there
COST_ITEMS = 50_000
TUNING_QUERIES = 400


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Every judged folder of `data`; then the parts of query understanding, if its benches are there."""
    if data is None:
        raise DataUnavailableError(
            expected="a folder of judged queries",
            got="none",
            do="Name one with --data; docs/search.md tells its files.",
        )
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for folder in folders(data):
        found, left_out = judged_folder(load(folder).sample(QUERIES))
        rows += found
        missing += left_out
    more, left_out = _understanding(data)
    return rows + more, missing + left_out


def judged_folder(judged: Judged) -> tuple[list[dict[str, Any]], list[str]]:
    """One catalog: words by default weights and by tuned ones, hybrid, trees, and what they cost."""
    name, missing = judged.name, list[str]()
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as place:
        index, per_s = _indexed(Path(place) / "index", judged.view, judged.popularity)
        rows = [row("search", f"{name}/lexical", "items_per_s", "items per CPU-s", per_s)]
        plain = _ranked(index, judged)
        rows += _quality(f"{name}/lexical", judged, plain)
        words = graded_ndcg(plain, judged.rows, judged.grades)
        rows += _quality(f"{name}/lexical-tuned", judged, _tuned(index, judged), words)
        rows += _costs(f"{name}/lexical", judged, Path(place))
        finder = Finder(index, judged.view, popularity=judged.popularity, learnt=Learnt(candidates=100))
        trained = _trained(finder, judged)
        rows += _quality(f"{name}/ltr-words", judged, trained.learnt, words)
        try:
            dense, took = _dense(judged)
        except HoneyguideError as error:
            return rows, [f"{name}: hybrid ({error})"]
        rows.append(row("search", f"{name}/hybrid", "encode_ms_per_text", "CPU-ms", took))
        encoder = open_encoder(ENCODER)
        finder = Finder(index, judged.view, popularity=judged.popularity, dense=dense, encoder=encoder)
        deep = SearchRankingConfig(candidates=DEPTH if len(judged.queries) < 500 else 100)
        finder.learnt = Learnt(candidates=deep.candidates)
        trained = _trained(finder, judged)
        rows += _quality(f"{name}/hybrid", judged, trained.hybrid, words)
        rows += _quality(f"{name}/ltr", judged, trained.learnt, words)
        rows += _served_costs(f"{name}/ltr", finder, judged)
    return rows, missing


def _indexed(folder: Path, view: CatalogView, popularity: F32 | None) -> tuple[LexicalIndex, float]:
    """The index and how many items a CPU-second it took, the best of three after a first that compiles."""
    took = []
    for _ in range(4):
        started = time.process_time()
        index = LexicalIndex.build(folder, view, popularity=popularity)
        took.append(time.process_time() - started)
    return index, len(view) / min(took[1:])


def _ranked(index: LexicalIndex, judged: Judged) -> list[I32]:
    return [index.search(query, DEPTH).rows for query in judged.queries]


def _tuned(index: LexicalIndex, judged: Judged) -> list[I32]:
    """Every query by the weights that the other folds' queries are served best with."""
    folds = folds_of(judged.queries, 5)
    out: list[I32] = [np.zeros(0, np.int32)] * len(judged.queries)
    for fold in range(5):
        mine = judged.part(np.flatnonzero(folds != fold)[:TUNING_QUERIES])
        config, _ = tuned(index, mine.queries, mine.rows, mine.grades, rounds=1)
        best = index.reweighed(config)
        for at in np.flatnonzero(folds == fold).tolist():
            out[at] = best.search(judged.queries[at], DEPTH).rows
    return out


def _dense(judged: Judged) -> tuple[DenseItems, float]:
    letters = LETTERS.get(judged.name, ENCODER.letters)
    encoder = open_encoder(ENCODER)
    if encoder is None:
        raise DataUnavailableError(expected="an encoder", got="none", do="Name one.")
    texts = [text_of(judged.view, at, letters) for at in range(len(judged.view))]
    vectors = encoder.encode_all(texts)
    titles = [title[:100] for title in judged.view.title[:512]]
    fresh = open_encoder(ENCODER)
    started = time.process_time()
    if fresh is not None:
        fresh.encode(titles)
    return DenseItems.of(vectors), (time.process_time() - started) / max(len(titles), 1) * 1e3


def _trained(finder: Finder, judged: Judged) -> Trial:
    lesson = Lesson(judged.queries, judged.rows, judged.grades, "judgments")
    return trials(finder, lesson, SearchRankingConfig(candidates=finder.learnt.candidates))


def _quality(case: str, judged: Judged, ranked: Sequence[I32], words: F64 | None = None) -> list[dict[str, Any]]:
    """The three metrics with their intervals, and the paired difference to words alone."""
    values = graded_ndcg(ranked, judged.rows, judged.grades)
    told: dict[str, Any] = {}
    if words is not None:
        told["difference"], told["difference_low"], told["difference_high"] = interval(values - words)
    only = [found[np.isin(found, mine)] for found, mine in zip(ranked, judged.rows, strict=True)]
    out = []
    for metric, found, more in (
        ("ndcg@10", values, told),
        ("ndcg@10_condensed", graded_ndcg(only, judged.rows, judged.grades), {}),
        ("map", average_precision(ranked, judged.rows, judged.grades), {}),
    ):
        mean, low, high = interval(found)
        out.append(row("search", case, metric, metric, mean, low=low, high=high, queries=len(found), **more))
    return out


def average_precision(ranked: Sequence[I32], rows: Sequence[I32], grades: Sequence[F32]) -> F64:
    """Average precision of each ranked list; a grade above 0 is relevant, what is not in the list counts as missed."""
    out = np.zeros(len(ranked))
    for at, (found, judged, grade) in enumerate(zip(ranked, rows, grades, strict=True)):
        relevant = judged[grade > 0]
        hit = np.isin(found, relevant)
        precision = np.cumsum(hit) / np.arange(1, len(found) + 1)
        out[at] = precision[hit].sum() / max(len(relevant), 1)
    return out


def _costs(case: str, judged: Judged, place: Path) -> list[dict[str, Any]]:
    """CPU of a query over the catalog repeated to 50,000 items: 20 hits and facets, one thread."""
    times = -(-COST_ITEMS // len(judged.view))
    index = LexicalIndex.build(place / "large", repeated(judged.view, times))
    queries = judged.queries[:600]
    without = _per_query(lambda query: index.search(query, 20), queries)
    with_facets = _per_query(lambda query: index.search(query, 20, facets=True), queries)
    return [
        row("search", case, "cpu_ms_p50", "ms", without[0], items=len(judged.view) * times),
        row("search", case, "cpu_ms_p99", "ms", without[1], items=len(judged.view) * times),
        row("search", case, "cpu_ms_p50_facets", "ms", with_facets[0], items=len(judged.view) * times),
    ]


def _served_costs(case: str, finder: Finder, judged: Judged) -> list[dict[str, Any]]:
    """CPU of a query that is encoded, met by words and meaning, and ranked by trees; every query is new."""
    from honeyguide.flows.search_learn import learn_ranking

    few = replace(judged).part(range(min(len(judged.queries), 300)))
    lesson = Lesson(few.queries, few.rows, few.grades, "judgments")
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as folder:
        config = SearchRankingConfig(least_queries=10, candidates=100)
        finder.learnt = Learnt(candidates=100)
        learnt = learn_ranking(finder, lesson, config, Path(folder))
    finder.learnt = replace(learnt, on=True, candidates=100)
    fresh = open_encoder(ENCODER, most=0)  # every query is encoded each time
    finder.encoder = fresh
    queries = [f"{query} {at}" for at, query in enumerate(judged.queries[:300])]
    p50, p99 = _per_query(lambda query: finder.search(query, 20, facets=True), queries)
    return [row("search", case, "cpu_ms_p50", "ms", p50), row("search", case, "cpu_ms_p99", "ms", p99)]


def _per_query(ask: Callable[[str], Any], queries: Sequence[str]) -> tuple[float, float]:
    """Median and 99th percentile of a query's CPU, each query the best of three so that neighbours do not count."""
    for query in queries[:20]:
        ask(query)
    best = np.full(len(queries), np.inf)
    for _ in range(3):
        for at, query in enumerate(queries):
            started = time.thread_time()
            ask(query)
            best[at] = min(best[at], time.thread_time() - started)
    return statistics.median(best.tolist()) * 1e3, float(np.quantile(best, 0.99)) * 1e3


def repeated(view: CatalogView, times: int) -> CatalogView:
    """A catalog several times over, under new ids."""
    import pyarrow as pa

    def ragged(of: Ragged) -> Ragged:
        sizes = np.tile(np.diff(of.indptr), times)
        return Ragged(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), np.tile(of.values, times))

    attributes = None
    if view.attributes is not None:
        attributes = pa.chunked_array([chunk for _ in range(times) for chunk in view.attributes.chunks])
    return replace(
        view, items=Vocabulary(f"{n}-{one}" for n in range(times) for one in view.items.ids), title=view.title * times,
        description=view.description * times, category=ragged(view.category), people=ragged(view.people),
        country=np.tile(view.country, times), year=np.tile(view.year, times), price=np.tile(view.price, times),
        available=np.tile(view.available, times), known_at=np.tile(view.known_at, times), vectors=None,
        attributes=attributes,
    )  # fmt: skip


def _understanding(data: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Typos, language identification and intents, measured by the part that understands queries."""
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("honeyguide.flows.bench.search_query") is None:
        return [], ["query understanding: its benchmark is not in this installation."]
    found: tuple[list[dict[str, Any]], list[str]] = import_module("honeyguide.flows.bench.search_query").run(data)
    return found
