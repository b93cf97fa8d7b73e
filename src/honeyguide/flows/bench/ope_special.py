"""Off-policy intervals where counts of cells do not suffice: amounts with heavy tails, people who come back, lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64
from honeyguide.flows.bench.ope_measure import ESS_LEAST, N3_LEAST, Measured
from honeyguide.flows.bench.ope_strata import softmax
from honeyguide.kernels.ope_intervals import reward_tails, tail_interval
from honeyguide.kernels.ope_slates import (
    cascade_weights,
    item_weights,
    list_weights,
    pseudo_inverse_weights,
    slate_interval,
)
from honeyguide.kernels.ope_values import Sums, design_moments, empirical_moments

__all__ = ["amounts", "lists", "people", "public"]

_BATCH = 2_000_000


# ------------------------------------------------------------------------------------------------------- amounts


@dataclass(frozen=True, slots=True)
class _Amount:
    """A reward that is no 0 or 1: how it is drawn (shape -> values), and its mean."""

    name: str
    draw: Callable[[np.random.Generator, tuple[int, int]], F64]
    mean: float


def _lognormal(sigma: float, bought: float = 1.0) -> _Amount:
    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> F64:
        amount = np.exp(rng.normal(size=shape) * sigma)
        return amount if bought == 1.0 else amount * (rng.random(shape) < bought)

    name = f"lognormal-{sigma:g}" if bought == 1.0 else f"{bought:.0%}-buy-lognormal-{sigma:g}"
    return _Amount(name, draw, bought * float(np.exp(sigma**2 / 2)))


def _pareto(alpha: float) -> _Amount:
    return _Amount(f"pareto-{alpha:g}", lambda rng, shape: rng.pareto(alpha, shape) + 1, alpha / (alpha - 1))


_NORMAL = _Amount("normal", lambda rng, shape: 5.0 + rng.normal(size=shape), 5.0)


def amounts(logs: int, seed: int) -> Iterator[tuple[str, Measured]]:
    """SNIPS of amounts whose range nobody told. Of 100 that buy 2, amounts of sigma 1.5 need 4,000 and more."""
    cases = [
        (n, amount)
        for n in (1_000, 4_000)
        for amount in (
            _NORMAL,
            _lognormal(1.0),
            _lognormal(1.5),
            _pareto(2.5),
            _lognormal(1.0, 0.1),
            _lognormal(1.0, 0.02),
        )
    ]
    cases.append((4_000, _lognormal(1.5, 0.1)))
    for place, (n, amount) in enumerate(cases):
        for name, target in (("same", (0.6, 0.3, 0.1)), ("near", (0.35, 0.35, 0.3)), ("far", (0.1, 0.15, 0.75))):
            rng = np.random.default_rng((seed, place))
            logged = np.array([0.6, 0.3, 0.1])
            w_of = np.array(target) / logged
            size = np.array([0.8, 1.0, 1.5])
            found = Measured(float(np.array(target) @ size) * amount.mean)
            design = design_moments(np.array(target), logged, np.full(3, float(n)), float(n))
            said = np.array(float(design.ess >= ESS_LEAST and design.n3 >= N3_LEAST))
            for start in range(0, logs, batch := max(1, _BATCH // n)):
                k = min(batch, logs - start)
                action = rng.choice(3, size=(k, n), p=logged)
                w, r = w_of[action], size[action] * amount.draw(rng, (k, n))
                tail = np.maximum(empirical_moments(w).tail_weight, design.tail_weight)
                up, down = reward_tails(r, w, tail, (w * r).sum(-1) / w.sum(-1))
                zero = np.zeros_like(w)
                interval = tail_interval(Sums(w * r, w, zero, zero + 1), tail, up, down, normalised=True)
                found.add(interval, said, -np.inf, np.inf)
            yield f"amounts/{n}/{amount.name}/{name}", found


# -------------------------------------------------------------------------------------------------------- people


def people(logs: int, seed: int) -> Iterator[tuple[str, Measured]]:
    """SNIPS where a person decides several times, with a taste and a rate of their own: by person, and as if not."""
    for n_people, visits in ((400, 5), (2_000, 3)):
        rng = np.random.default_rng((seed, n_people))
        logged, target = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
        w_of, rate = target / logged, np.array([0.1, 0.2, 0.3])
        n = n_people * visits
        found = {name: Measured(float(target @ rate)) for name in ("by-person", "as-if-independent")}
        for start in range(0, logs, batch := max(1, _BATCH // n)):
            k = min(batch, logs - start)
            action = rng.choice(3, size=(k, n_people, visits), p=logged)
            w = w_of[action]
            # Mean one: a few people reward nearly everything. E min(exponential, 3) = 1 - exp(-3).
            keen = np.minimum(rng.exponential(size=(k, n_people, 1)), 3.0) / (1 - np.exp(-3.0))
            r = (rng.random(w.shape) < keen * rate[action]).astype(np.float64)
            by_person = Sums((w * r).sum(-1), w.sum(-1), np.zeros((k, n_people)), np.full((k, n_people), float(visits)))
            flat = w.reshape(k, n)
            rows = Sums((w * r).reshape(k, n), flat, np.zeros_like(flat), np.ones_like(flat))
            for name, sums in (("by-person", by_person), ("as-if-independent", rows)):
                tail = np.maximum(empirical_moments(sums.weight).tail_weight, (logged @ w_of**3) / (logged @ w_of**2))
                found[name].add(tail_interval(sums, tail, 1.0, 0.0, normalised=True), np.ones(()))
        for name, measured in found.items():
            yield f"people/{n_people}x{visits}/{name}", measured


# ----------------------------------------------------------------------------------------------- not our own world


@dataclass(frozen=True, slots=True)
class _Synthetic:
    one_hot: F64  # (actions,)
    cross: F64  # (dimensions, actions)
    linear: F64  # (dimensions,)
    score: F64  # (dimensions, actions)
    beta_log: float
    beta_target: float

    def at(self, x: F64) -> tuple[F64, F64, F64]:
        """Mean rewards and both policies (..., actions) of contexts (..., dimensions)."""
        mean = 1 / (1 + np.exp(-(self.one_hot + x @ self.cross + (x @ self.linear)[..., None])))
        return mean, softmax(self.beta_log * (x @ self.score)), softmax(self.beta_target * mean)


def public(logs: int, seed: int) -> Iterator[tuple[str, Measured]]:
    """SNIPS in the synthetic bandit of the Open Bandit Pipeline, written anew from its documentation.

    Contexts are normal vectors, rewards logistic in context, action and their product, the log a softmax of a linear
    score; the target is a softmax of the true reward. Source: Saito, Aihara, Matsutani and Narita 2021, section 5 and
    `obp.dataset.SyntheticBanditDataset`.
    """
    n, actions, dimensions = 2_000, 10, 5
    for beta_log, beta_target in ((0.3, 3.0), (0.5, 2.0), (0.2, 8.0)):
        rng = np.random.default_rng((seed, int(10 * (beta_log + 20))))
        one_hot, cross = rng.uniform(-1, 1, actions), rng.uniform(-1, 1, (dimensions, actions))
        linear, score = rng.uniform(-1, 1, dimensions), rng.uniform(-1, 1, (dimensions, actions))

        world = _Synthetic(one_hot, cross, linear, score, beta_log, beta_target)
        mean, _, target = world.at(rng.normal(size=(1_000_000, dimensions)))
        found = Measured(float((mean * target).sum(1).mean()))
        for start in range(0, logs, batch := 50):
            k = min(batch, logs - start)
            mean, logged, target = world.at(rng.normal(size=(k, n, dimensions)))
            action = (logged.cumsum(-1) > rng.random((k, n, 1))).argmax(-1)[..., None]
            w, m = (np.take_along_axis(part, action, -1)[..., 0] for part in (target / logged, mean))
            r = (rng.random(m.shape) < m).astype(np.float64)
            design = design_moments(target.reshape(k, -1), logged.reshape(k, -1), n=float(n))
            tail = np.maximum(empirical_moments(w).tail_weight, design.tail_weight)
            zero = np.zeros_like(w)
            interval = tail_interval(Sums(w * r, w, zero, zero + 1), tail, 1.0, 0.0, normalised=True)
            found.add(interval, ((design.ess >= ESS_LEAST) & (design.n3 >= N3_LEAST)).astype(np.float64))
        yield f"public-synthetic/{n}x{actions}/log-{beta_log:g}/target-{beta_target:g}", found


# --------------------------------------------------------------------------------------------------------- lists


def lists(logs: int, seed: int) -> Iterator[tuple[str, str, Measured]]:
    """Estimators of lists under three ways of reading them; (estimator, stratum, measured)."""
    for place, (n, slots, items, apart, rate) in enumerate(
        ((1_000, 3, 5, 0.5, 0.2), (1_000, 3, 5, 0.8, 0.05), (4_000, 5, 8, 0.4, 0.05), (4_000, 4, 6, 0.8, 0.3))
    ):
        for reading in ("independent", "cascade", "satiation"):
            rng = np.random.default_rng((seed, place))
            logged = softmax(rng.normal(size=(slots, items)) * 0.5)
            target = softmax(np.log(logged) + rng.normal(size=(slots, items)) * apart)
            attraction = np.clip(rng.gamma(2.0, rate / 2, items), 0.0, 0.9)
            name = f"lists/{n}x{slots}x{items}/apart-{apart:g}/rate-{rate:g}/{reading}"
            for estimator, measured in _lists(rng, logs, n, logged, target, attraction, reading).items():
                yield estimator, name, measured


def _lists(
    rng: np.random.Generator, logs: int, n: int, logged: F64, target: F64, attraction: F64, reading: str
) -> dict[str, Measured]:
    slots = len(logged)
    shown = np.ones((1, 1, slots), np.bool_)
    truth = _truth(target, attraction, reading)
    found = {name: Measured(truth) for name in ("rips", "cascade-dr", "sips", "iips", "pi")}
    w_of = target / logged
    second, third = (logged * w_of**2).sum(1), (logged * w_of**3).sum(1)
    # A reward model that is wrong as models are: it knows each item's attraction, not how a list is read.
    v_slot = (target * attraction).sum(1)
    below = np.append(np.cumsum(v_slot[::-1])[::-1][1:], 0.0)
    for start in range(0, logs, batch := max(1, _BATCH // (2 * n * slots))):
        k = min(batch, logs - start)
        item = np.stack([rng.choice(len(attraction), size=(k, n), p=row) for row in logged], axis=-1)
        r = _rewards(rng.random(item.shape), item, attraction, reading)
        w = w_of[np.arange(slots), item]
        seen = np.broadcast_to(shown, w.shape)
        above = np.concatenate([np.ones((k, n, 1)), cascade_weights(w)[..., :-1]], axis=-1)
        for name, measured in found.items():
            weight = _weight(name, w)
            size = np.abs(weight)
            came = (size**3).sum(-2) / (size**2).sum(-2)
            slot = third / second
            designed = {"sips": np.full(slots, slot.prod()), "iips": slot, "pi": np.zeros(slots)}.get(
                name, np.cumprod(slot)
            )
            m2, m3 = _moments(name, second, third)
            said = np.array(float(n / m2 >= ESS_LEAST and n * m2**3 / m3**2 >= N3_LEAST))
            residual, model, mean = r, np.zeros((k, n)), np.zeros(slots)
            if name == "cascade-dr":
                residual = r - (attraction[item] + below)
                mean = v_slot + below
                model = (above * mean).sum(-1)
            interval = slate_interval(
                weight, residual, model, seen, np.maximum(came, designed), 1 - mean, -mean,
                normalised=name != "cascade-dr",
            )  # fmt: skip
            measured.add(interval, said, 0.0, float(slots))
    return found


def _weight(name: str, w: F64) -> F64:
    if name == "sips":
        return list_weights(w)
    if name == "iips":
        return item_weights(w)
    if name == "pi":
        return pseudo_inverse_weights(w, np.ones(w.shape, np.bool_))
    return cascade_weights(w)


def _moments(name: str, second: F64, third: F64) -> tuple[float, float]:
    if name == "sips":
        return float(second.prod()), float(third.prod())
    if name == "iips":
        return float(second.mean()), float(third.mean())
    if name == "pi":
        m2 = 1 + float((second - 1).sum())
        return m2, m2**1.5
    return float(np.cumprod(second).mean()), float(np.cumprod(third).mean())


def _rewards(chance: F64, item: np.ndarray, attraction: F64, reading: str) -> F64:
    """Clicks (..., slots): on each slot alone; the first that attracts ends the reading; or like tires of like."""
    if reading == "satiation":
        before = np.concatenate([np.full((*item.shape[:-1], 1), -1), item[..., :-1]], axis=-1)
        tired = np.where((before >= 0) & (before % 2 == item % 2), 0.5, 1.0)
        return (chance < attraction[item] * tired).astype(np.float64)
    clicks = chance < attraction[item]
    if reading == "cascade":
        clicks &= np.cumsum(clicks, axis=-1) == 1
    return clicks.astype(np.float64)


def _truth(policy: F64, attraction: F64, reading: str) -> float:
    """Expected clicks of a list, exactly: slot by slot."""
    slot = policy @ attraction
    if reading == "independent":
        return float(slot.sum())
    if reading == "cascade":
        return float(1.0 - (1.0 - slot).prod())
    total = float(slot[0])
    kind = np.arange(len(attraction)) % 2
    for place in range(1, len(policy)):
        same = np.array([policy[place - 1][kind == one].sum() for one in (0, 1)])[kind]
        total += float((policy[place] * attraction * (1 - 0.5 * same)).sum())
    return total
