"""Guardrails of every surface: solved on sampled requests, checked on others, served as prices in the utility."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from honeyguide.contracts import F64, I32, BoolArray, Interactions, Pool, Queries, Ragged
from honeyguide.errors import BuildError, ConfigError
from honeyguide.flows.batch import moment_of, rank_batch
from honeyguide.flows.config import SurfaceConfig, WorkspaceConfig
from honeyguide.flows.labels import Lesson
from honeyguide.flows.layout import Layout
from honeyguide.flows.pipeline import Pipeline, kinds_of
from honeyguide.kernels.exposure import Exposure, discounts, shown_under, solve_exposure
from honeyguide.kernels.intervals import poisson_weights, ratio_intervals
from honeyguide.slate.groups import Group
from honeyguide.slate.guardrails import PRESENT, GuardrailConfig, GuardrailsConfig
from honeyguide.slate.utility import Price

__all__ = ["Asked", "ask_surface", "by_person", "guard", "half_of", "prices_of", "said", "today", "utilities_of"]

_RESAMPLES = 500
_BOARD = 3  # newest items of a history that stand for a board
_MET = 1e-6


def today(layout: Layout, config: WorkspaceConfig) -> dict[str, Any]:
    """What guardrails that hold to the present must know of it: the policy in service, or the levels fixed already.

    A level stays that of the build that first had the guardrail, as long as the guardrail is not changed.
    """
    held = {
        name: [one for one in surface.slate.guardrails.keep if one.at_most == PRESENT]
        for name, surface in config.surfaces.items()
    }
    if not any(held.values()) or not layout.current.exists():
        return {}
    manifest = json.loads(layout.manifest(layout.current_build()).read_text())
    before = WorkspaceConfig.of_build(manifest["config"]).surfaces
    solved, levels = manifest.get("guarded", {}), {}
    for name, mine in held.items():
        was = before[name].slate.guardrails.keep if name in before else ()
        found = {one["name"]: one["bound"] for one in solved.get(name, {}).get("guardrails", ())}
        levels[name] = {one.name: found[one.name] for one in mine if one in was and one.name in found}
    if all(one.name in levels[name] for name, mine in held.items() for one in mine):
        return {"levels": levels}
    surfaces = {name: surface.model_dump(mode="json") for name, surface in before.items() if name in held}
    return {"levels": levels, "surfaces": surfaces, "solved": solved}


@dataclass(frozen=True)
class Asked:
    """Requests of one surface with their candidates, and what each is worth to the policy."""

    users: I32
    queries: Queries
    kinds: list[str]
    pool: Pool
    scores: F64  # (requests, candidates, heads)
    relevant: Ragged  # what each person took next

    def __len__(self) -> int:
        return len(self.users)


def ask_surface(
    pipeline: Pipeline, surface: SurfaceConfig, lesson: Lesson, full: Interactions, most: int, seed: int
) -> Asked:
    """At most `most` requests of a surface, drawn from moments of home: its item page is asked with the newest item of
    the person's history, its board with the newest few."""
    usable = np.arange(len(lesson.moments))
    if surface.kind != "home":
        usable = np.flatnonzero(np.diff(lesson.queries.indptr) > 0)
    if len(usable) > most:
        usable = np.sort(np.random.default_rng(seed).choice(usable, most, replace=False))
    part = lesson.part(usable)
    queries = part.queries if surface.kind == "home" else _seeded(part.queries, surface)
    context = {name: codes[part.asked] for name, codes in full.context.items()}
    ranked = rank_batch(
        pipeline.features, pipeline.catalog, full, pipeline.blend_of(surface), pipeline.ranker, part.moments.user,
        queries, surface.candidates, context,
    )  # fmt: skip
    kinds = kinds_of(part.queries, pipeline.blend.config.regimes)
    return Asked(part.moments.user, queries, kinds, ranked.pool, ranked.scores, part.relevant)


