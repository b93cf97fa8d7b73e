"""A log of decisions as arrays, and the refusal of one that cannot be used."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from honeyguide.contracts import F64, I32, I64, BoolArray, Ragged
from honeyguide.errors import DataError
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["MOST_PAIRS", "DecisionLog", "Facts", "decision_log", "prepared"]

_NEAR = 1e-6  # how far probabilities may be from their sum, and a propensity from its probability
_LEAST, _MOST = 1e-12, 1e12  # propensity and reward: beyond, sums of cubes say nothing in 64 bits
_NEEDED = (c.CHOSEN, c.PROPENSITY, c.REWARD)
MOST_PAIRS = 50_000_000  # decisions x offered actions, 400 MB per array of float64


@dataclass(frozen=True, slots=True)
class Facts:
    """The contexts' keys as columns: categories coded, numbers as they are."""

    codes: dict[str, tuple[I32, list[str]]]  # key -> (n,) code, -1 where absent; the names
    numbers: dict[str, F64]  # key -> (n,), nan where absent


@dataclass(frozen=True, slots=True)
class DecisionLog:
    """n decisions, ordered by request and slot. An action is a code into `actions`."""

    actions: list[str]
    chosen: I32  # (n,)
    reward: F64  # (n,)
    propensity: F64  # (n,) of the chosen action, in (0, 1]
    offered: Ragged  # codes per decision
    place: I64  # (n,) where the chosen action stands in offered.values
    probabilities: (
        F64 | None
    )  # (pairs,) the logging policy's, aligned with offered.values; None: only the chosen's known
    request: I64  # (n,) dense request number
    request_ids: list[str]
    position: I32  # (n,) slot, 1 = first
    unit: I64  # (n,) dense number of the independent unit: the person where known, else the request
    n_units: int
    at: I64 | None  # (n,) microseconds
    context: I32  # (n,) code into contexts, -1 none
    contexts: list[str]  # distinct JSON texts
    facts: Facts
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def decision(self) -> I64:
        """(pairs,) the decision of every offered action."""
        return np.repeat(np.arange(len(self)), np.diff(self.offered.indptr))

    @property
    def is_slates(self) -> bool:
        """Whether some request has several slots."""
        return len(self.request_ids) < len(self)


def decision_log(
    table: pa.Table,
    *,
    catalog: Collection[str] | None = None,
    logged_by: str | None = None,
    missing_reward: float | None = None,
) -> DecisionLog:
    """A table with the columns of DECISIONS (`user_id` too, if it has one) as arrays, or a DataError with the reason.

    Needed: chosen, propensity, reward. Without request ids every row is a request; without `offered` every action of
    the log counts as offered. catalog: what may be chosen at all. logged_by: the one policy version to keep.
    missing_reward: what a null reward is worth; without it a null refuses the log.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for column in _NEEDED:
        if column not in table.column_names:
            raise DataError(
                expected=f"a column `{column}`: {column.meaning}",
                got=", ".join(table.column_names[:12]) or "no columns",
                do=f"Name it with --map {column}=THEIRS.",
            )
    notes: list[str] = []
    table = prepared(table, logged_by)
    if table.num_rows < 2:
        raise DataError(
            expected="at least two decisions: one has no spread, so nothing can be said of its error",
            got=f"{table.num_rows}",
            do="Give a longer log.",
        )
    n = table.num_rows
    chosen_text = table[c.CHOSEN].cast(pa.string())
    if chosen_text.null_count:
        _refuse_rows(
            "a chosen action in every row", pc.is_null(chosen_text).to_numpy(), "nothing", "Log what was shown."
        )
    propensity = _numbers(table, c.PROPENSITY)
    _refuse_rows(
        "propensities above 0 and at most 1",
        ~((propensity >= _LEAST) & (propensity <= 1 + _NEAR)),
        propensity,
        "What was chosen had a chance above zero: log the probability with which it was drawn, at the time it was.",
    )
    reward = _rewards(table, missing_reward, notes)
    offered_lists = _offered(table, n)
    chosen_names = pc.unique(chosen_text).to_pylist()
    if offered_lists is None:
        actions = sorted(chosen_names)
        if catalog is not None:
            actions = sorted({*actions, *catalog})
    else:
        actions = sorted({*pc.unique(offered_lists.flatten()).to_pylist(), *chosen_names})
    known = pa.array(actions, pa.string())
    chosen = pc.index_in(chosen_text, known).to_numpy().astype(np.int32)
    if catalog is not None:
        allowed = np.isin(np.array(actions, object), np.array(list(catalog), object))
        bad = ~allowed[chosen]
        _refuse_rows("actions of the catalog", bad, np.array(actions, object)[chosen], "Give the catalog the log used.")
    if offered_lists is None:
        if n * len(actions) > MOST_PAIRS:
            raise DataError(
                expected=f"a column `{c.OFFERED}`, or at most {MOST_PAIRS:,} pairs of decision and action",
                got=f"{n:,} decisions and {len(actions):,} actions without it",
                do="Log what was offered at each decision: each action may have been possible nowhere else.",
            )
        offered, less = _all_but_above(table, chosen, len(actions))
        notes.append(
            f"The log does not say what was offered: all {len(actions):,} actions it knows{less} are taken so."
        )
    else:
        lengths = pc.list_value_length(offered_lists).to_numpy(zero_copy_only=False)
        values = pc.index_in(offered_lists.flatten(), known).to_numpy(zero_copy_only=False).astype(np.int32)
        offered = Ragged(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), values)
    place = _place(offered, chosen, n, actions)
    probabilities = _probabilities(table, offered, place, propensity, notes, known_offers=offered_lists is not None)
    request, request_ids, position = _requests(table, n)
    unit, n_units = _units(table, request, len(request_ids), notes)
    context, contexts = _contexts(table, n)
    at = table[c.HAPPENED_AT].cast(pa.int64()).to_numpy() if _filled(table, c.HAPPENED_AT) else None
    return DecisionLog(
        actions, chosen, reward, np.minimum(propensity, 1.0), offered, place, probabilities, request, request_ids,
        position, unit, n_units, at, context, contexts, _facts(context, contexts), tuple(notes),
    )  # fmt: skip


def prepared(table: pa.Table, logged_by: str | None = None) -> pa.Table:
    """The decisions of one policy, by request and slot: the order of a DecisionLog's rows. Empty columns go."""
    filled = [name for name in table.column_names if table[name].null_count < table.num_rows or name in _NEEDED]
    return _in_order(_one_policy(table.select(filled), logged_by))


