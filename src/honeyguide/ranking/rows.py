"""What heads learn from, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import msgspec
import numpy as np

from honeyguide.contracts import F32, I32, I64

__all__ = ["Contest", "HeadReport", "Rows"]


class Contest(msgspec.Struct, frozen=True):
    """How a kind of model fared against the one that was chosen for a head, on rows that neither learnt from.

    measure: "log_loss" (lower is better) or "ndcg_at_10" (higher is better). gain: how much better the chosen one is.
    """

    kind: str
    chosen: bool
    measure: str
    value: float | None  # None: it could not be fitted, `reason` says why
    gain: float | None = None
    low: float | None = None  # 95 % interval of the gain, resampling people (requests, of a head that ranks)
    high: float | None = None
    reason: str = ""


class HeadReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a head. A head that is off says why; nothing about it is hidden."""

    name: str
    kind: str
    on: bool
    reason: str
    calibrated: bool  # whether the score is a probability and may be summed
    model: str = ""  # "trees", "linear", "deep", or the kind of a scorer from outside
    calibrator: str = "raw"
    trees: int = 0
    fit_rows: int = 0
    refit_rows: int = 0  # rows of the model in service, which learnt again from all but the newest; 0: it did not
    offset: float = 0.0  # added to calibrated log-odds: undoes the sampling of rows without the outcome
    young_rows: int = 0  # rows whose outcome may still come, weighed by the chance that it does
    metrics: dict[str, float | None] = {}  # on the newest rows, which nothing was chosen on
    importance: dict[str, float] = {}  # share of each feature, largest first
    contest: list[Contest] = []  # the kinds of models tried
    segments: list[dict[str, float | str | None]] = []  # what calibration by segment did, and where it fell back
    curve: list[dict[str, float]] = []  # reliability on the newest rows: mean probability, rate, rows


@dataclass(frozen=True, slots=True)
class Rows:
    """What heads learn from, one row per (request, item) or per outcome; a label is nan where it is unknown.

    What follows `unit` may be left away. rate: the probability with which a row of its kind was drawn. told: by head,
    the probability that an outcome that comes at all would be known by now (1: it has had its time); where it is below
    1, label 0 says "not yet".
    """

    features: F32  # (n, features)
    labels: F32  # (n, heads), in the order of the config
    at: I64  # (n,) when the features were read
    group: I64 | None = None  # (n,) the request behind a row, -1 none; rank heads need it
    unit: I64 | None = None  # (n,) the person behind a row: intervals resample people
    rate: F32 | None = None  # (n,)
    told: F32 | None = None  # (n, heads)
    user: I32 | None = None  # (n,) row of the person, -1 nobody known
    item: I32 | None = None  # (n,) row of the item
    segment: I32 | None = None  # (n,) the person's segment, -1 unknown

    @classmethod
    def stacked(cls, parts: Sequence[Rows]) -> Rows:
        """Parts below each other; a part without groups, units, people, items or segments counts as having none (-1).

        A part without rates was drawn whole (1), one without `told` has had its time (1).
        """

        def column(name: str) -> np.ndarray | None:
            of = [getattr(part, name) for part in parts]
            if all(one is None for one in of) and name not in ("group", "unit"):
                return None
            blank: float = 1.0 if name in ("rate", "told") else -1
            dtype = {"rate": np.float32, "told": np.float32, "group": np.int64, "unit": np.int64}.get(name, np.int32)
            return np.concatenate([
                np.full(part.labels.shape if name == "told" else len(part.at), blank, dtype) if one is None else one
                for part, one in zip(parts, of, strict=True)
            ])  # fmt: skip

        rest = {field.name: column(field.name) for field in fields(cls)[3:]}
        joined = [np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels", "at")]
        return cls(*joined, **rest)  # type: ignore[arg-type]

    def take(self, which: I64, head: int) -> tuple[F32, F32, I64 | None, I64 | None]:
        """Features, one head's labels, groups and units of the chosen rows."""
        group = None if self.group is None else self.group[which]
        return self.features[which], self.labels[which, head], group, None if self.unit is None else self.unit[which]
