"""Row-wise Adagrad for tables of embeddings: one number of state a row, and only the rows of a batch are touched."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RowwiseAdagrad"]


class RowwiseAdagrad:
    """Each row's step is `rate` / sqrt(the sum of its gradients' mean squares so far).

    Tables must have sparse gradients. Source: Gupta et al. 2014, in the form of Naumov et al. 2019 (DLRM).
    """

    def __init__(self, tables: list[nn.Embedding], rate: float, eps: float = 1e-8) -> None:
        self._tables, self._rate, self._eps = tables, rate, eps
        self._sums = [torch.zeros(table.num_embeddings, device=table.weight.device) for table in tables]

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients there are, which are then dropped."""
        for table, sums in zip(self._tables, self._sums, strict=True):
            gradient = table.weight.grad
            if gradient is None:
                continue
            gradient = gradient.coalesce()
            rows, values = gradient.indices()[0], gradient.values().float()
            sums[rows] += values.square().mean(1)
            table.weight[rows] -= self._rate * values / (sums[rows].sqrt().unsqueeze(1) + self._eps)
            table.weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The sums of all tables."""
        return {"sums": [sums.cpu() for sums in self._sums]}

    def load_state_dict(self, state: dict[str, list[Tensor]]) -> None:
        """Go on where `state_dict` was taken."""
        for mine, theirs in zip(self._sums, state["sums"], strict=True):
            mine.copy_(theirs)
