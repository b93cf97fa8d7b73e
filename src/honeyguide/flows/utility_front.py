"""`honeyguide tune-utility`: what objectives cost each other on a surface, and weights that serve one stated goal best.

Everything is measured on requests that no source, weight or head has learnt from. Values of objectives over heads are
expectations by calibrated heads, not outcomes; the next-item figure is what people really took.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from honeyguide.contracts import F64, Progress, Ragged
from honeyguide.engines.tasks.steps import atomic_write, only_process
from honeyguide.errors import ConfigError, DataError
from honeyguide.evaluation.metrics import nDCG
from honeyguide.flows.build import label_cut, prepare
from honeyguide.flows.config import SurfaceConfig, WorkspaceConfig
from honeyguide.flows.guardrails import Asked, ask_surface, by_person, half_of, utilities_of
from honeyguide.flows.layout import Layout
from honeyguide.flows.pipeline import Pipeline
from honeyguide.kernels.exposure import discounts, shown_under
from honeyguide.kernels.intervals import difference_intervals, poisson_weights, ratio_intervals
from honeyguide.kernels.pareto import not_dominated, weights_to_try
from honeyguide.slate.columns import item_numbers
from honeyguide.slate.formula import Formula
from honeyguide.slate.utility import UtilityConfig

__all__ = ["NEXT_ITEM", "Terms", "tune_utility"]

NEXT_ITEM = "next_item"
"""The goal that is no expectation: nDCG@10 of what people took next."""
SLOTS = 10
_RESAMPLES = 500
_LEAST_REQUESTS = 40
_SPREAD = 0.7  # of the logarithm of a weight, as trials change it


@dataclass(frozen=True)
class Terms:
    """The summands of a utility over requests and candidates, (requests, candidates) each, with their weights now."""

    names: tuple[str, ...]  # "formula", "weights.HEAD", "rank_weights.HEAD", "blend_weight"
    arrays: F64  # (terms, requests, candidates); nan where a rule removes the candidate
    weights: F64  # (terms,)

    @classmethod
    def of(cls, asked: Asked, pipeline: Pipeline, surface: SurfaceConfig, known: frozenset[str]) -> Terms:
        """Each term alone through the composer, so that a term here is what is served."""
        utility = surface.slate.utility
        alone: list[tuple[str, float, UtilityConfig]] = []
        bare = UtilityConfig(rank_constant=utility.rank_constant)
        if utility.formula:
            alone.append(("formula", 1.0, bare.model_copy(update={"formula": utility.formula})))
        for field in ("weights", "rank_weights"):
            for name, weight in getattr(utility, field).items():
                if weight and name in pipeline.heads:
                    alone.append((f"{field}.{name}", weight, bare.model_copy(update={field: {name: 1.0}})))
        if utility.blend_weight or not alone:
            alone.append(("blend_weight", utility.blend_weight or 1.0, bare.model_copy(update={"blend_weight": 1.0})))
        arrays = []
        for _, _, one in alone:
            slate = surface.slate.model_copy(update={"utility": one})
            policy = surface.model_copy(update={"slate": slate})
            arrays.append(utilities_of(asked, pipeline.composers(policy, known, explore=False)))
        names, weights = [name for name, _, _ in alone], np.array([weight for _, weight, _ in alone])
        return cls(tuple(names), np.stack(arrays), weights)

    def utility(self, weights: F64) -> F64:
        """(requests, candidates) of these weights."""
        return np.tensordot(weights, self.arrays, axes=1)


def tune_utility(
    folder: Path | str, *, surface: str = "home", objectives: Sequence[str] = (), goal: str = NEXT_ITEM,
    requests: int = 1_000, trials: int = 200, points: int = 21, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The front and the tuned weights of a surface; writes `reports/utility-SURFACE.json` and `.html`.

    objectives: `NAME=FORMULA` over calibrated heads and item.COLUMN, higher is better; none: every calibrated head in
    the surface's utility (a negative weight: its negative) and the order of what only ranks. goal: `next_item`, or a
    formula. requests: half are searched on, half are measured on. Raises ConfigError for what no head or column gives,
    DataError where too few requests can be held out.
    """
    tell: Progress = progress or (lambda what, done, total: None)
    layout = Layout.open(folder)
    if min(requests, trials, points) < 2:
        raise ConfigError(
            expected="at least two requests, trials and points",
            got=f"{requests}, {trials}, {points}",
            do="Ask for more.",
        )
    with only_process(layout.lock, "build or tune"):
        config = WorkspaceConfig.load(layout.config)
        policy = config.surface(surface)
        prepared = prepare(layout, tell, config)
        events = prepared.data.interactions
        cut = label_cut(events)
        asked_events = np.flatnonzero((events.at >= cut) & (events.weight > 0))
        fitted = prepared.learner.fit(events.before(cut), events, asked_events)
        if fitted.held_out is None:
            raise DataError(expected="requests to hold out", got=fitted.notes[0], do="Wait for more events.")
        pipeline, lesson = fitted.held_out
        tell("requests", 0, 1)
        asked = ask_surface(pipeline, policy, lesson, events, requests, config.seed)
        tell("requests", 1, 1)
        if len(asked) < _LEAST_REQUESTS:
            raise DataError(
                expected=f"at least {_LEAST_REQUESTS} requests to hold out", got=f"{len(asked)}",
                do="Wait for more events, or tune a surface that more people ask.",
            )  # fmt: skip
        terms = Terms.of(asked, pipeline, policy, prepared.head_names)
        named = _objectives(objectives, policy, pipeline, asked, terms)
        learn = half_of(asked.users, config.seed)
        tell("front", 0, 1)
        front = _front(named, terms, asked, ~learn, points, config.seed)
        tell("front", 1, 1)
        wanted = None if goal == NEXT_ITEM else _formula_values(Formula.parse(goal), pipeline, asked)
        tuned = _tuned(terms, asked, wanted, learn, trials, config.seed, tell)
    report = {
        "made_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "surface": surface, "goal": goal,
        "requests": len(asked), "held_out": int((~learn).sum()), "people": len(np.unique(asked.users)),
        "slots": SLOTS, "objectives": list(named), "front": front, "tuned": tuned,
        "guardrails": fitted.guarded.get(surface, {}).get("guardrails", []), "says": _says(surface, goal, tuned, front),
        "notes": [
            f"Means per exposure of the first {SLOTS} slots, a slot counted 1 / log2(1 + slot); intervals are 95 %, by "
            "resampling people.",
            "Objectives over heads are expectations by calibrated heads, not outcomes; next_item is nDCG@10 of what "
            "people took.",
            "Lists are in the order of the utility after rules; diversity, guardrails, pins, exploration come after.",
        ],
    }  # fmt: skip
    stem = layout.reports / f"utility-{surface}"
    atomic_write(stem.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(report)))
    from honeyguide.flows.utility_page import write_page

    write_page(report, stem.with_suffix(".html"))
    return {**report, "path": str(stem.with_suffix(".html"))}


