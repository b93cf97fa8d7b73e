"""The build's part of search: vectors of items, what judgments or clicks teach about ranking, and how it is opened."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F32, I32, CatalogView, Encoder, Interactions, Progress, TablesEngine
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.search.lexical_config import LexicalConfig
from honeyguide.engines.tasks.steps import StepResult, fingerprint
from honeyguide.flows import judging
from honeyguide.flows.encoders import open_encoder
from honeyguide.flows.search_config import SearchConfig
from honeyguide.flows.search_learn import Lesson, learn_ranking
from honeyguide.flows.search_tune import graded_ndcg, tuned
from honeyguide.flows.searching import Finder, Learnt, text_of
from honeyguide.ranking.search import ItemFacts, Person, folds_of
from honeyguide.retrieval.hybrid import DenseItems
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.understanding.clicks import Sessions, fit, inverse_propensity
from honeyguide.understanding.judgments import Judgment, newest

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from honeyguide.flows.build import Prepared

__all__ = ["SearchLog", "lesson_of_clicks", "lesson_of_judgments", "open_finder", "said_of_search", "search_steps"]

_MOST = 3_000  # queries to learn from
_LEAST_SHOWN = 5  # showings of a query in which its clicks are believed
_TOP_GRADE = 3.0
_COUNTS, _TUNED = "counts.npz", "lexical_config.json"
_TUNING = 400  # queries that weights are tuned on
_HISTORY = 100


@dataclass(frozen=True)
class SearchLog:
    """Searches that were answered: rows shown in order, places clicked, who asked and when."""

    queries: list[str] = field(default_factory=list)
    shown: list[list[int]] = field(default_factory=list)
    clicked: list[list[int]] = field(default_factory=list)
    user: list[int] = field(default_factory=list)
    at_us: list[int] = field(default_factory=list)

    @classmethod
    def read(
        cls, engine: TablesEngine, shown: ir.Table | None, events: ir.Table, items: Vocabulary, users: Vocabulary,
        actions: Mapping[str, float],
    ) -> SearchLog:  # fmt: skip
        """From impressions with a query, and the events of their requests that are a sign of interest.

        Places that a rule filled are left out with their clicks: nobody ranked them there.
        """
        if shown is None or c.QUERY not in shown.columns:
            return cls()
        asked = shown.filter(shown[c.QUERY].notnull())
        wanted = [c.REQUEST_ID, c.USER_ID, c.QUERY, c.SHOWN_ITEMS, c.HAPPENED_AT]
        lists = engine.arrow(asked.select(*wanted).order_by(c.HAPPENED_AT, c.REQUEST_ID)).to_pylist()
        if not lists:
            return cls()
        telling = [name for name, weight in actions.items() if weight > 0]
        acted = events.filter(events[c.REQUEST_ID].notnull() & events[c.ACTION].isin(telling))
        taken: defaultdict[str, set[str]] = defaultdict(set)
        for row in engine.arrow(acted.select(c.REQUEST_ID, c.ITEM_ID).distinct()).to_pylist():
            taken[row[c.REQUEST_ID]].add(row[c.ITEM_ID])
        out = cls()
        for row in lists:
            ids = row[c.SHOWN_ITEMS] or []
            known = items.rows(ids)
            kept = [at for at, number in enumerate(known.tolist()) if number >= 0]
            if not kept:
                continue
            out.queries.append(" ".join(row[c.QUERY].split()).casefold())
            out.shown.append([int(known[at]) for at in kept])
            out.clicked.append([place for place, at in enumerate(kept) if ids[at] in taken[row[c.REQUEST_ID]]])
            out.user.append(users.row(row[c.USER_ID]) if row[c.USER_ID] else -1)
            out.at_us.append(int(row[c.HAPPENED_AT].timestamp() * 1e6))
        return out

    def counts(self, n: int) -> tuple[F32, F32]:
        """By row, clicks in searches and showings."""
        clicks, shown = np.zeros(n, np.float32), np.zeros(n, np.float32)
        for rows, places in zip(self.shown, self.clicked, strict=True):
            np.add.at(shown, rows, 1)
            np.add.at(clicks, [rows[place] for place in places], 1)
        return clicks, shown


def lesson_of_judgments(judgments: Sequence[Judgment], items: Vocabulary) -> Lesson:
    """A grade for each query and item: the mean of its raters' newest words."""
    sums: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    told = newest(judgments)
    for one, row in zip(told, items.rows(one.item_id for one in told).tolist(), strict=True):
        if row >= 0:
            sums[one.query][row].append(float(one.grade))
    kept = [query for query in sorted(sums) if any(max(grades) > 0 for grades in sums[query].values())]
    chosen = np.random.default_rng(0).permutation(len(kept))[:_MOST]
    queries = [kept[at] for at in chosen]
    ordered = [sorted(sums[query]) for query in queries]
    return Lesson(
        queries, [np.array(one, np.int32) for one in ordered],
        [
            np.array([np.mean(sums[query][row]) for row in one], np.float32)
            for query, one in zip(queries, ordered, strict=True)
        ],
        "judgments",
    )  # fmt: skip


