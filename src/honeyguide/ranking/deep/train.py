"""`python -m honeyguide.ranking.deep.train FOLDER`: learns one network from a folder and leaves ONNX files in it.

A process of its own, so that its memory is its own and nothing that serves ever loads PyTorch. It keeps checkpoints in
the folder and goes on from the last one: killed at any moment and started again, it ends with the same bits (on a CPU,
with as many threads). Progress goes to standard output, a JSON object a line.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.contracts import F32, F64, I64, BoolArray
from honeyguide.errors import BuildError, HoneyguideError
from honeyguide.ranking.deep.config import DeepConfig
from honeyguide.ranking.deep.encode import Encoded, take_requests
from honeyguide.ranking.deep.export import export
from honeyguide.ranking.deep.folder import DONE, ERROR, OUT, Failure, Result, Task, open_task
from honeyguide.ranking.deep.model import POSITIONS, Batch, Network, Shape
from honeyguide.ranking.deep.optim import RowwiseAdagrad
from honeyguide.ranking.deep.prepare import KNOTS, Scales, encoder_of, examination_of, scales_of

__all__ = ["Trainer", "train"]

_CHECKPOINT = "checkpoint.pt"
_BLOCK = 4_096
"""Candidates that are scored at once where nothing is learnt."""
_POSITION_DROPOUT = 0.1
_SPREAD = 0.2
"""Of embeddings at first: products of two of them must be felt."""


class Trainer:
    """One network on its way; `run` takes it to the end."""

    def __init__(self, task: Task, config: DeepConfig) -> None:
        self.task, self.config = task, config
        self.pointers = np.searchsorted(task.input.request, np.arange(len(task.input.users) + 1)).astype(np.int64)
        self.rows = np.flatnonzero(task.learn.any(axis=1))
        self.requests = np.unique(task.input.request[self.rows]).astype(np.int64)
        self.stop_requests = np.unique(task.input.request[task.stop.any(axis=1)]).astype(np.int64)
        if not len(self.rows) or not len(self.stop_requests):
            raise BuildError(
                expected="rows to learn from and rows to stop on", got=f"{len(self.rows)} to learn from and "
                f"{len(self.stop_requests)} requests to stop on", do="Load more events, or leave the deep ranker out.",
            )  # fmt: skip
        told = task.told
        self.device = _device(config)
        self.encoder = encoder_of(config, task.input, self.rows, self.requests, told.n_items, told.n_users)
        self.scales = scales_of(task.input.features, self.rows, told.seed)
        torch.manual_seed(told.seed)
        known = np.minimum(task.position[self.rows], POSITIONS)
        self.looked = self._looked()
        self.network = Network(self._shape(bool(config.position == "tower" and (known > 0).any())))
        self._settle(self.scales, np.bincount(known, minlength=POSITIONS + 1)[: POSITIONS + 1].astype(np.float64))
        self.items = nn.Embedding(self.encoder.items.size, config.item_dim, sparse=True)
        self.users = nn.Embedding(self.encoder.users.size, config.user_dim, sparse=True)
        for table in (self.items, self.users):
            nn.init.normal_(table.weight, std=_SPREAD)
        for module in (self.network, self.items, self.users):
            module.to(self.device)
        self.adam = torch.optim.AdamW(
            self.network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        self.adagrad = RowwiseAdagrad([self.items, self.users], config.table_rate)
        self.epoch, self.batch, self.steps, self.bad, self.spent = 0, 0, 0, 0, 0.0
        self.losses: list[float] = []
        self.best: dict[str, Any] | None = None
        self.resumed = False

    def _looked(self) -> F64 | None:
        """For "ipw": how often positions are looked at, by what the first head says."""
        if self.config.position != "ipw" or not (self.task.position > 0).any():
            return None
        of = self.task.learn[:, 0]
        return examination_of(self.config, self.task.input.items[of], self.task.position[of], self.task.labels[of, 0])

    def _shape(self, position: bool) -> Shape:
        c, told = self.config, self.task.told
        return Shape(
            kind=c.kind, dense=self.task.input.features.shape[1], gaps=tuple(self.scales.gaps), heads=len(told.heads),
            parents=tuple(told.parents), cardinalities=self.encoder.cardinalities, item_dim=c.item_dim,
            user_dim=c.user_dim, context_dim=c.context_dim, attention_heads=c.attention_heads, experts=c.experts,
            own_experts=c.own_experts, units=c.units, tower=c.tower, dropout=c.dropout, position=position,
            knots=KNOTS if c.normalise == "quantile" else 0,
        )  # fmt: skip

    def _settle(self, scales: Scales, logged: F64) -> None:
        """What is counted and not learnt."""
        of = self.network.normalise
        for buffer, value in (
            (of.mean, scales.mean), (of.inverse, scales.inverse), (of.knots, scales.knots), (of.steps, scales.steps),
        ):  # fmt: skip
            if buffer.shape == value.shape:
                buffer.copy_(torch.from_numpy(value))
        if self.network.shape.position:
            if self.config.serve_position == "logged":
                logged[0] = 0.0
            else:
                logged[:] = 0.0
                logged[min(self.config.serve_position, POSITIONS)] = 1.0
            self.network.served.copy_(torch.from_numpy(logged / logged.sum()))

    # ------------------------------------------------------------------------------------------------ one batch

    def _tensors(self, requests: I64, learning: bool) -> tuple[Batch, I64]:
        part, rows = take_requests(self.task.input, requests, self.pointers)
        coded = self.encoder.requests(part)
        item = torch.from_numpy(self.encoder.items.of(part.items))
        history, user = torch.from_numpy(coded.history), torch.from_numpy(coded.user)
        if learning:
            item, history, user = (self._hidden(ids) for ids in (item, history, user))
        to = self.device
        seeds = self._seeds(coded)
        batch = Batch(
            dense=torch.from_numpy(part.features).to(to), item=self.items(item.to(to)),
            history=self.items(history.to(to)), age=torch.from_numpy(coded.age).to(to),
            sign=torch.from_numpy(coded.sign).to(to), mask=torch.from_numpy(coded.mask).to(to),
            user=self.users(user.to(to)), context=torch.from_numpy(coded.context).to(to), seed=seeds,
            request=torch.from_numpy(part.request.astype(np.int64)).to(to),
        )  # fmt: skip
        return batch, rows

    def _hidden(self, ids: Tensor) -> Tensor:
        """Some ids as if nobody knew them."""
        if not self.config.id_dropout:
            return ids
        return torch.where(torch.rand(ids.shape) < self.config.id_dropout, torch.zeros_like(ids), ids)

    def _seeds(self, coded: Encoded) -> Tensor:
        r, d = len(coded.user), self.config.item_dim
        counts = torch.from_numpy(np.diff(coded.seeds.indptr)).to(self.device)
        out = torch.zeros((r, d + 1), device=self.device)
        if len(coded.seeds.values):
            of = torch.repeat_interleave(torch.arange(r, device=self.device), counts)
            vectors = self.items(torch.from_numpy(coded.seeds.values.astype(np.int64)).to(self.device))
            mean = torch.zeros((r, d), device=self.device).index_add(0, of, vectors) / counts.clamp(min=1).unsqueeze(1)
            out = torch.cat([mean, (counts > 0).float().unsqueeze(1)], 1)
        return out

    def _positions(self, rows: I64, learning: bool) -> Tensor | None:
        if not self.network.shape.position:
            return None
        position = torch.from_numpy(np.minimum(self.task.position[rows], POSITIONS).astype(np.int64))
        if learning:
            position = torch.where(torch.rand(position.shape) < _POSITION_DROPOUT, 0, position)
        return position.to(self.device)

    def _loss(self, odds: Tensor, batch: Batch, rows: I64, which: Any) -> tuple[Tensor, F64]:
        """The sum over heads of the mean loss, and each head's mean (nan where the batch knows nothing of it)."""
        labels = torch.from_numpy(np.asarray(self.task.labels[rows])).to(self.device)
        known = torch.from_numpy(np.asarray(which[rows])).to(self.device)
        weight = torch.from_numpy(np.asarray(self.task.weight[rows])).to(self.device)
        if self.task.told.kind == "rank":
            return self._rank_loss(odds, labels, known, batch)
        target = torch.nan_to_num(labels)
        if self.looked is not None:
            look = torch.from_numpy(self.looked[self.task.position[rows]].astype(np.float32)).to(self.device)
            target = target / look.unsqueeze(1)
        # Linear in the target, which "ipw" takes above 1 (Saito et al. 2020, eq. 8).
        loss = target * functional.softplus(-odds) + (1.0 - target) * functional.softplus(odds)
        counted = known * weight.unsqueeze(1)
        by_head, of = (loss * counted).sum(0), counted.sum(0)
        total = (by_head / of.clamp(min=1e-12))[of > 0].sum()
        return total, _means(by_head, of)

    def _rank_loss(self, odds: Tensor, labels: Tensor, known: Tensor, batch: Batch) -> tuple[Tensor, F64]:
        """The negative logarithm of each taken candidate's softmax share among its request's (Cao et al. 2007)."""
        requests = batch.history.shape[0]
        share = odds - odds.detach().amax(0)
        mass = torch.zeros((requests, odds.shape[1]), device=self.device, dtype=odds.dtype)
        mass = mass.index_add(0, batch.request, torch.exp(share) * known)
        taken = known & (labels > 0.5)
        loss = torch.where(taken, torch.log(mass + 1e-30).index_select(0, batch.request) - share, 0.0)
        by_head, of = loss.sum(0), taken.sum(0).float()
        return (by_head / of.clamp(min=1.0)).sum(), _means(by_head, of)

    def _odds(self, batch: Batch, position: Tensor | None) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self.network(batch, position).float()  # type: ignore[no-any-return]

    # ------------------------------------------------------------------------------------------------ learning

    def run(self) -> Result:
        """Learn until it gets no better or the epochs are over; then keep the best."""
        self._resume()
        started = time.process_time() - self.spent
        batches = self._batches(self.epoch)
        most = self.config.epochs * len(batches)
        while self.epoch < self.config.epochs and self.bad < self.config.patience:
            batches = self._batches(self.epoch)
            at = {round((k + 1) * len(batches) / self.config.evaluations) for k in range(self.config.evaluations)}
            while self.batch < len(batches) and self.bad < self.config.patience:
                self._step(batches[self.batch])
                self.batch += 1
                self.steps += 1
                if self.batch in at:
                    self._evaluate()
                if self.batch in at or self.steps % self.config.checkpoint_steps == 0:
                    self._keep(time.process_time() - started)
                    _tell({"done": self.steps, "total": most, "loss": self.losses[-1] if self.losses else None})
            self.epoch, self.batch = self.epoch + 1, 0
        if self.best is not None:
            self._load(self.best)
        self._give()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        parameters = sum(p.numel() for p in self.network.parameters())
        return Result(
            epochs=self.steps / max(len(batches), 1), steps=self.steps, best=min(self.losses, default=float("nan")),
            losses=self.losses, cpu_s=time.process_time() - started, peak_mb=peak, device=self.device.type,
            parameters=parameters, rows=(self.encoder.items.size, self.encoder.users.size), gaps=self.scales.gaps,
            empty=self.scales.empty, examination=[] if self.looked is None else self.looked[1:].tolist(),
            resumed=self.resumed,
        )  # fmt: skip

    def _batches(self, epoch: int) -> list[I64]:
        """Whole requests in a new order, in batches of about so many candidates."""
        order = np.random.default_rng([self.task.told.seed, epoch]).permutation(self.requests)
        ends = np.cumsum(np.diff(self.pointers)[order])
        cuts = np.unique(np.searchsorted(ends, np.arange(self.config.batch, ends[-1], self.config.batch)))
        return [part for part in np.split(order, cuts) if len(part)]

    def _step(self, requests: I64) -> None:
        self.network.train()
        batch, rows = self._tensors(requests, learning=True)
        odds = self._odds(batch, self._positions(rows, learning=True))
        loss, _ = self._loss(odds, batch, rows, self.task.learn)
        if not loss.requires_grad:
            return
        if not bool(torch.isfinite(loss)):
            raise BuildError(
                expected="a network that learns", got=f"a loss of {float(loss)} after {self.steps} steps",
                do="Lower learning_rate or table_rate in [ranker.deep].",
            )  # fmt: skip
        self.adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.adam.step()
        self.adagrad.step()

    @torch.no_grad()
    def _evaluate(self) -> None:
        """The loss on the rows to stop on; the best so far is kept."""
        self.network.eval()
        heads = len(self.task.told.heads)
        total, count = np.zeros(heads), np.zeros(heads)
        for part in self._blocks(self.stop_requests):
            batch, rows = self._tensors(part, learning=False)
            odds = self._odds(batch, self._positions(rows, learning=False))
            _, means = self._loss(odds, batch, rows, self.task.stop)
            size = (self.task.stop[rows] & ~np.isnan(self.task.labels[rows])).sum(axis=0)
            total += np.where(np.isnan(means), 0.0, means * size)
            count += np.where(np.isnan(means), 0, size)
        loss = float((total / np.maximum(count, 1)).sum())
        if not self.losses or loss < min(self.losses):
            self.best, self.bad = self._state(), 0
        else:
            self.bad += 1
        self.losses.append(loss)

    def _blocks(self, requests: I64) -> list[I64]:
        ends = np.cumsum(np.diff(self.pointers)[requests])
        cuts = np.unique(np.searchsorted(ends, np.arange(_BLOCK, ends[-1] if len(ends) else 0, _BLOCK)))
        return [part for part in np.split(requests, cuts) if len(part)]

    # ------------------------------------------------------------------------------------------------ keeping

    def _state(self) -> dict[str, Any]:
        modules = {"network": self.network, "items": self.items, "users": self.users}
        return {name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
                for name, module in modules.items()}  # fmt: skip

    def _load(self, state: dict[str, Any]) -> None:
        for name in ("network", "items", "users"):
            getattr(self, name).load_state_dict(state[name])

    def _keep(self, spent: float) -> None:
        """A checkpoint: the old one stays until the new one is whole."""
        path = self.task.folder / _CHECKPOINT
        temporary = path.with_suffix(".tmp")
        torch.save(
            {
                "now": self._state(), "best": self.best, "adam": self.adam.state_dict(),
                "adagrad": self.adagrad.state_dict(), "random": torch.get_rng_state(), "losses": self.losses,
                "at": (self.epoch, self.batch, self.steps, self.bad), "spent": spent,
            },
            temporary,
        )  # fmt: skip
        os.replace(temporary, path)

    def _resume(self) -> None:
        path = self.task.folder / _CHECKPOINT
        if not path.exists():
            return
        found = torch.load(path, weights_only=True, map_location="cpu")
        self._load(found["now"])
        self.best, self.losses, self.spent = found["best"], found["losses"], found["spent"]
        self.adam.load_state_dict(found["adam"])
        self.adagrad.load_state_dict(found["adagrad"])
        torch.set_rng_state(found["random"])
        self.epoch, self.batch, self.steps, self.bad = found["at"]
        self.resumed = True

    @torch.no_grad()
    def _give(self) -> None:
        """Tables, encoder and ONNX files; and what the network says of the rows that it did not learn from."""
        out = self.task.folder / OUT
        out.mkdir(exist_ok=True)
        self.network.eval()
        self.network.cpu()
        for name, table, sums in zip(
            ("items", "users"), (self.items, self.users), self.adagrad.state_dict()["sums"], strict=True
        ):
            vectors = table.weight.detach().cpu().numpy().copy()
            # What no row taught knows as little as one that nobody has seen.
            vectors[(sums == 0).numpy()] = vectors[0]
            table.weight.copy_(torch.from_numpy(vectors))
            np.save(out / f"{name}.npy", vectors)
        self.encoder.save(out)
        self.device = torch.device("cpu")
        self.items.cpu()
        self.users.cpu()
        np.save(out / "raw.npy", self._held_out())
        export(self.network, out)

    def _held_out(self) -> F32:
        """Log-odds (n, heads) of the rows that nothing was learnt from, nan for the others."""
        raw = np.full(self.task.labels.shape, np.nan, np.float32)
        held: BoolArray = np.logical_not(self.task.learn.any(axis=1))
        requests = np.unique(self.task.input.request[held]).astype(np.int64)
        as_logged = self.config.serve_position != "logged"
        for part in self._blocks(requests):
            batch, rows = self._tensors(part, learning=False)
            odds = self.network(batch, self._positions(rows, learning=False) if as_logged else None)
            raw[rows[held[rows]]] = odds.numpy()[held[rows]]
        return raw


def _means(total: Tensor, count: Tensor) -> F64:
    sums, counts = (one.detach().double().cpu().numpy() for one in (total, count))
    means: F64 = np.where(counts > 0, sums / np.maximum(counts, 1e-12), np.nan)
    return means


def _device(config: DeepConfig) -> torch.device:
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise BuildError(
            expected="a GPU that PyTorch can use", got="none on this machine",
            do='Set device = "auto" or "cpu" in [ranker.deep], or train where there is one.',
        )  # fmt: skip
    return torch.device("cuda" if there and config.device != "cpu" else "cpu")


def _tell(what: dict[str, Any]) -> None:
    print(msgspec.json.encode(what).decode(), flush=True)


def train(folder: Path) -> Result:
    """Learn what the folder asks for, or go on where it was left; the result is written beside it."""
    task = open_task(folder)
    config = DeepConfig.model_validate(task.told.config)
    torch.set_num_threads(config.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it a GPU's sums depend on the moment
    torch.use_deterministic_algorithms(True, warn_only=True)
    result = Trainer(task, config).run()
    (folder / DONE).write_bytes(msgspec.json.encode(result))
    return result


def main(folder: Path) -> int:
    """Exit code 0, or 2 with the error in a file of the folder."""
    try:
        train(folder)
    except HoneyguideError as error:
        (folder / ERROR).write_bytes(msgspec.json.encode(Failure(error.expected, error.got, error.do)))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
