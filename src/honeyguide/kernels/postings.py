"""An inverted index as arrays: build it, weigh it by BM25F, and score a query over it.

Terms are numbered; the postings of term `t` are `docs[indptr[t]:indptr[t + 1]]`, ascending, with a count per field.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

__all__ = ["build", "count_codes", "field_scores", "impacts", "search"]

F32 = npt.NDArray[np.float32]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
_FIRST = 256  # hits that soft concepts score


@nb.njit(cache=True, nogil=True)
def build(tokens: I32, starts: I64, n_terms: int) -> tuple[I64, I32, U8, I32]:
    """Postings of documents: `indptr` (n_terms + 1,), `docs` (nnz,), `counts` (nnz, fields), `lengths` (n, fields).

    tokens: term numbers, field after field, document after document; below 0: no term. starts: (fields, n + 1), where
    each document's tokens of each field begin. Counts stop at 255. Time: two passes over the tokens.
    """
    fields, n = starts.shape[0], starts.shape[1] - 1
    found = np.zeros(n_terms + 1, np.int64)
    last = np.full(n_terms, -1, np.int32)
    lengths = np.zeros((n, fields), np.int32)
    for d in range(n):
        for f in range(fields):
            for at in range(starts[f, d], starts[f, d + 1]):
                t = tokens[at]
                if t >= 0:
                    lengths[d, f] += 1
                    if last[t] != d:
                        last[t] = d
                        found[t + 1] += 1
    indptr = np.cumsum(found)
    docs = np.empty(indptr[-1], np.int32)
    counts = np.zeros((indptr[-1], fields), np.uint8)
    free = indptr[:-1].copy()
    last[:] = -1
    for d in range(n):
        for f in range(fields):
            for at in range(starts[f, d], starts[f, d + 1]):
                t = tokens[at]
                if t < 0:
                    continue
                if last[t] != d:
                    last[t] = d
                    docs[free[t]] = d
                    free[t] += 1
                place = free[t] - 1
                if counts[place, f] < 255:
                    counts[place, f] += 1
    return indptr, docs, counts, lengths


@nb.njit(cache=True, nogil=True)
def impacts(docs: I32, counts: U8, norms: F32, weights: F32, k1: float) -> F32:
    """What each posting adds to a score, before the term's idf, (nnz,): in 0..k1 + 1.

    norms: (n, fields), 1 - b + b length / mean length. Source: Robertson, Zaragoza and Taylor 2004 (BM25F), with a
    length per field as in Zaragoza et al. 2004.
    """
    out = np.empty(len(docs), np.float32)
    for p in range(len(docs)):
        tf = 0.0
        for f in range(counts.shape[1]):
            if counts[p, f]:
                tf += weights[f] * counts[p, f] / norms[docs[p], f]
        out[p] = tf * (k1 + 1) / (tf + k1) if tf > 0 else 0.0
    return out


@nb.njit(cache=True, nogil=True)
def _place(docs: I32, low: int, high: int, doc: int) -> int:
    """Where a document stands among a term's postings, -1 if it does not."""
    while low < high:
        middle = (low + high) >> 1
        if docs[middle] < doc:
            low = middle + 1
        else:
            high = middle
    return low


