"""The test that stops exploration: it may be looked at always, seldom lies, and finds real harm."""

from __future__ import annotations

import numpy as np
import pytest

from honeyguide.slate.harm import HarmTest


def run(
    rng: np.random.Generator, lists: int, explored_rate: float, other_rate: float, hurt: str, ratio: float
) -> tuple[bool, int]:
    """Whether it ever stopped, looking after every list; and how many slots the action followed."""
    test = HarmTest(hurt, ratio, 0.05)  # type: ignore[arg-type]
    for chance in rng.choice([0.05, 0.3, 0.6], lists):
        explored = bool(rng.random() < chance)
        if rng.random() < (explored_rate if explored else other_rate):
            test.add(explored, float(chance))
            if test.hurts:
                return True, test.explored + test.unexplored
    return False, test.explored + test.unexplored


@pytest.mark.parametrize(("hurt", "ratio"), [("more", 1.0), ("more", 1.5), ("less", 1.0), ("less", 0.5)])
def test_without_harm_it_stops_in_fewer_than_alpha_of_the_runs_however_often_one_looks(hurt: str, ratio: float) -> None:
    rng = np.random.default_rng(1)
    runs = 300
    false = sum(run(rng, 1_500, 0.2 * ratio, 0.2, hurt, ratio)[0] for _ in range(runs))
    assert false <= 0.05 * runs + 2 * np.sqrt(runs * 0.05 * 0.95)


@pytest.mark.parametrize(("hurt", "explored", "other"), [("more", 0.3, 0.1), ("less", 0.05, 0.2)])
def test_harm_is_found(hurt: str, explored: float, other: float) -> None:
    rng = np.random.default_rng(2)
    found = [run(rng, 4_000, explored, other, hurt, 1.0) for _ in range(20)]
    assert all(stopped for stopped, _ in found)


def test_the_chance_of_exploring_matters_and_not_where_it_happens() -> None:
    # Half of the followed slots are explored: harm where chance has a tenth of the slots, none where it has half.
    rare, often = HarmTest("more", 1.0, 0.01), HarmTest("more", 1.0, 0.01)
    for number in range(60):
        rare.add(number % 2 == 0, 0.1)
        often.add(number % 2 == 0, 0.5)
    assert rare.hurts
    assert not often.hurts
    assert often.expected == pytest.approx(30.0)


def test_slots_that_never_or_always_explore_tell_nothing() -> None:
    test = HarmTest("more", 1.0, 0.01)
    for _ in range(100):
        test.add(False, 0.0)
        test.add(True, 1.0)
    assert test.evidence == pytest.approx(1.0)
    assert test.explored == 0
