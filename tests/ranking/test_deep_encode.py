"""What the network reads of candidates, histories and context, against plain loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from honeyguide.contracts import Ragged, RankInput
from honeyguide.errors import ConfigError
from honeyguide.ranking.deep.config import DeepConfig, chain
from honeyguide.ranking.deep.encode import AGES, RANKS, Encoder, Ids, take_requests
from honeyguide.ranking.deep.prepare import KNOTS, encoder_of, examination_of, scales_of
from honeyguide.ranking.heads import HeadConfig

HOUR_US = 3_600_000_000


def some_input(seed: int, requests: int = 7, people: int = 4, items: int = 9) -> RankInput:
    rng = np.random.default_rng(seed)
    counts, lengths, seeds = (rng.integers(0, most, requests) for most in (5, 6, 3))
    n, events = int(counts.sum()), int(lengths.sum())
    ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return RankInput(
        features=rng.normal(size=(n, 3)).astype(np.float32),
        request=np.repeat(np.arange(requests, dtype=np.int32), counts),
        items=rng.integers(-1, items, n).astype(np.int32),
        users=rng.integers(-1, people, requests).astype(np.int32),
        at_us=np.sort(rng.integers(0, 10**13, requests)),
        histories=Ragged(ends, rng.integers(-1, items, events).astype(np.int32)),
        history_at=np.sort(rng.integers(0, 10**13, events)),
        history_weights=rng.normal(size=events).astype(np.float32),
        history_values=np.where(rng.random(events) < 0.3, np.nan, rng.integers(1, 6, events)).astype(np.float32),
        seeds=Ragged(np.concatenate([[0], np.cumsum(seeds)]).astype(np.int64),
                     rng.integers(0, items, int(seeds.sum())).astype(np.int32)),
        context={"device": rng.integers(0, 3, requests).astype(np.int64)},
    )  # fmt: skip


def encoder_for(told: RankInput, **changes: object) -> Encoder:
    config = DeepConfig(context=("device",), sequence=4, min_count=2, **changes)  # type: ignore[arg-type]
    return encoder_of(config, told, np.arange(len(told)), np.arange(len(told.users)), 9, 4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000))
def test_a_batch_reads_as_its_requests_one_by_one(seed: int) -> None:
    told = some_input(seed)
    encoder = encoder_for(told)
    whole = encoder.requests(told)
    pointers = np.searchsorted(told.request, np.arange(len(told.users) + 1)).astype(np.int64)
    for r in range(len(told.users)):
        part, rows = take_requests(told, np.array([r]), pointers)
        assert rows.tolist() == np.flatnonzero(told.request == r).tolist()
        alone = encoder.requests(part)
        real = whole.mask[r] > 0
        kept = min(len(told.histories.row(r)), 4)
        assert real.sum() == kept == alone.mask.sum()
        if kept:
            for name in ("history", "age", "sign"):
                np.testing.assert_array_equal(getattr(whole, name)[r][real], getattr(alone, name)[0])
        assert whole.context[r].tolist() == alone.context[0].tolist()
        assert whole.user[r] == alone.user[0]
        assert whole.seeds.row(r).tolist() == alone.seeds.row(0).tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_numbers_of_events_by_plain_loops(seed: int) -> None:
    told = some_input(seed)
    encoder = encoder_for(told)
    found = encoder.requests(told)
    for r in range(len(told.users)):
        first, end = told.histories.indptr[r], told.histories.indptr[r + 1]
        newest = list(range(int(first), int(end)))[-4:]
        for place, event in enumerate(reversed(newest)):
            column = found.mask.shape[1] - 1 - place
            minutes, age = max(int(told.at_us[r] - told.history_at[event]), 0) // 60_000_000 + 1, 0
            while minutes >= 2:
                minutes, age = minutes // 2, age + 1
            assert found.age[r, column].tolist() == [min(age, AGES - 1), min(place, RANKS - 1)]
            item = int(told.histories.values[event])
            assert found.history[r, column] == (0 if item < 0 else encoder.items.rows[item])  # type: ignore[index]
            assert found.sign[r, column, 2] == float(not np.isnan(told.history_values[event]))
        hour = int(told.at_us[r]) // HOUR_US
        assert found.context[r, 1:].tolist() == [hour % 24, hour // 24 % 7]


def test_ids_that_are_rare_unknown_or_new_share_row_zero() -> None:
    ids = Ids.dictionary(np.array([3, 3, 3, 1, 1, 0, -1], np.int32), 5, 2)
    assert ids.of(np.array([3, 1, 0, 4, -1, 99], np.int32)).tolist() == [1, 2, 0, 0, 0, 0]
    assert ids.size == 3
    hashed = Ids.hashed(50).of(np.arange(-1, 10_000, dtype=np.int32))
    assert hashed[0] == 0
    counts = np.bincount(hashed[1:], minlength=51)
    assert counts[0] == 0
    assert counts[1:].min() > 100  # 200 each, evenly


def test_facts_without_a_row_are_row_zero(tmp_path: Path) -> None:
    told = some_input(3)
    encoder = encoder_for(told)
    encoder.save(tmp_path)
    again = Encoder.load(tmp_path)
    for name in ("history", "age", "sign", "mask", "user", "context"):
        np.testing.assert_array_equal(getattr(encoder.requests(told), name), getattr(again.requests(told), name))
    codes = np.asarray(told.context["device"])
    seen = {int(code) for code in codes if code and (codes == code).sum() >= 2}
    known = encoder.requests(told).context[:, 0]
    assert [(bool(row), int(code) in seen) for row, code in zip(known, codes, strict=True)] == [
        (int(code) in seen, int(code) in seen) for code in codes
    ]


def test_scales_of_features() -> None:
    rng = np.random.default_rng(0)
    x = np.stack([rng.normal(5, 2, 500), np.full(500, np.nan), np.full(500, 3.0), rng.normal(size=500)], axis=1)
    x[::5, 3] = np.nan
    found = scales_of(x.astype(np.float32), np.arange(500), 0)
    assert found.empty == [1]
    assert found.gaps == [3]
    np.testing.assert_allclose(found.mean[[0, 2]], [x[:, 0].mean(), 3.0], rtol=1e-5)
    np.testing.assert_allclose(1 / found.inverse[0], x[:, 0].std(), rtol=1e-4)
    assert found.inverse[2] == 1.0
    share = np.clip((x[:, 0, None] - found.knots[0]) * found.steps[0], 0, 1).mean(axis=1)
    np.testing.assert_allclose(share, (np.argsort(np.argsort(x[:, 0])) / 499), atol=1.0 / (KNOTS - 1))


def test_how_positions_are_looked_at_is_found_where_items_move() -> None:
    rng = np.random.default_rng(1)
    looked, n = 0.8 ** np.arange(5), 60_000
    items, position = rng.integers(0, 30, n).astype(np.int32), rng.integers(1, 6, n).astype(np.int32)
    # The better items stand higher more often, so that rates by position alone would mislead.
    items = np.where(rng.random(n) < 0.5, items, np.clip((position - 1) * 6 + rng.integers(0, 6, n), 0, 29))
    appeal = np.linspace(0.6, 0.1, 30)
    label = (rng.random(n) < appeal[items] * looked[position - 1]).astype(np.float32)
    found = examination_of(DeepConfig(position="ipw"), items.astype(np.int32), position, label)
    np.testing.assert_allclose(found[1:], looked, atol=0.06)
    by_rate = np.array([label[position == k].mean() for k in range(1, 6)])
    assert abs(by_rate[-1] / by_rate[0] - looked[-1]) > 0.1
    told = examination_of(DeepConfig(position="ipw", examination=(1.0, 0.5)), items, position, label)
    assert told.tolist() == [1.0, 1.0, 0.5, 0.5, 0.5, 0.5]


def head(name: str, follows: str | None = None, kind: str = "probability") -> HeadConfig:
    return HeadConfig(name=name, action=name, follows=follows, kind=kind)  # type: ignore[arg-type]


def test_outcomes_that_follow_each_other() -> None:
    assert chain([head("buy", "click"), head("click"), head("refund", "buy")]) == (1, -1, 0)
    with pytest.raises(ConfigError, match="follow another head"):
        chain([head("buy", "klick"), head("click")])
    with pytest.raises(ConfigError, match="follow another head"):
        chain([head("buy", "click"), head("click", kind="rank")])
    with pytest.raises(ConfigError, match="one direction"):
        chain([head("a", "b"), head("b", "a")])


@pytest.mark.parametrize(
    "wrong",
    [{"item_dim": 9}, {"examination": (1.5,)}, {"serve_position": 0}, {"context": ("a", "a")}, {"layers": 3}],
)
def test_a_configuration_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        DeepConfig(**wrong)  # type: ignore[arg-type]
