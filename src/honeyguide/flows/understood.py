"""How a workspace reads queries: what a build learns for it, what a server loads, and what becomes of a search."""

from __future__ import annotations

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import structs

from honeyguide.contracts import CatalogView, Encoder, Rewrites, TablesEngine, TextHits, TextIndex
from honeyguide.engines.language import word_frequencies
from honeyguide.engines.tasks.steps import StepResult
from honeyguide.errors import DataError
from honeyguide.flows.encoders import open_encoder
from honeyguide.kernels import text
from honeyguide.schema import columns as c
from honeyguide.schema import wire
from honeyguide.schema.wire import Filters, SearchRequest
from honeyguide.understanding.attributes import Facets
from honeyguide.understanding.classifier import TextClassifier
from honeyguide.understanding.compounds import COMPOUNDING, Splitter
from honeyguide.understanding.forms import Forms
from honeyguide.understanding.language import Languages, languages_of
from honeyguide.understanding.lexicon import STOP
from honeyguide.understanding.query import (
    CATEGORY,
    INTENTS,
    NAVIGATIONAL,
    Understander,
    UnderstandingConfig,
    Understood,
)
from honeyguide.understanding.spelling import Vocabulary
from honeyguide.understanding.synonyms import parse

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from honeyguide.flows.build import Prepared
    from honeyguide.flows.search_config import SearchConfig

__all__ = [
    "Found", "Searches", "encoder_of", "find", "load_understander", "narrowed", "said_of_understanding", "searches_of",
    "taken_of", "told", "understanding_step",
]  # fmt: skip

_LANGUAGES, _CATEGORIES, _INTENTS = "languages", "categories", "intents"
_QUERIES, _TAKEN, _PARTS = "queries.msgpack", "taken.msgpack", "parts.msgpack"
_SYNONYMS, _TOLD = "synonyms.txt", "understanding.json"
_SAMPLE = 300  # items whose texts tell the catalog's languages
_TITLES = 20_000  # items whose titles teach what categories queries are about
_MOST_CLASSES, _LEAST_OF_CLASS = 200, 10
_PRECISION = 0.6  # of confident categories on held-out titles and queries, below which none is said
_LEAST_LABELS = 20  # of an intent, below which none is learnt
_LEAST_PEOPLE = 10  # who took something after a query, before it teaches an intent
_ONE = 0.7  # share of the people that says what a query wants


@dataclass(frozen=True)
class Searches:
    """The log of queries: how many people were served by each, and what they took."""

    people: Mapping[str, float]  # query -> people who took something after it
    taken: Sequence[tuple[str, str, float]]  # query, item, people who took it


def searches_of(
    engine: TablesEngine, events: ir.Table, shown: ir.Table | None, actions: Mapping[str, float]
) -> Searches:
    """From the events that follow a query: their own `query`, else that of the list they answer."""
    wanted = [name for name, weight in actions.items() if weight > 0]
    acted = events.filter(events[c.ACTION].isin(wanted)).select(c.USER_ID, c.ITEM_ID, c.QUERY, c.REQUEST_ID)
    if shown is not None and c.QUERY in shown.columns:
        asked = shown.filter(shown[c.QUERY].notnull()).select(c.REQUEST_ID, typed=shown[c.QUERY]).distinct()
        joined = acted.left_join(asked, c.REQUEST_ID)
        acted = joined.select(c.USER_ID, c.ITEM_ID, **{c.QUERY: joined[c.QUERY].coalesce(joined["typed"])})
    acted = acted.filter(acted[c.QUERY].notnull())
    counted = acted.group_by(c.QUERY, c.ITEM_ID).aggregate(**{c.N: acted[c.USER_ID].nunique()})
    rows = engine.arrow(counted.order_by(c.QUERY, c.ITEM_ID)).to_pylist()
    taken: Counter[tuple[str, str]] = Counter()
    people: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        typed = " ".join(row[c.QUERY].split()).casefold()
        if typed:
            taken[typed, row[c.ITEM_ID]] += row[c.N]
            people[typed] += row[c.N]
    return Searches(dict(people), [(query, item, float(n)) for (query, item), n in sorted(taken.items())])