def _seeded(queries: Queries, surface: SurfaceConfig) -> Queries:
    """The same moments, asked with the newest items in the place of the history."""
    most = 1 if surface.kind == "item" else _BOARD
    kept = np.minimum(np.diff(queries.indptr), most)
    indptr = np.concatenate([[0], np.cumsum(kept)]).astype(np.int64)
    flat = np.arange(indptr[-1]) + np.repeat(queries.indptr[1:] - kept - indptr[:-1], kept)
    items = queries.items[flat]
    hidden = queries.exclude if surface.slate.rules.hide_seen else Ragged.empty(len(queries))
    exclude = [np.concatenate([hidden.row(i), items[indptr[i] : indptr[i + 1]]]) for i in range(len(queries))]
    return Queries(
        indptr, items, np.ones(len(items), np.float32), np.repeat(queries.now, kept) - 1, queries.now, queries.segment,
        Ragged.of(exclude), queries.context,
    )  # fmt: skip


def prices_of(guarded: Mapping[str, Any], name: str, surface: SurfaceConfig) -> tuple[Price, ...]:
    """What a surface's guardrails add to its utility, from what `guard` found; one that it has no more adds nothing."""
    keep = {one.name: one for one in surface.slate.guardrails.keep}
    return tuple(
        Price(one["name"], one["added"], keep[one["name"]].head, keep[one["name"]].group)
        for one in guarded.get(name, {}).get("guardrails", ())
        if one["name"] in keep
    )


