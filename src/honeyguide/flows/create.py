"""`honeyguide init`: files to a workspace: tables through the gate, and a `honeyguide.toml` that fits them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import Progress
from honeyguide.engines.tables.duckdb import DuckDBConfig, DuckDBTables
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.intake.actions import WEIGHTS, impressions_among, meaning
from honeyguide.intake.catalog import bare_items, load_items, load_users
from honeyguide.intake.dates import ACCEPTED
from honeyguide.intake.events import EventsLoad, load_events
from honeyguide.intake.evidence import evidence
from honeyguide.intake.importers import assigned
from honeyguide.intake.quality import Report
from honeyguide.intake.titles import enrich_items
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, QUARANTINE, USERS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["create", "load_line", "mapping_of", "nothing_accepted"]

STALE_DAYS = 30
"""A log that ended longer ago is not live: the present is taken to be its end."""
SEGMENT_VALUES = 10
SEGMENTS = 60
RATING = "rating"


def create(
    folder: Path, *, events: Path, items: Path | None = None, users: Path | None = None, facts: Path | None = None,
    name: str | None = None, mapping: Mapping[str, str] | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Make a workspace of files; returns the report of `honeyguide init`. Nothing is left behind if it fails.

    `mapping` (our column -> theirs) goes before what the columns' names say, in each file that has the column.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    for path in (events, items, users, facts):
        if path is not None and not path.exists():
            raise DataError(expected=f"a file at {path}", got="nothing there", do="Check the path.")
    files = [
        (path, table) for path, table in ((events, EVENTS), (items, ITEMS), (users, USERS), (facts, ITEMS)) if path
    ]
    given = {path: part for (path, _), part in zip(files, assigned(files, mapping), strict=True)}
    existed = Path(folder).exists()
    with disk_errors(folder):
        layout = Layout.create(folder)
    try:
        with disk_errors(layout.root):
            return _fill(layout, events, items, users, facts, name or layout.root.resolve().name, given, tell)
    except BaseException:
        # A half-made workspace would be taken for a whole one.
        for child in layout.root.iterdir():
            shutil.rmtree(child) if child.is_dir() else child.unlink()
        if not existed:
            layout.root.rmdir()
        raise


def _fill(
    layout: Layout,
    events: Path,
    items: Path | None,
    users: Path | None,
    facts: Path | None,
    name: str,
    given: Mapping[Path, Mapping[Column, str]],
    tell: Progress,
) -> dict[str, Any]:
    import pyarrow as pa

    now = time.time_ns() // 1000
    reports: list[Report] = []
    quarantines: list[pa.Table] = []
    extra: list[str] = []
    with DuckDBTables(DuckDBConfig(temp_folder=layout.scratch)) as engine:
        tables = Snapshots(layout.tables, engine)
        catalog: pa.Table | None = None
        tell("items", 0, 1)
        if items is not None:
            loaded = load_items(engine, items, mapping=given[items], now=now)
            catalog = loaded.items
            reports.append(loaded.report)
            quarantines.append(loaded.quarantine)
        tell("items", 1, 1)
        tell("events", 0, 1)
        log = load_events(engine, events, mapping=given[events], items=catalog, now=now)
        reports.append(log.report)
        quarantines.append(log.quarantine)
        tell("events", 1, 1)
        if not log.events.num_rows:
            raise nothing_accepted(log)
        if catalog is None:
            catalog = bare_items(log.events, ITEMS.arrow().empty_table()[c.ITEM_ID])
        else:
            catalog = pa.concat_tables([catalog, log.bare_items])
        if facts is not None:
            catalog, found_facts = _enriched(engine, catalog, log.events, facts, given[facts], now)
            extra.append(found_facts)
        people: pa.Table | None = None
        if users is not None:
            tell("users", 0, 1)
            read = load_users(engine, users, mapping=given[users], now=now)
            people = read.users
            reports.append(read.report)
            quarantines.append(read.quarantine)
            tell("users", 1, 1)
        tell("writing tables", 0, 1)
        tables.write(EVENTS.name, log.events)
        tables.write(ITEMS.name, catalog)
        if people is not None:
            tables.write(USERS.name, people)
        tables.write(QUARANTINE.name, pa.concat_tables(quarantines))
        tell("writing tables", 1, 1)
    shutil.rmtree(layout.scratch, ignore_errors=True)
    notes = [f"{report.table}: {note}" for report in reports for note in report.notes]
    text, said = config_text(name, log.events, people, now)
    atomic_write(layout.config, text.encode())
    WorkspaceConfig.load(layout.config)
    found = evidence(log.events, None)
    atomic_write(layout.root / "loads.json", json.dumps([load_line(report) for report in reports]).encode())
    return {
        "workspace": str(layout.root),
        "mapping": [line for report in reports for line in _mapping(report)],
        "loads": [load_line(report) for report in reports],
        "evidence": {"level": found.level, "facts": list(found.facts), "numbers": dict(found.numbers)},
        "notes": [*notes, *extra, *said],
    }


def _enriched(
    engine: DuckDBTables, catalog: pa.Table, events: pa.Table, facts: Path, mapping: Mapping[Column, str], now: int
) -> tuple[pa.Table, str]:
    """The catalog with more facts, joined by title and year, and how much of the events that reaches."""
    import pyarrow.compute as pc

    counts = {row["values"]: row["counts"] for row in pc.value_counts(events[c.ITEM_ID]).to_pylist()}
    weights = [float(counts.get(item_id, 0)) for item_id in catalog[c.ITEM_ID].to_pylist()]
    joined, share = enrich_items(catalog, load_items(engine, facts, mapping=mapping, now=now).items, weights)
    return joined, f"{share:.1%} of the events are of items that found more facts in {facts.name}, by title and year."


def nothing_accepted(load: EventsLoad) -> DataError:
    """Why a file has not one good event, with values that could not be read as times."""
    report = load.report
    got = f"{report.quarantined:,} rows, all refused: {', '.join(report.reasons) or 'an empty file'}"
    do = "Mend the rows, or say with --map which column is which."
    if "unreadable_time" in report.reasons:
        column = report.mapping[c.HAPPENED_AT]
        rows = zip(load.quarantine[c.REASON].to_pylist(), load.quarantine[c.RAW].to_pylist(), strict=True)
        cells = (json.loads(raw).get(column) for reason, raw in rows if reason == "unreadable_time")
        shown = list(islice(dict.fromkeys(repr(cell) for cell in cells if cell is not None), 3))
        got += f" ({column} holds {', '.join(shown)})"
        do = f"A time may be: {ACCEPTED}."
    return DataError(expected=f"at least one good event in {report.source_file}", got=got, do=do)


def mapping_of(pairs: Iterable[str]) -> dict[str, str]:
    """`OUR_COLUMN=THEIR_COLUMN` texts as a mapping. Raises RequestError for what has not this form."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        ours, sign, theirs = (part.strip() for part in pair.partition("="))
        if not (ours and sign and theirs) or mapping.get(ours, theirs) != theirs:
            raise RequestError(
                expected="--map OUR_COLUMN=THEIR_COLUMN, once for each column of ours",
                got=repr(pair),
                do="For example: --map user_id=Kundennummer --map happened_at=Zeit.",
            )
        mapping[ours] = theirs
    return mapping


