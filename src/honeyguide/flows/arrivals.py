"""Events that came after a build, on their way into the online features: corrections, and the facts of the moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec
import numpy as np

from honeyguide.contracts import I64, BoolArray
from honeyguide.kernels.codes import code64, text_codes
from honeyguide.kernels.hashing import normalised
from honeyguide.schema import columns as c

__all__ = ["Arrived", "coded_context", "id_codes", "moment_context"]


class Arrived(Protocol):
    """What features need of an event, wherever it was read."""

    @property
    def user_id(self) -> str:
        """Who."""
        ...

    @property
    def item_id(self) -> str:
        """What."""
        ...

    @property
    def action(self) -> str:
        """What they did."""
        ...

    @property
    def value(self) -> float | None:
        """The action's own number."""
        ...

    @property
    def corrects(self) -> str | None:
        """The id of the event whose place it takes."""
        ...

    @property
    def surface(self) -> str | None:
        """Where."""
        ...

    @property
    def query(self) -> str | None:
        """What was typed."""
        ...

    @property
    def context(self) -> Mapping[str, str] | str | None:
        """Other facts of the moment, perhaps as JSON."""
        ...


def id_codes(ids: Sequence[str]) -> I64:
    """The codes of events' ids; about .1 us each."""
    data = [text.encode("utf-8", "surrogatepass") for text in ids]
    offsets = np.zeros(len(data) + 1, np.int64)
    np.cumsum([len(one) for one in data], out=offsets[1:])
    codes: I64 = text_codes(offsets, np.frombuffer(bytearray(b"".join(data)), np.uint8))
    return codes


def moment_context(rows: Sequence[Arrived], keys: tuple[str, ...], which: BoolArray) -> dict[str, I64]:
    """The facts that features ask for, of the events `which`, as codes."""
    chosen = [row for row, wanted in zip(rows, which.tolist(), strict=True) if wanted]
    return {key: np.array([code64(_told(row, key)) for row in chosen], np.int64) for key in keys}


def _told(row: Arrived, key: str) -> str | None:
    if key == c.SURFACE:
        return row.surface
    if key == c.QUERY:
        return None if row.query is None else normalised(row.query)
    told, facts = row.context, {}
    if isinstance(told, str):
        facts = msgspec.json.decode(told, type=dict[str, object])
    elif told is not None:
        facts = dict(told)
    value = facts.get(key)
    return None if value is None else str(value)


def coded_context(
    keys: tuple[str, ...], surface: str, context: Mapping[str, str], query: str | None = None
) -> dict[str, int]:
    """The facts of a request that features ask for, as codes."""
    told = {**context, c.SURFACE: surface, c.QUERY: None if query is None else normalised(query)}
    return {key: code64(told.get(key)) for key in keys}
