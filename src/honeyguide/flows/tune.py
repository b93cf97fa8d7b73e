"""`honeyguide tune`: parameters of heads by time-blocked cross validation, handed over as a change to read."""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from honeyguide.contracts import Progress
from honeyguide.engines.tasks.steps import atomic_write, fingerprint, only_process
from honeyguide.engines.tuning.search import Range, Search
from honeyguide.errors import ConfigError, NotFoundError
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.layout import CONFIG, Layout
from honeyguide.flows.live import load_manifest
from honeyguide.flows.rankers import families_of
from honeyguide.flows.training import read_rows
from honeyguide.ranking.heads import HeadConfig
from honeyguide.ranking.ranker import HeadsRanker
from honeyguide.ranking.rows import Rows
from honeyguide.ranking.tune import Trials, folds_of
from honeyguide.schema import columns as c
from honeyguide.schema.vocabulary import Vocabulary

__all__ = ["CHANGE", "SPACES", "changed", "tune"]

CHANGE = "tuned.toml"
"""The workspace's configuration with what was found, to be read and then put in its place."""
SPACES: dict[str, dict[str, Range]] = {
    "trees": {
        "depth": Range(3, 8, whole=True),
        "learning_rate": Range(0.02, 0.3, log=True),
        "trees": Range(50, 500, whole=True, log=True),
    },
    "linear": {"ridge": Range(0.01, 1_000.0, log=True)},
}


