"""`honeyguide ope`: what a policy would have earned on a log, with intervals, overlap, checks and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from honeyguide.contracts import Progress
from honeyguide.engines.tables.arrow import published
from honeyguide.errors import ConfigError, DataError
from honeyguide.evaluation.replay.estimators import ESTIMATORS, OpeConfig, Valued, evaluate, value_table
from honeyguide.evaluation.replay.log import DecisionLog, decision_log, prepared
from honeyguide.evaluation.replay.policy import Target
from honeyguide.evaluation.replay.rewards import RewardModel, RidgeRewards, TabularRewards
from honeyguide.evaluation.replay.slates import SLATE_ESTIMATORS, SlateConfig, evaluate_slates
from honeyguide.flows.ope.log import find_log
from honeyguide.flows.ope.policy import target_policy
from honeyguide.flows.ope.trees import TreesRewards
from honeyguide.intake.files import read
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MODELS", "ope", "value"]

MODELS = ("tabular", "ridge", "trees")


def ope(
    log: Path,
    *,
    policy: str,
    reward: str | None = None,
    reward_range: tuple[float, float] | None = None,
    missing_reward: float | None = None,
    estimators: Sequence[str] = (),
    model: str | None = None,
    logged_by: str | None = None,
    surface: str | None = None,
    mapping: Mapping[str, str] | None = None,
    renormalise: bool = False,
    independent_slots: bool | None = None,
    tuning: str = "design",
    level: float = 0.95,
    seed: int = 0,
    catalog: Path | None = None,
    out: Path | None = None,
    html: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Value a policy on a log; see the command's help for the arguments. Returns the report as plain data.

    Writes rows of ReplayValue to `out` (Parquet) and a page to `html`, if asked. Raises DataError where the log or the
    policy cannot be used, ConfigError for an option out of range.
    """
    tell = progress or (lambda what, done, total: None)
    tell("reading the log", 0, 3)
    found = find_log(log, mapping=mapping, reward=reward, surface=surface, progress=progress)
    table = prepared(found.table, logged_by)
    decisions = decision_log(table, missing_reward=missing_reward, catalog=_catalog(catalog))
    tell("reading the policy", 1, 3)
    target = target_policy(policy, decisions, table, renormalise=renormalise)
    tell("valuing", 2, 3)
    options = {"level": level, "seed": seed, "reward_range": reward_range}
    valued = value(
        decisions, target, estimators=estimators, model=model, tuning=tuning,
        independent_slots=independent_slots, options=options,
    )  # fmt: skip
    report = _report(log, found.kind, found.notes, decisions, valued, reward, logged_by, level)
    if out is not None:
        _write(value_table([valued], _metric(reward)), out)
    if html is not None:
        from honeyguide.flows.ope.page import write_page

        write_page(report, html)
    tell("valuing", 3, 3)
    return report


def value(
    log: DecisionLog,
    target: Target,
    *,
    estimators: Sequence[str] = (),
    model: str | None = None,
    tuning: str = "design",
    independent_slots: bool | None = None,
    options: Mapping[str, Any] | None = None,
) -> Valued:
    """Single choices or lists, whichever the log holds."""
    known = SLATE_ESTIMATORS if log.is_slates else ESTIMATORS
    strange = [name for name in estimators if name not in known]
    if strange:
        what = "lists" if log.is_slates else "single choices"
        raise ConfigError(
            expected=f"estimators for a log of {what}: {', '.join(known)}", got=strange[0], do="Name some of them."
        )
    if model is not None and model not in MODELS:
        raise ConfigError(expected=f"a reward model: {', '.join(MODELS)}", got=repr(model), do="Name one of them.")
    models: dict[str | None, RewardModel | None] = {
        None: None, "tabular": TabularRewards(), "ridge": RidgeRewards(), "trees": TreesRewards()
    }  # fmt: skip
    given: dict[str, Any] = {**(options or {}), "estimators": tuple(estimators) or known}
    try:
        if log.is_slates:
            slates = SlateConfig(**given, independent_slots=independent_slots)
            return evaluate_slates(log, target, slates, model=models[model])
        return evaluate(log, target, OpeConfig(**given | {"tuning": tuning}), model=models[model])
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise ConfigError(expected=f"a valid `{name}`", got=str(first["input"]), do=f"{first['msg']}.") from error


