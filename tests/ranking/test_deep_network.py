"""The network itself: candidates alone, chains of outcomes, positions, rows of tables, eight bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from honeyguide.engines.onnx.session import OnnxModel, Port
from honeyguide.errors import BuildError

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from honeyguide.ranking.deep.encode import AGES, RANKS, SIGNS  # noqa: E402
from honeyguide.ranking.deep.export import export  # noqa: E402
from honeyguide.ranking.deep.model import POSITIONS, Batch, Network, Shape  # noqa: E402
from honeyguide.ranking.deep.optim import RowwiseAdagrad  # noqa: E402
from honeyguide.ranking.deep.ports import INPUTS, MANY, ONE, OUTPUT, ports  # noqa: E402

F32 = np.dtype(np.float32)


def shape(kind: str = "mmoe", **changes: object) -> Shape:
    told: dict[str, object] = {
        "kind": kind, "dense": 5, "gaps": (1, 3), "heads": 3, "parents": (-1, 0, 0), "cardinalities": (4, 24),
        "item_dim": 8, "user_dim": 4, "context_dim": 3, "attention_heads": 2, "experts": 3, "own_experts": 1,
        "units": 6, "tower": 4, "dropout": 0.0, "position": False, "knots": 4,
    }  # fmt: skip
    return Shape(**(told | changes))  # type: ignore[arg-type]


def batch(of: Shape, n: int = 6, r: int = 3, length: int = 4, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=g)

    dense = normal(n, of.dense)
    dense[0, 1] = float("nan")
    mask = torch.ones(r, length)
    mask[0, :2] = 0.0
    age = torch.stack(
        [torch.randint(0, AGES, (r, length), generator=g), torch.randint(0, RANKS, (r, length), generator=g)], 2
    )
    context = torch.stack([torch.randint(0, k, (r,), generator=g) for k in of.cardinalities], 1)
    return Batch(
        dense, normal(n, of.item_dim), normal(r, length, of.item_dim), age, normal(r, length, SIGNS), mask,
        normal(r, of.user_dim), context, normal(r, of.item_dim + 1), torch.sort(torch.arange(n) % r).values,
    )  # fmt: skip


def network(of: Shape) -> Network:
    torch.manual_seed(1)
    found = Network(of).eval()
    with torch.no_grad():
        found.normalise.knots.copy_(torch.linspace(-2, 1, of.knots - 1).repeat(of.dense, 1))
    return found


@pytest.mark.parametrize("kind", ["shared", "mmoe", "ple"])
def test_a_candidate_is_scored_as_if_alone(kind: str) -> None:
    of = shape(kind)
    net, whole = network(of), batch(of)
    with torch.no_grad():
        odds = net(whole)
        assert odds.shape == (6, 3)
        for i in range(6):
            r = int(whole.request[i])
            real = whole.mask[r] > 0  # alone, nothing is padded
            one = Batch(
                whole.dense[i : i + 1], whole.item[i : i + 1], whole.history[r : r + 1, real],
                whole.age[r : r + 1, real], whole.sign[r : r + 1, real], whole.mask[r : r + 1, real],
                whole.user[r : r + 1], whole.context[r : r + 1], whole.seed[r : r + 1],
                torch.zeros(1, dtype=torch.int64),
            )  # fmt: skip
            torch.testing.assert_close(net(one)[0], odds[i], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(net.one(one)[0], odds[i], rtol=1e-5, atol=1e-5)


def test_an_outcome_that_follows_is_a_product() -> None:
    of = shape()
    net, given = network(of), batch(of)
    own = network(shape(parents=(-1, -1, -1)))
    with torch.no_grad():
        chained, alone = torch.sigmoid(net(given).double()), torch.sigmoid(own(given).double())
    torch.testing.assert_close(chained[:, 0], alone[:, 0])
    torch.testing.assert_close(chained[:, 1], alone[:, 0] * alone[:, 1], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(chained[:, 2], alone[:, 0] * alone[:, 2], rtol=1e-4, atol=1e-6)
    far = network(shape(heads=3, parents=(-1, 0, 1)))
    with torch.no_grad():
        grandchild = torch.sigmoid(far(given).double())
    torch.testing.assert_close(grandchild[:, 2], alone.prod(1), rtol=1e-4, atol=1e-6)


def test_where_it_serves_positions_count_at_their_mean() -> None:
    of = shape(position=True, parents=(-1, -1, -1))
    net, given = network(of), batch(of)
    with torch.no_grad():
        at = {k: net(given, torch.full((6,), k)) for k in (1, 2, POSITIONS)}
        net.served.zero_()
        net.served[1], net.served[2] = 0.25, 0.75
        torch.testing.assert_close(net(given), 0.25 * at[1] + 0.75 * at[2], rtol=1e-5, atol=1e-5)
        net.served.zero_()
        net.served[POSITIONS] = 1.0
        torch.testing.assert_close(net(given), at[POSITIONS], rtol=1e-5, atol=1e-5)
        # What a position adds is the same for every candidate of a request: it never changes their order.
        apart = at[1] - at[2]
        for r in range(3):
            torch.testing.assert_close(apart[given.request == r].std(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_ple_gives_a_head_no_other_heads_experts() -> None:
    of = shape("ple", parents=(-1, -1, -1))
    net, given = network(of), batch(of)
    odds = net(given)[:, 0].sum()
    odds.backward()
    weight = net.deeper.grad[0].abs().sum((1, 2))
    assert (weight[:4] > 0).all()  # three shared, and its own
    # At the second level the shared experts read the level below through all experts: only the gates of head 0 matter.
    gates = net.gate_candidate.weight.grad.view(3, net.total, -1).abs().sum((1, 2))
    assert gates[0] > 0
    assert gates[1] == gates[2] == 0


def test_rowwise_adagrad_by_plain_loops() -> None:
    torch.manual_seed(0)
    table = torch.nn.Embedding(6, 3, sparse=True)
    expected, sums = table.weight.detach().clone(), torch.zeros(6)
    optimiser = RowwiseAdagrad([table], 0.1)
    for step in range(4):
        rows = torch.tensor([[0, 2, 2], [5, 0, 1], [2, 2, 2], [4, 5, 0]][step])
        (table(rows) * torch.arange(1.0, 10.0).view(3, 3)).sum().backward()
        gradient = torch.zeros(6, 3)
        for place, row in enumerate(rows.tolist()):
            gradient[row] += torch.arange(1.0, 10.0).view(3, 3)[place]
        for row in set(rows.tolist()):
            sums[row] += (gradient[row] ** 2).mean()
            expected[row] -= 0.1 * gradient[row] / (sums[row].sqrt() + 1e-8)
        optimiser.step()
    torch.testing.assert_close(table.weight.detach(), expected)
    assert table.weight.grad is None


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["shared", "mmoe", "ple"])
def test_onnx_runtime_says_what_torch_says(kind: str, tmp_path: Path) -> None:
    of = shape(kind, position=True)
    net = network(of)
    with torch.no_grad():
        net.served[1] = 1.0
    export(net, tmp_path)
    arrays = {name: getattr(batch(of, n=7), name).numpy() for name in INPUTS}
    many = OnnxModel(tmp_path / MANY, ports(5, 8, 4, 2, single=False), [OUTPUT])
    with torch.no_grad():
        np.testing.assert_allclose(many.run(arrays)[0], net(batch(of, n=7)).numpy(), atol=1e-5)
    one = OnnxModel(tmp_path / ONE, ports(5, 8, 4, 2, single=True), [OUTPUT])
    for n, length in ((1, 1), (9, 1), (300, 17)):
        given = batch(of, n=n, r=1, length=length)
        told = {name: getattr(given, name).numpy() for name in INPUTS[:-1]}
        with torch.no_grad():
            np.testing.assert_allclose(one.run(told)[0], net(given).numpy(), atol=1e-5)
    with pytest.raises(BuildError, match=r"to take dense float32 \(any, 6\)"):
        OnnxModel(tmp_path / ONE, ports(6, 8, 4, 2, single=True), [OUTPUT])
    with pytest.raises(BuildError, match="to give p"):
        OnnxModel(tmp_path / ONE, None, ["p"])
    with pytest.raises(BuildError, match=r"arrays that one\.onnx takes"):
        one.run(told | {"item": told["item"][:, :3]})


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="an ONNX file at"):
        OnnxModel(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(BuildError, match=r"can open in text\.onnx"):
        OnnxModel(tmp_path / "text.onnx")
    from onnx import TensorProto, helper

    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["words"], ["out"])], "g", [port("words", TensorProto.STRING, [None])],
        [port("out", TensorProto.STRING, [None])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, str(tmp_path / "words.onnx"))
    with pytest.raises(BuildError, match="tensors of numbers"):
        OnnxModel(tmp_path / "words.onnx")
    assert Port("x", F32, (None, 3)).fits(Port("x", F32, (5, 3)))
    assert not Port("x", F32, (None, 3)).fits(Port("x", F32, (None, 4)))
