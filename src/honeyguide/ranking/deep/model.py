"""The network in PyTorch. Imported by the process that trains, and by nothing else.

What belongs to the request (the person, the context, the history) is computed once for it, what belongs to the
candidate once for each; a first layer over both is the sum of a layer over each. Embeddings of items and people stay
outside: their vectors come in, so that the tables can be mapped into memory where it serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from honeyguide.ranking.deep.encode import AGES, RANKS, SIGNS

__all__ = ["Batch", "Network", "Normaliser", "Shape"]

POSITIONS = 64
"""Positions beyond the last have its addend; 0 is a position that is not known."""
_POSITION_DIM = 8
_LEVELS = {"shared": 1, "mmoe": 1, "ple": 2}


@dataclass(frozen=True)
class Shape:
    """All that decides the network's parameters."""

    kind: str
    dense: int
    gaps: tuple[int, ...]  # columns with an indicator of nan
    heads: int
    parents: tuple[int, ...]  # by head: the head it follows, -1 none
    cardinalities: tuple[int, ...]  # of the facts of the context
    item_dim: int
    user_dim: int
    context_dim: int
    attention_heads: int
    experts: int
    own_experts: int
    units: int
    tower: int
    dropout: float
    position: bool
    knots: int  # 0: standardised instead


@dataclass
class Batch:
    """What comes in: `n` candidates of `r` requests with histories of length `l`, and s seeds."""

    dense: Tensor  # (n, dense)
    item: Tensor  # (n, item_dim)
    history: Tensor  # (r, l, item_dim)
    age: Tensor  # (r, l, 2)
    sign: Tensor  # (r, l, SIGNS)
    mask: Tensor  # (r, l) 1 where there is an event
    user: Tensor  # (r, user_dim)
    context: Tensor  # (r, facts)
    seed: Tensor  # (r, item_dim + 1): the mean of the seeds, and whether there are any
    request: Tensor  # (n,)


class Normaliser(nn.Module):
    """Dense features to numbers of one scale; nan becomes 0, with an indicator of its own where it was seen.

    Standardised (and cut off at 5), or by quantiles: the share of knots below the value, linear between knots.
    """

    mean: Tensor
    inverse: Tensor
    knots: Tensor
    steps: Tensor
    gaps: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        knots, self.by_rank = max(shape.knots, 2), shape.knots > 0
        for name, value in {
            "mean": torch.zeros(shape.dense),
            "inverse": torch.ones(shape.dense),
            "knots": torch.zeros(shape.dense, knots - 1),
            "steps": torch.ones(shape.dense, knots - 1),
            "gaps": torch.tensor(shape.gaps, dtype=torch.int64),
        }.items():
            self.register_buffer(name, value)
        self.width = shape.dense + len(shape.gaps)

    def forward(self, dense: Tensor) -> Tensor:
        """(n, dense) -> (n, width)."""
        missing = torch.isnan(dense)
        known = torch.where(missing, self.mean, dense)
        if self.by_rank:
            # 3.5 (share - .5) has about the spread of a standard normal.
            share = ((known.unsqueeze(2) - self.knots) * self.steps).clamp(0.0, 1.0).mean(2)
            scaled = 3.5 * share - 1.75
        else:
            scaled = ((known - self.mean) * self.inverse).clamp(-5.0, 5.0)
        scaled = torch.where(missing, torch.zeros_like(scaled), scaled)
        if not len(self.gaps):
            return scaled
        return torch.cat([scaled, missing.index_select(1, self.gaps).to(scaled.dtype)], 1)


