"""The sources that can be tuned on anybody's data: where each begins, and how far its settings may go."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from honeyguide.contracts import CatalogView, Interactions, Queries, Ragged, Source
from honeyguide.engines.tuning.search import Range, Search
from honeyguide.errors import BuildError, DataError
from honeyguide.flows.config import load_plugin
from honeyguide.retrieval.tune import Quality, quality

__all__ = ["TUNABLE", "Found", "Tunable", "made", "searched"]

_FLAT = {"history": {"newest": 10_000, "use_weights": False}, "trend": {"window_days": 0.0}}
_STEPS = {"history": {"newest": 50, "step_power": 1.0, "use_weights": False}, "trend": {"window_days": 0.0}}


@dataclass(frozen=True)
class Tunable:
    """A source: settings to begin with (each is tried), then a space around the best of them.

    `space` names keys of the config, `history.step_power` those within; `least_share` is its part of the budget.
    """

    use: str
    starts: tuple[Mapping[str, Any], ...]
    space: Mapping[str, Range]
    share: float = 1.0


_HISTORY = {"history.step_power": Range(0.0, 1.5)}
TUNABLE: dict[str, Tunable] = {
    "rp3beta": Tunable(
        "honeyguide.retrieval.covisit:RP3beta",
        (
            {**_FLAT, "alpha": 0.0, "user_power": 0.6, "beta": 0.28, "amplify": 1.5, "row_power": 1.0, "width": 120},
            {**_STEPS, "alpha": 0.9, "beta": 0.35, "width": 200},
        ),
        {"user_power": Range(0.3, 1.2), "beta": Range(0.15, 0.6), "amplify": Range(0.7, 2.0), **_HISTORY},
    ),
    "itemknn": Tunable(
        "honeyguide.retrieval.covisit:ItemKNN",
        ({**_FLAT, "weights": "cosine"}, {**_FLAT, "weights": "tfidf"}, {**_FLAT, "weights": "bm25"}),
        {"width": Range(50, 400, whole=True, log=True), **_HISTORY},
    ),
    "covisit": Tunable(
        "honeyguide.retrieval.covisit:Covisit",
        (
            {"history": {"newest": 50, "step_power": 0.0, "step_decay": 0.6, "use_weights": False},
             "trend": {"window_days": 0.0}, "window": 10, "gap_decay": 0.9, "backward": 0.5, "row_power": 0.5,
             "col_power": 0.2, "width": 500},
            {**_FLAT, "window": 50, "gap_decay": 1.0, "backward": 1.0},
        ),
        {
            "window": Range(5, 50, whole=True, log=True), "gap_decay": Range(0.7, 1.0), "backward": Range(0.1, 1.0),
            "row_power": Range(0.2, 1.0), "col_power": Range(0.0, 0.6), "history.step_decay": Range(0.4, 1.0),
        },
    ),
    "spectral": Tunable(
        "honeyguide.retrieval.spectral:Spectral",
        (
            {**_FLAT, "d": 512, "sharpen": 1.0, "low_weight": 0.8, "iterations": 1, "als_weight": 1.2,
             "item_power": 0.3, "width": 150,
             "als": {"d": 128, "unobserved": 5.0, "reg": 0.003, "epochs": 5}},
            {**_STEPS, "d": 128, "sharpen": 0.8, "low_weight": 0.5, "iterations": 1},
        ),
        {"low_weight": Range(0.1, 1.5), "sharpen": Range(0.3, 1.0), "user_power": Range(0.4, 1.1),
         "item_power": Range(0.2, 0.5), "amplify": Range(0.8, 2.0), **_HISTORY},
        share=3.0,
    ),
    "als": Tunable(
        "honeyguide.retrieval.factors:ALS",
        ({**_FLAT, "d": 64, "unobserved": 5.0, "reg": 0.03}, {**_FLAT, "d": 128, "unobserved": 5.0, "reg": 0.003}),
        {"unobserved": Range(0.5, 20.0, log=True), "reg": Range(0.001, 0.1, log=True), **_HISTORY},
    ),
    "ease": Tunable(
        "honeyguide.retrieval.factors:EASE", ({**_FLAT, "l2": 300.0, "max_items": 8_000},),
        {"l2": Range(10.0, 5_000.0, log=True), **_HISTORY},
    ),
    "attributes": Tunable(
        "honeyguide.retrieval.attributes:Attributes",
        (
            {"history": {"newest": 20, "step_power": 0.0, "step_decay": 0.6, "use_weights": False},
             "trend": {"window_days": 0.0}, "prior": 0.3, "idf_power": 2.0, "length_power": 0.25, "width": 1000},
            {**_STEPS, "prior": 0.3, "width": 500},
        ),
        {"prior": Range(0.0, 1.0), "idf_power": Range(0.3, 4.0), "length_power": Range(0.0, 0.5),
         "history.step_decay": Range(0.4, 1.0)},
    ),
    "popular": Tunable("honeyguide.retrieval.popular:Popular", ({},), {}, share=0.1),
}  # fmt: skip
"""By name. What a source begins with did well on public data of the kind it is made for; all else is searched."""


@dataclass(frozen=True)
class Found:
    """A source's best settings on validation."""

    name: str
    use: str
    config: dict[str, Any]
    quality: Quality
    trials: int
    cpu_s: float
    refused: str = ""


