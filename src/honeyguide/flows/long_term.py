"""Heads for long-term value: early outcomes from people's histories, the index, its diagnostic, and the head itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.contracts import F64, I32, I64, BoolArray, Interactions, TablesEngine
from honeyguide.errors import DataError
from honeyguide.evaluation.replay.surrogates import surrogacy
from honeyguide.flows.histories import Timelines
from honeyguide.kernels.calibration import calibrate, fit_isotonic, fit_logistic, stack
from honeyguide.kernels.linear import read_design
from honeyguide.ranking.linear import LinearHead
from honeyguide.ranking.ranker import Fitted
from honeyguide.ranking.rows import HeadReport, Rows
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary
from honeyguide.slate.long_term import LongTermConfig, SurrogateIndex, fit_index, held_out

if TYPE_CHECKING:
    import ibis.expr.types as ir

__all__ = ["KIND", "Arms", "arms_of", "early_outcomes", "late_outcome", "long_term_heads", "said"]

KIND = "long_term"
MOST_ROWS = 20_000
"""Rows of the training set that a head learns the index's values from."""
_ACTIONS = 6
_VISIT_US = 30 * 60_000_000
_HOUR_US = 3_600_000_000
_LEAST_ARM = 50  # people in each arm


@dataclass(frozen=True)
class Arms:
    """Requests that chance parted in two: what the surrogacy diagnostic compares."""

    what: str
    user: I32
    at: I64
    arm: I32  # 0 or 1


def arms_of(engine: TablesEngine, impressions: ir.Table | None, users: Vocabulary) -> Arms | None:
    """The two largest arms of the experiment with most requests; without one, lists in which chance put an item
    against those in which it might have. None where chance has shown nothing."""
    if impressions is None:
        return None
    rows = engine.arrow(
        impressions.select(str(c.USER_ID), str(c.HAPPENED_AT), str(c.EXPERIMENT), str(c.SHOWN_PROPENSITIES))
    )
    at = rows[c.HAPPENED_AT].cast("int64").to_numpy()
    user = users.rows(["" if one is None else one for one in rows[c.USER_ID].to_pylist()])
    told = [one or "" for one in rows[c.EXPERIMENT].to_pylist()]
    names, of, counts = np.unique(np.array(told), return_inverse=True, return_counts=True)
    by_experiment: dict[str, list[int]] = {}
    for place, name in enumerate(names.tolist()):
        if "=" in name:
            by_experiment.setdefault(name.partition("=")[0], []).append(place)
    usable = {name: sorted(at_, key=lambda p: -counts[p])[:2] for name, at_ in by_experiment.items() if len(at_) > 1}
    if usable:
        name, pair = max(usable.items(), key=lambda one: int(counts[one[1]].sum()))
        which = np.isin(of, pair) & (user >= 0)
        arm = (of[which] == pair[1]).astype(np.int32)
        return Arms(f"experiment {name}: {names[pair[0]]} against {names[pair[1]]}", user[which], at[which], arm)
    propensities = rows[c.SHOWN_PROPENSITIES].to_pylist()
    least = np.array([min(one, default=1.0) if one else 1.0 for one in propensities])
    drawn = (least < 1.0) & (user >= 0)
    if not drawn.any():
        return None
    # The best left has more than half of the chance wherever exploration is a small share of slots.
    arm = (least[drawn] < 0.5).astype(np.int32)
    return Arms("lists in which chance put an item against those in which it did not", user[drawn], at[drawn], arm)


class _Days:
    """What each person did in windows of time, by sums over their own events."""

    def __init__(self, full: Interactions) -> None:
        lines = Timelines(full)
        self.full, self.order, self.indptr = full, lines.order, lines.indptr
        self.first = int(full.at[0]) if len(full) else 0
        self.wide = (int(full.at[-1]) - self.first if len(full) else 0) + 2
        self.key = full.user[self.order].astype(np.int64) * self.wide + (full.at[self.order] - self.first)

    def place(self, user: I32, at: I64, side: str) -> I64:
        """How many events, in the order of people and time, lie before a moment (`right`: or in it)."""
        when = np.clip(at - self.first, 0 if side == "left" else -1, self.wide - 1)
        found: I64 = np.searchsorted(self.key, user.astype(np.int64) * self.wide + when, side=side)  # type: ignore[call-overload]
        return np.clip(found, self.indptr[user], self.indptr[user + 1])

    def summed(self, values: F64, low: I64, high: I64) -> F64:
        """Sums of values (events, in their own order) between places."""
        total = np.concatenate([[0.0], np.cumsum(values[self.order])])
        return total[high] - total[low]