class Network(nn.Module):
    """Log-odds of every head for every candidate."""

    served: Tensor
    allowed: Tensor
    owner: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        d, facts, h = shape.item_dim, shape.context_dim * len(shape.cardinalities), shape.heads
        self.normalise = Normaliser(shape)
        self.ages, self.ranks = nn.Embedding(AGES, d), nn.Embedding(RANKS, d)
        self.signs = nn.Linear(SIGNS, d, bias=False)
        self.facts = nn.ModuleList(nn.Embedding(n, shape.context_dim) for n in shape.cardinalities)
        self.query, self.key, self.value = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.heed = nn.Parameter(torch.full((shape.attention_heads,), -1.0))  # log-odds of attending to an event at all
        own = h * shape.own_experts if shape.kind == "ple" else 0
        self.experts = 1 if shape.kind == "shared" else shape.experts
        self.total = self.experts + own
        units = shape.units * (shape.experts if shape.kind == "shared" else 1)
        self.units, self.levels = units, _LEVELS[shape.kind]
        self.width = self.normalise.width + 4 * d + shape.attention_heads
        self.of_candidate = nn.Linear(self.width, self.total * units)
        self.of_request = nn.Linear(shape.user_dim + facts + 2 * d + 1, self.total * units, bias=False)
        self.deeper = nn.Parameter(torch.empty(self.levels, self.total, units, units))
        self.deeper_bias = nn.Parameter(torch.zeros(self.levels, self.total, 1, units))
        self.gate_candidate = nn.Linear(self.width, h * self.total)
        self.gate_request = nn.Linear(shape.user_dim + facts + 2 * d + 1, h * self.total, bias=False)
        if self.levels > 1:
            self.gate_shared = nn.Linear(self.width, self.total)
            self.gate_next = nn.Parameter(torch.zeros(h, units, self.total))
        self.tower = nn.Parameter(torch.empty(h, units, shape.tower))
        self.tower_bias = nn.Parameter(torch.zeros(h, 1, shape.tower))
        self.out = nn.Parameter(torch.empty(h, shape.tower, 1))
        self.out_bias = nn.Parameter(torch.zeros(h, 1, 1))
        for weight in (self.deeper, self.tower, self.out):
            nn.init.normal_(weight, std=(2.0 / weight.shape[-2]) ** 0.5)
        for table in (self.ages, self.ranks):
            nn.init.normal_(table.weight, std=0.1)
        self.dropout = nn.Dropout(shape.dropout)
        if shape.position:
            self.positions = nn.Embedding(POSITIONS + 1, _POSITION_DIM)
            self.look = nn.Linear(_POSITION_DIM + facts, 16)
            self.look_out = nn.Linear(16, h)
            self.register_buffer("served", torch.zeros(POSITIONS + 1))  # the weights of positions where it serves
        # Which experts a head may weigh: all that are shared, and its own.
        allowed = torch.zeros(h, self.total)
        for head in range(h):
            for place in range(own):
                if place // shape.own_experts != head:
                    allowed[head, self.experts + place] = -1e9
        self.register_buffer("allowed", allowed)
        owner = [h] * self.experts + [place // shape.own_experts for place in range(own)]
        self.register_buffer("owner", torch.tensor(owner, dtype=torch.int64))

    # ------------------------------------------------------------------------------------------------ the request

    def _events(self, b: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Keys and values of a history (r, l, d), and the mean of its items (r, d)."""
        event = b.history + self.ages(b.age[..., 0]) + self.ranks(b.age[..., 1]) + self.signs(b.sign)
        weight = b.mask.unsqueeze(2)
        return self.key(event), self.value(event), (b.history * weight).sum(1) / (weight.sum(1) + 1.0)

    def _facts(self, context: Tensor) -> Tensor:
        parts = [table(context[:, column]) for column, table in enumerate(self.facts)]
        return torch.cat(parts, 1) if parts else context.new_zeros((context.shape[0], 0), dtype=torch.float32)

    def _of_request(self, b: Batch, facts: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        whole = torch.cat([b.user, facts, pooled, b.seed], 1)
        return self.of_request(whole), self.gate_request(whole)

    # ------------------------------------------------------------------------------------------------ the heads

    def _heads(self, candidate: Tensor, first: Tensor, gates: Tensor) -> Tensor:
        """Own log-odds of each head (n, heads), without chains. first, gates: (n or 1, ...) what the request adds."""
        n, h, x = candidate.shape[0], self.shape.heads, self.total
        layer = torch.relu(self.of_candidate(candidate) + first).view(n, x, self.units).transpose(0, 1)
        layer = self.dropout(layer)
        layer = torch.relu(torch.baddbmm(self.deeper_bias[0], layer, self.deeper[0]))
        gate = torch.softmax((self.gate_candidate(candidate) + gates).view(n, h, x) + self.allowed, -1)
        by_candidate = layer.transpose(0, 1)
        mixed = torch.bmm(gate, by_candidate).transpose(0, 1)  # (heads, n, units)
        if self.levels > 1:
            shared = torch.bmm(torch.softmax(self.gate_shared(candidate), -1).unsqueeze(1), by_candidate)
            level = torch.cat([mixed, shared.transpose(0, 1)], 0).index_select(0, self.owner)
            level = torch.relu(torch.baddbmm(self.deeper_bias[1], self.dropout(level), self.deeper[1]))
            gate = torch.softmax(torch.bmm(mixed, self.gate_next).transpose(0, 1) + self.allowed, -1)
            mixed = torch.bmm(gate, level.transpose(0, 1)).transpose(0, 1)
        mixed = self.dropout(mixed)
        tower = torch.relu(torch.baddbmm(self.tower_bias, mixed, self.tower))
        return torch.baddbmm(self.out_bias, tower, self.out).squeeze(2).transpose(0, 1)

    def _chained(self, own: Tensor) -> Tensor:
        """Log-odds of outcomes (n, heads): that of a head that follows another is p(the other) x p(this | the other).

        Source: Ma et al. 2018 (ESMM), in logarithms.
        """
        if all(parent < 0 for parent in self.shape.parents):
            return own
        log_p: dict[int, Tensor] = {}

        def of(head: int) -> Tensor:
            if head not in log_p:
                parent = self.shape.parents[head]
                mine = functional.logsigmoid(own[:, head])
                log_p[head] = mine if parent < 0 else mine + of(parent)
            return log_p[head]

        columns = []
        for head, parent in enumerate(self.shape.parents):
            if parent < 0:
                columns.append(own[:, head])
                continue
            log = of(head).clamp(max=-1e-6)
            columns.append(log - torch.log(1.0 - torch.exp(log)))
        return torch.stack(columns, 1)

    def _addend(self, facts: Tensor, position: Tensor) -> Tensor:
        """What a position adds to the log-odds: (n, facts), (n,) -> (n, heads)."""
        hidden = torch.relu(self.look(torch.cat([self.positions(position), facts], 1)))
        return self.look_out(hidden)

    def _served_addend(self, facts: Tensor) -> Tensor:
        """The addend where it serves, whatever the position will be: (r, facts) -> (r, heads)."""
        r, p = facts.shape[0], POSITIONS + 1
        every = torch.cat(
            [self.positions.weight.unsqueeze(0).expand(r, p, -1), facts.unsqueeze(1).expand(r, p, facts.shape[1])], 2
        )
        return (self.look_out(torch.relu(self.look(every))) * self.served.view(1, p, 1)).sum(1)

    # ------------------------------------------------------------------------------------------------ all of it

    def forward(self, b: Batch, position: Tensor | None = None) -> Tensor:
        """Log-odds (n, heads); position: (n,) where the candidates stood, None: as it serves."""
        d, a = self.shape.item_dim, self.shape.attention_heads
        keys, values, pooled = self._events(b)
        r, slots = keys.shape[0], keys.shape[1]
        facts = self._facts(b.context)
        first, gates = self._of_request(b, facts, pooled)
        n = b.item.shape[0]
        query = self.query(b.item).view(n, a, 1, d // a)
        keys = keys.view(r, slots, a, d // a).permute(0, 2, 3, 1)
        values = values.view(r, slots, a, d // a).transpose(1, 2)
        score = torch.matmul(query, keys.index_select(0, b.request)).squeeze(2) * (d // a) ** -0.5
        weight = torch.sigmoid(score + self.heed.view(1, a, 1)) * b.mask.index_select(0, b.request).unsqueeze(1)
        mass = weight.sum(2)
        attended = torch.matmul(weight.unsqueeze(2), values.index_select(0, b.request)).squeeze(2)
        attended = (attended / (1.0 + mass).unsqueeze(2)).reshape(n, d)
        of_pooled = pooled.index_select(0, b.request)
        candidate = self._candidate(b, attended, mass, of_pooled)
        own = self._heads(candidate, first.index_select(0, b.request), gates.index_select(0, b.request))
        if self.shape.position:
            if position is None:
                own = own + self._served_addend(facts).index_select(0, b.request)
            else:
                own = own + self._addend(facts.index_select(0, b.request), position)
        return self._chained(own)

    def one(self, b: Batch) -> Tensor:
        """The same for one request with an unpadded history: matrix products instead of gathers."""
        d, a = self.shape.item_dim, self.shape.attention_heads
        keys, values, pooled = self._events(b)
        facts = self._facts(b.context)
        first, gates = self._of_request(b, facts, pooled)
        n = b.item.shape[0]
        query = self.query(b.item).view(n, a, d // a).transpose(0, 1)
        keys, values = (one.view(-1, a, d // a).transpose(0, 1) for one in (keys[0], values[0]))
        score = torch.bmm(query, keys.transpose(1, 2)) * (d // a) ** -0.5
        weight = torch.sigmoid(score + self.heed.view(a, 1, 1)) * b.mask.unsqueeze(1)
        mass = weight.sum(2)
        attended = (torch.bmm(weight, values) / (1.0 + mass).unsqueeze(2)).transpose(0, 1).reshape(n, d)
        own = self._heads(self._candidate(b, attended, mass.transpose(0, 1), pooled), first, gates)
        if self.shape.position:
            own = own + self._served_addend(facts)
        return self._chained(own)

    def _candidate(self, b: Batch, attended: Tensor, mass: Tensor, pooled: Tensor) -> Tensor:
        crossed = b.item * attended, b.item * pooled
        return torch.cat([self.normalise(b.dense), b.item, attended, *crossed, torch.log1p(mass)], 1)


class Graph(nn.Module):
    """The network with plain tensors as arguments, as it is exported; `single`: for one request."""

    def __init__(self, network: Network, single: bool) -> None:
        super().__init__()
        self.network, self.single = network, single

    def forward(self, *tensors: Any) -> Tensor:
        """Tensors in the order of `Batch`; one for a single request goes without `request`."""
        if self.single:
            dense, item, history, age, sign, mask, user, context, seed = tensors
            return self.network.one(Batch(dense, item, history, age, sign, mask, user, context, seed, age))
        return self.network(Batch(*tensors))
