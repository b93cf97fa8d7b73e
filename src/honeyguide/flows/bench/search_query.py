"""What query understanding is worth: typos undone, languages told, intents carried over; and what reading costs."""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F64, Encoder
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.errors import HoneyguideError
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.flows.bench.search_data import Judged, folders, load
from honeyguide.flows.encoders import EncoderConfig, open_encoder
from honeyguide.flows.search_tune import graded_ndcg
from honeyguide.understanding.attributes import Facets
from honeyguide.understanding.classifier import ClassifierConfig, TextClassifier
from honeyguide.understanding.forms import Forms
from honeyguide.understanding.language import Languages
from honeyguide.understanding.query import Understander, UnderstandingConfig
from honeyguide.understanding.spelling import SpellingConfig, Vocabulary

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["intents", "language_id", "misspelt", "run", "typos"]

QUERIES, SEED = 3_000, 1
LEAST_QUERIES = 1_000  # of a folder, for a share of its queries to stand for a log of queries
LANGUAGES = ("de", "en", "es", "fr", "it", "nl")
TARGETS = ("de", "it", "nl", "da")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def run(data: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """All parts whose folder is there."""
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for folder in folders(data):
        judged = load(folder)
        if len(judged.queries) >= LEAST_QUERIES:
            rows += typos(judged)
    home = data if data.is_dir() else data.parent
    for name, part in (("lingua_langid", language_id), ("xsid", intents)):
        place = home / name
        if not place.is_dir():
            missing.append(f"{name}: no such folder in {home}")
            continue
        found, left_out = part(place)
        rows += found
        missing += left_out
    return rows, missing


# ------------------------------------------------------------------------------------------------------- typos


def misspelt(query: str, rng: random.Random) -> str:
    """One letter left out, put in, replaced or swapped with the next, in one word of three letters or more."""
    words = query.split()
    open_to = [at for at, word in enumerate(words) if len(word) >= 3 and word.isalpha()]
    if not open_to:
        return query
    at = rng.choice(open_to)
    word, kind = words[at], rng.randrange(4)
    place = rng.randrange(len(word) + (1, 0, 0, -1)[kind])
    words[at] = (
        word[:place] + rng.choice(_LETTERS) + word[place:],
        word[:place] + word[place + 1 :],
        word[:place] + rng.choice(_LETTERS) + word[place + 1 :],
        word[:place] + word[place + 1 : place + 2] + word[place : place + 1] + word[place + 2 :],
    )[kind]
    return " ".join(words)


def typos(judged: Judged) -> list[dict[str, Any]]:
    """One seeded typo a query: the share of the clean NDCG@10 that is kept, uncorrected, by the catalog, by a log too.

    The log of queries is made of those that are not in the sample. Clean: the same understanding without correction.
    """
    order = np.random.default_rng(SEED).permutation(len(judged.queries))
    sample, rest = judged.part(order[:QUERIES]), judged.part(order[QUERIES:])
    rng = random.Random(SEED)
    typed = [misspelt(query, rng) for query in sample.queries]
    case, rows = f"typo/{judged.name}", []
    languages = Languages.build(["en"])
    with tempfile.TemporaryDirectory(prefix="honeyguide-bench-") as place:
        index = LexicalIndex.build(Path(place), judged.view, popularity=judged.popularity)
        plain = _reader(judged, languages, (), spelling=False)
        clean = _ndcg(index, plain, sample.queries, sample)
        base = float(clean.mean())
        kept = float(_ndcg(index, plain, typed, sample).mean()) / base
        rows.append(row("search", f"{case}/uncorrected", "kept", "share", kept))
        for name, log in (("catalog", ()), ("log", [(query, 1.0) for query in rest.queries])):
            reader = _reader(judged, languages, log)
            kept = float(_ndcg(index, reader, typed, sample).mean()) / base
            corrected = _ndcg(index, reader, sample.queries, sample)
            rows += [
                row("search", f"{case}/{name}", "kept", "share", kept),
                row("search", f"{case}/{name}", "clean_worse", "share", float((corrected < clean - 1e-9).mean())),
                row("search", f"{case}/{name}", "clean_better", "share", float((corrected > clean + 1e-9).mean())),
                *_costs(f"{case}/{name}", reader, typed[:500]),
            ]
        rows += _costs(case, reader, sample.queries[:500])
    return rows


def _reader(
    judged: Judged, languages: Languages, log: Sequence[tuple[str, float]], *, spelling: bool = True
) -> Understander:
    config = UnderstandingConfig(spelling=SpellingConfig(on=spelling))
    view, common = judged.view, config.spelling.common
    vocabulary = Vocabulary.build(view, config.spelling, log, is_known=lambda word: languages.frequency(word) >= common)
    forms = Forms(languages.names, languages.frequency, vocabulary.weight, config.forms)
    forms.add(vocabulary.words)
    return Understander(
        vocabulary, config, languages=languages, forms=forms, facets=Facets.build(view, languages.names),
        titles=view.title, years=True,
    )  # fmt: skip


def _ndcg(index: LexicalIndex, reader: Understander, queries: Sequence[str], judged: Judged) -> F64:
    ranked = []
    for query in queries:
        read = reader.read(query)
        hits = index.search(read.text, 10, rewrites=read.rewrites or None)
        ranked.append(hits.rows if hits.total else index.search(query, 10).rows)
    return graded_ndcg(ranked, judged.rows, judged.grades)


def _costs(case: str, reader: Understander, queries: Sequence[str]) -> list[dict[str, Any]]:
    """CPU-ms to read a query: median and 99th percentile of each query's best of five."""
    took = np.full((REPEATS, len(queries)), np.nan)
    for repeat in range(REPEATS):
        for at, query in enumerate(queries):
            started = time.process_time_ns()
            reader.read(query)
            took[repeat, at] = (time.process_time_ns() - started) / 1e6
    p50, p99 = np.percentile(took.min(0), [50, 99])
    return [
        row("search", case, "read_cpu_ms_p50", "CPU-ms", float(p50)),
        row("search", case, "read_cpu_ms_p99", "CPU-ms", float(p99)),
    ]


# --------------------------------------------------------------------------------------------------- languages


def language_id(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Accuracy on single words, pairs and sentences among six languages, and what one answer costs; beside lingua."""
    table = _parquet(folder / "test.parquet")
    known = [one for one in table.to_pylist() if one["lang"] in LANGUAGES]
    languages = Languages.build(LANGUAGES)
    peer, missing = _lingua()
    rows = []
    for kind in dict.fromkeys(one["kind"] for one in known):
        texts = [one["text"] for one in known if one["kind"] == kind]
        true = [one["lang"] for one in known if one["kind"] == kind]
        ours, us = _told(lambda text: languages.identify(text).language, texts, true)
        theirs, their_us = (None, None) if peer is None else _told(peer, texts, true)
        case = f"language-id/{kind}"
        name = None if peer is None else "lingua"
        rows.append(row("search", case, "accuracy", "share", ours, peer=theirs, peer_name=name))
        rows.append(row("search", case, "cpu_us", "CPU-us", us, peer=their_us, peer_name=name))
    return rows, missing


def _told(ask: Callable[[str], str | None], texts: Sequence[str], true: Sequence[str]) -> tuple[float, float]:
    ask(texts[0])
    started = time.process_time()
    said = [ask(text) for text in texts]
    took = time.process_time() - started
    return float(np.mean([a == b for a, b in zip(said, true, strict=True)])), took / len(texts) * 1e6


def _lingua() -> tuple[Callable[[str], str | None] | None, list[str]]:
    try:
        from lingua import IsoCode639_1, LanguageDetectorBuilder
    except ImportError:
        return None, ["lingua: not installed (extra `bench`)"]
    codes = [getattr(IsoCode639_1, name.upper()) for name in LANGUAGES]
    detector = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()

    def ask(text: str) -> str | None:
        found = detector.detect_language_of(text)
        return None if found is None else found.iso_code_639_1.name.lower()

    return ask, []


# ----------------------------------------------------------------------------------------------------- intents


def intents(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Intents learnt from 300 English utterances, asked in other languages; and with 300 of the language itself."""
    table = _parquet(next(iter(sorted(folder.glob("*.parquet"))))).to_pylist()
    rows, missing = [], []
    words = ClassifierConfig()
    encoder: Encoder | None = None
    try:
        encoder = open_encoder(EncoderConfig(use="multilingual"))
    except HoneyguideError as error:
        missing.append(f"xsid with meaning ({error})")
    ways: list[tuple[str, ClassifierConfig, Encoder | None]] = [("words", words, None)]
    if encoder is not None:
        alone = ClassifierConfig(words_weight=0.0, l2=1e-3)
        ways += [("encoder", alone, encoder), ("both", words, encoder)]
    for name, config, reads in ways:
        english = _fitted(table, ("en",), config, reads)
        zero = {target: _accuracy(table, target, english) for target in TARGETS}
        own = {target: _accuracy(table, target, _fitted(table, ("en", target), config, reads)) for target in TARGETS}
        for how, told in (("zero-shot", zero), ("labelled", own)):
            mean_of = TARGETS[:3] if how == "zero-shot" else TARGETS
            rows += [row("search", f"xsid/{how}/{name}/{one}", "accuracy", "share", told[one]) for one in TARGETS]
            mean = float(np.mean([told[one] for one in mean_of]))
            rows.append(row("search", f"xsid/{how}/{name}", "accuracy", "share", mean))
    return rows, missing


def _examples(table: Sequence[dict[str, Any]], languages: Sequence[str], split: str) -> tuple[list[str], list[str]]:
    chosen = [one for one in table if one["lang"] in languages and one["split"] == split]
    return [one["text"] for one in chosen], [one["intent"] for one in chosen]


def _fitted(
    table: Sequence[dict[str, Any]], languages: Sequence[str], config: ClassifierConfig, encoder: Encoder | None
) -> TextClassifier:
    texts, labels = _examples(table, languages, "valid")
    return TextClassifier.fit(texts, labels, config=config, encoder=encoder)


def _accuracy(table: Sequence[dict[str, Any]], language: str, classifier: TextClassifier) -> float:
    texts, labels = _examples(table, (language,), "test")
    return float(np.mean([a == b for a, b in zip(classifier.predict(texts), labels, strict=True)]))


def _parquet(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.read_table(path)
