"""Metrics as values: `nDCG(10)` prints as `nDCG@10`, and `parse_metric("nDCG@10")` gives it back.

What is asked is apart from who computes it: `judged.judge` computes any number of them in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F32, F64, I32, CatalogView, Interactions, Ragged
from honeyguide.errors import ConfigError, DataError
from honeyguide.kernels import metrics as kernel

__all__ = [
    "MAP",
    "MRR",
    "METRICS",
    "CalibrationError",
    "Coverage",
    "Diversity",
    "HitRate",
    "ItemFacts",
    "ListMetric",
    "Novelty",
    "Precision",
    "Recall",
    "RelevanceMetric",
    "nDCG",
    "parse_metric",
]


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What the list metrics need to know about items, by item row."""

    n_items: int
    information: F64 | None = None  # bits; see kernels.metrics.self_information
    vectors: F32 | None = None  # (n_items, d), rows of length 1 or 0

    @classmethod
    def of(cls, train: Interactions, catalog: CatalogView | None = None) -> ItemFacts:
        """From the training events (for each item, how many people know it) and the catalog's categories."""
        pairs = np.unique(train.user.astype(np.int64) * train.n_items + train.item)
        people = np.bincount(pairs % train.n_items, minlength=train.n_items)
        information = kernel.self_information(people, len(np.unique(train.user)))
        return cls(train.n_items, information, category_vectors(catalog) if catalog is not None else None)


def category_vectors(catalog: CatalogView) -> F32:
    """(items, categories): a 1 per category of the item, scaled to length 1; a row of 0 where there is none."""
    of_item = catalog.category
    vectors = np.zeros((len(of_item), len(catalog.category_names)), np.float32)
    item = np.repeat(np.arange(len(of_item)), np.diff(of_item.indptr))
    vectors[item, of_item.values] = 1.0
    return vectors / np.maximum(np.sqrt(vectors.sum(1, keepdims=True)), 1.0)


@dataclass(frozen=True)
class _AtK:
    """A metric of the first `k` places; without `k`, of the whole list as given."""

    k: int | None = None
    label: ClassVar[str]
    kind: ClassVar[int]

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise ConfigError(
                expected="a cut-off of at least 1", got=f"{self.label}@{self.k}", do="Say how many places count."
            )

    @property
    def name(self) -> str:
        """As in `nDCG@10`."""
        return self.label if self.k is None else f"{self.label}@{self.k}"

    def __str__(self) -> str:
        return self.name


class RelevanceMetric(_AtK):
    """Compares a list with what was relevant; fits the `Metric` contract. nan where nothing was relevant."""

    def per_query(self, ranked: I32, relevant: Ragged) -> F64:
        """(n, k) ranked rows and the relevant rows -> (n,) values."""
        return compute([self], ranked, relevant)[0]


class nDCG(RelevanceMetric):  # noqa: N801 - as it is written everywhere
    """Discounted gain over that of the ideal list: sum of grade / log2(rank + 1), ideal over all relevant items."""

    label, kind = "nDCG", kernel.NDCG


class Recall(RelevanceMetric):
    """Share of the relevant items that are in the list."""

    label, kind = "Recall", kernel.RECALL


class Precision(RelevanceMetric):
    """Share of the `k` places that hold a relevant item; an empty place is a miss."""

    label, kind = "Precision", kernel.PRECISION


class HitRate(RelevanceMetric):
    """1 if any relevant item is in the list."""

    label, kind = "HitRate", kernel.HIT_RATE


class MAP(RelevanceMetric):
    """Average precision: the mean, over all relevant items, of the precision where each stands (0 if it does not)."""

    label, kind = "MAP", kernel.AVERAGE_PRECISION


class MRR(RelevanceMetric):
    """1 / rank of the first relevant item, 0 if there is none in the list."""

    label, kind = "MRR", kernel.RECIPROCAL_RANK


class ListMetric(_AtK):
    """Looks at the list alone, with `ItemFacts`; needs `judge`."""


class Novelty(ListMetric):
    """Mean self-information of the items shown, in bits: log2(people / people who know the item)."""

    label, kind = "Novelty", kernel.NOVELTY


