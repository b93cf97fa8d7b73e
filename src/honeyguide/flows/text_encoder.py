"""`honeyguide encoder`: transformers trained on a workspace's judgments or clicks, and what each step is worth."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, I32, CatalogView, Encoder, Progress
from honeyguide.engines.encoders.onnx_encoder import OnnxEncoder
from honeyguide.engines.encoders.word_pieces import WordPieces
from honeyguide.engines.onnx.quantise import quantise
from honeyguide.engines.onnx.session import OnnxModel
from honeyguide.engines.search.index import LexicalIndex
from honeyguide.engines.tasks.steps import only_process
from honeyguide.errors import BuildError
from honeyguide.flows import judging
from honeyguide.flows.build import engine_of, prepare
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.search_learn import Lesson
from honeyguide.flows.search_step import SearchLog, lesson_of_clicks, lesson_of_judgments
from honeyguide.flows.search_tune import graded_ndcg
from honeyguide.flows.searching import text_of
from honeyguide.intake.encoder_files import fetch_encoder
from honeyguide.ranking.deep.config import require_installed
from honeyguide.ranking.search import ItemFacts, folds_of
from honeyguide.ranking.text.config import TextConfig
from honeyguide.ranking.text.fit import train_text

__all__ = ["fit_encoders", "train_encoder"]

FOLDER = "encoder"
_RERANKED = 20  # first hits by words that the cross-encoder reads
_LETTERS = 400
_TIMED = 64
_LEAST = 20  # queries


def train_encoder(
    folder: Path | str, config: TextConfig | None = None, *, progress: Progress | None = None
) -> dict[str, Any]:
    """Train on judgments, else on clicks, and keep the best small encoder in the workspace's folder `encoder`.

    Returns the table of steps and where the encoder lies; `[search.encoder]` names it for the next build.
    Raises MissingExtraError without the extras `deep` and `encoders`, BuildError with too little to learn from.
    """
    require_installed()
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    chosen = config or TextConfig()
    workspace = WorkspaceConfig.load(layout.config)
    with only_process(layout.lock, "encoder"), engine_of(layout, workspace) as engine:
        prepared = prepare(layout, tell, workspace, engine=engine)
        data = prepared.data
        lesson = lesson_of_judgments(judging.read(layout), data.catalog.items)
        if not lesson.queries:
            log = SearchLog.read(engine, data.shown, data.events, data.catalog.items, data.users, workspace.actions)
            facts = ItemFacts.of(data.catalog, None)
            lesson = lesson_of_clicks(log, workspace.search, data.interactions, facts)
    work = layout.scratch / "encoder"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    found = fit_encoders(data.catalog, lesson, chosen, work, seed=workspace.seed, progress=tell)
    target = layout.root / FOLDER
    shutil.rmtree(target, ignore_errors=True)
    shutil.move(work / found["kept"], target)
    (target / "steps.json").write_text(json.dumps(found, indent=2))
    shutil.rmtree(work, ignore_errors=True)
    return found | {"folder": str(target), "use": f'[search.encoder] use = "folder", folder = "{FOLDER}"'}


def fit_encoders(
    view: CatalogView, lesson: Lesson, config: TextConfig, work: Path, *, seed: int = 0, cache: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Train on four fifths of the queries, and measure every step on the last fifth.

    Returns `steps` (name, nDCG@10 alone, size, CPU a text), `kept` (folder in `work` of the best bi-encoder: its eight
    bits if they lose no more than .005), and `training`.
    """
    if len(lesson.queries) < _LEAST:
        raise BuildError(
            expected=f"at least {_LEAST} queries with {lesson.source}", got=f"{len(lesson.queries)}",
            do="Judge more results (`honeyguide judgments`), or log more clicks.",
        )  # fmt: skip
    texts = [text_of(view, row, _LETTERS) for row in range(len(view))]
    held = folds_of(lesson.queries, 5, seed) == 0
    train, test = np.flatnonzero(~held), np.flatnonzero(held).tolist()
    start = fetch_encoder("minilm-weights", cache, progress=progress) if config.start == "minilm" else None
    pieces = (
        WordPieces.open(start / "tokenizer.json")
        if start is not None
        else WordPieces.learn([*texts, *lesson.queries], config.vocabulary)
    )
    _write_task(work, pieces, texts, lesson, train, config, seed)
    if start is not None:
        (work / "start.safetensors").symlink_to((start / "start.safetensors").resolve())
    training = train_text(work, progress)
    (work / "start.safetensors").unlink(missing_ok=True)
    asked = _Asked(
        texts, [lesson.queries[at] for at in test], [lesson.rows[at] for at in test], [lesson.grades[at] for at in test]
    )
    steps: list[dict[str, Any]] = []
    quality: dict[str, float] = {}
    for name in ("start", "bi", "distilled"):
        if not (work / f"{name}.onnx").is_file():
            continue
        _as_folder(work, pieces, name, work / f"{name}.onnx")
        (work / f"{name}.onnx").unlink()
        quality[name] = _step(steps, name, work / name, asked)
    best = max((name for name in quality if name != "start"), key=lambda name: quality[name])
    quantise(work / best / "model.onnx", work / "model.int8.onnx")
    small = f"{best}-int8"
    _as_folder(work, pieces, small, work / "model.int8.onnx")
    quality[small] = _step(steps, small, work / small, asked)
    if (work / "cross.onnx").is_file():
        steps.append(_cross(work, pieces, view, asked, config))
    kept = small if quality[small] >= quality[best] - 0.005 else best
    return {"steps": steps, "kept": kept, "training": training, "queries": len(train), "held_out": len(test)}


