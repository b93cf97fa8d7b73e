"""Rows of people who were erased, as a load meets them: counted, held back, and nothing of them kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from honeyguide.engines.tables.forgotten import Forgotten
from honeyguide.flows.keeping.traces import people_in
from honeyguide.intake.quality import Finding, Totals
from honeyguide.schema import columns as c

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["REASON", "KeptOut"]

REASON = "forgotten"


class KeptOut:
    """Holds back what is of erased people, without its text. Implements `quality.BatchCheck`.

    Rows in stay the sum of accepted and quarantined; a quarantined row that names an erased person, for whatever
    reason it was held back, keeps its reason and place and loses the rest.
    """

    def __init__(self, forgotten: Forgotten) -> None:
        self._forgotten = forgotten
        self._rows = 0

    def batch(self, rows: pa.Table) -> Sequence[Finding]:
        """Refuse rows of people who were erased."""
        if c.USER_ID not in rows.column_names or not self._forgotten:
            return ()
        found = self._named(rows[c.USER_ID])
        self._rows += int(np.count_nonzero(found))
        return (Finding(found, REASON, "", "quarantine"),) if found.any() else ()

    def finish(self, totals: Totals) -> Sequence[Finding]:
        """Say how many there were."""
        rows, self._rows = self._rows, 0
        if not rows:
            return ()
        said = f"{rows:,} rows are of people who were erased: held back without their text."
        return (Finding(np.zeros(0, bool), REASON, said, "warn"),)

    def blanked(self, quarantine: pa.Table) -> pa.Table:
        """Rows of Quarantine; those that name an erased person without what they said."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if not quarantine.num_rows or not self._forgotten:
            return quarantine
        texts = quarantine[c.RAW].to_pylist()
        named = [bool(self._forgotten.among(people_in(text))) for text in texts]
        if not any(named):
            return quarantine
        mask = pa.array(named)
        for column, instead in ((c.RAW, ""), (c.DETAIL, None)):
            at = quarantine.schema.get_field_index(column)
            blank = pa.scalar(instead, quarantine.schema.field(at).type)
            kept = pc.if_else(mask, blank, quarantine[column])
            quarantine = quarantine.set_column(at, quarantine.schema.field(at), kept)
        return quarantine

    def _named(self, users: Any) -> Any:
        import pyarrow as pa
        import pyarrow.compute as pc

        gone = self._forgotten.among(one for one in pc.unique(users).to_pylist() if one is not None)
        if not gone:
            return np.zeros(len(users), bool)
        return np.asarray(pc.is_in(users, value_set=pa.array(sorted(gone), users.type)).to_numpy(), bool)
