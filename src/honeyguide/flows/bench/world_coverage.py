"""Whether off-policy intervals hold through the whole product: worlds and changes by seed, truth known by the list."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.errors import DataError
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import Layout
from honeyguide.flows.simulation.arms import configure, scratch
from honeyguide.flows.simulation.changes import Change, Changed
from honeyguide.flows.simulation.loop import live_through
from honeyguide.flows.simulation.shadow import Shadow
from honeyguide.flows.simulation.shop import make_shop
from honeyguide.flows.simulation.stage import stage_of
from honeyguide.world.config import Shape

__all__ = ["Pair", "pairs", "summary"]

TEMPERATURES, POOLS = (0.25, 0.5, 1.0), (5, 8, 12)
"""Of the logging policy, Plackett-Luce over the relevance of so many candidates: all are in reach of it, the likelier
the better they are."""
SLOTS, PEOPLE, ITEMS, WARM_DAYS, DAYS = 4, 600, 120, 28, 7
CHANGES = 8
"""Of each world; their intervals rest on one log, so they are not independent of one another."""
ENOUGH = 1_000


@dataclass(frozen=True, slots=True)
class Pair:
    """One world and change: what was said, and what was true."""

    world: int
    change: str
    reward: str
    verdict: str
    inside: bool | None  # None: no interval was given
    ess: float  # lists' worth of the target: (sum w)^2 / sum w^2 of the lists' whole weights
    width: float
    truth: float


def pairs(*, worlds: int, seconds: float, seed: int = 0) -> Iterator[Pair]:
    """Pairs of worlds and changes, as many worlds as asked for or as fit into the time; the first always runs."""
    started = time.monotonic()
    for number in range(worlds):
        if number and time.monotonic() - started > seconds:
            return
        place = Path(tempfile.mkdtemp(prefix="honeyguide-worlds-"))
        try:
            yield from _world(place / "shop", seed * 100_003 + number)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _world(place: Path, seed: int) -> Iterator[Pair]:
    rng = np.random.default_rng(np.random.SeedSequence([seed, 9]))
    shape = Shape(
        leaves=int(rng.integers(6, 20)), branches=4, sellers=30, visits_a_day=0.6, item_page=0.0, searches=0.0,
        appeal_spread=float(rng.uniform(0.3, 1.0)), new_items_a_day=0.0,
    )  # fmt: skip
    make_shop(place, people=PEOPLE, items=ITEMS, days=WARM_DAYS, seed=seed, slots=SLOTS, shape=shape)
    layout = Layout.open(place)
    config = WorkspaceConfig.load(layout.config).model_dump(mode="json", exclude_unset=True)
    config["heads"] = [{**head, "trees": 60, "max_rows": 40_000} for head in config["heads"]]
    pool = int(rng.choice(POOLS))
    config["surfaces"]["home"]["candidates"] = pool
    config["surfaces"]["home"]["slate"]["explore"] = {
        "kind": "plackett_luce", "per": "relevance", "temperature": float(rng.choice(TEMPERATURES)), "pool": pool,
    }  # fmt: skip
    configure(layout, config)
    build(layout.root)
    changes = [Changed.of(Change.of(document), layout) for document in _drawn(rng, pool)]
    stage = stage_of(layout, seed=1)
    shadow = Shadow(SLOTS, firsts=())
    with scratch(layout) as folder:
        live_through(stage, folder / "present", days=DAYS, beside=changes, on_open=shadow.attach)
    for n, changed in enumerate(changes):
        for reward, column in (("clicks", 0), ("purchases", 1)):
            yield _pair(shadow, seed, n, changed.change.name, reward, float(shadow.truth(1 + n)[column]))


def _drawn(rng: np.random.Generator, pool: int) -> list[dict[str, Any]]:
    """Changes from slight to whole: exploration, weights, caps."""
    drawn = []
    for number in range(CHANGES):
        kind = ("explore", "weights", "weights", "cap", "both")[int(rng.integers(5))]
        slate: dict[str, Any] = {}
        if kind in ("explore", "both"):
            slate["explore"] = {"temperature": round(float(np.exp(rng.uniform(np.log(0.05), np.log(3.0)))), 3)}
            if rng.random() < 0.5:
                share = round(float(rng.uniform(0.0, 0.95)), 3)
                slate["explore"] = {"kind": "epsilon", "epsilon": share, "pool": int(rng.integers(2, pool))}
        if kind in ("weights", "both"):
            # From a touch to another policy altogether.
            size = float(rng.choice([0.05, 0.3, 1.5]))
            names = ("click", "save", "purchase")
            now = np.array([1.0, 1.0, 2.0]) * np.exp(size * rng.normal(size=3))
            weights = {name: round(float(one), 4) for name, one in zip(names, now, strict=True)}
            slate["utility"] = {"weights": weights, "blend_weight": 0.05}
        if kind == "cap":
            slate["rules"] = {"category_cap": int(rng.integers(1, 4))}
        drawn.append({"name": f"{number}-{kind}", "policy": {"surfaces": {"home": {"slate": slate}}}})
    return drawn


def _pair(shadow: Shadow, world: int, n: int, name: str, reward: str, truth: float) -> Pair:
    log, chances, _ = shadow.decisions(n, reward)
    w = chances[log.place] / log.propensity
    of_list = np.ones(len(log.request_ids))
    np.multiply.at(of_list, log.request, w)
    ess = float(of_list.sum() ** 2 / max((of_list**2).sum(), 1e-300))
    try:
        valued = shadow.value(n, reward)
    except DataError:
        return Pair(world, name, reward, "refused", None, ess, np.nan, truth)
    best = next((one for one in valued.estimates if one.estimator == valued.best), None)
    if best is None or best.low is None or best.high is None:
        return Pair(world, name, reward, valued.verdict.name, None, ess, np.nan, truth)
    inside = best.low <= truth <= best.high
    return Pair(world, name, reward, valued.verdict.name, inside, ess, best.high - best.low, truth)


def summary(found: Sequence[Pair]) -> dict[str, float]:
    """Coverage, share answered (of all, and where the log is worth 1,000 lists of the target), and how many."""
    said = [pair for pair in found if pair.inside is not None]
    large = [pair for pair in found if pair.ess >= ENOUGH]
    nan = float("nan")
    return {
        "coverage": float(np.mean([bool(pair.inside) for pair in said])) if said else nan,
        "answered": len(said) / len(found) if found else nan,
        "answered_at_1000": float(np.mean([pair.inside is not None for pair in large])) if large else nan,
        "not_identifiable": float(sum(pair.verdict == "NOT IDENTIFIABLE" for pair in found)),
        "worlds": float(len({pair.world for pair in found})),
        "pairs": float(len({(pair.world, pair.change) for pair in found})),
        "intervals": float(len(said)),
        "width_over_truth": float(np.median([pair.width / max(pair.truth, 1e-9) for pair in said])) if said else nan,
    }