def encoder_of(config: SearchConfig, root: Path) -> Encoder | None:
    """The encoder that reads queries along, where one is asked for."""
    wanted = config.understanding.on and config.understanding.intent.on and config.understanding.intent.encoder
    return open_encoder(config.encoder, root=root) if wanted else None


# -------------------------------------------------------------------------------------------------------- build


def understanding_step(prepared: Prepared, engine: TablesEngine) -> StepResult:
    """Languages, the log of queries, parts of compounds, synonyms, and classifiers of categories and intents."""
    data, config, root = prepared.data, prepared.config.search.understanding, prepared.layout.root
    files = {name: root / name for name in (config.synonyms.file, config.intent.labels)}
    texts = {name: path.read_text(encoding="utf-8-sig") for name, path in files.items() if path.is_file()}

    def make(folder: Path) -> None:
        searches = searches_of(engine, data.events, data.shown, prepared.config.actions)
        encoder = encoder_of(prepared.config.search, root)
        said = _learn(folder, data.catalog, data.items[c.LANGUAGE].to_pylist(), searches, texts, config, encoder)
        (folder / _TOLD).write_text(json.dumps(said, ensure_ascii=False))

    inputs = {
        "data": data.fingerprint, "shown": data.shown_key, "config": config.model_dump(mode="json"), "texts": texts,
        "actions": prepared.config.actions, "words": version("wordfreq"),
        "encoder": prepared.config.search.encoder.model_dump(),
    }  # fmt: skip
    return prepared.steps.run("understanding", inputs, make)


def said_of_understanding(folder: Path | None) -> list[str]:
    """What a build has to say of how it reads queries."""
    return [] if folder is None else [f"search: {one}" for one in json.loads((folder / _TOLD).read_text())]


def taken_of(folder: Path) -> list[tuple[str, str, float]]:
    """Query, item, people who took it after the query: as a build found them in the log."""
    return msgspec.msgpack.decode((folder / _TAKEN).read_bytes(), type=list[tuple[str, str, float]])


def _learn(
    folder: Path,
    catalog: CatalogView,
    tags: Sequence[str | None],
    searches: Searches,
    texts: Mapping[str, str],
    config: UnderstandingConfig,
    encoder: Encoder | None,
) -> list[str]:
    """Write everything into a folder; returns what there is to say of it."""
    said: list[str] = []
    rows = np.flatnonzero(catalog.available)
    some = rows[np.linspace(0, max(len(rows) - 1, 0), min(_SAMPLE, len(rows))).astype(int)] if len(rows) else rows
    sample = [f"{catalog.title[row]} {catalog.description[row]}" for row in some.tolist()]
    names = config.language.languages or languages_of([tags[row] for row in rows.tolist()], sample)
    (folder / _LANGUAGES).mkdir()
    Languages.build(names, config.language).save(folder / _LANGUAGES)
    said.append(f"queries are read in {', '.join(names)}" if names else "queries are read in no known language")
    (folder / _QUERIES).write_bytes(msgspec.msgpack.encode(sorted(searches.people.items())))
    (folder / _TAKEN).write_bytes(msgspec.msgpack.encode(searches.taken))
    (folder / _PARTS).write_bytes(msgspec.msgpack.encode(_parts(catalog, names) if config.forms.compounds else {}))
    rules, refused = parse(texts.get(config.synonyms.file, "").splitlines())
    (folder / _SYNONYMS).write_text(texts.get(config.synonyms.file, ""), encoding="utf-8")
    if len(rules):
        said.append(f"{len(rules)} names have synonyms in {config.synonyms.file}")
    said += [f"line {one.line} of {config.synonyms.file} is left out: {one.reason}" for one in refused]
    if config.intent.on:
        labels = _labels(texts.get(config.intent.labels), config.intent.labels)
        said += _learn_categories(folder / _CATEGORIES, catalog, searches, labels, config, encoder)
        said += _learn_intents(folder / _INTENTS, catalog, searches, labels, encoder)
    return said


