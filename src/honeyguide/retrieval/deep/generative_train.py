"""How spelling learns, in PyTorch. Imported by the process that trains, and by nothing else.

The encoder reads the history item by item; the speller, a small transformer over the codes of one id, says the next
code from what was read and the codes so far (Lee et al. 2022). Every step of a history is a lesson for both.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.contracts import I64
from honeyguide.retrieval.deep.blocks import Encoder
from honeyguide.retrieval.deep.config import GenerativeConfig
from honeyguide.retrieval.deep.graph import write_encoder, write_speller
from honeyguide.retrieval.deep.loop import low_precision
from honeyguide.retrieval.deep.task import Task
from honeyguide.retrieval.deep.windows import Windows

__all__ = ["GenerativeLearner"]

_SPREAD = 0.02


class GenerativeLearner:
    """Encoder and speller on their way."""

    def __init__(self, task: Task, config: GenerativeConfig, device: torch.device) -> None:
        self.task, self.config, self.device = task, config, device
        self.windows = Windows(task.arrays, config.length, config.batch, task.seed, task.facts["facts_from"])
        self.low = low_precision(config, device)
        d = config.d
        self.ids = torch.from_numpy(np.maximum(np.array(task.arrays["ids"]), 0).astype(np.int64)).to(device)
        self.sizes = [int(size) for size in task.facts["sizes"]]
        start = np.array(task.arrays["start"])  # (items, d)
        random = np.random.default_rng(task.seed)
        table = np.concatenate([np.zeros((1, d), np.float32), start]) + random.normal(
            scale=_SPREAD / 4, size=(len(start) + 1, d)
        )
        self.inputs = nn.Parameter(torch.from_numpy(table.astype(np.float32)))
        self.places = nn.Parameter(torch.randn(config.length, d) * _SPREAD)
        self.moments = nn.Parameter(torch.randn(int(task.facts["moments"]), d) * _SPREAD)
        with torch.no_grad():
            self.moments[0] = 0.0
        self.encoder = Encoder(d, config.layers, config.heads, config.inner, config.dropout)
        self.speller = Encoder(d, config.depth_layers, config.heads, config.inner, config.dropout)
        # What a code says when it was spelt, and what it is compared with; of the last level nothing follows.
        self.spelt = nn.ParameterList([nn.Parameter(torch.randn(size, d) * _SPREAD) for size in self.sizes[:-1]])
        self.said = nn.ParameterList([nn.Parameter(torch.randn(size, d) * _SPREAD) for size in self.sizes])
        self.depth = nn.Parameter(torch.randn(len(self.sizes), d) * _SPREAD)
        self.modules = nn.ModuleDict(
            {"encoder": self.encoder, "speller": self.speller, "spelt": self.spelt, "said": self.said}
        )
        self.to(device)
        every = [*self._loose(), *self.modules.parameters()]
        self.adam = torch.optim.AdamW(
            every, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay,
            fused=device.type == "cpu",
        )  # fmt: skip

    def _loose(self) -> list[nn.Parameter]:
        return [self.inputs, self.places, self.moments, self.depth]

    def to(self, device: torch.device) -> None:
        """Move what is learnt."""
        self.modules.to(device)
        for one in self._loose():
            one.data = one.data.to(device)

    # ------------------------------------------------------------------------------------------------ a step

    def batches(self, epoch: int) -> list[I64]:
        """Windows of about one length together."""
        return self.windows.batches(epoch)

    def step(self, batch: Any, rate: float, progress: float) -> tuple[Tensor, int]:
        """One step of Adam."""
        self.modules.train()
        for group in self.adam.param_groups:
            group["lr"] = self.config.learning_rate * rate
        given, wanted, moments = (torch.from_numpy(one).to(self.device) for one in self.windows.read(batch))
        counted = wanted >= 0
        x = functional.embedding(given, self.inputs) + self.places[: given.shape[1]]
        if moments.shape[2]:
            x = x + functional.embedding(moments, self.moments).sum(2)
        x = functional.dropout(x, self.config.input_dropout) if self.config.input_dropout else x
        codes = self.ids[wanted[counted]]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
            hidden = self.encoder(x)[counted]
            spoken = self.speller(self._spelling(hidden.float(), codes))
        loss = torch.zeros((), device=self.device)
        for level, said in enumerate(self.said):
            loss = loss + functional.cross_entropy(spoken[:, level].float() @ said.T, codes[:, level])
        self.adam.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.modules.parameters(), 1.0)
        self.adam.step()
        return loss.detach(), int(codes.shape[0])

    def _spelling(self, hidden: Tensor, codes: Tensor) -> Tensor:
        """(t, levels, d): what was read, then the codes but the last."""
        steps = [hidden, *(functional.embedding(codes[:, level], spelt) for level, spelt in enumerate(self.spelt))]
        return torch.stack(steps, 1) + self.depth

    # ------------------------------------------------------------------------------------------------ keeping

    def state(self) -> dict[str, Any]:
        """Weights and what Adam remembers."""
        loose = [one.data for one in self._loose()]
        return {"modules": self.modules.state_dict(), "loose": loose, "adam": self.adam.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.modules.load_state_dict(state["modules"])
        for mine, theirs in zip(self._loose(), state["loose"], strict=True):
            mine.data.copy_(theirs)
        self.adam.load_state_dict(state["adam"])

    def parameters(self) -> int:
        """Numbers that are learnt."""
        return sum(one.numel() for one in (*self._loose(), *self.modules.parameters()))

    @torch.no_grad()
    def give(self, out: Path) -> None:
        """Tables, both graphs, and what PyTorch says of a few questions."""
        self.to(torch.device("cpu"))
        self.modules.eval()
        for name in ("inputs", "places", "moments", "depth"):
            np.save(out / f"{name}.npy", getattr(self, name).detach().numpy())
        for kind, tables in (("spelt", self.spelt), ("said", self.said)):
            np.save(out / f"{kind}.npy", np.concatenate([one.detach().numpy() for one in tables]))
        write_encoder(self.encoder, out / "encoder.onnx")
        write_speller(self.speller, out / "speller.onnx")
        x = torch.randn(1, min(self.config.length, 7), self.config.d)
        np.save(out / "asked.npy", x.numpy())
        np.save(out / "said_of_asked.npy", self.encoder(x)[0, -1].numpy())
        steps = torch.randn(3, len(self.sizes), self.config.d)
        np.save(out / "spelling.npy", steps.numpy())
        np.save(out / "spoken.npy", self.speller(steps).numpy())
