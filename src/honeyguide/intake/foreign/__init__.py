"""Exports of other tools, mapped with no configuration.

`detect(paths)` recognises an export by its content; `Foreign.parts()` streams it as tables under our names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from honeyguide.errors import DataError
from honeyguide.intake.foreign.base import File, Foreign, Importer
from honeyguide.intake.foreign.decisions import Decisions, gathered
from honeyguide.intake.foreign.dsjson import DSJSON
from honeyguide.intake.foreign.gorse import GORSE
from honeyguide.intake.foreign.metarank import METARANK
from honeyguide.intake.foreign.open_bandit import OPEN_BANDIT
from honeyguide.intake.foreign.personalize import PERSONALIZE
from honeyguide.intake.foreign.recbole import RECBOLE
from honeyguide.intake.foreign.records import Head, head
from honeyguide.intake.foreign.retail import RETAIL
from honeyguide.intake.foreign.ubi import UBI

__all__ = ["IMPORTERS", "Decisions", "Foreign", "decisions", "detect"]

IMPORTERS: tuple[Importer, ...] = (METARANK, RETAIL, DSJSON, UBI, GORSE, PERSONALIZE, OPEN_BANDIT, RECBOLE)
"""All formats, the most telling first."""

_MOST_FILES = 10_000


def detect(paths: Path | Sequence[Path]) -> Foreign | None:
    """The export that a file, a folder or several files of one export are; None if they are none that is known.

    Only the beginning of each file is read; what a file is called does not matter (but for Open Bandit, whose policy
    and campaign are folder and file names). Of several formats in one folder the one with the most files counts.
    """
    given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    heads = [(path, head(path)) for path in _files(given)]
    best: Foreign | None = None
    for importer in IMPORTERS:
        known = [(beginning, importer.role(beginning)) for _, beginning in heads if beginning is not None]
        files = tuple(_file(beginning, role) for beginning, role in known if role is not None)
        if not importer.must & {file.role for file in files}:
            continue
        taken = {file.path for file in files}
        strangers = tuple(path for path, _ in heads if path not in taken)
        if best is None or len(files) > len(best.files):
            best = Foreign(importer, files, strangers)
    return best


def decisions(paths: Path | Sequence[Path], *, now: int | None = None) -> Decisions:
    """Logged choices with propensities of a DSJSON log or an Open Bandit log; `now` in microseconds (default: now).

    Raises DataError for anything else, and where not one line is a good decision.
    """
    found = detect(paths)
    if found is None:
        raise DataError(
            expected=f"a log of choices with propensities at {paths}",
            got="no format that is known to hold one",
            do="Give a DSJSON log (VW, Azure Personalizer) or Open Bandit files.",
        )
    return gathered(found, now)


def _file(beginning: Head, role: str) -> File:
    return File(beginning.path, beginning.written, role, beginning.names)


def _files(given: Sequence[Path]) -> list[Path]:
    """Files, also of folders, each once, in order; hidden ones and a folder's Parquet parts stay out of it."""
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and not _hidden(p.relative_to(path)))
            found += inside[:_MOST_FILES]
        elif path.is_file():
            found.append(path)
    return list(dict.fromkeys(found))


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "_")) for part in path.parts)