def early_outcomes(full: Interactions, user: I32, at: I64, hours: float) -> F64:
    """(n, surrogates) what each person did from a moment on within some hours, and how they stood before it."""
    days = _Days(full)
    start, end = days.place(user, at, "left"), days.place(user, at + round(hours * _HOUR_US), "right")
    counts = np.bincount(np.maximum(full.action, 0), minlength=max(len(full.actions), 1))
    columns = [
        days.summed((full.action == code).astype(np.float64), start, end) for code in np.argsort(-counts)[:_ACTIONS]
    ]
    gap = np.full(len(full), np.iinfo(np.int64).max, np.int64)
    moments = full.at[days.order]
    same = np.flatnonzero(np.diff(full.user[days.order]) == 0) + 1
    gap[days.order[same]] = moments[same] - moments[same - 1]
    last = days.order[np.maximum(end - 1, 0)] if len(full) else np.zeros(len(user), np.int64)
    columns += [
        days.summed(np.maximum(full.weight, 0.0).astype(np.float64), start, end),
        days.summed((gap > _VISIT_US).astype(np.float64), start, end),
        np.where(end > start, (full.at[last] - at) / _HOUR_US, 0.0),
        (start - days.indptr[user]).astype(np.float64),
    ]
    return np.stack(columns, axis=1)


def late_outcome(full: Interactions, config: LongTermConfig, user: I32, at: I64) -> F64:
    """(n,) the late outcome of each moment; whoever asks has left out what is too young."""
    days = _Days(full)
    low = days.place(user, at + round(config.early_hours * _HOUR_US), "right")
    high = days.place(user, at + round(config.days * 24 * _HOUR_US), "right")
    high = np.maximum(low, high)
    if config.outcome == "return":
        return (high > low).astype(np.float64)
    worth = np.maximum(full.weight, 0.0).astype(np.float64)
    if config.action:
        did = full.action == (full.actions.index(config.action) if config.action in full.actions else -2)
        worth = np.where(did, np.nan_to_num(full.value.astype(np.float64), nan=1.0), 0.0)
    return days.summed(worth, low, high)


def long_term_heads(
    configs: Sequence[LongTermConfig], rows: Rows, columns: Sequence[str], full: Interactions, arms: Arms | None,
    seed: int,
) -> tuple[list[Fitted], list[dict[str, Any]]]:  # fmt: skip
    """A head for each, and what is to be told of it. rows: of the training set, from which features are read."""
    made = [_head(config, rows, columns, full, arms, seed) for config in configs]
    return [head for head, _ in made], [told for _, told in made]


def _head(
    config: LongTermConfig, rows: Rows, columns: Sequence[str], full: Interactions, arms: Arms | None, seed: int
) -> tuple[Fitted, dict[str, Any]]:  # fmt: skip
    told: dict[str, Any] = {"name": config.name, "says": config.said, "outcome": config.outcome, "days": config.days}
    until = int(full.at[-1]) + 1 if len(full) else 0
    rng = np.random.default_rng(seed)
    old = np.flatnonzero((full.weight > 0) & (full.at + round(config.days * 24 * _HOUR_US) <= until))
    chosen = np.sort(rng.choice(old, config.requests, replace=False)) if len(old) > config.requests else old
    user, at = full.user[chosen], full.at[chosen]
    early = early_outcomes(full, user, at, config.early_hours)
    late = late_outcome(full, config, user, at)
    index = fit_index(config, early, late, user.astype(np.int64))
    told["moments"] = {"old_enough": len(old), "learnt_from": len(chosen)}
    if isinstance(index, str):
        return _off(config, index, told)
    told["index"] = {
        "explained": index.explained, "gap": index.gap, "mean": index.mean, "tested": index.tested, "scale": index.scale
    }  # fmt: skip
    told["surrogacy"] = _diagnostic(config, full, early, late / index.scale, user, at, arms, until)
    return _fitted(config, index, rows, columns, full, until, told)


def _off(config: LongTermConfig, reason: str, told: dict[str, Any]) -> tuple[Fitted, dict[str, Any]]:
    report = HeadReport(name=config.name, kind=KIND, on=False, reason=reason, calibrated=True)
    return Fitted(report), {**told, "on": False, "reason": reason}