class _Asked:
    """Held-out queries and what answers them."""

    def __init__(self, texts: list[str], queries: list[str], rows: list[I32], grades: list[F32]) -> None:
        self.texts, self.queries, self.rows, self.grades = texts, queries, rows, grades


def _write_task(
    work: Path,
    pieces: WordPieces,
    texts: Sequence[str],
    lesson: Lesson,
    train: np.ndarray,
    config: TextConfig,
    seed: int,
) -> None:
    pairs = [
        (at, int(row), float(grade))
        for at, query in enumerate(train.tolist())
        for row, grade in zip(lesson.rows[query], lesson.grades[query], strict=True)
        if grade > 0
    ]
    if not pairs:
        raise BuildError(expected="queries with answers", got="none", do="Judge some results as good.")
    np.savez(
        work / "task.npz",
        queries=pieces.padded([lesson.queries[at] for at in train], config.query_tokens),
        items=pieces.padded(texts, config.item_tokens),
        pairs=np.array([pair[:2] for pair in pairs], np.int64),
        grades=np.array([pair[2] for pair in pairs], np.float32),
    )  # fmt: skip
    told = {
        "config": config.model_dump(mode="json"), "seed": seed, "vocabulary": pieces.size, "separator": pieces.separator
    }  # fmt: skip
    (work / "task.json").write_text(json.dumps(told))


def _as_folder(work: Path, pieces: WordPieces, name: str, model: Path) -> None:
    folder = work / name
    folder.mkdir(exist_ok=True)
    shutil.copy(model, folder / "model.onnx")
    pieces.save(folder / "tokenizer.json")


def _step(steps: list[dict[str, Any]], name: str, folder: Path, asked: _Asked) -> float:
    encoder = OnnxEncoder(folder, name=name)
    items, queries = encoder.encode(asked.texts), encoder.encode_queries(asked.queries)
    found = [np.argsort(-(items @ query), kind="stable")[:10].astype(np.int32) for query in queries]
    value = float(graded_ndcg(found, asked.rows, asked.grades).mean())
    steps.append(
        {"step": name, "ndcg@10": round(value, 4), "size_mb": _megabytes(folder / "model.onnx"),
         "cpu_ms_per_text": _took(encoder, asked.texts)}
    )  # fmt: skip
    return value


def _cross(work: Path, pieces: WordPieces, view: CatalogView, asked: _Asked, config: TextConfig) -> dict[str, Any]:
    """The cross-encoder over the first hits by words."""
    index = LexicalIndex.build(work / "words", view)
    model = OnnxModel(work / "cross.onnx")

    def scored(query: str, rows: I32) -> F64:
        ids, kinds = pieces.together(query, [asked.texts[row] for row in rows], config.query_tokens, config.item_tokens)
        given = {"input_ids": ids, "attention_mask": (ids != 0).astype(np.int64), "token_type_ids": kinds}
        return np.asarray(model.run(given)[0], np.float64)

    found, pairs, started = [], 0, time.process_time()
    for query in asked.queries:
        rows = index.search(query, _RERANKED).rows
        pairs += len(rows)
        found.append(rows[np.argsort(-scored(query, rows), kind="stable")] if len(rows) else rows)
    took = (time.process_time() - started) / max(pairs, 1) * 1e3
    value = float(graded_ndcg(found, asked.rows, asked.grades).mean())
    size = _megabytes(work / "cross.onnx")
    return {"step": f"cross (of {_RERANKED} by words)", "ndcg@10": round(value, 4), "size_mb": size,
            "cpu_ms_per_text": round(took, 4)}  # fmt: skip


def _took(encoder: Encoder, texts: Sequence[str]) -> float:
    some = list(texts[:_TIMED])
    best = np.inf
    for _ in range(3):
        started = time.process_time()
        encoder.encode(some)
        best = min(best, time.process_time() - started)
    return round(best / max(len(some), 1) * 1e3, 4)


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 3)
