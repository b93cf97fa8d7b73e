"""Training in a process of its own: what it learns, that it goes on after a kill, and what it refuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from honeyguide.contracts import RankInput
from honeyguide.errors import BuildError, ConfigError, MissingExtraError
from honeyguide.flows.bench.rank_logs import HEADS, ShownLog, contexts, interactions
from honeyguide.kernels.calibration import auc, log_losses
from honeyguide.ranking.deep import config as deep_config
from honeyguide.ranking.deep.config import DeepConfig
from honeyguide.ranking.deep.fit import Lesson, Trained, fit_nets
from honeyguide.ranking.deep.folder import DONE, OUT, Told, open_task, write_task
from honeyguide.ranking.deep.nets import DeepNet
from honeyguide.ranking.heads import HeadConfig

torch = pytest.importorskip("torch")

SMALL = {"units": 12, "tower": 6, "item_dim": 8, "user_dim": 2, "experts": 2, "sequence": 8, "context": ("device",)}
CLICK = HeadConfig(name="click", action="click", given="view")
BUY = HeadConfig(name="purchase", action="purchase", given="view", follows="click")


def split(log: ShownLog) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to learn from, to stop on, to judge."""
    first, second = np.quantile(log.at, [0.7, 0.8])
    return log.at < first, (log.at >= first) & (log.at < second), log.at >= second


def trained(log: ShownLog, config: DeepConfig, work: Path, heads: tuple[HeadConfig, ...] = (CLICK,)) -> Trained:
    learn, stop, _ = split(log)
    of = [HEADS.index(head.action) for head in heads]
    wide = np.ones((1, len(of)), bool)
    lesson = Lesson(log.given, log.labels[:, of], learn[:, None] & wide, stop[:, None] & wide, log.unit, log.position)
    return fit_nets(config, heads, log.columns, lesson, work, n_items=log.n_items, n_users=log.n_users, seed=3)


def small_task(folder: Path, **changes: object) -> Path:
    log = contexts(True, people=150, items=30, visits=6)
    learn, stop, _ = split(log)
    config = DeepConfig(**(SMALL | {"epochs": 3, "batch": 256, "checkpoint_steps": 2, "patience": 50} | changes))  # type: ignore[arg-type]
    told = Told(config.model_dump(mode="json"), ["click"], [-1], "probability", ["device"], log.n_items, log.n_users, 5)
    folder.mkdir()
    write_task(
        folder, told, log.given, log.labels[:, :1], learn[:, None], stop[:, None], np.ones(len(learn), np.float32),
        log.position,
    )  # fmt: skip
    return folder


def run(folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "honeyguide.ranking.deep.train", str(folder)], stdout=subprocess.PIPE
    )


@pytest.mark.heavy
def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole, killed = small_task(tmp_path / "whole"), small_task(tmp_path / "killed")
    first = run(whole)
    for lines in (1, 3):
        process = run(killed)
        for _ in range(lines):
            assert process.stdout is not None
            process.stdout.readline()
        process.kill()
        process.wait()
        assert not (killed / DONE).exists()
        assert (killed / "checkpoint.pt").exists()
    last = run(killed)
    assert last.wait() == first.wait() == 0
    results = [msgspec.json.decode((folder / DONE).read_bytes()) for folder in (whole, killed)]
    assert results[1]["resumed"]
    assert results[0]["losses"] == results[1]["losses"]
    assert results[0]["steps"] == results[1]["steps"]
    for name in ("items.npy", "users.npy", "raw.npy"):
        a, b = (np.load(folder / OUT / name) for folder in (whole, killed))
        np.testing.assert_array_equal(a, b)
    assert results[0]["losses"][-1] < results[0]["losses"][0]