# ------------------------------------------------------------------------------------------------------- columns


def _filled(table: pa.Table, column: str) -> bool:
    return column in table.column_names and table[column].null_count == 0


def _one_policy(table: pa.Table, logged_by: str | None) -> pa.Table:
    import pyarrow.compute as pc

    if c.POLICY_VERSION not in table.column_names:
        if logged_by is not None:
            raise DataError(
                expected=f"a column `{c.POLICY_VERSION}` to choose {logged_by!r} from",
                got="none",
                do="Leave --logged-by out, or name the column with --map.",
            )
        return table
    versions = sorted(str(one) for one in pc.unique(table[c.POLICY_VERSION]).to_pylist() if one is not None)
    if logged_by is not None:
        if logged_by not in versions:
            raise DataError(
                expected=f"one of the log's policies: {', '.join(versions[:8])}", got=repr(logged_by), do="Name one."
            )
        return table.filter(pc.equal(table[c.POLICY_VERSION], logged_by))
    if len(versions) > 1:
        raise DataError(
            expected="decisions of one logging policy",
            got=f"{len(versions)}: {', '.join(versions[:8])}",
            do="Choose one with --logged-by: mixed logs hide a wrong propensity of either.",
        )
    return table


def _in_order(table: pa.Table) -> pa.Table:
    """By request and slot, requests in the order in which they came first."""
    if c.REQUEST_ID not in table.column_names or c.POSITION not in table.column_names:
        return table
    import pyarrow.compute as pc

    if table[c.REQUEST_ID].null_count:
        bad = pc.is_null(table[c.REQUEST_ID]).to_numpy()
        _refuse_rows("a request id in every row", bad, "nothing", "Log the request, or leave the column out.")
    first = pc.dictionary_encode(table[c.REQUEST_ID]).combine_chunks().indices.to_numpy()
    return table.take(np.lexsort((_positions(table), first)))


def _positions(table: pa.Table) -> I64:
    slot = _numbers(table, c.POSITION)
    bad = ~((slot >= 0) & (slot % 1 == 0) & (slot < 1_000_000))
    _refuse_rows("a slot of the list, 1 = first, in every row", bad, slot, "Number the slots, or leave the column out.")
    return slot.astype(np.int64)


