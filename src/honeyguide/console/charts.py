"""Charts for ECharts, which NiceGUI carries along. Catalog and segment names only ever enter as values."""

from __future__ import annotations

from typing import Any

from honeyguide.console.figures import Evaluation

__all__ = ["FONT", "SERIES", "colour", "forest"]

FONT = "Roboto, 'Liberation Sans', Arial, sans-serif"  # named, since ECharts measures texts before it draws them
SERIES = ("--series-1", "--series-2", "--series-3", "--series-4", "--series-5", "--series-6")

# Draws one interval with its dot, shifted down or up so that the systems of one segment do not overlap.
_INTERVAL = """(params, api) => {
    const [row, estimate, low, high, place, many] = [0, 1, 2, 3, 4, 5].map((i) => api.value(i));
    const band = api.size([0, 1])[1], shift = (place - (many - 1) / 2) * Math.min(band / (many + 1), 18);
    const dot = api.coord([estimate, row]), ink = api.visual("color");
    const children = [{type: "circle", shape: {cx: dot[0], cy: dot[1] + shift, r: 4.5}, style: {fill: ink}}];
    if (!isNaN(low) && !isNaN(high)) {
        const from = api.coord([low, row]), to = api.coord([high, row]), y = dot[1] + shift;
        const line = {stroke: ink, lineWidth: 2, fill: null};
        children.unshift({type: "line", shape: {x1: from[0], y1: y, x2: to[0], y2: y}, style: line});
        for (const x of [from[0], to[0]])
            children.unshift({type: "line", shape: {x1: x, y1: y - 4, x2: x, y2: y + 4}, style: line});
    }
    return {type: "group", children};
}"""
_TOOLTIP = "(point) => honeyguide.intervalText(point)"


def forest(evaluation: Evaluation, protocol: str, metric: str) -> tuple[dict[str, Any], int]:
    """Estimates with intervals, a row per segment and a colour per system.

    Returns the options for ECharts and the number of dots over all rows (0: nothing was measured).
    """
    segments = [
        segment
        for segment in evaluation.segments
        if any(evaluation.cell(protocol, segment, system, metric) for system in evaluation.systems)
    ]
    systems = [
        system
        for system in evaluation.systems
        if any(evaluation.cell(protocol, segment, system, metric) for segment in segments)
    ]
    series = []
    for place, system in enumerate(systems):
        data = []
        for row, segment in enumerate(segments):
            cell = evaluation.cell(protocol, segment, system, metric)
            if cell is not None:
                data.append([row, cell.estimate, cell.low, cell.high, place, len(systems)])
        series.append(
            {
                "type": "custom",
                "name": system,
                "data": data,
                "dimensions": ["segment", "estimate", "low", "high", "place", "many"],
                "encode": {"x": [1, 2, 3], "y": 0},
                ":renderItem": _INTERVAL,
                "itemStyle": {":color": colour(SERIES[place % len(SERIES)])},
            }
        )
    text = {"fontFamily": FONT, "fontSize": 12, ":color": colour("--soft")}
    options = {
        "animationDuration": 300,
        "grid": {"left": 8, "right": 20, "top": 44, "bottom": 26, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "itemWidth": 10,
            "itemHeight": 10,
            "itemGap": 18,
            "icon": "circle",
            "textStyle": text,
        },
        "tooltip": {"trigger": "item", "renderMode": "richText", ":formatter": _TOOLTIP},
        "xAxis": {
            "type": "value",
            "scale": True,
            "name": metric,
            "nameLocation": "middle",
            "nameGap": 26,
            "nameTextStyle": text,
            "axisLabel": text,
            "splitNumber": 4,
            "splitLine": {"lineStyle": {":color": colour("--line")}},
        },
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": segments,
            "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {**text, "width": 120, "overflow": "break"},
            "splitArea": {"show": False},
            "splitLine": {"show": True, "lineStyle": {":color": colour("--line"), "type": "dashed"}},
        },
        "series": series,
    }
    return options, len(segments) * len(systems)


def colour(name: str) -> str:
    """A colour of the style sheet, as JavaScript that asks for it, so that it follows the theme."""
    return f"honeyguide.colour({name!r})"
