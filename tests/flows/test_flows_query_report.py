"""Saved queries as a page: what a file says, what is drawn, what is refused; nothing is executed or fetched."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.errors import RequestError
from honeyguide.flows.reports.plot_data import figure, short, time_ticks
from honeyguide.flows.reports.plot_table import table_of
from honeyguide.flows.reports.plots import MOST_POINTS, draw
from honeyguide.flows.reports.queries import SHIPPED, query_report
from honeyguide.flows.reports.saved_query import ChartSpec, SavedQuery, read_folder, read_query
from honeyguide.flows.reports.saved_reports import listing, read

sys.path.insert(0, str(Path(__file__).parent))

NASTY = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br", "input", "hr"}


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
        self.text += data


def saved(tmp_path: Path, text: str, name: str = "a") -> SavedQuery:
    path = tmp_path / f"{name}.sql"
    path.write_text(text)
    return read_query(path)


# --- the file


def test_a_file_says_what_it_asks_and_how_to_draw_it(tmp_path: Path) -> None:
    query = saved(
        tmp_path,
        "-- title: Clicks by day\n-- any remark\n-- chart: line x=day y=events,clicks format=percent\n"
        "-- note: First.\n-- note: Second: with a colon.\n\nSELECT 1 -- title: not this\n",
    )
    assert (query.title, query.notes, query.problem) == ("Clicks by day", ("First.", "Second: with a colon."), "")
    assert query.chart == ChartSpec("line", "day", ("events", "clicks"), percent=True)
    bands = saved(tmp_path, '-- chart: line x="the day" y=share color=s\n-- interval: low, high\nSELECT 1')
    assert bands.chart == ChartSpec("line", "the day", ("share",), "s", interval=("low", "high"))
    assert saved(tmp_path, "SELECT 1", "04_weekly-sales").title == "weekly sales"
    assert saved(tmp_path, "-- chart: scalar value=n\nSELECT 1").chart.kind == "number"


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("-- chart: pie x=a", "line, area, bar"),
        ("-- chart: line x=day", "no y"),
        ("-- chart: line x=day y=a wat=3", "'wat=3'"),
        ("-- chart: line x=day x=b y=a", "each once"),
        ('-- chart: line x="day y=a', "quotes"),
        ("-- chart:", "''"),
        ("-- chart: line x=day y=a,b color=c", "several y or one y"),
        ("-- chart: heatmap x=a y=b,c color=d", "one y"),
        ("-- chart: histogram x=a bins=0", "bins from 1 to 200"),
        ("-- chart: table rows=many", "rows from 1"),
        ("-- chart: line x=day y=a format=roman", "number or percent"),
        ("-- chart: bar x=day y=a stack=maybe", "stack=yes"),
        ("-- chart: line x=a y=b\n-- chart: bar x=a y=b", "one `-- chart:`"),
        ("-- titel: x", "`-- title: ...`"),
        ("-- interval: low\n-- chart: line x=a y=b", "two columns"),
        ("-- interval: a,b\n-- chart: table", "interval"),
    ],
)
def test_a_broken_head_is_told(tmp_path: Path, head: str, says: str) -> None:
    query = saved(tmp_path, f"{head}\nSELECT 1")
    assert says in query.problem
    assert query.sql.endswith("SELECT 1")


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "bytes.sql").write_bytes(b"\xff\xfe select")
    (tmp_path / "huge.sql").write_text("-" * 1_000_001)
    (tmp_path / "folder.sql").mkdir()
    (tmp_path / ".hidden.sql").write_text("SELECT 1")
    (tmp_path / "note.txt").write_text("SELECT 1")
    found = {query.name: query.problem for query in read_folder(tmp_path)}
    assert sorted(found) == ["bytes", "folder", "huge"]
    assert all(found.values())
    assert read_folder(tmp_path / "nowhere") == []


# --- the charts


def test_a_line_is_drawn_to_scale_and_broken_where_a_value_is_missing() -> None:
    table = pa.table({"x": [0, 1, 2, 3, 4], "y": [0.0, 10.0, None, float("nan"), 5.0]})
    drawn = draw(ChartSpec("line", "x", ("y",)), table, "t")
    path = re.search(r'class="line t0" d="([^"]+)"', drawn.markup)
    assert path is not None
    assert re.findall("[MLh]", path[1]) == ["M", "L", "M", "h"]
    points = [tuple(map(float, pair.split())) for pair in re.findall(r"[\d.]+ [\d.]+", path[1])]
    assert [x for x, _ in points] == [0, 250, 1000]
    assert points[2][1] == pytest.approx((points[0][1] + points[1][1]) / 2, abs=0.1)
    assert any("2 values are missing" in note for note in drawn.notes)


def test_a_hundred_thousand_points_stay_a_small_picture_with_their_extremes() -> None:
    y = np.sin(np.arange(100_000) / 500)
    y[77_777] = 9.0
    drawn = draw(ChartSpec("line", "x", ("y",)), pa.table({"x": np.arange(100_000), "y": y}), "t")
    assert len(drawn.markup) < 40_000
    path = re.search(r'class="line t0" d="([^"]+)"', drawn.markup)
    assert path is not None
    heights = [float(pair.split()[1]) for pair in re.findall(r"[\d.]+ [\d.]+", path[1])]
    assert len(heights) <= MOST_POINTS + 2
    assert heights.count(min(heights)) == 1
    assert any("100,000" in note for note in drawn.notes)


def test_many_series_names_and_cells_are_cut_and_said() -> None:
    n = 5_000
    table = pa.table({"x": np.arange(n), "y": np.arange(n, dtype=float), "s": [f"s{k}" for k in range(n)]})
    assert "8 of 5,000 series" in " ".join(draw(ChartSpec("line", "x", ("y",), "s"), table, "t").notes)
    assert "first 40 of 5,000 bars" in " ".join(draw(ChartSpec("bar", "s", ("y",)), table, "t").notes)
    cells = draw(ChartSpec("heatmap", "s", ("x",), "y"), table, "t")
    assert cells.markup.count("<td") == 3_600
    assert "so this is a line" in " ".join(draw(ChartSpec("bar", "x", ("y",)), table, "t").notes)


def test_rows_that_share_a_place_are_said() -> None:
    table = pa.table({"x": ["a", "a", None], "y": [1, 2, 3]})
    drawn = draw(ChartSpec("bar", "x", ("y",)), table, "t")
    assert "1 rows share x" in " ".join(drawn.notes)
    assert re.findall(r"<b>(\d)</b>", drawn.markup) == ["1", "3"]


def test_an_interval_is_a_band_or_a_whisker() -> None:
    table = pa.table({"x": [1, 2, 3], "y": [1.0, 2.0, 3.0], "lo": [0.5, 1.5, None], "hi": [1.5, 2.5, 3.5]})
    assert draw(ChartSpec("line", "x", ("y",), interval=("lo", "hi")), table, "t").markup.count('class="band') == 1
    assert draw(ChartSpec("bar", "x", ("y",), interval=("lo", "hi")), table, "t").markup.count("whisker") == 2
    named = table.set_column(0, "x", pa.array(["a", "b", "c"]))
    assert draw(ChartSpec("bar", "x", ("y",), interval=("lo", "hi")), named, "t").markup.count("<u ") == 2
    assert "95 % [0.5, 1.5]" in draw(ChartSpec("number", y=("y",), interval=("lo", "hi")), table, "t").markup


def test_what_is_not_known_is_hatched() -> None:
    table = pa.table({"x": [1, 2, 1], "y": ["a", "a", "b"], "v": [0.5, None, 0.25]})
    drawn = draw(ChartSpec("heatmap", "x", ("y",), "v", percent=True), table, "t")
    assert drawn.markup.count('class="none"') == 2
    assert "50\u202f%" in drawn.markup


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (ChartSpec("line", "x", ("text",)), "numbers in 'text'"),
        (ChartSpec("line", "nothing", ("y",)), "a column of the answer"),
        (ChartSpec("line", "null", ("y",)), "values in 'null'"),
        (ChartSpec("line", "x", ("null",)), "at least one number"),
        (ChartSpec("histogram", "text"), "numbers or moments"),
        (ChartSpec("heatmap", "x", ("text",), "null"), "numbers in 'null'"),
        (ChartSpec("area", "x", ("y", "minus")), "from 0 up"),
        (ChartSpec("line", "x", tuple("y" for _ in range(9))), "at most 8"),
    ],
)
def test_what_cannot_be_drawn_is_told(spec: ChartSpec, says: str) -> None:
    columns = {"x": [1, 2], "y": [1.0, 2.0], "minus": [-1, 1], "text": ["a", "b"], "null": pa.nulls(2, pa.float64())}
    with pytest.raises(RequestError, match=says):
        draw(spec, pa.table(columns), "t")


KINDS = (
    st.floats(), st.integers(-(2**62), 2**62), st.text(max_size=8) | st.just(NASTY), st.booleans(), st.datetimes(),
    st.dates(), st.decimals(-9e9, 9e9, allow_nan=False, places=3),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_an_answer_holds_is_drawn_or_refused(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 12))
    columns = [
        pa.array(data.draw(st.lists(st.none() | data.draw(st.sampled_from(KINDS)), min_size=n, max_size=n)))
        for _ in range(3)
    ]
    table = pa.table(columns, [NASTY, "y", "c"])
    kind = data.draw(st.sampled_from(["line", "area", "bar", "heatmap", "histogram", "number", "table"]))
    color = data.draw(st.sampled_from(["", "c"])) if kind != "heatmap" else "c"
    try:
        drawn = draw(ChartSpec(kind, NASTY, ("y",), color), table, NASTY)
    except (RequestError, ArithmeticError, ValueError):
        return
    page = Document(f"<div>{drawn.markup}{table_of(table, 5)}</div>")
    assert "script" not in page.tags
    assert "nan" not in [value for _, value in page.attributes]


@pytest.mark.parametrize(
    ("value", "percent", "said"),
    [
        (1234567, False, "1\u202f234\u202f567"), (0.12345, False, "0.1235"), (-2.5, False, "−2.5"),
        (1e-9, False, "1e−09"), (1234.5678, False, "1\u202f235"), (float("nan"), False, "–"),
        (0.5, True, "50\u202f%"), (0.00001, True, "<0.01\u202f%"), (0.1234, True, "12.3\u202f%"),
    ],
)  # fmt: skip
def test_numbers_in_words(value: float, percent: bool, said: str) -> None:
    assert figure(value, percent=percent) == said


def test_numbers_on_an_axis() -> None:
    assert [short(value) for value in (0, 2026, 12_000, 3.5e6)] == ["0", "2026", "12k", "3.5M"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4 * 10**15), st.integers(1_000_000, 10**15))
def test_marks_of_time_lie_inside_and_are_few(low: int, span: int) -> None:
    marks = time_ticks(low, low + span)
    assert len(marks) <= 8
    assert all(low <= at <= low + span for at, _ in marks)


# --- the page


@pytest.fixture
def workspace(built: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    shutil.copytree(built, folder)
    return folder


def ask(folder: Path, **files: str) -> None:
    (folder / "queries").mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / "queries" / f"{name}.sql").write_text(text)


def test_a_build_refreshes_the_page_and_a_failing_query_fails_nothing(
    workspace: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    ask(workspace, mine="-- title: Mine\n-- chart: number\nSELECT count(*) AS n FROM all_events", bad="SELECT nope")
    page = workspace / "reports" / "analysis.html"
    page.unlink(missing_ok=True)
    code, out, _ = run("build", workspace, "--json")
    assert code == 0
    report = json.loads(out)["report"]
    assert report["failed"] == 1
    assert report["queries"] == len(list(SHIPPED.glob("*.sql"))) + 2
    assert "Mine" in Document(page.read_text()).text
    told = json.loads(page.with_suffix(".json").read_text())
    assert {one["name"]: one["state"] for one in told["sections"] if one["own"]} == {"mine": "drawn", "bad": "failed"}
    assert [one for one in told["sections"] if one["state"] == "failed" and not one["own"]] == []


def test_the_shipped_queries_all_run_whatever_the_log_lacks(workspace: Path) -> None:
    made = query_report(workspace)
    assert made["failed"] == 0, [one["error"] for one in made["sections"]]
    states = {one["name"]: one["state"] for one in made["sections"]}
    assert states["01_events"] == "drawn"
    assert states["41_position"] == "empty"  # nothing was shown yet
    page = Document(Path(made["path"]).read_text())
    assert "Nothing to show yet" in page.text
    assert not set(page.tags) & {"script", "link", "img", "iframe", "object"}
    for name, value in page.attributes:
        assert name not in ("src", "href", "srcset")
        assert "http" not in value
        assert not name.startswith("on")


def test_bad_questions_are_told_in_their_place(workspace: Path) -> None:
    ask(
        workspace,
        a_writes="DELETE FROM events",
        b_two="SELECT 1; SELECT 2",
        c_unknown="SELECT * FROM sesions",
        d_empty="",
        e_file="SELECT * FROM read_text('/etc/hostname')",
        f_head="-- chart: pie\nSELECT 1",
        g_column="-- chart: line x=a y=b\nSELECT 1 AS a",
        h_script=f'-- title: {NASTY}\n-- note: {NASTY}\n-- chart: bar x="<script>" y="<b>"\n'
        'SELECT \'<img src=x onerror=alert(1)>\' AS "<script>", 3 AS "<b>"',
        i_none="-- chart: number\nSELECT 1 AS n WHERE false",
        j_nan="-- chart: line x=x y=y\nSELECT x, if(x % 2 = 0, 'nan'::DOUBLE, x) AS y FROM range(9) t(x)",
        k_moment="-- chart: line x=x y=y\nSELECT 'infinity'::TIMESTAMP AS x, 1 AS y",
        l_long="-- chart: line x=x y=y\nSELECT x, sin(x) AS y FROM range(150000) t(x)",
        m_loop="WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t",
        n_same="SELECT 1 AS a, 2 AS a, [1, 2] AS l, {'b': 1} AS s, INTERVAL 3 DAY AS i, gen_random_uuid() AS u",
    )
    config = workspace / "honeyguide.toml"
    config.write_text(config.read_text() + "\n[report]\nquery_s = 1.0\nrows = 100000\n")
    made = query_report(workspace)
    said = {one["name"]: (one["state"], one["error"]) for one in made["sections"] if one["own"]}
    for name, part in {
        "a_writes": "DELETE", "b_two": "SELECT, SELECT", "c_unknown": "sesions", "d_empty": "an empty statement",
        "e_file": "other files", "f_head": "line, area, bar", "g_column": "a column of the answer",
        "k_moment": "cannot", "m_loop": "within 1 s",
    }.items():  # fmt: skip
        assert said[name][0] == "failed", name
        assert part in said[name][1], name
    assert said["i_none"] == ("empty", "")
    assert {said[name][0] for name in ("h_script", "j_nan", "l_long", "n_same")} == {"drawn"}
    page = Document(Path(made["path"]).read_text())
    assert not set(page.tags) & {"script", "img"}
    assert NASTY in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert "100\u202f000 rows and more: cut off at 100\u202f000" in page.text
    assert "Traceback" not in page.text


def test_all_queries_together_have_a_limit(workspace: Path) -> None:
    ask(workspace, **{f"q{n}": "SELECT sum(a.range * b.range) FROM range(100000) a, range(100000) b" for n in range(3)})
    config = workspace / "honeyguide.toml"
    config.write_text(config.read_text() + "\n[report]\nquery_s = 0.2\ntotal_s = 0.3\n")
    made = query_report(workspace, queries=workspace / "queries")
    assert made["failed"] == 3
    assert "took all of 0.3 s" in made["sections"][2]["error"]


@pytest.mark.heavy
def test_rows_of_the_log_that_no_build_has_seen_are_counted(workspace: Path) -> None:
    from honeyguide.flows.operate import server, sql

    def count(what: str) -> int:
        return int(sql(workspace, f"SELECT count(*) AS n FROM {what}")["n"][0].as_py())

    before = count("all_events")
    with server(workspace, port=0, workers=1) as api:
        import httpx

        with httpx.Client(base_url=api.url, timeout=60, trust_env=False) as client:
            answer = client.post("/v1/recommend", json={"user_id": "p1", "k": 4}).raise_for_status().json()
            action = next(iter(client.get("/v1/pipeline").json()["actions"]))
            item = answer["items"][1]["item_id"]
            event = {"user_id": "p1", "item_id": item, "action": action, "value": 5, "request_id": answer["request_id"]}
            assert client.post("/v1/events", json={"events": [event]}).json()["accepted"] == 1
            listed = client.get("/v1/reports").raise_for_status().json()["reports"]
            assert listed[0]["name"] == "analysis"
            assert "<h1>" in client.get("/v1/reports/analysis").json()["html"]
            assert client.get("/v1/reports/nothing").status_code == 404
    assert count("all_events") == before + 1
    assert count("showings") == 4
    rows = sql(workspace, "SELECT position, acts FROM exposures ORDER BY position").to_pylist()
    assert rows == [{"position": n, "acts": int(n == 2)} for n in (1, 2, 3, 4)]


def test_the_command(workspace: Path, tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    folder = tmp_path / "My Questions"
    folder.mkdir()
    code, _, err = run("report", workspace, "--queries", folder)
    assert code == 2
    assert ".sql files" in err
    code, _, err = run("report", workspace, "--queries", tmp_path / "nowhere")
    assert code == 2
    assert "no such folder" in err
    (folder / "one.sql").write_text("SELECT 1 AS n")
    code, out, _ = run("report", workspace, "--queries", folder)
    assert code == 0
    assert "1 queries" in out
    assert (workspace / "reports" / "my-questions.html").exists()
    (folder / "two.sql").write_text("SELECT")
    code, out, _ = run("report", workspace, "--queries", folder, "--out", tmp_path / "page.html", "--json")
    assert code == 3
    assert json.loads(out)["failed"] == 1
    assert (tmp_path / "page.html").exists()
    assert not (tmp_path / "page.json").exists()
    code, _, err = run("report", workspace, "--queries", folder, "--out", tmp_path)
    assert code == 2
    assert "directory" in err
    assert run("report", tmp_path)[0] == 2


def test_a_file_of_the_same_name_takes_a_shipped_query_s_place(workspace: Path) -> None:
    ask(workspace, **{"01_events": "-- title: My own\nSELECT 1 AS n"})
    made = query_report(workspace)
    assert [one["title"] for one in made["sections"] if one["name"] == "01_events"] == ["My own"]


def test_views_are_listed(workspace: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("sql", workspace, "--views", "--json")
    assert code == 0
    found = {view["name"]: view for view in json.loads(out)}
    assert {"sessions", "funnels", "retention", "catalog_health", "search_traffic", "event_facts"} <= set(found)
    assert all(column["meaning"] for view in found.values() for column in view["columns"])
    assert "30 minutes" in run("sql", workspace, "--views")[1]
    assert run("sql", workspace)[0] == 2
    assert run("sql", workspace, "select 1", "--views")[0] == 2
    code, out, _ = run("sql", workspace, "select count(*) as n from sessions", "--json")
    assert code == 0
    assert json.loads(out)[0]["n"] > 0


def test_reports_are_found_by_name_alone(workspace: Path) -> None:
    from honeyguide.errors import NotFoundError
    from honeyguide.flows.layout import Layout

    layout = Layout.open(workspace)
    (layout.reports / "plain.html").write_text("<title>A &amp; B</title>")
    assert {one["name"]: one["title"] for one in listing(layout)}["plain"] == "A & B"
    assert read(layout, "plain")["html"].startswith("<title>")
    for name in ("../honeyguide", "x", "", "A", "plain.html", "a" * 200):
        with pytest.raises(NotFoundError):
            read(layout, name)


@pytest.mark.heavy
def test_the_page_opens_from_disk_on_any_screen(workspace: Path, chromium: str) -> None:
    from playwright.sync_api import sync_playwright

    ask(workspace, wide="-- chart: table\nSELECT " + ", ".join(f"{n} AS a_long_column_name_{n}" for n in range(30)))
    path = Path(query_report(workspace)["path"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 844})
            asked: list[str] = []
            page.on("request", lambda request, seen=asked: seen.append(request.url))
            page.goto(path.as_uri())
            assert page.locator(".plot svg").count() >= 3
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            words = "[...document.querySelectorAll('.plot .x span, .bars span')]"
            sizes = page.evaluate(f"{words}.map(word => parseFloat(getComputedStyle(word).fontSize))")
            assert min(sizes) >= 12
            page.locator("summary", has_text="Query").first.click()
            assert page.locator("pre").first.is_visible()
            assert asked == [path.as_uri()]
        browser.close()
