"""The HTML report: complete, self-contained, escaped, and drawn to scale."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.flows.reports.build_report import render_report
from honeyguide.flows.reports.charts import Interval, Reliability, interval_chart, reliability_chart, span_of, ticks

NASTY = '<script>alert(1)</script><img src="https://evil.example/x" onerror=\'alert(1)\'>"&'
VOID = {"meta", "br", "link", "img", "input", "hr"}
SELF_CLOSED = {"path", "circle", "polyline"}


class Document(HTMLParser):
    """Tags, attributes and text; fails on a tag that is closed by another."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(markup)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text += data


def parts(text: str | None = None) -> dict[str, Any]:
    """The four arguments; `text` in place of every name."""

    def name(given: str) -> str:
        return text or given

    rows = [
        {"protocol": name("global"), "segment": segment, "system": system, "metric": metric, "estimate": value,
         "low": value - 0.01, "high": value + 0.01, "n": 6040}
        for segment in ("all", name("new person"))
        for metric in (name("nDCG@10"), name("MRR"))
        for system, value in ((name("home"), 0.21), ("item-kNN", 0.18), ("popular", 0.11))
    ]  # fmt: skip
    common = {"protocol": name("global"), "segment": "all", "system": name("home"), "metric": name("nDCG@10")}
    differences = [
        {**common, "baseline": name("item-kNN"), "estimate": 0.03, "low": 0.02, "high": 0.04},
        {**common, "baseline": "popular", "estimate": 0.01, "low": -0.01, "high": 0.03},
    ]
    surface = {
        "candidates": 300, "sources": [{"name": name("als"), "weight": 0.4}], "rules": [name("hide seen")],
        "heads": [{"name": name("watch"), "calibrated": False, "auc": 0.8}], "explore_share": 0.05,
    }  # fmt: skip
    points = [{"p": 0.2, "y": 0.25, "n": 10}, {"p": 0.8, "y": 0.7, "n": 30}]
    item = {"title": name("Alien"), "year": 1979, "reason": name("Why")}
    return {
        "pipeline": {
            "workspace": name("films"), "build_id": name("b-1"), "built_at": name("2026-03-04T09:12:00Z"),
            "data": {"events": 1000209, "people": 6040, "items": 3706, "first": "2000-04-25", "last": "2003-02-28",
                     "evidence": "L0"},
            "surfaces": {name("home"): surface},
        },
        "evaluation": {
            "rows": rows, "differences": differences, "notes": [name("Ratings are not impressions.")],
            "protocols": {name("global"): name("Global cut in time: what people took after the cut")},
        },
        "timings": [{"name": name("ranker"), "seconds": 44.2, "reused": False},
                    {"name": name("read"), "seconds": 3.1, "reused": True}],
        "extras": {
            "title": name("The first build"), "limits": [name("Films only.")], "next": [name("Serve it.")],
            "reliability": [{"head": name("like"), "points": points}],
            "samples": [{"title": name("Person 42"), "items": [item]}],
        },
    }  # fmt: skip


def test_the_report_says_what_was_built_how_good_it_is_and_what_it_cannot_say() -> None:
    text = re.sub(r"\s+", " ", Document(render_report(**parts())).text)
    for sentence in (
        "home beats item-kNN: +0.030 nDCG@10 [+0.020, +0.040] (Global cut in time)",
        "home is not clearly apart from popular",
        "1\u202f000\u202f209",
        "What people took after the cut",
        "0.210 [0.200, 0.220]",
        "new person",
        "global: home is not clearly better than popular in nDCG@10.",
        "Ranks only, no probability: watch.",
        "what people did, not what they were shown",
        "Ratings are not impressions.",
        "Films only.",
        "44.2 s",
        "reused",
        "Person 42",
        "Serve it.",
    ):
        assert sentence.replace("\u202f", " ") in text.replace("\u202f", " "), sentence
    # Expected gap by hand: (10 * |.2 - .25| + 30 * |.8 - .7|) / 40 = .0875
    assert "off by 8.8 points on average" in text or "off by 8.7 points on average" in text


