"""Laws that everything that composes slates keeps; above all, that the logged propensities are true.

`problems = check_slates(my_compose, n_items=50, n_heads=2)` is empty if it is sound.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

import numpy as np

from honeyguide.contracts import F64, I32, BoolArray

__all__ = ["Compose", "SlateLike", "check_slates"]


class SlateLike(Protocol):
    """A list as shown, first slot first."""

    @property
    def rows(self) -> I32:
        """Item rows, (m,)."""
        ...

    @property
    def propensity(self) -> F64:
        """Of each slot given the slots before, (m,)."""
        ...

    @property
    def list_propensity(self) -> float:
        """Their product."""
        ...

    @property
    def pinned(self) -> BoolArray:
        """Whether a rule fixed the slot, (m,)."""
        ...


class Compose(Protocol):
    """One request's slate."""

    def __call__(self, rows: I32, *, scores: F64, blend: F64, k: int, request_id: str, seen: I32) -> SlateLike:
        """rows (n,), scores (n, heads) in [0, 1], blend (n,); at most k slots, without the rows in `seen`."""
        ...


def check_slates(
    compose: Compose, *, n_items: int, n_heads: int, k: int = 8, requests: int = 30, draws: int = 2_000, seed: int = 0
) -> list[str]:
    """What it does that nothing that composes slates may do; empty if nothing."""
    problems: list[str] = []
    rng = np.random.default_rng(seed)
    for number in range(requests):
        n = int(rng.integers(0, min(n_items, 40) + 1))
        rows = rng.choice(n_items, n, replace=False).astype(np.int32)
        scores, blend = rng.random((n, n_heads)), rng.random(n)
        seen = rng.choice(n_items, min(5, n_items), replace=False).astype(np.int32)
        request_id = f"request-{number}"
        slate = compose(rows, scores=scores, blend=blend, k=k, request_id=request_id, seen=seen)
        for text in _broken(slate, rows, seen, k):
            problems.append(f"request {number}: {text}")
        order = rng.permutation(n)
        again = compose(rows[order], scores=scores[order], blend=blend[order], k=k, request_id=request_id, seen=seen)
        if not _equal(slate, again):
            problems.append(f"request {number}: the same request with permuted candidates must get the same slate")
        pads = np.full(3, -1, np.int32)
        padded = compose(
            np.concatenate([rows, pads]),
            scores=np.concatenate([scores, np.full((3, n_heads), np.nan)]),
            blend=np.concatenate([blend, np.full(3, np.nan)]),
            k=k,
            request_id=request_id,
            seen=seen,
        )
        if not _equal(slate, padded):
            problems.append(f"request {number}: padding with -1 must not change the slate")
    return problems + _frequencies(compose, n_items, n_heads, k, draws, rng)


def _broken(slate: SlateLike, rows: I32, seen: I32, k: int) -> list[str]:
    found: list[str] = []
    free = slate.rows[~slate.pinned]
    if len(slate.rows) > k:
        found.append(f"{len(slate.rows)} slots where {k} were asked for")
    if len(np.unique(slate.rows)) < len(slate.rows):
        found.append("an item stands twice")
    if not np.isin(free, rows).all():
        found.append("an item that was no candidate")
    if np.isin(slate.rows, seen).any():
        found.append("an item that was to be hidden")
    if not ((slate.propensity > 0) & (slate.propensity <= 1 + 1e-12)).all():
        found.append("a propensity outside (0, 1]")
    if not (slate.propensity[slate.pinned] == 1).all():
        found.append("a pin with another propensity than 1")
    if not np.isclose(slate.list_propensity, np.prod(slate.propensity), rtol=1e-9):
        found.append("a list propensity that is not the product of its slots'")
    return found


def _frequencies(
    compose: Compose, n_items: int, n_heads: int, k: int, draws: int, rng: np.random.Generator
) -> list[str]:
    """Whether the first two slots are filled as often as their propensities say, over many request ids."""
    n = min(n_items, 12)
    rows = np.arange(n, dtype=np.int32)
    scores, blend, seen = rng.random((n, n_heads)), rng.random(n), np.zeros(0, np.int32)
    said: dict[tuple[int, ...], float] = {}
    count: Counter[tuple[int, ...]] = Counter()
    for draw in range(draws):
        slate = compose(rows, scores=scores, blend=blend, k=k, request_id=f"draw-{draw}", seen=seen)
        for depth in (1, 2):
            start = tuple(int(row) for row in slate.rows[:depth])
            if len(start) == depth:
                propensity = float(np.prod(slate.propensity[:depth]))
                if not np.isclose(said.setdefault(start, propensity), propensity, rtol=1e-9):
                    return [f"the list {start} has propensity {said[start]} once and {propensity} another time"]
                count[start] += 1
    problems = []
    for start, propensity in said.items():
        deviation = abs(count[start] - draws * propensity)
        if deviation > 5 * np.sqrt(draws * propensity * (1 - propensity)) + 3:
            problems.append(f"{count[start]} of {draws} lists start with {start}; the propensity says {propensity:.4f}")
    total = sum(propensity for start, propensity in said.items() if len(start) == 1)
    if total > 1 + 1e-9:
        problems.append(f"the propensities of the first slot sum to {total}, over 1")
    return problems


def _equal(a: SlateLike, b: SlateLike) -> bool:
    return bool(np.array_equal(a.rows, b.rows) and np.allclose(a.propensity, b.propensity, rtol=0, atol=1e-12))
