"""A small world of films with two tastes, and a workspace built of it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PEOPLE, FILMS, EVENTS = 150, 200, 6_000


def write_films(folder: Path, *, people: int = PEOPLE, films: int = FILMS, events: int = EVENTS) -> dict[str, Path]:
    """events, items and users as Parquet, in a stranger's column names."""
    rng = np.random.default_rng(7)
    taste = rng.integers(0, 2, people)
    who = rng.integers(0, people, events)
    liked = rng.random(events) < 0.85
    half = films // 2
    side = np.where(liked, taste[who], 1 - taste[who])
    popular = np.minimum((rng.exponential(half / 4, events)).astype(int), half - 1)
    film = side * half + popular
    stars = np.clip(np.round(np.where(liked, 4.2, 2.2) + rng.normal(0, 0.8, events)), 1, 5)
    seconds = 1_000_000_000 + np.sort(rng.integers(0, 400 * 86_400, events))
    first = np.unique(who * films + film, return_index=True)[1]
    keep = np.sort(first)
    paths = {name: folder / f"{name}.parquet" for name in ("events", "items", "users")}
    pq.write_table(
        pa.table({
            "customer_id": [f"p{n}" for n in who[keep]], "movie_id": [f"f{n}" for n in film[keep]],
            "stars": stars[keep], "ts": seconds[keep],
        }),
        paths["events"],
    )  # fmt: skip
    pq.write_table(
        pa.table({
            "movie_id": [f"f{n}" for n in range(films)],
            "title": [f"{'Space' if n < half else 'Love'} Story {n} ({1980 + n % 30})" for n in range(films)],
            "genres": [["Action", "Sci-Fi"] if n < half else ["Romance"] for n in range(films)],
            "director": [f"Director {n % 7}" for n in range(films)],
        }),
        paths["items"],
    )  # fmt: skip
    pq.write_table(
        pa.table(
            {"customer_id": [f"p{n}" for n in range(people)], "gender": [["F", "M"][n % 2] for n in range(people)]}
        ),
        paths["users"],
    )
    return paths


@pytest.fixture(scope="session")
def film_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The three files."""
    return write_films(tmp_path_factory.mktemp("films"))


def _unhurried(folder: Path) -> None:
    """Deadlines that a busy machine meets; what a missed one does has tests of its own."""
    path = folder / "honeyguide.toml"
    text = path.read_text().replace("deadline_ms = 100.0\n", "")
    path.write_text(re.sub(r'^kind = "(home|item|board)"$', r"\g<0>\ndeadline_ms = 60000.0", text, flags=re.M))


@pytest.fixture(scope="session")
def unhurried() -> Callable[[Path], None]:
    """Takes the hurry out of a workspace just made."""
    return _unhurried


@pytest.fixture(scope="session")
def built(film_files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built workspace; tests that change it take a copy."""
    from honeyguide.flows.build import build
    from honeyguide.flows.create import create

    folder = tmp_path_factory.mktemp("built") / "shop"
    create(folder, events=film_files["events"], items=film_files["items"], users=film_files["users"])
    _unhurried(folder)
    build(folder)
    return folder


@pytest.fixture
def shop(built: Path, tmp_path: Path) -> Path:
    """A copy of the built workspace."""
    shutil.copytree(built, tmp_path / "shop")
    return tmp_path / "shop"


def manifest_of(folder: Path) -> dict:
    """The manifest of the build in service."""
    return json.loads((folder / "builds" / f"{(folder / 'builds' / 'CURRENT').read_text()}.json").read_text())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command: (exit code, stdout, stderr)."""

    from honeyguide.cli import main

    def call(*argv: object) -> tuple[int, str, str]:
        code = 0
        try:
            main([str(arg) for arg in argv])
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