def test_the_report_needs_nothing_from_outside() -> None:
    page = render_report(**parts())
    assert "//" not in re.sub(r"<!doctype[^>]*>", "", page)
    parsed = Document(page)
    assert not {"script", "link", "img", "iframe", "object"} & set(parsed.tags)
    assert not [name for name, _ in parsed.attributes if name in {"src", "href", "srcset"} or name.startswith("on")]
    assert "@import" not in page
    assert "url(" not in page


def test_names_from_anywhere_stay_text() -> None:
    plain, hostile = Document(render_report(**parts())), Document(render_report(**parts(NASTY)))
    assert set(hostile.tags) <= set(plain.tags)
    assert {name for name, _ in hostile.attributes} <= {name for name, _ in plain.attributes}
    assert hostile.text.count("<script>alert(1)</script>") > 15


@pytest.mark.parametrize("missing", ["pipeline", "evaluation", "timings", "extras"])
def test_a_missing_part_is_left_out(missing: str) -> None:
    given = parts()
    given[missing] = [] if missing == "timings" else {}
    Document(render_report(**given))
    for kept in parts():
        Document(render_report(**{key: value if key == kept else type(value)() for key, value in parts().items()}))


def test_rows_without_a_number_are_left_out() -> None:
    given = parts()
    given["evaluation"]["rows"] += [{"protocol": "global", "estimate": None}, {"estimate": float("nan")}, "noise", 3]
    given["extras"]["reliability"] = [{"head": "like", "points": [{"p": None, "y": 1}]}, None]
    page = render_report(**given)
    assert "nan" not in Document(page).text
    assert "keep their promise" not in page


# --- the charts


@settings(max_examples=80, deadline=None)
@given(st.floats(-1e3, 1e3), st.floats(1e-4, 1e3))
def test_ticks_are_round_inside_and_evenly_apart(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    assert 2 <= len(marks) <= 12
    steps = [after - before for before, after in pairwise(marks)]
    assert max(steps) - min(steps) < 1e-6 * width
    assert low - 1e-6 * width <= marks[0]
    assert marks[-1] <= low + width * (1 + 1e-6)
    digits = f"{steps[0]:.6e}".split("e")[0].rstrip("0").rstrip(".")
    assert digits in {"1", "2", "5"}


def test_an_interval_is_drawn_to_scale() -> None:
    rows = [Interval("a", 0.5, 0.25, 0.75), Interval("b", 1.0), Interval("c", 0.0)]
    drawn = str(interval_chart(rows, label="x", span=(0.0, 1.0)))
    centres = [float(found) for found in re.findall(r'<circle[^>]*cx="([\d.]+)"', drawn)]
    middle, right, left = centres
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    ends = re.search(r'<path class="tone t0" d="M([\d.]+) [\d.]+H([\d.]+)', drawn)
    assert ends is not None
    assert float(ends[1]) == pytest.approx(left + 0.25 * (right - left), abs=0.1)
    assert float(ends[2]) == pytest.approx(left + 0.75 * (right - left), abs=0.1)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(-10, 10), max_size=6))
def test_the_axis_holds_every_row(values: list[float]) -> None:
    low, high = span_of([Interval("x", value) for value in values])
    assert low < high
    assert all(low <= value <= high for value in values)


def test_a_promise_kept_lies_on_the_diagonal() -> None:
    drawn = str(reliability_chart([Reliability(share / 10, share / 10, share) for share in range(1, 10)], label="x"))
    diagonal = re.search(r'dashed" d="M(\d+) (\d+)L(\d+) (\d+)', drawn)
    assert diagonal is not None
    x0, y0, x1, y1 = (float(found) for found in diagonal.groups())
    discs = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="([\d.]+)"', drawn)
    assert len(discs) == 9
    for x, y, _ in discs:
        assert (float(x) - x0) / (x1 - x0) == pytest.approx((float(y) - y0) / (y1 - y0), abs=0.01)
    radii = [float(radius) for _, _, radius in discs]
    assert radii == sorted(radii)


@pytest.mark.heavy
def test_the_report_opens_from_disk(tmp_path: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    path = tmp_path / "report.html"
    path.write_text(render_report(**parts()), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            asked: list[str] = []
            page.on("request", lambda request, seen=asked: seen.append(request.url))
            page.goto(path.as_uri())
            assert page.locator("svg.chart").count() == 3
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert asked == [path.as_uri()]
        browser.close()