def _objectives(
    given: Sequence[str], surface: SurfaceConfig, pipeline: Pipeline, asked: Asked, terms: Terms
) -> dict[str, F64]:  # fmt: skip
    """Name -> (requests, candidates) what an item is worth to the objective."""
    out: dict[str, F64] = {}
    for text in given:
        name, mark, formula = text.partition("=")
        if not mark or not name.strip():
            raise ConfigError(
                expected="an objective NAME=FORMULA", got=repr(text), do='Such as "income=purchase * item.price".'
            )
        out[name.strip()] = _formula_values(Formula.parse(formula), pipeline, asked)
    if out:
        return out
    ordinal = np.array([name.startswith(("rank_weights", "blend_weight")) for name in terms.names])
    if ordinal.any():
        out["rank"] = terms.utility(np.where(ordinal, terms.weights, 0.0))
    if surface.slate.utility.formula:
        out["formula"] = terms.arrays[terms.names.index("formula")]
    for at, (name, weight) in enumerate(zip(terms.names, terms.weights, strict=True)):
        if name.startswith("weights."):
            head = name.removeprefix("weights.")
            out[head if weight > 0 else f"less {head}"] = terms.arrays[at] * (1.0 if weight > 0 else -1.0)
    return out


def _formula_values(formula: Formula, pipeline: Pipeline, asked: Asked) -> F64:
    heads = list(pipeline.heads)
    calibrated = ", ".join(head for head, on in pipeline.heads.items() if on) or "none"
    for name in formula.heads:
        if not pipeline.heads.get(name, False):
            raise ConfigError(
                expected=f"calibrated heads in service ({calibrated})",
                got=f"{name!r} in {formula.text!r:.80}",
                do="Mend the name.",
            )
    rows = np.maximum(asked.pool.items, 0)
    values = {name: item_numbers(pipeline.catalog, name)[rows].ravel() for name in formula.columns}
    scores = {name: asked.scores[:, :, heads.index(name)].ravel() for name in formula.heads}
    return formula.value(scores, values, rows.size).reshape(rows.shape)


