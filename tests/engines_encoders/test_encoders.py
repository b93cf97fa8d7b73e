"""Encoders: the contract's laws over each, caching, and folders that hold none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from honeyguide.contracts import F32, Encoder
from honeyguide.engines.encoders.cache import CachedEncoder
from honeyguide.engines.encoders.multilingual import MultilingualEncoder
from honeyguide.engines.encoders.onnx_encoder import OnnxEncoder
from honeyguide.errors import BuildError
from honeyguide.flows.encoders import EncoderConfig, open_encoder

WORDS = ("[PAD]", "[UNK]", "red", "shoe", "blue", "hat", "wine")


def small_encoder(folder: Path, dimension: int = 8) -> Path:
    """An encoder that looks every word up in a random table: no weights to fetch."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(0).normal(size=(len(WORDS), dimension)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])],
        "encoder",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["b", "s"]) for n in ("input_ids", "attention_mask")],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["b", "s", dimension])],
        [numpy_helper.from_array(table, "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    return folder


@pytest.fixture(scope="module")
def onnx_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_encoder(tmp_path_factory.mktemp("encoder") / "words")


@pytest.fixture(scope="module", params=["multilingual", "folder"])
def encoder(request: pytest.FixtureRequest, onnx_folder: Path) -> Encoder:
    return MultilingualEncoder() if request.param == "multilingual" else OnnxEncoder(onnx_folder)


def test_rows_are_of_unit_length_and_white_space_is_nothing(encoder: Encoder) -> None:
    found = encoder.encode(["red shoe", "", " \t", "blue hat"])
    assert isinstance(encoder, Encoder)
    assert found.dtype == np.float32
    assert found.shape == (4, encoder.dimension)
    assert np.allclose(np.linalg.norm(found, axis=1), [1, 0, 0, 1], atol=1e-5)
    assert encoder.encode([]).shape == (0, encoder.dimension)


@settings(max_examples=15, deadline=None)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_a_text_has_the_same_vector_alone_and_in_company(encoder: Encoder, texts: list[str]) -> None:
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    assert np.isfinite(together).all()
    assert np.allclose(together, alone, atol=2e-4)


def test_a_very_long_text_is_cut(encoder: Encoder) -> None:
    assert np.isfinite(encoder.encode(["red " * 10_000])).all()
    assert np.isfinite(encoder.encode_queries(["\ud800 broken", "\x00"])).all()


def test_meaning_crosses_languages() -> None:
    vectors = MultilingualEncoder().encode(["red shoes", "rote Schuhe", "zapatos rojos", "a bottle of wine"])
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[3]
    assert vectors[0] @ vectors[2] > vectors[0] @ vectors[3]


def test_mean_of_the_words_by_hand(onnx_folder: Path) -> None:
    encoder = OnnxEncoder(onnx_folder)
    table = np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32)
    by_hand = (table[2] + table[3]) / 2
    assert np.allclose(encoder.encode(["red shoe", "blue"])[0], by_hand / np.linalg.norm(by_hand), atol=1e-5)


def test_prompts_are_put_before_queries(tmp_path: Path) -> None:
    folder = small_encoder(tmp_path / "prompted")
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "wine "}}))
    encoder = OnnxEncoder(folder)
    assert np.allclose(encoder.encode_queries(["red"]), encoder.encode(["wine red"]))


def test_the_first_token_where_the_folder_says_so(tmp_path: Path) -> None:
    folder = small_encoder(tmp_path / "first")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    encoder = OnnxEncoder(folder)
    assert np.allclose(encoder.encode(["red shoe wine"]), encoder.encode(["red"]), atol=1e-6)


@pytest.mark.parametrize("spoil", ["model.onnx", "tokenizer.json"])
def test_a_folder_without_an_encoder_is_refused(tmp_path: Path, spoil: str) -> None:
    folder = small_encoder(tmp_path / "broken")
    (folder / spoil).write_text("{")
    with pytest.raises(BuildError):
        OnnxEncoder(folder)
    (folder / spoil).unlink()
    with pytest.raises(BuildError):
        OnnxEncoder(folder)


def test_another_model_has_another_version(tmp_path: Path) -> None:
    first, second = small_encoder(tmp_path / "a"), small_encoder(tmp_path / "b", 16)
    assert OnnxEncoder(first).version == OnnxEncoder(first).version != OnnxEncoder(second).version


class Counting:
    """Counts what it is asked."""

    name, version, dimension = "counting", "1", 4

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> F32:
        self.asked += texts
        rows = [np.random.default_rng(len(text) * 131 + sum(map(ord, text))).normal(size=4) for text in texts]
        return np.array(rows, np.float32).reshape(-1, 4)

    def encode_queries(self, queries: Sequence[str]) -> F32:
        return self.encode(queries)


def test_the_cache_asks_once_and_survives_a_restart(tmp_path: Path) -> None:
    counting = Counting()
    cached = CachedEncoder(counting, tmp_path)
    first = cached.encode_all(["b", "a", "b", "c"])
    assert sorted(counting.asked) == ["a", "b", "c"]
    assert np.array_equal(first, Counting().encode(["b", "a", "b", "c"]))
    again = Counting()
    assert np.array_equal(
        CachedEncoder(again, tmp_path).encode_all(["c", "d", "a"]), Counting().encode(["c", "d", "a"])
    )
    assert again.asked == ["d"]


def test_a_broken_part_of_the_cache_counts_as_none(tmp_path: Path) -> None:
    CachedEncoder(Counting(), tmp_path).encode_all(["a"])
    part = next(tmp_path.rglob("*.npz"))
    part.write_bytes(part.read_bytes()[:40])
    assert np.array_equal(CachedEncoder(Counting(), tmp_path).encode_all(["a"]), Counting().encode(["a"]))


def test_memory_holds_the_newest(tmp_path: Path) -> None:
    counting = Counting()
    cached = CachedEncoder(counting, most=2)
    for query in ("a", "b", "a", "c", "a", "b"):
        cached.encode_queries([query])
    assert counting.asked == ["a", "b", "c", "b"]


def test_the_configuration_is_closed(onnx_folder: Path) -> None:
    assert open_encoder(EncoderConfig()) is None
    opened = open_encoder(EncoderConfig(use="folder", folder="words"), root=onnx_folder.parent, cache=onnx_folder)
    assert opened is not None
    assert opened.dimension == 8
    for wrong in ({"use": "gpt"}, {"use": "folder"}, {"use": "minilm", "folder": "x"}):
        with pytest.raises(ValidationError):
            EncoderConfig.model_validate(wrong)
