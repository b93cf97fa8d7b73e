"""How well raters agree beyond chance: Cohen's and Fleiss' kappa, Krippendorff's alpha."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["cohen_kappa", "fleiss_kappa", "krippendorff_alpha"]

F64 = npt.NDArray[np.float64]


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike, categories: int, *, weights: str = "none") -> float:
    """Kappa of two raters over the things both judged; grades 0 to categories - 1. nan without any.

    weights: what a disagreement costs: `none` all the same, `linear` or `quadratic` by the distance of the grades.
    Where chance alone agrees always (both gave one grade only), it is 1. Source: Cohen 1960 and 1968.
    """
    a, b = np.asarray(first, np.int64), np.asarray(second, np.int64)
    if not len(a):
        return float("nan")
    table = np.bincount(a * categories + b, minlength=categories * categories).reshape(categories, categories)
    share = table / table.sum()
    apart = np.abs(np.subtract.outer(np.arange(categories), np.arange(categories))).astype(np.float64)
    cost = {"none": (apart > 0).astype(np.float64), "linear": apart, "quadratic": apart**2}[weights]
    by_chance = float((cost * np.outer(share.sum(1), share.sum(0))).sum())
    return 1.0 if by_chance == 0.0 else 1.0 - float((cost * share).sum()) / by_chance


def fleiss_kappa(counts: npt.ArrayLike) -> float:
    """Kappa of the same number of ratings (two or more) for each thing. counts: (things, categories). nan without any.

    Source: Fleiss 1971.
    """
    table = np.asarray(counts, np.float64)
    if not len(table):
        return float("nan")
    raters = table[0].sum()
    if raters < 2 or (table.sum(1) != raters).any():
        raise ValueError("each thing needs the same number of ratings, two or more")
    agreed = float((((table**2).sum(1) - raters) / (raters * (raters - 1))).mean())
    by_chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return 1.0 if by_chance == 1.0 else (agreed - by_chance) / (1.0 - by_chance)


def krippendorff_alpha(ratings: npt.ArrayLike, *, level: str = "ordinal") -> float:
    """Alpha over any number of raters, with gaps. ratings: (raters, things) of whole grades from 0, nan where missing.

    level: `nominal`, `ordinal` or `interval`, what a difference of grades means. nan where no thing has two ratings; 1
    where all ratings are the same. Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability.
    """
    given = np.asarray(ratings, np.float64)
    known = ~np.isnan(given)
    paired = known.sum(0) >= 2
    given, known = given[:, paired], known[:, paired]
    if not given.size:
        return float("nan")
    size = int(np.nanmax(given)) + 1
    counts = np.stack([((given == grade) & known).sum(0) for grade in range(size)], axis=1).astype(np.float64)
    of_thing = counts.sum(1)
    coincidence = np.einsum("uc,uk,u->ck", counts, counts, 1.0 / (of_thing - 1.0))
    coincidence -= np.diag((counts / (of_thing - 1.0)[:, None]).sum(0))
    total = coincidence.sum(0)
    n = total.sum()
    grades = np.arange(size, dtype=np.float64)
    apart = np.subtract.outer(grades, grades)
    if level == "nominal":
        cost = (apart != 0).astype(np.float64)
    elif level == "interval":
        cost = apart**2
    else:  # ordinal: by how many ratings lie between two grades
        upto = np.cumsum(total)
        middle = upto - total / 2.0
        cost = np.subtract.outer(middle, middle) ** 2
    expected = float((cost * np.outer(total, total)).sum()) / (n - 1.0)
    return 1.0 if expected == 0.0 else 1.0 - float((cost * coincidence).sum()) / expected