def _shown_values(score: F64, named: Mapping[str, F64], asked: Asked, which: Any) -> tuple[F64, F64]:
    """Of the lists by a score, by person: discounted sums of the objectives and the next-item figure, and counts."""
    amounts = np.stack([np.nan_to_num(one[which]) for one in named.values()])
    shown = shown_under(score[which], score[which], amounts, discounts(SLOTS, "log"))
    ranked = np.take_along_axis(asked.pool.items[which], shown.places, 1)
    ndcg = _ndcg(ranked, _part(asked.relevant, np.flatnonzero(which)))
    sums = np.concatenate([shown.amounts.T, np.nan_to_num(ndcg)[:, None]], axis=1)
    counts = np.stack([*[shown.exposure] * len(named), (~np.isnan(ndcg)).astype(np.float64)], axis=1)
    users = asked.users[which]
    zeros = np.zeros(len(users))
    return by_person(users, sums, zeros)[0], by_person(users, counts, zeros)[0]


def _ndcg(ranked: Any, relevant: Ragged) -> F64:
    return nDCG(10).per_query(np.ascontiguousarray(ranked, np.int32), relevant)


def _part(ragged: Ragged, which: Any) -> Ragged:
    return Ragged.of([ragged.row(int(i)) for i in which])


def _front(
    named: Mapping[str, F64], terms: Terms, asked: Asked, which: Any, points: int, seed: int
) -> list[dict[str, Any]]:
    """Supported points: each the best for some weights of the objectives, standardised; and the policy as it is."""
    spread = [max(float(np.nanstd(one)), 1e-12) for one in named.values()]
    there = ~np.isnan(terms.arrays).any(axis=0)
    people = len(np.unique(asked.users[which]))
    resamples = poisson_weights(people, _RESAMPLES, seed)
    rows: list[dict[str, Any]] = []
    for weights in weights_to_try(len(named), points, seed):
        score = sum(w * one / s for w, one, s in zip(weights, named.values(), spread, strict=True))
        found = _measured(np.where(there, score, np.nan), named, asked, which, resamples)
        rows.append({"weights": dict(zip(named, weights.tolist(), strict=True)), **found})
    means = np.array([[row["values"][name]["estimate"] for name in named] for row in rows])
    for row, on in zip(rows, not_dominated(means), strict=True):
        row["on_front"] = bool(on)
    present = _measured(terms.utility(terms.weights), named, asked, which, resamples)
    return [{"weights": None, "on_front": False, **present}, *rows]