def _numbers(table: pa.Table, column: str) -> F64:
    import pyarrow as pa

    try:
        cells = table[column].cast(pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(
            expected=f"numbers in `{column}`", got=" ".join(str(error).split())[:120], do="Write them as numbers."
        ) from error
    return np.array(cells.to_numpy(zero_copy_only=False), np.float64)


def _rewards(table: pa.Table, missing: float | None, notes: list[str]) -> F64:
    reward = _numbers(table, c.REWARD)
    absent = np.asarray(table[c.REWARD].is_null())
    if absent.any() and missing is not None:
        reward = np.where(absent, missing, reward)
        notes.append(f"{int(absent.sum()):,} missing rewards were taken as {missing:g}, as asked.")
    _refuse_rows(
        "a finite reward in every row",
        ~(np.abs(reward) <= _MOST),
        np.where(absent, np.nan, reward),
        "If no event means nothing was earned, say so with --missing-reward 0; otherwise join the outcomes first.",
    )
    return reward


def _offered(table: pa.Table, n: int) -> pa.ListArray | None:
    import pyarrow as pa

    if c.OFFERED not in table.column_names or table[c.OFFERED].null_count == n:
        return None
    lists = table[c.OFFERED].combine_chunks()
    if not pa.types.is_list(lists.type) and not pa.types.is_large_list(lists.type):
        raise DataError(
            expected=f"a list of actions in `{c.OFFERED}`", got=str(lists.type), do="Write it as a list, or JSON text."
        )
    empty = np.asarray(lists.is_null()) | (lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False) == 0)
    _refuse_rows("offered actions in every row, or in none", empty, "none", "Log what could have been chosen.")
    return lists.cast(pa.list_(pa.string()))


def _all_but_above(table: pa.Table, chosen: I32, actions: int) -> tuple[Ragged, str]:
    """Every action at every decision; in lists that never show one twice, without those that stand above."""
    request, _, _ = _requests(table, len(chosen))
    n = len(chosen)
    open_ = np.ones((n, actions), np.bool_)
    again = False
    for back in range(1, int(np.bincount(request).max())):
        same = np.flatnonzero(request[back:] == request[:-back]) + back
        above = chosen[same - back]
        again |= bool((above == chosen[same]).any())
        open_[same, above] = False
    lists = len(np.unique(request)) < n and not again
    if not lists:
        open_[:] = True
    rows, values = np.nonzero(open_)
    sizes = np.bincount(rows, minlength=n)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return Ragged(indptr, values.astype(np.int32)), ", less those above in the list," if lists else ""


def _place(offered: Ragged, chosen: I32, n: int, actions: list[str]) -> I64:
    decision = np.repeat(np.arange(n), np.diff(offered.indptr))
    ordered = np.lexsort((offered.values, decision))
    same = (np.diff(decision[ordered]) == 0) & (np.diff(offered.values[ordered]) == 0)
    if same.any():
        twice = np.zeros(n, np.bool_)
        twice[decision[ordered][1:][same]] = True
        _refuse_rows("each action offered once", twice, "one twice", "Write each offered action once.")
    hit = np.flatnonzero(offered.values == chosen[decision])
    place = np.full(n, -1, np.int64)
    place[decision[hit]] = hit
    names = np.array(actions, object)[chosen]
    _refuse_rows("the chosen action among the offered", place < 0, names, "Log every action that could be chosen.")
    return place


