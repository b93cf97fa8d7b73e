"""Charts of saved queries, as HTML and SVG that fit any width: text keeps its size, only the lines stretch.

The plot's SVG is stretched to its box (strokes are not), words around it are HTML in percent of the box, bars and
heatmaps are HTML. No script: what a place holds is said when the pointer rests on it. Colours come from the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from honeyguide.errors import RequestError
from honeyguide.flows.reports.charts import ticks
from honeyguide.flows.reports.plot_data import (
    F64,
    Axis,
    Series,
    axis_of,
    figure,
    numbers_of,
    series_of,
    short,
    time_ticks,
)
from honeyguide.flows.reports.plot_table import table_of

if TYPE_CHECKING:
    import pyarrow as pa

    from honeyguide.flows.reports.saved_query import ChartSpec

__all__ = ["Drawn", "draw"]

MOST_POINTS = 1_200
"""A line of more places is drawn by the smallest and largest value of as many stretches as half of this."""
MOST_HOVERS, MOST_COLUMNS, MOST_BARS, MOST_CELLS = 260, 200, 40, 60
_NUMBERED_CELLS = 14


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart, and what must be said about it."""

    markup: Markup
    notes: tuple[str, ...] = ()


def draw(spec: ChartSpec, table: pa.Table, title: str) -> Drawn:
    """The chart of an answer with at least one row; a RequestError if its columns cannot be drawn like that."""
    match spec.kind:
        case "line" | "area" | "bar":
            return _xy(spec, table, title)
        case "histogram":
            return _histogram(spec, table, title)
        case "heatmap":
            return _heatmap(spec, table, title)
        case "number":
            return _number(spec, table)
        case _:
            return Drawn(table_of(table, spec.rows))


# ------------------------------------------------------------------------------------------------ frame and axes


def _span(values: Sequence[F64], *, zero: bool) -> tuple[float, float]:
    """Ends of the value axis; from zero where zero is near, or `zero` asks for it."""
    known = np.concatenate([one[np.isfinite(one)].ravel() for one in values]) if values else np.zeros(0)
    if not len(known):
        raise RequestError(expected="at least one number to draw", got="none", do="Look at the query's columns.")
    low, high = float(known.min()), float(known.max())
    if zero or 0 <= low < 0.6 * high:
        low = min(low, 0.0)
    if zero or 0 >= high > 0.6 * low:
        high = max(high, 0.0)
    air = 0.04 * ((high - low) or abs(high) or 1.0)
    return (low if low == 0 else low - air), (high if high == 0 else high + air)


