"""The closed loop: a world's people in front of the product, its own log, features and retraining in between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from honeyguide.contracts import F64, Answerer, BoolArray, EventLog, Progress
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.keeping.compact import open_log
from honeyguide.flows.layout import Layout
from honeyguide.flows.simulation.arms import Arm, SimClock, drop_log
from honeyguide.flows.simulation.changes import Changed
from honeyguide.kernels import world as k
from honeyguide.kernels.hashing import hash64
from honeyguide.world.audience import Audience, Diary, Shelf
from honeyguide.world.changes import AnyChange
from honeyguide.world.fit import Fit
from honeyguide.world.world import TALLY, World

__all__ = ["Lived", "Stage", "assigned", "live_through"]


@dataclass(frozen=True)
class Stage:
    """Who acts where: a world at the end of a workspace's log, and what product and world call the same things."""

    layout: Layout
    world: World  # never changed: every run gets a copy
    shelf: Shelf
    seed: int = 0
    fit: Fit | None = None  # None where the world is the log's own

    def copy(self, changes: Sequence[AnyChange], changed: BoolArray) -> World:
        """A world of its own, with what is to happen in it; days count from now."""
        world = deepcopy(self.world)
        world.begin(changes, changed, self.seed)
        return world


@dataclass
class Lived:
    """What came of a run."""

    diary: Diary
    tally: F64  # (people, TALLY) of this run
    gone: BoolArray  # (people,) will never come back, since this run began
    cpu_s: float  # of the requests, retraining left out
    retrain_cpu_s: float
    builds: list[str] = field(default_factory=list)

    def of(self, name: str) -> F64:
        """(people,) a column of the tally."""
        column: F64 = self.tally[:, TALLY.index(name)]
        return column

    @property
    def sessions_per_cpu_s(self) -> float:
        """Visits a second of processor time, answering and logging included."""
        return float(self.of("visits").sum() / max(self.cpu_s, 1e-9))


def assigned(people: Sequence[str], seed: int) -> BoolArray:
    """(people,) who is in the changed arm: half of them, by hash."""
    return np.array([hash64(user_id, f"simulate-{seed}") % 2 == 1 for user_id in people], np.bool_)


def live_through(
    stage: Stage, place: Path, *, days: float, changed: Changed | None = None, split: BoolArray | None = None,
    changes: Sequence[AnyChange] = (), retrain_days: float = 0.0, beside: Sequence[Changed] = (),
    on_open: Callable[[Arm, Sequence[Arm], Audience], None] | None = None, progress: Progress | None = None,
    what: str = "simulating",
) -> Lived:  # fmt: skip
    """Let the people of a stage live with a policy for some days, on a copy of the workspace at `place`.

    changed: None for the present policy. split: (people,) who gets the changed policy, all others the present one, over
    one log; None: everybody. retrain_days: a new build as often, 0 = never. beside: policies that answer nobody and
    know what the others know. on_open: called whenever policies were loaded, with the first arm and those beside.
    """
    people = len(stage.shelf.people)
    if split is not None:
        mask = split
    else:
        mask = np.full(people, changed is not None)
    world = stage.copy(changes, mask[: stage.world.config.shape.people])
    clock = SimClock(world.now_us)
    arms = _arms(stage.layout, place, clock, changed, split)
    first = next(iter(arms.values()))
    others = [first.beside(stage.layout, place.with_name(f"{place.name}-{n}"), one) for n, one in enumerate(beside)]
    everyone = [*arms.values(), *others]
    end_us = world.now_us + int(days * k.DAY_US)
    before, gone = world.tally.copy(), world.minds.gone.copy()
    cpu = retrain = 0.0
    try:
        desks: dict[bool, tuple[str, Arm]] = {flag: (arm.name, arm) for flag, arm in arms.items()}

        def desk(user: int) -> tuple[str, Answerer]:
            name, arm = desks[bool(mask[user])] if len(desks) > 1 else next(iter(desks.values()))
            return name, arm.desk

        audience = Audience(world, stage.shelf, desk, clock.turn)
        while world.now_us < end_us:
            until = min(end_us, world.now_us + int(retrain_days * k.DAY_US)) if retrain_days > 0 else end_us
            with _opened(first.layout, everyone):
                if on_open is not None:
                    on_open(first, others, audience)
                started = time.process_time()
                audience.run(until, _part(progress, what, world, end_us))
                cpu += time.process_time() - started
            if until < end_us:
                started = time.process_time()
                for arm in everyone:
                    if arm is first or arm.apart:
                        arm.retrain()
                retrain += time.process_time() - started
    finally:
        drop_log(first.layout)
    builds = [build_id for arm in everyone for build_id in arm.builds]
    return Lived(audience.diary, world.tally - before, world.minds.gone & ~gone, cpu, retrain, builds)


def _arms(
    layout: Layout, place: Path, clock: SimClock, changed: Changed | None, split: BoolArray | None
) -> dict[bool, Arm]:
    if split is None or changed is None:
        return {changed is not None: Arm.of(layout, place, clock, changed)}
    present = Arm.of(layout, place, clock)
    return {False: present, True: present.beside(layout, place.with_name(place.name + "-changed"), changed)}


@contextmanager
def _opened(layout: Layout, arms: Sequence[Arm]) -> Iterator[None]:
    """All arms answering over one log."""
    config = WorkspaceConfig.load(layout.config)
    with ExitStack() as stack:
        log: EventLog = stack.enter_context(closing(open_log(layout.log, config)))
        impressions: EventLog = stack.enter_context(closing(open_log(layout.impressions, config)))
        for arm in arms:
            arm.open(log, impressions)
        yield


def _part(progress: Progress | None, what: str, world: World, end_us: int) -> Progress | None:
    if progress is None:
        return None
    total = max(1, (end_us - world.config.start_us) // k.DAY_US)
    begun = (world.now_us - world.config.start_us) // k.DAY_US

    def tell(_: str, done: int, __: int) -> None:
        progress(what, int(begun + done), int(total))

    return tell
