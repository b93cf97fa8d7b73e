"""The trained sources keep the laws of all sources, and what they do with input nobody should send."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from honeyguide.contracts import Interactions, Queries, Ragged, Source
from honeyguide.errors import BuildError, DataError, MissingExtraError
from honeyguide.retrieval.deep import config as configs
from honeyguide.retrieval.deep import generative, sequence, task, towers
from honeyguide.retrieval.deep.config import GenerativeConfig, SequenceConfig, TowersConfig
from honeyguide.retrieval.deep.generative import Generative
from honeyguide.retrieval.deep.sequence import Sequence
from honeyguide.retrieval.deep.towers import Towers
from honeyguide.testing.sources import check_source, small_audience, small_catalog, small_queries

SMALL: dict[str, Any] = {"d": 16, "length": 12, "heads": 2, "inner": 32, "epochs": 2.0, "min_fact": 1}


def sampled() -> Sequence:
    return Sequence(SequenceConfig(**SMALL, loss="sampled", negatives=20, targets=3))


MAKES: dict[str, Callable[[], Any]] = {
    "sequence": lambda: Sequence(SequenceConfig(**SMALL)),
    "sampled": sampled,
    "generative": lambda: Generative(GenerativeConfig(**SMALL, codes=8)),
    "towers": lambda: Towers(TowersConfig(d=16, batch=32, epochs=2.0, min_fact=1)),
}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: PyTorch is loaded once."""

    def train_here(folder: Path) -> task.Result:
        from honeyguide.retrieval.deep.train import train

        return train(folder)

    for module in (sequence, generative, towers):
        monkeypatch.setattr(module, "train_folder", train_here)


def events(user: list[int], item: list[int], weight: list[float] | None = None, **more: Any) -> Interactions:
    n = len(user)
    return Interactions(
        np.array(user, np.int32), np.array(item, np.int32), np.zeros(n, np.int16), np.full(n, np.nan, np.float32),
        np.array(weight if weight is not None else [1.0] * n, np.float32), np.arange(n, dtype=np.int64) * 1_000_000,
        more.pop("n_users", max(user, default=-1) + 1), more.pop("n_items", max(item, default=-1) + 1), ("view",),
        **more,
    )  # fmt: skip


def ask(items: list[int], exclude: list[int] | None = None, context: dict[str, int] | None = None) -> Queries:
    n = len(items)
    return Queries(
        np.array([0, n], np.int64), np.array(items, np.int32), np.ones(n, np.float32), np.arange(n, dtype=np.int64),
        np.array([10**15], np.int64), np.array([-1], np.int32), Ragged.of([exclude or []]),
        {name: np.array([code], np.int64) for name, code in (context or {}).items()},
    )  # fmt: skip


@pytest.mark.heavy
@pytest.mark.parametrize("kind", MAKES)
@pytest.mark.usefixtures("here")
def test_every_trained_source_keeps_the_laws(kind: str) -> None:
    assert isinstance(MAKES[kind](), Source)
    assert check_source(MAKES[kind], answers_everyone=True) == []


@pytest.mark.heavy
@pytest.mark.parametrize("kind", MAKES)
@pytest.mark.parametrize(
    "data",
    [
        events([0, 0], [0, 1]),
        events([0, 1, 2], [0, 0, 0]),
        events([0, 0, 0, 0], [1, 1, 1, 1], n_items=5, n_users=4),
        events([0, 0, 1], [0, 1, 1], [1e30, np.inf, 1.0]),
        events([0, 0, 1, 1], [0, 1, 1, 2], [1.0, np.nan, -1e30, 1.0]),
        events([*[0] * 40, 1, 2, 3], [*range(40), 0, 1, 2]),
    ],
    ids=["one-user", "one-item", "repeats", "huge", "nan-and-negative", "took-everything"],
)
@pytest.mark.usefixtures("here")
def test_small_and_odd_audiences_are_survived(kind: str, data: Interactions) -> None:
    source = MAKES[kind]().fit(data, small_catalog(data.n_items))
    found = source.retrieve(ask([0, data.n_items - 1], exclude=[0]), data.n_items + 3)
    real = found.items[found.items >= 0]
    assert 0 not in real
    assert len(np.unique(real)) == len(real)
    assert np.isnan(found.scores[found.items < 0]).all()
    assert np.isfinite(found.scores[found.items >= 0]).all()


