"""A trained network as ONNX files: one graph for a request with its candidates, one for many requests at once."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch

from honeyguide.ranking.deep.encode import SIGNS
from honeyguide.ranking.deep.model import Graph, Network
from honeyguide.ranking.deep.ports import INPUTS, MANY, ONE, OUTPUT

__all__ = ["export"]


def export(network: Network, folder: Path) -> None:
    """Write both graphs into an existing folder; the network must be in evaluation mode, on the CPU."""
    shape = network.shape
    n, r, length = 3, 2, 4
    d, facts = shape.item_dim, len(shape.cardinalities)

    def inputs(requests: int) -> tuple[torch.Tensor, ...]:
        return (
            torch.zeros(n, shape.dense), torch.zeros(n, d), torch.zeros(requests, length, d),
            torch.zeros(requests, length, 2, dtype=torch.int64), torch.zeros(requests, length, SIGNS),
            torch.ones(requests, length), torch.zeros(requests, shape.user_dim),
            torch.zeros(requests, facts, dtype=torch.int64), torch.zeros(requests, d + 1),
            torch.zeros(n, dtype=torch.int64),
        )  # fmt: skip

    rows, requests, events = (torch.export.Dim(name, min=low) for name, low in (("n", 1), ("r", 1), ("l", 1)))
    many = [
        {0: rows}, {0: rows}, *({0: requests, 1: events} for _ in range(4)),
        *({0: requests} for _ in range(3)), {0: rows},
    ]  # fmt: skip
    one = [{0: rows}, {0: rows}, *({1: events} for _ in range(4)), {}, {}, {}]
    for name, single, example, dynamic in (
        (ONE, True, inputs(1)[:-1], one), (MANY, False, inputs(r), many),
    ):  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            program = torch.onnx.export(
                Graph(network, single).eval(), example, dynamo=True, verbose=False,
                input_names=list(INPUTS[: len(example)]), output_names=[OUTPUT], dynamic_shapes=(tuple(dynamic),),
            )  # fmt: skip
        if program is None:
            raise TypeError("the exporter gave no program")
        program.save(str(folder / name), external_data=False)
