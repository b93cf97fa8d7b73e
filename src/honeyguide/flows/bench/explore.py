"""Bandits on streams of classification, as Vowpal Wabbit measures them: the class chosen earns 1 if it is right.

Progressive validation: one pass, an arm a class, and only the chosen one's reward is told. Both see the same features.
Ours has one setting for all streams. Of Vowpal Wabbit's SquareCB the best setting of a grid counts, chosen by the
very reward that is reported: learning rates and gamma scales as its documentation tunes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.flows.bench.rows import REPEATS, row
from honeyguide.kernels import bandit

__all__ = ["GAMMA_SCALES", "LEARNING_RATES", "POLICIES", "STREAMS", "Stream", "run"]

LEARNING_RATES = (0.1, 0.5, 1.0, 3.0)
GAMMA_SCALES = (10.0, 50.0, 100.0, 400.0, 1_000.0)
RIDGE, KEEPS, REPLICATES = 1.0, (1.0, 0.998, 0.99), 10
"""Of our learners: the prior's weight, what an arm's past is worth after another observation (experts), bootstrapped
heads of each."""
POLICIES: dict[str, tuple[int, float, float]] = {
    "squarecb": (bandit.SQUARECB, 10.0, 0.5),
    "thompson-linear": (bandit.THOMPSON, 0.1, 0.0),
    "thompson-bootstrap": (bandit.BOOTSTRAP, 0.1, 0.0),
    "linucb": (bandit.LINUCB, 0.2, 0.0),
    "epsilon-0.1": (bandit.EPSILON, 0.1, 0.0),
    "oracle": (bandit.FULL, 0.0, 0.0),
}
"""Kind, strength and exponent. The oracle is the same learner, told every arm's reward in every round: supervised
learning. Where lines do not part the classes it is no upper bound: a bandit learns only where an arm is in doubt."""


@dataclass(frozen=True)
class Stream:
    """Rows in the order in which they come."""

    x: F64  # (n, d)
    right: I64  # (n,)
    arms: int


def _digits(seed: int) -> Stream:
    """Handwritten digits (scikit-learn's copy of the UCI set), shuffled: 1,797 x 64, ten classes."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = np.random.default_rng(seed).permutation(len(found.target))
    return Stream(found.data[order] / 16.0, found.target[order].astype(np.int64), 10)


def _cover(seed: int) -> Stream:
    """Generated like forest cover types: 10,000 x 54 features, seven unequal classes of two clusters each, noise."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        10_000, 54, n_informative=14, n_redundant=6, n_classes=7, n_clusters_per_class=2, flip_y=0.05, class_sep=1.6,
        weights=[0.36, 0.32, 0.1, 0.07, 0.06, 0.05, 0.04], random_state=seed,
    )  # fmt: skip
    return Stream(x / np.abs(x).max(0), y.astype(np.int64), 7)


def _drift(seed: int) -> Stream:
    """Generated, and not stationary: 9,000 x 20 features, five classes that change places twice."""
    from sklearn.datasets import make_classification

    x, y = make_classification(
        9_000, 20, n_informative=10, n_classes=5, n_clusters_per_class=1, flip_y=0.02, class_sep=1.5, random_state=seed
    )
    rng = np.random.default_rng(seed)
    for start in (3_000, 6_000):
        y[start:] = rng.permutation(5)[y[start:]]
    return Stream(x / np.abs(x).max(0), y.astype(np.int64), 5)


STREAMS: dict[str, Callable[[int], Stream]] = {"digits": _digits, "cover": _cover, "drift": _drift}


def ours(stream: Stream, policy: str, seed: int) -> float:
    """Mean reward of one of our policies over one pass."""
    kind, strength, exponent = POLICIES[policy]
    x = np.ascontiguousarray(np.column_stack([stream.x, np.ones(len(stream.x))]))
    rewards = bandit.play(
        x, stream.right, stream.arms, kind, strength, exponent, RIDGE, np.array(KEEPS), REPLICATES, seed
    )
    return float(rewards.mean())


def theirs(stream: Stream, arguments: str, seed: int) -> float:
    """Mean reward of Vowpal Wabbit over one pass: the features shared, crossed with the arm."""
    from vowpalwabbit import Workspace

    arms = [f"|a {arm}" for arm in range(stream.arms)]
    rng = np.random.default_rng(seed)
    earned = 0
    machine = Workspace(f"--cb_explore_adf --cb_type mtr -q sa --quiet --random_seed {seed + 1} {arguments}")
    try:
        for x, right in zip(stream.x, stream.right.tolist(), strict=True):
            shared = "shared |s " + " ".join(f"{place}:{x[place]:.5g}" for place in np.flatnonzero(x))
            chances = np.asarray(machine.predict([shared, *arms]), np.float64)
            arm = int(rng.choice(stream.arms, p=chances / chances.sum()))
            reward = int(arm == right)
            earned += reward
            label = f"0:{-reward}:{chances[arm]:.6f} {arms[arm]}"
            machine.learn([shared, *arms[:arm], label, *arms[arm + 1 :]])
    finally:
        machine.finish()
    return earned / len(stream.right)


def _settings() -> Iterator[str]:
    for rate in LEARNING_RATES:
        for scale in GAMMA_SCALES:
            yield f"--squarecb --gamma_scale {scale:g} --gamma_exponent 0.5 -l {rate:g}"


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows `STREAM/POLICY`; the peer is Vowpal Wabbit's SquareCB at its best setting, mean over the same streams."""
    try:
        import sklearn.datasets  # noqa: F401
        import vowpalwabbit  # noqa: F401
    except ImportError as error:
        return [], [f"explore: {error.name} is not installed (the extra `bench` has it)"]
    rows = []
    for name, make in STREAMS.items():
        streams = [make(seed) for seed in range(REPEATS)]
        scored = {
            setting: float(np.mean([theirs(stream, setting, seed) for seed, stream in enumerate(streams)]))
            for setting in _settings()
        }
        best = max(scored, key=lambda setting: scored[setting])
        greedy = max(
            float(np.mean([theirs(stream, f"--epsilon 0.1 -l {rate:g}", seed) for seed, stream in enumerate(streams)]))
            for rate in LEARNING_RATES
        )
        said = f"Vowpal Wabbit {best}"
        for policy in POLICIES:
            found = float(np.mean([ours(stream, policy, seed) for seed, stream in enumerate(streams)]))
            peer, peer_name = (
                (greedy, "Vowpal Wabbit --epsilon 0.1") if policy == "epsilon-0.1" else (scored[best], said)
            )
            rows.append(
                row("explore", f"{name}/{policy}", "mean_reward", "reward", found, peer=peer, peer_name=peer_name,
                    ratio=found / peer)
            )  # fmt: skip
    return rows, []
