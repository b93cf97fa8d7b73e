"""The demo of a world with known truth: a change that held-out clicks love and people punish, and one that is good."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from honeyguide.contracts import Progress
from honeyguide.flows.build import build
from honeyguide.flows.simulation.shop import CHANGES, make_shop
from honeyguide.flows.simulation.simulate import simulate

__all__ = ["NAMES", "live_both", "say"]

NAMES = ("clicks", "value")
PEOPLE, ITEMS, DAYS, SEED = 2_000, 500, 28, 1
TAKING_PART, LIVED_DAYS = 1_000, 21.0


def live_both(folder: Path, *, progress: Progress | None = None) -> list[dict[str, Any]]:
    """Make a shop in `folder`, build it, and live through its two changes, a process for each; their reports.

    Pages with charts lie in `<folder>/reports`. Memory: about a gigabyte for each of the two.
    """
    make_shop(folder, people=PEOPLE, items=ITEMS, days=DAYS, seed=SEED, progress=progress)
    build(folder, progress=progress)
    (folder / "reports").mkdir(exist_ok=True)
    if progress is not None:
        progress("two changes are lived through", 0, len(NAMES))
    with ProcessPoolExecutor(len(NAMES), mp_context=get_context("spawn")) as pool:
        reports = []
        for done, report in enumerate(pool.map(_lived, [folder] * len(NAMES), NAMES), 1):
            reports.append(report)
            if progress is not None:
                progress("two changes are lived through", done, len(NAMES))
    return reports


def _lived(folder: Path, name: str) -> dict[str, Any]:
    return simulate(
        folder, folder / CHANGES / f"{name}.toml", days=LIVED_DAYS, people=TAKING_PART, retrain_days=0, offline=True,
        html=folder / "reports" / f"{name}.html",
    )  # fmt: skip


def say(out: Console, reports: list[dict[str, Any]]) -> None:
    """What held-out events, the estimator, an A/B test and the truth say of each change, side by side."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("")
    for report in reports:
        table.add_column(escape(report["change"]))
    for name, of in _LINES.items():
        table.add_row(name, *(of(report) for report in reports))
    out.print(table)


def _offline(report: dict[str, Any]) -> str:
    return _interval(report["offline"][0])


def _predicted(report: dict[str, Any]) -> str:
    """The whole list where the log identifies it, else as many first slots as it does, with their truth."""
    clicks = _clicks(report)
    if clicks["predicted"]["estimate"] is not None:
        return _beside(clicks["predicted"], clicks["same_moments"])
    for row in report["partial"]:
        if row["outcome"] == "clicks":
            return f"first {row['slots']} slots {_beside(row['predicted'], row['same_moments'])}"
    return "cannot be known from the log"


def _beside(found: dict[str, Any], truth: dict[str, float]) -> str:
    low, high = found["low"] - found["logged"], found["high"] - found["logged"]
    true = truth["changed"] - truth["present"]
    return f"{found['estimate'] - found['logged']:+.3f} [{low:+.3f}, {high:+.3f}] (true {true:+.3f})"


def _measured(report: dict[str, Any]) -> str:
    return _interval(_clicks(report)["measured"])


def _truth(report: dict[str, Any]) -> str:
    return f"{_clicks(report)['truth']['difference']:+.3f}"


def _clicks(report: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(row for row in report["short"] if row["outcome"] == "clicks")
    return found


def _long(report: dict[str, Any]) -> str:
    truth = {row["outcome"]: row["truth"] for row in report["long"]}
    shares = [
        f"{name} {truth[name]['difference'] / truth[name]['present']:+.0%}" for name in ("visits", "purchases", "joy")
    ]
    return ", ".join(shares)


def _interval(of: dict[str, Any]) -> str:
    return f"{of['difference']:+.3f} [{of['low']:+.3f}, {of['high']:+.3f}]"


_LINES = {
    "held-out events: nDCG@10": _offline,
    "off-policy: clicks a list": _predicted,
    "A/B test: clicks a list": _measured,
    "truth: clicks a list": _truth,
    f"truth after {LIVED_DAYS:g} days": _long,
}