def made(use: str, config: Mapping[str, Any]) -> Source:
    """An unfitted source of a dotted name and its config."""
    kind = load_plugin(use)
    source: Source = kind(kind.Config.model_validate(dict(config)))
    return source


def _with(config: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    new = {key: dict(value) if isinstance(value, Mapping) else value for key, value in config.items()}
    for path, value in values.items():
        section, _, key = path.rpartition(".")
        (new.setdefault(section, {}) if section else new)[key] = value
    return new


def _value(config: Mapping[str, Any], use: str, path: str) -> Any:
    """What a config says of a key, or its class's default."""
    found: Any = load_plugin(use).Config.model_validate(dict(config))
    for key in path.split("."):
        found = getattr(found, key)
    return found


def _within(limits: Range, value: float | None) -> float | int:
    """A value to begin with: what the config has, as near as the space lets it; the middle where it has none."""
    near = (limits.low + limits.high) / 2 if value is None else min(max(float(value), limits.low), limits.high)
    return round(near) if limits.whole else near


def searched(
    names: Sequence[str], train: Interactions, catalog: CatalogView, queries: Queries, relevant: Ragged, *,
    cpu_s: float, seed: int = 0, progress: Callable[[str, int, int], None] | None = None,
) -> list[Found]:  # fmt: skip
    """The best settings of each source within a budget of processor time, judged by nDCG@10 and recall@20.

    Every start is tried whatever the budget; Optuna, where it is installed, goes on from the best of them.
    """
    whole = sum(TUNABLE[name].share for name in names)
    found = []
    for place, name in enumerate(names):
        one = TUNABLE[name]
        if progress is not None:
            progress("tuning", place, len(names))
        begun, budget = time.process_time(), cpu_s * one.share / whole
        tried: list[tuple[float, dict[str, Any], Quality]] = []

        def judged(config: dict[str, Any], use: str = one.use, tried: list[Any] = tried) -> float:
            got = quality(made(use, config).fit(train, catalog, seed=seed).retrieve(queries, 20), relevant)
            tried.append((-got.objective, config, got))
            return -got.objective

        try:
            for start in one.starts:
                judged(dict(start))
        except (BuildError, DataError) as error:
            spent = time.process_time() - begun
            nothing = Quality(0.0, 0.0, 0)
            found.append(Found(name, one.use, {}, nothing, len(tried), spent, f"{error.got}; needs {error.expected}"))
            continue
        best = min(tried, key=lambda trial: trial[0])[1]
        one_trial = (time.process_time() - begun) / len(tried)
        if one.space and time.process_time() - begun + one_trial < budget:
            with tempfile.TemporaryDirectory(prefix="honeyguide-tune-") as work:
                first = {path: _within(limits, _value(best, one.use, path)) for path, limits in one.space.items()}
                search = Search(Path(work) / "journal", one.space, seed=seed, first=first)
                while time.process_time() - begun + one_trial < budget:
                    search.run(lambda values, best=best: judged(_with(best, values)))  # type: ignore[misc]
        _, config, got = min(tried, key=lambda trial: trial[0])
        found.append(Found(name, one.use, config, got, len(tried), time.process_time() - begun))
    return found
