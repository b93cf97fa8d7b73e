"""The registry: states and moves, whoever dies beside them; what a record holds; MLflow's file store."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from honeyguide.errors import BuildError, DataError, HoneyguideError, RequestError
from honeyguide.flows import registry
from honeyguide.flows.build import build
from honeyguide.flows.keeping.forget import forget
from honeyguide.flows.layout import Layout
from honeyguide.flows.mlflow_export import export_mlflow
from honeyguide.flows.wiring import open_desk
from honeyguide.schema.wire import RecommendRequest

Run = Callable[..., tuple[int, str, str]]


def again(layout: Layout, name: str) -> str:
    """Another build with the artifacts of the one in service: what the registry does costs no training."""
    current = layout.current_build()
    manifest = json.loads(layout.manifest(current).read_text())
    made = f"{current[:18]}-{name}"
    manifest |= {"build_id": made, "parent": current}
    (layout.builds / f"{made}.json").write_text(json.dumps(manifest))
    return made


def state(layout: Layout, build_id: str) -> str:
    return next(line["state"] for line in registry.listing(layout) if line["build"] == build_id)


@pytest.fixture
def layout(shop: Path) -> Layout:
    return Layout.open(shop)


def test_the_way_of_a_build(layout: Layout) -> None:
    first = layout.current_build()
    second = again(layout, "zzzzzzz2")
    assert (state(layout, first), state(layout, second)) == ("in service", "built")
    registry.assign(layout, "shadow", second, 0.1)
    assert state(layout, second) == "shadow"
    registry.assign(layout, "canary", second, 0.05)  # one role at a time
    assert state(layout, second) == "canary"
    assert set(registry.given(layout)) == {"canary"}
    registry.promote(layout, second)
    assert (state(layout, first), state(layout, second)) == ("built", "in service")
    assert not registry.given(layout)
    assert registry.rollback(layout) == {"build_id": first, "was": second}
    with pytest.raises(BuildError):  # nothing was in service before the first
        registry.rollback(layout)
    registry.retire(layout, second, "a bad import")
    assert state(layout, second) == "retired"
    assert "a bad import" in layout.why_retired(second)
    for refused in (registry.promote, registry.rollback):
        with pytest.raises(BuildError, match="retired"):
            refused(layout, second)
    with pytest.raises(BuildError, match="retired"):
        registry.assign(layout, "shadow", second, 0.1)
    moves = [(move["was"], move["now"]) for move in registry.record(layout, second)["moves"]]
    assert moves == [
        ("built", "shadow"), ("shadow", "canary"), ("canary", "in service"), ("in service", "built"),
        ("built", "retired"),
    ]  # fmt: skip


def test_refusals(layout: Layout) -> None:
    current = layout.current_build()
    other = again(layout, "zzzzzzz3")
    with pytest.raises(BuildError):
        registry.retire(layout, current)
    with pytest.raises(RequestError):
        registry.assign(layout, "shadow", current, 0.1)
    for share in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(RequestError):
            registry.assign(layout, "shadow", other, share)
    for unknown in ("", "20010101T000000-none"):
        with pytest.raises(HoneyguideError):
            registry.promote(layout, unknown or "nothing")
    shutil.rmtree(layout.root / json.loads(layout.manifest(other).read_text())["folders"]["ranker"])
    with pytest.raises(BuildError, match="artifacts"):
        registry.promote(layout, other)
    assert layout.current_build() == current


def test_the_file_gives_roles_too_and_the_command_goes_before_it(layout: Layout) -> None:
    other = again(layout, "zzzzzzz4")
    layout.config.write_text(layout.config.read_text() + f'\n[shadow]\nbuild = "{other}"\nshare = 0.3\n')
    assert registry.given(layout)["shadow"].share == 0.3
    registry.withdraw(layout, "shadow")
    assert not registry.given(layout)
    registry.assign(layout, "shadow", other, 0.7)
    assert registry.given(layout)["shadow"].share == 0.7
    built = build(layout.root)["build_id"]  # such sections are part of no build
    assert "shadow" not in json.loads(layout.manifest(built).read_text())["config"]


def test_a_record_names_data_models_parameters_and_figures(layout: Layout) -> None:
    record = registry.record(layout)
    assert record["data"]["versions"]["events"]
    assert record["data"]["events"] > 0
    kinds = {model["kind"] for model in record["models"]}
    assert kinds >= {"source", "ranker", "blend"}
    popular = next(model for model in record["models"] if model["name"] == "popular")
    assert popular["parameters"]["use"].endswith(":Popular")
    assert popular["metrics"]
    assert record["features"]
    assert record["parameters"]["heads"]
    assert record["heads"]


def test_forgetting_retires_whatever_its_role(layout: Layout) -> None:
    other = again(layout, "zzzzzzz5")
    registry.assign(layout, "canary", other, 0.5)
    forget(layout.root, "p4")
    assert state(layout, other) == "retired"
    assert not registry.given(layout)
    assert not layout.current.exists()


def test_older_builds_are_retired_and_pruned_but_not_those_with_a_role(layout: Layout) -> None:
    oldest = layout.current_build()
    names = [again(layout, f"zzzzzz{n}a") for n in range(7)]
    registry.assign(layout, "shadow", names[0], 0.1)
    gone = registry.overtaken(layout, 5)
    assert gone == names[1:2]
    assert state(layout, oldest) == "in service"
    assert state(layout, names[0]) == "shadow"
    report = registry.prune(layout)
    assert report["pruned"] == gone
    assert all(line["build"] not in gone for line in registry.listing(layout))
    with closing(open_desk(str(layout.root), watch=False)) as desk:  # what is served has lost nothing
        assert desk.recommend(RecommendRequest(k=3, log=False)).items


def _toggle(root: str, a: str, b: str) -> None:
    layout = Layout.open(root)
    for n in range(200):
        registry.promote(layout, (a, b)[n % 2])


def test_moves_survive_kills_and_writers_in_turn(layout: Layout) -> None:
    first, second = layout.current_build(), again(layout, "zzzzzzz6")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_toggle, args=(str(layout.root), first, second)) for _ in range(2)]
    for worker in workers:
        worker.start()
    deadline = time.monotonic() + 30
    while len(registry.roles(layout).moves) < 20 and time.monotonic() < deadline:
        assert layout.current_build() in (first, second)  # whole, whenever it is read
    for worker in workers:
        assert worker.pid is not None
        os.kill(worker.pid, 9)
        worker.join()
    assert layout.current_build() in (first, second)
    assert {line["state"] for line in registry.listing(layout)} <= {"in service", "built"}
    registry.promote(layout, second)  # the lock died with its holders
    assert layout.current_build() == second


def test_mlflows_file_store(layout: Layout, tmp_path: Path) -> None:
    other = again(layout, "zzzzzzz7")
    report = export_mlflow(layout.root, tmp_path / "runs")
    assert report["runs"] == 2
    metas = list((tmp_path / "runs").glob("*/*/meta.yaml"))
    assert len(metas) == 2
    for meta in metas:
        run = meta.parent
        told = dict(line.split(": ", 1) for line in meta.read_text().splitlines())
        assert told["lifecycle_stage"] == "active"
        assert told["status"] == "3"
        assert int(told["start_time"]) <= int(told["end_time"])
        assert told["run_id"].strip('"') == run.name
        metrics = list((run / "metrics").iterdir())
        assert metrics
        for metric in metrics:
            at, value, step = metric.read_text().split()
            assert int(at) == int(told["end_time"])
            float(value)
            assert step == "0"
        assert (run / "tags" / "state").read_text() in ("in service", "built")
        assert json.loads((run / "artifacts" / "build.json").read_text())["models"]
    assert any((meta.parent / "tags" / "mlflow.runName").read_text() == other for meta in metas)
    with pytest.raises(DataError):
        export_mlflow(layout.root, tmp_path / "runs")


def test_the_commands(run: Run, shop: Path) -> None:
    layout = Layout.open(shop)
    other = again(layout, "zzzzzzz8")
    code, out, _ = run("models", "list", shop, "--json")
    assert code == 0
    assert [line["state"] for line in json.loads(out)] == ["built", "in service"]
    for command in (("list",), ("show",), ("show", other), ("shadow",)):
        code, out, err = run("models", command[0], shop, *command[1:])
        assert (code, err) == (0, "")
        assert out
    assert run("models", "shadow", shop, other, "--share", ".2")[0] == 0
    assert json.loads(run("models", "list", shop, "--json")[1])[0]["share"] == 0.2
    assert run("models", "shadow", shop, "--off")[0] == 0
    assert run("models", "canary", shop, other)[0] == 0
    assert run("models", "canary", shop)[0] == 2
    assert run("models", "canary", shop, "--off")[0] == 0
    assert run("models", "promote", shop, other)[0] == 0
    assert layout.current_build() == other
    assert run("models", "rollback", shop)[0] == 0
    assert run("models", "retire", shop, other, "--prune")[0] == 0
    assert run("models", "retire", shop)[0] == 2
    assert len(json.loads(run("models", "list", shop, "--json")[1])) == 1
    code, _, err = run("models", "promote", shop, other)
    assert code == 2
    assert "Traceback" not in err
