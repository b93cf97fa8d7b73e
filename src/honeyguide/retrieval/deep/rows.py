"""Adam over the rows of a large table that a step touches, and no others. Imported by the process that trains."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["RowAdam"]

_FIRST, _SECOND, _EPS = 0.9, 0.99, 1e-8


class RowAdam:
    """`take` the rows of a step, let the loss flow back to them, then `step`. Means of rows that rest do not fade."""

    def __init__(self, table: nn.Parameter, rate: float) -> None:
        self._table, self._rate = table, rate
        self._mean = torch.zeros_like(table.data)
        self._square = torch.zeros_like(table.data)
        self._times = torch.zeros(len(table), device=table.device)
        self._rows: Tensor | None = None
        self._taken: Tensor | None = None

    def take(self, rows: Tensor) -> Tensor:
        """(r, d) of distinct rows, to compute with."""
        self._rows = rows
        self._taken = self._table.data[rows].requires_grad_()
        return self._taken

    @torch.no_grad()
    def step(self, share: float) -> None:
        """One step with so much of the rate, along the gradient of what was taken."""
        rows, taken = self._rows, self._taken
        if rows is None or taken is None or taken.grad is None:
            return
        gradient = taken.grad
        self._times[rows] += 1
        times = self._times[rows].unsqueeze(1)
        mean = self._mean[rows].lerp(gradient, 1.0 - _FIRST)
        square = self._square[rows].lerp(gradient.square(), 1.0 - _SECOND)
        self._mean[rows], self._square[rows] = mean, square
        sure = (square / (1.0 - _SECOND**times)).sqrt() + _EPS
        self._table.data[rows] -= self._rate * share * mean / (1.0 - _FIRST**times) / sure
        self._rows = self._taken = None

    def state(self) -> dict[str, Any]:
        """What it remembers."""
        return {"mean": self._mean, "square": self._square, "times": self._times}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        for name in ("mean", "square", "times"):
            getattr(self, f"_{name}").copy_(state[name])
