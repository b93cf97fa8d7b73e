"""Learning a pipeline from events: the build does it on all data, the evaluation on what came before its cut.

Sources are fitted twice. On `base` (without the newest events) they bring the candidates from which the blend's
weights and the ranker are learnt; on `full` they go into service. A ranker that learnt from sources that had seen its
labels would trust them too much. Every step is cached by the content of its input, so that a build and an evaluation
share what they can.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F32, I64, BoolArray, CatalogView, Interactions, Progress, Source
from honeyguide.engines.tasks.steps import StepResult, Steps, code_fingerprint, fingerprint
from honeyguide.errors import BuildError, ConfigError, MissingExtraError
from honeyguide.evaluation.judged import judge
from honeyguide.evaluation.metrics import nDCG
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.aggregates import Aggregates
from honeyguide.flows.batch import rank_batch, slates
from honeyguide.flows.config import SourceConfig, SurfaceConfig, WorkspaceConfig, load_plugin
from honeyguide.flows.data import Segments
from honeyguide.flows.deep import DeepData
from honeyguide.flows.guardrails import ask_surface, guard
from honeyguide.flows.histories import Timelines
from honeyguide.flows.labels import Lesson, ask
from honeyguide.flows.layout import Layout
from honeyguide.flows.long_term import Arms, long_term_heads
from honeyguide.flows.pipeline import NEW, Composers, Pipeline, kinds_of, ranker_columns
from honeyguide.flows.rankers import fit_ranker, load_ranker, reliability
from honeyguide.flows.scorers import key_of_files
from honeyguide.flows.showings import Shown
from honeyguide.flows.training import Material, assemble, check_names, read_rows, write_training_set
from honeyguide.ranking.measure import compare
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.retrieval.blend import Blend, BlendConfig, Regime, regime_of
from honeyguide.retrieval.popular import Popular
from honeyguide.retrieval.tune import choose, tune
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.compose import Composer, SlateConfig
from honeyguide.slate.diversify import DiversifyConfig
from honeyguide.slate.utility import UtilityConfig

__all__ = ["Fitted", "Learner", "content"]

REGIMES = (
    Regime(name="visit", within_hours=12.0, weights={}),
    Regime(name="return", within_hours=1e9, weights={}),  # JSON has no infinity
)
"""In the middle of a visit the last steps count; on coming back the whole history does."""
REQUESTS = 16_000
"""Moments that weights and rank heads are learnt from."""
NEXT_ITEMS = 5
"""Within a visit, the next so many items are right: one alone is too thin a lesson."""
ONE_OF = ("ease", "als")
"""Of these, the build keeps the one that serves the data better."""
LEAST_PEOPLE = 30
"""A kind of request that fewer people asked is left to the blend: an interval of so few is no evidence."""
HELD_OUT = 0.25
"""Share of the newest requests that decide whether the ranker goes into service."""


_DECIDES = {"rank_weights", "blend_weight", "rank_constant"}  # of the utility: what `Learner._decide` looks at
Specs = tuple[SourceConfig, ...]
Fit = tuple[Source, Path]


def content(interactions: Interactions) -> str:
    """Hash of the events themselves."""
    digest = hashlib.blake2b(digest_size=16)
    for array in (interactions.user, interactions.item, interactions.action, interactions.value, interactions.weight,
                  interactions.at):  # fmt: skip
        digest.update(np.ascontiguousarray(array).data)
    told = {"known": interactions.known_at, "until": interactions.until, **interactions.context}
    for name, column in told.items():
        digest.update(name.encode() if column is None else np.ascontiguousarray(column).data)
    if interactions.former is not None:
        digest.update(content(interactions.former).encode())
    digest.update(repr((interactions.n_users, interactions.n_items, interactions.actions)).encode())
    return digest.hexdigest()


class BlendReport(msgspec.Struct):
    """What validation found about the sources."""

    quality: dict[str, dict[str, float]]  # regime -> source -> nDCG@10 alone
    blend: dict[str, float]  # regime -> nDCG@10
    marginal: dict[str, dict[str, float]]  # regime -> source -> what leaving it out loses
    cpu_ms: dict[str, float]


class RankerDecision(msgspec.Struct):
    """Whether the heads that rank go into service for one kind of request, and by how much they beat the blend."""

    on: bool
    reason: str
    gain: float | None = None
    low: float | None = None
    high: float | None = None


Decisions = dict[str, RankerDecision]  # by kind of request


@dataclass(frozen=True)
class Fitted:
    """A pipeline and the artifacts it is made of."""

    pipeline: Pipeline
    blend_config: BlendConfig
    blend_report: BlendReport
    decisions: Decisions
    reports: list[dict[str, Any]]
    folders: dict[str, Path]  # sources by name, "ranker", "training"
    specs: tuple[SourceConfig, ...]  # the sources with their grids settled
    guarded: dict[str, dict[str, Any]]  # surfaces with guardrails: what `guardrails.guard` found
    held_out: tuple[Pipeline, Lesson] | None  # over sources that have not seen what its requests are about
    notes: tuple[str, ...] = ()  # what else is to be told of it


class Learner:
    """Fits pipelines over one catalog under one configuration."""

    def __init__(
        self, steps: Steps, config: WorkspaceConfig, catalog: CatalogView, segments: Segments, features: FeatureSet,
        *, catalog_key: str, users: Vocabulary, shown: Shown | None = None, aggregates: Aggregates | None = None,
        progress: Progress | None = None, threads: int = 2,
        today: Mapping[str, Any] | None = None, arms: Arms | None = None,
    ) -> None:  # fmt: skip
        """shown: what people were shown, from which heads may learn. aggregates: computes features elsewhere.
        today: the policy in service, see `guardrails.guard`. arms: what chance has parted, for long-term heads."""
        self._arms = arms
        self._today: Mapping[str, Any] = today or {}
        self._steps, self._config, self._catalog, self._segments = steps, config, catalog, segments
        self._features, self._catalog_key, self._threads = features, catalog_key, threads
        self._users, self.shown, self._aggregates = users, shown, aggregates
        self._progress: Progress = progress or (lambda what, done, total: None)
        self.refusals: dict[str, str] = {}
        self._hashed: tuple[Interactions, str] | None = None  # the events that the last source asked for
        self._segment_key = hashlib.blake2b(np.ascontiguousarray(segments.of_user).data, digest_size=16).hexdigest()

    # ------------------------------------------------------------------------------------------------ sources

    def source(self, spec: SourceConfig, data: Interactions) -> tuple[Source, Path]:
        """One source fitted on events, from the cache if these events were fitted before."""
        kind = load_plugin(spec.use)
        inputs = {
            "data": self._content(data), "catalog": self._catalog_key, "use": spec.use, "config": spec.config,
            "segments": self._segment_key, "seed": self._config.seed,
        }  # fmt: skip

        def make(folder: Path) -> None:
            work = Layout(self._steps.store.parent).scratch / "sources" / fingerprint([inputs, code_fingerprint()])
            self._new_source(kind, spec, work).fit(data, self._catalog, seed=self._config.seed).save(folder)

        step = self._steps.run(f"source-{kind.name}", inputs, make)
        return kind.load(step.folder), step.folder

    def _content(self, data: Interactions) -> str:
        """`content`, once for all the sources that are fitted on the same events in a row."""
        if self._hashed is None or self._hashed[0] is not data:
            self._hashed = (data, content(data))
        return self._hashed[1]

    def _new_source(self, kind: type[Source], spec: SourceConfig, work: Path) -> Source:
        """work: where a source that trains for long goes on after it was killed."""
        settings: dict[str, Any] = {}
        if hasattr(kind, "Config"):
            settings["config"] = kind.Config.model_validate(spec.config)
        if "user_segment" in inspect.signature(kind).parameters:
            settings["user_segment"] = self._segments.of_user
        if "work" in inspect.signature(kind).parameters:
            settings["work"] = work
        return kind(**settings)

    def sources(self, specs: Specs, data: Interactions, only: Collection[str] | None = None) -> dict[str, Fit]:
        """Sources (or those named) fitted on events, with their folders."""
        found = {}
        for done, spec in enumerate(specs):
            self._progress("sources", done, len(specs))
            name = load_plugin(spec.use).name
            if only is None or name in only:
                found[name] = self.source(spec, data)
        self._progress("sources", len(specs), len(specs))
        return found

    def settled(self, base: Interactions, lesson: Lesson) -> Specs:
        """The configured sources with every grid settled on validation: one choice after another, key by key."""
        regime = regime_of(lesson.queries, REGIMES)
        returning = lesson.part(np.flatnonzero(regime == len(REGIMES) - 1))
        asked = returning if len(returning.moments) else lesson
        chosen = []
        for spec in self._config.sources:
            config = dict(spec.config)
            if not self._accepts(spec, base):
                continue
            for key, values in spec.grid.items():
                trials = [SourceConfig(use=spec.use, config={**config, key: value}) for value in values]
                fitted = [self.source(trial, base)[0] for trial in trials]
                best, _ = choose(fitted, asked.queries, asked.relevant)
                config = trials[fitted.index(best)].config
            chosen.append(SourceConfig(use=spec.use, config=config, chance=spec.chance))
        return tuple(chosen)

    def _accepts(self, spec: SourceConfig, base: Interactions) -> bool:
        """Whether a source can be fitted on data of this size; its refusal is kept for the build's report."""
        try:
            self.source(SourceConfig(use=spec.use, config={**spec.config, **_first(spec.grid)}), base)
        except BuildError as error:
            self.refusals[load_plugin(spec.use).name] = f"{error.got} (expected {error.expected})"
            return False
        except MissingExtraError as error:
            self.refusals[load_plugin(spec.use).name] = f"{error.got}; it needs {error.expected}. {error.do}"
            return False
        return True

    # ------------------------------------------------------------------------------------------------ learning

    def fit(self, base: Interactions, full: Interactions, asked: I64) -> Fitted:
        """Learn weights and heads from the events `asked` (indexes into `full`), which `base` has not seen."""
        config = self._config
        home = config.surface("home")
        lines = Timelines(full)
        lesson = ask(
            lines, asked, self._segments.of_user, history=home.history, requests=REQUESTS, next_items=NEXT_ITEMS,
            seed=config.seed, had=config.had_by_code(full.actions),
        )  # fmt: skip
        key = {
            "base": content(base), "full": content(full), "asked": fingerprint(asked.tolist()),
            "catalog": self._catalog_key, "segments": self._segment_key, "seed": config.seed,
            "sources": [spec.model_dump() for spec in config.sources], "history": home.history, "had": config.had,
        }  # fmt: skip
        learnt = lesson.part(np.flatnonzero(~_newest(lesson, HELD_OUT)))
        specs = self.settled(base, learnt)
        of_base = {name: source for name, (source, _) in self.sources(specs, base).items()}
        blend_config, blend_report = self._blend(of_base, learnt, key)
        on_base = Blend(list(of_base.values()), blend_config)
        catalog = self._with_vectors(specs, base)
        training = self._training(on_base, catalog, lesson, base, full, asked, key)
        ranker, decisions, reports, folder = self._ranker(on_base, catalog, lesson, full, training, key)
        elsewhere = {name for surface in config.surfaces.values() for name in surface.weights}
        in_service = self.sources(specs, full, {*on_base.asked, *elsewhere})
        folders = {name: place for name, (_, place) in in_service.items()}
        folders |= {"ranker": folder, "training": training}
        sources = {name: source for name, (source, _) in in_service.items()}
        pipeline = Pipeline(
            catalog=self._with_vectors(specs, full),
            segments=self._segments,
            sources=sources,
            blend=Blend([sources[name] for name in on_base.asked], _only(blend_config, on_base.asked)),
            features=self._features,
            ranker=ranker if ranker is not None and ranker.names else None,
            ranks=frozenset(kind for kind, decision in decisions.items() if decision.on),
            vectors=self.vectors(specs, full),
        )
        newest = lesson.part(np.flatnonzero(_newest(lesson, HELD_OUT)))
        held_out = (replace(pipeline, sources=of_base, blend=on_base), newest)
        guarded = self._guarded(*held_out, full, key, folder)
        return Fitted(
            pipeline, pipeline.blend.config, blend_report, decisions, reports, folders, specs, guarded, held_out
        )

    def bare(self, known_at: I64, why: str) -> Fitted:
        """A pipeline for a catalog without events to learn from: the newest items first, and no ranker.

        known_at: (items,) when each became known. Raises ConfigError without a source for popularity, or if a feature
        asks for vectors.
        """
        found = [spec for spec in self._config.sources if load_plugin(spec.use).name == Popular.name]
        if not found:
            raise ConfigError(
                expected="the source `popular` in [[sources]], which answers while there is nothing to learn from",
                got="no such source", do="Add `honeyguide.retrieval.popular:Popular`.",
            )  # fmt: skip
        rows = np.argsort(known_at, kind="stable").astype(np.int32)
        rows = rows[self._catalog.available[rows]]
        n, items = len(rows), len(self._catalog)
        ones = np.ones(n, np.float32)
        # One event of nobody per item, when it became known: what really happens then counts on top.
        arrivals = Interactions(
            np.zeros(n, np.int32), rows, np.zeros(n, np.int16), ones, ones, known_at[rows], 1, items, ("arrival",)
        )

        def make(folder: Path) -> None:
            Popular(Popular.Config.model_validate(found[0].config)).fit(arrivals, self._catalog).save(folder)

        inputs = {"catalog": self._catalog_key, "config": found[0].config, "arrivals": content(arrivals)}
        popular = self._steps.run(f"source-{Popular.name}-bare", inputs, make).folder
        ranker = self._steps.run("ranker-none", {"why": why}, lambda folder: (folder / "none").touch()).folder
        regimes = tuple(regime.model_copy(update={"weights": {Popular.name: 1.0}}) for regime in REGIMES)
        config = BlendConfig(regimes=regimes)
        source = Popular.load(popular)
        pipeline = Pipeline(
            catalog=self._catalog, segments=self._segments, sources={Popular.name: source},
            blend=Blend([source], config), features=self._features, ranker=None, vectors=None, ranks=frozenset(),
        )  # fmt: skip
        quality: dict[str, dict[str, float]] = {regime.name: {} for regime in regimes}
        return Fitted(
            pipeline, config, BlendReport(quality, {}, quality, {}), {}, [],
            {Popular.name: popular, "ranker": ranker}, (), {}, None, (why,),
        )  # fmt: skip

    def _guarded(
        self, pipeline: Pipeline, lesson: Lesson, full: Interactions, key: dict[str, Any], ranker: Path
    ) -> dict[str, dict[str, Any]]:
        """Guardrails of every surface that has some, on requests that nothing else has learnt from."""
        config, out = self._config, {}
        known = config.head_names
        for name, surface in config.surfaces.items():
            if not surface.slate.guardrails.keep:
                continue

            def make(folder: Path, name: str = name, surface: SurfaceConfig = surface) -> None:
                most = surface.slate.guardrails.requests
                asked = ask_surface(pipeline, surface, lesson, full, most, config.seed)
                solved = guard(name, surface, pipeline, known, asked, self._today, config.seed)
                (folder / "guardrails.json").write_bytes(msgspec.json.encode(solved))

            self._progress(f"guardrails of {name}", 0, 1)
            inputs = {
                **key, "ranker": ranker.name, "features": self._features.fingerprint, "name": name,
                "surface": surface.model_dump(mode="json"), "today": dict(self._today),
                "blend": pipeline.blend.config.model_dump(mode="json"),
            }  # fmt: skip
            step = self._steps.run(f"guardrails-{name}", inputs, make)
            self._progress(f"guardrails of {name}", 1, 1)
            out[name] = json.loads((step.folder / "guardrails.json").read_bytes())
        return out

    def vectors(self, specs: Specs, full: Interactions) -> F32 | None:
        """Item vectors for diversity and reasons, from the first configured source that has them."""
        for spec in specs:
            kind = load_plugin(spec.use)
            if hasattr(kind, "item_vectors"):
                return np.ascontiguousarray(self.source(spec, full)[0].item_vectors())  # type: ignore[attr-defined]
        return None

    def _with_vectors(self, specs: Specs, data: Interactions) -> CatalogView:
        """The catalog with the vectors learnt from these events, if a feature looks at them."""
        if not self._features.needs_vectors:
            return self._catalog
        vectors = self.vectors(specs, data)
        if vectors is None:
            raise ConfigError(
                expected="a source with item vectors, which a feature of kind embedding looks at",
                got=f"none among {', '.join(load_plugin(spec.use).name for spec in specs)}",
                do="Add one to [[sources]], such as the one `honeyguide init` writes, or remove the feature.",
            )
        return replace(self._catalog, vectors=vectors)

    def _blend(
        self, sources: dict[str, Source], lesson: Lesson, key: dict[str, Any]
    ) -> tuple[BlendConfig, BlendReport]:
        def make(folder: Path) -> None:
            tuned = tune(
                list(sources.values()), lesson.queries, lesson.relevant, config=BlendConfig(regimes=REGIMES),
                one_of=[ONE_OF], most=1_500, seed=self._config.seed,
                chances={load_plugin(spec.use).name: spec.chance for spec in self._config.sources if spec.chance},
            )  # fmt: skip
            report = BlendReport(
                {r: {n: q.ndcg_10 for n, q in found.items()} for r, found in tuned.sources.items()},
                {r: q.ndcg_10 for r, q in tuned.blend.items()},
                tuned.marginal,
                tuned.cpu_ms,
            )
            (folder / "blend.json").write_text(tuned.config.model_dump_json())
            (folder / "report.json").write_bytes(msgspec.json.encode(report))

        self._progress("blend", 0, 1)
        step = self._steps.run("blend", key, make)
        self._progress("blend", 1, 1)
        return (
            BlendConfig.model_validate_json((step.folder / "blend.json").read_text()),
            msgspec.json.decode((step.folder / "report.json").read_bytes(), type=BlendReport),
        )

    def _training(
        self, blend: Blend, catalog: CatalogView, lesson: Lesson, base: Interactions, full: Interactions, asked: I64,
        key: dict[str, Any],
    ) -> Path:  # fmt: skip
        """The folder of the training set that all heads learn from."""
        config = self._config
        learnt = ~_newest(lesson, HELD_OUT)
        material = Material(
            config=config, features=self._features, catalog=catalog, segments=self._segments, base=base,
            full=full, asked=asked, shown=self.shown, blend=blend, lesson=lesson.part(np.flatnonzero(learnt)),
            moments=len(asked), requests=REQUESTS, held_out_from=int(lesson.moments.at[learnt].max(initial=0)),
            aggregates=self._aggregates,
        )  # fmt: skip

        check_names(material.columns, config.heads)

        def make(folder: Path) -> None:
            if config.heads:
                sample, told = assemble(material)
                write_training_set(
                    folder, sample, told, material.columns, config.heads, self._users, self._catalog.items, self.shown
                )

        self._progress("training set", 0, 1)
        step = self._steps.run("training", self._learning_key(blend, key), make)
        self._progress("training set", 1, 1)
        return step.folder

    def _learning_key(self, blend: Blend, key: dict[str, Any]) -> dict[str, Any]:
        config = self._config
        return {
            **key, "features": self._features.fingerprint, "columns": ranker_columns(self._features, blend.asked),
            "blend": blend.config.model_dump(mode="json"), "heads": [head.model_dump() for head in config.heads],
            "candidates": config.surface("home").candidates, "training": config.training.model_dump(),
            "shown": None if self.shown is None else self.shown.fingerprint,
        }  # fmt: skip

    def _ranker(
        self,
        blend: Blend,
        catalog: CatalogView,
        lesson: Lesson,
        full: Interactions,
        training: Path,
        key: dict[str, Any],
    ) -> tuple[HeadsRanker | None, Decisions, list[dict[str, Any]], Path]:  # fmt: skip
        config, columns = self._config, ranker_columns(self._features, blend.asked)

        def make(folder: Path) -> None:
            decisions: Decisions = {}
            if config.heads:
                segment_of = self._segments.of_user
                rows = read_rows(training, columns, config.heads, self._users, self._catalog.items, segment_of)
                more, told = long_term_heads(config.long_term, rows, columns, full, self._arms, config.seed)
                (folder / "long_term.json").write_bytes(msgspec.json.encode(told))
                ranker = fit_ranker(
                    config, columns, rows, self._users, self._catalog.items, root=self._steps.store.parent,
                    segments=len(self._segments.names), threads=self._threads, more=more,
                    data=DeepData(full, self.shown, Layout(self._steps.store.parent).scratch),
                )  # fmt: skip
                (folder / "reliability.json").write_bytes(msgspec.json.encode(reliability(ranker)))
                decisions = self._decide(ranker, blend, catalog, lesson, full)
                ranker.save(folder)
            (folder / "decisions.json").write_bytes(msgspec.json.encode(decisions))

        self._progress("ranker", 0, 1)
        inputs = {
            **self._learning_key(blend, key),
            "utility": config.surface("home").slate.utility.model_dump(include=_DECIDES),
            "ranker": config.ranker.model_dump(), "scorers": key_of_files(config.heads, self._steps.store.parent),
            "long_term": [one.model_dump() for one in config.long_term],
        }  # fmt: skip
        step: StepResult = self._steps.run("ranker", inputs, make)
        self._progress("ranker", 1, 1)
        decisions = msgspec.json.decode((step.folder / "decisions.json").read_bytes(), type=Decisions)
        if not config.heads:
            return None, decisions, [], step.folder
        ranker = load_ranker(step.folder, columns)
        return ranker, decisions, msgspec.to_builtins(list(ranker.reports)), step.folder

    def _decide(
        self, ranker: HeadsRanker, blend: Blend, catalog: CatalogView, lesson: Lesson, full: Interactions
    ) -> Decisions:
        """The home surface's ranks with the heads against the blend alone, on requests neither has learnt from.

        Each kind of request is decided by itself: what helps in a visit may hurt somebody new. Probabilities, rules
        and diversity are left out: they pursue other ends than the next item.
        """
        home = self._config.surface("home")
        utility = home.slate.utility
        ranks = {name: w for name, w in utility.rank_weights.items() if name in ranker.names}
        kinds = (NEW, *(regime.name for regime in REGIMES))
        if not ranks:
            return {kind: RankerDecision(False, "no head that ranks is weighed") for kind in kinds}
        test = lesson.part(np.flatnonzero(_newest(lesson, HELD_OUT)))
        found = rank_batch(
            self._features, catalog, full, blend, ranker, test.moments.user, test.queries, home.candidates,
            {name: codes[test.asked] for name, codes in full.context.items()},
        )  # fmt: skip
        by_rank = UtilityConfig(
            rank_weights=ranks, blend_weight=utility.blend_weight, rank_constant=utility.rank_constant
        )
        slate = SlateConfig(utility=by_rank, diversify=DiversifyConfig(mmr_lambda=1.0))
        heads = dict(zip(ranker.names, ranker.calibrated, strict=True))
        composer = Composer(slate, heads, catalog)
        asked = np.array(kinds_of(test.queries, REGIMES))
        with_heads = slates(found, Composers(composer, composer, frozenset()), asked.tolist(), test.queries, 10)
        ndcg = [
            judge(ranked, test.relevant, [nDCG(10)]).values["nDCG@10"]
            for ranked in (with_heads, found.pool.items[:, :10])
        ]
        decisions = {}
        for kind in kinds:
            of = asked == kind
            unit = test.moments.user[of].astype(np.int64)
            people = len(np.unique(unit))
            if people < LEAST_PEOPLE:
                decisions[kind] = RankerDecision(False, f"only {people} people to compare on, not {LEAST_PEOPLE}")
                continue
            one = compare(ndcg[0][of], ndcg[1][of], unit=unit, seed=self._config.seed)
            decisions[kind] = RankerDecision(one.on, one.reason, *(_finite(x) for x in (one.gain, one.low, one.high)))
        return decisions


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _first(grid: dict[str, list[Any]]) -> dict[str, Any]:
    return {key: values[0] for key, values in grid.items() if values}


def _newest(lesson: Lesson, share: float) -> BoolArray:
    cut = np.quantile(lesson.moments.at, 1.0 - share) if len(lesson.moments) else 0
    return lesson.moments.at > cut


def _only(config: BlendConfig, names: tuple[str, ...]) -> BlendConfig:
    regimes = tuple(
        regime.model_copy(update={"weights": {n: w for n, w in regime.weights.items() if n in names}})
        for regime in config.regimes
    )
    return config.model_copy(update={"regimes": regimes})
