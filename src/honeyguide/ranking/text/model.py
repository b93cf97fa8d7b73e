"""A BERT encoder, small enough to read: the same names as published checkpoints, so that their weights load."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Bert", "BiEncoder", "CrossEncoder", "read_safetensors"]


class Block(nn.Module):
    """Attention and a feed-forward net, each with a residual and a norm after it (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, inner: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out, self.attention_norm = nn.Linear(width, width), nn.LayerNorm(width, epsilon)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, epsilon)

    def forward(self, x: Tensor, barred: Tensor) -> Tensor:
        """x: (b, s, width); barred: (b, 1, 1, s), added to the logits."""
        b, s, width = x.shape

        def split(y: Tensor) -> Tensor:
            return y.view(b, s, self.heads, width // self.heads).transpose(1, 2)

        q, k, v = split(self.query(x)), split(self.key(x)), split(self.value(x))
        weight = torch.softmax(q @ k.transpose(-1, -2) / (width // self.heads) ** 0.5 + barred, dim=-1)
        mixed = (weight @ v).transpose(1, 2).reshape(b, s, width)
        x = self.attention_norm(x + self.out(mixed))
        return self.norm(x + self.down(functional.gelu(self.up(x))))


class Bert(nn.Module):
    """Tokens to vectors."""

    def __init__(
        self, vocabulary: int, width: int, layers: int, heads: int, positions: int = 512, epsilon: float = 1e-12
    ) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(positions, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, epsilon)
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width, epsilon) for _ in range(layers))
        for table in (self.words, self.places, self.kinds):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> Tensor:
        """(b, s) each -> (b, s, width)."""
        place = torch.arange(ids.shape[1], device=ids.device)
        x = self.norm(self.words(ids) + self.places(place)[None] + self.kinds(kinds))
        barred = (1.0 - mask[:, None, None, :].to(x.dtype)) * -1e4
        for block in self.blocks:
            x = block(x, barred)
        return x

    def load_published(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Take the weights of a published BERT checkpoint of the same sizes."""
        names = {
            "words": "embeddings.word_embeddings", "places": "embeddings.position_embeddings",
            "kinds": "embeddings.token_type_embeddings", "norm": "embeddings.LayerNorm",
        }  # fmt: skip
        inside = {
            "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
            "out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm",
            "up": "intermediate.dense", "down": "output.dense", "norm": "output.LayerNorm",
        }  # fmt: skip
        state = {}
        for name in self.state_dict():
            part, _, leaf = name.rpartition(".")
            if part.startswith("blocks."):
                _, at, layer = part.split(".")
                theirs = f"encoder.layer.{at}.{inside[layer]}.{leaf}"
            else:
                theirs = f"{names[part]}.{leaf}"
            state[name] = torch.from_numpy(np.array(tensors[theirs]))
        self.load_state_dict(state)


def pooled(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of the tokens that are there, (b, width)."""
    weight = mask[:, :, None].to(x.dtype)
    return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


class BiEncoder(nn.Module):
    """Texts to unit vectors; queries and items by the same weights."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(b, s) token numbers and mask -> (b, width)."""
        return functional.normalize(pooled(self.bert(ids, mask, torch.zeros_like(ids)), mask), dim=-1)


class CrossEncoder(nn.Module):
    """A query and an item read together -> how well it answers."""

    def __init__(self, bert: Bert) -> None:
        super().__init__()
        self.bert = bert
        self.head = nn.Linear(bert.words.embedding_dim, 1)

    def forward(self, ids: Tensor, mask: Tensor, kinds: Tensor) -> Tensor:
        """(b, s) -> (b,)."""
        return self.head(pooled(self.bert(ids, mask, kinds), mask))[:, 0]


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a safetensors file: a JSON header and raw bytes, nothing that runs."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    kinds = {"F32": np.float32, "I64": np.int64, "F16": np.float16}
    return {
        name: np.frombuffer(raw[8 + size :][slice(*told["data_offsets"])], kinds[told["dtype"]]).reshape(told["shape"])
        for name, told in header.items()
        if name != "__metadata__"
    }