def tune(
    folder: Path | str, *, heads: Sequence[str] = (), trials: int = 30, cpu_s: float | None = None, apply: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Try parameters of the heads (default: all that the build fits) on the training set of the build in service.

    trials: in all, per head and kind of model, counting those of runs before; cpu_s: processor time of this run. What
    was tried is kept in the workspace: a run that was killed goes on, and ends with what it would have found. A head is
    changed only if what was found is better than what it has beyond chance. apply: put the change in place.
    """
    layout = Layout.open(folder)
    config = WorkspaceConfig.load(layout.config)
    tell: Progress = progress or (lambda what, done, total: None)
    with only_process(layout.root / ".tuning", "tune"):
        rows, built = _rows(layout, config)
        chosen = _heads(config, built, heads)
        families = [family for family in families_of(config, threads=2) if family.kind in SPACES]
        work = [(head, family) for head in chosen for family in families]
        begun = time.process_time()
        found: list[dict[str, Any]] = []
        for place, (head, family) in enumerate(work):
            left = None if cpu_s is None else (cpu_s - (time.process_time() - begun)) / (len(work) - place)
            index = [one.name for one in built].index(head.name)
            folds = folds_of(config.ranker, head, index, rows, seed=config.seed)
            if not folds:
                why = "too few rows of both outcomes before those that a build measures on"
                found.append({"head": head.name, "kind": family.kind, "trials": 0, "changed": False, "reason": why})
                continue
            one = Trials(head, index, rows, folds, family)
            found.append(_search(layout, config, one, trials, left, tell))
        text = layout.config.read_text(encoding="utf-8")
        new = text
        for told in found:
            if told["changed"]:
                new = changed(new, told["head"], told["parameters"])
        change = layout.root / CHANGE
        change.unlink(missing_ok=True)
        if new != text:
            atomic_write(change, new.encode())
            WorkspaceConfig.load(change)  # what is handed over can be built
            if apply:
                change = change.replace(layout.config)
    difference = difflib.unified_diff(text.splitlines(), new.splitlines(), CONFIG, change.name, lineterm="", n=1)
    return {
        "workspace": str(layout.root), "found": found, "applied": apply and new != text,
        "cpu_s": time.process_time() - begun, "change": str(change) if new != text else None,
        "difference": list(difference),
    }  # fmt: skip


def _rows(layout: Layout, config: WorkspaceConfig) -> tuple[Rows, tuple[HeadConfig, ...]]:
    """The training set of the build in service, and the heads that it has labels of."""
    manifest = load_manifest(layout)
    built = WorkspaceConfig.of_build(manifest.config).heads
    places = {name: layout.root / place for name, place in manifest.folders.items()}
    columns = HeadsRanker.columns_of(places["ranker"])
    users = Vocabulary.load(places["catalog"] / "users.json")
    items = Vocabulary(pq.read_table(places["catalog"] / "items.parquet", columns=[c.ITEM_ID])[c.ITEM_ID].to_pylist())
    return read_rows(places["training"], columns, built, users, items), built


def _heads(config: WorkspaceConfig, built: Sequence[HeadConfig], wanted: Sequence[str]) -> list[HeadConfig]:
    """The configured heads to tune; their labels must be those of the build."""
    names = {head.name: head for head in config.heads}
    for name in wanted:
        if name not in names:
            raise NotFoundError(
                expected=f"a head of this workspace ({', '.join(names)})", got=repr(name), do="Name one of them."
            )
    meaning = ("action", "min_value", "max_value", "given", "kind")
    of_build = {head.name: [getattr(head, key) for key in meaning] for head in built}
    chosen = [head for head in config.heads if head.scorer is None and (not wanted or head.name in wanted)]
    for head in chosen:
        if of_build.get(head.name) != [getattr(head, key) for key in meaning]:
            raise ConfigError(
                expected=f"a build whose head {head.name!r} means what [[heads]] says now", got="another one",
                do="Run `honeyguide build` first.",
            )  # fmt: skip
    return chosen


def _search(
    layout: Layout, config: WorkspaceConfig, one: Trials, trials: int, cpu_s: float | None, tell: Progress
) -> dict[str, Any]:
    space = SPACES[one.kind]
    present = {key: getattr(one.head, key) for key in space}
    present = {
        key: min(max(value, type(value)(space[key].low)), type(value)(space[key].high))
        for key, value in present.items()
    }
    # Other rows, another head or another seed are another search.
    key = fingerprint({
        "rows": [float(np.nansum(one.rows.features[::97], dtype=np.float64)), len(one.rows.at), int(one.rows.at[-1])],
        "head": one.head.model_dump(exclude=set(space)), "first": present, "seed": config.seed,
        "ranker": config.ranker.model_dump(include={"stop_share", "calibrate_share", "test_share", "rank_share"}),
    })  # fmt: skip
    search = Search(layout.root / "tuning" / f"{one.head.name}-{one.kind}-{key[:12]}.journal", space,
                    seed=config.seed, first=present)  # fmt: skip
    before, begun = len(search.tried()), time.process_time()
    what = f"{one.head.name}, {one.kind}"
    while (done := len(search.tried())) < trials:
        if cpu_s is not None and done > before and time.process_time() - begun >= cpu_s:
            break
        tell(what, done, trials)
        search.run(lambda parameters: float(one.losses(parameters, one.searched).mean()))
    tried = search.tried()
    tell(what, trials, trials)
    best = min(tried, key=lambda trial: trial.loss)
    # The best of many trials looks better than it is on the blocks that chose it: the newest block decides.
    found, now = (one.losses(parameters, one.decided) for parameters in (best.parameters, present))
    gain, low, high = one.gain(found, now, one.decided, seed=config.seed)
    better = low is not None and low > 0.0
    measure = "log loss" if one.head.kind == "probability" else "1 - nDCG@10"
    return {
        "head": one.head.name, "kind": one.kind, "trials": len(tried), "trials_before": before, "measure": measure,
        "present": present, "parameters": _tidy(best.parameters), "loss": best.loss, "loss_now": tried[0].loss,
        "gain": gain, "low": low, "high": high, "changed": better,
        "reason": "better beyond chance" if better else "not better than what it has beyond chance",
        "folds": len(one.searched), "rows": int(sum(len(fold.judge) for fold in one.searched)),
        "cpu_s": time.process_time() - begun,
    }  # fmt: skip


def _tidy(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Three digits are enough, and easier to read."""
    return {key: value if isinstance(value, int) else float(f"{value:.3g}") for key, value in parameters.items()}


def changed(text: str, head: str, parameters: Mapping[str, Any]) -> str:
    """A configuration's text with parameters of one head set; comments and order stay. ConfigError if it has no such
    `[[heads]]` block."""
    lines = text.splitlines(keepends=True)
    starts = [at for at, line in enumerate(lines) if re.match(r"\s*\[\[heads\]\]", line)]
    for start in starts:
        end = next((at for at in range(start + 1, len(lines)) if re.match(r"\s*\[", lines[at])), len(lines))
        name = next(
            (at for at in range(start, end) if re.match(rf"\s*name\s*=\s*[\"']{re.escape(head)}[\"']", lines[at])), -1
        )
        if name < 0:
            continue
        block = lines[start:end]
        for key, value in parameters.items():
            at = next((i for i, line in enumerate(block) if re.match(rf"\s*{key}\s*=", line)), -1)
            if at >= 0:
                comment = re.search(r"\s+#.*$", block[at].rstrip("\n"))
                block[at] = f"{key} = {value}{comment.group() if comment else ''}\n"
            else:
                block.insert(name - start + 1, f"{key} = {value}\n")
        return "".join([*lines[:start], *block, *lines[end:]])
    raise ConfigError(
        expected=f"a [[heads]] block with name = {head!r}", got="none in honeyguide.toml",
        do="Set by hand: " + ", ".join(f"{key} = {value}" for key, value in parameters.items()) + ".",
    )  # fmt: skip
