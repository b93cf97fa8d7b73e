"""Off-policy intervals of lists in a world that is not ours: interest evolution, written anew from its description.

People have interests in topics between -1 and 1; documents have one topic and a quality. Of a slate of three a person
opens at most one, document i with chance (s_i + 1) / (sum of (s_j + 1) + no-click mass), s the interest in its topic.
What is opened moves the interest in its topic up or down. Source: Ie, Hsu, Mladenov, Jain, Narvekar, Wang, Wu and
Boutilier 2019, "RecSim: A Configurable Simulation Platform for Recommender Systems", the interest evolution environment
with its proportional choice model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.kernels.ope_intervals import tail_interval
from honeyguide.kernels.ope_slates import cascade_weights, list_weights, slate_interval
from honeyguide.kernels.ope_values import Sums

__all__ = ["ESTIMATORS", "Elsewhere", "covered"]

ESTIMATORS = ("sips", "rips", "ips-list")
"""The whole list's weight by slot; the weight down to the slot; a list as one choice with one reward."""
TOPICS, SLATE, OFFERED, NO_CLICK, MOVE = 20, 3, 6, 1.0, 0.3
REQUESTS = 5
_DRAWS = 8


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What came of many logs for one pair of policies."""

    coverage: dict[str, float]
    bias: dict[str, float]  # of the estimate, as a share of the truth
    ess: float
    logs: int


def covered(logs: int, *, people: int = 300, heat: float = 1.0, target_heat: float = 0.5, seed: int = 0) -> Elsewhere:
    """Coverage of 95 % intervals of clicks a list, by person; both policies draw by noisy interest, Plackett-Luce.

    heat, target_heat: of the log's and the target's softmax. The truth is the target's value at the log's own moments.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, 11]))
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ESTIMATORS}
    truths, ess = [], []
    for _ in range(logs):
        w, r, truth = _log(rng, people, heat, target_heat)
        truths.append(truth)
        ess.append(float(w.prod(1).sum() ** 2 / (w.prod(1) ** 2).sum()))
        unit = np.repeat(np.arange(people), REQUESTS)
        for name in ESTIMATORS:
            found[name].append(_interval(name, w, r, unit, people))
    value = float(np.mean(truths))
    coverage, bias = {}, {}
    for name, intervals in found.items():
        low, high, estimate = np.array(intervals).T
        coverage[name] = float(((low <= value) & (value <= high)).mean())
        bias[name] = float(estimate.mean() / value - 1.0)
    return Elsewhere(coverage, bias, float(np.median(ess)), logs)


def _interval(name: str, w: F64, r: F64, unit: I64, people: int) -> tuple[float, float, float]:
    if name == "ips-list":
        weight, reward = w.prod(1), r.sum(1)
        by: list[F64] = [
            np.bincount(unit, column, people).astype(np.float64)
            for column in (weight * reward, weight, np.zeros_like(weight), np.ones_like(weight))
        ]
        sums = Sums(by[0], by[1], by[2], by[3])
        tail = float((sums.weight**3).sum() / (sums.weight**2).sum())
        one = tail_interval(sums, np.array(tail), 1.0, 0.0, normalised=True)
        return float(one.low), float(one.high), float(one.estimate)
    weight = list_weights(w) if name == "sips" else cascade_weights(w)
    shown = np.ones(w.shape, np.bool_)
    by_person = np.stack([np.bincount(unit, column, people) for column in weight.T], axis=1)
    tail_of = (by_person**3).sum(0) / (by_person**2).sum(0)
    ones = np.ones(w.shape[1])
    two = slate_interval(
        weight, r, np.zeros(len(w)), shown, tail_of, ones, np.zeros_like(ones), normalised=True, unit=unit,
        n_units=people,
    )  # fmt: skip
    return float(two.low), float(two.high), float(two.estimate)


def _log(rng: np.random.Generator, people: int, heat: float, target_heat: float) -> tuple[F64, F64, float]:
    """One log: weights and clicks (people x REQUESTS, SLATE), and the target's value at its moments."""
    interest = rng.uniform(-1.0, 1.0, (people, TOPICS))
    w, r, truth = [], [], []
    who = np.arange(people)[:, None]
    for _ in range(REQUESTS):
        topics = rng.integers(0, TOPICS, (people, OFFERED))
        # A recommender does not know interests; it knows them with noise, the same for both policies.
        score = interest[who, topics] + 0.5 * rng.normal(size=(people, OFFERED))
        shown, logged = _drawn(rng, score / heat)
        target = _chance(score / target_heat, shown)
        clicks = _clicks(rng, interest, topics, shown)
        w.append(target / logged)
        r.append(clicks)
        for _ in range(_DRAWS):
            other, _ = _drawn(rng, score / target_heat)
            truth.append(_open(interest, topics, other).sum(1).mean())
        _move(rng, interest, topics, shown, clicks)
    order = np.argsort(np.tile(np.arange(people), REQUESTS), kind="stable")
    return np.concatenate(w)[order], np.concatenate(r)[order], float(np.mean(truth))


def _drawn(rng: np.random.Generator, z: F64) -> tuple[I64, F64]:
    """Slates by Plackett-Luce (the Gumbel trick), and each slot's chance given those above."""
    shown = np.argsort(-(z + rng.gumbel(size=z.shape)), axis=1)[:, :SLATE].astype(np.int64)
    return shown, _chance(z, shown)


def _chance(z: F64, shown: I64) -> F64:
    mass = np.exp(z - z.max(1, keepdims=True))
    picked = np.take_along_axis(mass, shown, 1)
    above = np.concatenate([np.zeros((len(z), 1)), np.cumsum(picked, 1)[:, :-1]], axis=1)
    chance: F64 = picked / np.maximum(mass.sum(1, keepdims=True) - above, 1e-300)
    return chance


def _open(interest: F64, topics: I64, shown: I64) -> F64:
    """Chance that each document of the slate is opened: it depends on all of them, above and below."""
    likes = interest[np.arange(len(shown))[:, None], np.take_along_axis(topics, shown, 1)] + 1.0
    return np.asarray(likes / (likes.sum(1, keepdims=True) + NO_CLICK))


def _clicks(rng: np.random.Generator, interest: F64, topics: I64, shown: I64) -> F64:
    edges = np.cumsum(_open(interest, topics, shown), axis=1)
    drawn = rng.random((len(shown), 1))
    first = (drawn < edges).argmax(1)
    clicks = np.zeros(shown.shape)
    opened = drawn[:, 0] < edges[:, -1]
    clicks[np.flatnonzero(opened), first[opened]] = 1.0
    return clicks


def _move(rng: np.random.Generator, interest: F64, topics: I64, shown: I64, clicks: F64) -> None:
    """Interest in what was opened moves away from 0 or back, likelier in the direction that it has."""
    who, slot = np.nonzero(clicks)
    topic = np.take_along_axis(topics, shown, 1)[who, slot]
    now = interest[who, topic]
    step = (-MOVE * np.abs(now) + MOVE) * -now
    up = rng.random(len(who)) < (now + 1.0) / 2.0
    interest[who, topic] = np.clip(now + np.where(up, -step, step), -1.0, 1.0)
