"""`honeyguide simulate`: a change predicted, measured and known, side by side, before anybody meets it.

Three runs on copies of the workspace: everybody under the present policy (its lists are also valued under the change),
half of the people under each over one log, everybody under the changed policy. All share one seed of chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F64, BoolArray, Progress
from honeyguide.engines.tasks.steps import disk_errors
from honeyguide.errors import DataError, RequestError
from honeyguide.flows.evaluate import LAST_BUILD, evaluate
from honeyguide.flows.layout import Layout
from honeyguide.flows.simulation.arms import configure, copied, drop_log, room_for, scratch
from honeyguide.flows.simulation.changes import Change, Changed
from honeyguide.flows.simulation.loop import Lived, Stage, assigned, live_through
from honeyguide.flows.simulation.shadow import Shadow
from honeyguide.flows.simulation.stage import stage_of
from honeyguide.kernels.intervals import Intervals, mean_interval, normal_interval, ratio_intervals
from honeyguide.world.audience import Diary
from honeyguide.world.changes import FlashCrowd, TasteShift, TrueEffect

__all__ = ["LONG", "SHORT", "simulate"]

SHORT = {"clicks": ("expected_clicks", 0), "purchases": ("expected_purchases", 1), "joy": ("expected_joy", 2)}
"""Outcomes of one list: the diary's column of their expectation, and their place in a shadow's truth."""
LONG = {
    "visits": "visits", "clicks": "expected_clicks", "purchases": "expected_purchases", "joy": "expected_joy",
    "hides": "hides",
}  # fmt: skip
"""Outcomes of a person over the whole time, by the world's tally."""
COUNTED = {"clicks": "clicks", "purchases": "purchases"}
"""What of SHORT can be counted in a log, and so measured: nobody logs joy."""
_DEEDS = {"visits": "visits", "clicks": "clicks", "purchases": "purchases", "hides": "hides"}
MOST_DAYS = 3_650
OFFLINE = ("nDCG@10", "all")
_HOPELESS = (
    "No length of this log suffices: explore more (`epsilon`, `pool`, `first_slot`), or value a change nearer to the "
    "present policy."
)
SHADOWED = 30_000
"""Lists at most that are valued off-policy: the first ones."""