def _measured(
    score: F64, named: Mapping[str, F64], asked: Asked, which: Any, resamples: Any
) -> dict[str, dict[str, Any]]:
    found = ratio_intervals(*_shown_values(score, named, asked, which), resamples)
    figures = [
        {"estimate": float(e), "low": float(lo), "high": float(hi)}
        for e, lo, hi in zip(found.estimate, found.low, found.high, strict=True)
    ]
    return {"values": dict(zip(named, figures[:-1], strict=True)), NEXT_ITEM: figures[-1]}


def _tuned(
    terms: Terms, asked: Asked, wanted: F64 | None, learn: Any, trials: int, seed: int, tell: Progress
) -> dict[str, Any]:
    """Weights searched by chance around the present ones on one half, and what they are worth on the other."""
    named = {} if wanted is None else {"goal": wanted}
    rng = np.random.default_rng(seed)

    def score_of(weights: F64, which: Any) -> tuple[F64, F64]:
        sums, counts = _shown_values(terms.utility(weights), named or {"goal": terms.arrays[0]}, asked, which)
        at = 0 if named else 1
        return sums[:, at], counts[:, at]

    def mean(weights: F64) -> float:
        sums, counts = score_of(weights, learn)
        return float(sums.sum() / max(counts.sum(), 1e-12))

    best, best_mean = terms.weights, mean(terms.weights)
    for trial in range(trials):
        tell("weights", trial, trials)
        # The first half looks far and wide, the second close to what was best so far.
        wide = 3.0 * _SPREAD if trial < trials // 2 else _SPREAD / 2
        centre = terms.weights if trial < trials // 2 else best
        tried = centre * np.exp(wide * rng.standard_normal(len(best)))
        found = mean(tried)
        if found > best_mean:
            best, best_mean = tried, found
    tell("weights", trials, trials)
    best = best / max(np.abs(best).max(), 1e-12) * np.abs(terms.weights).max()
    there, here = score_of(best, ~learn), score_of(terms.weights, ~learn)
    resamples = poisson_weights(len(there[0]), _RESAMPLES, seed)
    difference = difference_intervals(*there, *here, resamples)
    figures = {
        name: {"estimate": float(one.estimate[0]), "low": float(one.low[0]), "high": float(one.high[0])}
        for name, one in (
            ("present", ratio_intervals(*here, resamples)), ("tuned", ratio_intervals(*there, resamples)),
            ("difference", difference),
        )
    }  # fmt: skip
    return {
        "trials": trials, "terms": list(terms.names), "present_weights": terms.weights.tolist(),
        "weights": [float(f"{weight:.4g}") for weight in best], **figures, "toml": _toml(terms.names, best),
        "better": bool(figures["difference"]["low"] > 0.0),
    }  # fmt: skip


def _toml(names: Sequence[str], weights: F64) -> str:
    """The weights as they stand in a surface's `slate.utility`."""
    lines, grouped = [], dict[str, list[str]]()
    for name, weight in zip(names, weights, strict=True):
        field, _, head = name.partition(".")
        if head:
            grouped.setdefault(field, []).append(f"{head} = {weight:.4g}")
        elif field == "blend_weight":
            lines.append(f"blend_weight = {weight:.4g}")
        else:
            lines.append(f"# multiply the formula by {weight:.4g}")
    return "\n".join([*(f"{field} = {{ {', '.join(inner)} }}" for field, inner in grouped.items()), *lines])


def _says(surface: str, goal: str, tuned: Mapping[str, Any], front: Sequence[Mapping[str, Any]]) -> list[str]:
    one = tuned["difference"]
    verdict = "better" if tuned["better"] else "no better as far as these requests tell: keep the present ones"
    on = sum(row["on_front"] for row in front)
    figures = (
        f"{tuned['tuned']['estimate']:.4f} on held-out people, the present ones {tuned['present']['estimate']:.4f}"
    )
    interval = f"difference {one['estimate']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
    return [
        f"{surface}: the tuned weights give {goal} {figures} ({interval}): {verdict}.",
        f"{on} points of the front, none of which another beats in every objective.",
    ]
