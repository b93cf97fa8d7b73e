"""Trained blocks as ONNX files, written node by node. Imported by the process that trains, and by nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from honeyguide.retrieval.deep.blocks import Block, Encoder
from honeyguide.retrieval.deep.ports import AFTER, BEFORE, HIDDEN, STEPS

__all__ = ["Graph", "write_encoder", "write_speller"]

_OPSET = 20
_IR = 9


class Graph:
    """Nodes and constants; every method adds a node and gives the name of what comes out."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        """An array that is part of the file."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node with one output."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def whole(self, *numbers: int) -> str:
        """Whole numbers, as shapes and axes are given."""
        return self.constant(np.array(numbers, np.int64))

    def linear(self, x: str, layer: nn.Linear) -> str:
        """A layer over the last axis."""
        product = self.node("MatMul", x, self.constant(layer.weight.detach().cpu().numpy().T))
        return self.node("Add", product, self.constant(layer.bias.detach().cpu().numpy()))

    def norm(self, x: str, layer: nn.LayerNorm) -> str:
        """A normalisation over the last axis."""
        weight, bias = (self.constant(one.detach().cpu().numpy()) for one in (layer.weight, layer.bias))
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=layer.eps)

    def heads(self, x: str, heads: int, d: int, *axes: int) -> str:
        """(1, l, d) by heads, in the order of `axes` of (1, l, heads, d / heads)."""
        return self.node("Transpose", self.node("Reshape", x, self.whole(0, -1, heads, d // heads)), perm=list(axes))

    def middle(self, x: str, block: Block) -> str:
        """The second half of a block."""
        wide = self.node("Gelu", self.linear(self.norm(x, block.norm2), block.wide))
        return self.node("Add", x, self.linear(wide, block.narrow))

    def cut(self, x: str, start: int, end: int, axis: int) -> str:
        """Part of an axis."""
        return self.node("Slice", x, self.whole(start), self.whole(end), self.whole(axis))

    def save(self, path: Path, inputs: list[Any], outputs: list[Any]) -> None:
        """Check and write."""
        graph = helper.make_graph(self.nodes, path.stem, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def write_encoder(encoder: Encoder, path: Path) -> None:
    """(1, l, d) steps of one history, oldest first -> (1, d) of the last, which is all that a question needs.

    So the last block looks from its last place alone, and nothing has to be masked there.
    """
    graph, d, last = Graph(), int(encoder.norm.normalized_shape[0]), len(encoder.blocks) - 1
    x = STEPS
    for number, block in enumerate(encoder.blocks):
        x = _attend(graph, x, block, d, only_last=number == last)  # type: ignore[arg-type]
    out = graph.norm(x, encoder.norm)
    graph.nodes.append(helper.make_node("Reshape", [out, graph.whole(1, d)], [HIDDEN]))
    graph.save(
        path, [helper.make_tensor_value_info(STEPS, TensorProto.FLOAT, [1, "l", d])],
        [helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, [1, d])],
    )  # fmt: skip


def _attend(graph: Graph, x: str, block: Block, d: int, *, only_last: bool) -> str:
    own = graph.linear(graph.norm(x, block.norm1), block.qkv)
    q, k, v = (graph.cut(own, n * d, (n + 1) * d, 2) for n in range(3))
    if only_last:
        q, x = graph.cut(q, -1, 2**31, 1), graph.cut(x, -1, 2**31, 1)
    # (1, heads, l, d / heads), and the keys with their last two axes in turn
    q, v = graph.heads(q, block.heads, d, 0, 2, 1, 3), graph.heads(v, block.heads, d, 0, 2, 1, 3)
    scores = graph.node("MatMul", q, graph.heads(k, block.heads, d, 0, 2, 3, 1))
    scores = graph.node("Mul", scores, graph.constant(np.float32((d // block.heads) ** -0.5)))
    if not only_last:
        length = graph.node("Shape", x, start=1, end=2)
        square = graph.node("Concat", length, length, axis=0)
        far = numpy_helper.from_array(np.array([-1e9], np.float32))
        future = graph.node("Trilu", graph.node("ConstantOfShape", square, value=far), graph.constant(np.int64(1)))
        scores = graph.node("Add", scores, future)
    mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), v)
    joined = graph.node("Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), graph.whole(0, -1, d))
    x = graph.node("Add", x, graph.linear(joined, block.out))
    return graph.middle(x, block)


def write_speller(speller: Encoder, path: Path) -> None:
    """One code further for b spellings: (b, 1, d) and the keys and values of the codes before -> (b, d), and all of
    them with this one's.

    Keys and values: (b, 2 * layers, heads, t, d / heads), keys of a block before its values; t = 0 at first.
    """
    graph, d = Graph(), int(speller.norm.normalized_shape[0])
    heads = int(speller.blocks[0].heads)  # type: ignore[arg-type]
    x, kept = STEPS, []
    for number, block in enumerate(speller.blocks):
        own = graph.linear(graph.norm(x, block.norm1), block.qkv)  # type: ignore[arg-type]
        q, k, v = (graph.heads(graph.cut(own, n * d, (n + 1) * d, 2), heads, d, 0, 2, 1, 3) for n in range(3))
        pair = []
        for part, new in enumerate((k, v)):
            before = graph.node(
                "Squeeze", graph.cut(BEFORE, 2 * number + part, 2 * number + part + 1, 1), graph.whole(1)
            )
            pair.append(graph.node("Concat", before, new, axis=2))
        kept += [graph.node("Unsqueeze", one, graph.whole(1)) for one in pair]
        scores = graph.node("MatMul", q, graph.node("Transpose", pair[0], perm=[0, 1, 3, 2]))
        scores = graph.node("Mul", scores, graph.constant(np.float32((d // heads) ** -0.5)))
        mixed = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), pair[1])
        joined = graph.node("Reshape", graph.node("Transpose", mixed, perm=[0, 2, 1, 3]), graph.whole(0, -1, d))
        x = graph.middle(graph.node("Add", x, graph.linear(joined, block.out)), block)  # type: ignore[arg-type]
    out = graph.norm(x, speller.norm)
    graph.nodes.append(helper.make_node("Reshape", [out, graph.whole(0, d)], [HIDDEN]))
    graph.nodes.append(helper.make_node("Concat", kept, [AFTER], axis=1))
    width, of = 2 * len(speller.blocks), TensorProto.FLOAT
    graph.save(
        path,
        [helper.make_tensor_value_info(STEPS, of, ["b", 1, d]),
         helper.make_tensor_value_info(BEFORE, of, ["b", width, heads, "t", d // heads])],
        [helper.make_tensor_value_info(HIDDEN, of, ["b", d]),
         helper.make_tensor_value_info(AFTER, of, ["b", width, heads, "u", d // heads])],
    )  # fmt: skip
