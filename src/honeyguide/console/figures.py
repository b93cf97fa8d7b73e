"""An evaluation as the API sends it, in order, and each figure in plain words."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Cell", "Difference", "Evaluation", "metric_meaning", "protocol_words", "verdict"]

_EVERYBODY = ("all", "overall", "everyone", "everybody", "total", "")

_METRICS = (
    (r"ndcg", "How near the top of the list the chosen titles stand: 1 is a perfect order. Higher is better."),
    (r"recall", "Share of the titles people then chose that the list contained. Higher is better."),
    (r"precision", "Share of the list that people then chose. Higher is better."),
    (r"hit", "Share of people whose list held at least one title they then chose. Higher is better."),
    (r"mrr", "How early the first right title comes: 1 if always first, 0.5 if always second. Higher is better."),
    (r"map", "Precision averaged over every right title in the list. Higher is better."),
    (r"coverage", "Share of the catalog that is shown to anybody at all. Higher leaves fewer titles unseen."),
    (r"novelty", "How little known the shown titles are. Higher is more surprising, not better in itself."),
    (r"diversity|ild", "How different the titles within one list are from each other."),
    (r"calibration|ece", "How far promised probabilities are from what happened. Lower is better."),
    (r"auc", "How often a head puts a title that had the outcome above one that had not: 0.5 is a coin, 1 is perfect."),
    (r"log.?loss", "How much a head's probabilities were surprised by what happened. Lower is better."),
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One figure with its interval; `low` and `high` are None where there is none."""

    estimate: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class Difference:
    """How much better `system` is than `baseline`."""

    protocol: str
    segment: str
    system: str
    baseline: str
    metric: str
    estimate: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Evaluation:
    """All figures by (protocol, segment, system, metric), with every axis in the order in which it came."""

    made_at: str
    cells: Mapping[tuple[str, str, str, str], Cell]
    protocols: tuple[str, ...]
    segments: tuple[str, ...]
    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    meanings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, sent: Mapping[str, Any]) -> Evaluation:
        """Read what `/v1/evaluation` sends; a row without a number is left out."""
        cells = {
            (_text(row, "protocol"), _text(row, "segment") or "all", _text(row, "system"), _text(row, "metric")): Cell(
                float(row["estimate"]), _number(row.get("low")), _number(row.get("high")), _whole(row.get("n"))
            )
            for row in _rows(sent.get("rows"))
            if _number(row.get("estimate")) is not None
        }
        differences = tuple(
            Difference(
                _text(row, "protocol"), _text(row, "segment") or "all", _text(row, "system"), _text(row, "baseline"),
                _text(row, "metric"), float(row["estimate"]), _number(row.get("low")), _number(row.get("high")),
            )
            for row in _rows(sent.get("differences"))
            if _number(row.get("estimate")) is not None
        )  # fmt: skip
        protocols, segments, systems, metrics = (_unique(key[axis] for key in cells) for axis in range(4))
        notes, meanings = sent.get("notes"), sent.get("protocols")
        return cls(
            made_at=str(sent.get("made_at") or ""),
            cells=cells,
            protocols=protocols,
            segments=tuple(sorted(segments, key=lambda name: name.casefold() not in _EVERYBODY)),
            systems=systems,
            metrics=metrics,
            differences=differences,
            notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
            meanings={str(k): str(v) for k, v in meanings.items()} if isinstance(meanings, Mapping) else {},
        )

    def cell(self, protocol: str, segment: str, system: str, metric: str) -> Cell | None:
        """One figure, None if it was not measured."""
        return self.cells.get((protocol, segment, system, metric))

    def best(self, protocol: str, segment: str, metric: str) -> str | None:
        """The system with the best estimate, None without any."""
        found = {name: self.cell(protocol, segment, name, metric) for name in self.systems}
        known = {name: cell.estimate for name, cell in found.items() if cell is not None}
        pick = min if lower_is_better(metric) else max
        return pick(known, key=lambda name: known[name]) if known else None

    @property
    def headlines(self) -> tuple[Difference, ...]:
        """The differences over everybody, in the first metric that was compared."""
        everybody = [one for one in self.differences if one.segment.casefold() in _EVERYBODY]
        return tuple(one for one in everybody if one.metric == everybody[0].metric)


def verdict(difference: Difference) -> str:
    """`better`, `worse`, or `open` when the interval holds zero (or there is no interval)."""
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        return "open"
    return "better" if (difference.estimate > 0) != lower_is_better(difference.metric) else "worse"


def lower_is_better(metric: str) -> bool:
    """Whether a small value of this metric is the good one."""
    return re.search(r"ece|calibration|log.?loss|rmse|mae", metric, re.IGNORECASE) is not None


def metric_meaning(metric: str) -> str:
    """A metric in plain words, with the length of the list it looks at."""
    for pattern, words in _METRICS:
        if re.search(pattern, metric, re.IGNORECASE):
            cut = re.search(r"@(\d+)", metric)
            return f"{words} Looks at the first {cut[1]} slots." if cut else words
    return ""


def protocol_words(evaluation: Evaluation, protocol: str) -> tuple[str, str]:
    """A protocol's heading, and how the data was split: as the API says it ("heading: words"), else in our words."""
    heading, _, words = evaluation.meanings.get(protocol, "").partition(": ")
    if heading:
        return heading, words
    name = protocol.casefold()
    if "next" in name or "leave" in name:
        return protocol, "everything up to a person's last choice is known; which one comes next?"
    if "time" in name or "global" in name or "cutoff" in name:
        return protocol, "everything before one date is known, for everybody; what did people choose after it?"
    return protocol, ""


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if value is None else str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _whole(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _unique(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))