def simulate(
    folder: Path, change: Path | Change, *, days: float = 28.0, people: int | None = None, seed: int = 0,
    retrain_days: float = 7.0, offline: bool = False, html: Path | None = None, progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What a change would do: `predicted` off-policy, `measured` by an A/B test in the world, and the `truth`.

    folder: a workspace with a build. days: that people live on with it. people: take part at most. retrain_days: both
    policies get a new build as often (0: never). offline: judge both on held-out events too, as `evaluate` does.
    Nothing of the workspace is changed. Returns the report as plain data.
    """
    if not 0 < days <= MOST_DAYS:
        raise RequestError(expected=f"days above 0, {MOST_DAYS:,} at most", got=f"{days:g}", do="Give another --days.")
    if retrain_days < 0:
        raise RequestError(expected="0 days or more between builds", got=f"{retrain_days:g}", do="Give 0 for never.")
    layout = Layout.open(folder)
    layout.current_build()
    wanted = change if isinstance(change, Change) else Change.load(change)
    changed = Changed.of(wanted, layout)
    stage = stage_of(layout, people=people, seed=seed, progress=progress)
    split = assigned(stage.shelf.people, seed)
    if not 0 < split[: stage.world.config.shape.people].sum() < stage.world.config.shape.people:
        raise DataError(expected="people for both arms", got="all in one", do="Let more people take part.")
    room_for(layout)
    common: dict[str, Any] = {"days": days, "retrain_days": retrain_days, "progress": progress}
    shadow = Shadow(stage.world.config.slots, SHADOWED)
    apart = [one for one in wanted.world if isinstance(one, TrueEffect | TasteShift)]
    with disk_errors(layout.root), scratch(layout) as place:
        present = live_through(
            stage, place / "present", changes=wanted.world, beside=[changed], on_open=shadow.attach,
            what="present policy", **common,
        )  # fmt: skip
        test = live_through(
            stage, place / "test", changed=changed, split=split, changes=wanted.world, what="A/B test", **common
        )
        other = live_through(
            stage, place / "changed", changed=changed, changes=wanted.world, what="changed policy", **common
        )
        judged = _judged(layout, changed, place / "judged", progress) if offline else []
    if not len(present.diary):
        raise DataError(
            expected="visits in the time simulated",
            got=f"none of {stage.world.config.shape.people} people in {days:g} days",
            do="Give more --days or --people.",
        )
    outcomes = _Outcomes(stage, split, present, test, other, shadow)
    report: dict[str, Any] = {
        "workspace": str(layout.root), "change": wanted.name, "days": days, "seed": seed,
        "people": int((~stage.world.minds.gone).sum()), "retrain_days": retrain_days,
        "world": "the log's own" if stage.fit is None else "fitted to the log",
        "fit": None if stage.fit is None else {
            "fit_distance": stage.fit.fit_distance, "figures": stage.fit.report()
        },
        "needs_build": changed.needs_build,
        "offline": judged, "short": outcomes.short(), "partial": outcomes.partial(), "long": outcomes.long(),
        "daily": {"present": _daily(present.diary, days), "changed": _daily(other.diary, days)},
        "lists": {"present": len(present.diary), "test": len(test.diary), "changed": len(other.diary)},
        "builds": {"present": len(present.builds), "test": len(test.builds), "changed": len(other.builds)},
        "sessions_per_cpu_minute": round(60 * test.sessions_per_cpu_s),
        "notes": [*_notes(wanted, apart), *_fallbacks(present, test, other)],
    }  # fmt: skip
    report["says"] = _says(report)
    if html is not None:
        from honeyguide.flows.simulation.page import write_page

        write_page(report, html)
    return report


def _judged(layout: Layout, changed: Changed, place: Path, progress: Progress | None) -> list[dict[str, Any]]:
    """nDCG@10 of both configurations on held-out events: what a test without a world would say."""
    copy = copied(layout, place, changed.build_id)
    try:
        configure(copy, changed.config.model_dump(mode="json", exclude_unset=True))
        report = evaluate(copy.root, progress=progress)
    finally:
        drop_log(copy)
    of = {(r["protocol"], r["system"]): r for r in report["rows"] if (r["metric"], r["segment"]) == OFFLINE}
    return [
        {"protocol": row["protocol"], "present": of[row["protocol"], LAST_BUILD]["estimate"],
         "changed": of[row["protocol"], "home"]["estimate"], "difference": row["estimate"], "low": row["low"],
         "high": row["high"]}
        for row in report["differences"]
        if (row["metric"], row["segment"]) == OFFLINE and row["baseline"] == LAST_BUILD
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------ outcomes


@dataclass(frozen=True)
class _Outcomes:
    stage: Stage
    split: BoolArray
    present: Lived
    test: Lived
    other: Lived
    shadow: Shadow

    def short(self) -> list[dict[str, Any]]:
        """Per list that a policy made (search left out): clicks, purchases, joy."""
        rows = []
        for name, (column, place) in SHORT.items():
            before, after = (_per_list(lived.diary, column) for lived in (self.present, self.other))
            row: dict[str, Any] = {
                "outcome": name, "unit": "per list", "slots": self.shadow.slots,
                "truth": {"present": before, "changed": after, "difference": after - before},
                "same_moments": {
                    "present": float(self.shadow.truth(0)[place]), "changed": float(self.shadow.truth(1)[place])
                },
                "predicted": self._predicted(name, None) if name in COUNTED else None,
                "measured": self._measured_lists(name) if name in COUNTED else None,
            }  # fmt: skip
            rows.append(row)
        return rows

    def partial(self) -> list[dict[str, Any]]:
        """Where a whole list cannot be valued: as many first slots as can be, and the truth of those."""
        rows = []
        for name in COUNTED:
            if self._predicted(name, None)["verdict"] != "NOT IDENTIFIABLE":
                continue
            for depth in reversed(self.shadow.depths[:-1]):
                found = self._predicted(name, depth)
                if found["verdict"] != "NOT IDENTIFIABLE":
                    place = SHORT[name][1]
                    truth = {
                        policy: float(self.shadow.truth(n, depth)[place])
                        for n, policy in enumerate(("present", "changed"))
                    }
                    rows.append({"outcome": name, "slots": depth, "predicted": found, "same_moments": truth})
                    break
        return rows

    def _predicted(self, name: str, depth: int | None) -> dict[str, Any]:
        if not self.shadow.lists:
            return {"verdict": "NOT IDENTIFIABLE", "reasons": ["No list was made by the policy."], "advice": [],
                    "estimate": None, "low": None, "high": None, "logged": None, "ess": 0.0, "lists": 0}  # fmt: skip
        valued = self.shadow.value(0, name, depth=depth)
        best = next((one for one in valued.estimates if one.estimator == valued.best), None)
        return {
            "verdict": valued.verdict.name, "reasons": list(valued.verdict.reasons),
            "advice": list(valued.verdict.advice) if valued.overlap.ess >= 1 else [_HOPELESS], "estimator": valued.best,
            "estimate": None if best is None else best.estimate, "low": None if best is None else best.low,
            "high": None if best is None else best.high, "logged": valued.logged_value,
            "ess": valued.overlap.ess, "unsupported": valued.overlap.unsupported, "lists": len(self.shadow.lists),
        }  # fmt: skip

    def _measured_lists(self, name: str) -> dict[str, Any]:
        """Clicks of a list in both arms, clustered by person."""
        diary, n = self.test.diary, len(self.split)
        listed = _made(diary)
        user = np.asarray(diary.user, np.int64)[listed]
        sums: F64 = np.bincount(user, diary.column(name)[listed], n).astype(np.float64)
        lists: F64 = np.bincount(user, minlength=n).astype(np.float64)
        arms = [ratio_intervals(sums[arm], lists[arm], None) for arm in (~self.split, self.split)]
        return _compared(arms[0], arms[1])

    def long(self) -> list[dict[str, Any]]:
        """Per person over the whole time, everybody who was there at the start; and the people lost."""
        there = ~self.stage.world.minds.gone
        rows = []
        for name, column in LONG.items():
            before, after = self.present.of(column)[there], self.other.of(column)[there]
            truth = _truth(before, after)
            deed = _DEEDS.get(name)
            measured = None if deed is None else self._measured_people(self.test.of(deed), there)
            rows.append({"outcome": name, "unit": "per person", "measured": measured, "truth": truth})
        lost = [lived.gone[there].astype(np.float64) for lived in (self.present, self.other)]
        rows.append({
            "outcome": "people lost", "unit": "share", "measured": self._measured_people(
                self.test.gone.astype(np.float64), there
            ), "truth": _truth(lost[0], lost[1]),
        })  # fmt: skip
        return rows

    def _measured_people(self, values: F64, there: BoolArray) -> dict[str, Any]:
        split = self.split[: len(values)]
        return _compared(mean_interval(values[there & ~split]), mean_interval(values[there & split]))


def _compared(present: Intervals, changed: Intervals) -> dict[str, Any]:
    """Two independent arms: their figures, and the difference with its 95 % interval."""
    a, b = float(present.estimate[0]), float(changed.estimate[0])
    width = [(float(one.high[0]) - float(one.low[0])) / (2 * 1.959964) for one in (present, changed)]
    found = normal_interval(np.array([b - a]), np.array([np.hypot(width[0], width[1])]))
    return {
        "present": _number(a), "changed": _number(b), "difference": _number(b - a), "low": _number(float(found.low[0])),
        "high": _number(float(found.high[0])),
    }  # fmt: skip


def _truth(before: F64, after: F64) -> dict[str, Any]:
    """Everybody under both: the chance that is left is that of whole lives, as the interval of pairs says."""
    difference = mean_interval(after - before)
    return {
        "present": float(before.mean()), "changed": float(after.mean()), "difference": float((after - before).mean()),
        "low": _number(float(difference.low[0])), "high": _number(float(difference.high[0])),
    }  # fmt: skip


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _made(diary: Diary) -> BoolArray:
    """Lists that the policy made: a search is answered by words."""
    return np.array([surface != "search" for surface in diary.surface], np.bool_)


def _per_list(diary: Diary, column: str) -> float:
    listed = _made(diary)
    return float(diary.column(column)[listed].mean()) if listed.any() else float("nan")


def _daily(diary: Diary, days: float) -> list[dict[str, float]]:
    """By day of the simulation: lists, and the clicks and purchases to be expected."""
    if not len(diary):
        return []
    day = np.asarray(diary.day, np.int64)
    day = day - day.min()
    n = int(np.ceil(days))
    lists = np.bincount(day, minlength=n)
    clicks, buys, joy = (
        np.bincount(day, diary.column(f"expected_{name}"), n) for name in ("clicks", "purchases", "joy")
    )
    return [
        {"day": d + 1, "lists": int(lists[d]), "clicks": float(clicks[d]), "purchases": float(buys[d]),
         "joy": float(joy[d])}
        for d in range(n)
    ]  # fmt: skip


# --------------------------------------------------------------------------------------------------------- words


def _notes(change: Change, apart: list[Any]) -> list[str]:
    notes = [
        "predicted and the truth of the same moments: the lists of the present policy's own run, one by one. truth: "
        "everybody lives under either policy; what the policy does to people, to the log and to the next build counts.",
    ]
    if apart:
        notes.append("effect and taste are met by the people of the changed policy alone; what else happens, by all.")
    if any(isinstance(one, FlashCrowd) for one in change.world):
        notes.append("The flash crowd comes under both policies.")
    return notes


def _fallbacks(*runs: Lived) -> list[str]:
    fallen = sum(run.diary.fallbacks for run in runs)
    refused = sum(run.diary.refused_events for run in runs)
    notes = []
    if fallen:
        notes.append(f"{fallen:,} of {sum(len(run.diary) for run in runs):,} answers were the fallback's.")
    if refused:
        notes.append(f"{refused:,} events were refused at the door.")
    return notes


def _says(report: Mapping[str, Any]) -> list[str]:
    """The report in sentences, the answer first."""
    clicks, long = report["short"][0], {row["outcome"]: row for row in report["long"]}
    said = []
    predicted = clicks["predicted"]
    if predicted["estimate"] is None:
        said.append(
            "Predicted: NOT IDENTIFIABLE from the present policy's lists. " + " ".join(predicted["reasons"][:2])
        )
    else:
        said.append(
            f"Predicted: {predicted['estimate']:.4f} clicks a list, from {predicted['low']:.4f} to "
            f"{predicted['high']:.4f}; logged {predicted['logged']:.4f}; true at the same moments "
            f"{clicks['same_moments']['changed']:.4f}."
        )
    for row in report["offline"][:1]:
        said.insert(0, (
            f"Offline: nDCG@10 {row['present']:.4f} before, {row['changed']:.4f} after ({_signed(row['difference'])}, "
            f"from {_signed(row['low'])} to {_signed(row['high'])}) on held-out events."
        ))  # fmt: skip
    measured, truth = clicks["measured"], clicks["truth"]
    said.append(
        f"Measured: {_signed(measured['difference'])} clicks a list, from {_signed(measured['low'])} to "
        f"{_signed(measured['high'])}; true {_signed(truth['difference'])}."
    )
    parts = [
        f"{name} {_percent(long[name]['truth'])}" for name in ("visits", "clicks", "purchases", "joy", "people lost")
    ]
    said.append(f"Truth over {report['days']:g} days, everybody: {', '.join(parts)}.")
    return said


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.4f}"


def _percent(truth: Mapping[str, Any]) -> str:
    before = truth["present"]
    return f"{truth['difference'] / before:+.1%}" if abs(before) > 1e-12 else f"{truth['difference']:+.4g}"
