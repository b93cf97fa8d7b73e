"""The parts of the trained sources against plain derivations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from honeyguide.errors import ConfigError
from honeyguide.flows.bench.sequence_data import judged, left_out
from honeyguide.kernels.bags import bag_steps, bag_sums
from honeyguide.kernels.nearest import products
from honeyguide.retrieval.deep.content import Content
from honeyguide.retrieval.deep.encode import Moments, lines_of
from honeyguide.retrieval.deep.semantic import Trie, joined, semantic_ids
from honeyguide.retrieval.deep.spectral import nearby, principal
from honeyguide.retrieval.deep.windows import Windows
from honeyguide.testing.sources import small_audience, small_catalog

torch = pytest.importorskip("torch", reason="the extra `deep` is not installed")


def test_the_full_softmax_is_cross_entropy_with_its_gradients() -> None:
    from honeyguide.retrieval.deep.losses import full_softmax

    torch.manual_seed(0)
    shapes = (150, 8), (33, 8), (33,)
    mine = [torch.randn(shape, requires_grad=True) for shape in shapes]
    theirs = [one.detach().clone().requires_grad_() for one in mine]
    target = torch.randint(0, 33, (150,))
    loss = full_softmax(*mine, target, low=False)
    want = torch.nn.functional.cross_entropy(theirs[0] @ theirs[1].T + theirs[2], target)
    loss.backward()
    want.backward()
    torch.testing.assert_close(loss, want)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-6, rtol=1e-4)


def test_the_sampled_softmax_comes_to_the_full_one_with_many_drawn() -> None:
    from honeyguide.retrieval.deep.losses import sampled_softmax

    torch.manual_seed(0)
    hidden, table, target = torch.randn(40, 8), torch.randn(60, 8) * 0.5, torch.randint(0, 60, (40,))
    odds = torch.rand(60) + 0.2
    odds = odds / odds.sum()
    drawn = torch.multinomial(odds, 200_000, replacement=True)
    found = sampled_softmax(
        (hidden * table[target]).sum(1), hidden @ table[drawn].T, torch.log(odds * len(drawn))[drawn], target, drawn
    )
    want = torch.nn.functional.cross_entropy(hidden @ table.T, target)
    torch.testing.assert_close(found, want, atol=0.01, rtol=0.01)


def test_the_softmax_of_a_batch_by_autograd() -> None:
    from honeyguide.retrieval.deep.losses import batch_softmax

    torch.manual_seed(0)
    question, items, addend = torch.randn(6, 4), torch.randn(9, 4), torch.randn(9)
    rows, columns = torch.tensor([0, 3]), torch.tensor([5, 0])
    mine = [one.clone().requires_grad_() for one in (question, items)]
    theirs = [one.clone().requires_grad_() for one in (question, items)]
    loss = batch_softmax(*mine, addend, 0.3, [rows, columns])
    logits = theirs[0] @ theirs[1].T / 0.3 + addend
    logits = logits.index_put((rows, columns), torch.tensor(-torch.inf))
    want = torch.nn.functional.cross_entropy(logits, torch.arange(6))
    loss.backward()
    want.backward()
    torch.testing.assert_close(loss, want)
    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("length", [1, 6])
def test_the_graph_says_what_the_network_says(layers: int, length: int, tmp_path: Path) -> None:
    from honeyguide.engines.onnx.session import OnnxModel
    from honeyguide.retrieval.deep.blocks import Encoder
    from honeyguide.retrieval.deep.graph import write_encoder, write_speller

    torch.manual_seed(0)
    network = Encoder(8, layers, 2, 12, 0.0).eval()
    write_encoder(network, tmp_path / "e.onnx")
    write_speller(network, tmp_path / "s.onnx")
    x = torch.randn(1, length, 8)
    want = network(x)[0].detach().numpy()
    found = OnnxModel(tmp_path / "e.onnx").run({"steps": x.numpy()})[0]
    np.testing.assert_allclose(found[0], want[-1], atol=1e-5)
    speller, before = OnnxModel(tmp_path / "s.onnx"), np.zeros((1, 2 * layers, 2, 0, 4), np.float32)
    for step in range(length):
        hidden, before = speller.run({"steps": x.numpy()[:, step : step + 1].copy(), "before": before})
        np.testing.assert_allclose(hidden[0], want[step], atol=1e-5)


def test_the_steps_of_one_place_do_not_see_those_after_it() -> None:
    from honeyguide.retrieval.deep.blocks import Encoder

    torch.manual_seed(0)
    network, x = Encoder(8, 2, 2, 12, 0.0).eval(), torch.randn(1, 6, 8)
    changed = x.clone()
    changed[:, 4:] = 7.0
    torch.testing.assert_close(network(x)[:, :4], network(changed)[:, :4])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 99))
def test_windows_teach_every_event_once_a_pass(length: int, batch: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 25, 6)
    indptr = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    item = np.arange(indptr[-1], dtype=np.int32)
    arrays = {"indptr": indptr, "item": item, "moments": np.zeros((len(item), 0), np.int32)}
    windows = Windows(arrays, length, batch, seed, 0)
    for epoch in range(3):
        taught = []
        for one in windows.batches(epoch):
            before, wanted, _ = windows.read(one)
            for b, w in zip(before, wanted, strict=True):
                real = w >= 0
                assert real.sum() <= length
                first = np.isin(w[real], indptr[:-1])
                assert (b[real][first] == 0).all()
                assert (b[real][~first] == w[real][~first]).all()  # row + 1 of the one before is this row here
                taught += w[real].tolist()
        assert sorted(taught) == item.tolist()


def test_principal_vectors_are_those_of_the_decomposition() -> None:
    rng = np.random.default_rng(0)
    matrix = sparse.csr_matrix((rng.random((40, 30)) < 0.2) * rng.random((40, 30)), dtype=np.float32)
    vectors, values = principal(matrix, 6, 0, rounds=12)
    left, want, _ = np.linalg.svd(matrix.toarray(), full_matrices=False)
    np.testing.assert_allclose(values, want[:6], rtol=1e-3)
    np.testing.assert_allclose(np.abs((vectors * left[:, :6]).sum(axis=0)), 1.0, atol=1e-2)
    none, nothing = principal(sparse.csr_matrix((5, 5), dtype=np.float32), 3, 0)
    assert not nothing.any()
    assert np.isfinite(none).all()


def test_what_stands_near_by_a_plain_count() -> None:
    lines = [[0, 1, 2, 1], [2, 3]]
    indptr, item = np.array([0, 4, 6], np.int64), np.array([0, 1, 2, 1, 2, 3], np.int32)
    counts = np.zeros((4, 4))
    for line in lines:
        for i in range(len(line)):
            for j in range(i + 1, min(i + 3, len(line))):
                counts[line[i], line[j]] += 0.9 ** (j - i)
                counts[line[j], line[i]] += 0.9 ** (j - i)
    of = counts.sum(axis=1)
    with np.errstate(divide="ignore"):
        want = np.maximum(np.log(counts * of.sum() / np.outer(of, of)), 0.0)
    np.testing.assert_allclose(nearby(indptr, item, 4, 2).toarray(), want, atol=1e-5)
    np.testing.assert_allclose(
        nearby(indptr, item, 4, 2, logarithm=False).toarray(), counts / np.sqrt(np.outer(of, of)), atol=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 3), st.integers(2, 6), st.integers(0, 99))
def test_ids_are_distinct_and_the_tree_holds_them_all(n: int, levels: int, codes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 4)).astype(np.float32).round(0)
    use, seen = rng.random(n) < 0.9, rng.random(n) < 0.7
    ids = semantic_ids(vectors, use, seen & use, levels, codes, seed)
    assert (ids[~use] == -1).all()
    kept = [tuple(one) for one in ids[use].tolist()]
    assert len(set(kept)) == len(kept)
    assert all(0 <= code < codes for one in kept for code in one[:levels])
    warm = {tuple(one[:levels]) for one in ids[seen & use].tolist()}
    if warm:
        assert {one[:levels] for one in kept} <= warm  # nothing begins as nothing that was taken does
    trie, found = Trie.of(ids), []

    def walk(level: int, node: int, so_far: tuple[int, ...]) -> None:
        for child in range(int(trie.first[level][node]), int(trie.first[level][node + 1])):
            spelt = (*so_far, int(trie.codes[level][child]))
            if level == levels:
                found.append((spelt, int(trie.rows[child])))
            else:
                walk(level + 1, child, spelt)

    walk(0, 0, ())
    assert sorted(found) == sorted((tuple(ids[row].tolist()), row) for row in np.flatnonzero(use).tolist())


def test_an_item_that_nobody_took_stands_where_its_content_foretells() -> None:
    rng = np.random.default_rng(0)
    content = np.eye(2, dtype=np.float32)[rng.integers(0, 2, 30)]
    taken = content @ np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], np.float32)
    seen = np.arange(30) > 0
    taken[0] = 0.0
    found = joined(content, taken, seen, 0.3)
    same = np.flatnonzero((content == content[0]).all(axis=1) & seen)
    np.testing.assert_allclose(found[0], found[same[0]], atol=1e-5)


def test_bags_by_plain_loops() -> None:
    rng = np.random.default_rng(0)
    table, rows = rng.normal(size=(9, 4)).astype(np.float32), rng.integers(-1, 9, (5, 3)).astype(np.int32)
    weights = rng.random((5, 3)).astype(np.float32)
    out = np.empty((5, 4), np.float32)
    bag_sums(table, rows, weights, out)
    want = [sum(weights[n, j] * table[rows[n, j]] for j in range(3) if rows[n, j] >= 0) for n in range(5)]
    np.testing.assert_allclose(out, np.array([one if not np.isscalar(one) else np.zeros(4) for one in want]), rtol=1e-5)
    gradient, state = rng.normal(size=(5, 4)).astype(np.float32), np.full(9, 0.1, np.float32)
    mine, sums = table.astype(np.float64), state.astype(np.float64)
    bag_steps(table, state, rows, weights, gradient, 0.5)
    for n in range(5):
        for j in range(3):
            if rows[n, j] >= 0:
                step = weights[n, j].astype(np.float64) * gradient[n]
                sums[rows[n, j]] += np.square(step).mean()
                mine[rows[n, j]] -= 0.5 * step / (np.sqrt(sums[rows[n, j]]) + 1e-6)
    np.testing.assert_allclose(table, mine, rtol=1e-4, atol=1e-5)
    dots = np.empty((5, 9), np.float32)
    products(table, out, dots)
    np.testing.assert_allclose(dots, out @ table.T, rtol=1e-4, atol=1e-5)


def test_moments_name_what_is_known() -> None:
    data = small_audience(n_events=50)
    lines = lines_of(data)
    moments = Moments.learnt(("device",), True, lines, 1)
    assert moments.names == ()
    rows = moments.of_lines(lines)
    assert (rows < moments.size).all()
    assert (rows[lines.indptr[:-1], 0] == 1).all()  # nothing stands before a first event
    some = Moments(False, ("device",), (np.array([5, 9], np.int64),))
    told = {"device": np.array([9, 4, 0], np.int64)}
    assert some.rows(np.zeros(3, np.int64), np.zeros(3, np.int64), told)[:, 0].tolist() == [2, 0, 0]


def test_content_of_later_items_is_folded_as_that_of_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa

    catalog = small_catalog(6)
    catalog.title[:] = ["red shoe", "red hat", "blue shoe", "blue hat", "", "red shoe"]
    texts = [f'{{"image": [{i}.0, 1.0, {i % 2}.5]}}' for i in range(5)] + [None]
    catalog.__dict__["attributes"] = pa.chunked_array([texts])
    content = Content.learnt(catalog, 3, ("image",), 0)
    found = content.of(catalog)
    assert found.shape == (6, 6)
    np.testing.assert_allclose(found[0, :3], found[5, :3], atol=1e-6)
    assert not found[4, :3].any()
    assert not found[5, 3:].any()
    with pytest.raises(ConfigError, match="lists of numbers"):
        Content.learnt(catalog, 3, ("sound",), 0)


def test_leave_one_out_by_hand() -> None:
    data: Any = small_audience(n_users=8, n_items=10, n_events=200)
    asked = left_out("x", data, small_catalog(10))
    for q in range(len(asked.answer)):
        rows = np.flatnonzero(data.user == np.unique(data.user)[q])
        rows = [row for row in rows if np.bincount(data.item, minlength=10)[data.item[row]] >= 5]
        assert asked.answer[q] == data.item[rows[-1]]
        first, last = asked.queries.indptr[q : q + 2]
        assert asked.queries.items[first:last].tolist() == data.item[rows[:-1]].tolist()
    assert len(asked.events) + len(asked.answer) <= len(data)
    lists: Any = type("L", (), {"items": np.array([[3, 1, 2], [5, 6, 7]], np.int32)})
    assert judged(lists, np.array([2, 9], np.int32)) == {"hr@10": 0.5, "ndcg@10": pytest.approx(0.25)}