class Diversity(ListMetric):
    """Mean of 1 - cosine over the pairs in the list; nan below two items."""

    label, kind = "Diversity", kernel.DIVERSITY


class Coverage(ListMetric):
    """Share of the catalog that stands in anybody's list: one figure for all queries, without an interval."""

    label, kind = "Coverage", -1


@dataclass(frozen=True)
class CalibrationError:
    """Mean distance between mean probability and rate over `bins` of equal mass, in [0, 1]; 0 is calibrated."""

    bins: int = 15

    @property
    def name(self) -> str:
        """As in `CalibrationError`."""
        return type(self).__name__

    def of(self, probability: npt.ArrayLike, outcome: npt.ArrayLike) -> float:
        """(n,) probabilities and (n,) outcomes, 0 or 1 -> one figure; pairs with a nan are left out."""
        return kernel.calibration_error(probability, outcome, self.bins)


METRICS: dict[str, type[RelevanceMetric] | type[ListMetric]] = {
    metric.label.lower(): metric
    for metric in (nDCG, Recall, Precision, HitRate, MAP, MRR, Novelty, Diversity, Coverage)
}


def parse_metric(text: str) -> RelevanceMetric | ListMetric:
    """`nDCG@10` or `MAP` -> the metric; capital letters do not matter."""
    label, at, cut = text.strip().partition("@")
    metric = METRICS.get(label.lower())
    if metric is None or (at and not cut.isdecimal()):
        raise ConfigError(
            expected="one of " + ", ".join(m.label for m in METRICS.values()) + ", with a cut-off as in nDCG@10",
            got=repr(text),
            do="Mend the metric's name.",
        )
    return metric(int(cut) if at else None)


def compute(
    metrics: list[RelevanceMetric | ListMetric],
    ranked: I32,
    relevant: Ragged,
    grades: F64 | None = None,
    facts: ItemFacts | None = None,
) -> F64:
    """(metrics, n) values in one pass; `judge` is the same in chunks, with all metrics. Raises DataError as it does."""
    if ranked.ndim != 2 or len(ranked) != len(relevant):
        raise DataError(
            expected=f"one list per query, ({len(relevant)}, k)", got=f"shape {ranked.shape}", do="Rank every query."
        )
    highest = int(ranked.max(initial=-1))
    information: npt.NDArray = np.zeros(0)
    vectors: npt.NDArray = np.zeros((0, 1), np.float32)
    for metric in metrics:
        if isinstance(metric, Novelty):
            information = _by_item(metric, facts.information if facts else None, "information", highest)
        if isinstance(metric, Diversity):
            vectors = _by_item(metric, facts.vectors if facts else None, "vectors", highest)
    cutoffs = np.array([metric.k or 0 for metric in metrics], np.int64)
    longest = int(np.diff(relevant.indptr).max(initial=1))
    discount = 1.0 / np.log2(np.arange(max(longest, ranked.shape[1], cutoffs.max(initial=1))) + 2.0)
    out = np.empty((len(metrics), len(ranked)))
    no_grades = np.zeros(0, np.float64)
    kernel.judge_lists(
        _frozen(ranked, np.int32),
        _frozen(relevant.indptr, np.int64),
        _frozen(relevant.values, np.int32),
        _frozen(no_grades if grades is None else grades, np.float64),
        _frozen([metric.kind for metric in metrics], np.int64),
        _frozen(cutoffs, np.int64),
        _frozen(information, np.float64),
        _frozen(vectors, np.float32),
        _frozen(discount, np.float64),
        out,
    )
    return out


def _by_item(metric: ListMetric, values: npt.NDArray | None, what: str, highest: int) -> npt.NDArray:
    if values is None:
        raise ConfigError(
            expected=f"the items' {what} for {metric}", got="none", do="Pass `facts` to judge, or leave the metric out."
        )
    if highest >= len(values):
        raise DataError(
            expected=f"item rows below {len(values)}", got=str(highest), do="Use facts of the same catalog."
        )
    return values


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike) -> npt.NDArray:
    """A read-only, contiguous view: the kernel is compiled once, for arrays like memory maps."""
    view = np.ascontiguousarray(values, dtype).view(np.ndarray)
    view.flags.writeable = False
    return view
