"""`python -m honeyguide.ranking.text.train FOLDER`: trains the encoders of a folder and leaves ONNX files in it.

A process of its own, so that nothing that serves ever loads PyTorch. Deterministic on a CPU with as many threads. In:
`task.json`, `task.npz`, perhaps `start.safetensors`. Out: `bi.onnx`, `cross.onnx`, `distilled.onnx`, `start.onnx` where
it began with published weights, and `done.json`. Progress goes to standard output, a JSON object a line.
"""

from __future__ import annotations

import copy
import json
import logging
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.ranking.text.config import TextConfig
from honeyguide.ranking.text.model import Bert, BiEncoder, CrossEncoder, read_safetensors

__all__ = ["train"]

_MARGIN = 10.0  # of cosines, to stand beside the cross-encoder's logits
_BLOCK = 256


class Trainer:
    """The encoders of one task on their way."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        told = json.loads((folder / "task.json").read_text())
        self.config = config = TextConfig.model_validate(told["config"])
        with np.load(folder / "task.npz", allow_pickle=False) as arrays:
            self.queries, self.items = arrays["queries"], arrays["items"]  # (n, tokens), 0 pads
            self.pairs, self.grades = arrays["pairs"], arrays["grades"]  # (m, 2) query and item; (m,)
        torch.manual_seed(told["seed"])
        torch.set_num_threads(config.threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.rng = np.random.default_rng(told["seed"])
        self.device = torch.device("cuda" if config.device == "auto" and torch.cuda.is_available() else "cpu")
        self.pad, self.separator = 0, int(told["separator"])
        published = folder / "start.safetensors"
        if published.is_file():
            tensors = read_safetensors(published)
            words, width = tensors["embeddings.word_embeddings.weight"].shape
            layers = 1 + max(int(name.split(".")[2]) for name in tensors if name.startswith("encoder.layer."))
            bert = Bert(words, width, layers, width // 32)
            bert.load_published(tensors)
        else:
            bert = Bert(int(told["vocabulary"]), config.width, config.layers, config.heads)
        self.published = published.is_file()
        self.bi = BiEncoder(bert).to(self.device)
        self.right: dict[int, set[int]] = {}
        for query, item in self.pairs.tolist():
            self.right.setdefault(query, set()).add(item)
        self.total = config.epochs + config.cross_epochs + config.distil_epochs + 1
        self.done = 0

    def tell(self) -> None:
        """One step of the whole is over."""
        self.done += 1
        print(json.dumps({"done": self.done, "total": self.total}), flush=True)

    def ids(self, tokens: np.ndarray, which: Any) -> tuple[Tensor, Tensor]:
        """Token numbers and mask of some rows, cut at the longest."""
        chosen = tokens[which]
        chosen = chosen[:, : max(1, int((chosen != self.pad).sum(1).max(initial=1)))]
        ids = torch.from_numpy(np.ascontiguousarray(chosen, np.int64)).to(self.device)
        return ids, (ids != self.pad).long()

    def batches(self, model: nn.Module, epochs: int) -> Iterator[tuple[np.ndarray, int, torch.optim.Optimizer]]:
        """Shuffled pairs epoch by epoch, with an optimiser whose rate falls to nothing at the end."""
        config = self.config
        steps = max(1, epochs * -(-len(self.pairs) // config.batch))
        adam = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=0.01)
        rate = torch.optim.lr_scheduler.OneCycleLR(adam, config.learning_rate, total_steps=steps + 1, pct_start=0.1)
        weight = self.grades / self.grades.max()
        model.train()
        for epoch in range(epochs):
            # A better answer is learnt from more often.
            kept = np.flatnonzero(self.rng.random(len(weight)) < np.maximum(weight, 0.25))
            order = self.rng.permutation(kept)
            for start in range(0, len(order), config.batch):
                yield self.pairs[order[start : start + config.batch]], epoch, adam
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                adam.step()
                adam.zero_grad()
                if rate.last_epoch < steps:
                    rate.step()
            self.tell()
        model.eval()

    def fit_bi(self) -> None:
        """In-batch negatives (van den Oord et al. 2018), then also near and wrong items (Xiong et al. 2021)."""
        config = self.config
        plain = max(0, config.epochs - config.mined_epochs)
        hard: np.ndarray | None = None
        for pairs, epoch, _ in self.batches(self.bi, config.epochs):
            if epoch >= plain and hard is None:
                hard = self.mined()
                self.bi.train()
            query = self.bi(*self.ids(self.queries, pairs[:, 0]))
            rows = pairs[:, 1]
            if hard is not None:
                rows = np.concatenate([rows, self.drawn(hard, pairs[:, 0], 1)[:, 0]])
            logits = query @ self.bi(*self.ids(self.items, rows)).T / config.temperature
            wrong = np.array([[row in self.right[q] for row in rows.tolist()] for q in pairs[:, 0].tolist()])
            wrong[np.arange(len(pairs)), np.arange(len(pairs))] = False
            logits = logits.masked_fill(torch.from_numpy(wrong).to(self.device), -1e4)
            functional.cross_entropy(logits, torch.arange(len(pairs), device=self.device)).backward()  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def vectors(self, tokens: np.ndarray) -> np.ndarray:
        """Vectors of all rows."""
        self.bi.eval()
        parts = [
            self.bi(*self.ids(tokens, slice(at, at + _BLOCK))).cpu().numpy() for at in range(0, len(tokens), _BLOCK)
        ]
        return np.concatenate(parts)

    def mined(self) -> np.ndarray:
        """(queries, mined) nearest items that do not answer, by the bi-encoder as it is."""
        items, queries = self.vectors(self.items), self.vectors(self.queries)
        wide = min(self.config.mined + 50, len(items))
        out = np.zeros((len(queries), self.config.mined), np.int64)
        for at, query in enumerate(queries):
            score = items @ query
            near = np.argpartition(-score, wide - 1)[:wide]
            near = near[np.argsort(-score[near], kind="stable")]
            wrong = [row for row in near.tolist() if row not in self.right.get(at, ())] or [0]
            out[at] = (wrong * self.config.mined)[: self.config.mined]
        return out

    def drawn(self, hard: np.ndarray, queries: np.ndarray, n: int) -> np.ndarray:
        """(queries, n) of the mined items."""
        return np.take_along_axis(hard[queries], self.rng.integers(0, hard.shape[1], (len(queries), n)), axis=1)

    def together(self, queries: np.ndarray, items: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens of queries and items in one row each, with which is which."""
        first, second = self.queries[queries], self.items[items]
        rows, kinds = [], []
        for a, b in zip(first, second, strict=True):
            a, b = a[a != self.pad], b[b != self.pad][1:]  # the item without its opening sign
            rows.append(np.concatenate([a, b]))
            kinds.append(np.concatenate([np.zeros(len(a), np.int64), np.ones(len(b), np.int64)]))
        width = max(len(row) for row in rows)
        ids, kind = np.zeros((len(rows), width), np.int64), np.zeros((len(rows), width), np.int64)
        for at, (row, of) in enumerate(zip(rows, kinds, strict=True)):
            ids[at, : len(row)], kind[at, : len(row)] = row, of
        given = torch.from_numpy(ids).to(self.device)
        return given, (given != self.pad).long(), torch.from_numpy(kind).to(self.device)

    def fit_cross(self, hard: np.ndarray) -> CrossEncoder:
        """A softmax over one right item and several that look right (Nogueira and Cho 2019, listwise)."""
        model = CrossEncoder(copy.deepcopy(self.bi.bert)).to(self.device)
        n = self.config.negatives
        for pairs, _, _ in self.batches(model, self.config.cross_epochs):
            rows = np.concatenate([pairs[:, 1:], self.drawn(hard, pairs[:, 0], n)], axis=1)
            scores = model(*self.together(np.repeat(pairs[:, 0], n + 1), rows.ravel())).view(len(pairs), n + 1)
            functional.cross_entropy(scores, torch.zeros(len(pairs), dtype=torch.long, device=self.device)).backward()  # type: ignore[no-untyped-call]
        return model.eval()

    def distil(self, teacher: CrossEncoder, hard: np.ndarray) -> None:
        """The bi-encoder learns the cross-encoder's margins (Hofstaetter et al. 2020), and keeps its own lesson."""
        config = self.config
        for pairs, _, _ in self.batches(self.bi, config.distil_epochs):
            wrong = self.drawn(hard, pairs[:, 0], 1)[:, 0]
            with torch.no_grad():
                good = teacher(*self.together(pairs[:, 0], pairs[:, 1]))
                bad = teacher(*self.together(pairs[:, 0], wrong))
            query = self.bi(*self.ids(self.queries, pairs[:, 0]))
            right, other = self.bi(*self.ids(self.items, pairs[:, 1])), self.bi(*self.ids(self.items, wrong))
            margin = _MARGIN * ((query * right).sum(1) - (query * other).sum(1))
            logits = query @ right.T / config.temperature
            same = np.array([[row in self.right[q] for row in pairs[:, 1].tolist()] for q in pairs[:, 0].tolist()])
            np.fill_diagonal(same, False)
            logits = logits.masked_fill(torch.from_numpy(same).to(self.device), -1e4)
            own = functional.cross_entropy(logits, torch.arange(len(pairs), device=self.device))
            (functional.mse_loss(margin, (good - bad).clamp(-20, 20)) * 0.05 + own).backward()  # type: ignore[no-untyped-call]

    def export(self, model: nn.Module, name: str, *, cross: bool) -> None:
        """Write one ONNX file with any number of rows and tokens."""
        model = copy.deepcopy(model).cpu().eval()
        b, s = (torch.export.Dim(one, min=low) for one, low in (("b", 1), ("s", 2)))
        names = ["input_ids", "attention_mask", "token_type_ids"][: 3 if cross else 2]
        example = tuple(torch.ones(2, 7, dtype=torch.int64) for _ in names)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                model, example, dynamo=True, verbose=False, input_names=names,
                output_names=["score" if cross else "sentence_embedding"],
                dynamic_shapes=tuple({0: b, 1: s} for _ in names),
            )  # fmt: skip
        if program is None:
            raise TypeError("the exporter gave no program")
        program.save(str(self.folder / name), external_data=False)


def train(folder: Path) -> None:
    """All steps of one folder."""
    started = time.process_time()
    one = Trainer(folder)
    if one.published:
        one.export(one.bi, "start.onnx", cross=False)
    one.fit_bi()
    one.export(one.bi, "bi.onnx", cross=False)
    hard = one.mined()
    if one.config.cross_epochs:
        teacher = one.fit_cross(hard)
        one.export(teacher, "cross.onnx", cross=True)
        if one.config.distil_epochs:
            one.distil(teacher, hard)
            one.export(one.bi, "distilled.onnx", cross=False)
    one.tell()
    told = {"cpu_s": round(time.process_time() - started, 2), "device": str(one.device)}
    (folder / "done.json").write_text(json.dumps(told))


if __name__ == "__main__":
    train(Path(sys.argv[1]))
