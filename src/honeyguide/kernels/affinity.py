"""What a candidate has to do with a history, and what is known of the item itself.

One function, `request_rows`, writes these features for the candidates of one request; the training set calls it for
every request, the online state for the one at hand. A history counts as it was known: events at or after the moment,
and items whose facts were not known yet, are not there.

Layouts (a row per feature or group):
    row_i (S, 4) int64: OP, ARG (which fact), LAST (so many newest events), COLUMN
    row_f (S, 2) float64: DECAY (weight of an event against the next newer one), OFFSET_US (local time minus UTC)
    group_i (G, 2) int64: FACET, LAST; group_f (G,) float64: decay (affinities of a group share a pass of the history)
    aff_i (A, 3) int64: GROUP, MEASURE, COLUMN, in order of the group; aff_f (A,) float64: strength of the shrinkage
    facts (n_items, 4) float32: YEAR, PRICE, N_CATEGORIES, N_PEOPLE
    facet_ptr (facets, n_items + 1) int64 into codes: the categories, people, country, and the item itself
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from honeyguide.kernels.aggregates import DAY_US, NONE
from honeyguide.kernels.windows import COLUMN, read_plain, write_row

__all__ = ["read_request", "request_rows", "requests_rows"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

FACT, AGE_DAYS, YEARS_OLD, HOUR, WEEKDAY, LENGTH, LIKING, SINCE_NEWEST, DISTANCE = range(9)  # operations of row_i
SHARE, LIKE, OVERLAP, RECENCY = range(4)  # measures of aff_i
YEAR, PRICE, N_CATEGORIES, N_PEOPLE = range(4)
CATEGORY, PEOPLE, COUNTRY, ITEM = range(4)  # facets
MASS, LIKING_MASS, NEWEST = range(3)  # of a code in the history

HOUR_US = 3_600_000_000
YEAR_US = 365.2425 * DAY_US


@njit(cache=True)
def _of_history(
    op: int, fact: int, last: int, decay: float, now: int,
    h_items: I32, h_weights: F32, h_at: I64, begin: int, end: int, facts: F32, known_at: I64,
) -> float:  # fmt: skip
    """One number of a history: its length, decayed mean weight, days since its newest event, or decayed mean fact."""
    n, weight, mass, total, newest_at = 0, 1.0, 0.0, 0.0, NONE
    for h in range(end - 1, begin - 1, -1):
        item = h_items[h]
        if h_at[h] >= now:
            continue
        if n == last:
            break
        n += 1
        newest_at = max(newest_at, h_at[h])
        if op == LIKING:
            mass += weight
            total += weight * (0.0 if np.isnan(h_weights[h]) else h_weights[h])
        elif (
            op == DISTANCE
            and 0 <= item < known_at.shape[0]
            and known_at[item] <= now
            and not np.isnan(facts[item, fact])
        ):
            mass += weight
            total += weight * facts[item, fact]
        weight *= decay
    if op == LENGTH:
        return float(n)
    if op == SINCE_NEWEST:
        return (now - newest_at) / DAY_US if n > 0 else np.nan
    return total / mass if mass > 0.0 else np.nan


@njit(cache=True)
def _affinities(
    g: int, now: int, items: I32, targets: I64, first: int, last: int,
    h_items: I32, h_weights: F32, h_at: I64, begin: int, end: int,
    known_at: I64, facet_ptr: I64, codes: I32, group_i: I64, group_f: F64, aff_i: I64, aff_f: F64,
    scratch: F64, out: Any,
) -> None:  # fmt: skip
    """The affinities of one group: one pass over the history, one over the candidates.

    `scratch` (codes, 4) holds the mass, the liking and the newest time (0, 0, -inf) of a code in one cache line, and is
    left as it was found.
    """
    facet, longest, decay = group_i[g, 0], group_i[g, 1], group_f[g]
    ptr, n_known = facet_ptr[facet], known_at.shape[0]
    n, weight, all_mass, all_like = 0, 1.0, 0.0, 0.0
    oldest = end
    for h in range(end - 1, begin - 1, -1):
        item = h_items[h]
        if h_at[h] >= now:
            continue
        if n == longest:
            break
        n, oldest = n + 1, h
        if 0 <= item < n_known and known_at[item] <= now and ptr[item] < ptr[item + 1]:
            liking = 0.0 if np.isnan(h_weights[h]) else float(h_weights[h])
            part = weight / (ptr[item + 1] - ptr[item])
            for k in range(ptr[item], ptr[item + 1]):
                of_code = scratch[codes[k]]
                of_code[MASS] += part
                of_code[LIKING_MASS] += part * liking
                of_code[NEWEST] = max(of_code[NEWEST], h_at[h])
            all_mass += weight
            all_like += weight * liking
        weight *= decay
    a0, a1 = 0, 0
    while a0 < aff_i.shape[0] and aff_i[a0, 0] != g:
        a0 += 1
    a1 = a0
    while a1 < aff_i.shape[0] and aff_i[a1, 0] == g:
        a1 += 1
    for j in range(first, last):
        item = items[j]
        if item < 0:
            continue
        known = all_mass > 0.0 and item < n_known and known_at[item] <= now and ptr[item] < ptr[item + 1]
        shared, liked, seen, recent = 0.0, 0.0, 0, -np.inf
        if known:
            for k in range(ptr[item], ptr[item + 1]):
                of_code = scratch[codes[k]]
                shared += of_code[MASS]
                liked += of_code[LIKING_MASS]
                seen += of_code[NEWEST] > -np.inf
                recent = max(recent, of_code[NEWEST])
        for a in range(a0, a1):
            measure, value = aff_i[a, 1], np.nan
            if not known:
                value = np.nan
            elif measure == SHARE:
                value = shared / all_mass
            elif measure == OVERLAP:
                value = float(seen)
            elif measure == RECENCY:
                value = (now - recent) / DAY_US if recent > -np.inf else np.nan
            elif shared + aff_f[a] > 0.0:
                value = (liked + aff_f[a] * (all_like / all_mass)) / (shared + aff_f[a])
            out[targets[j], aff_i[a, 2]] = value
    for h in range(oldest, end):
        item = h_items[h]
        if 0 <= item < n_known:
            for k in range(ptr[item], ptr[item + 1]):
                scratch[codes[k], MASS] = scratch[codes[k], LIKING_MASS] = 0.0
                scratch[codes[k], NEWEST] = -np.inf


@njit(cache=True)
def request_rows(
    now: int, items: I32, targets: I64, first: int, last: int,
    h_items: I32, h_weights: F32, h_at: I64, begin: int, end: int,
    facts: F32, known_at: I64, facet_ptr: I64, codes: I32,
    row_i: I64, row_f: F64, group_i: I64, group_f: F64, aff_i: I64, aff_f: F64,
    scratch: F64, out: Any,
) -> None:  # fmt: skip
    """Facts, context and affinities of `items[first:last]`, into the rows `targets[first:last]` of
    `out`.

    The history is `h_*[begin:end]`, oldest first. A padded candidate (-1) leaves its row untouched.
    """
    n_known = known_at.shape[0]
    for s in range(row_i.shape[0]):
        op, fact, column = row_i[s, 0], row_i[s, 1], row_i[s, 3]
        constant = np.nan
        if op == HOUR:
            constant = float(((now + np.int64(row_f[s, 1])) // HOUR_US) % 24)
        elif op == WEEKDAY:
            constant = float(((now + np.int64(row_f[s, 1])) // DAY_US + 3) % 7)  # the epoch began on a Thursday
        elif op >= LENGTH:
            constant = _of_history(
                op, fact, row_i[s, 2], row_f[s, 0], now, h_items, h_weights, h_at, begin, end, facts, known_at
            )
        for j in range(first, last):
            item = items[j]
            if item < 0:
                continue
            value = constant
            if op <= YEARS_OLD or op == DISTANCE:
                value = np.nan
                if item < n_known and known_at[item] <= now:
                    if op == FACT:
                        value = float(facts[item, fact])
                    elif op == AGE_DAYS:
                        value = (now - known_at[item]) / DAY_US
                    elif op == YEARS_OLD:
                        value = 1970.0 + now / YEAR_US - facts[item, YEAR]
                    else:
                        value = abs(facts[item, fact] - constant)
            out[targets[j], column] = value
    for g in range(group_i.shape[0]):
        _affinities(
            g, now, items, targets, first, last, h_items, h_weights, h_at, begin, end, known_at, facet_ptr, codes,
            group_i, group_f, aff_i, aff_f, scratch, out,
        )  # fmt: skip


@njit(cache=True)
def requests_rows(
    now: I64, items: I32, targets: I64, ptr: I64,
    h_items: I32, h_weights: F32, h_at: I64, h_begin: I64, h_end: I64,
    facts: F32, known_at: I64, facet_ptr: I64, codes: I32,
    row_i: I64, row_f: F64, group_i: I64, group_f: F64, aff_i: I64, aff_f: F64,
    scratch: F64, out: Any,
) -> None:  # fmt: skip
    """`request_rows` for many requests: request r asks about `items[ptr[r]:ptr[r + 1]]` at `now[r]`."""
    for r in range(now.shape[0]):
        request_rows(
            now[r], items, targets, ptr[r], ptr[r + 1], h_items, h_weights, h_at, h_begin[r], h_end[r],
            facts, known_at, facet_ptr, codes, row_i, row_f, group_i, group_f, aff_i, aff_f,
            scratch, out,
        )  # fmt: skip


@njit(cache=True)
def read_request(
    user: int, items: I32, now: int, h_items: I32, h_weights: F32, h_at: I64,
    users: I64, user_ci: I64, user_i: I64, user_f: F64, item_table: I64, item_ci: I64, item_i: I64, item_f: F64,
    everybody: I64, all_i: I64, facts: F32, known_at: I64, facet_ptr: I64, codes: I32,
    row_i: I64, row_f: F64, group_i: I64, group_f: F64, aff_i: I64, aff_f: F64,
    scratch: F64, targets: I64, out: Any,
) -> None:  # fmt: skip
    """The plain features of people and items, and those of histories, for the candidates of one request.

    A padded candidate (-1) gets nan. The last row of `users` and of `item_table` is that of somebody and something
    nobody knows.
    """
    n = items.shape[0]
    nobody, nothing = users.shape[0] - 1, item_table.shape[0] - 1
    rows = np.empty(n, np.int64)
    for j in range(n):
        rows[j] = items[j] if items[j] < nothing else nothing
        if items[j] < 0:
            out[j] = np.nan
    own = np.empty(out.shape[1], out.dtype)
    write_row(users[user if 0 <= user < nobody else nobody], user_ci, everybody[0], all_i, user_i, user_f, now, own)
    for f in range(user_i.shape[0]):
        column = user_i[f, COLUMN]
        for j in range(n):
            if rows[j] >= 0:
                out[j, column] = own[column]
    read_plain(rows, now, item_table, item_ci, everybody, all_i, item_i, item_f, out)
    request_rows(
        now, items, targets, 0, n, h_items, h_weights, h_at, 0, h_items.shape[0], facts, known_at, facet_ptr, codes,
        row_i, row_f, group_i, group_f, aff_i, aff_f, scratch, out,
    )  # fmt: skip
