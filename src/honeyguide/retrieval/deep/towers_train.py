"""How the two towers learn. Imported by the process that trains, and by nothing else.

Vectors of ids live in numpy tables, of which a batch touches some thousand rows (`kernels.bags`); PyTorch has what is
dense and small. So a step costs what its batch costs, whatever the number of items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.contracts import F32, I32, I64
from honeyguide.kernels.bags import bag_steps, bag_sums
from honeyguide.retrieval.deep.config import TowersConfig
from honeyguide.retrieval.deep.encode import unit
from honeyguide.retrieval.deep.losses import batch_softmax
from honeyguide.retrieval.deep.spectral import factors, nearby
from honeyguide.retrieval.deep.task import Task

__all__ = ["TowersLearner"]

_SPREAD = 0.05
_WINDOW = 10
_MINED, _DEEP, _TIMES = 256, 50, 20
"""Questions that hard items are sought for, how many of their best, and how often in a training."""
_HARD_OF = 16
"""Hard items of a batch are at most one in so many of all items."""


class TowersLearner:
    """Both towers on their way."""

    def __init__(self, task: Task, config: TowersConfig, device: torch.device) -> None:
        self.task, self.config, self.device = task, config, device
        self.n_items, d = int(task.facts["n_items"]), config.d
        self.indptr: I64 = task.arrays["indptr"]
        self.item: I32 = np.array(task.arrays["item"])
        self.moments: I32 = np.array(task.arrays["moments"])
        self.content: F32 = np.array(task.arrays["content"])
        owner = np.repeat(np.arange(len(self.indptr) - 1), np.diff(self.indptr))
        self.first: I64 = self.indptr[owner]
        self.count = np.bincount(self.item, minlength=self.n_items)
        self.log_share = np.log(np.maximum(self.count, 1) / max(len(self.item), 1)).astype(np.float32)
        near = nearby(self.indptr, self.item, self.n_items, _WINDOW, logarithm=False)
        # Directions alone: how liked an item is stands apart.
        start = unit(factors(near, d, task.seed))
        random = np.random.default_rng(task.seed)
        noise = random.normal(scale=_SPREAD / d**0.5, size=(2, self.n_items, d)).astype(np.float32)
        unseen = self.count == 0
        self.own = np.ascontiguousarray(start + noise[0], np.float32)  # what an item is
        self.own[unseen] = 0.0
        self.past = np.ascontiguousarray(start + noise[1], np.float32)  # what it says to have taken it
        self.past[unseen] = 0.0
        self.told = random.normal(scale=_SPREAD, size=(int(task.facts["moments"]), d)).astype(np.float32)
        self.told[0] = 0.0
        self.sums = {name: np.full(len(getattr(self, name)), 1e-4, np.float32) for name in ("own", "past", "told")}
        wide = 2 * d
        self.middle, self.back = nn.Linear(d, wide), nn.Linear(wide, d)
        nn.init.zeros_(self.back.weight)
        nn.init.zeros_(self.back.bias)
        self.described = nn.Linear(self.content.shape[1], d, bias=False) if self.content.any() else None
        self.dense = nn.ModuleList([self.middle, self.back, *([self.described] if self.described else [])]).to(device)
        self.adam = torch.optim.Adam(self.dense.parameters(), lr=config.learning_rate, fused=device.type == "cpu")
        self.weights = ((1.0 + np.arange(config.history)) ** -0.5).astype(np.float32)
        self.hard: I64 = np.zeros(0, np.int64)
        self.mined, self.epoch = -1, 0

    # ------------------------------------------------------------------------------------------------ a step

    def batches(self, epoch: int) -> list[I64]:
        """Events in a new order; a last batch of one has nothing to be told from and is left out."""
        self.epoch = epoch
        order = np.random.default_rng([self.task.seed, epoch]).permutation(len(self.item))
        batches = [order[at : at + self.config.batch] for at in range(0, len(order), self.config.batch)]
        return [batch for batch in batches if len(batch) > 1]

    def _asked(self, events: I64) -> tuple[I32, F32, I32]:
        """Rows (n, history) of what came before each event, newest first, with their weights; and its moment."""
        places = events[:, None] - 1 - np.arange(self.config.history)
        there = places >= self.first[events][:, None]
        rows = np.where(there, self.item[np.maximum(places, 0)], -1).astype(np.int32)
        weights = self.weights * there
        return rows, weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9), self.moments[events]

    def _question(self, rows: I32, weights: F32, moments: I32) -> tuple[Tensor, Tensor]:
        """(n, d) of unit length, and what they were made of, to which gradients flow."""
        bag, more = np.empty((2, len(rows), self.config.d), np.float32)
        bag_sums(self.past, rows, weights.astype(np.float32), bag)
        if moments.shape[1]:
            bag_sums(self.told, moments, np.ones(moments.shape, np.float32), more)
            bag = bag + more
        x = torch.from_numpy(bag).to(self.device).requires_grad_()
        return functional.normalize(x + self.back(torch.relu(self.middle(x))), dim=1), x

    def _items(self, rows: I64, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        own = torch.from_numpy(self.own[rows]).to(self.device).requires_grad_()
        z = own if hidden is None else own * hidden
        if self.described is not None:
            z = z + self.described(torch.from_numpy(self.content[rows]).to(self.device))
        return functional.normalize(z, dim=1), own

    def step(self, batch: Any, rate: float, progress: float) -> tuple[Tensor, int]:
        """One step of Adam for what is dense, of Adagrad for the rows that were named."""
        config = self.config
        self._mine(progress)
        random = np.random.default_rng([self.task.seed, self.epoch, int(batch[0]), int(batch[1])])
        rows, weights, moments = self._asked(batch)
        wanted = self.item[batch].astype(np.int64)
        # Of few items most would be hard, and those that nobody knows yet would be pushed away with them.
        many = min(config.hard, len(self.log_share) // _HARD_OF)
        hard = random.choice(self.hard, many) if many and len(self.hard) else self.hard[:0]
        every = np.concatenate([wanted, hard])
        question, x = self._question(rows, weights, moments)
        hidden = None
        if self.described is not None and config.id_dropout:
            kept = (random.random((len(every), 1)) >= config.id_dropout).astype(np.float32)
            hidden = torch.from_numpy(kept).to(self.device)
        items, own = self._items(every, hidden)
        # A logit is the cosine and how liked the item is, less the odds to be in the batch (logQ). What comes with a
        # lesson is in the batch as often as it is liked, so the two cancel; hard items are all drawn alike.
        liked = self.log_share[hard] - self.log_share[wanted].mean()
        addend = np.concatenate([np.zeros(len(wanted), np.float32), liked.astype(np.float32)])
        loss = batch_softmax(
            question, items, torch.from_numpy(addend).to(self.device), config.temperature,
            [torch.from_numpy(one).to(self.device) for one in _twice(wanted, hard)],
        )  # fmt: skip
        for group in self.adam.param_groups:
            group["lr"] = config.learning_rate * rate
        self.adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        step, one = config.table_rate * rate, np.ones((len(every), 1), np.float32)
        back, to_item = _array(x), _array(own)
        bag_steps(self.past, self.sums["past"], rows, weights.astype(np.float32), back, step)
        bag_steps(self.own, self.sums["own"], every.astype(np.int32)[:, None], one, to_item, step)
        if moments.shape[1]:
            named = np.where(moments > 0, moments, -1).astype(np.int32)
            bag_steps(self.told, self.sums["told"], named, np.ones(named.shape, np.float32), back, step)
        return loss.detach(), len(batch)

    @torch.no_grad()
    def _mine(self, progress: float) -> None:
        """Items that stand high for questions that they were not the answer to."""
        config, now = self.config, int(progress * _TIMES)
        if not config.hard or progress < config.hard_after or now == self.mined:
            return
        self.mined = now
        random = np.random.default_rng([self.task.seed, now])
        events = random.choice(len(self.item), min(_MINED, len(self.item)), replace=False)
        question, _ = self._question(*self._asked(events))
        vectors = torch.from_numpy(self.vectors()).to(self.device)
        liked = torch.from_numpy(self.log_share).to(self.device)
        best = (
            torch.topk(
                torch.addmm(liked, question, vectors.T, alpha=1.0 / config.temperature), min(_DEEP, self.n_items), dim=1
            )
            .indices.cpu()
            .numpy()
        )
        keep = best != self.item[events][:, None]
        self.hard = best[keep].astype(np.int64)

    @torch.no_grad()
    def vectors(self) -> F32:
        """(items, d) of unit length; an item without events has what its content says."""
        parts = [self._items(np.arange(at, min(at + 65_536, self.n_items)), None)[0].cpu().numpy()
                 for at in range(0, self.n_items, 65_536)]  # fmt: skip
        return np.concatenate(parts)

    # ------------------------------------------------------------------------------------------------ keeping

    def state(self) -> dict[str, Any]:
        """Tables, their sums, and what is dense."""
        tables = {name: torch.from_numpy(getattr(self, name)) for name in self.sums}
        sums = {name: torch.from_numpy(one) for name, one in self.sums.items()}
        return {"tables": tables, "sums": sums, "dense": self.dense.state_dict(), "adam": self.adam.state_dict(),
                "hard": torch.from_numpy(self.hard), "mined": self.mined}  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in self.sums:
            getattr(self, name)[:] = state["tables"][name].numpy()
            self.sums[name][:] = state["sums"][name].numpy()
        self.dense.load_state_dict(state["dense"])
        self.adam.load_state_dict(state["adam"])
        self.hard, self.mined = state["hard"].numpy(), int(state["mined"])

    def parameters(self) -> int:
        """Numbers that are learnt."""
        tables = sum(getattr(self, name).size for name in self.sums)
        return tables + sum(one.numel() for one in self.dense.parameters())

    @torch.no_grad()
    def give(self, out: Path) -> None:
        """Tables and layers; they are small enough to serve without a graph."""
        np.save(out / "vectors.npy", self.vectors())
        layers = {"past": self.past, "told": self.told, "middle": _plain(self.middle.weight),
                  "middle_bias": _plain(self.middle.bias), "back": _plain(self.back.weight),
                  "back_bias": _plain(self.back.bias)}  # fmt: skip
        none = np.zeros((self.config.d, self.content.shape[1]), np.float32)
        layers["described"] = none if self.described is None else _plain(self.described.weight)
        for name, array in layers.items():
            np.save(out / f"{name}.npy", array)


def _array(leaf: Tensor) -> F32:
    gradient = leaf.grad
    found: F32 = np.zeros(leaf.shape, np.float32) if gradient is None else gradient.cpu().numpy()
    return found


def _plain(one: Tensor) -> F32:
    found: F32 = one.detach().cpu().numpy()
    return found


def _twice(wanted: I64, hard: I64) -> tuple[I64, I64]:
    """Pairs (row, column) of the batch at which a row's own item stands once more: no error to be taken for it."""
    every = np.concatenate([wanted, hard])
    order = np.argsort(every, kind="stable")
    same = np.flatnonzero(every[order][1:] == every[order][:-1])
    rows: list[int] = []
    columns: list[int] = []
    if len(same):
        named = np.unique(every[order][same])
        for item in named.tolist():
            at = np.flatnonzero(every == item).tolist()
            for row in at:
                if row < len(wanted):
                    rows += [row] * (len(at) - 1)
                    columns += [column for column in at if column != row]
    return np.array(rows, np.int64), np.array(columns, np.int64)
