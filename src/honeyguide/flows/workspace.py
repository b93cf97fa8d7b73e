"""The public face in Python: a workspace as an object.

```python
import honeyguide as hg

ws = hg.Workspace.create("shop", events="events.parquet", items="items.parquet")
ws.build()
ws.recommend(surface="home", user="42")  # renders as a table in a notebook
```
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from honeyguide.contracts import Progress
from honeyguide.errors import RequestError
from honeyguide.flows.layout import Layout
from honeyguide.schema.wire import Answer, RecommendRequest, SearchAnswer, SearchRequest, ShownItem

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from honeyguide.flows.wiring import Desk

__all__ = ["ShownSlate", "Workspace"]

_COLUMNS = ("position", "item_id", "title", "year", "score", "propensity", "reason")


class ShownSlate:
    """An answer as a table: `.arrow()`, `.pandas()`, or as a notebook shows it; `.answer` is the wire's struct."""

    def __init__(self, answer: Answer | SearchAnswer) -> None:
        self.answer = answer

    def __len__(self) -> int:
        return len(self.answer.items)

    @property
    def items(self) -> list[ShownItem]:
        """The slots in order."""
        return self.answer.items

    def arrow(self) -> pa.Table:
        """One row per slot."""
        import pyarrow as pa

        rows = msgspec.to_builtins(self.answer.items)
        return pa.table({name: [row.get(name) for row in rows] for name in _COLUMNS})

    def pandas(self) -> pd.DataFrame:
        """One row per slot."""
        return self.arrow().to_pandas()

    def __repr__(self) -> str:
        lines = [f"{item.position:3}  {item.title or item.item_id}  ({item.reason})" for item in self.items]
        return "\n".join([f"{self.answer.surface}: {len(lines)} items", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in ("#", "item", "year", "why", "sources"))
        rows = "".join(
            "<tr>"
            + "".join(
                f"<td>{html.escape(str(cell))}</td>"
                for cell in (i.position, i.title or i.item_id, i.year or "", i.reason, ", ".join(i.sources))
            )
            + "</tr>"
            for i in self.items
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


class Workspace:
    """A folder with data, configuration and builds. Opening it costs nothing; answering loads the build in service."""

    def __init__(self, folder: str | Path) -> None:
        """Raises WorkspaceError if the folder is none, or was written by a newer version."""
        self._layout = Layout.open(folder)
        self._desk: Desk | None = None

    @classmethod
    def create(
        cls, folder: str | Path, *, events: str | Path | None = None, items: str | Path | None = None,
        users: str | Path | None = None, facts: str | Path | None = None,
        name: str | None = None, mapping: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Self:  # fmt: skip
        """Make a workspace of files, as `honeyguide init` does; `mapping` is our column -> theirs.

        Without events it searches, and learns from those that come.
        """
        from honeyguide.flows.create import create

        create(
            Path(folder),
            events=Path(events) if events else None,
            items=Path(items) if items else None,
            users=Path(users) if users else None,
            facts=Path(facts) if facts else None,
            name=name,
            mapping=mapping,
            progress=progress,
        )
        return cls(folder)

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self._layout.root

    @property
    def build_id(self) -> str:
        """The build in service; BuildError if there is none."""
        return self._layout.current_build()

    def check(self) -> dict[str, Any]:
        """What the data can and cannot support."""
        from honeyguide.flows.check import check

        return check(self.folder)

    def build(self, *, progress: Progress | None = None) -> dict[str, Any]:
        """Make a build and put it in service."""
        from honeyguide.flows.build import build

        self.close()
        return build(self.folder, progress=progress)

    def rollback(self, build_id: str | None = None) -> str:
        """Put an earlier build in service; returns its id."""
        from honeyguide.flows.build import rollback

        self.close()
        return rollback(self.folder, build_id)["build_id"]

    def evaluate(self, *, progress: Progress | None = None) -> dict[str, Any]:
        """Judge the home surface against baselines."""
        from honeyguide.flows.evaluate import evaluate

        return evaluate(self.folder, progress=progress)

    def compact(self) -> dict[str, Any]:
        """Move the log into the tables, and apply `[retention]`."""
        from honeyguide.flows.keeping.compact import compact

        return compact(self.folder)

    def forget(
        self, user: str | int, *, dry_run: bool = False, rebuild: bool = False, allow_return: bool = False
    ) -> dict[str, Any]:
        """Erase a person, as `honeyguide forget` does."""
        from honeyguide.flows.keeping.forget import forget

        self.close()
        return forget(self.folder, str(_id(user)), dry_run=dry_run, rebuild=rebuild, allow_return=allow_return)

    def recommend(
        self, *, surface: str = "home", user: str | int | None = None, item: str | int | None = None,
        board: Sequence[str | int] | str | int = (),
        k: int = 20, filters: Mapping[str, Any] | None = None, context: Mapping[str, str] | None = None,
    ) -> ShownSlate:  # fmt: skip
        """A slate. Nothing is logged. Ids are text: a number is taken as its digits, one id as a board of one."""
        shown = [board] if isinstance(board, str | int | Integral) else board
        request = _request(
            RecommendRequest,
            {
                "surface": surface, "user_id": _id(user), "item_id": _id(item),
                "board_items": [_id(one) for one in shown], "k": k,
                "filters": dict(filters or {}), "context": dict(context or {}), "log": False,
            },
        )  # fmt: skip
        return ShownSlate(self._open().recommend(request))

    def search(
        self, query: str, *, k: int = 20, offset: int = 0, user: str | int | None = None,
        filters: Mapping[str, Any] | None = None,
    ) -> ShownSlate:  # fmt: skip
        """Hits for a query. Nothing is logged."""
        given = {
            "query": query,
            "k": k,
            "offset": offset,
            "user_id": _id(user),
            "filters": dict(filters or {}),
            "log": False,
        }
        return ShownSlate(self._open().search(_request(SearchRequest, given)))

    def explain(self) -> dict[str, Any]:
        """The pipeline per surface."""
        return self._open().pipeline()

    def sql(self, query: str) -> pa.Table:
        """One SELECT over the workspace's tables."""
        from honeyguide.flows.operate import sql

        return sql(self.folder, query)

    def table(self, name: str) -> pa.Table:
        """One table, whole; `items` with those that only events know."""
        from honeyguide.engines.tables.snapshot import Snapshots
        from honeyguide.flows.data import all_items
        from honeyguide.schema.tables import ITEMS

        return all_items(self._layout) if name == ITEMS.name else Snapshots(self._layout.tables).read(name)

    def close(self) -> None:
        """Let go of the loaded build."""
        if self._desk is not None:
            self._desk.close()
            self._desk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Workspace({str(self.folder)!r})"

    def _repr_html_(self) -> str:
        from honeyguide.engines.tables.snapshot import Snapshots

        tables = Snapshots(self._layout.tables)
        rows = {name: f"{tables.current(name).rows:,} rows" for name in tables.names()}
        rows["build in service"] = self._layout.current_build() if self._layout.current.exists() else "none yet"
        cells = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>" for name, said in rows.items()
        )
        return f"<table><caption>{html.escape(str(self.folder))}</caption><tbody>{cells}</tbody></table>"

    def _open(self) -> Desk:
        from honeyguide.flows.logs import log_to_stderr
        from honeyguide.flows.wiring import open_desk

        log_to_stderr()
        if self._desk is None:
            self._desk = open_desk(str(self.folder), writable=False, watch=True)
        return self._desk


def _id(given: Any) -> Any:
    """Numbers are how pandas and notebooks hold ids; True is none."""
    return str(given) if isinstance(given, Integral) and not isinstance(given, bool) else given


def _request(kind: type[Any], given: dict[str, Any]) -> Any:
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise RequestError(expected="a valid request", got=str(error), do="Mend the argument it names.") from error
