"""Where a log of decisions comes from: a file of them, another tool's export, events with impressions, a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from honeyguide.contracts import Progress
from honeyguide.errors import DataError
from honeyguide.flows.check import impressions
from honeyguide.flows.data import held
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading import sources_of_data
from honeyguide.intake import foreign
from honeyguide.intake.actions import impressions_among
from honeyguide.intake.datasets import DATASETS
from honeyguide.intake.files import read
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import DECISIONS, EVENTS

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Found", "find_log"]

_EXPORTS = ("dsjson", "open_bandit")
_LISTS = (c.OFFERED, c.PROBABILITIES)


@dataclass(frozen=True, slots=True)
class Found:
    """Decisions, what they are a log of, and what a person should know about how they were read."""

    table: pa.Table
    kind: str
    notes: tuple[str, ...]


def find_log(
    log: Path,
    *,
    mapping: Mapping[str, str] | None = None,
    reward: str | None = None,
    surface: str | None = None,
    progress: Progress | None = None,
) -> Found:
    """The decisions of `log`: a workspace, a Parquet, CSV or JSON-lines file, a DSJSON or Open Bandit export, or the
    name of a dataset. reward: the column of rewards, or the action that counts as one where the log holds events.
    """
    if not log.exists() and str(log) in DATASETS:
        files = sources_of_data.fetch(str(log), progress=progress)["files"]
        return find_log(Path(files[EVENTS.name]), mapping=mapping, reward=reward, surface=surface)
    if (log / "honeyguide.toml").exists():
        return _workspace(log, reward, surface)
    if not mapping:
        export = foreign.detect(log)
        if export is not None and export.importer.format in _EXPORTS:
            return _export(log, reward)
    raw = read(log)
    notes = list(raw.notes)
    if raw.refused:
        notes.append(f"{len(raw.refused):,} lines could not be read (the first: row {raw.refused[0].row_number}).")
    table = _renamed(raw.table, mapping or {})
    if c.CHOSEN not in table.column_names and {c.ACTION, c.ITEM_ID, c.PROPENSITY} <= set(table.column_names):
        table, more = _from_events(table, reward, surface)
        return Found(table, "events with impressions", (*notes, *more))
    if reward is not None and reward != c.REWARD:
        table = _reward_column(table, reward)
    return Found(_typed(table), "decisions", tuple(notes))


def _export(path: Path, reward: str | None) -> Found:
    found = foreign.decisions(path)
    if reward is not None and reward != c.REWARD:
        raise DataError(
            expected=f"no --reward, or {c.REWARD}",
            got=repr(reward),
            do="This format has one reward; leave --reward out.",
        )
    notes = list(found.notes)
    if found.quarantine.num_rows:
        why = sorted({str(one) for one in found.quarantine[c.REASON].to_pylist()})
        notes.append(f"{found.quarantine.num_rows:,} of {found.rows_in:,} lines were refused: {', '.join(why)}.")
    return Found(found.table, "another tool's decisions", tuple(notes))


def _renamed(table: pa.Table, mapping: Mapping[str, str]) -> pa.Table:
    known = {str(column) for column in (*DECISIONS.columns, *EVENTS.columns)}
    names = list(table.column_names)
    for ours, theirs in mapping.items():
        if ours not in known:
            raise DataError(
                expected=f"a column of ours: {', '.join(str(column) for column in DECISIONS.columns)}",
                got=repr(ours),
                do="Write --map OURS=THEIRS.",
            )
        if theirs not in names:
            raise DataError(expected=f"a column `{theirs}`", got=", ".join(names[:12]), do="Check --map.")
        names = [ours if name == theirs else f"{name} " if name == ours else name for name in names]
    return table.rename_columns(names)


def _reward_column(table: pa.Table, reward: str) -> pa.Table:
    if reward not in table.column_names:
        raise DataError(
            expected=f"a column `{reward}`", got=", ".join(table.column_names[:12]), do="Name a column with --reward."
        )
    if c.REWARD in table.column_names:
        table = table.drop_columns([c.REWARD])
    return table.rename_columns([str(c.REWARD) if name == reward else name for name in table.column_names])


def _typed(table: pa.Table) -> pa.Table:
    """Text files' cells in the columns' types; empty cells are nulls. What is no number stays text, to be refused."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for at, name in enumerate(table.column_names):
        column = table.column(at)
        if not pa.types.is_string(column.type):
            continue
        column = pc.if_else(pc.equal(column, ""), None, column)
        if name in _LISTS:
            column = _lists(column, name)
        elif name == c.POSITION:
            column = _cast(column, pa.int32(), c.POSITION)
        elif name == c.HAPPENED_AT:
            column = _cast(column, pa.timestamp("us", tz="UTC"), c.HAPPENED_AT)
        table = table.set_column(at, name, column)
    return table


def _cast(column: pa.ChunkedArray, kind: pa.DataType, name: Column) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        said = " ".join(str(error).split())[:120]
        raise DataError(expected=f"`{name}` as {kind}", got=said, do="Write it so, or leave the column out.") from error


def _lists(column: pa.ChunkedArray, name: str) -> pa.Array:
    """JSON lists, or values between bars: `a|b|c`."""
    import pyarrow as pa

    made: list[Any] = []
    for cell in column.to_pylist():
        if cell is None:
            made.append(None)
        elif cell.lstrip().startswith("["):
            try:
                made.append(msgspec.json.decode(cell))
            except msgspec.DecodeError as error:
                raise DataError(
                    expected=f"a JSON list in `{name}`", got=repr(cell[:60]), do="Write a list, or a|b|c."
                ) from error
        else:
            made.append(cell.split("|"))
    try:
        if name == c.OFFERED:
            return pa.array(
                [None if cell is None else [str(one) for one in cell] for cell in made], pa.list_(pa.string())
            )
        numbers = [None if cell is None else [float(one) for one in cell] for cell in made]
        return pa.array(numbers, pa.list_(pa.float64()))
    except (TypeError, ValueError) as error:
        raise DataError(expected=f"lists in `{name}`", got=str(error)[:80], do="Write a list, or a|b|c.") from error