def _fitted(
    config: LongTermConfig, index: SurrogateIndex, rows: Rows, columns: Sequence[str], full: Interactions, until: int,
    told: dict[str, Any],
) -> tuple[Fitted, dict[str, Any]]:  # fmt: skip
    """The index's value of what followed each row of the training set, as a line over the row's features."""
    usable = _rows_of(rows, round(config.early_hours * _HOUR_US), until)
    usable = usable[np.argsort(rows.at[usable], kind="stable")][-MOST_ROWS:]
    if len(usable) < 100 or rows.user is None:
        return _off(config, f"only {len(usable)} rows of the training set have had {config.early_hours:g} hours", told)
    user, at, x = rows.user[usable], rows.at[usable], rows.features[usable]
    value = index.of(early_outcomes(full, user, at, config.early_hours))
    test = held_out(user.astype(np.int64))
    design = read_design(x[~test])
    if not design.width or not test.any():
        return _off(config, "no feature varies, or too few people", told)
    matrix = design.matrix(x[~test])
    weight = fit_logistic(matrix, value[~test], ridge=1.0)
    moved = np.bincount(design.feature_of(), weights=np.abs(weight[:-1]) * matrix.std(axis=0), minlength=x.shape[1])
    line = LinearHead(design, weight, moved / max(float(moved.sum()), 1e-300))
    calibrator = fit_isotonic(line.raw(x[~test]), value[~test])
    raw = line.raw(x[test])
    found = calibrate(stack([calibrator]), raw[:, None])[:, 0]
    variance = float(value[test].var())
    explained = float(np.clip(1 - ((value[test] - found) ** 2).mean() / variance, 0, 1)) if variance > 0 else 0.0
    metrics: dict[str, float | None] = {
        "base_rate": float(value.mean()), "explained": explained, "ece": _calibration_error(found, value[test]),
        "index_explained": index.explained, "index_gap": index.gap, "scale": index.scale,
        "surrogacy_p": told["surrogacy"].get("p_value"),
    }  # fmt: skip
    order = np.argsort(-line.shares)
    told |= {"on": True, "reason": "", "head": {"explained": explained, "ece": metrics["ece"], "rows": len(usable)}}
    report = HeadReport(
        name=config.name, kind=KIND, on=True, reason=said_of(told), calibrated=True, model="linear",
        calibrator=calibrator.kind, fit_rows=int((~test).sum()), metrics=metrics,
        importance={columns[i]: float(line.shares[i]) for i in order.tolist() if line.shares[i] > 0},
    )  # fmt: skip
    return Fitted(report, line, calibrator, base=float(value.mean())), told


def _rows_of(rows: Rows, early_us: int, until: int) -> I64:
    """Rows that are a choice, or a slot that was shown, by somebody known, whose early outcomes are over."""
    if rows.user is None:
        return np.zeros(0, np.int64)
    known: BoolArray = (rows.user >= 0) & (rows.at + early_us <= until)
    alone = np.ones(len(rows.at), np.bool_) if rows.group is None else rows.group < 0
    taken = np.nan_to_num(rows.labels).max(axis=1, initial=0.0) > 0
    return np.flatnonzero(known & (alone | taken))


def _calibration_error(said_: F64, true: F64, bins: int = 10) -> float:
    parts = np.array_split(np.argsort(said_, kind="stable"), min(bins, len(said_)))
    return float(sum(len(p) * abs(said_[p].mean() - true[p].mean()) for p in parts) / len(said_))


def _diagnostic(
    config: LongTermConfig, full: Interactions, early: F64, late: F64, user: I32, at: I64, arms: Arms | None, until: int
) -> dict[str, Any]:  # fmt: skip
    """Whether an arm moves the late outcome beyond what the early ones say; a person counts once, with the first."""
    arm, what, random = (at > np.median(at)).astype(np.int32), "the later half of the log against the earlier", False
    if arms is not None:
        old = np.flatnonzero(arms.at + round(config.days * 24 * _HOUR_US) <= until)
        _, first = np.unique(arms.user[old], return_index=True)
        mine = old[first]
        if min(np.bincount(arms.arm[mine], minlength=2)) >= _LEAST_ARM:
            user, at, arm, what, random = arms.user[mine], arms.at[mine], arms.arm[mine], arms.what, True
            early = early_outcomes(full, user, at, config.early_hours)
            late = late_outcome(full, config, user, at) / max(float(late.max(initial=0.0)), 1e-12)
    if not random:
        # Chance decides which of a person's moments counts, else the first half would hold everybody's first.
        shuffled = np.random.default_rng(0).permutation(len(user))
        _, first = np.unique(user[shuffled], return_index=True)
        mine = shuffled[first]
        user, at, arm, early, late = user[mine], at[mine], arm[mine], early[mine], late[mine]
    note = "" if random else (
        " Nothing in this data was decided by chance, so surrogacy itself cannot be tested: this tells only whether "
        "what held earlier still holds."
    )  # fmt: skip
    try:
        found = surrogacy(late, early, arm)
    except DataError as error:
        return {"compared": what, "randomised": random, "tested": False, "says": f"Not tested: {error.got}.{note}"}
    return {
        "compared": what, "randomised": random, "tested": True, "z": found.z, "p_value": found.p_value,
        "flagged": found.flagged, "explained": found.explained, "needed": found.needed, "people": len(late),
        "says": f"{found.says} ({what}, {len(late):,} people; {found.needed:,} are needed to see a tenth of a "
        f"deviation.){note}",
    }  # fmt: skip


def said_of(told: dict[str, Any]) -> str:
    """One head in a sentence, with its diagnostic."""
    if not told.get("on"):
        return f"off: {told['reason']}"
    index = told["index"]
    return (
        f"surrogate index explains {index['explained']:.0%} of the outcome, mean off by {index['gap']:+.3f}; "
        f"surrogacy: {told['surrogacy']['says']}"
    )


def said(told: Sequence[dict[str, Any]]) -> list[str]:
    """All heads in sentences."""
    return [f"{one['name']} ({one['says']}): {said_of(one)}" for one in told]
