"""Charts as inline SVG for the report: numbers in, escaped markup out. Colours come from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

__all__ = ["Interval", "Reliability", "interval_chart", "reliability_chart", "span_of", "ticks"]


@dataclass(frozen=True)
class Interval:
    """One row of a chart: an estimate and, if known, the ends of its interval. `tone` numbers its colour."""

    name: str
    estimate: float
    low: float | None = None
    high: float | None = None
    tone: int = 0


@dataclass(frozen=True)
class Reliability:
    """One bin of a head: mean promised probability, share that came true, and how many predictions."""

    promised: float
    happened: float
    n: float


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between `low` and `high`, both included where round."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(place * step, 12) for place in range(first, last + 1)]


def span_of(rows: Sequence[Interval]) -> tuple[float, float]:
    """The axis that holds all rows with a little air; from zero where zero is near."""
    ends = [end for row in rows for end in (row.estimate, row.low, row.high) if end is not None]
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    air = 0.06 * ((high - low) or abs(high) or 1.0)
    start = 0.0 if 0 <= low < 0.6 * high else low - air
    return start, high + air


def interval_chart(
    rows: Sequence[Interval], *, label: str, span: tuple[float, float] | None = None, width: int = 720
) -> Markup:
    """A row per system: a dot at the estimate, a line over its interval, the figures at the right.

    `span`: the axis' ends, to give several charts one axis. `width`: in CSS pixels at full size.
    """
    low, high = span or span_of(rows)
    name_width, figure_width, row_height, top = round(width * 0.2), 168, 28, 6
    left, right = name_width, width - figure_width
    bottom = top + row_height * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * (value - low) / ((high - low) or 1.0)

    parts = []
    marks = ticks(low, high, 5 if width > 500 else 3)
    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]))) if len(marks) > 1 else 3
    for mark in marks:
        parts.append(
            Markup(
                '<path class="gridline" d="M{0:.1f} {1}V{2}"/><text class="axis" x="{0:.1f}" y="{3}">{4}</text>'
            ).format(x(mark), top, bottom, bottom + 16, f"{mark:.{digits}f}")
        )
    for place, row in enumerate(rows):
        y = top + row_height * (place + 0.5)
        parts.append(Markup('<text class="name" x="{}" y="{:.1f}">{}</text>').format(left - 12, y + 4, row.name))
        said = f"{row.estimate:.3f}"
        if row.low is not None and row.high is not None:
            said += f"  [{row.low:.3f}, {row.high:.3f}]"
            line = '<path class="tone t{}" d="M{:.1f} {:.1f}H{:.1f}m0 -4v8M{:.1f} {:.1f}v8"/>'
            parts.append(Markup(line).format(row.tone % 6, x(row.low), y, x(row.high), x(row.low), y - 4))
        parts.append(
            Markup('<circle class="dot t{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(row.tone % 6, x(row.estimate), y)
        )
        parts.append(Markup('<text class="figure" x="{}" y="{:.1f}">{}</text>').format(right + 14, y + 4, said))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, bottom + 22, label, Markup("").join(parts)
    )


def reliability_chart(points: Sequence[Reliability], *, label: str) -> Markup:
    """Promised against happened, a disc per bin whose area grows with its predictions; on the diagonal is right."""
    size, left, top = 210, 40, 8
    most = max((point.n for point in points), default=0.0)

    def x(share: float) -> float:
        return left + size * min(max(share, 0.0), 1.0)

    def y(share: float) -> float:
        return top + size * (1 - min(max(share, 0.0), 1.0))

    parts = [Markup('<path class="gridline dashed" d="M{} {}L{} {}"/>').format(x(0), y(0), x(1), y(1))]
    for mark in (0.0, 0.5, 1.0):
        parts.append(Markup('<path class="gridline" d="M{} {}H{}M{} {}V{}"/>').format(
            x(0), y(mark), x(1), x(mark), y(0), y(1)
        ))  # fmt: skip
        parts.append(Markup('<text class="axis" x="{}" y="{}">{:.0%}</text>').format(x(mark), y(0) + 16, mark))
        parts.append(Markup('<text class="name small" x="{}" y="{}">{:.0%}</text>').format(x(0) - 6, y(mark) + 4, mark))
    ordered = sorted(points, key=lambda point: point.promised)
    line = " ".join(f"{x(point.promised):.1f},{y(point.happened):.1f}" for point in ordered)
    parts.append(Markup('<polyline class="tone t0 thin" points="{}"/>').format(line))
    for point in ordered:
        radius = 2.5 + 6.5 * math.sqrt(point.n / most) if most > 0 else 4.0
        parts.append(Markup('<circle class="dot t0 glass" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"/>').format(
            x(point.promised), y(point.happened), radius
        ))  # fmt: skip
    foot = Markup('<text class="axis" x="{}" y="{}">promised</text>').format(x(0.5), top + size + 34)
    return Markup('<svg class="chart square" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}</svg>').format(
        left + size + 16, top + size + 40, label, Markup("").join(parts), foot
    )
