"""People for a workspace: the world that its log came from, or one that is fitted to its log."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np

from honeyguide.contracts import F64, Progress
from honeyguide.engines.tables.choice import tables_engine
from honeyguide.errors import RequestError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.data import Dataset, held, load
from honeyguide.flows.layout import Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.simulation.loop import Stage
from honeyguide.flows.simulation.shop import saved_world
from honeyguide.intake.actions import meaning
from honeyguide.intake.catalog import wire_items
from honeyguide.kernels import world as k
from honeyguide.schema import columns as c
from honeyguide.schema.tables import EVENTS, IMPRESSIONS
from honeyguide.schema.wire import Item
from honeyguide.world.audience import ACTIONS, Shelf
from honeyguide.world.fit import fit
from honeyguide.world.shop import shelf as shop_shelf
from honeyguide.world.world import World

__all__ = ["stage_of"]

_DEEDS = ((k.CLICKED, ("weak", "unknown", "medium", "strong")), (k.SAVED, ("medium",)), (k.BOUGHT, ("strong",)))
RATING = "rating"
WORDS = 3
LISTS, MOST_SLOTS = 1_000, 50
"""So many lists tell how attention falls from slot to slot; longer lists are looked at so far."""


def stage_of(
    layout: Layout, *, people: int | None = None, seed: int = 0, progress: Progress | None = None
) -> Stage:  # fmt: skip
    """The people of a workspace at the end of its log.

    A shop made by `honeyguide world` has its own; for any other log a world is fitted. people: at most so many take
    part. RequestError where that is no number of people.
    """
    if people is not None and people < 2:
        raise RequestError(expected="two people or more", got=str(people), do="Give another --people.")
    saved = saved_world(layout)
    if saved is not None:
        world = saved.lived()
        n = world.config.shape.people
        if people is not None and people < n:
            some = np.random.default_rng(np.random.SeedSequence([seed, 6])).permutation(n)[people:]
            world.minds.gone[some] = True
        return Stage(layout, world, shop_shelf(world.goods, n), seed)
    config = WorkspaceConfig.of_build(load_manifest(layout).config)
    with closing(tables_engine(config.engine)) as engine:
        data = load(layout, config, engine)
    found = fit(
        data.interactions, data.catalog, seed=seed, position_rate=_position_rate(layout), most_people=people or 1_500,
        progress=progress,
    )  # fmt: skip
    start = int(data.interactions.at[-1]) + 1
    # Who is there at the end of the log comes when it suits them; who joined when is past.
    priors = replace(found.priors, joined=None)
    world = World(found.config.model_copy(update={"start_us": start, "seed": found.config.seed}), priors)
    ids = [data.users.id(int(row)) for row in found.people]
    return Stage(layout, world, _shelf(data, world, ids), seed, found)


def _position_rate(layout: Layout) -> F64 | None:
    """Clicks by slot per list of the home surface, None where too few lists were logged to tell."""
    import pyarrow as pa
    import pyarrow.compute as pc

    shown = held(layout, IMPRESSIONS)
    shown = shown.filter(pc.equal(shown[c.SURFACE], "home"))
    if shown.num_rows < LISTS:
        return None
    sizes = shown[c.SHOWN_ITEMS].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    slots = int(np.clip(np.median(sizes), 1, MOST_SLOTS))
    events = held(layout, EVENTS).select([str(c.REQUEST_ID), str(c.POSITION)])
    of_lists = pc.is_in(events[c.REQUEST_ID], value_set=pa.array(shown[c.REQUEST_ID].to_pylist(), pa.string()))
    events = events.filter(pc.and_(of_lists, pc.is_valid(events[c.POSITION])))
    # What was opened and then bought is one slot that was taken.
    once = events.group_by([str(c.REQUEST_ID), str(c.POSITION)]).aggregate([])
    taken = np.bincount(once[c.POSITION].to_numpy(), minlength=slots + 1)[1 : slots + 1]
    if not taken.sum():
        return None
    rate: F64 = taken / np.array([max(int((sizes > slot).sum()), 1) for slot in range(slots)], np.float64)
    return rate


def _shelf(data: Dataset, world: World, people: list[str]) -> Shelf:
    titles: dict[int, list[str]] = {}
    for row, leaf in enumerate(world.goods.leaf.tolist()):
        if data.catalog.title[row]:
            titles.setdefault(leaf, []).append(data.catalog.title[row])
    names = data.catalog.category_names

    def item(row: int) -> Item:
        return wire_items(data.items.slice(row, 1))[0]

    def words(leaf: int, number: int) -> str:
        own = titles.get(leaf)
        if own and number % 2:
            return " ".join(own[number % len(own)].split()[:WORDS])
        return names[leaf] if leaf < len(names) else "new"

    told = data.interactions.actions
    return Shelf(data.catalog.items, people, item, words, _actions(told), rates=RATING in told)


def _actions(told: tuple[str, ...]) -> dict[int, str]:
    """The log's own names for what people of the world do; what it has no name for is not told."""
    if RATING in told:
        return {k.CLICKED: RATING}
    found: dict[int, str] = {}
    for bit, meanings in _DEEDS:
        for wanted in meanings:
            names = [name for name in told if meaning(name) == wanted and name not in found.values()]
            if names:
                found[bit] = names[0]
                break
    against = [name for name in told if meaning(name) == "against"]
    if against:
        found[k.HIDDEN] = against[0]
    return found or dict(ACTIONS)
