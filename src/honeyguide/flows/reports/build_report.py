"""`report.html`: what was built and how good it is, in one file that opens from disk without a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template

from honeyguide.flows.pages import environment
from honeyguide.flows.reports.charts import Interval, Reliability, interval_chart, reliability_chart, span_of

__all__ = ["render_report"]

_EVERYBODY = ("all", "overall", "everyone", "everybody", "total", "")
_SMALL_IS_GOOD = ("ece", "calibration", "logloss", "log_loss", "log loss")
_EVIDENCE = {
    "L0": "The data holds what people did, not what they were shown. So a title that nobody chose may never have been "
    "seen, and the value of another policy cannot be computed from the log.",
    "L1": "The data holds what was shown and where, but no request or experiment ids and no propensities.",
    "L2": "The data holds requests and experiments, but no propensities, so a new policy cannot be valued on old logs.",
}


@dataclass(frozen=True)
class _Figure:
    protocol: str
    segment: str
    system: str
    metric: str
    estimate: float
    low: float | None
    high: float | None
    n: int | None
    baseline: str = ""

    @property
    def verdict(self) -> str:
        """For a difference: `better`, `worse`, or `open` when the interval holds zero or is not known."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "open"
        small_is_good = any(name in self.metric.casefold() for name in _SMALL_IS_GOOD)
        return "better" if (self.estimate > 0) != small_is_good else "worse"

    @property
    def everybody(self) -> bool:
        """Whether this is over all people, not a segment."""
        return self.segment.casefold() in _EVERYBODY


def render_report(
    pipeline: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    timings: Sequence[Mapping[str, Any]],
    extras: Mapping[str, Any],
) -> str:
    """The report as one HTML document: styles and charts inline, no script, no address of anything outside.

    `pipeline` and `evaluation`: as `/v1/pipeline` and `/v1/evaluation` give them. `timings`: `name`, `seconds`,
    `reused` per step. `extras`, all optional: `title`, `reliability` (`head`, `said`, `points` of `p`, `y`, `n`),
    `samples` (`title`, `items` of `title`, `year`, `reason`), `limits` (sentences), `next` (sentences: what to do now).
    Missing keys leave out their part; text is escaped wherever it comes from.
    """
    figures = _figures(evaluation.get("rows"))
    differences = _figures(evaluation.get("differences"))
    headlines = _headlines(differences)
    metric = headlines[0].metric if headlines else next((one.metric for one in figures), "")
    steps = _rows(timings)
    return _page().render(
        title=str(extras.get("title") or "Honeyguide report"),
        pipeline=pipeline,
        data=_mapping(pipeline.get("data")),
        surfaces={name: _mapping(value) for name, value in _mapping(pipeline.get("surfaces")).items()},
        made_at=str(evaluation.get("made_at") or pipeline.get("built_at") or ""),
        headlines=headlines,
        metric=metric,
        words=_words(evaluation),
        protocols=[_protocol(name, figures, metric) for name in _unique(one.protocol for one in figures)],
        reliability=_reliability(extras.get("reliability")),
        steps=steps,
        total_s=sum(_number(step.get("seconds")) or 0.0 for step in steps),
        longest_s=max((_number(step.get("seconds")) or 0.0 for step in steps), default=0.0),
        samples=_rows(extras.get("samples")),
        next_steps=_texts(extras.get("next")),
        notes=_texts(evaluation.get("notes")),
        limits=[*_limits(pipeline, headlines), *_texts(extras.get("limits"))],
    )


def _protocol(name: str, figures: Sequence[_Figure], metric: str) -> dict[str, Any]:
    mine = [one for one in figures if one.protocol == name]
    systems = _unique(one.system for one in mine)
    shown = [one for one in mine if one.metric == metric]
    everybody = [one for one in shown if one.everybody]
    segments = _unique(one.segment for one in shown if not one.everybody)
    by_segment = {segment: [one for one in shown if one.segment == segment] for segment in segments}
    whole = [one for one in mine if one.everybody]
    metrics = _unique(one.metric for one in whole)
    cells = {(one.system, one.metric): one for one in whole}
    # One axis for all segments, so that they can be compared by eye.
    span = span_of([_interval(one, systems) for ones in by_segment.values() for one in ones])
    return {
        "name": name,
        "chart": interval_chart([_interval(one, systems) for one in everybody], label=f"{metric}, {name}"),
        "rows": bool(everybody),
        "segments": [
            {
                "name": segment,
                "n": next((one.n for one in ones if one.n is not None), None),
                "chart": interval_chart(
                    [_interval(one, systems) for one in ones],
                    label=f"{metric}, {name}, {segment}",
                    span=span,
                    width=520,
                ),
            }
            for segment, ones in by_segment.items()
        ],
        "systems": systems,
        "metrics": metrics,
        "cells": cells,
        "n": next((one.n for one in whole if one.n is not None), None),
    }


