"""Charts of the data page for ECharts. File names and reasons only ever enter as values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from honeyguide.console.charts import FONT, SERIES, colour
from honeyguide.console.quality_figures import Day, Load

__all__ = ["held_back", "volume"]

MOST_LOADS, MOST_REASONS = 40, 5
DOTS_UP_TO = 31
_TEXT = {"fontFamily": FONT, "fontSize": 12, ":color": colour("--soft")}
_COUNT = "(value) => Number(value).toLocaleString('en')"
_SHARE = "(value) => (100 * value).toFixed(value > 0 && value < 0.001 ? 2 : 1) + '%'"
_AXIS_COUNT = "(value) => value >= 1e6 ? value / 1e6 + ' M' : value >= 1e3 ? value / 1e3 + ' k' : value"


def volume(days: Sequence[Day]) -> dict[str, Any]:
    """Events per day as a line, what is usual for the weekday as a thin dashed one, odd days as dots."""
    return {
        **_frame([day.day for day in days], _COUNT, _AXIS_COUNT),
        "series": [
            {
                "type": "line",
                "name": "events",
                "data": [day.events for day in days],
                "showSymbol": len(days) <= DOTS_UP_TO,
                "symbolSize": 6,
                "lineStyle": {"width": 2, ":color": colour(SERIES[0])},
                "itemStyle": {":color": colour(SERIES[0])},
                "areaStyle": {"opacity": 0.12, ":color": colour(SERIES[0])},
            },
            {
                "type": "line",
                "name": "usual for the weekday",
                "data": [None if day.usual is None else round(day.usual, 1) for day in days],
                "showSymbol": False,
                "lineStyle": {"width": 1.5, "type": "dashed", ":color": colour("--soft")},
                "itemStyle": {":color": colour("--soft")},
            },
            {
                "type": "scatter",
                "name": "odd",
                "data": [day.events if day.odd else None for day in days],
                "symbolSize": 9,
                "itemStyle": {":color": colour("--bad")},
            },
        ],
    }


def held_back(loads: Sequence[Load]) -> tuple[dict[str, Any], int]:
    """Share of rows held back in each load, oldest first, stacked by reason; and how many loads there are to draw.

    The reasons beyond the five most frequent are one colour. Nothing is drawn where nothing was held back.
    """
    shown = [load for load in reversed(loads[:MOST_LOADS]) if load.rows_in]
    total: Counter[str] = Counter()
    for load in shown:
        total.update({reason: n for reason, n in load.reasons.items() if n})
    if not total:
        return {}, 0
    named = [reason for reason, _ in total.most_common(MOST_REASONS)]
    series = [(reason, [load.reasons.get(reason, 0) / load.rows_in for load in shown]) for reason in named]
    if len(total) > len(named):
        rest = [sum(n for r, n in load.reasons.items() if r not in named) / load.rows_in for load in shown]
        series.append(("other", rest))
    # One label each, even for two loads of one file on one day.
    names = [f"{load.at[:10]} {load.table}\n{load.file} ({place})" for place, load in enumerate(shown, 1)]
    options = _frame(names, _SHARE, _SHARE)
    options["xAxis"]["axisLabel"][":formatter"] = "(name) => name.slice(0, 10)"
    options["series"] = [
        {
            "type": "bar",
            "stack": "held back",
            "name": reason,
            "data": shares,
            "barMaxWidth": 34,
            "itemStyle": {":color": colour(SERIES[place % len(SERIES)])},
        }
        for place, (reason, shares) in enumerate(series)
    ]
    return options, len(shown)


def _frame(categories: list[str], value: str, axis: str) -> dict[str, Any]:
    return {
        "animationDuration": 300,
        "grid": {"left": 4, "right": 14, "top": 40, "bottom": 4, "containLabel": True},
        "legend": {
            "top": 0,
            "left": 0,
            "itemWidth": 10,
            "itemHeight": 10,
            "itemGap": 16,
            "icon": "circle",
            "type": "scroll",
            "textStyle": _TEXT,
        },
        "tooltip": {"trigger": "axis", "renderMode": "richText", ":valueFormatter": f"({_blank(value)})"},
        "xAxis": {
            "type": "category",
            "data": categories,
            "axisTick": {"show": False},
            "axisLine": {"lineStyle": {":color": colour("--line")}},
            "axisLabel": {**_TEXT, "hideOverlap": True, "margin": 12},
        },
        "yAxis": {
            "type": "value",
            "splitNumber": 4,
            "axisLabel": {**_TEXT, ":formatter": axis},
            "splitLine": {"lineStyle": {":color": colour("--line")}},
        },
    }


def _blank(value: str) -> str:
    """A formatter that says nothing of a point that is not there."""
    return f"(value) => value == null || value === '-' ? '–' : ({value})(value)"