@pytest.mark.heavy
def test_a_lone_process_that_is_interrupted_leaves_no_child(tmp_path: Path) -> None:
    folder = small_task(tmp_path / "task", epochs=500)
    code = (
        "from pathlib import Path; from honeyguide.ranking.deep.fit import train_folder;"
        f"train_folder(Path({str(folder)!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (folder / "checkpoint.pt").exists():
        assert parent.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    parent.send_signal(signal.SIGINT)
    parent.wait(timeout=60)
    stamp = (folder / "checkpoint.pt").stat().st_mtime_ns
    found = [pid for pid in os.listdir("/proc") if pid.isdigit() and _runs(pid, folder)]
    assert found == []
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == stamp


def _runs(pid: str, folder: Path) -> bool:
    try:
        return str(folder).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.heavy
def test_it_finds_the_context_and_serves_what_it_learnt(tmp_path: Path) -> None:
    log = contexts(True, people=500, visits=8)
    config = DeepConfig(**(SMALL | {"context": ("device", "surface"), "epochs": 6}))  # type: ignore[arg-type]
    found = trained(log, config, tmp_path)
    (net,) = found.nets
    _, _, test = split(log)
    raw, y = found.raw[test, 0].astype(float), log.labels[test, 0]
    assert auc(raw, y) > 0.6
    constant = log_losses(np.full(len(y), y.mean()), y)
    assert (constant - log_losses(1 / (1 + np.exp(-raw)), y)).mean() > 0.005
    # What the process of the training said, ONNX Runtime says from the saved files.
    (tmp_path / "saved").mkdir()
    net.save(tmp_path / "saved")
    again = DeepNet.load(tmp_path / "saved")
    some = np.flatnonzero(test)[:400]
    tolerance = 1e-5 if not net.manifest.int8 else 0.1
    np.testing.assert_allclose(again.of_rows(log.given, some)[:, 0], raw[:400], atol=tolerance)
    assert again.context_keys == ("device", "surface")
    _laws(again, log)
    cold = replace(log.given, items=np.full(len(log.given), 10**6, np.int32))
    assert np.isfinite(again.of_rows(cold, some)).all()
    with pytest.raises(BuildError, match="a matrix of 4 features"):
        again.raw(RankInput.of_features(np.zeros((2, 9), np.float32)))
    (tmp_path / "saved" / "net.json").write_text("{")
    with pytest.raises(BuildError, match="a deep ranker in saved"):
        DeepNet.load(tmp_path / "saved")


def _laws(net: DeepNet, log: ShownLog) -> None:
    """A request alone and among others, and its candidates in any order and number, have the same scores."""
    rows = np.arange(64)
    whole = net.of_rows(log.given, rows)
    if net.manifest.int8:
        return  # eight bits share a scale over whatever is scored together
    part = replace(
        RankInput.of_features(log.given.features[8:16]), items=log.given.items[8:16], users=log.given.users[1:2],
        at_us=log.given.at_us[1:2], context={name: codes[1:2] for name, codes in log.given.context.items()},
    )  # fmt: skip
    assert len(log.given.histories.row(1)) == 0
    np.testing.assert_allclose(net.raw(part), whole[8:16], atol=1e-5)
    mixed = np.random.default_rng(0).permutation(8)
    turned = replace(part, features=part.features[mixed], items=part.items[mixed])
    np.testing.assert_allclose(net.raw(turned), whole[8:16][mixed], atol=1e-5)
    few = replace(part, features=part.features[:3], items=part.items[:3], request=part.request[:3])
    np.testing.assert_allclose(net.raw(few), whole[8:11], atol=1e-5)
    assert net.raw(RankInput.of_features(np.zeros((0, 4), np.float32))).shape == (0, 1)


@pytest.mark.heavy
def test_bad_rows_are_said(tmp_path: Path) -> None:
    log = contexts(False, people=200, items=20, visits=5)
    features = log.given.features.copy()
    features[:, 3] = np.nan
    labels = log.labels.copy()
    labels[:, 2] = 0.0
    log = replace(log, given=replace(log.given, features=features), labels=labels)
    config = DeepConfig(**(SMALL | {"epochs": 1, "ids": "hashed", "buckets": 64, "kind": "ple", "precision": "bf16",
                                    "position": "ipw", "normalise": "standard", "int8": False}))  # type: ignore[arg-type]  # fmt: skip
    found = trained(log, config, tmp_path, (CLICK, BUY))
    assert list(found.off) == ["purchase"]
    assert "hold 0 with the outcome" in found.off["purchase"]
    assert found.nets[0].heads == ("click",)
    assert any("nan in every row and so without a say: noise" in note for note in found.nets[0].manifest.notes)
    assert any("how often positions are looked at: 1.00" in note for note in found.nets[0].manifest.notes)
    assert np.isfinite(found.raw[split(log)[2], 0]).all()
    assert np.isnan(found.raw[split(log)[0]]).all()


@pytest.mark.heavy
def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    log = contexts(False, people=120, items=20, visits=5)
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BuildError, match="a GPU that PyTorch can use"):
        trained(log, DeepConfig(**(SMALL | {"device": "cuda"})), tmp_path)  # type: ignore[arg-type]
    np.save(tmp_path / "probability" / "labels.npy", np.zeros((3, 1), np.float32))
    with pytest.raises(BuildError, match="labels of every candidate"):
        open_task(tmp_path / "probability")
    (tmp_path / "probability" / "items.npy").unlink()
    with pytest.raises(BuildError, match="a deep ranker's task"):
        open_task(tmp_path / "probability")
    with pytest.raises(ConfigError, match="follow another head"):
        trained(log, DeepConfig(), tmp_path, (BUY,))


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deep_config, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'honeyguide\[deep\]'"):
        trained(contexts(False, people=20, items=20, visits=3), DeepConfig(), tmp_path)


def test_what_serves_never_loads_torch() -> None:
    code = (
        "import sys, honeyguide.ranking.deep.nets, honeyguide.ranking.deep.fit, honeyguide.flows.wiring;"
        "print(any(name == 'torch' or name.startswith('torch.') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_it_wins_where_histories_and_ids_decide(tmp_path: Path) -> None:
    log = interactions(people=1_000)
    found = trained(log, DeepConfig(), tmp_path)
    _, _, test = split(log)
    assert auc(found.raw[test, 0].astype(float), log.labels[test, 0]) > 0.68