def _from_events(table: pa.Table, reward: str | None, surface: str | None) -> tuple[pa.Table, list[str]]:
    """Impressions with a propensity are decisions; an action of the same request and item is their reward."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.REQUEST_ID not in table.column_names:
        raise DataError(
            expected=f"a column `{c.REQUEST_ID}` that ties actions to impressions",
            got="none",
            do="Log the request's id.",
        )
    if surface is not None:
        table = table.filter(pc.equal(table[c.SURFACE], surface))
    names = [str(one) for one in pc.unique(table[c.ACTION]).to_pylist()]
    shown_as = impressions_among(names)
    counted = _action(sorted(set(names) - set(shown_as)), reward)
    shown = table.filter(pc.is_in(table[c.ACTION], pa.array(sorted(shown_as), pa.string())))
    acted = table.filter(pc.equal(table[c.ACTION], counted))
    keep = {
        c.REQUEST_ID: c.REQUEST_ID, c.POSITION: c.POSITION, c.HAPPENED_AT: c.HAPPENED_AT, c.CONTEXT: c.CONTEXT,
        c.EXPERIMENT: c.POLICY_VERSION, c.POLICY_VERSION: c.POLICY_VERSION, c.ITEM_ID: c.CHOSEN,
        c.PROPENSITY: c.PROPENSITY, c.SURFACE: c.SURFACE,
    }  # fmt: skip
    made = {str(there): shown[here] for here, there in keep.items() if here in shown.column_names}
    made[str(c.REWARD)] = pa.array(_happened(shown, acted), pa.float64())
    notes = [f"A reward is 1 where `{counted}` followed on the same item of the same request, else 0."]
    return pa.table(made), notes


def _action(names: list[str], reward: str | None) -> str:
    if reward is not None and reward in names:
        return reward
    if reward is None and len(names) == 1:
        return names[0]
    raise DataError(
        expected="the action that counts as a reward",
        got=repr(reward) if reward is not None else f"{len(names)} kinds of action",
        do=f"Name one with --reward: {', '.join(names[:8]) or 'the log holds no action but impressions'}.",
    )


def _happened(shown: pa.Table, acted: pa.Table) -> list[float]:
    pairs = set(zip(acted[c.REQUEST_ID].to_pylist(), acted[c.ITEM_ID].to_pylist(), strict=True))
    rows = zip(shown[c.REQUEST_ID].to_pylist(), shown[c.ITEM_ID].to_pylist(), strict=True)
    return [float(row in pairs) for row in rows]


def _workspace(folder: Path, reward: str | None, surface: str | None) -> Found:
    """Impressions of a served workspace, a row per slot, and the events of the same requests."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    layout = Layout.open(folder)
    shown = impressions(layout)
    if shown is None:
        raise DataError(
            expected=f"impressions in {folder}",
            got="none: nothing was served yet",
            do="Serve it, and log the requests.",
        )
    notes = []
    surfaces = sorted(str(one) for one in pc.unique(shown[c.SURFACE]).to_pylist())
    if surface is None and len(surfaces) > 1:
        raise DataError(expected="one surface", got=", ".join(surfaces), do="Choose one with --surface.")
    if surface is not None:
        shown = shown.filter(pc.equal(shown[c.SURFACE], surface))
    fallen = pc.is_valid(shown[c.FALLBACK])
    if pc.any(fallen).as_py():
        notes.append(f"{pc.sum(fallen).as_py():,} answers of the fallback are left out: the policy did not make them.")
        shown = shown.filter(pc.invert(fallen))
    sizes = shown[c.SHOWN_ITEMS].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    if not sizes.sum():
        raise DataError(expected="lists that were shown", got="none on this surface", do="Check --surface.")
    row = np.repeat(np.arange(shown.num_rows), sizes)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    flat = {name: shown[name].take(pa.array(row)) for name in (
        c.REQUEST_ID, c.HAPPENED_AT, c.POLICY_VERSION, c.CONTEXT, c.USER_ID
    )}  # fmt: skip
    table = pa.table({
        **{str(name): column for name, column in flat.items()},
        str(c.POSITION): pa.array(np.arange(len(row)) - starts + 1, pa.int32()),
        str(c.CHOSEN): shown[c.SHOWN_ITEMS].combine_chunks().flatten(),
        str(c.PROPENSITY): shown[c.SHOWN_PROPENSITIES].combine_chunks().flatten(),
        str(c.ITEM_ID): shown[c.SHOWN_ITEMS].combine_chunks().flatten(),
    })  # fmt: skip
    events = held(layout, EVENTS, columns=(c.ITEM_ID, c.ACTION, c.REQUEST_ID))
    events = events.filter(events[c.REQUEST_ID].is_valid())
    names = sorted(str(one) for one in pc.unique(events[c.ACTION]).to_pylist())
    counted = _action(sorted(set(names) - set(impressions_among(names))), reward)
    acted = events.filter(pc.equal(events[c.ACTION], counted))
    table = table.append_column(str(c.REWARD), pa.array(_happened(table, acted), pa.float64())).drop_columns(
        [c.ITEM_ID]
    )
    notes.append(f"A reward is 1 where `{counted}` followed on the same item of the same request, else 0.")
    return Found(table, "a workspace's impressions", tuple(notes))
