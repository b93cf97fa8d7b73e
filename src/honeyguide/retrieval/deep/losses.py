"""Softmax losses over many items in PyTorch: whole in chunks, or over a sample with its odds taken back (logQ)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

__all__ = ["batch_softmax", "full_softmax", "sampled_softmax"]


_LINES = 64
"""Rows of logits at a time: they stay in the processor's own cache."""
_HELD = 8_000_000
"""Gradients of logits that are held at once, at most."""


class _Full(torch.autograd.Function):
    """Gradients are made with the loss, block by block: the logits of all rows are never held."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, bias: Tensor, target: Tensor, low: bool) -> Tensor:
        of = torch.bfloat16 if low else torch.float32
        h, w, b = hidden.to(of), table.to(of), bias.to(of)
        t, n = len(h), len(w)
        lines = _LINES if h.device.type == "cpu" else t
        block = max(lines, _HELD // n // lines * lines)
        total = torch.zeros((), device=h.device)
        dh = torch.empty_like(h)
        dw, db = torch.zeros_like(table, dtype=torch.float32), torch.zeros_like(bias, dtype=torch.float32)
        held = torch.empty((min(block, t), n), device=h.device, dtype=of)
        minus = torch.full((lines, 1), -1.0, device=h.device, dtype=torch.float32)
        for start in range(0, t, block):
            end = min(start + block, t)
            for first in range(start, end, lines):
                last = min(first + lines, end)
                wanted = target[first:last, None]
                p = torch.softmax(torch.addmm(b, h[first:last], w.T), 1, dtype=torch.float32)
                total -= torch.log(p.gather(1, wanted) + 1e-30).sum()
                p.scatter_add_(1, wanted, minus[: last - first])
                db += p.sum(0)
                held[first - start : last - start] = p
            part = held[: end - start]
            torch.mm(part, w, out=dh[start:end])
            dw += part.T @ h[start:end]
        scale = 1.0 / max(t, 1)
        ctx.save_for_backward(dh.to(hidden.dtype) * scale, dw * scale, db * scale)
        return total * scale

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        dh, dw, db = ctx.saved_tensors
        return dh * grads[0], dw * grads[0], db * grads[0], None, None


def full_softmax(hidden: Tensor, table: Tensor, bias: Tensor, target: Tensor, *, low: bool) -> Tensor:
    """Mean of -log softmax(hidden @ table.T + bias)[target]: (t, d), (n, d), (n,), (t,) -> (). low: bf16 products."""
    return _Full.apply(hidden, table, bias, target, low)  # type: ignore[no-any-return, no-untyped-call]


def sampled_softmax(positive: Tensor, negative: Tensor, log_expected: Tensor, target: Tensor, drawn: Tensor) -> Tensor:
    """Mean of -log of the softmax share of each row's own item, the others standing for all (Bengio, Senecal 2008).

    positive: (t,) logits of the wanted items. negative: (t, s) logits of drawn ones, of which item j is expected
    exp(log_expected) times in the sample: taking that from the logit makes the sum an unbiased one over all items.
    A drawn item that is the wanted one does not count against it.
    """
    logits = negative - log_expected
    logits = logits.masked_fill(drawn[None, :] == target[:, None], -torch.inf)
    return (torch.logsumexp(torch.cat([positive[:, None], logits], 1), 1) - positive).mean()


class _Batch(torch.autograd.Function):
    """Gradients are made with the loss, in place."""

    @staticmethod
    def forward(
        ctx: Any, question: Tensor, items: Tensor, addend: Tensor, temperature: float, rows: Tensor, columns: Tensor
    ) -> Tensor:
        n = len(question)
        p = torch.addmm(addend, question, items.T, alpha=1.0 / temperature)
        p[rows, columns] = -torch.inf
        p = torch.softmax(p, 1)
        own = p.diagonal()
        loss = -torch.log(own + 1e-30).mean()
        own -= 1.0
        scale = 1.0 / (n * temperature)
        ctx.save_for_backward((p @ items).mul_(scale), (p.T @ question).mul_(scale))
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        to_question, to_items = ctx.saved_tensors
        return to_question * grads[0], to_items * grads[0], None, None, None, None


def batch_softmax(
    question: Tensor, items: Tensor, addend: Tensor, temperature: float, again: Sequence[Tensor]
) -> Tensor:
    """Mean of -log softmax over the batch's items, of which row i wants item i: (n, d), (m >= n, d), (m,) -> ().

    addend: to the logits of each column; with that of the logarithm of the odds to be drawn, taken from it, the softmax
    stands for that over all items (Yi et al. 2019, eq. 3).
    again: rows and columns at which a row's own item stands once more, which do not count.
    """
    return _Batch.apply(  # type: ignore[no-any-return, no-untyped-call]
        question, items, addend, temperature, again[0], again[1]
    )