def guard(
    name: str, surface: SurfaceConfig, pipeline: Pipeline, known: frozenset[str], asked: Asked,
    today: Mapping[str, Any], seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Solve a surface's guardrails on half of the people asked, and check on the others what they do to whole lists.

    today: `levels` of guardrails with at_most "present" that an earlier build has fixed, by surface and guardrail; or
    the `surface` and its `prices` as they are in service. Raises ConfigError for a guardrail over a head that is no
    probability in service, BuildError where guardrails conflict and that is to stop the build.
    """
    rules = surface.slate.guardrails
    learn = half_of(asked.users, seed)
    composers = pipeline.composers(surface, known, explore=False)
    utility = utilities_of(asked, composers)
    amounts = np.stack([_amount(one, pipeline, asked) for one in rules.keep])
    discount = discounts(rules.slots, rules.discount)
    levels, where = _levels(name, rules, surface, pipeline, known, asked, amounts, discount, today)
    senses = np.array([1.0 if one.at_least is not None else -1.0 for one in rules.keep])
    half = utility[learn], amounts[:, learn]
    found = solve_exposure(*half, levels, senses, discount)
    if found.conflict.any() and rules.on_conflict == "refuse":
        raise _conflict(name, rules, found, levels)
    prices = [
        Price(one.name, float(amount), one.head, one.group)
        for one, amount in zip(rules.keep, found.prices * senses, strict=True)
    ]
    free = shown_under(half[0], half[0], half[1], discount)
    alone = [_without(g, half, levels, senses, discount, found) for g in range(len(rules.keep))]
    checked = _check(surface, pipeline, known, asked, ~learn, amounts, discount, prices)
    rows = []
    for g, one in enumerate(rules.keep):
        rows.append(
            {
                "name": one.name, "says": one.said, "sense": "at least" if senses[g] > 0 else "at most",
                "bound": float(levels[g]), "bound_from": where[g],
                "price": float(found.prices[g]), "added": prices[g].amount,
                "without": float(free.amounts[g].sum() / free.exposure.sum()), "reached": float(found.reached[g]),
                "cost": alone[g], "met": bool(found.shortfall[g] <= _MET), "shortfall": float(found.shortfall[g]),
                "conflict": bool(found.conflict[g]), "checked": checked["with"][g],
                "checked_without": checked["without"][g],
            }
        )  # fmt: skip
    return {
        "slots": rules.slots, "discount": rules.discount, "requests": int(learn.sum()), "checked": int((~learn).sum()),
        "utility_free": float(found.free), "utility": float(found.value), "cost": float(found.free - found.value),
        "gap": float(found.gap), "rounds": found.rounds, "guardrails": rows,
    }  # fmt: skip


def half_of(users: I32, seed: int) -> BoolArray:
    """Which requests are of the half of the people, drawn by chance, that is learnt from."""
    people, place = np.unique(users, return_inverse=True)
    half: BoolArray = np.random.default_rng(seed).permutation(len(people))[place] % 2 == 0
    return half


def utilities_of(asked: Asked, composers: Any) -> F64:
    """(requests, candidates) utilities as the policy has them, nan where a rule removes the candidate."""
    out = np.full(asked.pool.items.shape, np.nan)
    for i, kind in enumerate(asked.kinds):
        slate = composers.of(kind).compose(
            asked.pool.items[i], scores=asked.scores[i], blend=asked.pool.blend[i], k=1, request_id=str(i),
            seen=asked.queries.exclude.row(i), moment=moment_of(asked.queries, i),
        )  # fmt: skip
        out[i] = slate.utilities
    return out


def _amount(one: GuardrailConfig, pipeline: Pipeline, asked: Asked) -> F64:
    """(requests, candidates) what the guardrail counts."""
    if one.group is not None:
        group = Group(one.group, pipeline.catalog)
        return np.stack(
            [group.of(rows, int(now)) for rows, now in zip(asked.pool.items, asked.queries.now, strict=True)]
        ).astype(np.float64)
    heads = pipeline.heads
    if not heads.get(one.head, False):
        raise ConfigError(
            expected=f"a guardrail over a calibrated head in service ({', '.join(h for h, on in heads.items() if on)})",
            got=f"{one.head!r} in {one.name!r}",
            do="Mend the name, or give the head what it needs to be calibrated.",
        )
    return np.nan_to_num(asked.scores[:, :, list(heads).index(one.head)])


def _levels(
    name: str, rules: GuardrailsConfig, surface: SurfaceConfig, pipeline: Pipeline, known: frozenset[str],
    asked: Asked, amounts: F64, discount: F64, today: Mapping[str, Any],
) -> tuple[F64, list[str]]:  # fmt: skip
    """The bounds as numbers, and where each comes from."""
    levels, where = np.zeros(len(rules.keep)), []
    fixed = today.get("levels", {}).get(name, {})
    for g, one in enumerate(rules.keep):
        if one.at_most != PRESENT:
            levels[g] = float(one.at_least if one.at_least is not None else one.at_most or 0.0)
            where.append("configured")
        elif one.name in fixed:
            levels[g] = fixed[one.name]
            where.append("the policy in service when the guardrail was first built")
        else:
            before = today.get("surfaces", {}).get(name)
            policy = surface if before is None else SurfaceConfig.model_validate(before)
            bare = policy.slate.model_copy(update={"utility": policy.slate.utility.without(set(known))})
            if before is None:
                policy = policy.model_copy(update={"slate": bare})
            served = prices_of(today.get("solved", {}), name, policy)
            score = utilities_of(asked, pipeline.composers(policy, known, explore=False, prices=served))
            shown = shown_under(score, score, amounts[g : g + 1], discount)
            levels[g] = shown.amounts.sum() / shown.exposure.sum()
            nothing = "the retrieval's order, for nothing is in service"
            where.append("the policy in service" if before is not None else nothing)
    return levels, where


def _without(g: int, half: Sequence[F64], levels: F64, senses: F64, discount: F64, found: Exposure) -> float:
    """What one guardrail costs beside the others: the utility without it, less that with all."""
    if found.prices[g] == 0.0:
        return 0.0
    others = np.arange(len(levels)) != g
    loosened = levels - senses * found.shortfall
    alone = solve_exposure(half[0], half[1][others], loosened[others], senses[others], discount)
    return max(float(alone.value - found.value), 0.0)


def _conflict(name: str, rules: GuardrailsConfig, found: Exposure, levels: F64) -> BuildError:
    said = [
        f"{one.name!r} ({level:g}, short by {short:.4g})" if short > _MET else f"{one.name!r} ({level:g})"
        for one, level, short, against in zip(rules.keep, levels, found.shortfall, found.conflict, strict=True)
        if against
    ]
    return BuildError(
        expected=f"guardrails of {name} that can be met together",
        got=", ".join(said),
        do='Loosen one of them, or say on_conflict = "relax".',
    )


def _check(
    surface: SurfaceConfig, pipeline: Pipeline, known: frozenset[str], asked: Asked, which: BoolArray, amounts: F64,
    discount: F64, prices: Sequence[Price],
) -> dict[str, list[dict[str, float | None]]]:  # fmt: skip
    """What whole lists (rules, diversity and pins included, exploration not) hold of each guardrail's amount."""
    places = np.flatnonzero(which)
    weights = poisson_weights(len(places), _RESAMPLES)
    out = {}
    for label, served in (("without", ()), ("with", tuple(prices))):
        composers = pipeline.composers(surface, known, explore=False, prices=served)
        sums, counts = np.zeros((len(places), len(amounts))), np.zeros(len(places))
        for row, i in enumerate(places.tolist()):
            slate = composers.of(asked.kinds[i]).compose(
                asked.pool.items[i], scores=asked.scores[i], blend=asked.pool.blend[i], k=len(discount),
                request_id=str(i), seen=asked.queries.exclude.row(i), moment=moment_of(asked.queries, i),
            )  # fmt: skip
            there = slate.index >= 0  # a pin that was no candidate has no scores
            sums[row] = amounts[:, i, slate.index[there]] @ discount[: len(slate)][there]
            counts[row] = discount[: len(slate)][there].sum()
        unit = by_person(asked.users[places], sums, counts)
        found = ratio_intervals(unit[0], np.repeat(unit[1][:, None], len(amounts), 1), weights[:, : len(unit[1])])
        out[label] = [
            {"estimate": _finite(e), "low": _finite(lo), "high": _finite(hi)}
            for e, lo, hi in zip(found.estimate, found.low, found.high, strict=True)
        ]
    return out


def by_person(users: I32, sums: F64, counts: F64) -> tuple[F64, F64]:
    """Sums (n, figures) and counts (n,) of requests, added up by person."""
    _, unit = np.unique(users, return_inverse=True)
    n = int(unit.max(initial=-1)) + 1
    total = np.zeros((n, sums.shape[1]))
    np.add.at(total, unit, sums)
    return total, np.bincount(unit, counts, n).astype(np.float64)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def said(name: str, solved: Mapping[str, Any]) -> list[str]:
    """What a surface's guardrails cost, in sentences."""
    lines = []
    total = solved["utility_free"]
    for one in solved["guardrails"]:
        here = f"{name}: {one['name']}, {one['says']} {one['sense']} {one['bound']:.4g}"
        if one["conflict"] and not one["met"]:
            with_ = [other["name"] for other in solved["guardrails"] if other["conflict"] and other is not one]
            beside = f" beside {', '.join(with_)}" if with_ else ""
            here += f", CANNOT BE MET{beside}: short by {one['shortfall']:.4g}, as near as can be is served"
        share = f" ({one['cost'] / abs(total):.2%})" if total else ""
        cost = "costs nothing" if one["price"] == 0.0 else (
            f"costs {one['cost']:.4g} of utility {total:.4g}{share}, {one['price'] * 0.01:.3g} more per .01"
        )  # fmt: skip
        checked, before = one["checked"], one["checked_without"]
        shown = ""
        if checked["estimate"] is not None and before["estimate"] is not None:
            ends = "" if checked["low"] is None else f" [{checked['low']:.4f}, {checked['high']:.4f}]"
            shown = f"; whole lists of others hold {checked['estimate']:.4f}{ends}, {before['estimate']:.4f} without"
        lines.append(f"{here}: {cost}{shown}")
    return lines
