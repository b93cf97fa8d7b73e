"""What one process knows: a build, and everything the log has brought since. State is a fold of the log.

Nothing here is written anywhere: a restart, or a second worker, reads the same build and log and knows the same.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from honeyguide.contracts import F32, F64, I32, RETRACT, CatalogView, EventLog, LogRecord, Pool
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tables.writer import aligned
from honeyguide.errors import BuildError
from honeyguide.features.definition import FeatureSet
from honeyguide.features.online import History, OnlineState
from honeyguide.flows.arrivals import Arrived, id_codes, moment_context
from honeyguide.flows.build import Manifest, long_term_of
from honeyguide.flows.config import SurfaceConfig, WorkspaceConfig
from honeyguide.flows.data import Segments, typed
from honeyguide.flows.exploring.stops import stopped, without_stopped
from honeyguide.flows.guardrails import prices_of
from honeyguide.flows.guardrails import said as said_of_guardrails
from honeyguide.flows.layout import Layout
from honeyguide.flows.merchandising.apply import Merchandiser
from honeyguide.flows.merchandising.store import Rules
from honeyguide.flows.past_queries import read_queries
from honeyguide.flows.pipeline import (
    Composers,
    Pipeline,
    explorable,
    load_blend,
    load_sources,
    ranker_columns,
    serviceable,
)
from honeyguide.flows.rankers import load_ranker
from honeyguide.flows.rights import Wishes, former, read_resets
from honeyguide.flows.search_step import open_finder
from honeyguide.flows.showed import Showed, days_of
from honeyguide.flows.understood import encoder_of, load_understander
from honeyguide.flows.worth import worth
from honeyguide.intake.catalog import catalog_view, put_items, wire_items
from honeyguide.intake.values import objects
from honeyguide.kernels.codes import code64
from honeyguide.retrieval.blend import Blend, BlendConfig
from honeyguide.retrieval.lexical import LexicalSource
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.schema.wire import EventIn, Item
from honeyguide.serving.record import ERASE, EVENT, ITEM, RESET, EventRow, decode_events, decode_reset
from honeyguide.slate.bandit import Experience
from honeyguide.slate.compose import Composer, SlateConfig, SlateResult
from honeyguide.slate.moment import Moment
from honeyguide.understanding.query import natural_title
from honeyguide.understanding.suggest import Suggester

if TYPE_CHECKING:
    from honeyguide.flows.skew import Served

__all__ = ["Facts", "Live", "Own", "Surface", "Watch", "load_manifest"]

_PAGE = 20_000
_EVENT_KEY = "ev:"  # what the key of an event's record has before the event's id
SHOWN_PEOPLE = 4


def load_manifest(layout: Layout, build_id: str | None = None) -> Manifest:
    """The manifest of a build (default: the one in service)."""
    path = layout.manifest(build_id or layout.current_build())
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise BuildError(
            expected=f"a build's manifest in {path}", got=str(error), do="Run `honeyguide build`, or roll back."
        ) from error


Watch = Callable[["Surface", Any, Pool, F64 | None, SlateResult], None]
"""Told of every list that the policy made itself: surface, `answer.Ask`, pool, scores, slate."""


@dataclass(frozen=True)
class Surface:
    """A surface as it is served: its configuration, and the slate that the heads in service allow."""

    name: str
    config: SurfaceConfig
    blend: Blend
    slate: SlateConfig
    composers: Composers
    popular: Composer  # the fallback: the same rules, the order of popularity, nothing else
    newcomers: I32  # rows of items that hardly anybody was shown, of which some join the candidates


@dataclass(frozen=True, slots=True)
class Facts:
    """What an answer says of an item, ready to be sent."""

    item_id: str
    title: str
    year: int | None
    categories: list[str]
    people: list[str]  # the first few
    all_people: list[str]


@dataclass(frozen=True, slots=True)
class Own:
    """Events that this process wrote: their records follow the offset `after`, in the log, one by one."""

    after: int
    events: list[EventIn]
    records: list[LogRecord]

    def __len__(self) -> int:
        return len(self.records)


class Live:
    """A build with the events and items that came after it. Not thread-safe: one event loop, or one caller, owns it."""

    def __init__(
        self, layout: Layout, log: EventLog | None, *, clock: Callable[[], int] | None = None,
        config: Callable[[WorkspaceConfig], WorkspaceConfig] | None = None, build_id: str | None = None,
    ) -> None:  # fmt: skip
        """clock: microseconds, where the present is not the workspace's own (a simulation, a replay). config: makes the
        policy to serve of the one that the build was configured with; its sources, heads and features must be those of
        the build. build_id: which build, if not the one in service."""
        self.layout, self.log, self._clock = layout, log, clock
        self.manifest = manifest = load_manifest(layout, build_id)
        # A build is served as it was configured: what is changed in honeyguide.toml counts from the next build on.
        built = WorkspaceConfig.of_build(manifest.config)
        self.config = built if config is None else config(built)
        self.stopped: dict[str, str] = stopped(layout, built, self.config)
        self.config = without_stopped(self.config, self.stopped)
        self.watch: Watch | None = None
        self.served: Served | None = None  # keeps a share of the requests with their features
        self.build_id = manifest.build_id
        self.policy_version = self.config.policy_version(self.build_id)
        folders = {name: layout.root / place for name, place in manifest.folders.items()}
        gone = [name for name, folder in folders.items() if not folder.is_dir()]
        if gone:
            raise BuildError(
                expected=f"the artifacts of {self.build_id}", got=f"no {', '.join(gone)}", do="Run `honeyguide build`."
            )
        self.items_table = pq.read_table(folders["catalog"] / "items.parquet").cast(ITEMS.arrow())
        vectors = folders["vectors"] / "vectors.npy"
        learnt = np.asarray(np.load(vectors, mmap_mode="r")) if vectors.exists() else None
        catalog = replace(catalog_view(self.items_table), vectors=learnt)
        self.users = Vocabulary.load(folders["catalog"] / "users.json")
        self.wishes = Wishes.load(folders.get("wishes"), self.config.rights)
        self.segments = _load_segments(folders["catalog"])
        features = FeatureSet.from_config(manifest.features)
        sources = {source.name: source for source in load_sources(self.config.sources, folders)}
        blend = load_blend(sources, BlendConfig.model_validate(manifest.blend))
        on = any(report["on"] for report in manifest.reports)
        self.pipeline = Pipeline(
            catalog=catalog,
            segments=self.segments,
            sources=sources,
            blend=blend,
            features=features,
            ranker=load_ranker(folders["ranker"], ranker_columns(features, blend.asked)) if on else None,
            vectors=learnt,
            ranks=frozenset(kind for kind, one in manifest.ranks.items() if one["on"]),
            experience=Experience.load(folders["experience"]) if "experience" in folders else None,
        )
        if self.pipeline.ranker is not None:
            self.pipeline.ranker.bind(lambda: (self.users.ids, self.catalog.items.ids))
        # A plain array: every index into a memory map makes a new map object.
        self.vectors: F32 = np.zeros((0, 0), np.float32) if self.pipeline.vectors is None else self.pipeline.vectors
        self.online = OnlineState.open(folders["online"], catalog)
        self.popularity: F32 = np.load(folders["text"] / "popularity.npy")
        self.text = open_finder(folders, catalog, self.popularity, self.config.search, layout.root)
        self.suggester = Suggester.build(catalog, self.popularity, queries=read_queries(folders.get("queries")))
        search = self.config.search
        self.understander = load_understander(
            folders.get("understanding"), search.understanding, catalog, encoder_of(search, layout.root)
        )
        self._actions = {name: code for code, name in enumerate(self.online.actions)}
        # By action code (the last is any other action): values up to this are no reason to give, see `answer.because`.
        self.blamed_up_to = np.full(len(self._actions) + 1, -np.inf, np.float32)
        for head in self.config.heads:
            if head.max_value is not None and head.min_value is None and head.action in self._actions:
                self.blamed_up_to[self._actions[head.action]] = head.max_value
        self.had = self.config.had_by_code(self.online.actions)
        self.applied = manifest.log_offset
        self.rules = Rules(layout)
        self.showed: Showed | None = None
        self._use_catalog(catalog)
        days = max(days_of(surface.slate) for surface in self.surfaces.values())
        if days:
            self.showed = Showed(layout, days, self.now_us(), catalog.items, self.wishes.said.resets)
        with layout.compacting(shared=True):
            self._take_tables()
            self.catch_up()
        self.online.advance(self.now_us())  # windows move to the present now, not in somebody's request
        # Built once, on loading: describing reads every report, and pages ask for it often.
        self.description = self.describe()

    # ------------------------------------------------------------------------------------------------- the log

    def now_us(self) -> int:
        """The present, by the workspace's clock."""
        if self._clock is not None:
            return self._clock()
        return time.time_ns() // 1000 - int(self.config.clock.offset_s * 1e6)

    def catch_up(self, own: deque[Own] | None = None) -> None:
        """Apply what the log has brought since the last call; costs a microsecond when there is nothing.

        own: batches that this process wrote and has at hand, in the order of their offsets; they are not read again.
        Raises TrimmedError if something of it is in the tables by now: then load the build anew.
        """
        if self.showed is not None:
            self.showed.catch_up()
        if self.log is None or self.log.head() <= self.applied:
            return
        mine: list[Own] = []
        at = self.applied
        while own and own[0].after <= at:  # further on, another process wrote in between
            one = own.popleft()
            if one.after == at:  # else it was read from the log already
                mine.append(one)
                at += len(one)
        if mine:
            self._apply_own(mine)
            self.applied = at
        while self.log.head() > self.applied:
            page = self.log.read(self.applied, _PAGE)
            if not page:
                return
            kinds: dict[str, list[bytes]] = {}
            for _, record in page:
                kinds.setdefault(record.kind, []).append(record.payload)
            self._apply_items(kinds.get(ITEM, []))
            self._apply_resets([decode_reset(payload) for payload in kinds.get(RESET, [])])
            self._apply_events(kinds.get(EVENT, []))
            if ERASE in kinds:
                gone = [payload.decode() for payload in kinds[ERASE]]
                for user_id in Snapshots(self.layout.tables).forgotten.hashed(
                    [*self.users.ids, *self.wishes.said.resets, *self._people_shown()], gone
                ):
                    self.erase(user_id)
            self.applied = page[-1][0]

    def skip_trimmed(self) -> None:
        """Go on where the log begins, without what was trimmed."""
        if self.log is not None:
            self.applied = max(self.applied, self.log.trimmed())

    def erase(self, user_id: str) -> int:
        """Drop what this process knows of a person: events, row, segment; returns how many events went."""
        names = [user_id, *(former(user_id, n) for n in range(len(self.wishes.said.resets.get(user_id, ()))))]
        self.wishes.erase(user_id)
        if self.showed is not None:
            self.showed.erase(user_id)
        rows = [row for row in map(self.users.forget, names) if row >= 0]
        if not rows:
            return 0
        gone = 0
        for row in rows:
            if row < len(self.segments.of_user):
                self.segments.of_user[row] = -1
            gone += self.online.erase(row)
        self.description = self.describe()
        return gone

    def _apply_resets(self, rows: list[dict[str, Any]]) -> None:
        """People begin anew: what is known of them stays with a former self, whom nobody asks for."""
        for one in rows:
            self._begin_anew(one[c.USER_ID], one[c.HAPPENED_AT])

    def _begin_anew(self, user_id: str, at_us: int) -> None:
        number = self.wishes.begin_anew(user_id, at_us)
        if self.showed is not None:
            self.showed.begin_anew(user_id, at_us)
        if number < 0:
            return
        old = self.users.rename(user_id, former(user_id, number))
        new, of_user = self.users.add(user_id), self.segments.of_user
        if 0 <= old < len(of_user):  # what the person told of themselves is no history
            wider = np.full(max(len(of_user), new + 1), -1, np.int32)
            wider[: len(of_user)] = of_user
            wider[new] = of_user[old]
            self.segments = replace(self.segments, of_user=wider)

    def _take_tables(self) -> None:
        """Apply what the tables got since the build: from the log, or loaded from files."""
        versions, tables = self.manifest.data.get("versions"), Snapshots(self.layout.tables)
        if versions is None or self.log is None:
            return
        if tables.find(ITEMS.name) is not None:
            self._apply_items(changed_items(tables, versions.get(ITEMS.name)))
        columns = [c.USER_ID, c.ITEM_ID, c.ACTION, c.HAPPENED_AT, c.VALUE, c.EVENT_ID, c.CORRECTS]
        if self.online.features.context_keys:
            columns += [c.SURFACE, c.QUERY, c.CONTEXT]
        for user_id, ats in read_resets(tables).items():
            for at in ats:
                self._begin_anew(user_id, at)
        for rows in tables.since(EVENTS.name, versions[EVENTS.name], c.EVENT_ID, columns=columns):
            told = [rows[column].to_pylist() if column in rows.column_names else None for column in columns]
            ats = rows[c.HAPPENED_AT].cast("int64").to_pylist()
            told[columns.index(c.HAPPENED_AT)] = ats
            filled = [[None] * rows.num_rows if column is None else column for column in told]
            events = [EventRow(*cells) for cells in zip(*filled, strict=True)]
            self._apply(events, ats, [event.event_id for event in events])
        self.applied = tables.offset(EVENTS.name, self.log.id)

    def _apply_own(self, batches: list[Own]) -> None:
        events = [event for batch in batches for event in batch.events]
        records = [record for batch in batches for record in batch.records]
        self._apply(events, [record.at for record in records], [record.key[len(_EVENT_KEY) :] for record in records])

    def _apply_events(self, payloads: list[bytes]) -> None:
        rows = decode_events(payloads)
        self._apply(rows, [row.happened_at for row in rows], [row.event_id for row in rows])

    def _apply(self, rows: Sequence[Arrived], ats: list[int], ids: list[str]) -> None:
        if not rows:
            return
        item = self.catalog.items.rows([row.item_id for row in rows])
        people = [row.user_id for row in rows]
        if self.wishes.said.resets:
            people = [self.wishes.self_at(one, when) for one, when in zip(people, ats, strict=True)]
        user = self.users.add_many(people)
        self.wishes.apply(rows, ats, ids)
        code, strength = self._actions.get, self.config.actions.get
        action = np.array([code(row.action, -1) for row in rows], np.int16)
        weight = np.array([strength(row.action, 0.0) for row in rows], np.float32)
        value = np.array([row.value for row in rows], np.float32)  # None becomes nan
        at = np.array(ats, np.int64)
        event = id_codes(ids)
        known = item >= 0
        corrects = known_us = None
        retracted: list[tuple[int, int, int]] = []
        if any(row.corrects is not None for row in rows):
            corrects = np.array([code64(row.corrects) for row in rows], np.int64)
            # Whatever time a correction gives, it takes the other's place from now on.
            known_us = np.maximum(at, self.now_us())
            known &= np.array([row.action != RETRACT for row in rows])
            gone = ~known & (corrects != 0)
            retracted = list(zip(user[gone].tolist(), corrects[gone].tolist(), known_us[gone].tolist(), strict=True))
        keys = self.online.features.context_keys
        context = moment_context(rows, keys, known) if keys else None
        if not known.all():
            user, item, action = user[known], item[known], action[known]
            value, weight, at, event = value[known], weight[known], at[known], event[known]
            if corrects is not None and known_us is not None:
                corrects, known_us = corrects[known], known_us[known]
        self.online.ensure(len(self.users), len(self.catalog))
        self.online.apply_many(
            user, item, action, value, weight, at, known_us=known_us, event=event, corrects=corrects, context=context
        )
        for one in retracted:
            self.online.retract(*one)
        liked = weight > 0
        for source in self.pipeline.sources.values():
            if liked.any() and hasattr(source, "update"):
                source.update(item[liked], at[liked], self.segment_rows(user[liked]))

    def _apply_items(self, payloads: list[bytes]) -> None:
        if not payloads:
            return
        self.items_table = put_items(self.items_table, payloads)
        catalog = replace(catalog_view(self.items_table), vectors=self.pipeline.vectors)
        ids = dict.fromkeys(msgspec.msgpack.decode(payload)[c.ITEM_ID] for payload in payloads)
        rows = catalog.items.rows(ids)
        changed = wire_items(self.items_table.take(rows))
        self.text.upsert([int(row) for row in rows], changed)
        for item in changed:
            self.suggester.upsert(item)
            self.understander.upsert(item)
        self.online.ensure(len(self.users), len(catalog))
        self.online.use_catalog(catalog)
        self._use_catalog(catalog)

    def _use_catalog(self, catalog: CatalogView) -> None:
        self.catalog = catalog
        if self.showed is not None:
            self.showed.items = catalog.items
        self._facts: dict[int, Facts] = {}
        self.lexical = LexicalSource(self.text, catalog)
        self.merchandiser = Merchandiser(self.rules, catalog, self.item)
        self.surfaces = {name: self._surface(name, config, catalog) for name, config in self.config.surfaces.items()}

    def _surface(self, name: str, config: SurfaceConfig, catalog: CatalogView) -> Surface:
        known = self.config.head_names
        slate, _ = serviceable(config, self.pipeline.heads, bool(self.pipeline.ranks), known)
        plain = SlateConfig(rules=slate.rules.model_copy(update={"pins": ()}))
        return Surface(
            name,
            config,
            self.pipeline.blend_of(config),
            slate,
            self.pipeline.composers(config, known, catalog, prices=prices_of(self.manifest.guarded, name, config)),
            Composer(plain, {}, catalog),
            self._newcomers(slate, catalog),
        )

    def _newcomers(self, slate: SlateConfig, catalog: CatalogView) -> I32:
        """Items that may be shown and hardly were, where a surface lets some of them join."""
        explore = slate.explore
        if not explore.new_candidates:
            return np.zeros(0, np.int32)
        new = np.ones(len(catalog), np.bool_)
        if self.pipeline.experience is not None:
            told = self.pipeline.experience.is_new(explore.new_below)
            new[: len(told)] = told[: len(new)]
        return np.flatnonzero(new & catalog.available).astype(np.int32)

    def facts(self, row: int) -> Facts:
        """An item's facts; made once per item and catalog, for every answer shows a few dozen of the same."""
        found = self._facts.get(row)
        if found is None:
            catalog, item_id = self.catalog, self.catalog.items.id(row)
            year = float(catalog.year[row])
            people = [catalog.people_names[code] for code in catalog.people.row(row).tolist()]
            found = self._facts[row] = Facts(
                item_id,
                natural_title(catalog.title[row]) or item_id,
                int(year) if year == year else None,
                [catalog.category_names[code] for code in catalog.category.row(row).tolist()],
                people[:SHOWN_PEOPLE],
                people,
            )
        return found

    # ------------------------------------------------------------------------------------------------- people

    def follow(self, impressions: EventLog | None) -> Live:
        """Count what is shown from now on as well, where a surface asks how often something was; returns itself."""
        if self.showed is not None and impressions is not None:
            self.showed.follow(impressions)
            self.showed.catch_up()
        return self

    def moment(
        self, surface: Surface, user_id: str | None, now_us: int, past: History, items: I32, weights: F32
    ) -> Moment:
        """What a surface's slate may ask about a person. past: what they did; items, weights: the question."""
        if self.showed is None:
            return Moment(now_us, items, weights)
        return self.showed.moment(surface.slate, user_id, now_us, past, items, weights)

    def _people_shown(self) -> list[str]:
        return [] if self.showed is None else list(self.showed.showings.people)

    def segment_rows(self, users: np.ndarray) -> np.ndarray:
        """Segments of people rows; -1 for those who came after the build."""
        of_user = self.segments.of_user
        known = users < len(of_user)
        return np.where(known, of_user[np.where(known, users, 0)], -1) if len(of_user) else np.full(len(users), -1)

    def segment(self, user: int, context: dict[str, str]) -> int:
        """Segment of a request: the person's, else what the context says."""
        if 0 <= user < len(self.segments.of_user) and self.segments.of_user[user] >= 0:
            return int(self.segments.of_user[user])
        return self.segments.of(context) if context else -1

    def item(self, row: int) -> Item:
        """One item as it travels."""
        return wire_items(self.items_table.slice(row, 1))[0]

    # -------------------------------------------------------------------------------------------- description

    def describe(self) -> dict[str, Any]:
        """The pipeline per surface: what `explain`, the console and the report show."""
        manifest = self.manifest
        importance: dict[str, float] = {}
        on = [report for report in manifest.reports if report["on"]]
        sources, sources_say = worth(manifest.blend_report, manifest.blend)
        for report in on:
            for name, share in report["importance"].items():
                importance[name] = importance.get(name, 0.0) + share / len(on)
        return {
            "workspace": self.config.name,
            "build_id": self.build_id,
            "policy_version": self.policy_version,
            "built_at": manifest.made_at,
            "data": manifest.data,
            "present": dt.datetime.fromtimestamp(self.now_us() / 1e6, dt.UTC).isoformat(timespec="seconds"),
            "surfaces": {name: self._describe_surface(surface, on) for name, surface in self.surfaces.items()},
            "sources": sources,
            "sources_say": sources_say,
            "features": self._describe_features(importance),
            "steps": manifest.steps,
            "decisions": manifest.decisions,
            "long_term": long_term_of(self.layout.root / manifest.folders["ranker"]),
            "actions": dict(self.config.actions),
            "examples": self._examples(),
        }

    def _describe_surface(self, surface: Surface, on: list[dict[str, Any]]) -> dict[str, Any]:
        regimes = surface.blend.config.regimes
        alone = self.manifest.blend_report["quality"]
        sources = [
            {
                "name": name,
                "weight": float(np.mean([regime.weights.get(name, 0.0) for regime in regimes])),
                "weights": {regime.name: regime.weights.get(name, 0.0) for regime in regimes},
                "validation": {regime: quality.get(name) for regime, quality in alone.items()},
            }
            for name in surface.blend.asked
        ]
        utility, rules = surface.slate.utility, surface.slate.rules
        used = {**utility.rank_weights, **utility.weights}
        read = surface.slate.heads
        heads = [
            {"name": report["name"], "kind": report["kind"], "calibrated": report["calibrated"],
             "gives": "a probability" if report["calibrated"] else "a rank only", "model": report.get("model", ""),
             "calibrator": report.get("calibrator", ""), "contest": report.get("contest", []), **report["metrics"]}
            for report in on if report["name"] in read
        ]  # fmt: skip
        weights = dict(used)
        if utility.blend_weight or not (weights or utility.formula):
            weights["rank of the blend"] = utility.blend_weight or 1.0
        said = ["what was seen is hidden"] if rules.hide_seen else []
        if rules.category_cap:
            said.append(f"at most {rules.category_cap} of a category in the first {rules.category_cap_first}")
        if rules.frequency_cap is not None:
            said.append(f"nothing more than {rules.frequency_cap.times} times in {rules.frequency_cap.days:g} days")
        said += [f"{pin.item_id} in slot {pin.position}" for pin in rules.pins]
        said += [f"never {', '.join(names)}" for names in (rules.deny, rules.deny_categories) if names]
        return {
            "kind": surface.config.kind,
            "candidates": surface.config.candidates,
            "sources": sources,
            "heads": heads,
            "utility": weights,
            "rules": said,
            "formula": utility.formula,
            "fatigue": utility.fatigue.model_dump() if utility.fatigue.keep < 1.0 else None,
            "guardrails": self.manifest.guarded.get(surface.name, {}),
            "guardrails_say": said_of_guardrails(surface.name, self.manifest.guarded[surface.name])
            if surface.name in self.manifest.guarded and surface.slate.guardrails.keep
            else [],
            "diversity": round(1.0 - surface.slate.diversify.weight, 4),
            "diversity_kind": surface.slate.diversify.kind,
            "diversity_says": surface.slate.diversify.said,
            "explore_share": surface.composers.plain.explorer.share,
            "exploration": self._describe_exploration(surface),
            "deadline_ms": surface.config.deadline_ms,
            "ranked_requests": sorted(self.pipeline.ranks) if utility.rank_weights else [],
        }

    def _describe_exploration(self, surface: Surface) -> dict[str, Any]:
        explorer = surface.composers.plain.explorer
        known = frozenset(head.name for head in self.config.heads)
        _, off = explorable(surface.config.slate.explore, self.pipeline.heads, known)
        return {
            "says": explorer.config.describe(), "note": explorer.note or "; ".join(off), "kind": explorer.kind,
            "stopped": self.stopped.get(surface.name, ""), "newcomers": len(surface.newcomers),
        }  # fmt: skip

    def _describe_features(self, importance: dict[str, float]) -> list[dict[str, Any]]:
        features, asked = self.pipeline.features, self.pipeline.blend.asked
        said = {"blend": "the blend's score"}
        said |= {f"source_{name}": f"what {name} said, relative to its best" for name in asked}
        own = [(f.name, f.entity, f.window, f.meaning) for f in features.explain()]
        own += [(name, "pair", "the request", said[name]) for name in ranker_columns(features, asked)[len(features) :]]
        return [
            {"name": name, "entity": entity, "window": window, "meaning": meaning, "importance": importance.get(name)}
            for name, entity, window, meaning in own
        ]

    def _examples(self) -> list[str]:
        """A few people with a middling history, for pages that want somebody to show."""
        known = len(self.segments.of_user)  # those whom the build knew
        rows = np.linspace(0, max(known - 1, 0), 5).astype(int)
        return (
            [self.users.id(int(row)) for row in dict.fromkeys(rows.tolist()) if self.users.id(int(row))]
            if known
            else []
        )


def changed_items(tables: Snapshots, identity: str | None) -> list[bytes]:
    """Rows of Items that an older version (None: an empty one) does not hold as they are, as payloads of the log."""
    now = tables.current(ITEMS.name)
    if identity == now.id:
        return []
    new = typed(tables, ITEMS)
    old = ITEMS.arrow().empty_table() if identity is None else aligned(tables.read(ITEMS.name, identity), new.schema)
    same = min(old.num_rows, new.num_rows)
    told, before = objects(new), objects(old)
    differs = np.ones(new.num_rows, np.bool_)
    differs[:same] = pc.not_equal(told.slice(0, same), before.slice(0, same)).to_numpy(zero_copy_only=False)
    payloads = []
    for row in new.filter(pa.array(differs)).to_pylist():
        row[c.KNOWN_AT] = round(row[c.KNOWN_AT].timestamp() * 1e6)
        payloads.append(msgspec.msgpack.encode({key: value for key, value in row.items() if value is not None}))
    return payloads


def _load_segments(folder: Path) -> Segments:
    found = json.loads((folder / "segments.json").read_text())
    return Segments(tuple(found["by"]), tuple(found["names"]), np.load(folder / "segment.npy"))
