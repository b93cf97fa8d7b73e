"""Every foreign format as the docs say: `check`, `init`, `build`, `serve`, and a list for a person over HTTP."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from foreign_exports import EXPORTS, ITEMS, LISTS, PEOPLE, SLOTS, shop

Run = Callable[..., tuple[int, str, str]]
CLICKS = sum(one.clicked is not None for one in shop())
SHOWN = LISTS * SLOTS
# format -> evidence level, accepted events, items, people, the strongest action
EXPECTED: dict[str, tuple[str, int | None, int, int, str]] = {
    "metarank": ("L1", SHOWN + CLICKS, ITEMS, 0, "click"),
    "retail": ("L1", SHOWN + CLICKS, ITEMS, 0, "detail-page-view"),
    "personalize": ("L0", CLICKS * (SLOTS + 1), ITEMS, PEOPLE, "click"),
    "dsjson": ("L3", None, ITEMS, 0, "reward"),
    "open_bandit": ("L3", None, ITEMS, 0, "click"),
    "gorse": ("L0", SHOWN + CLICKS, ITEMS, PEOPLE, "like"),
    "ubi": ("L1", SHOWN + CLICKS, 0, 0, "click"),
    "recbole": ("L0", SHOWN, ITEMS, PEOPLE, "rating"),
}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """`honeyguide serve` as a person starts it: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "honeyguide", "serve", str(folder), "--port", str(port), "--no-console"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    try:
        address = next((line.split()[1] for line in process.stdout if line.startswith("API")), None)
        assert address is not None, f"the server ended with {process.wait()}"
        yield address
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def said(run: Run, *argv: object) -> dict[str, Any]:
    """What a command reports as JSON."""
    code, out, err = run(*argv, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.heavy
@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_goes_through_check_init_build_and_serve(
    tmp_path: Path, run: Run, unhurried: Callable[[Path], None], name: str
) -> None:
    level, accepted, items, people, strongest = EXPECTED[name]
    export, folder = tmp_path / "export", tmp_path / "shop"
    export.mkdir()
    EXPORTS[name](export)
    checked = said(run, "check", export)
    assert checked["evidence"]["level"] == level
    made = said(run, "init", folder, "--events", export)
    loads = {load["table"]: load for load in made["loads"]}
    assert all(load["rows_in"] == load["accepted"] + load["quarantined"] for load in loads.values())
    assert all(load["quarantined"] == 0 for load in loads.values())
    assert accepted is None or loads["events"]["accepted"] == accepted
    assert made["evidence"] == checked["evidence"]
    assert strongest in json.dumps(made["evidence"]["facts"])
    assert any(note.startswith("Read as") for note in made["notes"])
    assert [loads.get(table, {"accepted": 0})["accepted"] for table in ("items", "users")] == [items, people]
    unhurried(folder)
    assert said(run, "build", folder)["build_id"]
    with served(folder) as address, httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
        answer = client.post("/v1/recommend", json={"surface": "home", "user_id": "u1", "k": 5})
    assert answer.status_code == 200, answer.text
    shown = [item["item_id"] for item in answer.json()["items"]]
    assert len(set(shown)) == 5
    assert all(item.rpartition(":")[2].lstrip("i").isdigit() for item in shown)


def test_an_export_in_several_files_and_a_mapping_that_turns_recognition_off(tmp_path: Path, run: Run) -> None:
    export = tmp_path / "export"
    export.mkdir()
    EXPORTS["gorse"](export)
    files = [export / f"{name}.jsonl" for name in ("feedback", "items", "users")]
    made = said(run, "init", tmp_path / "a", "--events", files[0], "--items", files[1], "--users", files[2])
    assert {load["table"]: load["accepted"] for load in made["loads"]} == {
        "events": SHOWN + CLICKS, "items": ITEMS, "users": PEOPLE,
    }  # fmt: skip
    chosen = ["--map", "user_id=ItemId", "--map", "item_id=UserId", "--map", "happened_at=Timestamp"]
    mapped = said(run, "init", tmp_path / "b", "--events", files[0], *chosen)
    assert mapped["evidence"]["numbers"]["people"] == ITEMS


def test_bad_lines_of_an_export_are_in_quarantine_as_they_stand(tmp_path: Path, run: Run) -> None:
    export = tmp_path / "export"
    export.mkdir()
    EXPORTS["metarank"](export)
    with (export / "events.jsonl").open("a") as file:
        file.write(
            '{"event":"ranking","id":"half","times\n{"event":"interaction","id":"x","timestamp":"1735689600000"}\n'
        )
    made = said(run, "init", tmp_path / "shop", "--events", export / "events.jsonl")
    loads = {load["table"]: load for load in made["loads"]}
    assert loads["events"]["reasons"] == {"unparsed_line": 2}
    code, out, err = run("sql", tmp_path / "shop", "select raw from quarantine order by row_number", "--json")
    assert code == 0, err
    assert [row["raw"] for row in json.loads(out)] == [
        '{"event":"ranking","id":"half","times', '{"event":"interaction","id":"x","timestamp":"1735689600000"}',
    ]  # fmt: skip


def test_a_folder_that_is_no_export_is_refused_in_a_sentence(tmp_path: Path, run: Run) -> None:
    (tmp_path / "stuff").mkdir()
    (tmp_path / "stuff" / "notes.txt").write_text("nothing to see\n")
    for argv in (("check", tmp_path / "stuff"), ("init", tmp_path / "shop", "--events", tmp_path / "stuff")):
        code, _, err = run(*argv)
        assert code == 2
        assert "Traceback" not in err
    assert not (tmp_path / "shop").exists()


def test_an_action_called_like_without_impressions_only_ranks(tmp_path: Path, run: Run) -> None:
    rows = [f"u{n % 4},i{n % 5},{['view', 'like'][n % 2]},{1_760_000_000 + n}" for n in range(40)]
    (tmp_path / "e.csv").write_text("\n".join(["user,item,action,ts", *rows]) + "\n")
    said(run, "init", tmp_path / "shop", "--events", tmp_path / "e.csv")
    home = tomllib.loads((tmp_path / "shop" / "honeyguide.toml").read_text())["surfaces"]["home"]
    assert home["slate"]["utility"] == {"rank_weights": {"view": 1.0, "like": 1.0}, "blend_weight": 1.0}
