"""What followed an event, against plain loops."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from honeyguide.contracts import Interactions
from honeyguide.flows.labels import DAY_US, _did

HOUR = DAY_US // 24
rows = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 2), st.integers(0, 60)), min_size=1, max_size=30
)


@given(rows)
def test_what_people_did_is_credited_once_to_the_newest_event_before(events: list[tuple[int, int, int, int]]) -> None:
    events = sorted(events, key=lambda row: row[3])
    user, item, action, hour = (np.array(column) for column in zip(*events, strict=True))
    n = len(events)
    full = Interactions(
        user.astype(np.int32), item.astype(np.int32), action.astype(np.int16), np.arange(n, dtype=np.float32),
        np.ones(n, np.float32), hour.astype(np.int64) * HOUR, 3, 3, ("impression", "click", "buy"),
    )  # fmt: skip
    shown = np.flatnonzero(full.action == 0)
    chosen = shown[::2]
    found, value = _did(full, shown, chosen)
    for row, event in enumerate(chosen):
        for code in range(3):
            credited = []
            for j in range(n):
                same = [g for g in shown if g <= j and user[g] == user[j] and item[g] == item[j]]
                if action[j] == code and same and same[-1] == event and full.at[j] - full.at[event] <= DAY_US:
                    credited.append(j)
            assert found[row, code] == (code if credited else -1)
            assert (value[row, code] == credited[0]) if credited else np.isnan(value[row, code])
