"""Judgments of query and item: what raters agree on, how rankers fare by them, which queries to judge next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from honeyguide.contracts import F64
from honeyguide.kernels.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha
from honeyguide.kernels.hashing import hash64

__all__ = ["GRADES", "Judgment", "agreement", "compared", "consensus", "disagreement", "newest", "sampled"]

GRADES = {0: "not at all", 1: "related", 2: "good", 3: "as well as can be"}
DRAWS = 2_000


@dataclass(frozen=True, slots=True)
class Judgment:
    """One rater's word on one item for one query."""

    query: str
    item_id: str
    grade: int
    rater: str
    judged_at: int  # microseconds, UTC
    language: str | None = None

    @property
    def pair(self) -> tuple[str, str]:
        """What was judged."""
        return self.query, self.item_id


def newest(judgments: Sequence[Judgment]) -> list[Judgment]:
    """A rater's newest word on each pair (of the same moment the later in order), sorted by query, item and rater."""
    found: dict[tuple[str, str, str], Judgment] = {}
    for one in sorted(judgments, key=lambda one: one.judged_at):
        found[one.query, one.item_id, one.rater] = one
    return [found[key] for key in sorted(found)]


def consensus(judgments: Sequence[Judgment]) -> dict[str, dict[str, int]]:
    """query -> item -> the median of its grades, the lower of two middle ones."""
    grades: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for one in newest(judgments):
        grades[one.pair].append(one.grade)
    found: dict[str, dict[str, int]] = {}
    for (query, item), given in grades.items():
        found.setdefault(query, {})[item] = sorted(given)[(len(given) - 1) // 2]
    return found


def agreement(judgments: Sequence[Judgment]) -> dict[str, Any]:
    """How well raters agree: Krippendorff's alpha over all, Fleiss' kappa over what the same number judged, Cohen's
    kappa (quadratic weights beside it) of each two raters. Figures are None where nothing was judged twice."""
    told = newest(judgments)
    raters = sorted({one.rater for one in told})
    pairs = {pair: at for at, pair in enumerate(dict.fromkeys(one.pair for one in told))}
    matrix = np.full((len(raters), len(pairs)), np.nan)
    for one in told:
        matrix[raters.index(one.rater), pairs[one.pair]] = one.grade
    twice = (~np.isnan(matrix)).sum(0)
    each = int(np.bincount(twice[twice >= 2]).argmax()) if (twice >= 2).any() else 0
    alike = matrix[:, twice == each] if each else matrix[:, :0]
    counts = np.stack([(alike == grade).sum(0) for grade in GRADES], axis=1)
    two = []
    for a, b in combinations(range(len(raters)), 2):
        both = ~np.isnan(matrix[a]) & ~np.isnan(matrix[b])
        if both.any():
            first, second = matrix[a, both].astype(int), matrix[b, both].astype(int)
            two.append({
                "first": raters[a], "second": raters[b], "n": int(both.sum()),
                "same": float((first == second).mean()), "kappa": cohen_kappa(first, second, len(GRADES)),
                "kappa_quadratic": cohen_kappa(first, second, len(GRADES), weights="quadratic"),
            })  # fmt: skip
    return {
        "raters": [{"rater": name, "n": int((~np.isnan(matrix[at])).sum())} for at, name in enumerate(raters)],
        "judged": len(pairs), "judged_twice": int((twice >= 2).sum()),
        "alpha": _figure(krippendorff_alpha(matrix)) if each else None,
        "fleiss": _figure(fleiss_kappa(counts)) if each else None, "fleiss_of": len(counts), "fleiss_raters": each,
        "pairs": two,
    }  # fmt: skip


def _figure(value: float) -> float | None:
    return None if value != value else value


def compared(
    runs: Mapping[str, Mapping[str, Sequence[str]]],
    grades: Mapping[str, Mapping[str, int]],
    *,
    k: int = 10,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Rankers on judged queries: nDCG@k (gain 2^grade - 1; unjudged counts 0), condensed (unjudged left out),
    precision at grade 2, and the judged share; each against the first ranker with a paired bootstrap interval.

    runs: ranker -> query -> item ids, best first. A query without any grade above 0 is left out.
    """
    queries = [query for query, told in grades.items() if any(grade > 0 for grade in told.values())]
    names = list(runs)
    values: dict[str, dict[str, F64]] = {}
    for name in names:
        rows = [_measures(list(dict.fromkeys(runs[name].get(query, ()))), grades[query], k) for query in queries]
        values[name] = {metric: np.array([row[metric] for row in rows]) for metric in _METRICS}
    draws = np.random.default_rng(seed).integers(0, max(len(queries), 1), (DRAWS, len(queries)))
    out = []
    for name in names:
        row: dict[str, Any] = {"ranker": name, "queries": len(queries), "k": k}
        for metric, own in values[name].items():
            row[metric] = float(own.mean()) if len(own) else None
        if name != names[0] and len(queries):
            gain = values[name]["ndcg"] - values[names[0]]["ndcg"]
            low, high = np.quantile(gain[draws].mean(1), [0.025, 0.975])
            row |= {"against": names[0], "gain": float(gain.mean()), "low": float(low), "high": float(high)}
        out.append(row)
    return out


_METRICS = ("ndcg", "ndcg_condensed", "precision", "judged")


def _measures(ranked: list[str], told: Mapping[str, int], k: int) -> dict[str, float]:
    def ndcg(items: list[str]) -> float:
        best = sorted(told.values(), reverse=True)[:k]
        ideal = sum((2**grade - 1) / np.log2(place + 2) for place, grade in enumerate(best))
        got = sum((2 ** told.get(item, 0) - 1) / np.log2(place + 2) for place, item in enumerate(items[:k]))
        return float(got / ideal)

    top = ranked[:k]
    return {
        "ndcg": ndcg(ranked), "ndcg_condensed": ndcg([item for item in ranked if item in told]),
        "precision": sum(told.get(item, 0) >= 2 for item in top) / k,
        "judged": sum(item in told for item in top) / len(top) if top else 0.0,
    }  # fmt: skip


def disagreement(first: Sequence[str], second: Sequence[str], k: int = 10, p: float = 0.9) -> float:
    """1 - rank-biased overlap of two lists, 0 (the same) to 1 (nothing shared), over the first `k` places.

    Source: Webber, Moffat and Zobel 2010, truncated and scaled to its largest value.
    """
    depth = min(k, max(len(first), len(second)))
    if depth == 0:
        return 0.0
    weights = p ** np.arange(depth)
    shared = [len({*first[: d + 1]} & {*second[: d + 1]}) / (d + 1) for d in range(depth)]
    return float(1.0 - (weights * shared).sum() / weights.sum())


def sampled(
    volumes: Mapping[str, int], n: int, by: str, *, done: Sequence[str] = (), apart: Mapping[str, float] | None = None,
    seed: int = 0,
) -> list[str]:  # fmt: skip
    """Queries to judge: `head` the most frequent, `tail` drawn evenly from the rarer half, `disagreement` those that
    two rankers answer most differently (`apart`), `mixed` a third of each. Those `done` are left out."""
    known = [query for query in sorted(volumes, key=lambda q: (-volumes[q], q)) if query not in {*done}]
    rare = known[len(known) // 2 :]
    told = apart or {}
    orders = {
        "head": known,
        "tail": sorted(rare, key=lambda q: hash64(q, f"tail {seed}")),
        "disagreement": sorted((q for q in known if told.get(q, 0.0) > 0), key=lambda q: (-told[q], q)),
    }
    if by != "mixed":
        return orders[by][:n]
    found: dict[str, None] = {}
    for turn in range(len(known)):
        for order in orders.values():
            if turn < len(order) and len(found) < n:
                found.setdefault(order[turn])
    return list(found)[:n]
