"""`python -m honeyguide.ranking.deep.eager FOLDER CANDIDATES COLUMNS`: a network of random weights, for `bench rank`.

Leaves what `DeepNet.load` reads in the folder, and prints the CPU-ms of PyTorch eager for one request, one thread.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from honeyguide.ranking.deep.config import DeepConfig
from honeyguide.ranking.deep.encode import AGES, SIGNS, Encoder, Ids
from honeyguide.ranking.deep.export import export
from honeyguide.ranking.deep.model import Batch, Network, Shape
from honeyguide.ranking.deep.nets import NetManifest
from honeyguide.ranking.deep.prepare import KNOTS

__all__ = ["ITEMS", "main"]

ITEMS = 10_000
_HEADS = ("click", "save", "purchase")
_CALLS = 200


def main(folder: Path, candidates: int, columns: int) -> float:
    """Make the network, export it, and time it before PyTorch is gone."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = DeepConfig()
    encoder = Encoder(
        Ids.dictionary(np.arange(ITEMS, dtype=np.int32), ITEMS, 1), Ids.dictionary(np.zeros(1, np.int32), 1, 1),
        ("device",), (np.arange(1, 5),), True, config.sequence, 0.0, 1.0, False,
    )  # fmt: skip
    shape = Shape(
        kind="mmoe", dense=columns, gaps=(0, 1, 2), heads=len(_HEADS), parents=(-1, 0, 0),
        cardinalities=encoder.cardinalities, item_dim=config.item_dim, user_dim=config.user_dim,
        context_dim=config.context_dim, attention_heads=config.attention_heads, experts=4,
        own_experts=1, units=config.units, tower=config.tower, dropout=0.0, position=True, knots=KNOTS,
    )  # fmt: skip
    network = Network(shape).eval()
    encoder.save(folder)
    np.save(folder / "items.npy", torch.randn(encoder.items.size, config.item_dim).numpy())
    np.save(folder / "users.npy", torch.randn(encoder.users.size, config.user_dim).numpy())
    manifest = NetManifest(heads=_HEADS, columns=tuple(f"f{at}" for at in range(columns)))
    (folder / "net.json").write_bytes(msgspec.json.encode(manifest))
    export(network, folder)
    d, length = config.item_dim, config.sequence
    batch = Batch(
        torch.randn(candidates, columns), torch.randn(candidates, d), torch.randn(1, length, d),
        torch.randint(0, AGES // 2, (1, length, 2)), torch.randn(1, length, SIGNS), torch.ones(1, length),
        torch.randn(1, config.user_dim), torch.ones(1, len(encoder.cardinalities), dtype=torch.int64),
        torch.zeros(1, d + 1), torch.zeros(candidates, dtype=torch.int64),
    )  # fmt: skip
    took = []
    with torch.no_grad():
        for _ in range(_CALLS):
            started = time.process_time()
            network.one(batch)
            took.append(time.process_time() - started)
    return statistics.median(took) * 1e3


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
