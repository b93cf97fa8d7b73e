"""The registry in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from honeyguide.flows.render import emit_json, out

__all__ = ["changed", "exported", "listed", "pruned", "retrained", "shadowed", "shown"]

_COLOURS = {"in service": "green", "canary": "yellow", "shadow": "cyan", "retired": "dim"}


def _grid(title: str, columns: Sequence[str]) -> Table:
    grid = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for column in columns:
        grid.add_column(column)
    return grid


def _state(line: Mapping[str, Any]) -> str:
    text = line["state"] + (f" {line['share']:.0%}" if line["share"] else "")
    colour = _COLOURS.get(line["state"])
    return f"[{colour}]{text}[/]" if colour else text


def listed(lines: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """`models list`."""
    if as_json:
        return emit_json(lines)
    grid = _grid("Models", ["build", "state", "made", "events", "heads", "why"])
    for line in lines:
        heads = ", ".join(
            name + (f" (error {m['ece']:.3f})" if "ece" in m else "") for name, m in line["heads"].items()
        )
        grid.add_row(
            line["build"], _state(line), line["made_at"][:16].replace("T", " "), f"{line['events']:,}",
            escape(heads) or "-", escape(line["why"]),
        )  # fmt: skip
    return out.print(grid)


def shown(record: Mapping[str, Any], *, as_json: bool) -> None:
    """`models show`."""
    if as_json:
        return emit_json(record)
    data = record["data"]
    out.print(f"[bold]{record['build']}[/]  {_state(record)}")
    out.print(f"made {record['made_at']} in {record['seconds']:.0f} s by Honeyguide {record['package']}")
    out.print(f"parent {record['parent'] or '-'}; children {', '.join(record['children']) or '-'}")
    out.print(f"data {data['fingerprint']}: {data['events']:,} events, {data['people']:,} people, {data['first']} to "
              f"{data['last']}")  # fmt: skip
    for name, version in data["versions"].items():
        out.print(f"  {escape(name):12} {version}")
    grid = _grid("Models", ["kind", "name", "figures", "artifact"])
    for model in record["models"]:
        figures = _figures(model["metrics"])
        grid.add_row(model["kind"], escape(model["name"]), escape(figures) or "-", escape(model["artifact"] or "-"))
    out.print(grid)
    out.print(f"{len(record['features'])} features: {escape(', '.join(map(str, record['features'])))}")
    for line in record["decisions"]:
        out.print(f"  • {escape(line)}")
    for move in record["moves"]:
        was = f"{move['was']} -> " if move["was"] else ""
        out.print(f"  {move['at'][:16].replace('T', ' ')}  {was}{move['now']}: {escape(move['why'])}")
    return None


def _figures(metrics: Mapping[str, Any]) -> str:
    parts = []
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            wanted = [f"{key} {value[key]:.4f}" for key in ("log_loss", "auc", "ece", "ndcg_at_10") if value.get(key)]
            parts.append(f"{name}: {', '.join(wanted)}")
        elif value is not None:
            parts.append(f"{name} {value:.4f}")
    return "; ".join(parts)


def changed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """A build went from one state to another."""
    if as_json:
        return emit_json(report)
    if "role" in report:
        if report["share"]:
            return out.print(f"{report['build_id']} is the {report['role']} for {report['share']:.0%} of the requests")
        return out.print(f"no {report['role']}" + (f" (was {report['build_id']})" if report["build_id"] else ""))
    if "reason" in report:
        return out.print(f"[bold]{report['build_id']}[/] is retired (was {report['was']}): {escape(report['reason'])}")
    return out.print(f"In service: [bold]{report['build_id']}[/] (was {report['was']})")


def pruned(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`models retire --prune`."""
    if as_json:
        return emit_json(report)
    return out.print(f"{len(report['pruned'])} retired builds deleted, {report['freed_bytes'] / 1e6:.1f} MB freed")


def exported(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`models export`."""
    if as_json:
        return emit_json(report)
    return out.print(
        f"{report['runs']} runs in {escape(report['out'])}. Look at them with `{escape(report['look'])}` "
        f"(`pip install mlflow`)."
    )


def shadowed(report: Mapping[str, Any], *, as_json: bool) -> None:
    """What a shadow saw."""
    if as_json:
        return emit_json(report)
    if not report["surfaces"]:
        return out.print("No shadow has scored a request yet.")
    out.print(
        f"[bold]{report['shadow']}[/] beside {report['beside']}: {report['scored']:,} requests scored, "
        f"{report['dropped']:,} not (the queue was full), {report['failed']:,} failed"
    )
    columns = [
        "surface",
        "requests",
        "overlap@10",
        "same list",
        "moved by",
        "first slot same",
        "ms, shadow",
        "ms, served",
    ]
    grid = _grid("", columns)
    for name, one in report["surfaces"].items():
        overlap = one["overlap_at_10"]
        grid.add_row(
            escape(name), f"{one['n']:,}", f"{overlap['mean']:.3f} [{overlap['low']:.3f}, {overlap['high']:.3f}]",
            f"{one['same_list']:.1%}", f"{one['moved']['mean']:.2f}", f"{one['same_first']:.1%}",
            f"{one['latency_ms']['shadow']['p50']:.2f} / {one['latency_ms']['shadow']['p95']:.2f}",
            f"{one['latency_ms']['served']['p50']:.2f} / {one['latency_ms']['served']['p95']:.2f}",
        )  # fmt: skip
    out.print(grid)
    for name, one in report["surfaces"].items():
        for head, diff in one["heads"].items():
            out.print(
                f"  {escape(name)}, {escape(head)}: {diff['mean']:+.4f} [{diff['low']:+.4f}, {diff['high']:+.4f}] on "
                f"items that both show, {diff['absolute']:.4f} apart"
            )
    return None


def retrained(report: Mapping[str, Any], *, as_json: bool) -> None:
    """`retrain`."""
    if as_json:
        return emit_json(report)
    if report["needed"] is not None:
        out.print("[bold]Retraining is needed[/]" if report["needed"] else "[bold]No retraining is needed[/]")
    for one in report["reasons"]:
        mark = "[yellow]•[/]" if one["calls"] else "[dim]•[/]"
        out.print(f"  {mark} {escape(one['says'])}")
    if report["build_id"] is not None:
        colour = "green" if report["promoted"] else "yellow"
        out.print(f"[{colour}]{report['build_id']}[/]: {escape(report['verdict'])}")
    return None
