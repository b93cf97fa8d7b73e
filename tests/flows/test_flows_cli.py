"""The command line as a person meets it: every verb, `--json`, and one sentence with exit code 2 for bad input."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Run = Callable[..., tuple[int, str, str]]


def refused(result: tuple[int, str, str], *words: str) -> None:
    """One sentence of the form expected / got / do, exit code 2, no traceback."""
    code, _, err = result
    assert code == 2, result
    said = [line for line in err.splitlines() if not line.startswith("  · ")]  # what was being done before
    assert len(said) == 1, err
    assert said[0].startswith("error: Expected ")
    assert "; got " in said[0]
    for word in words:
        assert word in err, err


def test_every_verb_works_on_a_built_workspace(run: Run, built: Path) -> None:
    assert "Because" in run("recommend", built, "--user", "p1")[1]
    assert "Story" in run("search", built, "space story", "--k", 3)[1]
    assert "sources" in run("explain", built)[1]
    assert "Evidence level L0" in run("check", built)[1]
    code, out, _ = run("sql", built, "select count(*) as n from events", "--json")
    assert code == 0
    assert json.loads(out)[0]["n"] > 1000
    for argv in (
        ("recommend", built, "--user", "p1"),
        ("search", built, "story"),
        ("explain", built),
        ("check", built),
    ):
        code, out, _ = run(*argv, "--json")
        assert code == 0
        assert json.loads(out)


def test_data_list_and_doctor(run: Run, built: Path) -> None:
    names = {row["name"] for row in json.loads(run("data", "list", "--json")[1])}
    assert {"ml-1m", "ml-100k", "film-facts", "open-bandit"} <= names
    code, out, _ = run("doctor", built, "--json")
    found = {line["what"]: line for line in json.loads(out)}
    assert code == 0
    assert found["build in service"]["state"] == "ok"
    assert {"cores", "BLAS", "disk", "port 8080", "Python"} <= set(found)


@pytest.mark.parametrize("verb", ["build", "evaluate", "recommend", "explain", "rollback", "serve"])
def test_help_has_examples(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert f"honeyguide {verb}" in out
    assert "Examples" in out


def test_check_judges_a_bare_file(run: Run, film_files: dict[str, Path]) -> None:
    code, out, _ = run("check", film_files["events"], "--json")
    report = json.loads(out)
    assert code == 0
    assert report["loads"][0]["rows_in"] == report["loads"][0]["accepted"] + report["loads"][0]["quarantined"]
    assert len(report["evidence"]["facts"]) == 5


def test_a_missing_an_empty_and_a_one_column_file(run: Run, tmp_path: Path) -> None:
    refused(run("init", tmp_path / "w", "--events", tmp_path / "none.csv"), "none.csv", "Check the path")
    (tmp_path / "empty.csv").write_bytes(b"")
    refused(run("init", tmp_path / "w", "--events", tmp_path / "empty.csv"))
    (tmp_path / "one.csv").write_text("user_id\n1\n2\n")
    refused(run("init", tmp_path / "w", "--events", tmp_path / "one.csv"))
    assert not (tmp_path / "w").exists()  # nothing is left behind
    refused(run("check", tmp_path / "none.csv"), "nothing there")


def test_a_file_whose_every_row_is_bad(run: Run, tmp_path: Path) -> None:
    pq.write_table(pa.table({"user": ["a"], "item": ["b"], "time": ["never"]}), tmp_path / "bad.parquet")
    refused(run("init", tmp_path / "w", "--events", tmp_path / "bad.parquet"), "unreadable_time")


def test_init_does_not_write_over_things(run: Run, built: Path, tmp_path: Path, film_files: dict[str, Path]) -> None:
    refused(run("init", built, "--events", film_files["events"]), "a workspace already")
    (tmp_path / "x").write_text("mine")
    refused(run("init", tmp_path, "--events", film_files["events"]), "not empty")
    assert (tmp_path / "x").read_text() == "mine"


def test_no_workspace_and_no_build(run: Run, tmp_path: Path, film_files: dict[str, Path]) -> None:
    refused(run("build", tmp_path / "nowhere"), "honeyguide init")
    assert run("init", tmp_path / "w", "--events", film_files["events"])[0] == 0
    for verb in ("recommend", "explain", "serve"):
        refused(run(verb, tmp_path / "w"), "honeyguide build")
    refused(run("rollback", tmp_path / "w"), "honeyguide build")


def test_a_workspace_from_a_newer_version(run: Run, shop: Path) -> None:
    (shop / "workspace.json").write_text('{"format": 99}')
    for verb in ("build", "recommend", "check", "serve"):
        refused(run(verb, shop), "format 99", "Upgrade")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("colour = 'red'", ["unknown key 'colour'"]),
        ("seed = -1", ["seed"]),
        ("[surfaces.home.slate.utility.weights]\nwatch = 1.0", ["watch", "only ranks"]),
        ("this is no toml", ["TOML"]),
    ],
)
def test_a_bad_configuration(run: Run, shop: Path, line: str, words: list[str]) -> None:
    text = (shop / "honeyguide.toml").read_text()
    if line.startswith("["):
        text = text.replace("weights = { like = 0.1, dislike = -0.1 }\n", "") + "\n" + line
    else:
        text = line + "\n" + text.replace("seed = 42\n", "") if line.startswith("seed") else line + "\n" + text
    (shop / "honeyguide.toml").write_text(text)
    refused(run("build", shop), *words)


def test_an_unknown_source_and_head(run: Run, shop: Path) -> None:
    text = (shop / "honeyguide.toml").read_text()
    (shop / "honeyguide.toml").write_text(text.replace("retrieval.factors:EASE", "retrieval.factors:EAZE"))
    refused(run("build", shop), "EAZE")
    (shop / "honeyguide.toml").write_text(text.replace("{ watch = 1 }", "{ wach = 1 }"))
    refused(run("build", shop), "wach")


def test_bad_requests_in_the_terminal(run: Run, built: Path) -> None:
    refused(run("recommend", built, "--surface", "attic"), "attic")
    refused(run("recommend", built, "--surface", "item", "--item", "none"), "none")
    refused(run("recommend", built, "-k", 0), "k")
    refused(run("sql", built, "drop table events"), "SELECT")
    refused(run("sql", built, "select nonsense from events"), "nonsense")
    refused(run("data", "fetch", "no-such"), "no-such")
    refused(run("demo", built.parent, "--dataset", "ml-9"), "ml-9")
    refused(run("bench", "nothing"), "nothing")


def test_a_port_in_use(run: Run, built: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused(run("serve", built, "--port", port, "--no-console"), str(port), "another port")


def test_a_full_disk(run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (shop / "builds" / "CURRENT").read_text()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (shop / "honeyguide.toml").write_text((shop / "honeyguide.toml").read_text().replace("seed = 42", "seed = 5"))
    monkeypatch.setattr("honeyguide.engines.tasks.steps.Path.mkdir", full)
    refused(run("build", shop), "full disk")
    monkeypatch.undo()
    assert (shop / "builds" / "CURRENT").read_text() == before
    assert run("recommend", shop, "--user", "p1")[0] == 0


def test_a_dataset_whose_sources_are_down(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    result = run("data", "fetch", "ml-100k", "--cache", tmp_path)
    assert result[0] == 2
    assert "Expected ml-100k from one of its sources" in result[2]
