"""`honeyguide world`: the default shop as a workspace, with a log of its people and the world itself beside it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from pydantic import ValidationError

from honeyguide.contracts import Progress
from honeyguide.engines.tables.snapshot import Snapshots
from honeyguide.engines.tasks.steps import atomic_write, disk_errors
from honeyguide.errors import RequestError, WorkspaceError
from honeyguide.flows.create import create
from honeyguide.flows.layout import Layout
from honeyguide.flows.pages import TEMPLATES
from honeyguide.kernels import world as k
from honeyguide.schema import columns as c
from honeyguide.schema.tables import IMPRESSIONS
from honeyguide.world.config import Shape, WorldConfig
from honeyguide.world.shop import items_table
from honeyguide.world.world import Lists, World

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["CHANGES", "WORLD", "SavedWorld", "make_shop", "saved_world"]

WORLD = "world.json"
"""The file of a workspace that holds the world it was made by."""
CHANGES = "changes"
"""The folder of a shop with two changes to try: one that held-out clicks praise, and one that is good."""
BUILT_IN = "built-in"
SURFACES = ("home", "search", "item")
ACTIONS = ((k.CLICKED, "click"), (k.SAVED, "save"), (k.BOUGHT, "purchase"), (k.HIDDEN, "hide"))
DAY_US = k.DAY_US


class SavedWorld(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A world by its configuration and how long it has lived by itself: deterministic, so it can be made again."""

    config: dict[str, Any]
    days: int

    def lived(self) -> World:
        """The world at the end of the log."""
        world = World(WorldConfig.model_validate(self.config))
        world.live(self.days)
        return world


def saved_world(layout: Layout) -> SavedWorld | None:
    """The world that a workspace was made by, None if it is of real people."""
    path = layout.root / WORLD
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=SavedWorld)
    except msgspec.DecodeError as error:
        raise WorkspaceError(
            expected=f"a world in {path}", got=str(error), do="Make the shop again with `honeyguide world`."
        ) from error