def _parts(catalog: CatalogView, names: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """The parts of every compound among the words of the catalog, by language."""
    asked = [name for name in names if name in COMPOUNDING]
    if not asked:
        return {}
    words = [word for word in Vocabulary.build(catalog).words if word.isalpha()]
    found = {}
    for name in asked:
        shares: dict[str, float] = {}
        for word, share in word_frequencies(name).items():
            plain = text.fold(word)
            shares[plain] = max(shares.get(plain, 0.0), share)
        splitter = Splitter(name, lambda word, shares=shares: shares.get(word, 0.0))  # type: ignore[misc]
        found[name] = {word: list(parts) for word in words if (parts := splitter.split(word))}
    return found


def _labels(table: str | None, name: str) -> list[tuple[str, str, str]]:
    """Query, intent, category: of the team's own table."""
    if not table:
        return []
    rows = csv.DictReader(table.splitlines())
    columns = set(rows.fieldnames or ())
    if "query" not in columns or not columns & {"intent", "category"}:
        raise DataError(
            expected=f"the columns query, intent and category in {name}",
            got=", ".join(rows.fieldnames or ()) or "an empty file",
            do="Mend its first line, or remove the file.",
        )
    found = []
    for number, row in enumerate(rows, 2):
        intent = (row.get("intent") or "").strip()
        if intent and intent not in INTENTS:
            raise DataError(
                expected=f"an intent of {', '.join(INTENTS)} in line {number} of {name}",
                got=repr(intent),
                do="Mend it.",
            )
        found.append(((row.get("query") or "").strip(), intent, (row.get("category") or "").strip()))
    return [one for one in found if one[0]]


def _learn_categories(
    folder: Path, catalog: CatalogView, searches: Searches, labels: Sequence[tuple[str, str, str]],
    config: UnderstandingConfig, encoder: Encoder | None,
) -> list[str]:  # fmt: skip
    """Titles, and queries by what was taken after them, teach categories; kept if they do well on what was held out."""
    counts = Counter(catalog.category.values.tolist())
    classes = {code for code, n in counts.most_common(_MOST_CLASSES) if n >= _LEAST_OF_CLASS}
    examples: list[tuple[str, str, float]] = []
    rows = np.flatnonzero(catalog.available)
    rows = np.random.default_rng(0).permutation(rows)[:_TITLES]
    taken = [(query, catalog.items.row(item), people) for query, item, people in searches.taken]
    for typed, row, people in [(catalog.title[row], row, 1.0) for row in rows.tolist()] + taken:
        own = [] if row < 0 else [code for code in catalog.category.row(row).tolist() if code in classes]
        if typed:
            examples += [(typed, catalog.category_names[code], people / len(own)) for code in own]
    examples += [(query, category, 5.0) for query, _, category in labels if category]
    if len({category for _, category, _ in examples}) < 2:
        return []
    held_out = [hash_of(typed) % 5 == 0 for typed, _, _ in examples]
    true: defaultdict[str, set[str]] = defaultdict(set)
    for typed, category, _ in examples:
        true[typed].add(category)
    learnt = _fit([one for one, out in zip(examples, held_out, strict=True) if not out], encoder)
    if learnt is None:
        return []
    asked = sorted({typed for (typed, _, _), out in zip(examples, held_out, strict=True) if out})[:2_000]
    right = told_of = 0
    for typed in asked:
        chances = learnt.probabilities(typed)
        best = int(chances.argmax())
        if chances[best] >= config.intent.least:
            told_of += 1
            right += learnt.classes[best] in true[typed]
    if told_of < 0.02 * len(asked) or right < _PRECISION * told_of:
        return [f"categories of queries are not told: {right} of {told_of} were right where the chance seemed high"]
    whole = _fit(examples, encoder)
    if whole is not None:
        folder.mkdir()
        whole.save(folder)
    return [f"categories of queries: {right} of {told_of} right where one is told, of {len(asked)} held out"]


def _learn_intents(
    folder: Path, catalog: CatalogView, searches: Searches, labels: Sequence[tuple[str, str, str]],
    encoder: Encoder | None,
) -> list[str]:  # fmt: skip
    """Labels of the team, and what many people took after a query, teach what queries want."""
    examples = [(query, intent, 1.0) for query, intent, _ in labels if intent]
    known = {query for query, _, _ in examples}
    of: defaultdict[str, list[tuple[int, float]]] = defaultdict(list)
    for query, item, people in searches.taken:
        of[query].append((catalog.items.row(item), people))
    for query, rows in of.items():
        total = sum(people for _, people in rows)
        if total < _LEAST_PEOPLE or query in known:
            continue
        if max(people for _, people in rows) >= _ONE * total:
            examples.append((query, NAVIGATIONAL, 1.0))
            continue
        spread: defaultdict[int, float] = defaultdict(float)
        for row, people in rows:
            for code in catalog.category.row(row).tolist() if row >= 0 else ():
                spread[code] += people
        if len(rows) >= 5 and spread and max(spread.values()) >= _ONE * total:
            examples.append((query, CATEGORY, 1.0))
    enough = Counter(intent for _, intent, _ in examples)
    examples = [one for one in examples if enough[one[1]] >= _LEAST_LABELS]
    learnt = _fit(examples, encoder)
    if learnt is None:
        return []
    folder.mkdir()
    learnt.save(folder)
    return [f"intents of queries are learnt from {len(examples)} labels and clicks"]


def _fit(examples: Sequence[tuple[str, str, float]], encoder: Encoder | None) -> TextClassifier | None:
    if len({label for _, label, _ in examples}) < 2:
        return None
    texts, labels, weights = zip(*examples, strict=True)
    return TextClassifier.fit(texts, labels, weights=weights, encoder=encoder)


def hash_of(typed: str) -> int:
    """A number of a text by which it is held out or not."""
    from honeyguide.kernels.hashing import hash64

    return hash64(typed, "held out")


# -------------------------------------------------------------------------------------------------------- serve


def load_understander(
    folder: Path | None, config: UnderstandingConfig, catalog: CatalogView, encoder: Encoder | None = None
) -> Understander:
    """What a build learnt, over the catalog it serves. folder: None for a build that was made before there was one."""
    languages: Languages | None = None
    queries: list[tuple[str, float]] = []
    parts: dict[str, dict[str, list[str]]] = {}
    lines: list[str] = []
    categories = intents = None
    if folder is not None and config.on:
        languages = Languages.load(folder / _LANGUAGES, config.language)
        queries = msgspec.msgpack.decode((folder / _QUERIES).read_bytes(), type=list[tuple[str, float]])
        parts = msgspec.msgpack.decode((folder / _PARTS).read_bytes(), type=dict[str, dict[str, list[str]]])
        lines = (folder / _SYNONYMS).read_text(encoding="utf-8").splitlines()
        if config.intent.on:
            categories, intents = (
                TextClassifier.load(folder / name, encoder) if (folder / name).is_dir() else None
                for name in (_CATEGORIES, _INTENTS)
            )
    common = config.spelling.common
    vocabulary = Vocabulary.build(
        catalog, config.spelling, queries,
        is_known=None if languages is None else lambda word: languages.frequency(word) >= common,
    )  # fmt: skip
    if not config.on:
        return Understander(vocabulary, config)
    names = () if languages is None else languages.names
    forms = Forms(
        names, lambda word, name: 0.0 if languages is None else languages.frequency(word, name),
        vocabulary.weight, config.forms, parts,
    )  # fmt: skip
    forms.add(vocabulary.words)
    made = Understander(
        vocabulary,
        config,
        languages=languages,
        forms=forms,
        facets=Facets.build(catalog, names, config.attributes),
        rules=parse(lines)[0],
        titles=(title for title, on in zip(catalog.title, catalog.available.tolist(), strict=True) if on and title),
        categories=categories,
        intents=intents,
        prices=bool((~np.isnan(catalog.price[catalog.available])).mean() > 0.5) if catalog.available.any() else False,
        years=bool((~np.isnan(catalog.year[catalog.available])).mean() > 0.5) if catalog.available.any() else False,
    )
    made.read("some xqzwv")  # what compiles does it now, and in nobody's request
    return made


@dataclass(frozen=True, slots=True)
class Found:
    """What a query was read as, and its hits. `text`, `rewrites` and `filters` ask for the same hits again."""

    hits: TextHits
    read: Understood
    text: str
    rewrites: Rewrites
    filters: Filters
    corrected: str | None
    dropped: tuple[str, ...] = ()

    @property
    def marked(self) -> str:
        """The words that hits are marked by: those of the query, and what stood for them."""
        others = dict.fromkeys(other for ways in self.rewrites.values() for other, _ in ways)
        return " ".join([self.text, *others]) if others else self.text


def find(understander: Understander, index: TextIndex, request: SearchRequest) -> Found:
    """Read a query and search for it. Where nothing matches, limits that were read are let go, then the correction.

    Words that no hit holds are named in `dropped`, and so is a limit that was let go.
    """
    read = understander.read(request.query, verbatim=request.verbatim)

    def ask(query: str, rewrites: Rewrites, filters: Filters) -> TextHits:
        return index.search(
            query, request.k, offset=request.offset, filters=filters, facets=True, rewrites=rewrites or None
        )

    asked, rewrites, filters = read.text, read.rewrites, narrowed(request.filters, read)
    hits, dropped = ask(asked, rewrites, filters), []
    relax = understander.config.relax
    if relax and not hits.total and filters != request.filters:
        limits = list(dict.fromkeys(one.name for one in read.attributes if one.applied))
        for without in [{one} for one in limits] + [set(limits)]:
            wider = narrowed(request.filters, read, frozenset(without))
            if (again := ask(asked, rewrites, wider)).total:
                hits, filters = again, wider
                dropped += [one.words for one in read.attributes if one.applied and one.name in without]
                break
    corrected = None if read.correction is None else read.correction.corrected
    if corrected is not None and not hits.total and (again := ask(request.query, {}, request.filters)).total:
        hits, asked, rewrites, filters, corrected = again, request.query, {}, request.filters, None
    if relax and hits.total and len(hits.rows) and " " in asked:
        lacking = index.lacking(asked, hits.rows.tolist(), rewrites or None)
        if len(lacking) < len(text.words(text.fold(asked))):  # else only the spelling is alike
            dropped += [word for word in lacking if word not in STOP]
    return Found(hits, read, asked, rewrites, filters, corrected, tuple(dropped))


def narrowed(filters: Filters, understood: Understood, without: frozenset[str] = frozenset()) -> Filters:
    """The person's own filters and what the query says; their own bound stays where it is the narrower one."""
    changes: dict[str, Any] = {}
    for one in understood.attributes:
        if not one.applied or one.name in without:
            continue
        if one.kind in ("price", "year"):
            low, high = f"{one.name}_min", f"{one.name}_max"
            bounds = [changes.get(name, getattr(filters, name)) for name in (low, high)]
            least, most = (_typed(one.kind, end) for end in (one.low, one.high))
            if least is not None:
                changes[low] = least if bounds[0] is None else max(bounds[0], least)
            if most is not None:
                changes[high] = most if bounds[1] is None else min(bounds[1], most)
        elif not getattr(filters, one.name):  # what a person ticked goes before what they typed
            changes[one.name] = [*changes.get(one.name, []), one.value]
    for name in (c.PRICE, c.YEAR):
        low, high = (changes.get(f"{name}_{end}", getattr(filters, f"{name}_{end}")) for end in ("min", "max"))
        if low is not None and high is not None and low > high:  # nothing can be both: the person's own span stays
            changes.pop(f"{name}_min", None)
            changes.pop(f"{name}_max", None)
    return structs.replace(filters, **changes) if changes else filters


def _typed(kind: str, end: float | None) -> float | int | None:
    return int(end) if end is not None and kind == "year" else end


def told(understood: Understood, dropped: Sequence[str] = ()) -> wire.Understood:
    """What was understood, as it travels."""
    # A limit that was let go is no longer applied.
    return wire.Understood(
        language=understood.language,
        intent=understood.intent,
        categories=[name for name, _ in understood.categories],
        attributes=[
            wire.UnderstoodAttribute(one.name, one.value, one.words, applied=one.applied and one.words not in dropped,
                                     note=one.note)
            for one in understood.attributes
        ],
        synonyms={name: list(others) for name, others in understood.synonyms.items()},
        did_you_mean=list(understood.did_you_mean),
        dropped=list(dropped),
    )  # fmt: skip
