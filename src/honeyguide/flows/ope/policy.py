"""`--policy`: a word, a column of scores, or a file of action probabilities, as a target on a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from honeyguide.contracts import F64, I64
from honeyguide.errors import DataError
from honeyguide.evaluation.replay.log import DecisionLog
from honeyguide.evaluation.replay.policy import PolicyTable, Target, best_of, context_rows, logging, tabled, uniform
from honeyguide.intake.files import read
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["target_policy"]

_BEST = "best-of:"
_ACTION = (str(c.CHOSEN), "action", str(c.ITEM_ID))
_PROBABILITY = (str(c.PROPENSITY), "probability")
_FORMS = "uniform, logging, best-of:COLUMN, or a JSON, CSV or Parquet file of action probabilities"


def target_policy(spec: str, log: DecisionLog, table: pa.Table, *, renormalise: bool = False) -> Target:
    """What `spec` would do at each decision. `table`: the log's rows in the order of `log`, for columns of scores."""
    if spec == "uniform":
        return uniform(log)
    if spec == "logging":
        return logging(log)
    if spec.startswith(_BEST):
        return _best(spec.removeprefix(_BEST), log, table)
    path = Path(spec)
    if not path.exists():
        raise DataError(expected=f"a policy: {_FORMS}", got=repr(spec), do="Check the word or the path.")
    if path.suffix == ".json":
        return _json(path, log, renormalise)
    return _table(path, log, renormalise)


def _best(name: str, log: DecisionLog, table: pa.Table) -> Target:
    """The highest of a list of scores beside the offered actions, or the action that a column names."""
    import pyarrow as pa

    if name not in table.column_names:
        raise DataError(
            expected=f"a column `{name}` in the log", got=", ".join(table.column_names[:12]), do="Name one."
        )
    column = table[name].combine_chunks()
    if pa.types.is_string(column.type) and not str(column[0].as_py() or "").lstrip().startswith("["):
        rows = [str(key) for key in range(len(log))]
        named = PolicyTable(rows, [str(one) for one in column.to_pylist()], np.ones(len(log)))
        return tabled(log, f"{_BEST}{name}", named, np.arange(len(log)), rows, renormalise=False)
    if pa.types.is_string(column.type):
        column = pa.array([msgspec.json.decode(cell) for cell in column.to_pylist()], pa.list_(pa.float64()))
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)):
        raise DataError(
            expected=f"lists of scores, or names of actions, in `{name}`",
            got=str(column.type),
            do="Name another column.",
        )
    lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    if (lengths != np.diff(log.offered.indptr)).any():
        raise DataError(
            expected=f"one score in `{name}` for each offered action",
            got="lists of other lengths",
            do="Align the lists.",
        )
    return best_of(log, name, np.asarray(column.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False)))


def _json(path: Path, log: DecisionLog, renormalise: bool) -> Target:
    """`{"A": 0.7, "B": 0.3}` for all, or `{"VALUE": {"A": ...}}` by the context or the key of it with these values."""
    try:
        document: Any = msgspec.json.decode(path.read_bytes())
    except msgspec.DecodeError as error:
        raise DataError(expected=f"JSON in {path}", got=str(error), do="Mend it.") from error
    if not isinstance(document, dict) or not document:
        raise DataError(expected="an object of action probabilities", got=type(document).__name__, do="Write one.")
    nested = all(isinstance(value, dict) for value in document.values())
    by_key = document if nested else {"": document}
    rows = [(key, action, value) for key, inner in by_key.items() for action, value in inner.items()]
    bad = [value for _, _, value in rows if isinstance(value, bool) or not isinstance(value, int | float)]
    if bad:
        raise DataError(expected="numbers as probabilities", got=repr(bad[0]), do="Give each action's probability.")
    table = PolicyTable(
        [str(key) for key, _, _ in rows], [str(action) for _, action, _ in rows],
        np.array([float(value) for _, _, value in rows]),
    )  # fmt: skip
    if not nested:
        return tabled(log, path.stem, table, np.zeros(len(log), np.int64), [""], renormalise=renormalise)
    of, keys = _matching(log, set(by_key))
    return tabled(log, path.stem, table, of, keys, renormalise=renormalise)


def _matching(log: DecisionLog, values: set[str]) -> tuple[I64, list[str]]:
    """The key of the contexts whose values a table names, or the whole context."""
    for key, (_, names) in log.facts.codes.items():
        if set(names) <= values:
            return context_rows(log, key)
    for key, numbers in log.facts.numbers.items():
        if {f"{one:.15g}" for one in np.unique(numbers)} <= values:
            return context_rows(log, key)
    return context_rows(log, None)


def _table(path: Path, log: DecisionLog, renormalise: bool) -> Target:
    """Columns: an action, its probability, and where they hold: a request (and slot), the context, or one key of it."""
    import pyarrow as pa

    table = read(path).table
    names = set(table.column_names)
    action = next((name for name in _ACTION if name in names), None)
    probability = next((name for name in _PROBABILITY if name in names), None)
    if action is None or probability is None:
        raise DataError(
            expected=f"columns `{_ACTION[0]}` (or {', '.join(_ACTION[1:])}) and `{_PROBABILITY[0]}` (or probability)",
            got=", ".join(table.column_names[:12]),
            do="Write the policy as a table of action probabilities.",
        )
    try:
        values: F64 = np.array(table[probability].cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid as error:
        raise DataError(expected=f"numbers in `{probability}`", got=str(error)[:80], do="Mend the file.") from error
    actions = [str(one) for one in table[action].to_pylist()]

    def made(keys: list[str], of: I64, row_keys: list[str]) -> Target:
        return tabled(log, path.stem, PolicyTable(keys, actions, values), of, row_keys, renormalise=renormalise)

    rest = sorted(names - {action, probability})
    if c.REQUEST_ID in names:
        keys = [str(one) for one in table[c.REQUEST_ID].to_pylist()]
        of, row_keys = log.request, log.request_ids
        if c.POSITION in names:
            slots = [int(one) for one in table[c.POSITION].cast(pa.int64()).to_pylist()]
            keys = [f"{key}\t{slot}" for key, slot in zip(keys, slots, strict=True)]
            row_keys = [f"{log.request_ids[r]}\t{slot}" for r, slot in zip(log.request, log.position, strict=True)]
            of = np.arange(len(log))
        return made(keys, of, row_keys)
    if not rest:
        return made([""] * len(actions), np.zeros(len(log), np.int64), [""])
    if len(rest) == 1:
        of, row_keys = context_rows(log, None if rest[0] == c.CONTEXT else rest[0])
        return made([_text(one) for one in table[rest[0]].to_pylist()], of, row_keys)
    raise DataError(
        expected="one column beside the action and its probability: request_id, context, or a key of it",
        got=", ".join(rest),
        do="Drop the others.",
    )


def _text(value: Any) -> str:
    return f"{value:.15g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
