"""`honeyguide understand` and `honeyguide synonyms`: how one query is read, and what a team makes of proposals."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from honeyguide.contracts import Progress
from honeyguide.engines.tasks.steps import atomic_write, disk_errors, only_process
from honeyguide.errors import DataError, NotFoundError, RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.encoders import open_encoder
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import Live, load_manifest
from honeyguide.flows.understood import find, taken_of, told
from honeyguide.kernels import text
from honeyguide.schema.wire import SearchRequest
from honeyguide.understanding.query import Understood
from honeyguide.understanding.synonyms import (
    Proposal,
    Rules,
    from_vectors,
    mine,
    parse,
    read_proposals,
    rule,
    write_proposals,
)

__all__ = ["accept", "analysis", "listing", "propose", "understand"]

_MOST_FREQUENT = 2_000  # words whose vectors are compared


def understand(folder: Path | str, query: str, *, verbatim: bool = False) -> dict[str, Any]:
    """The analysis of one query by the build in service, with what it finds."""
    return analysis(Live(Layout.open(folder), None), query, verbatim=verbatim)


def analysis(live: Live, query: str, *, verbatim: bool = False) -> dict[str, Any]:
    """The same, by a build that is loaded."""
    if len(query) > 10_000:
        raise RequestError(expected="a query of at most 10000 characters", got=f"{len(query)}", do="Send less.")
    request = SearchRequest(query=query, k=5, verbatim=verbatim)
    found = find(live.understander, live.text, request)
    read = found.read
    return {
        "query": query,
        "searched": found.text,
        "corrected": found.corrected,
        **_read(read),
        "rewrites": {word: dict(ways) for word, ways in found.rewrites.items()},
        "filters": msgspec.to_builtins(found.filters),
        "dropped": list(found.dropped),
        "total": found.hits.total,
        "first": [live.facts(row).title for row in found.hits.rows.tolist()],
        "understood": msgspec.to_builtins(told(read, found.dropped)),
        "steps": [{"step": one.name, "says": one.says, "us": round(one.us, 1)} for one in read.steps],
    }


def _read(read: Understood) -> dict[str, Any]:
    correction = read.correction
    return {
        "language": read.language,
        "language_probability": round(read.language_probability, 4),
        "corrections": {}
        if correction is None
        else {typed: dict(correction.alternatives[best]) for typed, best in correction.replaced},
        "did_you_mean": list(read.did_you_mean),
        "attributes": [msgspec.to_builtins(one) for one in read.attributes],
        "synonyms": {name: list(others) for name, others in read.synonyms.items()},
        "forms": {name: list(others) for name, others in read.forms.items()},
        "intent": read.intent,
        "intent_probability": read.intent_probability,
        "categories": dict(read.categories),
    }


# ----------------------------------------------------------------------------------------------------- synonyms


def propose(folder: Path | str, *, progress: Progress | None = None) -> dict[str, Any]:
    """Mine the log of queries, and the vectors of frequent words where an encoder is configured.

    Pairs that are in the file, or were proposed before, are not proposed anew; marks that somebody made stay.
    """
    layout = Layout.open(folder)
    tell: Progress = progress or (lambda what, done, total: None)
    config = WorkspaceConfig.load(layout.config)
    wanted = config.search.understanding.synonyms
    manifest = load_manifest(layout)
    taken = taken_of(layout.root / manifest.folders["understanding"]) if "understanding" in manifest.folders else []
    path = layout.root / wanted.proposals
    with only_process(layout.lock, "synonyms"), disk_errors(layout.root):
        rules, _ = _rules(layout.root / wanted.file)
        before = read_proposals(path) if path.is_file() else []
        tell("synonyms of the log", 0, 1)
        found = mine(taken, wanted, rules)
        tell("synonyms of the log", 1, 1)
        encoder = open_encoder(config.search.encoder, root=layout.root)
        if encoder is not None:
            tell("synonyms of vectors", 0, 1)
            vocabulary = Live(layout, None).understander.vocabulary
            frequent = sorted(vocabulary.words, key=lambda word: (-vocabulary.weight(word), word))[:_MOST_FREQUENT]
            found += from_vectors(frequent, encoder, wanted, rules)
            tell("synonyms of vectors", 1, 1)
        known = {frozenset((one.word, one.synonym)) for one in before}
        new: list[Proposal] = []
        for one in found:
            pair = frozenset((one.word, one.synonym))
            if pair not in known:
                known.add(pair)
                new.append(one)
        write_proposals(path, [*before, *new])
    return {
        "file": str(path),
        "new": [msgspec.to_builtins(one) for one in new],
        "waiting": len(before) + len(new),
        "searches": len(taken),
        "encoder": None if encoder is None else encoder.name,
    }


def accept(folder: Path | str, pairs: Sequence[str]) -> dict[str, Any]:
    """Append pairs to the file and take them out of the proposals. pairs: "word=synonym"; () takes what is marked."""
    layout = Layout.open(folder)
    wanted = WorkspaceConfig.load(layout.config).search.understanding.synonyms
    file, path = layout.root / wanted.file, layout.root / wanted.proposals
    with only_process(layout.lock, "synonyms"), disk_errors(layout.root):
        waiting = read_proposals(path) if path.is_file() else []
        if pairs:
            chosen = [_pair(one) for one in pairs]
        elif path.is_file():
            chosen = [(one.word, one.synonym) for one in waiting if one.accept]
        else:
            raise NotFoundError(
                expected=f"proposals in {path.name}",
                got="none",
                do="Run `honeyguide synonyms propose`, or name --pair.",
            )
        rules, _ = _rules(file)
        lines = [rule(pair) for pair in dict.fromkeys(chosen) if pair[1] not in rules.of(pair[0])]
        if lines:
            text_before = _read_text(file) if file.is_file() else ""
            joint = "" if not text_before or text_before.endswith("\n") else "\n"
            atomic_write(file, (text_before + joint + "\n".join(lines) + "\n").encode())
        done = {frozenset(pair) for pair in chosen}
        if path.is_file():
            write_proposals(path, [one for one in waiting if frozenset((one.word, one.synonym)) not in done])
    return {"file": str(file), "accepted": lines, "known_already": len(set(chosen)) - len(lines)}


def listing(folder: Path | str) -> dict[str, Any]:
    """The rules of the file, its lines that are none, and how many proposals wait."""
    layout = Layout.open(folder)
    wanted = WorkspaceConfig.load(layout.config).search.understanding.synonyms
    file, path = layout.root / wanted.file, layout.root / wanted.proposals
    rules, refused = _rules(file)
    return {
        "file": str(file),
        "rules": {name: list(others) for name, others in rules.items()},
        "refused": refused,
        "waiting": len(read_proposals(path)) if path.is_file() else 0,
    }


def _rules(file: Path) -> tuple[Rules, list[dict[str, Any]]]:
    rules, refused = parse(_read_text(file).splitlines() if file.is_file() else [])
    return rules, [{"line": one.line, "reason": one.reason} for one in refused]


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(expected=f"UTF-8 text in {file.name}", got=str(error), do="Save it as UTF-8.") from error


def _pair(value: str) -> tuple[str, str]:
    left, _, right = value.partition("=")
    names = [" ".join(text.words(text.fold(name))) for name in (left, right)]
    if not all(names) or names[0] == names[1]:
        raise RequestError(expected="WORD=SYNONYM", got=repr(value), do="Name two words, such as sofa=couch.")
    return names[0], names[1]
