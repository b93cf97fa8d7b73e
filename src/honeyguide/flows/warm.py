"""Compile ahead: a few invented films turn the same ring, so that machine code is cached when the real ones come.

Kernels are compiled when they are first called, most of a minute in all on a machine that never ran them. The demo has
that done beside its first steps, in a process of its own: `python -m honeyguide.flows.warm`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.flows.build import build
from honeyguide.flows.create import create
from honeyguide.flows.evaluate import evaluate
from honeyguide.flows.film_policy import film_policy
from honeyguide.flows.wiring import open_desk
from honeyguide.schema import columns as c
from honeyguide.schema.wire import EventIn, EventsRequest, RecommendRequest, SearchRequest

__all__ = ["compiling", "warm"]

PEOPLE, FILMS, RATINGS = 240, 160, 9_000
_FROM_S, _DAYS = 970_000_000, 400
_GENRES = ("Action", "Comedy", "Drama", "Horror", "Musical", "Western")


@contextmanager
def compiling() -> Iterator[None]:
    """Compile in a process of its own while the body runs, and no longer; what it cached stays."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-m", "honeyguide.flows.warm"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def warm(folder: Path) -> None:
    """Make, build, ask and judge a workspace of invented films in `folder`."""
    events, items, users = _films(folder)
    shop = folder / "films"
    create(shop, events=events, items=items, users=users, name="Films")
    film_policy(shop)
    build(shop, report=False)
    desk = open_desk(str(shop), watch=False)
    try:
        desk.search(SearchRequest("film 7"))
        for surface in ("home", "item", "board"):
            desk.recommend(RecommendRequest(surface, "person 1", item_id="film 1", board_items=["film 1"]))
        desk.record(EventsRequest([EventIn("person 1", "film 1", "rating", value=5.0)])).result()
        desk.recommend(RecommendRequest(user_id="person 1"))
    finally:
        desk.close()
    evaluate(shop)


def _films(folder: Path) -> tuple[Path, Path, Path]:
    """Files of events, items and users."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    person, film = rng.integers(0, PEOPLE, RATINGS), (FILMS * rng.power(0.5, RATINGS)).astype(int)
    at_s = _FROM_S + np.sort(rng.integers(0, _DAYS * 86_400, RATINGS))
    tables: dict[str, dict[str, Any]] = {
        "events": {
            c.USER_ID: [f"person {n}" for n in person],
            c.ITEM_ID: [f"film {n}" for n in film],
            c.ACTION: ["rating"] * RATINGS,
            c.VALUE: np.clip(np.round(3 + (person + film) % 3 - 1 + rng.normal(0, 1, RATINGS)), 1, 5),
            c.HAPPENED_AT: pa.array(at_s * 1_000_000, pa.timestamp("us", tz="UTC")),
        },
        "items": {
            c.ITEM_ID: [f"film {n}" for n in range(FILMS)],
            c.TITLE: [f"Film {n}" for n in range(FILMS)],
            c.CATEGORIES: [[_GENRES[n % 6], _GENRES[n % 5]] for n in range(FILMS)],
            c.YEAR: pa.array([1980 + n % 21 for n in range(FILMS)], pa.int32()),
        },
        "users": {
            c.USER_ID: [f"person {n}" for n in range(PEOPLE)],
            "gender": ["FM"[n % 2] for n in range(PEOPLE)],
            "age": [("18-24", "25-34", "35-44")[n % 3] for n in range(PEOPLE)],
        },
    }
    paths = []
    for name, columns in tables.items():
        paths.append(folder / f"{name}.parquet")
        pq.write_table(pa.table({str(key): values for key, values in columns.items()}), paths[-1])
    return paths[0], paths[1], paths[2]


def main() -> None:
    """Compile, with what is left of the machine."""
    os.nice(5)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes
    with tempfile.TemporaryDirectory(prefix="honeyguide-warm-") as folder:
        warm(Path(folder))


if __name__ == "__main__":
    main()
