"""Off-policy value: whether intervals hold, how wide they are, how often they are refused, what the checks catch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.errors import DataUnavailableError
from honeyguide.flows.bench.ope_measure import PEERS, Measured, measure, peers
from honeyguide.flows.bench.ope_planted import PLANTED, flagged, surrogacy_flagged
from honeyguide.flows.bench.ope_special import amounts, lists, people, public
from honeyguide.flows.bench.ope_strata import strata
from honeyguide.flows.bench.rows import row

__all__ = ["run"]

_UNITS = {"coverage": "share", "width_over_oracle": "ratio", "answered": "share", "rmse": "reward"}
_LOGS = 2_500
_SPECIAL_LOGS = 2_000
_PEER_LOGS = 120
_FEW = 4_000  # decisions of the strata in which peers that walk through the log are run
_CHECK_LOGS = 400
_SEED = 20_260
_IN_FULL = ("snips", "dr")  # of the others the file holds the worst, the middle and the mean of the counted strata

Figures = dict[str, float | None]


def run(data: Path | None) -> tuple[list[dict[str, Any]], list[str]]:
    """Every stratum's figures, the worst and the middle of all, peers, planted failures, and the Open Bandit sample."""
    figures: dict[tuple[str, str], Figures] = {}
    ess: dict[str, float] = {}
    by_peer: dict[tuple[str, str], Figures] = {}
    for place, stratum in enumerate(strata()):
        ess[stratum.name] = stratum.ess
        for estimator, found in measure(stratum, _LOGS, _SEED + place).items():
            figures[estimator, stratum.name] = found.figures()
        if place % 3 == 0:
            exact = stratum.n <= _FEW
            oracle = _oracle(figures["snips", stratum.name])
            for peer, found in peers(stratum, _PEER_LOGS, _SEED + place, exact=exact).items():
                by_peer[peer, stratum.name] = found.figures(oracle)
    for source in (amounts, people, public):
        figures |= _special(source(_SPECIAL_LOGS, _SEED))
    for estimator, name, found in lists(_SPECIAL_LOGS, _SEED):
        figures[estimator, name] = found.figures()
    rows = [
        row("ope", f"{estimator}/{name}", metric, _UNITS[metric], value)
        for (estimator, name), found in figures.items()
        for metric, value in found.items()
        if estimator in _IN_FULL or name not in ess
    ]
    rows += _summaries(figures, ess, by_peer)
    rows += _planted()
    sample, missing = _open_bandit()
    return rows + sample, missing


def _special(found: Iterable[tuple[str, Measured]]) -> dict[tuple[str, str], Figures]:
    return {("snips", name): measured.figures() for name, measured in found}


def _oracle(found: Figures) -> float | None:
    """Width of an interval of SNIPS that knows its spread, from the many logs of our own measurement."""
    spread = found["rmse"]
    return None if not spread else 2 * 1.959964 * spread


def _summaries(
    figures: dict[tuple[str, str], Figures], ess: dict[str, float], by_peer: dict[tuple[str, str], Figures]
) -> list[dict[str, Any]]:
    """Per estimator over all strata: worst coverage, median and mean width, share of strata answered; and the peers."""
    rows = []
    broken = "as-if-independent"  # shown beside the right way, not part of it
    for estimator in dict.fromkeys(name for name, _ in figures):
        own = {name: f for (one, name), f in figures.items() if one == estimator and not name.endswith(broken)}
        said = [f for f in own.values() if (f["answered"] or 0) > 0.5]
        covered = [f["coverage"] for f in said if f["coverage"] is not None]
        widths = [f["width_over_oracle"] for f in said if f["width_over_oracle"] is not None]
        large = [f["answered"] or 0.0 for name, f in own.items() if ess.get(name, np.inf) >= 50]
        for metric, which, value in (
            ("coverage", "worst", float(np.min(covered))),
            ("coverage", "median", float(np.median(covered))),
            ("width_over_oracle", "median", float(np.median(widths))),
            ("width_over_oracle", "mean", float(np.mean(widths))),
            ("answered", "all", float(np.mean(np.array(large) > 0.5))),
        ):
            rows.append(row("ope", f"{estimator}/{which}", metric, _UNITS[metric], value))
    for peer in PEERS:
        own = {name: f for (one, name), f in by_peer.items() if one == peer}
        covered = [f["coverage"] for f in own.values() if f["coverage"] is not None]
        widths = [f["width_over_oracle"] for f in own.values() if f["width_over_oracle"] is not None]
        for metric, which, value, ours in (
            ("coverage", "worst", min(covered), min(figures["snips", n]["coverage"] or 1.0 for n in own)),
            ("coverage", "median", float(np.median(covered)), None),
            ("width_over_oracle", "median", float(np.median(widths)), None),
        ):
            told = {"peer": value, "peer_name": peer}
            rows.append(row("ope", f"snips-{peer}/{which}", metric, _UNITS[metric], ours, **told))
    return rows


def _planted() -> list[dict[str, Any]]:
    rows = []
    for place, kind in enumerate(PLANTED):
        share = flagged(kind, _CHECK_LOGS, _SEED + place)
        rows.append(row("ope", f"checks/{kind}", "flagged", "share", share))
    for kind, direct in (("sound/surrogates", 0.0), ("violated-surrogacy", 0.4)):
        share, n = surrogacy_flagged(direct, 10_000, _SEED)
        rows.append(row("ope", f"checks/{kind}/n-{n}", "flagged", "share", share))
    return rows


def _open_bandit() -> tuple[list[dict[str, Any]], list[str]]:
    """Both logs of each campaign valued under the other's policy, beside what that policy earned itself."""
    from honeyguide.flows.bench.ope_open_bandit import both_ways

    rows = []
    try:
        for (campaign, way), found in both_ways().items():
            for metric, value in found.items():
                told = {"peer": found["own"], "peer_name": "the policy's own log"} if metric == "estimate" else {}
                rows.append(row("ope", f"open-bandit/{campaign}/{way}", metric, "reward", value, **told))
    except DataUnavailableError as error:
        return [], [f"open-bandit: {error.got}"]
    return rows, []
