"""Honeyguide: discovery you can prove.

`import honeyguide as hg; ws = hg.Workspace("shop"); ws.recommend(surface="home", user="42")`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from honeyguide.flows.workspace import Workspace as Workspace

__version__ = "0.1.0"
__all__ = ["HoneyguideError", "Workspace", "__version__"]

from honeyguide.errors import HoneyguideError


def __getattr__(name: str) -> Any:
    # Heavy libraries load on first use, so that `import honeyguide` stays fast.
    if name == "Workspace":
        from honeyguide.flows.workspace import Workspace

        return Workspace
    raise AttributeError(f"module 'honeyguide' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
