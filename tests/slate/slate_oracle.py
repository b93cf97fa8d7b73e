"""The slate by plain loops, from the documents: every list there can be, with its probability."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from honeyguide.contracts import CatalogView, Ragged
from honeyguide.schema.vocabulary import Vocabulary


def catalog(
    n: int,
    categories: list[list[int]] | None = None,
    n_categories: int = 0,
    *,
    year: list[float] | None = None,
    price: list[float] | None = None,
    available: list[bool] | None = None,
    country: list[int] | None = None,
    people: list[list[int]] | None = None,
) -> CatalogView:
    """A catalog of items "0", "1", ... with categories "c0", ..., people "p0", ..., countries "k0", ..."""
    return CatalogView(
        items=Vocabulary(str(i) for i in range(n)),
        title=[""] * n,
        description=[""] * n,
        category=Ragged.of(categories) if categories else Ragged.empty(n),
        category_names=[f"c{i}" for i in range(n_categories)],
        people=Ragged.of(people) if people else Ragged.empty(n),
        people_names=["p0", "p1", "p2"],
        country=np.array(country or [-1] * n, np.int32),
        country_names=["k0", "k1"],
        year=np.array(year or [np.nan] * n, np.float32),
        price=np.array(price or [np.nan] * n, np.float32),
        available=np.array(available if available is not None else [True] * n),
        known_at=np.zeros(n, np.int64),
    )


def reciprocal_ranks(values: list[float], constant: float) -> list[float]:
    return [
        float("nan") if v != v else constant / (constant + sum(other > v for other in values if other == other))
        for v in values
    ]


@dataclass
class Plan:
    """What is left after the rules, in the diversity's order, and how slots are filled from it."""

    order: list[int]  # rows
    relevance: dict[int, float]
    pins: dict[int, int]  # slot (from 0) -> row
    categories: dict[int, list[int]]
    cap: int | None
    cap_first: int
    epsilon: float
    pool: int
    floor: float
    first_slot: int
    slots: int
    exempt: set[int] = field(default_factory=set)

    def lists(self) -> dict[tuple[int, ...], tuple[float, list[float]]]:
        """Every list -> its probability and that of each slot."""
        found: dict[tuple[int, ...], tuple[float, list[float]]] = {}
        self._grow(0, (), [], found)
        return found

    def _fits(self, row: int, shown: tuple[int, ...]) -> bool:
        if self.cap is None or len(shown) >= self.cap_first:
            return True
        counted = [r for r in shown if r not in self.pins.values()]
        counted += [r for slot, r in self.pins.items() if slot < self.cap_first]
        return all(
            sum(category in self.categories.get(r, []) for r in counted) < self.cap
            for category in self.categories.get(row, [])
            if category not in self.exempt
        )

    def _grow(self, slot: int, shown: tuple[int, ...], steps: list[float], found: dict) -> None:
        if slot == self.slots:
            assert shown not in found
            found[shown] = (float(np.prod(steps)) if steps else 1.0, steps)
            return
        if slot in self.pins:
            self._grow(slot + 1, (*shown, self.pins[slot]), [*steps, 1.0], found)
            return
        left = [row for row in self.order if row not in shown and self._fits(row, shown)]
        if not left:
            self._grow(slot + 1, shown, steps, found)
            return
        pool = [row for row in left if self.relevance[row] >= self.floor][: self.pool]
        epsilon = self.epsilon if pool and len(shown) + 1 >= self.first_slot else 0.0
        for row in left:
            p = (1 - epsilon) * (row == left[0]) + (epsilon * (row in pool) / len(pool) if pool else 0.0)
            if p > 0:
                self._grow(slot + 1, (*shown, row), [*steps, p], found)


def mmr(
    order: list[int], relevance: dict[int, float], vectors: np.ndarray, weight: float, pool: int, steps: int,
    fits, chosen_before: list[int],
) -> list[int]:  # fmt: skip
    """Greedy maximal marginal relevance by definition: look at everything at every step."""
    candidates = [row for row in order if relevance[row] >= 0][:pool]
    chosen: list[int] = []
    while len(chosen) < steps:
        open_ = [row for row in candidates if row not in chosen and fits(row, chosen)]
        if not open_:
            break

        def worth(row: int) -> float:
            near = [float(vectors[row] @ vectors[other]) for other in chosen_before + chosen]
            return weight * relevance[row] - (1 - weight) * max([0.0, *near])

        chosen.append(max(open_, key=lambda row: (worth(row), -order.index(row))))
    return chosen + [row for row in order if row not in chosen]
