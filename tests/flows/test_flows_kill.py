"""Processes killed at random moments, under several writers and a compaction that never rests."""

from __future__ import annotations

from pathlib import Path

import pytest

from honeyguide.flows.bench.log_kill import kill_again_and_again
from honeyguide.flows.layout import Layout


@pytest.mark.heavy
def test_what_was_acknowledged_is_there_once(shop: Path) -> None:
    killed = kill_again_and_again(Layout.open(shop), 6, over_http=2, seed=1, item_id="f3")
    assert (killed.kills, killed.lost, killed.doubled, killed.torn) == (6, 0, 0, 0)
    assert killed.acknowledged > 100


@pytest.mark.slow
def test_fifty_times(shop: Path) -> None:
    killed = kill_again_and_again(Layout.open(shop), 50, over_http=10, seed=2, item_id="f3")
    assert (killed.kills, killed.lost, killed.doubled, killed.torn) == (50, 0, 0, 0)