def lesson_of_clicks(log: SearchLog, config: SearchConfig, interactions: Interactions, facts: ItemFacts) -> Lesson:
    """What is attractive to those who ask for it, as a click model says; each query stands for its newest asker.

    A result's grade is its relevance as a share of the query's best, times 3; it weighs by the showings that it was
    looked at in.
    """
    sessions = Sessions.of(log.queries, log.shown, log.clicked)
    model = fit(sessions, config.ranking.clicks)
    _, worth = inverse_propensity(sessions, model.examination)
    times: defaultdict[str, int] = defaultdict(int)
    newest: dict[str, int] = {}
    for at, query in enumerate(log.queries):
        times[query] += 1
        newest[query] = at
    of: defaultdict[str, list[int]] = defaultdict(list)
    for pair, query in enumerate(sessions.queries):
        of[query].append(pair)
    clicked = {query for query, places in zip(log.queries, log.clicked, strict=True) if places}
    kept = sorted(query for query in clicked if times[query] >= _LEAST_SHOWN)
    chosen = np.random.default_rng(0).permutation(len(kept))[:_MOST]
    queries = [kept[at] for at in chosen]
    rows, grades, weights = [], [], []
    for query in queries:
        pairs = np.array(of[query])
        order = pairs[np.argsort(sessions.rows[pairs])]
        relevance = model.relevance[order]
        rows.append(sessions.rows[order].astype(np.int32))
        grades.append((_TOP_GRADE * relevance / max(float(relevance.max()), 1e-9)).astype(np.float32))
        weights.append((worth[order] / (worth[order] + _LEAST_SHOWN)).astype(np.float32))
    people = [_person(interactions, log, newest[query], facts) for query in queries]
    return Lesson(queries, rows, grades, "clicks", weights, people)


def _person(interactions: Interactions, log: SearchLog, at: int, facts: ItemFacts) -> Person | None:
    """Who asked, by what they had done before."""
    user = log.user[at]
    if user < 0:
        return None
    past: I32 = interactions.item[(interactions.user == user) & (interactions.at < log.at_us[at])]
    return Person.of(facts, past[-_HISTORY:]) if len(past) else None


# -------------------------------------------------------------------------------------------------------- build


def search_steps(prepared: Prepared, engine: TablesEngine, progress: Progress | None = None) -> dict[str, StepResult]:
    """The index of words, and what search learns beyond it: folders "text" and "search"."""
    data, config = prepared.data, prepared.config.search
    counts = np.bincount(data.interactions.item, minlength=len(data.catalog)).astype(np.float32)
    judged = judging.read(prepared.layout) if config.ranking.learn == "auto" else []
    judgments: Lesson | None = lesson_of_judgments(judged, data.catalog.items)
    if judgments is None or len(judgments.queries) < config.ranking.least_queries:
        judgments, judged = None, []
    judged_key = fingerprint([[one.query, one.item_id, one.grade, one.rater] for one in judged])

    def index(folder: Path) -> None:
        built = LexicalIndex.build(folder, data.catalog, popularity=counts, config=config.lexical, progress=progress)
        told = {"reason": "weights as configured"}
        if judgments is not None and config.tune:
            chosen, told = _weights(built, judgments, progress)
            if chosen != config.lexical:
                LexicalIndex.build(folder, data.catalog, popularity=counts, config=chosen)
        (folder / _TUNED).write_text(json.dumps(told))
        np.save(folder / "popularity.npy", counts)

    inputs = {"data": data.fingerprint, "config": config.lexical.model_dump(mode="json"), "judgments": judged_key}
    text = prepared.steps.run("text", inputs | {"tune": config.tune}, index)

    def learn(folder: Path) -> None:
        encoder = open_encoder(config.encoder, root=prepared.layout.root, progress=progress)
        dense = None
        if encoder is not None:
            letters = config.encoder.letters
            texts = [text_of(data.catalog, row, letters) for row in range(len(data.catalog))]
            dense = DenseItems.of(encoder.encode_all(texts, progress=progress))
            dense.save(folder)
        (folder / "encoder.json").write_text(json.dumps(_told(encoder)))
        log = SearchLog()
        if config.ranking.learn == "auto" and judgments is None:
            log = SearchLog.read(
                engine, data.shown, data.events, data.catalog.items, data.users, prepared.config.actions
            )
        clicks, shown = log.counts(len(data.catalog))
        np.savez(folder / _COUNTS, clicks=clicks, shown=shown)
        if config.ranking.learn == "off":
            Learnt.write(folder, _nothing("[search.ranking] learn is off"))
            return
        finder = Finder(
            LexicalIndex.open(text.folder), data.catalog, popularity=counts, dense=dense, encoder=encoder,
            learnt=Learnt(candidates=config.ranking.candidates), clicks=clicks, shown=shown,
        )  # fmt: skip
        lesson = judgments or lesson_of_clicks(log, config, data.interactions, finder.facts)
        learn_ranking(finder, lesson, config.ranking, folder, seed=prepared.config.seed, progress=progress)

    learning = inputs | {
        "ranking": config.ranking.model_dump(mode="json"), "encoder": config.encoder.model_dump(mode="json"),
        "text": text.folder.name, "shown": data.shown_key, "actions": prepared.config.actions,
    }  # fmt: skip
    return {"text": text, "search": prepared.steps.run("search", learning, learn)}


