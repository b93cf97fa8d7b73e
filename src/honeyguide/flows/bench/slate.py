"""`bench slate`: guardrails at full size, kinds of diversity against brute force, and what a list costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, F64, CatalogView, Ragged
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.kernels.exposure import discounts, shown_under, solve_exposure
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.compose import Composer, SlateConfig
from honeyguide.slate.diversify import unit_rows
from honeyguide.slate.moment import Moment

__all__ = ["run"]

REQUESTS, CANDIDATES, SLOTS = 10_000, 100, 10
CASES = 1_000
WEIGHTS = {"mmr": "mmr_lambda", "dpp": "dpp_theta", "calibrated": "calibration_lambda"}
_LABELS = 4
_NEAR = 1e-5  # float32 cosines may part what is equal


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows; nothing is read, all is drawn with a seed."""
    rows = [*_guardrails(), *(made for kind in WEIGHTS for made in _against_loops(kind))]
    return [*rows, *(_cost(kind) for kind in (*WEIGHTS, "none"))], []


def _guardrails() -> list[dict[str, Any]]:
    """Eight per cent of exposure to new sellers, hides three per cent below today's."""
    rng = np.random.default_rng(0)
    utility = rng.random((REQUESTS, CANDIDATES)) ** 2
    seller = np.broadcast_to(rng.random((1, CANDIDATES)) < 0.05, utility.shape).astype(np.float64)
    hide = np.clip(0.1 * utility + 0.05 * rng.random(utility.shape), 0.0, 1.0)
    amounts, discount = np.stack([seller, hide]), discounts(SLOTS, "log")
    free = shown_under(utility, utility, amounts, discount)
    today = free.amounts.sum(1) / free.exposure.sum()
    bounds, senses = np.array([0.08, 0.97 * today[1]]), np.array([1.0, -1.0])
    wall, cpu = [], []
    for _ in range(REPEATS):
        began = time.perf_counter(), time.process_time()
        found = solve_exposure(utility, amounts, bounds, senses, discount)
        wall.append(time.perf_counter() - began[0])
        cpu.append(time.process_time() - began[1])
    case = f"guardrails-{REQUESTS}x{CANDIDATES}"
    return [
        row("slate", case, "gap", "share", found.gap), row("slate", case, "wall_s", "s", float(np.median(wall))),
        row("slate", case, "cpu_s", "s", float(np.median(cpu))), row("slate", case, "rounds", "count", found.rounds),
    ]  # fmt: skip


