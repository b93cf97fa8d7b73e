"""The world: how fast it lives with and without the product, how alike it is to a log, and whether intervals hold."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.engines.tables.choice import tables_engine
from honeyguide.errors import DataUnavailableError
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.flows.bench.world_coverage import pairs, summary
from honeyguide.flows.bench.world_elsewhere import ESTIMATORS, covered
from honeyguide.flows.build import build
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.create import create
from honeyguide.flows.data import Dataset, load
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading import sources_of_data
from honeyguide.flows.simulation.arms import scratch
from honeyguide.flows.simulation.loop import live_through
from honeyguide.flows.simulation.shop import make_shop
from honeyguide.flows.simulation.stage import stage_of
from honeyguide.world.config import WorldConfig
from honeyguide.world.fit import fit
from honeyguide.world.population import Priors
from honeyguide.world.world import World

__all__ = ["run"]

_SEED = 20_260
WORLDS, COVERAGE_S = 63, 1_800.0
"""So many worlds of eight changes are five hundred pairs; what does not fit into the time is left out, and said."""
_UNITS = {
    "coverage": "share", "answered": "share", "answered_at_1000": "share", "not_identifiable": "intervals",
    "worlds": "worlds", "pairs": "pairs", "intervals": "intervals", "width_over_truth": "ratio",
}  # fmt: skip
_BOUNDS = {"coverage": 0.93, "answered_at_1000": 0.8}
_LOGS = 1_000
_ELSEWHERE = ((1.0, 1.0), (1.0, 0.5), (1.0, 0.35), (2.0, 0.5))


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """All cases: `default`, `fitted` (MovieLens 1M), `default-in-loop`, `coverage`, and a world that is not ours."""
    place = Path(tempfile.mkdtemp(prefix="honeyguide-bench-world-"))
    rows, missing = [], list[str]()
    try:
        rows += _speed("default", WorldConfig(seed=_SEED), None)
        rows += _default(place / "shop")
        try:
            rows += _fitted(place / "films")
        except DataUnavailableError as error:
            missing.append(f"fitted: {error.got}")
        rows += _elsewhere()
        found, said = _coverage()
        return rows + found, missing + said
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _speed(case: str, config: WorldConfig, priors: Priors | None) -> list[dict[str, Any]]:
    """Visits a second of processor time, the world by itself."""
    World(config, priors).live(1.0)
    found = []
    for _ in range(REPEATS):
        world = World(config, priors)
        started = time.process_time()
        world.live(28.0)
        found.append(world.tally[:, 0].sum() / (time.process_time() - started))
    return [row("world", case, "sessions_per_cpu_s", "1/s", float(np.median(found)), floor=100_000 / 60)]


def _default(place: Path) -> list[dict[str, Any]]:
    """A world fitted to the default shop's log, and the shop with the product in the loop."""
    make_shop(place, seed=_SEED)
    layout = Layout.open(place)
    build(layout.root)
    data = _data(layout)
    rows = [row("world", "default", "fit_distance", "distance", fit(data.interactions, data.catalog).fit_distance)]
    stage = stage_of(layout)
    with scratch(layout) as folder:
        live_through(stage, folder / "warm", days=1.0)
        once = live_through(stage, folder / "once", days=14.0)
        again = live_through(stage, folder / "again", days=28.0, retrain_days=7.0)
    whole = again.of("visits").sum() / (again.cpu_s + again.retrain_cpu_s)
    return [
        *rows,
        row("world", "default-in-loop", "sessions_per_cpu_s", "1/s", once.sessions_per_cpu_s, floor=5_000 / 60),
        row("world", "default-in-loop/retrained-weekly", "sessions_per_cpu_s", "1/s", float(whole)),
    ]


def _fitted(place: Path) -> list[dict[str, Any]]:
    """A world fitted to MovieLens 1M."""
    files = sources_of_data.fetch("ml-1m")["files"]
    create(place, events=Path(files["events"]), items=Path(files["items"]), users=Path(files["users"]))
    data = _data(Layout.open(place))
    started = time.process_time()
    found = fit(data.interactions, data.catalog, seed=_SEED)
    cpu_s = time.process_time() - started
    return [
        row("world", "fitted", "fit_distance", "distance", found.fit_distance),
        row("world", "fitted", "fit_cpu_s", "s", cpu_s),
        *(
            row("world", f"fitted/{figure['figure']}", "fit_distance", "distance", figure["distance"])
            for figure in found.report()
        ),
        *_speed("fitted", found.config, found.priors),
    ]


def _data(layout: Layout) -> Dataset:
    config = WorkspaceConfig.load(layout.config)
    with closing(tables_engine(config.engine)) as engine:
        return load(layout, config, engine)


def _elsewhere() -> list[dict[str, Any]]:
    """Coverage in interest evolution. Its people look at the whole slate before they choose, so that only an estimator
    that weighs the whole list is right there."""
    rows = []
    for heat, target in _ELSEWHERE:
        found = covered(_LOGS, heat=heat, target_heat=target, seed=_SEED)
        for name in ESTIMATORS:
            case = f"elsewhere/interest-evolution/log-{heat:g}/target-{target:g}/{name}"
            floor = 0.93 if name != "rips" else None
            rows.append(row("world", case, "coverage", "share", found.coverage[name], floor=floor))
            rows.append(row("world", case, "bias", "share", found.bias[name]))
    return rows


def _coverage() -> tuple[list[dict[str, Any]], list[str]]:
    """Off-policy intervals of what the product logged, against the truth of the same lists."""
    found = list(pairs(worlds=WORLDS, seconds=COVERAGE_S, seed=_SEED))
    said = summary(found)
    rows = [
        row("world", "coverage", metric, _UNITS[metric], value, floor=_BOUNDS.get(metric))
        for metric, value in said.items()
    ]
    for reward in ("clicks", "purchases"):
        one = summary([pair for pair in found if pair.reward == reward])
        rows.append(row("world", f"coverage/{reward}", "coverage", "share", one["coverage"], floor=0.93))
    ran = len({pair.world for pair in found})
    missing = [] if ran == WORLDS else [f"coverage: {ran} of {WORLDS} worlds fitted into {COVERAGE_S:g} s"]
    return rows, missing