def load_line(report: Report) -> dict[str, Any]:
    """A load as a row: rows in = accepted + quarantined."""
    return {
        "table": report.table,
        "file": report.source_file,
        "rows_in": report.rows_in,
        "accepted": report.accepted,
        "quarantined": report.quarantined,
        "reasons": dict(report.reasons),
    }


def _mapping(report: Report) -> list[dict[str, str]]:
    return [
        {
            "file": Path(report.source_file).name,
            "there": theirs,
            "here": f"{report.table}.{ours}",
            "how": report.how[ours],
        }
        for ours, theirs in report.mapping.items()
    ]


# ------------------------------------------------------------------------------------------------- configuration


def config_text(name: str, events: pa.Table, people: pa.Table | None, now_us: int) -> tuple[str, list[str]]:
    """A `honeyguide.toml` for this data, and what was decided."""
    notes: list[str] = []
    actions = _actions(events)
    notes += _said_of(actions)
    heads, said = _heads(events, actions)
    notes += said
    end_us = int(events[c.HAPPENED_AT].cast("int64").to_numpy()[-1])
    offset_s = 0.0
    if now_us - end_us > STALE_DAYS * 86_400_000_000:
        offset_s = float((now_us - end_us) // 1_000_000)
        notes.append("The log ended long ago: the present is taken to be its end ([clock] in honeyguide.toml).")
    segments = _segments(people)
    if segments:
        notes.append(f"Popularity for new people is kept per {' x '.join(segments)}.")
    weighed = {head["name"]: head for head in heads}
    rank = {n: 1.0 for n, head in weighed.items() if head["kind"] == "rank"}
    probability = {n: w for n, w in (("like", 0.1), ("dislike", -0.1)) if n in weighed}
    probability |= {n: actions[h["action"]] for n, h in weighed.items() if h.get("given") in impressions_among(actions)}
    strong = [action for action in actions if meaning(action) == "strong"]
    had = strong or [action for action in actions if meaning(action) == "medium" and KEEPING & {*_words(action)}]
    if had and len(had) < sum(weight > 0 for weight in actions.values()):
        notes.append(f"Only {', '.join(had)} counts as having had an item; what was merely looked at is not hidden.")
    else:
        had = []
    return _TEMPLATE.format(
        name=json.dumps(name),
        clock=f"offset_s = {offset_s!r}",
        actions="\n".join(f"{json.dumps(action)} = {weight:g}" for action, weight in actions.items()),
        had=json.dumps(had),
        segments=json.dumps(list(segments)),
        heads="\n".join(_head_text(head) for head in heads),
        sources="\n".join(f"[[sources]]\nuse = {json.dumps(use)}{extra}" for use, extra in SOURCES),
        home=_utility("home", rank, probability, blend=1.0),
        item=_utility("item", {}, {}, blend=1.0),
        board=_utility("board", {}, {}, blend=1.0),
    ), notes


KEEPING = frozenset({"save", "saved", "saves", "bookmark", "bookmarked"})
"""What is kept is no news, where nothing stronger is logged."""
SOURCES = (
    ("honeyguide.retrieval.popular:Popular", "\ngrid = { half_life_days = [3.0, 7.0, 14.0, 30.0, 60.0, 180.0] }"),
    ("honeyguide.retrieval.covisit:Covisit", ""),
    ("honeyguide.retrieval.covisit:RP3beta", ""),
    ("honeyguide.retrieval.factors:NextItem", ""),
    ("honeyguide.retrieval.factors:EASE", ""),
    ("honeyguide.retrieval.factors:ALS", ""),
)


def _actions(events: pa.Table) -> dict[str, float]:
    counts = {row["values"]: row["counts"] for row in events[c.ACTION].value_counts().to_pylist()}
    return {action: WEIGHTS[meaning(action)] for action in sorted(counts, key=lambda a: -counts[a])}


def _said_of(actions: Mapping[str, float]) -> list[str]:
    notes = []
    against = [action for action in actions if meaning(action) == "against"]
    unknown = [action for action in actions if meaning(action) == "unknown"]
    if against:
        notes.append(f"{', '.join(against)}: no sign of interest, so weight 0 and no head.")
    if unknown:
        notes.append(
            f"Not recognised, so weight 1 as the strongest: {', '.join(unknown)}; correct it in [actions] of "
            f"honeyguide.toml, and in its heads."
        )
    return notes


def _words(action: str) -> list[str]:
    return _identifier(action).split("_")


def _heads(events: pa.Table, actions: Mapping[str, float]) -> tuple[list[dict[str, Any]], list[str]]:
    """Heads that this log can teach. Without impressions an action can only be ranked."""
    heads: list[dict[str, Any]] = []
    notes: list[str] = []
    if RATING in actions:
        values = events.filter(_equals(events[c.ACTION], RATING))[c.VALUE].to_numpy()
        top = _top_of_scale(values)
        high, low = 0.8 * top, 0.4 * top
        heads = [
            {"name": "watch", "action": RATING, "kind": "rank"},
            {"name": "like", "action": RATING, "min_value": high, "given": RATING, "kind": "probability"},
            {"name": "dislike", "action": RATING, "max_value": low, "given": RATING, "kind": "probability"},
        ]
        notes.append(f"like is a rating of {high:g} or more, dislike one of {low:g} or less, given that it was rated.")
    shown = next(iter(impressions_among(actions)), None)  # the most frequent
    for action, weight in actions.items():
        if action == RATING or weight <= 0:
            continue
        head = {"name": _identifier(action), "action": action, "kind": "rank"}
        if shown is not None:
            head |= {"given": shown, "kind": "probability"}
        if head["name"] not in {h["name"] for h in heads}:
            heads.append(head)
    if shown is None:
        notes.append("Without impressions what people do next can be ranked, not given a probability.")
    return heads, notes


def _top_of_scale(values: np.ndarray) -> float:
    top = float(np.nanquantile(values, 0.999)) if len(values) else 5.0
    return next((scale for scale in (1.0, 5.0, 10.0, 100.0) if top <= scale), top)


def _equals(column: pa.ChunkedArray, value: str) -> Any:
    import pyarrow.compute as pc

    return pc.equal(column, value)


def _identifier(action: str) -> str:
    plain = "".join(ch if ch.isascii() and ch.isalnum() else "_" for ch in action.lower()).strip("_")
    return plain if plain[:1].isalpha() else f"a_{plain}"


def _segments(people: pa.Table | None) -> tuple[str, ...]:
    """The facts about people that part them into few, well-filled groups."""
    if people is None or not people.num_rows:
        return ()
    facts = [json.loads(text) if text else {} for text in people[c.ATTRIBUTES].to_pylist()]
    chosen: list[str] = []
    groups = 1
    for key in dict.fromkeys(key for fact in facts for key in fact):
        values = {json.dumps(fact[key]) for fact in facts if fact.get(key) is not None}
        known = sum(fact.get(key) is not None for fact in facts)
        if 2 <= len(values) <= SEGMENT_VALUES and known >= 0.8 * len(facts) and groups * len(values) <= SEGMENTS:
            chosen.append(key)
            groups *= len(values)
    return tuple(chosen)


def _head_text(head: Mapping[str, Any]) -> str:
    return "\n".join(["[[heads]]", *(f"{key} = {json.dumps(value)}" for key, value in head.items())]) + "\n"


def _utility(surface: str, rank: Mapping[str, float], probability: Mapping[str, float], *, blend: float) -> str:
    lines = [f"[surfaces.{surface}.slate.utility]"]
    for key, weights in (("rank_weights", rank), ("weights", probability)):
        if weights:
            inner = ", ".join(f"{name} = {weight:g}" for name, weight in weights.items())
            lines.append(f"{key} = {{ {inner} }}")
    if blend:
        lines.append(f"blend_weight = {blend:g}")
    return "\n".join(lines)


_TEMPLATE = """\
# A Honeyguide workspace. An unknown key is an error; `honeyguide explain` shows what this file makes.
# After a change: `honeyguide build` (only what changed is redone). docs/configuration.md lists all keys.
version = 1
name = {name}
seed = 42

# Actions by which a person has had an item (hidden by hide_seen, masked in evaluation); [] = all with a weight.
had = {had}

[clock]
# The present is wall time minus this; 0 for live data.
{clock}

[actions]
# How strong a sign of interest each action is; 0 = none.
{actions}

[segments]
# Facts about people (or a request's context) that part new people into groups.
by = {segments}

# Heads predict outcomes. kind "probability": calibrated, may be summed. kind "rank": orders candidates and no more.
{heads}
# Retrieval sources: `package.module:Class`, with the class's own config. The build weighs them on validation and
# switches off what does not pay.
{sources}

[surfaces.home]
kind = "home"
candidates = 300
deadline_ms = 100.0
{home}
[surfaces.home.slate.rules]
hide_seen = true
[surfaces.home.slate.diversify]
mmr_lambda = 0.95
[surfaces.home.slate.explore]
epsilon = 0.05
first_slot = 4

[surfaces.item]
kind = "item"
# An item page asks what is alike, not what comes next.
weights = {{ ease = 1.0, rp3beta = 0.2, covisit = 0.2 }}
{item}
[surfaces.item.slate.rules]
hide_seen = false
[surfaces.item.slate.diversify]
mmr_lambda = 1.0

[surfaces.board]
kind = "board"
weights = {{ ease = 1.0, rp3beta = 0.2, covisit = 0.2 }}
{board}
[surfaces.board.slate.rules]
hide_seen = false
[surfaces.board.slate.diversify]
mmr_lambda = 0.9

[serve]
host = "127.0.0.1"
port = 8080
workers = 1
"""
