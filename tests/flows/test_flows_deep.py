"""A deep ranker in the product: what it sees of training rows and of requests is the same; a build serves it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from honeyguide.contracts import Interactions, Ragged
from honeyguide.errors import ConfigError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.rank_input import Values, of_rows
from honeyguide.flows.showings import Shown
from honeyguide.kernels.codes import code64
from honeyguide.ranking.rows import Rows


def log_of(seed: int, n: int = 60, people: int = 4, items: int = 6) -> Interactions:
    rng = np.random.default_rng(seed)
    return Interactions(
        rng.integers(0, people, n).astype(np.int32), rng.integers(0, items, n).astype(np.int32),
        rng.integers(0, 2, n).astype(np.int16), np.where(rng.random(n) < 0.5, np.nan, rng.random(n)).astype(np.float32),
        np.ones(n, np.float32), np.sort(rng.integers(0, 40, n)) * 10**9, people, items, ("view", "click"),
        context={"device": rng.integers(1, 4, n).astype(np.int64)},
    )  # fmt: skip


def shown_of(seed: int, n: int = 30) -> Shown:
    rng = np.random.default_rng(seed)
    return Shown(
        rng.integers(-1, 4, n).astype(np.int32), rng.integers(0, 6, n).astype(np.int32),
        np.sort(rng.choice(200, n, replace=False)) * 10**8, np.arange(n, dtype=np.int32), np.array([1], np.int16),
        np.zeros((n, 1), np.int64), np.zeros((n, 1), np.float32), tuple(f"r{i}" for i in range(n)), 1, 1, {},
        {"device": rng.integers(5, 8, n).astype(np.int64)}, rng.integers(1, 9, n).astype(np.int32),
        Ragged.of([[i % 6] if i % 3 == 0 else [] for i in range(n)]),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_training_rows_by_plain_loops(seed: int) -> None:
    full, shown = log_of(seed), shown_of(seed + 100)
    rng = np.random.default_rng(seed)
    # Rows of events, in any order, and rows of what was shown.
    events = rng.permutation(len(full))[:25]
    user = np.concatenate([full.user[events], shown.user])
    item = np.concatenate([full.item[events], shown.item])
    at = np.concatenate([full.at[events], shown.at])
    n = len(at)
    unit = np.where(user >= 0, user, 100 + np.arange(n)).astype(np.int64)
    features = rng.normal(size=(n, 2)).astype(np.float32)
    rows = Rows(features, np.zeros((n, 1), np.float32), at, None, unit, user=user, item=item)
    given, order, position = of_rows(rows, full, shown, history=5, context=("device", "country"))
    assert sorted(order.tolist()) == list(range(n))
    assert (np.diff(given.request) >= 0).all()
    assert len({(int(unit[i]), int(at[i])) for i in range(n)}) == len(given.users)
    for row, old in enumerate(order.tolist()):
        r = int(given.request[row])
        assert (given.items[row], given.users[r], given.at_us[r]) == (item[old], user[old], at[old])
        np.testing.assert_array_equal(given.features[row], features[old])
        past = [e for e in range(len(full)) if full.user[e] == user[old] and full.at[e] < at[old]][-5:]
        assert given.histories.row(r).tolist() == full.item[past].tolist()
        span = slice(given.histories.indptr[r], given.histories.indptr[r + 1])
        assert given.history_at[span].tolist() == full.at[past].tolist()
        for place, event in enumerate(past):
            key = full.user[event], full.item[event], full.at[event]
            same = [e for e in range(len(full)) if (full.user[e], full.item[e], full.at[e]) == key]
            value = given.history_values[span][place]
            assert any(np.array_equal(value, full.value[e], equal_nan=True) for e in same)
        listed = [s for s in range(len(shown)) if shown.user[s] == user[old] and shown.at[s] == at[old]]
        slot = [s for s in listed if shown.item[s] == item[old]]
        assert position[row] == (shown.position[slot[0]] if slot else 0)  # type: ignore[index]
        seeds = shown.seeds.row(listed[0]).tolist() if listed and shown.seeds is not None else []
        assert given.seeds.row(r).tolist() == seeds
        happened = [e for e in range(len(full)) if full.user[e] == user[old] and full.at[e] == at[old]]
        told = int(shown.context["device"][listed[0]]) if listed else 0
        told = told or (int(full.context["device"][happened[0]]) if happened else 0)
        assert given.context["device"][r] == told
        assert given.context["country"][r] == 0


def test_values_of_nobody_are_unknown() -> None:
    full = log_of(0)
    from honeyguide.flows.histories import Moments, Timelines

    lines = Timelines(full)
    moments = Moments(np.array([0], np.int32), np.array([3], np.int64), np.array([10**12]))
    queries = lines.queries(moments, np.zeros(4, np.int32), history=3, had=np.zeros(3, np.bool_))
    assert np.isnan(Values(full).of(np.array([-1], np.int32), queries)).all()


def test_heads_that_follow_in_a_circle_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "honeyguide.toml"
    heads = "".join(
        f'[[heads]]\nname = "{a}"\naction = "{a}"\nfollows = "{b}"\n' for a, b in (("buy", "click"), ("click", "buy"))
    )
    path.write_text(f"version = 1\n{heads}")
    with pytest.raises(ConfigError, match="one direction"):
        WorkspaceConfig.load(path)


@pytest.mark.heavy
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `deep` is not installed")
def test_a_build_serves_a_network(tmp_path: Path) -> None:
    from honeyguide.flows.build import build
    from honeyguide.flows.create import create
    from honeyguide.flows.wiring import open_desk
    from honeyguide.schema.wire import RecommendRequest

    rng, lines = np.random.default_rng(0), []
    start = 1_700_000_000
    for n in range(2_400):
        person, item = int(rng.integers(0, 60)), int(rng.integers(0, 40))
        device = ("phone", "desk")[int(rng.integers(0, 2))]
        stars = 5 if (item % 2 == 0) == (device == "phone") else 1
        lines.append(json.dumps({
            "event_id": f"e{n}", "user_id": f"p{person}", "item_id": f"i{item}", "action": "rating", "value": stars,
            "happened_at": start + n * 600, "context": {"device": device},
        }))  # fmt: skip
    events = tmp_path / "events.jsonl"
    events.write_text("\n".join(lines))
    folder = tmp_path / "shop"
    create(folder, events=events, name="Shop")
    with (folder / "honeyguide.toml").open("a") as file:
        file.write('\n[ranker]\nkinds = ["deep"]\n[ranker.deep]\nunits = 12\nitem_dim = 8\nepochs = 8\nbatch = 128\n'
                   'context = ["device"]\nint8 = false\n')  # fmt: skip
    report = build(folder)
    assert any(line.startswith("network of") and "CPU-s" in line for line in report["decisions"])
    desk = open_desk(str(folder), writable=False, watch=False)
    ranker = desk._live.pipeline.ranker
    assert ranker is not None
    assert [part.kind for part in ranker.parts]
    assert ranker.context_keys == ("device",)
    asked = {}
    for device in ("phone", "desk"):
        request = RecommendRequest(user_id="p1", k=30, context={"device": device}, log=False)
        answer = desk.recommend(request)
        assert answer.fallback is None
        asked[device] = {item.item_id: item.heads["like"] for item in answer.items}
    even = [name for name in asked["phone"] if int(name[1:]) % 2 == 0 and name in asked["desk"]]
    odd = [name for name in asked["phone"] if int(name[1:]) % 2 == 1 and name in asked["desk"]]
    assert np.mean([asked["phone"][name] - asked["desk"][name] for name in even]) > 0.3
    assert np.mean([asked["desk"][name] - asked["phone"][name] for name in odd]) > 0.3
    assert code64("phone") in ranker.parts[0].encoder.codes[0]  # type: ignore[attr-defined]
    assert build(folder)["build_id"] == report["build_id"]
