"""Which version of an event counts when: a row that `corrects` another one takes its place from its known_at on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from honeyguide.contracts import RETRACT
from honeyguide.kernels.codes import text_codes
from honeyguide.kernels.hashing import normalised
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["NEVER", "Versions", "context_codes", "text_column", "versions"]

_I64 = npt.NDArray[np.int64]
NEVER = 2**63 - 1
"""The `until` of a row in whose place nothing came."""


@dataclass(frozen=True, slots=True)
class Versions:
    """The rows of a log of events that stand, and those that stood once."""

    event: _I64  # of all rows: the code of the event's id, that of the corrected one for a correction
    known: _I64
    until: _I64  # from when the row no longer counts
    standing: npt.NDArray[np.bool_]
    former: npt.NDArray[np.bool_]


def versions(events: pa.Table) -> Versions:
    """From EVENTS rows. A row that `corrects` an event of the same person takes its place from its known_at on; one
    with the action RETRACT takes it away. The version known last counts; of two known at once the one that happened
    later, then the one with the greater id. A correction of what is not there stands for itself.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    n = events.num_rows
    event = text_column(events[c.EVENT_ID])
    at = events[c.HAPPENED_AT].cast(pa.int64()).to_numpy()
    known = np.maximum(events[c.KNOWN_AT].cast(pa.int64()).to_numpy(), at)
    until = np.full(n, NEVER)
    standing, former = np.ones(n, np.bool_), np.zeros(n, np.bool_)
    corrects = text_column(events[c.CORRECTS]) if events[c.CORRECTS].null_count < n else np.zeros(n, np.int64)
    retract = pc.fill_null(pc.equal(events[c.ACTION], RETRACT), False).to_numpy()
    if not corrects.any():
        return Versions(event, known, until, standing & ~retract, former)
    root = np.where(corrects != 0, corrects, event)
    rows = np.flatnonzero(np.isin(root, corrects[corrects != 0]))
    person = events[c.USER_ID].take(pa.array(rows)).combine_chunks().dictionary_encode().indices.to_numpy()
    # Oldest version first within an event of a person.
    name = pc.rank(events[c.EVENT_ID].take(pa.array(rows)).combine_chunks(), tiebreaker="first").to_numpy()
    order = np.lexsort((name, at[rows], known[rows], root[rows], person))
    rows, person = rows[order], person[order]
    followed = np.zeros(len(rows), np.bool_)
    followed[:-1] = (root[rows][1:] == root[rows][:-1]) & (person[1:] == person[:-1])
    until[rows[followed]] = known[rows[1:][followed[:-1]]]
    standing = (until == NEVER) & ~retract
    former = (until < NEVER) & (known < until) & ~retract
    return Versions(root, known, until, standing, former)


def text_column(texts: pa.ChunkedArray) -> _I64:
    """`kernels.codes` of a column of texts, 0 where there is none."""
    import pyarrow as pa

    found = [np.zeros(0, np.int64)]
    for chunk in texts.cast(pa.large_string()).chunks:
        whole = chunk.fill_null("") if chunk.null_count else chunk
        _, offsets, data = whole.buffers()
        places = np.frombuffer(offsets, np.int64)[whole.offset : whole.offset + len(whole) + 1]
        held = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)
        found.append(text_codes(np.require(places, np.int64, ["C", "W"]), np.require(held, np.uint8, ["C", "W"])))
    return np.concatenate(found)


def context_codes(events: pa.Table, key: str) -> _I64:
    """One fact of the moment of each event as a code: its surface, its query (normalised), or a key of its context."""
    import msgspec
    import pyarrow as pa

    if key == c.SURFACE:
        return text_column(events[c.SURFACE])
    column = c.QUERY if key == c.QUERY else c.CONTEXT
    # Few texts are different: each is read once.
    coded = events[column].combine_chunks().dictionary_encode()
    texts = coded.dictionary.to_pylist()
    if key == c.QUERY:
        told = [normalised(text) for text in texts]
    else:
        decode = msgspec.json.Decoder(dict[str, object]).decode
        told = [str(decode(text).get(key) or "") for text in texts]
    codes = np.append(text_column(pa.chunked_array([pa.array(told, pa.string())])), 0)
    return np.asarray(codes[coded.indices.fill_null(len(told)).to_numpy()])