class _Small:
    """A request of a few items, and what each list of them is worth."""

    def __init__(self, kind: str, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.kind, self.n = kind, int(rng.integers(3, 8))
        self.weight = float(rng.choice([0.3, 0.5, 0.8]))
        self.labels = [rng.choice(_LABELS, int(rng.integers(1, 3)), replace=False).tolist() for _ in range(self.n)]
        self.vectors = unit_rows(rng.normal(size=(self.n, 3)).astype(np.float32))
        self.blend = rng.permutation(self.n).astype(np.float64)
        self.history = rng.integers(0, self.n, 3).astype(np.int32)
        utility = 60.0 / (60.0 + np.argsort(np.argsort(-self.blend)))
        self.relevance: F64 = (utility - utility.min()) / (utility.max() - utility.min())
        self.target = _shares([self.labels[item] for item in self.history.tolist()])

    def gain(self, chosen: list[int], item: int) -> float:
        if self.kind == "mmr":
            return -max([0.0, *(float(self.vectors[item] @ self.vectors[other]) for other in chosen)])
        return self.of([*chosen, item]) - self.of(chosen) if self.kind == "dpp" else self.of([*chosen, item])

    def of(self, chosen: list[int]) -> float:
        """What a list as a whole is worth beside its relevance."""
        if self.kind == "dpp":
            v = self.vectors[chosen].astype(np.float64)
            gram = 0.999 * v @ v.T
            np.fill_diagonal(gram, 1.0)
            return float(np.linalg.slogdet(gram)[1])
        shares = _shares([self.labels[item] for item in chosen])
        there = self.target > 0
        p, q = self.target[there], shares[there]
        return -float((p * np.log(p / (0.99 * q + 0.01 * p))).sum())

    def step(self, chosen: list[int], item: int) -> float:
        return float(self.weight * self.relevance[item] + (1 - self.weight) * self.gain(chosen, item))

    def value(self, chosen: list[int]) -> float:
        return float(self.weight * self.relevance[chosen].sum() + (1 - self.weight) * self.of(chosen))

    def served(self, slots: int) -> list[int]:
        config = {"diversify": {"kind": self.kind, WEIGHTS[self.kind]: self.weight, "pool": self.n}}
        composer = Composer(SlateConfig.model_validate(config), {}, _catalog(self.labels), self.vectors)
        slate = composer.compose(
            np.arange(self.n, dtype=np.int32), scores=np.zeros((self.n, 0)), blend=self.blend, k=slots, request_id="x",
            moment=Moment(0, self.history, np.ones(len(self.history), np.float32)),
        )  # fmt: skip
        return [int(one) for one in slate.rows]


def _shares(labels: list[list[int]]) -> F64:
    total = np.zeros(_LABELS)
    for some in labels:
        total[some] += 1.0 / len(some)
    return total / max(len(labels), 1)


def _against_loops(kind: str) -> list[dict[str, Any]]:
    """Orders that are not those of a loop that looks at everything, and how near the best of all lists greedy comes."""
    wrong, near = 0, []
    for seed in range(CASES):
        case = _Small(kind, seed)
        found = case.served(case.n)
        for at, item in enumerate(found):
            left = [one for one in range(case.n) if one not in found[:at]]
            if case.step(found[:at], item) < max(case.step(found[:at], one) for one in left) - _NEAR:
                wrong += 1
                break
        if kind != "mmr" and seed % 5 == 0:
            values = [case.value(list(some)) for some in permutations(range(case.n), 3)]
            if max(values) > min(values):
                near.append((case.value(found[:3]) - min(values)) / (max(values) - min(values)))
    rows = [row("slate", f"{kind}-{CASES}", "mismatches", "count", wrong)]
    if near:
        rows.append(row("slate", f"{kind}-{CASES}", "share_of_best", "share", float(np.mean(near))))
    return rows


def _cost(kind: str) -> dict[str, Any]:
    """CPU of a whole list: 300 candidates, 64-dimensional vectors, 20 slots."""
    rng = np.random.default_rng(1)
    n = 300
    vectors: F32 = unit_rows(rng.normal(size=(n, 64)).astype(np.float32))
    catalog = _catalog([rng.choice(18, 2, replace=False).tolist() for _ in range(n)], 18)
    settings = {"kind": kind} | ({WEIGHTS[kind]: 0.8} if kind in WEIGHTS else {})
    composer = Composer(SlateConfig.model_validate({"diversify": settings}), {}, catalog, vectors)
    rows, blend, scores = np.arange(n, dtype=np.int32), rng.random(n), np.zeros((n, 0))
    moment = Moment(0, rng.integers(0, n, 100).astype(np.int32), np.ones(100, np.float32))

    def compose() -> None:
        composer.compose(rows, scores=scores, blend=blend, k=20, request_id="x", moment=moment)

    return row("slate", f"compose-{kind}", "cpu_us_p50", "us", _median_us(compose))


def _median_us(call: Callable[[], None], calls: int = 400) -> float:
    call()
    took = []
    for _ in range(calls):
        began = time.process_time_ns()
        call()
        took.append((time.process_time_ns() - began) / 1_000)
    return float(np.median(took))


def _catalog(labels: list[list[int]], names: int = _LABELS) -> CatalogView:
    n = len(labels)
    unknown = np.full(n, np.nan, np.float32)
    return CatalogView(
        Vocabulary(f"i{item}" for item in range(n)), [""] * n, [""] * n, Ragged.of(labels),
        [f"c{code}" for code in range(names)], Ragged.empty(n), [], np.full(n, -1, np.int32), [], unknown, unknown,
        np.ones(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip
