"""How the sequence model learns, in PyTorch. Imported by the process that trains, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.contracts import F64, I64
from honeyguide.retrieval.deep.blocks import Encoder
from honeyguide.retrieval.deep.config import SequenceConfig
from honeyguide.retrieval.deep.graph import write_encoder
from honeyguide.retrieval.deep.loop import low_precision
from honeyguide.retrieval.deep.losses import full_softmax, sampled_softmax
from honeyguide.retrieval.deep.rows import RowAdam
from honeyguide.retrieval.deep.spectral import factors, nearby
from honeyguide.retrieval.deep.task import Task
from honeyguide.retrieval.deep.windows import Windows

__all__ = ["SequenceLearner"]

_SPREAD = 0.02
_UNSEEN = 0.1
"""Share of drawn negatives that are drawn evenly, so that rare items too learn that they are not meant."""


class SequenceLearner:
    """One model on its way."""

    def __init__(self, task: Task, config: SequenceConfig, device: torch.device) -> None:
        self.task, self.config, self.device = task, config, device
        self.n_items = int(task.facts["n_items"])
        self.windows = Windows(
            task.arrays, config.length, config.batch, task.seed, task.facts["facts_from"], config.targets
        )
        self.full = config.loss == "full" or (config.loss == "auto" and self.n_items <= config.full_up_to)
        self.low = low_precision(config, device)
        d, item = config.d, task.arrays["item"]
        count = np.bincount(item, minlength=self.n_items).astype(np.float64)
        start = np.zeros((self.n_items + 1, d + 1), np.float32)  # row 0: nothing yet; the last column: how liked it is
        if config.start == "spectral":
            found = factors(nearby(task.arrays["indptr"], item, self.n_items, config.start_window), d, task.seed)
            spread = float(found[count > 0].std()) if (count > 0).any() else 0.0
            start[1:, :d] = found * (config.start_scale / spread) if spread > 0 else 0.0
        random = np.random.default_rng(task.seed)
        start[:, :d] += random.normal(scale=_SPREAD / 4, size=(self.n_items + 1, d)).astype(np.float32)
        self.table = nn.Parameter(torch.from_numpy(start))
        self.places = nn.Parameter(torch.randn(config.length, d) * _SPREAD)
        self.moments = nn.Parameter(torch.randn(int(task.facts["moments"]), d) * _SPREAD)
        with torch.no_grad():
            self.moments[0] = 0.0
        self.encoder = Encoder(d, config.layers, config.heads, config.inner, config.dropout)
        self.to(device)
        rest = [self.places, self.moments, *self.encoder.parameters()]
        groups: list[dict[str, Any]] = [{"params": rest, "weight_decay": config.weight_decay}]
        if self.full:
            groups.append({"params": [self.table], "weight_decay": 0.0})
        self.adam = torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=device.type == "cpu")
        self.rows = None if self.full else RowAdam(self.table, config.learning_rate)
        odds = (1.0 - _UNSEEN) * count**0.75 / max((count**0.75).sum(), 1e-12) + _UNSEEN / self.n_items
        self.odds: F64 = odds / odds.sum()
        self.cumulative = np.cumsum(self.odds)

    def to(self, device: torch.device) -> None:
        """Move what is learnt."""
        self.encoder.to(device)
        for one in (self.table, self.places, self.moments):
            one.data = one.data.to(device)

    # ------------------------------------------------------------------------------------------------ a step

    def batches(self, epoch: int) -> list[I64]:
        """Windows of about one length together."""
        return self.windows.batches(epoch)

    def step(self, batch: Any, rate: float, progress: float) -> tuple[Tensor, int]:
        """One step of Adam."""
        self.encoder.train()
        for group in self.adam.param_groups:
            group["lr"] = self.config.learning_rate * rate
        given, wanted, moments = (torch.from_numpy(one).to(self.device) for one in self.windows.read(batch))
        counted = wanted >= 0
        target = wanted[counted]
        drawn: Tensor | None = None
        table: Tensor = self.table
        known = given
        if self.rows is not None:
            # One sample for all steps of the batch: only its rows, and those of the windows, are touched.
            drawn = torch.from_numpy(self._draw(batch)).to(self.device)
            rows, places = torch.unique(torch.cat([given.flatten(), target + 1, drawn + 1]), return_inverse=True)
            table = self.rows.take(rows)
            known = places[: given.numel()].view(given.shape)
            t = target.numel()
            at_target, at_drawn = places[given.numel() : given.numel() + t], places[given.numel() + t :]
        x = functional.embedding(known, table[:, :-1]) + self.places[: given.shape[1]]
        if moments.shape[2]:
            x = x + functional.embedding(moments, self.moments).sum(2)
        x = functional.dropout(x, self.config.input_dropout) if self.config.input_dropout else x
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            hidden = self.encoder(x)
        hidden = hidden[counted].float()
        if drawn is None:
            loss = full_softmax(hidden, table[1:, :-1], table[1:, -1], target, low=self.low)
        else:
            good, bad = table[at_target], table[at_drawn]
            expected = torch.from_numpy(np.log(self.odds * self.config.negatives)).float().to(self.device)[drawn]
            loss = sampled_softmax(
                (hidden * good[:, :-1]).sum(1) + good[:, -1],
                hidden @ bad[:, :-1].T + bad[:, -1],
                expected,
                target,
                drawn,
            )
        self.adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.encoder.parameters(), 1.0)
        self.adam.step()
        if self.rows is not None:
            self.rows.step(rate)
        return loss.detach(), int(target.numel())

    def _draw(self, batch: I64) -> I64:
        random = np.random.default_rng([self.task.seed, *map(int, batch[:2]), self.windows.epoch])
        places = np.searchsorted(self.cumulative, random.random(self.config.negatives), side="right")
        return np.minimum(places, self.n_items - 1).astype(np.int64)

    # ------------------------------------------------------------------------------------------------ keeping

    def state(self) -> dict[str, Any]:
        """Weights and what Adam remembers."""
        return {
            "encoder": self.encoder.state_dict(), "table": self.table.data, "places": self.places.data,
            "moments": self.moments.data, "adam": self.adam.state_dict(),
            "rows": {} if self.rows is None else self.rows.state(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.encoder.load_state_dict(state["encoder"])
        for name in ("table", "places", "moments"):
            getattr(self, name).data.copy_(state[name])
        self.adam.load_state_dict(state["adam"])
        if self.rows is not None:
            self.rows.restore(state["rows"])

    def parameters(self) -> int:
        """Numbers that are learnt."""
        every = (self.table, self.places, self.moments, *self.encoder.parameters())
        return sum(one.numel() for one in every)

    @torch.no_grad()
    def give(self, out: Path) -> None:
        """Tables, the graph, and what PyTorch says of a few histories."""
        self.to(torch.device("cpu"))
        self.encoder.eval()
        for name in ("table", "places", "moments"):
            np.save(out / f"{name}.npy", getattr(self, name).detach().numpy())
        write_encoder(self.encoder, out / "encoder.onnx")
        x = torch.randn(1, min(self.config.length, 7), self.config.d)
        np.save(out / "asked.npy", x.numpy())
        np.save(out / "said_of_asked.npy", self.encoder(x)[0, -1].numpy())