def _weights(index: LexicalIndex, lesson: Lesson, progress: Progress | None) -> tuple[LexicalConfig, dict[str, Any]]:
    """Weights tuned on some judged queries, if they serve the others better; and what there is to say of it."""
    folds = folds_of(lesson.queries, 2)
    learnt, held = (np.flatnonzero(folds == fold)[:_TUNING].tolist() for fold in (0, 1))

    def taken(which: list[int]) -> tuple[list[str], list[I32], list[F32]]:
        of = lesson
        return [of.queries[at] for at in which], [of.rows[at] for at in which], [of.grades[at] for at in which]

    best, _ = tuned(index, *taken(learnt), rounds=1, progress=progress)
    queries, rows, grades = taken(held)
    was, now = (
        float(graded_ndcg([one.search(query, 10).rows for query in queries], rows, grades).mean())
        for one in (index, index.reweighed(best))
    )
    said = (
        f"{now:.4f} nDCG@10 with tuned weights, {was:.4f} with the configured ones, on {len(queries)} queries held out"
    )
    if now <= was:
        return index.config, {"reason": f"weights as configured: {said}"}
    return best, {"reason": f"weights tuned on judgments: {said}", "config": best.model_dump(mode="json")}


def _nothing(reason: str) -> dict[str, Any]:
    return {"on": False, "reason": reason, "candidates": 100, "shares": {}, "report": {}}


def _told(encoder: Encoder | None) -> dict[str, Any]:
    if encoder is None:
        return {}
    return {"name": encoder.name, "version": encoder.version, "dimension": encoder.dimension}


def said_of_search(folders: Mapping[str, Path]) -> list[str]:
    """What a build has to say of how it searches."""
    out = []
    told = folders["text"] / _TUNED
    if told.is_file():
        out.append(f"search by words: {json.loads(told.read_text())['reason']}")
    if "search" in folders:
        learnt = json.loads((folders["search"] / "search.json").read_text())
        encoder = json.loads((folders["search"] / "encoder.json").read_text())
        if encoder:
            out.append(f"search by meaning: {encoder['name']} {encoder['version']}")
        out.append(f"ranking of search: {learnt['reason']}")
    return out


# ---------------------------------------------------------------------------------------------------- serving


def open_finder(
    folders: Mapping[str, Path], view: CatalogView, popularity: F32, config: SearchConfig, root: Path
) -> Finder:
    """What a server searches with. An encoder is opened only where what was learnt asks for meaning.

    Vectors of another encoder than the one that is installed now are not compared with its queries.
    """
    index = LexicalIndex.open(folders["text"])
    folder = folders.get("search")
    if folder is None:
        return Finder(index, view, popularity=popularity)
    learnt = Learnt.load(folder)
    dense, encoder = None, None
    if learnt.on and (folder / "vectors.npy").is_file():
        encoder = open_encoder(config.encoder, root=root)
        if encoder is not None and _told(encoder) == json.loads((folder / "encoder.json").read_text()):
            dense = DenseItems.load(folder)
        else:
            learnt, encoder = Learnt(reason="the encoder is another than the build's: run `honeyguide build`"), None
    with np.load(folder / _COUNTS) as counts:
        clicks, shown = counts["clicks"], counts["shown"]
    return Finder(
        index, view, popularity=popularity, dense=dense, encoder=encoder, learnt=learnt, clicks=clicks, shown=shown
    )