def _x_ticks(axis: Axis, x: Any) -> list[tuple[float, str]]:
    """Marks of the axis as places from 0 to 1, and their words."""
    if axis.kind == "text":
        step = -(-len(axis.words) // 8)
        return [(float(x(axis.places[n])), axis.words[n]) for n in range(0, len(axis.words), step)]
    low, high = float(axis.places[0]), float(axis.places[-1])
    if axis.kind == "time":
        return [(float(x(at)), said) for at, said in time_ticks(low, high)] or [(0.5, axis.said(0))]
    return [(float(x(at)), short(at)) for at in ticks(low, high, 6)]


def _frame(
    inside: Markup, marks: list[tuple[float, str]], span: tuple[float, float], percent: bool, label: str, x_name: str
) -> Markup:
    low, high = span
    rows = [at for at in ticks(low, high, 5) if low <= at <= high]
    said = [short(at, percent=percent) for at in rows]
    places = [1 - (at - low) / ((high - low) or 1.0) for at in rows]
    grid = Markup("").join(
        Markup('<path class="{}" d="M0 {:.1f}H1000"/>').format("zero" if at == 0 else "grid", 1000 * y)
        for at, y in zip(rows, places, strict=True)
    )
    left = Markup("").join(
        Markup('<span style="top:{:.2f}%">{}</span>').format(100 * y, word)
        for y, word in zip(places, said, strict=True)
    )
    # Every second mark goes where there is little room; the first and the last lean inwards.
    below = Markup("").join(
        Markup('<span class="{}" style="left:{:.2f}%">{}</span>').format(
            " ".join(name for name, wanted in (("odd", n % 2), ("first", at < 0.06), ("last", at > 0.94)) if wanted),
            100 * at,
            word,
        )
        for n, (at, word) in enumerate(marks)
    )
    return Markup(
        '<div class="plot" style="--left:{}ch"><div class="y" aria-hidden="true">{}</div><div class="box">'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" role="img" aria-label="{}">{}{}</svg></div>'
        '<div class="x" aria-hidden="true">{}</div><div class="name">{}</div></div>'
    ).format(max((len(word) for word in said), default=1) + 1, left, label, grid, inside, below, x_name)


def _legend(names: Sequence[str]) -> Markup:
    if len(names) < 2:
        return Markup("")
    keys = Markup("").join(
        Markup('<li><i class="key t{}"></i>{}</li>').format(n % 8, name) for n, name in enumerate(names)
    )
    return Markup('<ul class="legend">{}</ul>').format(keys)


# ------------------------------------------------------------------------------------------------ lines and areas


def _xy(spec: ChartSpec, table: pa.Table, title: str) -> Drawn:
    axis = axis_of(table, spec.x)
    if not len(axis.places):
        raise RequestError(expected=f"values in {spec.x!r:.80}", got="only nulls", do="Look at the query.")
    series = series_of(table, axis, spec)
    notes = list(series.notes)
    kind = spec.kind
    if kind == "bar" and axis.kind == "text":
        return _bars(spec, axis, series, notes)
    if kind == "bar" and len(axis.places) > MOST_COLUMNS:
        kind = "line"
        notes.append(f"{len(axis.places):,} bars could not be told apart, so this is a line.")
    stacked = kind == "area" or (kind == "bar" and spec.stack)
    if stacked and len(series.names) > 1 and np.nanmin(series.values, initial=0.0) < 0:
        raise RequestError(expected="numbers from 0 up in a stack", got="some below 0", do="Draw a line or plain bars.")
    tops = np.nancumsum(series.values, axis=1) if stacked else series.values
    shown = [tops, *(end for end in (series.low, series.high) if end is not None)]
    span = _span(shown, zero=kind != "line")
    if kind == "bar":
        inside, x = _columns(axis, series, tops, span, stacked=stacked)
    else:
        x = _scale(float(axis.places[0]), float(axis.places[-1]))
        inside = _lines(axis, series, tops, span, x, filled=kind == "area")
        if len(axis.places) > MOST_POINTS:
            notes.append(
                f"Drawn by the smallest and largest value of {MOST_POINTS // 2:,} stretches of {len(axis.places):,} "
                "places each series."
            )
    inside += _hovers(axis, series, x, spec.percent, columns=kind == "bar")
    label = f"{title}: {', '.join(series.names)} by {axis.name}; the table below holds the same figures"
    frame = _frame(inside, _x_ticks(axis, x), span, spec.percent, label, axis.name)
    return Drawn(_legend(series.names) + frame, tuple(notes))


def _scale(low: float, high: float) -> Any:
    if high <= low:
        return lambda value: np.full_like(np.asarray(value, np.float64), 0.5)
    return lambda value: (np.asarray(value, np.float64) - low) / (high - low)


def _path(x: F64, y: F64) -> str:
    """Lines through the points, broken where a value is missing; a point alone is a dot."""
    known = np.isfinite(y)
    parts = []
    for run in np.split(np.arange(len(y)), np.flatnonzero(np.diff(known)) + 1):
        if len(run) and known[run[0]]:
            points = [f"{a:.1f} {b:.1f}" for a, b in zip(x[run], y[run], strict=True)]
            parts.append("M" + "L".join(points) + ("h0" if len(run) == 1 else ""))
    return "".join(parts)


def _thin(values: F64) -> Any:
    """Indexes of the smallest and largest value of each stretch, in order, the ends among them."""
    n = len(values)
    if n <= MOST_POINTS:
        return np.arange(n)
    edges = np.linspace(0, n, MOST_POINTS // 2 + 1).astype(np.int64)
    kept = [0, n - 1]
    for filler, pick in ((np.inf, np.argmin), (-np.inf, np.argmax)):
        filled = np.where(np.isfinite(values), values, filler)
        kept += [int(begin) + int(pick(filled[begin:end])) for begin, end in pairwise(edges)]
    return np.unique(kept)


def _lines(axis: Axis, series: Series, tops: F64, span: tuple[float, float], x: Any, *, filled: bool) -> Markup:
    low, high = span
    across = 1000 * np.asarray(x(axis.places), np.float64)

    def down(values: F64) -> F64:
        return 1000 * (1 - (values - low) / ((high - low) or 1.0))

    parts = []
    for n in reversed(range(len(series.names))):
        tone = n % 8
        kept = _thin(tops[:, n])
        top = down(tops[:, n])
        if filled:
            floor = down(tops[:, n - 1] if n else np.zeros(len(tops)))
            there = np.append(across[kept], across[kept][::-1])
            edge = np.append(top[kept], floor[kept][::-1])
            parts.append(Markup('<path class="fill t{}" d="{}Z"/>').format(tone, _path(there, edge)))
        if series.low is not None and series.high is not None:
            ends = np.isfinite(series.low[:, n]) & np.isfinite(series.high[:, n])
            at = kept[ends[kept]]
            if len(at):
                there = np.append(across[at], across[at][::-1])
                edge = np.append(down(series.high[at, n]), down(series.low[at, n])[::-1])
                parts.append(Markup('<path class="band t{}" d="{}Z"/>').format(tone, _path(there, edge)))
        parts.append(Markup('<path class="line t{}" d="{}"/>').format(tone, _path(across[kept], top[kept])))
    return Markup("").join(parts)


# ------------------------------------------------------------------------------------------------------ columns


def _columns(axis: Axis, series: Series, tops: F64, span: tuple[float, float], *, stacked: bool) -> tuple[Markup, Any]:
    low, high = span
    gaps = np.diff(axis.places)
    slot = float(gaps.min()) if len(gaps) else 1.0
    first, last = float(axis.places[0]) - slot / 2, float(axis.places[-1]) + slot / 2
    x = _scale(first, last)
    wide = 1000 * slot / (last - first)
    each = 1 if stacked else len(series.names)

    def down(value: float) -> float:
        return 1000 * (1 - (value - low) / ((high - low) or 1.0))

    parts = []
    for place in range(len(axis.places)):
        left = 1000 * float(x(axis.places[place])) - 0.4 * wide
        for n in range(len(series.names)):
            if not np.isfinite(series.values[place, n]):
                continue
            top = float(tops[place, n])
            floor = top - float(series.values[place, n]) if stacked else 0.0
            begin = left if stacked else left + 0.8 * wide * n / each
            y, height = down(max(top, floor)), abs(down(floor) - down(top))
            bar = '<rect class="bar t{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>'
            parts.append(Markup(bar).format(n % 8, begin, y, 0.8 * wide / each, height))
            if series.low is not None and series.high is not None and not stacked:
                ends = float(series.low[place, n]), float(series.high[place, n])
                if np.isfinite(ends).all():
                    middle = begin + 0.4 * wide / each
                    whisker = '<path class="whisker" d="M{:.2f} {:.1f}V{:.1f}"/>'
                    parts.append(Markup(whisker).format(middle, down(ends[0]), down(ends[1])))
    return Markup("").join(parts), x


def _hovers(axis: Axis, series: Series, x: Any, percent: bool, *, columns: bool) -> Markup:
    """A strip over each place that says what it holds."""
    count = len(axis.places)
    if count > MOST_HOVERS:
        return Markup("")
    at = 1000 * np.asarray(x(axis.places), np.float64)
    edges = np.concatenate([[0.0], (at[1:] + at[:-1]) / 2, [1000.0]])
    parts = []
    for place in range(count):
        lines = [axis.said(place)]
        for n, name in enumerate(series.names):
            if np.isfinite(series.values[place, n]):
                said = figure(float(series.values[place, n]), percent=percent)
                if series.low is not None and series.high is not None:
                    ends = (float(series.low[place, n]), float(series.high[place, n]))
                    said += f" [{', '.join(figure(end, percent=percent) for end in ends)}]"
                lines.append(f"{name}: {said}")
        strip = '<rect class="strip" x="{:.1f}" y="0" width="{:.1f}" height="1000"><title>{}</title></rect>'
        parts.append(Markup(strip).format(edges[place], edges[place + 1] - edges[place], "\n".join(lines)))
    return Markup("").join(parts)


def _bars(spec: ChartSpec, axis: Axis, series: Series, notes: list[str]) -> Drawn:
    """Bars that lie, one below the other: names of any length stay legible."""
    stacked = spec.stack and len(series.names) > 1
    tops = np.nancumsum(series.values, axis=1) if stacked else series.values
    ends = [end for end in (series.low, series.high) if end is not None]
    low, high = _span([tops, *ends], zero=True)
    if stacked and np.nanmin(series.values) < 0:
        raise RequestError(expected="numbers from 0 up in a stack", got="some below 0", do="Draw plain bars.")

    def at(value: float) -> float:
        return 100 * (value - low) / ((high - low) or 1.0)

    rows = []
    for place in range(min(len(axis.places), MOST_BARS)):
        bars = []
        for n in range(len(series.names)):
            value = float(series.values[place, n])
            if not np.isfinite(value):
                continue
            begin = float(tops[place, n]) - value if stacked else 0.0
            left, right = sorted((at(begin), at(begin + value)))
            whisker = Markup("")
            if series.low is not None and series.high is not None:
                a, b = float(series.low[place, n]), float(series.high[place, n])
                if np.isfinite((a, b)).all():
                    whisker = Markup('<u style="left:{:.2f}%;width:{:.2f}%"></u>').format(at(a), max(at(b) - at(a), 0))
            said = figure(value, percent=spec.percent)
            bar = '<i class="t{}{}" style="left:{:.2f}%;width:{:.2f}%" title="{}"></i>'
            nothing = " nothing" if value == 0 else ""
            drawn = Markup(bar).format(n % 8, nothing, left, right - left, f"{series.names[n]}: {said}") + whisker
            bars.append((drawn, said))
        if stacked:
            whole = float(np.nansum(series.values[place]))
            bars = [(Markup("").join(bar for bar, _ in bars), figure(whole, percent=spec.percent))]
        lanes = Markup("").join(
            Markup('<div class="lane">{}</div><b>{}</b>').format(bar, said) for bar, said in bars or [(Markup(""), "–")]
        )
        rows.append(Markup('<li><span>{}</span><div class="lanes">{}</div></li>').format(axis.words[place], lanes))
    if len(axis.places) > MOST_BARS:
        notes.append(f"The first {MOST_BARS} of {len(axis.places):,} bars; the table holds more.")
    markup = _legend(series.names) + Markup('<ul class="bars">{}</ul>').format(Markup("").join(rows))
    return Drawn(markup, tuple(notes))


# ---------------------------------------------------------------------------------- histograms, heatmaps, numbers


def _histogram(spec: ChartSpec, table: pa.Table, title: str) -> Drawn:
    axis = axis_of(table, spec.x)
    if axis.kind == "text":
        raise RequestError(expected=f"numbers or moments in {spec.x!r:.80}", got="text", do="Draw bars of counts.")
    if not len(axis.places):
        raise RequestError(expected=f"values in {spec.x!r:.80}", got="only nulls", do="Look at the query.")
    values = axis.places[axis.row[axis.row >= 0]]
    counts, edges = np.histogram(values, bins=min(spec.bins, MOST_COLUMNS))
    span = _span([counts.astype(np.float64)], zero=True)
    x = _scale(float(edges[0]), float(edges[-1]))
    parts = []
    ends = Axis(axis.name, axis.kind, edges, [], axis.row)
    for n, count in enumerate(counts.tolist()):
        left, right = 1000 * float(x(edges[n])), 1000 * float(x(edges[n + 1]))
        top = 1000 * (1 - (count - span[0]) / (span[1] - span[0]))
        words = f"{ends.said(n)} to {ends.said(n + 1)}: {figure(count)}"
        bar = '<rect class="bar t0" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:.1f}"/>'
        strip = '<rect class="strip" x="{:.2f}" y="0" width="{:.2f}" height="1000"><title>{}</title></rect>'
        parts.append(Markup(bar).format(left, top, max(right - left - 1.5, 0.5), 1000 - top))
        parts.append(Markup(strip).format(left, right - left, words))
    label = f"{title}: how often each {axis.name} occurs"
    marks = _x_ticks(ends, x)
    notes = []
    missing = int((axis.row < 0).sum())
    if missing:
        notes.append(f"{missing:,} rows have no {axis.name} and are not counted.")
    return Drawn(_frame(Markup("").join(parts), marks, span, False, label, axis.name), tuple(notes))


def _heatmap(spec: ChartSpec, table: pa.Table, title: str) -> Drawn:
    across, down = axis_of(table, spec.x), axis_of(table, spec.y[0])
    amounts = numbers_of(table, spec.color)
    notes: list[str] = []
    columns, rows = _some(across, notes), _some(down, notes)
    there = np.isin(across.row, columns) & np.isin(down.row, rows)
    at = (down.row[there] - rows.start) * max(len(columns), 1) + across.row[there] - columns.start
    grid = np.full(len(rows) * len(columns), np.nan)
    grid[at[::-1]] = amounts[there][::-1]
    part = grid.reshape(len(rows), len(columns))
    twice = len(at) - len(np.unique(at))
    if twice:
        notes.append(f"{twice:,} rows share their cell with a row before, which is the one shown.")
    known = part[np.isfinite(part)]
    if not len(known):
        raise RequestError(expected=f"numbers in {spec.color!r:.80}", got="none", do="Look at the query's columns.")
    low, high = float(known.min()), float(known.max())
    low = min(low, 0.0)
    numbered = len(columns) <= _NUMBERED_CELLS
    head = Markup("").join(Markup('<th scope="col">{}</th>').format(across.said(place)) for place in columns)
    body = []
    for row in rows:
        cells = []
        for column in columns:
            value = part[row - rows.start, column - columns.start]
            if not np.isfinite(value):
                cells.append(Markup('<td class="none" title="not known">&#8203;</td>'))
                continue
            depth = 100 * (value - low) / ((high - low) or 1.0)
            said = figure(float(value), percent=spec.percent)
            inside = said if numbered else ""
            words = f"{down.said(row)}, {across.said(column)}: {said}"
            cell = '<td style="--d:{:.0f}%" class="{}" title="{}">{}</td>'
            cells.append(Markup(cell).format(depth, "deep" if depth > 68 else "pale", words, inside))
        body.append(Markup('<tr><th scope="row">{}</th>{}</tr>').format(down.said(row), Markup("").join(cells)))
    markup = Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{}"><table class="heat{}"><thead><tr><th>{}</th>{}'
        '</tr></thead><tbody>{}</tbody></table></div><p class="scale"><span>{}</span><i></i><span>{}</span>'
        '<span class="soft">{}; hatched: not known</span></p>'
    ).format(
        title, _heat_class(numbered, [across.said(place) for place in columns]), f"{down.name} \\ {across.name}",
        head, Markup("").join(body),
        figure(low, percent=spec.percent), figure(high, percent=spec.percent), spec.color,
    )  # fmt: skip
    return Drawn(markup, tuple(notes))


def _heat_class(numbered: bool, heads: Sequence[str]) -> str:
    if numbered:
        return ""
    return " fine upright" if max(len(head) for head in heads) > 3 else " fine"


def _some(axis: Axis, notes: list[str]) -> range:
    """The places that a heatmap shows: all, or the newest or first few."""
    places = range(len(axis.places))
    if len(places) <= MOST_CELLS:
        return places
    newest = axis.kind == "time"
    notes.append(f"The {'newest' if newest else 'first'} {MOST_CELLS} of {len(places):,} values of {axis.name}.")
    return places[-MOST_CELLS:] if newest else places[:MOST_CELLS]


def _number(spec: ChartSpec, table: pa.Table) -> Drawn:
    names = list(spec.y)
    if not names:
        for name in table.column_names:
            try:
                numbers_of(table, name)
            except RequestError:
                continue
            names = [name]
            break
        else:
            raise RequestError(expected="a column of numbers", got="none", do="Draw a table.")
    tiles = []
    for name in names:
        value = float(numbers_of(table, name)[0])
        ends = Markup("")
        if spec.interval:
            low, high = (figure(float(numbers_of(table, end)[0]), percent=spec.percent) for end in spec.interval)
            ends = Markup("<small>95 % [{}, {}]</small>").format(low, high)
        label = Markup("<span>{}</span>").format(name.replace("_", " ")) if len(names) > 1 else Markup("")
        tiles.append(Markup("<div><b>{}</b>{}{}</div>").format(figure(value, percent=spec.percent), label, ends))
    notes = [] if table.num_rows == 1 else [f"The first of {table.num_rows:,} rows."]
    return Drawn(Markup('<div class="tiles">{}</div>').format(Markup("").join(tiles)), tuple(notes))