@nb.njit(cache=True, nogil=True)
def search(
    concepts: I64, low: I64, high: I64, weights: F32, units: I32, required: int, docs: I32, impact: F32,
    scores: F32, met: I32, seen: I32, last: I32, best: F32, hits: I32, call: int, covered: float,
    soft: int,
) -> int:  # fmt: skip
    """Score every document that meets enough of a query; how many do. They stand in `hits`, any order.

    Concept `c` has the alternatives `concepts[c]:concepts[c + 1]`, each a range of postings `low:high` with a weight; a
    document gets the best of them, and `units[c]`. Those with `required` units are hits; `covered` is added to one that
    meets all units, and a part of it to others. A concept that can no longer make a hit of a new document looks at
    those that were met, no further: concepts stand with the most units first. From `soft` on they have one alternative
    each and score the first hits alone. scores, met, seen, last, best: (n,)
    scratch, kept between calls; `call` is new in each (`seen` holds older ones).
    """
    n, left = 0, 0
    for c in range(len(units)):
        left += units[c]
    total = max(left, 1)
    pruned, reach = False, 0
    for c in range(len(units)):
        if not pruned and units[c] == 0:
            # From here on nothing is met that makes a hit: what is none already needs no score.
            pruned, kept = True, 0
            for i in range(n):
                if met[hits[i]] >= required:
                    hits[kept] = hits[i]
                    kept += 1
            n = kept
        if c == soft:
            reach = n
            if n > _FIRST:
                # Soft concepts move little: they score the first by what was met so far, whom they leave the first.
                some = np.empty(n, np.float32)
                for i in range(n):
                    some[i] = scores[hits[i]]
                least = np.partition(some, n - _FIRST)[n - _FIRST]
                reach = 0
                for i in range(n):
                    if scores[hits[i]] >= least:
                        d = hits[i]
                        hits[i] = hits[reach]
                        hits[reach] = d
                        reach += 1
        fresh = left >= required
        left -= units[c]
        if c >= soft:
            weight, begin, end = weights[concepts[c]], low[concepts[c]], high[concepts[c]]
            if concepts[c + 1] > concepts[c]:
                for i in range(reach):
                    d = hits[i]
                    p = _place(docs, begin, end, d)
                    if p < end and docs[p] == d:
                        scores[d] += weight * impact[p]
            continue
        if concepts[c + 1] - concepts[c] == 1 and (fresh or n * 8 >= high[concepts[c]] - low[concepts[c]]):
            weight = weights[concepts[c]]
            for p in range(low[concepts[c]], high[concepts[c]]):
                d = docs[p]
                if seen[d] != call:
                    if not fresh:
                        continue
                    seen[d] = call
                    last[d] = -1
                    scores[d] = weight * impact[p]
                    met[d] = units[c]
                    hits[n] = d
                    n += 1
                else:
                    scores[d] += weight * impact[p]
                    met[d] += units[c]
            continue
        for a in range(concepts[c], concepts[c + 1]):
            weight = weights[a]
            begin, end = low[a], high[a]
            if not fresh and n * 8 < end - begin:
                for i in range(n):
                    d = hits[i]
                    p = _place(docs, begin, end, d)
                    if p < end and docs[p] == d:
                        value = weight * impact[p]
                        if last[d] != c:
                            last[d] = c
                            best[d] = value
                            scores[d] += value
                            met[d] += units[c]
                        elif value > best[d]:
                            scores[d] += value - best[d]
                            best[d] = value
                continue
            for p in range(begin, end):
                d = docs[p]
                if seen[d] != call:
                    if not fresh:
                        continue
                    seen[d] = call
                    scores[d] = 0.0
                    met[d] = 0
                    last[d] = -1
                    hits[n] = d
                    n += 1
                value = weight * impact[p]
                if last[d] != c:
                    last[d] = c
                    best[d] = value
                    scores[d] += value
                    met[d] += units[c]
                elif value > best[d]:
                    scores[d] += value - best[d]
                    best[d] = value
    kept = 0
    for i in range(n):
        d = hits[i]
        if met[d] >= required:
            scores[d] += covered * met[d] / total
            hits[kept] = d
            kept += 1
    return kept


@nb.njit(cache=True, nogil=True)
def field_scores(
    candidates: I32, concepts: I64, low: I64, high: I64, weights: F32, docs: I32, counts: U8, norms: F32, k1: float,
    out: F32,
) -> None:  # fmt: skip
    """BM25 of candidates by field into `out` (candidates, fields + 2), then the share of the concepts met by any
    field, and by the first. Concept by concept, the best alternative counts.
    """
    fields = counts.shape[1]
    n_concepts = len(concepts) - 1
    for i in range(len(candidates)):
        d = candidates[i]
        for c in range(n_concepts):
            any_field, first_field = False, False
            for f in range(fields):
                most = np.float32(0.0)
                for a in range(concepts[c], concepts[c + 1]):
                    p = _place(docs, low[a], high[a], d)
                    if p < high[a] and docs[p] == d and counts[p, f]:
                        tf = counts[p, f] / norms[d, f]
                        most = max(most, np.float32(weights[a] * tf * (k1 + 1) / (tf + k1)))
                        any_field = True
                        first_field = first_field or f == 0
                out[i, f] += most
            out[i, fields] += any_field / n_concepts
            out[i, fields + 1] += first_field / n_concepts


@nb.njit(cache=True, nogil=True)
def count_codes(hits: I32, indptr: I64, codes: I32, n_codes: int) -> I32:
    """How many of the hits carry each code, (n_codes,)."""
    out = np.zeros(n_codes, np.int32)
    for i in range(len(hits)):
        for at in range(indptr[hits[i]], indptr[hits[i] + 1]):
            out[codes[at]] += 1
    return out
