"""The dataset card of a build: what its heads learnt from, in figures that a person can check."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.errors import BuildError
from honeyguide.features.definition import FeatureSet
from honeyguide.flows.data import Dataset
from honeyguide.flows.layout import Layout
from honeyguide.flows.training import FIXED, known_column, label_column, read_sampling
from honeyguide.ranking.heads import HeadConfig
from honeyguide.schema import columns as c
from honeyguide.schema.tables import TRAINING_SET

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

__all__ = ["CARD", "READABLE", "card_of", "describe", "markdown", "write_card"]

CARD = "card.json"
READABLE = "card.md"

_FROM = {
    "next items": "what people took next, among the candidates that the sources brought them then",
    "impressions": "what people did with what they were shown, joined by request and item (by person and item where an "
    "event names no request)",
    "events": "events, and what followed them on the same person and item within a day",
}


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    """`card.json` for machines and `card.md` for people."""
    (folder / CARD).write_bytes(msgspec.json.format(msgspec.json.encode(card)))
    (folder / READABLE).write_text(markdown(card), encoding="utf-8")


def card_of(folder: Path, build_id: str | None = None) -> dict[str, Any]:
    """The card of a build (default: the one in service) with its id; BuildError if the build is older than cards."""
    layout = Layout.open(folder)
    build = build_id or layout.current_build()
    folders = msgspec.json.decode(layout.manifest(build).read_bytes())["folders"]
    path = layout.root / folders["card"] / CARD if "card" in folders else None
    if path is None or not path.exists():
        raise BuildError(
            expected=f"a dataset card of {build}",
            got="a build without one",
            do=f"Run `honeyguide build {layout.root}`.",
        )
    return {"build_id": build, **msgspec.json.decode(path.read_bytes())}


def describe(
    data: Dataset, features: FeatureSet, heads: Sequence[HeadConfig], training: Path,
    reports: Sequence[Mapping[str, Any]], refused: Mapping[str, str], quarantined: Mapping[str, int],
) -> dict[str, Any]:  # fmt: skip
    """The card as plain values.

    training: the folder of the training set; reports: what became of each head; refused: sources that could not be
    fitted, and why; quarantined: rows kept out of the tables, by reason.
    """
    events = data.interactions
    counts = np.bincount(events.action, minlength=len(events.actions))
    card: dict[str, Any] = {
        "data": {
            "fingerprint": data.fingerprint,
            "versions": dict(data.versions),
            "content": dict(data.snapshots),
            "logs": dict(data.logs),
            "events": len(events),
            "people": len(data.users),
            "items": len(data.catalog),
            "first": _iso(events.at[0]) if len(events) else None,
            "last": _iso(events.at[-1]) if len(events) else None,
            "actions": {name: int(n) for name, n in zip(events.actions, counts, strict=True) if n},
        },
        "training_set": None, "heads": [], "features": [], "sampling": {}, "left_out": [],
    }  # fmt: skip
    if heads:
        _of_training(card, events.at, features, heads, training, reports)
    card["left_out"] += [
        *({"what": f"rows refused at the gate: {reason}", "n": n, "why": "see `honeyguide quarantine list`"}
          for reason, n in quarantined.items()),
        *({"what": f"source {name}", "n": None, "why": why} for name, why in refused.items()),
    ]  # fmt: skip
    return card


def _of_training(
    card: dict[str, Any], at: Any, features: FeatureSet, heads: Sequence[HeadConfig], training: Path,
    reports: Sequence[Mapping[str, Any]],
) -> None:  # fmt: skip
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    told = read_sampling(training)
    with pq.ParquetFile(training / f"{TRAINING_SET.name}.parquet") as file:
        rows = file.metadata.num_rows
        of = file.read([c.USER_ID, c.ITEM_ID, c.HAPPENED_AT, c.GROUP_ID, c.ORIGIN])
        origins = {one["values"]: one["counts"] for one in pc.value_counts(of[c.ORIGIN]).to_pylist()}
        span = pc.min_max(of[c.HAPPENED_AT]).as_py()
        card["training_set"] = {
            "rows": rows,
            "questions": pc.count_distinct(of[c.GROUP_ID], mode="only_valid").as_py(),
            "people": pc.count_distinct(of[c.USER_ID].filter(pc.not_equal(of[c.USER_ID], ""))).as_py(),
            "items": pc.count_distinct(of[c.ITEM_ID]).as_py(),
            "first": span["min"].isoformat() if rows else None,
            "last": span["max"].isoformat() if rows else None,
            "origins": dict(sorted(origins.items())),
        }
        rate = file.read([c.SAMPLING_RATE])[c.SAMPLING_RATE].to_numpy()
        became = {report["name"]: report for report in reports}
        card["heads"] = [_head(head, file, rate, told["heads"][head.name], became.get(head.name, {})) for head in heads]
        fixed = {*map(str, FIXED), *(of(head.name) for head in heads for of in (label_column, known_column))}
        names = [name for name in file.schema_arrow.names if name not in fixed]
        card["features"] = list(_features(names, features, file))
    card["sampling"] = told
    card["left_out"] += [
        {"what": "events before the labels begin", "n": int(np.searchsorted(at, told["since"])),
         "why": "the sources that bring candidates have seen them; features look at them"},
        *({"what": f"{part['unit']} not drawn ({', '.join(part['heads'])})", "n": part["of"] - part["drawn"],
           "why": f"{part['drawn']:,} of {part['of']:,} were drawn; the newest are kept to decide on heads that rank"
           if "negatives" in part else f"{part['drawn']:,} of {part['of']:,} were drawn, evenly"}
          for part in told["parts"]),
        *({"what": what, "n": n, "why": "nothing is known of them"} for what, n in told["left_out"].items()),
        *({"what": f"head {name}", "n": None, "why": report["reason"]} for name, report in became.items()
          if not report["on"]),
    ]  # fmt: skip


def _head(head: HeadConfig, file: pq.ParquetFile, rate: Any, told: str, report: Mapping[str, Any]) -> dict[str, Any]:
    label = _numbers(file.read([label_column(head.name)]))
    known = ~np.isnan(label)
    weight = 1.0 / rate[known]
    return {
        "name": head.name, "kind": head.kind, "action": head.action, "given": head.given,
        "min_value": head.min_value, "max_value": head.max_value, "labels_from": told, "means": _FROM[told],
        "rows": int(known.sum()), "unknown": int((~known).sum()), "positives": int((label == 1.0).sum()),
        "rate": float(label[known].mean()) if known.any() else None,
        "rate_before_sampling": float(np.average(label[known], weights=weight)) if known.any() else None,
        "on": report.get("on"), "reason": report.get("reason"),
    }  # fmt: skip


def _features(names: Sequence[str], features: FeatureSet, file: pq.ParquetFile) -> Iterator[dict[str, Any]]:
    said = {one.name: one for one in features.explain()}
    for name in names:
        value = _numbers(file.read([name]))
        known = value[~np.isnan(value)]
        one = said.get(name)
        figures = (known.min(), np.median(known), known.max()) if len(known) else (None, None, None)
        low, middle, high = (None if x is None else float(x) for x in figures)
        yield {
            "name": name,
            "of": one.entity if one is not None else "candidate",
            "meaning": one.meaning if one is not None else _of_retrieval(name),
            "window": one.window if one is not None else "the request",
            "missing": 1.0 - len(known) / len(value) if len(value) else 0.0,
            "min": low, "median": middle, "max": high,
        }  # fmt: skip


def _of_retrieval(name: str) -> str:
    if name == "blend":
        return "score of all sources together"
    return f"score of {name.removeprefix('source_')}, relative to its best in the request"


def _numbers(table: pa.Table) -> Any:
    import pyarrow.compute as pc

    return pc.fill_null(table.column(0), np.nan).to_numpy()


def _iso(at_us: Any) -> str:
    return dt.datetime.fromtimestamp(int(at_us) / 1e6, dt.UTC).isoformat(timespec="seconds")


# ------------------------------------------------------------------------------------------------ for people to read


def markdown(card: Mapping[str, Any]) -> str:
    """The card as Markdown."""
    data, made = card["data"], card["training_set"]
    lines = [
        "# Dataset card", "",
        f"{data['events']:,} events of {data['people']:,} people on {data['items']:,} items, {data['first']} to "
        f"{data['last']}: " + ", ".join(f"{name} {n:,}" for name, n in data["actions"].items()) + ".", "",
        *_table(("table", "version", "content (SHA-256)"),
                [(name, version, data["content"].get(name, "")[:16]) for name, version in data["versions"].items()]),
    ]  # fmt: skip
    if made is None:
        return "\n".join([*lines, "There are no heads, so there is no training set.", ""])
    origins = ", ".join(f"{n:,} {origin}" for origin, n in made["origins"].items())
    lines += [
        "## Training set", "",
        f"{made['rows']:,} rows ({origins}) about {made['people']:,} people and {made['items']:,} items, in "
        f"{made['questions']:,} questions, {made['first']} to {made['last']}.", "",
        *_table(("head", "outcome", "labels from", "rows", "positives", "rate", "before sampling", "unknown"),
                [_head_row(head) for head in card["heads"]]),
        *(f"- {head['name']}: {head['means']}." for head in card["heads"]), "",
        "## Sampling", "", *_sampling(card["sampling"]), "",
        "## Left out", "",
        *_table(("what", "how many", "why"),
                [(one["what"], "" if one["n"] is None else f"{one['n']:,}", one["why"]) for one in card["left_out"]]),
        "## Features", "",
        *_table(("feature", "meaning", "looks at", "missing", "min", "median", "max"),
                [(f["name"], f["meaning"], f["window"], f"{f['missing']:.1%}", *map(_short, (f["min"], f["median"],
                  f["max"]))) for f in card["features"]]),
    ]  # fmt: skip
    return "\n".join(lines)


def _head_row(head: Mapping[str, Any]) -> tuple[str, ...]:
    bounds = [f">= {head['min_value']:g}"] if head["min_value"] is not None else []
    bounds += [f"<= {head['max_value']:g}"] if head["max_value"] is not None else []
    outcome = " ".join([head["action"], *bounds]) + (f" given {head['given']}" if head["given"] else "")
    share = [("" if rate is None else f"{rate:.2%}") for rate in (head["rate"], head["rate_before_sampling"])]
    counts = [f"{head[name]:,}" for name in ("rows", "positives")]
    return (head["name"], outcome, head["labels_from"], *counts, *share, f"{head['unknown']:,}")


def _sampling(told: Mapping[str, Any]) -> list[str]:
    lines = []
    for part in told["parts"]:
        said = f"{part['drawn']:,} of {part['of']:,} {part['unit']}"
        if "negatives" in part:
            said += f", each with {part['negatives_per_request']} candidates drawn by the rule `{part['negatives']}`"
        if "horizon_hours" in part:
            said += f"; an outcome counts for {part['horizon_hours']:g} hours, and is unknown until they are over"
        lines.append(f"- {', '.join(part['heads'])}: {said}.")
    lines.append(
        f"- Seed {told['seed']}. Impressions with an outcome: {told['requests_with_an_outcome']:,} requests; heads "
        f"without a condition, and those that rank, learn from them from {told['least_requests']:,} on."
    )
    lines.append(f"- Every row holds its `{c.SAMPLING_RATE}`; weighed by its inverse, rows count as before sampling.")
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Nothing.", ""]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
