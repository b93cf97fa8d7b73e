"""Heads, skew and tuning in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from honeyguide.flows.render import _grid as grid
from honeyguide.flows.render import emit_json, out

__all__ = ["contest_sentence", "contest_sentences", "heads", "skewed", "tuned"]


def heads(rows: Sequence[Mapping[str, Any]]) -> None:
    """What became of every head, on rows that nothing was chosen on."""
    table = grid(
        "Heads, on their newest rows",
        ["head", "gives", "model", "log-loss", "constant", "logistic", "AUC", "calibration error", "ECE (by chance)"],
    )
    for head in rows:
        table.add_row(
            escape(head["name"]), escape(head["gives"]), escape(head.get("model") or "-"),
            *(_figure(head.get(key)) for key in ("log_loss", "log_loss_constant", "log_loss_logistic", "auc")),
            _with_interval(head, "calibration_error"),
            "-" if head.get("ece") is None else f"{head['ece']:.4f} ({_figure(head.get('ece_floor'))})",
        )  # fmt: skip
    out.print(table)


def contest_sentences(report: Mapping[str, Any]) -> list[str]:
    """How the kinds of models fared for a head, a sentence for each that lost."""
    lines = []
    chosen = next((one for one in report.get("contest", ()) if one["chosen"]), None)
    for one in report.get("contest", ()):
        if not one["chosen"]:
            lines.append(contest_sentence(report["name"], None if chosen is None else chosen["kind"], one))
    return lines


def contest_sentence(head: str, chosen: str | None, one: Mapping[str, Any]) -> str:
    """One kind beside the chosen one."""
    if one["value"] is None:
        return f"head {head}: {one['kind']} could not be fitted: {one['reason']}"
    what = "log loss" if one["measure"] == "log_loss" else "nDCG@10"
    if one["low"] is None:
        return f"head {head}: {chosen} rather than {one['kind']} by {one['gain'] or 0.0:+.4f} {what} on validation"
    beyond = "" if one["low"] > 0 else " (not beyond chance: the first of `kinds` stays)"
    by = f"{one['gain']:+.4f} [{one['low']:+.4f}, {one['high']:+.4f}]"
    return f"head {head}: {chosen} rather than {one['kind']} by {by} {what} on validation{beyond}"


def skewed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`skew`."""
    if as_json:
        return emit_json(report)
    table = grid(
        f"Served and recomputed: {report['rows']:,} rows of {report['requests']:,} requests of {report['build_id']}",
        ["feature", "largest difference", "rows that differ", "missing on one side", "served", "recomputed"],
        right=["largest difference", "rows that differ", "missing on one side", "served", "recomputed"],
    )
    for one in report["features"]:
        colour = "red" if one["differing"] else "dim"
        table.add_row(
            escape(one["name"]), f"[{colour}]{one['largest']:.3g}[/]", f"[{colour}]{one['differing']:,}[/]",
            f"{one['one_sided']:,}", _short(one["served"]), _short(one["recomputed"]),
        )  # fmt: skip
    if report["features"]:
        out.print(table)
    for why, n in report["left_out"].items():
        if n:
            out.print(f"  [dim]left out: {n:,} {escape(why)}[/]")
    mark = "[red]✗[/] " if report["blocked"] else ""
    return out.print(f"{mark}{escape(report['reason'])}")


def tuned(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`tune`."""
    if as_json:
        return emit_json(report)
    columns = ["head", "kind", "trials", "now", "found", "gain", "parameters"]
    table = grid("Tried by time-blocked cross validation", columns, right=["trials"])
    for one in report["found"]:
        if not one["trials"]:
            table.add_row(escape(one["head"]), one["kind"], "0", "-", "-", "-", escape(one["reason"]))
            continue
        told = ", ".join(f"{key} = {value}" for key, value in one["parameters"].items())
        colour = "green" if one["changed"] else "dim"
        table.add_row(
            escape(one["head"]), one["kind"], f"{one['trials']:,}", f"{one['loss_now']:.5f}", f"{one['loss']:.5f}",
            f"[{colour}]{_with_interval(one, 'gain', low='low', high='high')}[/]", escape(told),
        )  # fmt: skip
    out.print(table)
    for line in report["difference"]:
        colour = "green" if line.startswith("+") else "red" if line.startswith("-") else "dim"
        out.print(f"[{colour}]{escape(line)}[/]")
    if report["change"] is None:
        return out.print("Nothing is better than what there is beyond chance: no change.")
    if report["applied"]:
        return out.print(
            f"\nIn {escape(report['change'])}. Next: [bold]honeyguide build {escape(report['workspace'])}[/]"
        )
    return out.print(f"\nRead {escape(report['change'])}; `--apply` puts it in place.")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.5g}"


def _with_interval(row: Mapping[str, Any], key: str, *, low: str | None = None, high: str | None = None) -> str:
    value, ends = row.get(key), (row.get(low or f"{key}_low"), row.get(high or f"{key}_high"))
    if value is None:
        return "-"
    return f"{value:.4f}" + ("" if None in ends else f" [{ends[0]:.4f}, {ends[1]:.4f}]")