def _words(evaluation: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Heading and explanation of each protocol, which come as one sentence: "heading: explanation"."""
    found = {}
    for name, sentence in _mapping(evaluation.get("protocols")).items():
        heading, _, explanation = str(sentence).partition(": ")
        found[str(name)] = (heading or str(name), explanation)
    return found


def _interval(figure: _Figure, systems: Sequence[str]) -> Interval:
    return Interval(figure.system, figure.estimate, figure.low, figure.high, systems.index(figure.system))


def _headlines(differences: Sequence[_Figure]) -> list[_Figure]:
    everybody = [one for one in differences if one.everybody]
    return [one for one in everybody if one.metric == everybody[0].metric]


def _limits(pipeline: Mapping[str, Any], headlines: Sequence[_Figure]) -> list[str]:
    """What the figures themselves say against the system, and what the data cannot tell."""
    found = []
    for one in headlines:
        if one.verdict != "better":
            how = "is worse than" if one.verdict == "worse" else "is not clearly better than"
            found.append(f"{one.protocol}: {one.system} {how} {one.baseline} in {one.metric}.")
    heads = {
        str(head.get("name"))
        for surface in _mapping(pipeline.get("surfaces")).values()
        for head in _rows(_mapping(surface).get("heads"))
        if head.get("calibrated") is False
    }
    if heads:
        names = ", ".join(sorted(heads))
        found.append(f"Ranks only, no probability: {names}. Nothing in the data says how often it would happen.")
    evidence = _EVIDENCE.get(str(_mapping(pipeline.get("data")).get("evidence")))
    return [*found, evidence] if evidence else found


def _reliability(value: object) -> list[dict[str, Any]]:
    charts = []
    for row in _rows(value):
        points = []
        for point in _rows(row.get("points")):
            p, y, n = (_number(point.get(key)) for key in ("p", "y", "n"))
            if p is not None and y is not None:
                points.append(Reliability(p, y, max(n or 0.0, 0.0)))
        head = str(row.get("head") or "")
        if points:
            gap = sum(one.n * abs(one.promised - one.happened) for one in points) / (sum(one.n for one in points) or 1)
            label = f"Reliability of {head}: promised against happened"
            said = _texts(row.get("said"))
            charts.append({"head": head, "gap": gap, "chart": reliability_chart(points, label=label), "said": said})
    return charts


def _figures(value: object) -> list[_Figure]:
    found = []
    for row in _rows(value):
        estimate, n = _number(row.get("estimate")), _number(row.get("n"))
        if estimate is not None:
            names = {key: str(row.get(key) or "") for key in ("protocol", "segment", "system", "metric", "baseline")}
            low, high = _number(row.get("low")), _number(row.get("high"))
            found.append(_Figure(**names, estimate=estimate, low=low, high=high, n=None if n is None else int(n)))
    return found


def _rows(value: object) -> list[Mapping[str, Any]]:
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, Sequence) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _count(value: object) -> str:
    number = _number(value)
    return "–" if number is None else f"{int(number):,}".replace(",", "\u202f")


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")


def _fixed(value: object, digits: int = 3) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:.{digits}f}"


def _width(value: object, whole: object) -> str:
    part, most = _number(value), _number(whole)
    return f"{100 * max(part, 0.0) / most:.1f}%" if part is not None and most else "0%"


@lru_cache(maxsize=1)
def _page() -> Template:
    filters: dict[str, Callable[..., str]] = {"count": _count, "signed": _signed, "fixed": _fixed, "width": _width}
    return environment(filters, gaps=True).get_template("report.html")
