"""A causal transformer in PyTorch. Imported by the process that trains, and by nothing else."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Block", "Encoder"]


class Block(nn.Module):
    """Attention to what came before, then two layers; each after a normalisation and added to its input."""

    def __init__(self, d: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.wide, self.narrow = nn.Linear(d, inner), nn.Linear(inner, d)
        for linear in (self.qkv, self.out, self.wide, self.narrow):
            nn.init.normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, l, d) -> (n, l, d)."""
        n, steps, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, steps, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self._drop(self.out(self._attend(q, k, v).transpose(1, 2).reshape(n, steps, d)))
        return x + self._drop(self.narrow(functional.gelu(self.wide(self.norm2(x)))))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(n, heads, l, d / heads) each. In plain products on a CPU, where the fused kernel's way back is slow."""
        if q.device.type != "cpu":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        scores = q @ k.transpose(2, 3) * q.shape[3] ** -0.5
        future = torch.full((q.shape[2], q.shape[2]), -torch.inf, dtype=scores.dtype).triu(1)
        return torch.softmax(scores + future, 3, dtype=scores.dtype) @ v

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class Encoder(nn.Module):
    """Blocks and a last normalisation."""

    def __init__(self, d: int, layers: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(d, heads, inner, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(d)

    def forward(self, x: Tensor) -> Tensor:
        """(n, l, d) -> (n, l, d); place t has seen places 0 to t."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)  # type: ignore[no-any-return]
