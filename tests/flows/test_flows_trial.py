"""What people who tried the product stumbled over: each is one sentence now, never a traceback."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import structlog

import honeyguide as hg
from honeyguide import __version__
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import DataError, RequestError, ResourceError
from honeyguide.flows import render
from honeyguide.flows.create import create
from honeyguide.flows.logs import log_to_stderr
from honeyguide.flows.operate import sql

Run = Callable[..., tuple[int, str, str]]


# ------------------------------------------------------------------------------------------------------ disks


def test_a_short_write_of_numpy_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="a full disk"), disk_errors(tmp_path):
        raise OSError("1210000 requested and 298944 written")
    with pytest.raises(OSError, match="something else"), disk_errors(tmp_path):
        raise OSError("something else")


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import ResourceError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder = Path(sys.argv[1])
writers = (
    lambda: np.save(folder / "a.npy", np.zeros(200_000)),
    lambda: (folder / "b").write_bytes(bytes(200_000)) and (folder / "b").open("ab", 0).write(bytes(9)),
)
for write in writers:
    try:
        with disk_errors(folder):
            write()
    except ResourceError as error:
        print(error.got)
"""


def test_a_real_limit_on_files_is_refused_in_words(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["a full disk", "a file-size limit"], done.stderr


def test_a_cache_that_cannot_be_written_is_told_before_the_download(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("HONEYGUIDE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr("honeyguide.intake.datasets._sources", lambda *given: pytest.fail("downloaded"))
    code, _, err = run("data", "fetch", "ml-100k", "--json")
    assert code == 2
    assert err.startswith("error: Expected a folder that can be written to")


# ---------------------------------------------------------------------------------------------------- serving


@pytest.mark.parametrize(("option", "value"), [("port", 80_000), ("workers", 0)])
def test_a_setting_out_of_range_is_one_sentence(run: Run, built: Path, option: str, value: int) -> None:
    code, _, err = run("serve", built, f"--{option}", value, "--no-console")
    assert code == 2
    assert err.startswith(f"error: Expected a valid {option} (")
    assert f"; got {value}. " in err


# ------------------------------------------------------------------------------------------------------------ sql


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{file}')",
        "select * from read_text('{file}')",
        "select * from glob('{file}*')",
        "select * from '{file}'",
        "select * from read_parquet('{file}')",
        "copy (select 1) to '{file}'",
        "attach '{file}' as other",
        "set enable_external_access = true",
        "select * from files",
    ],
)
def test_sql_sees_nothing_but_the_workspace(built: Path, tmp_path: Path, query: str) -> None:
    pq.write_table(sql(built, "select 1 as a"), tmp_path / "private.parquet")
    with pytest.raises(RequestError):
        sql(built, query.format(file=tmp_path / "private.parquet"))


def test_sql_keeps_every_column_and_knows_the_users(built: Path, film_files: dict[str, Path], tmp_path: Path) -> None:
    both = sql(built, "select 1 as a, 2 as a, 3 as a_2, 4 as a")
    assert both.to_pylist() == [{"a": 1, "a_2": 2, "a_2_2": 3, "a_3": 4}]
    named = sql(built, "show tables")["name"].to_pylist()
    assert named == ["events", "feature_values", "impressions", "items", "judged", "quarantine", "users"]
    create(tmp_path / "bare", events=film_files["events"])
    assert sql(tmp_path / "bare", "select count(*) as n from users")["n"].to_pylist() == [0]


def test_ctrl_c_ends_a_query(built: Path) -> None:
    query = "select count(*) from range(1000000) a, range(1000000) b where hash(a.range, b.range) = 1"
    # A shell that starts things in the background has them ignore the signal, and their children after them.
    process = subprocess.Popen(
        [sys.executable, "-m", "honeyguide", "sql", str(built), query], stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while "duckdb" not in maps.read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)  # by now it counts
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(60) == 130
    finally:
        process.kill()


# ------------------------------------------------------------------------------------------------------- terminal


def test_an_error_with_brackets_is_printed_as_it_is(run: Run, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    code, _, err = run("recommend", built, "--surface", "[/zz] :x:")
    assert code == 2
    assert "[/zz] :x:" in err


def test_cells_are_printed_as_they_are(run: Run, built: Path) -> None:
    code, out, _ = run("sql", built, "select ':x: [/red] [bold]b' as \"[/c] :x:\"")
    assert code == 0
    assert ":x: [/red] [bold]b" in out
    assert "[/c] :x:" in out


def test_log_lines_do_not_mix_with_answers(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.reset_defaults()
    try:
        log_to_stderr()
        structlog.get_logger("x").warning("something happened")
        captured = capsys.readouterr()
        assert captured.out == ""
        assert "something happened" in captured.err
    finally:
        structlog.reset_defaults()


def test_the_version_and_the_number_of_answers(run: Run, built: Path) -> None:
    assert run("--version") == (0, f"{__version__}\n", "")
    for option in ("-k", "--k"):
        for verb in (("recommend", built), ("search", built, "story")):
            code, out, _ = run(*verb, option, 3, "--json")
            assert code == 0
            assert len(json.loads(out)["items"]) == 3
    assert run("search", built, "--json", "--", "-story")[0] == 0
    assert '-- "-a' in run("search", "--help")[1]


def test_a_build_shows_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [
        {"name": "twice", "seconds": 1.0, "reused": True},
        {"name": "kept", "seconds": 0.0, "reused": True},
        {"name": "twice", "seconds": 2.5, "reused": False},
    ]
    render.built({"build_id": "b", "steps": steps, "heads": [], "decisions": [], "seconds": 3.5}, as_json=False)
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["twice", "3.5"] in shown
    assert ["kept", "0.0", "reused"] in shown


def test_an_evaluation_ends_with_a_verdict_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    def difference(baseline: str, estimate: float, low: float | None, high: float | None, **other: str) -> dict:
        row = {"protocol": "global", "segment": "all", "baseline": baseline, "metric": "nDCG@10"} | other
        return row | {"estimate": estimate, "low": low, "high": high}

    report = {
        "headline_metrics": ["nDCG@10"],
        "protocols": {},
        "rows": [],
        "notes": [],
        "differences": [
            difference("popular", 0.01, 0.005, 0.015),
            difference("itemknn", 0.001, -0.002, 0.004),
            difference("last build", -0.02, -0.03, -0.01),
            difference("tiny", 0.5, None, None),
            difference("popular", 0.01, 0.005, 0.015, segment="new"),
            difference("popular", 0.01, 0.005, 0.015, metric="coverage"),
        ],
    }
    render.evaluated(report, as_json=False)
    said = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  global: ")]
    assert said == [
        "global: home beats popular on nDCG@10 by +0.0100 [+0.0050, +0.0150]",
        "global: home does not beat itemknn on nDCG@10: +0.0010 [-0.0020, +0.0040]",
        "global: home is worse than last build on nDCG@10 by -0.0200 [-0.0300, -0.0100]",
        "global: no interval for home against tiny on nDCG@10 (+0.5000): too few people",
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(wanted: Callable[[], bool], seconds: float = 40.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if wanted():
            return True
        time.sleep(0.1)
    return False


def serving(folder: Path, console_port: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "honeyguide", "serve", str(folder), "--port", "0"]
    return subprocess.Popen(
        [*command, "--console-port", str(console_port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_killed_serve_takes_its_console_along(shop: Path) -> None:
    port = free_port()
    process = serving(shop, port)
    try:
        assert until(lambda: listens(port))
    finally:
        process.kill()
        process.communicate()
    assert until(lambda: not listens(port), 15)


def test_a_taken_console_port_is_told_and_the_end_is_quiet(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serving(shop, port)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert said[1] == f"console  not started: port {port} is taken; choose another with --console-port.\n"
    assert said[2] == "Ctrl-C ends it.\n"
    assert (process.returncode, err) == (0, "")


TOLD_TWICE = """
import atexit, os, signal
from honeyguide.serving.worker import _leave
signal.signal(signal.SIGTERM, _leave)
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_worker_told_twice_to_end_ends_quietly() -> None:
    done = subprocess.run([sys.executable, "-c", TOLD_TWICE], capture_output=True, text=True, check=True)
    assert done.stderr == ""


# --------------------------------------------------------------------------------------------------------- Python


def test_the_python_face_takes_what_notebooks_hold(film_files: dict[str, Path], built: Path, tmp_path: Path) -> None:
    assert "Workspace" in dir(hg)
    events, items = (pq.read_table(film_files[name]) for name in ("events", "items"))
    pq.write_table(items.select(["movie_id", "title"]), tmp_path / "bare.parquet")
    made = hg.Workspace.create(
        tmp_path / "w", events=film_files["events"], items=tmp_path / "bare.parquet", facts=film_files["items"]
    )
    assert made.sql("select count(*) as n from items where len(categories) > 0")["n"].to_pylist()[0] > 0
    shown = made._repr_html_()
    assert f"{events.num_rows:,} rows" in shown
    assert "none yet" in shown
    with hg.Workspace(built) as workspace:
        one = workspace.recommend(surface="board", board="f3", k=5).answer.items
        assert [i.item_id for i in one] == [
            i.item_id for i in workspace.recommend(surface="board", board=["f3"], k=5).answer.items
        ]
        assert len(workspace.recommend(user=1, k=3)) == 3
        assert len(workspace.recommend(user=np.int64(1), k=3)) == 3
        with pytest.raises(RequestError):
            workspace.recommend(user=True, k=3)  # type: ignore[arg-type]
        assert workspace.build_id in workspace._repr_html_()


def test_json_is_all_that_stdout_holds(shop: Path) -> None:
    for verb in ("build", "recommend", "explain"):
        command = [sys.executable, "-m", "honeyguide", verb, str(shop), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout), done.stderr


def test_a_table_that_is_damaged_is_not_the_query_s_fault(shop: Path) -> None:
    [path] = (shop / "tables" / "items").glob("*.parquet")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError):
        sql(shop, "select 1")
