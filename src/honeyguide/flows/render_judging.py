"""Judgments and search traffic in the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from honeyguide.flows.render import emit_json, grid_of, out

__all__ = ["compared", "exported", "imported", "sampled", "shown", "traffic"]


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def imported(report: Mapping[str, Any], *, as_json: bool) -> None:
    """What a file brought."""
    if as_json:
        return emit_json(report)
    refused = ", ".join(f"{reason}: {n:,}" for reason, n in report["refused"].items()) or "none"
    return out.print(
        f"{report['imported']:,} judgments; refused: {escape(refused)}; {report['judgments']:,} count now."
    )


def exported(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Where the files lie."""
    if as_json:
        return emit_json(report)
    return out.print(escape(f"{report['folder']}: {report['queries']:,} queries, {report['judgments']:,} judgments"))


def shown(report: Mapping[str, Any], *, as_json: bool) -> None:
    """What was judged, and agreement."""
    if as_json:
        return emit_json(report)
    out.print(
        f"{report['judgments']:,} judgments of {report['queries']:,} queries; {report['waiting']:,} queries wait."
    )
    grades = [[str(g["grade"]), g["means"], f"{g['n']:,}"] for g in report["grades"]]
    out.print(grid_of("Grades", ["grade", "means", "n"], grades, right=["n"]))
    raters = [[r["rater"], f"{r['n']:,}"] for r in report["raters"]]
    out.print(grid_of("Raters", ["rater", "n"], raters, right=["n"]))
    if report["alpha"] is None:
        return out.print("Nothing was judged by two raters: agreement cannot be told.")
    out.print(
        f"Krippendorff's alpha (ordinal) {report['alpha']:.3f} over {report['judged_twice']:,} pairs judged by "
        f"two or more; Fleiss' kappa {_number(report['fleiss'])} over {report['fleiss_of']:,} pairs judged by "
        f"{report['fleiss_raters']}."
    )
    rows = [
        [p["first"], p["second"], f"{p['n']:,}", f"{p['same']:.0%}", *map(_number, (p["kappa"], p["kappa_quadratic"]))]
        for p in report["pairs"]
    ]
    return out.print(grid_of("Two by two", ["rater", "and", "pairs", "same", "kappa", "quadratic"], rows))


def compared(rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Rankers side by side."""
    if as_json:
        return emit_json({"rankers": list(rows)})
    cells = [
        [r["ranker"], _number(r["ndcg"]), _number(r["ndcg_condensed"]), _number(r["precision"]), _number(r["judged"]),
         "-" if "gain" not in r else f"{r['gain']:+.3f} [{r['low']:+.3f}, {r['high']:+.3f}]"]
        for r in rows
    ]  # fmt: skip
    k, n = rows[0]["k"], rows[0]["queries"]
    names = ["ranker", f"nDCG@{k}", "condensed", f"P@{k}", "judged", f"nDCG against {rows[0]['ranker']}"]
    return out.print(grid_of(f"{n:,} judged queries", names, cells))


def sampled(report: Mapping[str, Any], *, as_json: bool) -> None:
    """The queries chosen."""
    if as_json:
        return emit_json(report)
    cells = [[r["query"], f"{r['searches']:,}", _number(r["disagreement"], 2)] for r in report["queries"]]
    out.print(grid_of(f"To be judged, of {report['of']:,} queries", ["query", "searches", "disagreement"], cells))
    return out.print("They wait on the console's page Judge.")


def traffic(report: Mapping[str, Any], folder: Path, *, as_json: bool) -> None:
    """Search traffic."""
    if as_json:
        return emit_json(report)
    if not report["searches"]:
        return out.print("No searches in the log.")
    week, change = report["week"], report["change"] or {}
    out.print(f"The week until {report['last_day']}: {week['searches']:,} searches by {week['people']:,} people.")
    cells = []
    for name in ("zero_rate", "click_rate", "reformulation_rate", "abandon_rate"):
        now, moved = week[name], change.get(name)
        told = "-" if now is None else f"{now['estimate']:.1%} [{now['low']:.1%}, {now['high']:.1%}]"
        by = "-" if moved is None else f"{moved['estimate']:+.1%} [{moved['low']:+.1%}, {moved['high']:+.1%}]"
        cells.append([name.replace("_", " "), told, by])
    out.print(grid_of("Against the week before", ["what", "now", "change"], cells))
    for key, title in (("by_class", "By kind of query"), ("by_language", "By language"), ("by_segment", "By segment")):
        rows = [
            [r["name"], f"{r['searches']:,}", _percent(r["zero_rate"]), _percent(r["click_rate"])] for r in report[key]
        ]
        out.print(grid_of(title, ["", "searches", "no hit", "clicked"], rows))
    rows = [
        [r["query"], f"{r['searches']:,}", f"{r['lost']:,}", f"{r['zero']:,}", r["next"] or "-"]
        for r in report["bad"][:20]
    ]
    out.print(grid_of("Queries that go wrong", ["query", "searches", "lost", "no hit", "asked next"], rows))
    if report["bad"]:
        said = f"honeyguide understand {shlex.quote(str(folder))} {shlex.quote(report['bad'][0]['query'])}"
        out.print(escape(f"How one is read: {said}"))
    return None


def _percent(rate: Mapping[str, float] | None) -> str:
    return "-" if rate is None else f"{rate['estimate']:.1%}"
