"""A fitted source as a folder: `meta.json` and one `.npy` per array, read back as memory maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ValidationError

from honeyguide.errors import BuildError

__all__ = ["FORMAT", "config", "read", "write"]

C = TypeVar("C", bound=BaseModel)

FORMAT = 1
"""Version of the layout; a folder of another version is refused, never guessed at."""


def write(folder: Path, kind: str, meta: dict[str, Any], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays and what is needed to check them into an existing folder. `meta.json` comes last: no half folder."""
    shapes = {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
        shapes[name] = [str(array.dtype), list(array.shape)]
    (folder / "meta.json").write_text(json.dumps({"format": FORMAT, "kind": kind, "meta": meta, "arrays": shapes}))


def read(folder: Path, kind: str, names: tuple[str, ...] = ()) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """What `write` wrote: (meta, arrays), the arrays being `names`, as memory maps that never change the files.

    Raises BuildError where the folder is missing, truncated, of another version or another source's.
    """

    def refuse(got: str) -> BuildError:
        return BuildError(expected=f"a saved source `{kind}` (format {FORMAT}) in {folder}", got=got, do="Build again.")

    try:
        document = json.loads((folder / "meta.json").read_text())
        found = (document["format"], document["kind"])
        meta, shapes = dict(document["meta"]), dict(document["arrays"])
    except OSError as error:
        raise refuse(f"no readable meta.json ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise refuse("a meta.json that is not one") from error
    if found != (FORMAT, kind):
        raise refuse(f"format {found[0]} of `{found[1]}`")
    if set(shapes) != set(names):
        raise refuse(f"arrays {', '.join(sorted(shapes)) or 'none'} in place of {', '.join(sorted(names)) or 'none'}")
    arrays = {}
    for name, (dtype, shape) in shapes.items():
        try:
            # mmap of nothing is an error of the operating system, so empty arrays are read
            array = np.load(folder / f"{name}.npy", mmap_mode="c" if np.prod(shape) else None, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise refuse(f"{name}.npy that is missing or truncated") from error
        if str(array.dtype) != dtype or list(array.shape) != shape:
            raise refuse(f"{name}.npy with {array.dtype}{list(array.shape)} in place of {dtype}{shape}")
        # the base class: numba looks up a subclass of ndarray slowly on every call
        arrays[name] = array.view(np.ndarray)
    return meta, arrays


def config(kind: type[C], meta: dict[str, Any], folder: Path) -> C:
    """The config that was saved. Raises BuildError where this version does not know it."""
    try:
        return kind.model_validate(meta["config"])
    except (KeyError, ValidationError) as error:
        raise BuildError(
            expected=f"a {kind.__name__} in {folder / 'meta.json'}",
            got="one that this version does not know",
            do="Build again with this version.",
        ) from error