def _catalog(path: Path | None) -> list[str] | None:
    """Ids of what may be chosen at all."""
    if path is None:
        return None
    items = read(path).table
    if c.ITEM_ID not in items.column_names:
        raise DataError(
            expected=f"a column `{c.ITEM_ID}` in {path}", got=", ".join(items.column_names[:12]), do="Name it so."
        )
    return [str(one) for one in items[c.ITEM_ID].to_pylist()]


def _metric(reward: str | None) -> str:
    return reward or str(c.REWARD)


def _report(
    log: Path,
    kind: str,
    notes: Sequence[str],
    decisions: DecisionLog,
    valued: Valued,
    reward: str | None,
    logged_by: str | None,
    level: float,
) -> dict[str, Any]:
    overlap = asdict(valued.overlap)
    names = ("from_weight", "share_of_log", "share_of_target")
    overlap["shares"] = [dict(zip(names, row, strict=True)) for row in valued.overlap.shares]
    overlap["unsupported_actions"] = [
        {"action": action, "share": share} for action, share in valued.overlap.unsupported_actions
    ]
    report = {
        "log": str(log), "kind": kind, "policy": valued.policy, "reward": _metric(reward),
        "logged_by": logged_by, "level": level,
        "decisions": len(decisions), "requests": len(decisions.request_ids), "units": decisions.n_units,
        "actions": len(decisions.actions), "lists": decisions.is_slates, "logged_value": valued.logged_value,
        "rewarded": int(np.count_nonzero(decisions.reward)),
        "verdict": asdict(valued.verdict), "best": valued.best,
        "estimates": [asdict(one) for one in valued.estimates], "bounds": valued.bounds, "overlap": overlap,
        "checks": [asdict(check) for check in valued.checks], "extras": dict(valued.extras),
        "notes": list(dict.fromkeys([*notes, *valued.notes])),
        "values": value_table([valued], _metric(reward)).to_pylist(),
    }  # fmt: skip
    report["says"] = _says(report, valued)
    return _finite(report)


def _says(report: Mapping[str, Any], valued: Valued) -> list[str]:
    """The report in plain sentences, the answer first."""
    per = "list" if report["lists"] else "decision"
    verdict = valued.verdict
    told = [f"The log's policy earned {valued.logged_value:.4g} a {per} over {report['requests']:,} requests."]
    best = next((one for one in valued.estimates if one.estimator == valued.best), None)
    if best is not None and best.low is not None and best.high is not None:
        inside = best.low <= valued.logged_value <= best.high
        told.append(
            f"`{valued.policy}` would have earned {best.estimate:.4g} a {per}, from {best.low:.4g} to {best.high:.4g} "
            f"({best.estimator}, {report['level']:.0%} interval): "
            + ("not told apart from the log's policy." if inside else "another value than the log's policy's.")
        )
        if verdict.name == "UNVERIFIED":
            told.append(f"The interval is unverified. {verdict.reasons[0]}")
    else:
        told.append(
            f"What `{valued.policy}` would have earned cannot be told from this log. {' '.join(verdict.reasons)}"
        )
        if valued.bounds is not None:
            low, high = valued.bounds
            told.append(f"Whatever the unsupported part is worth, the value lies between {low:.4g} and {high:.4g}.")
    told += [f"What to log: {advice}" for advice in verdict.advice]
    told += [f"Check failed: {check.says}" for check in valued.flags]
    return told


def _finite(value: Any) -> Any:
    """NaN and infinity as null: JSON has neither."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    with published(path) as temporary:
        pq.write_table(table, temporary)