@pytest.mark.parametrize("kind", MAKES)
@pytest.mark.parametrize(
    "data, word",
    [
        (events([], [], n_users=3, n_items=3), "weight above 0"),
        (events([0, 1], [0, 1], [-1.0, np.nan]), "weight above 0"),
        (events([0, 5], [0, 1], n_users=2), "user rows"),
    ],
    ids=["empty", "nothing-liked", "user-out-of-range"],
)
def test_what_cannot_be_learnt_from_is_refused_in_a_sentence(kind: str, data: Interactions, word: str) -> None:
    with pytest.raises(DataError, match=word):
        MAKES[kind]().fit(data, small_catalog(data.n_items))


@pytest.mark.parametrize("kind", MAKES)
def test_without_the_extra_one_sentence_says_how_to_install_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configs, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(MissingExtraError, match=r"pip install 'honeyguide\[deep\]'"):
        MAKES[kind]().fit(small_audience(), small_catalog(40))


def test_configs_are_closed_and_say_what_does_not_fit() -> None:
    for kind in (SequenceConfig, GenerativeConfig, TowersConfig):
        with pytest.raises(ValidationError):
            kind(depth=3)
        with pytest.raises(ValidationError):
            kind(budget_cpu_s=0)
    with pytest.raises(ValidationError, match="multiple"):
        SequenceConfig(d=10, heads=4)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_a_source_learns_what_follows_what() -> None:
    """People walk round a ring of items; which way depends on the surface they are on."""
    rng = np.random.default_rng(0)
    user, item, way = [], [], []
    for person in range(120):
        at, direction = int(rng.integers(0, 12)), int(rng.integers(0, 2))
        for _ in range(12):
            user.append(person)
            item.append(at)
            way.append(1 + direction)
            at = (at + (1 if direction else -1)) % 12
    data = events(user, item, context={"surface": np.array(way, np.int64)})
    for kind in ("sequence", "generative"):
        long = {"epochs": 40.0, "budget_cpu_s": 1e5}
        made = MAKES[kind]()
        source = type(made)(made.config.model_copy(update=long)).fit(data, small_catalog(12))
        assert source.context_keys == ("surface",)
        for way_code, step in ((1, -1), (2, 1)):
            right = [
                source.retrieve(ask([at], exclude=[at], context={"surface": way_code}), 1).items[0, 0]
                == (at + step) % 12
                for at in range(12)
            ]
            assert np.mean(right) >= 0.75, (kind, way_code, right)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_towers_look_at_the_moment() -> None:
    """On one surface the first half of the items is taken, on the other the second."""
    rng = np.random.default_rng(0)
    user, way = np.repeat(np.arange(100), 12), rng.integers(1, 3, 1_200)
    item = rng.integers(0, 6, 1_200) + 6 * (way == 2)
    data = events(user.tolist(), item.tolist(), context={"surface": way.astype(np.int64)})
    source = Towers(TowersConfig(d=16, batch=32, epochs=20.0, budget_cpu_s=1e5)).fit(data, small_catalog(12))
    for told in (1, 2):
        for history in ([], [1, 8]):
            best = source.retrieve(ask(history, context={"surface": told}), 6).items[0]
            assert ((best >= 6) == (told == 2)).mean() >= 0.8, (told, history, best)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_items_that_nobody_has_taken_are_reached_by_their_content() -> None:
    """Two genres; each has an item without events, whose words are those of an item that many took."""
    data = small_audience(n_items=40, tastes=2, n_events=1_500)
    cold = np.array([38, 39])
    data = data.take(~np.isin(data.item, cold))
    catalog = small_catalog(40)
    catalog.title[:] = [f"{'war soldier' if row % 2 else 'love kiss'} alpha{row} beta{row}" for row in range(40)]
    count = np.bincount(data.item, minlength=40)
    for taste in (0, 1):
        twin = max((row for row in range(38) if row % 2 == taste), key=lambda row: count[row])
        catalog.title[38 + taste] = catalog.title[twin]
    for kind in ("generative", "towers"):
        made = MAKES[kind]()
        source = type(made)(made.config.model_copy(update={"epochs": 60.0})).fit(data, catalog)
        for taste in (0, 1):
            liked = [row for row in range(38) if row % 2 == taste][:6]
            items = source.retrieve(ask(liked), 40).items[0].tolist()
            assert items.index(38 + taste) < items.index(39 - taste), (kind, taste)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_towers_give_vectors_to_items_that_come_later() -> None:
    data, catalog = small_audience(n_items=40, tastes=2, n_events=1_500), small_catalog(40)
    catalog.title[:] = [f"{'war soldier battle' if row % 2 else 'love kiss wedding'}" for row in range(40)]
    source = Towers(TowersConfig(d=16, batch=32, epochs=10.0)).fit(data, catalog)
    later = small_catalog(2)
    later.title[:] = ["battle of soldiers war", "a kiss before the wedding"]
    source.add(np.array([40, 41], np.int32), later)
    liked = [row for row in range(40) if row % 2][:6]
    items = source.retrieve(ask(liked), 42).items[0].tolist()
    assert items.index(40) < items.index(41)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["sequence", "generative", "towers"])
