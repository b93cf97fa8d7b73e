"""The worlds that off-policy intervals are measured in: overlap x reward rate, and what breaks intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from honeyguide.contracts import F64

__all__ = ["Stratum", "strata"]


@dataclass(frozen=True, slots=True)
class Stratum:
    """n decisions: a context by `contexts`, an action by `logged`, a reward of 1 by `mean`, all known."""

    name: str
    n: int
    contexts: F64  # (contexts,)
    logged: F64  # (contexts, actions)
    target: F64  # (contexts, actions)
    mean: F64  # (contexts, actions)

    @property
    def weights(self) -> F64:
        """(contexts, actions)."""
        return self.target / self.logged

    @property
    def truth(self) -> float:
        """The target's value."""
        return float((self.contexts[:, None] * self.target * self.mean).sum())

    @property
    def ess(self) -> float:
        """Expected effective sample size."""
        return float(self.n / (self.contexts[:, None] * self.logged * self.weights**2).sum())


def strata() -> list[Stratum]:
    """All worlds, the ordinary first. Seeded, so that every run measures the same."""
    return [*_ordinary(), *_rare_weights(), *_near_misses(), *_many_actions(), *_tiny_rates()]


def softmax(scores: F64) -> F64:
    """Along the last axis."""
    shifted = np.exp(scores - scores.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def _ordinary() -> list[Stratum]:
    """Contexts x actions, a target further and further from the log, rewards that follow the weights or flee them."""
    rng = np.random.default_rng(7)
    found = []
    for n, contexts, actions in ((1_000, 1, 5), (4_000, 8, 10), (20_000, 10, 20)):
        for overlap, apart in (("near", 0.5), ("apart", 1.2), ("far", 2.0), ("beyond", 3.0)):
            for rate in (0.3, 0.1, 0.03, 0.01):
                for follows, power in (("independent", 0.0), ("with-weight", 0.7), ("against-weight", -0.5)):
                    px = rng.dirichlet(np.full(contexts, 3.0))
                    logged = softmax(rng.normal(size=(contexts, actions)) * 0.8)
                    target = softmax(np.log(logged) + rng.normal(size=(contexts, actions)) * apart)
                    base = np.exp(rng.normal(size=logged.shape) * 0.4) * (target / logged) ** power
                    mean = base * rate / (px[:, None] * logged * base).sum()
                    name = f"{overlap}/{n}x{contexts}x{actions}/rate-{rate:g}/{follows}"
                    found.append(Stratum(name, n, px, logged, target, np.clip(mean, 0.0, 0.97)))
    return found


def _rare_weights() -> list[Stratum]:
    """An action that the log hardly took and the target likes; it earns nothing, the same, or ten times as much."""
    found = []
    for n in (4_000, 40_000):
        for rare, liked in ((0.0005, 0.02), (0.001, 0.1), (0.002, 0.02), (0.005, 0.1), (0.01, 0.1), (0.02, 0.4)):
            for rate in (0.3, 0.03):
                for earns, factor in (("nothing", 0.0), ("the-same", 1.0), ("most", 10.0)):
                    logged = np.array([[rare, (1 - rare) * 0.6, (1 - rare) * 0.4]])
                    target = np.array([[liked, (1 - liked) * 0.5, (1 - liked) * 0.5]])
                    mean = np.array([[min(rate * factor, 0.97), rate, rate * 0.8]])
                    name = f"rare-weight/{n}/w-{liked / rare:g}-in-{1 / rare:g}/rate-{rate:g}/it-earns-{earns}"
                    found.append(Stratum(name, n, np.ones(1), logged, target, mean))
    return found


def _near_misses() -> list[Stratum]:
    """An epsilon-greedy log and a deterministic target: the log's own favourite, or another action."""
    found = []
    for n, actions, epsilon in (
        (1_000, 5, 0.3),
        (2_000, 5, 0.3),
        (20_000, 20, 0.3),
        (20_000, 5, 0.05),
        (10_000, 10, 0.1),
    ):
        for rate in (0.3, 0.05):
            for which, place in (("favourite", 0), ("another", 1)):
                logged = np.full((1, actions), epsilon / actions)
                logged[0, 0] += 1 - epsilon
                target = np.zeros((1, actions))
                target[0, place] = 1.0
                mean = np.full((1, actions), rate)
                mean[0, 1] = min(2 * rate, 0.97)
                name = f"deterministic/{n}x{actions}/epsilon-{epsilon:g}/rate-{rate:g}/{which}"
                found.append(Stratum(name, n, np.ones(1), logged, target, mean))
    return found


def _many_actions() -> list[Stratum]:
    """A long tail of actions, and a target that prefers it."""
    found = []
    for n, actions in ((5_000, 300), (50_000, 1_000)):
        for rate in (0.2, 0.03):
            for likes in ("all-alike", "the-tail"):
                popular = 1.0 / np.arange(1, actions + 1)
                logged = 0.7 * popular / popular.sum() + 0.3 / actions
                target = np.ones(actions) if likes == "all-alike" else np.arange(1.0, actions + 1)
                mean = np.clip(np.random.default_rng(actions).gamma(1.0, rate, actions), 0.0, 0.97)
                name = f"many-actions/{n}x{actions}/rate-{rate:g}/{likes}"
                found.append(Stratum(name, n, np.ones(1), logged[None], (target / target.sum())[None], mean[None]))
    return found


def _tiny_rates() -> list[Stratum]:
    """Clicks that come once in hundreds of times."""
    rng = np.random.default_rng(11)
    found = []
    for n, rate in ((5_000, 0.002), (50_000, 0.002), (50_000, 0.0005)):
        for apart in (0.5, 1.2):
            logged = softmax(rng.normal(size=(4, 8)) * 0.5)
            target = softmax(np.log(logged) + rng.normal(size=(4, 8)) * apart)
            mean = np.clip(rng.gamma(2.0, rate / 2, (4, 8)), 0.0, 0.97)
            found.append(Stratum(f"tiny-rate/{n}/{rate:g}/apart-{apart:g}", n, np.full(4, 0.25), logged, target, mean))
    return found
