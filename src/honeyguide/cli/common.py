"""What several commands share: arguments and the shape of a help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Dir", "Json", "Map", "examples"]

Dir = Annotated[Path, typer.Argument(metavar="DIR", help="The workspace's folder.")]
Map = Annotated[
    list[str] | None,
    typer.Option("--map", metavar="OURS=THEIRS", help="Which column is which, such as user_id=Kundennummer; repeat."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n\n".join(["**Examples**", *(f"`{line}`" for line in lines)])