def _probabilities(
    table: pa.Table, offered: Ragged, place: I64, propensity: F64, notes: list[str], *, known_offers: bool
) -> F64 | None:
    import pyarrow as pa

    n = len(propensity)
    sizes = np.diff(offered.indptr)
    if c.PROBABILITIES in table.column_names and table[c.PROBABILITIES].null_count < n:
        lists = table[c.PROBABILITIES].combine_chunks()
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        _refuse_rows(
            "as many probabilities as offered actions", lengths != sizes, lengths, "Log one for each offered action."
        )
        values = np.array(lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
        decision = np.repeat(np.arange(n), sizes)
        wrong = np.zeros(n, np.bool_)
        wrong[decision[~((values >= 0) & (values <= 1 + _NEAR))]] = True
        _refuse_rows("probabilities from 0 to 1", wrong, "one that is none", "Log what the policy drew from.")
        total = np.bincount(decision, values, n)
        _refuse_rows(
            "probabilities that sum to 1", np.abs(total - 1) > 1e-4, total, "Log those of all offered actions."
        )
        apart = np.abs(values[place] - propensity) > np.maximum(_NEAR, 1e-4 * propensity)
        _refuse_rows(
            "the chosen action's propensity to be its probability",
            apart,
            propensity,
            "One of the two is wrong: mend it.",
        )
        return values
    if (np.abs(propensity * sizes - 1) < 1e-4).all():
        said = "offered" if known_offers else "known"
        notes.append(
            f"Every propensity is one over the number of {said} actions: taken as a uniform choice among them."
        )
        return np.repeat(propensity, sizes)
    return None


def _requests(table: pa.Table, n: int) -> tuple[I64, list[str], I32]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.REQUEST_ID in table.column_names:
        coded = pc.dictionary_encode(table[c.REQUEST_ID].cast(pa.string())).combine_chunks()
        _refuse_rows("a request id in every row", np.asarray(coded.is_null()), "nothing", "Log the request.")
        request, ids = coded.indices.to_numpy().astype(np.int64), coded.dictionary.to_pylist()
    else:
        request, ids = np.arange(n), [str(row) for row in range(n)]
    named = c.POSITION in table.column_names
    position = _positions(table).astype(np.int32) if named else np.ones(n, np.int32)
    again = np.zeros(n, np.bool_)
    again[1:] = (np.diff(request) == 0) & (np.diff(position) == 0)
    if len(ids) < n and len(np.unique(request * (position.max() + 1) + position)) < n:
        order = np.lexsort((position, request))
        again[order[1:]] = (np.diff(request[order]) == 0) & (np.diff(position[order]) == 0)
        _refuse_rows(
            "one row per request and slot", again, "a second one", "Keep the row of the choice that was shown."
        )
    if len(ids) == 1 and n > 1:
        raise DataError(expected="at least two requests", got="one", do="Give a longer log: one request has no spread.")
    return request, ids, position


def _units(table: pa.Table, request: I64, requests: int, notes: list[str]) -> tuple[I64, int]:
    """People are what is independent where the log names them: one person's requests are alike."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.USER_ID not in table.column_names:
        return request, requests
    named = pc.fill_null(table[c.USER_ID].cast(pa.string()), "")
    # Whoever has no name is told apart by the request.
    nobody = pc.binary_join_element_wise("request", pa.array([str(one) for one in request]), ":")
    coded = pc.dictionary_encode(pc.if_else(pc.equal(named, ""), nobody, named))
    coded = coded.combine_chunks() if isinstance(coded, pa.ChunkedArray) else coded
    people = coded.indices.to_numpy().astype(np.int64)
    n = len(coded.dictionary)
    if n < 2 or n >= requests:
        return request, requests
    notes.append(f"The {n:,} people, not their {requests:,} requests, are the independent units.")
    return people, n


def _contexts(table: pa.Table, n: int) -> tuple[I32, list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if c.CONTEXT not in table.column_names:
        return np.full(n, -1, np.int32), []
    coded = pc.dictionary_encode(table[c.CONTEXT].cast(pa.string())).combine_chunks()
    return coded.indices.fill_null(-1).to_numpy().astype(np.int32), coded.dictionary.to_pylist()


def _facts(context: I32, contexts: list[str]) -> Facts:
    """Each key of the JSON contexts as a column; a context that is no object is one category."""
    parsed: list[dict[str, Any]] = []
    for text in contexts:
        try:
            document = msgspec.json.decode(text)
        except msgspec.DecodeError:
            document = text
        parsed.append(_flat(document) if isinstance(document, dict) else {str(c.CONTEXT): str(document)})
    codes: dict[str, tuple[I32, list[str]]] = {}
    numbers: dict[str, F64] = {}
    for key in sorted({key for one in parsed for key in one}):
        cells = [one.get(key) for one in parsed]
        if all(cell is None or (isinstance(cell, int | float) and not isinstance(cell, bool)) for cell in cells):
            column = np.array([np.nan if cell is None else float(cell) for cell in cells] + [np.nan])
            numbers[key] = column[context]
        else:
            texts = [None if cell is None else str(cell) for cell in cells]
            names = sorted({text for text in texts if text is not None})
            at = {name: code for code, name in enumerate(names)}
            coded = np.array([-1 if text is None else at[text] for text in texts] + [-1], np.int32)
            codes[key] = (coded[context], names)
    return Facts(codes, numbers)


def _flat(document: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _refuse_rows(expected: str, bad: BoolArray | npt.NDArray[Any], values: npt.NDArray[Any] | str, do: str) -> None:
    """A DataError that counts the bad rows and shows the first, if there are any."""
    bad = np.asarray(bad, np.bool_)
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        shown = values if isinstance(values, str) else values[first]
        got = f"{int(bad.sum()):,} of {len(bad):,} rows with something else (the first: {shown})"
        raise DataError(expected=expected, got=got, do=do)