def test_people_and_items_have_vectors(kind: str) -> None:
    data = small_audience()
    source = MAKES[kind]().fit(data, small_catalog(data.n_items))
    queries = small_queries(data)
    people, items = source.user_vectors(queries), source.item_vectors()
    assert len(people) == data.n_users
    assert np.isfinite(people).all()
    length = np.linalg.norm(items, axis=1)
    assert (np.isclose(length, 1.0, atol=1e-4) | (length == 0)).all()
    if kind != "generative":
        best = source.index.search(people, 5, exclude=queries.exclude)
        assert np.array_equal(best.items, source.retrieve(queries, 5).items)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["sequence", "generative", "towers"])
def test_a_saved_source_that_was_harmed_is_refused(kind: str, tmp_path: Path) -> None:
    source = MAKES[kind]().fit(small_audience(), small_catalog(40))
    source.save(tmp_path)
    arrays = sorted(tmp_path.glob("*.npy"))
    whole = arrays[0].read_bytes()
    arrays[0].write_bytes(whole[:-9])
    with pytest.raises(BuildError, match="Build again"):
        type(source).load(tmp_path)
    arrays[0].write_bytes(whole)
    for graph in tmp_path.glob("*.onnx"):
        graph.write_bytes(graph.read_bytes()[:50])
        with pytest.raises(BuildError):
            type(source).load(tmp_path)


@pytest.mark.heavy
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    data, catalog = small_audience(n_events=4_000), small_catalog(40)
    config = SequenceConfig(**{**SMALL, "epochs": 12.0}, budget_cpu_s=1e5, checkpoint_s=0.2, batch=2)
    folder = tmp_path / "work"
    whole = Sequence(config, tmp_path / "other").fit(data, catalog)
    folder.mkdir()
    for path in (tmp_path / "other").iterdir():
        if path.suffix in (".npy", ".json") and path.name != task.DONE:
            (folder / path.name).write_bytes(path.read_bytes())
    with subprocess.Popen([sys.executable, "-m", "honeyguide.retrieval.deep.train", str(folder)]) as process:
        deadline = time.monotonic() + 120
        while not (folder / "checkpoint.pt").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        process.kill()
    assert (folder / "checkpoint.pt").exists()
    assert not (folder / task.DONE).exists()
    again = Sequence(config, folder).fit(data, catalog)
    assert "went on from a checkpoint" in again.notes[0]
    assert np.array_equal(whole.item_vectors(), again.item_vectors())


def test_a_training_that_fails_says_so_in_one_error(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="task of a source's training"):
        task.open_task(tmp_path)
    (tmp_path / "task.json").write_text("{}")
    with pytest.raises(BuildError, match="honeyguide build"):
        task.open_task(tmp_path)


@pytest.mark.heavy
@pytest.mark.usefixtures("here")
def test_a_loss_that_is_no_number_ends_the_training() -> None:
    data = small_audience()
    config = SequenceConfig(**SMALL, learning_rate=1.0, start_scale=10.0)
    try:
        source = Sequence(config).fit(data, small_catalog(40))
    except BuildError as error:
        assert "learning_rate" in error.do  # noqa: PT017 - either end is sound
    else:
        assert np.isfinite(source.retrieve(replace(small_queries(data)), 3).scores).all()


def test_serving_a_source_loads_no_pytorch() -> None:
    code = (
        "import sys; import honeyguide.retrieval.deep.sequence, honeyguide.retrieval.deep.towers, "
        "honeyguide.retrieval.deep.generative; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