def make_shop(
    folder: Path, *, people: int = 1_000, items: int = 500, days: int = 28, seed: int = 0, slots: int = 12,
    shape: Shape | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Let a world live, and make a workspace of its log; returns the report of `honeyguide world`.

    shape: of the world, where people and items are not all that differs from the default.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    if not 1 <= days <= 3_650:
        raise RequestError(expected="1 to 3650 days", got=str(days), do="Give another --days.")
    try:
        given = (shape or Shape()).model_dump() | {"people": people, "items": items}
        config = WorldConfig(seed=seed, slots=slots, shape=Shape.model_validate(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise RequestError(
            expected=f"a valid {name} ({first['msg']})", got=f"{first['input']!r:.40}", do="Give another number."
        ) from error
    world, lists = World(config), list[Lists]()
    tell("living", 0, days)
    parts = []
    for day in range(days):
        parts.append(world.live(1.0, lists))
        tell("living", day + 1, days)
    seen, shown = np.concatenate(parts), Lists.joined(lists, slots)
    did = seen[(seen["did"] & ~np.uint8(k.LOOKED)) > 0]
    if not len(did):
        raise RequestError(
            expected="a world in which somebody does something",
            got=f"no action of {people} people in {days} days",
            do="Give more people or days.",
        )
    with TemporaryDirectory(prefix="honeyguide-world-") as temporary:
        place = Path(temporary)
        _write(place / "events.parquet", _events(did, config))
        there = np.flatnonzero(world.goods.born <= world.now_us).astype(np.int32)
        catalog = items_table(world.goods, world.now_us, there)
        stocked = world.goods.stocked[there]
        at = catalog.schema.get_field_index(c.AVAILABLE)
        import pyarrow as pa

        _write(place / "items.parquet", catalog.set_column(at, catalog.schema.field(at), pa.array(stocked)))
        create(folder, events=place / "events.parquet", items=place / "items.parquet", name="shop", progress=tell)
    layout = Layout.open(folder)
    with disk_errors(layout.root):
        with Snapshots(layout.tables).appender(IMPRESSIONS.name) as table:
            table.add(_impressions(shown, config))
        text = (TEMPLATES / "shop.toml").read_text(encoding="utf-8")
        shutil.copytree(TEMPLATES / "changes", layout.root / CHANGES)
        offset = (time.time_ns() // 1000 - world.now_us) // 1_000_000
        atomic_write(layout.config, text.replace("{offset}", f"{offset}.0").encode())
        saved = SavedWorld(config.model_dump(mode="json"), days)
        atomic_write(layout.root / WORLD, msgspec.json.format(msgspec.json.encode(saved)))
    counts = {action: int(np.count_nonzero(did["did"] & bit)) for bit, action in ACTIONS}
    tally = world.tally.sum(0)
    return {
        "workspace": str(layout.root), "seed": seed, "days": days, "people": people, "items": len(there),
        "visits": int(tally[0]), "lists": len(shown.head), "actions": counts,
        "clicks_per_list": round(counts["click"] / max(len(shown.head), 1), 4),
        "people_lost": int(world.minds.gone.sum()),
        "next": [
            f"honeyguide build {layout.root}",
            f"honeyguide simulate {layout.root} --change {layout.root / CHANGES / 'clicks.toml'}",
            f"honeyguide replay {layout.root} --change {layout.root / CHANGES / 'value.toml'}",
        ],
    }  # fmt: skip


def _write(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet as pq

    pq.write_table(table, path)


def _request_ids(seed: int, rows: np.ndarray) -> list[str]:
    return [
        f"b{seed}-{user}-{visit}-{page}"
        for user, visit, page in zip(rows["user"].tolist(), rows["visit"].tolist(), rows["page"].tolist(), strict=True)
    ]


def _events(did: np.ndarray, config: WorldConfig) -> pa.Table:
    """What people did, an event per action, in order of time."""
    import pyarrow as pa

    rows = [np.flatnonzero(did["did"] & bit) for bit, _ in ACTIONS]
    names = [name for found, (_, name) in zip(rows, ACTIONS, strict=True) for _ in range(len(found))]
    index = np.concatenate(rows)
    order = np.lexsort((np.arange(len(index)), did["at"][index]))
    one = did[index[order]]
    action = [names[place] for place in order.tolist()]
    requests = _request_ids(config.seed, one)
    columns: dict[str, Any] = {
        c.EVENT_ID: [f"{request}-{p}-{a}" for request, p, a in zip(
            requests, one["position"].tolist(), action, strict=True
        )],
        c.USER_ID: [f"u{user}" for user in one["user"].tolist()],
        c.ITEM_ID: [f"i{item}" for item in one["item"].tolist()],
        c.ACTION: action,
        c.HAPPENED_AT: pa.array(one["at"], pa.timestamp("us", tz="UTC")),
        c.SURFACE: [SURFACES[surface] for surface in one["surface"].tolist()],
        c.REQUEST_ID: requests,
        c.SESSION_ID: [f"{u}-{v}" for u, v in zip(one["user"].tolist(), one["visit"].tolist(), strict=True)],
        c.POSITION: pa.array(one["position"].astype(np.int32)),
    }  # fmt: skip

    return pa.table({str(name): column for name, column in columns.items()})


def _impressions(shown: Lists, config: WorldConfig) -> pa.Table:
    """What was shown, with the propensities with which the built-in policy drew it."""
    import pyarrow as pa

    head, n = shown.head, len(shown.head)
    there = shown.items >= 0
    sizes = there.sum(1)
    ends = pa.array(np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32))
    ids = pa.array([f"i{item}" for item in shown.items[there].tolist()], pa.string())
    odds = shown.odds.astype(np.float64)
    columns: dict[str, Any] = {
        c.REQUEST_ID: _request_ids(config.seed, head),
        c.USER_ID: [f"u{user}" for user in head["user"].tolist()],
        c.SURFACE: [SURFACES[surface] for surface in head["surface"].tolist()],
        c.HAPPENED_AT: pa.array(head["at"], pa.timestamp("us", tz="UTC")),
        c.POLICY_VERSION: [BUILT_IN] * n,
        c.BUILD_ID: [BUILT_IN] * n,
        c.SEEDS: [None if item < 0 else [f"i{item}"] for item in head["about"].tolist()],
        c.SHOWN_ITEMS: pa.ListArray.from_arrays(ends, ids),
        c.SHOWN_PROPENSITIES: pa.ListArray.from_arrays(ends, pa.array(odds[there])),
        c.LIST_PROPENSITY: np.where(there, odds, 1.0).prod(1),
        c.STAGE_US: [json.dumps({})] * n,
    }
    schema = IMPRESSIONS.arrow()
    arrays = [
        pa.array(columns[field.name], field.type) if field.name in columns else pa.nulls(n, field.type)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)
