"""The whole life of a transformer, small enough for a CPU: trained, distilled, exported, in eight bits, served."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from honeyguide.contracts import CatalogView, Encoder, Ragged
from honeyguide.engines.encoders.onnx_encoder import OnnxEncoder
from honeyguide.engines.encoders.word_pieces import WordPieces
from honeyguide.errors import BuildError
from honeyguide.flows.search_learn import Lesson
from honeyguide.flows.text_encoder import fit_encoders
from honeyguide.ranking.text.config import TextConfig
from honeyguide.schema.vocabulary import Vocabulary

COLOURS = {"red": "crimson", "blue": "azure", "green": "emerald", "black": "ebony", "white": "ivory"}
THINGS = {"shoe": "sneaker", "hat": "cap", "coat": "jacket", "bag": "satchel", "chair": "seat", "lamp": "light"}


def view_of(titles: list[str]) -> CatalogView:
    n = len(titles)
    return CatalogView(
        Vocabulary(str(at) for at in range(n)), titles, [""] * n, Ragged.empty(n), [], Ragged.empty(n), [],
        np.full(n, -1, np.int32), [], np.full(n, np.nan, np.float32), np.full(n, np.nan, np.float32),
        np.ones(n, np.bool_), np.zeros(n, np.int64),
    )  # fmt: skip


def synonyms() -> tuple[CatalogView, Lesson]:
    """Queries share no word with what answers them; what was learnt of the parts must be put together."""
    names = [(colour, thing) for colour in COLOURS for thing in THINGS]
    view = view_of([f"{COLOURS[colour]} {THINGS[thing]}" for colour, thing in names])
    forms = ("{} {}", "a {} {}", "{} {} sale", "my {} {}", "new {} {}", "cheap {} {}")
    asked = [(form.format(*name), at) for at, name in enumerate(names) for form in forms]
    return view, Lesson(
        [query for query, _ in asked], [np.array([at], np.int32) for _, at in asked],
        [np.ones(1, np.float32)] * len(asked), "judgments",
    )  # fmt: skip


SMALL = TextConfig(
    start="scratch", layers=1, width=32, heads=2, vocabulary=300, query_tokens=8, item_tokens=8, batch=32, epochs=30,
    mined_epochs=5, cross_epochs=6, distil_epochs=6, negatives=3, mined=8, learning_rate=5e-3, device="cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    work = tmp_path_factory.mktemp("encoders")
    return work, fit_encoders(*synonyms(), SMALL, work, seed=1)


@pytest.mark.heavy
def test_every_step_is_measured_and_meaning_is_learnt(trained: tuple[Path, dict]) -> None:
    _, found = trained
    steps = {one["step"]: one for one in found["steps"]}
    assert {"bi", "distilled"} < set(steps)
    assert found["kept"] in steps
    assert steps["bi"]["ndcg@10"] > 0.8
    assert steps[found["kept"]]["ndcg@10"] > 0.8
    small = steps[found["kept"]] if found["kept"].endswith("-int8") else None
    if small is not None:
        assert small["size_mb"] < steps["bi"]["size_mb"]
    assert all(one["cpu_ms_per_text"] > 0 and one["size_mb"] > 0 for one in found["steps"])


@pytest.mark.heavy
def test_what_was_trained_is_an_encoder_like_any_other(trained: tuple[Path, dict]) -> None:
    work, found = trained
    encoder = OnnxEncoder(work / found["kept"])
    assert isinstance(encoder, Encoder)
    vectors = encoder.encode(["crimson sneaker", "azure lamp", ""])
    assert np.allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0], atol=1e-4)
    query = encoder.encode_queries(["red shoe"])[0]
    assert vectors[0] @ query > vectors[1] @ query


@pytest.mark.heavy
def test_serving_it_loads_no_pytorch(trained: tuple[Path, dict]) -> None:
    work, found = trained
    said = (
        "import sys, pathlib; from honeyguide.engines.encoders.onnx_encoder import OnnxEncoder\n"
        "import honeyguide.flows.text_encoder\n"
        "OnnxEncoder(pathlib.Path(sys.argv[1])).encode(['red shoe']); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", said, str(work / found["kept"])], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


def test_published_weights_load_and_give_the_published_vectors(tmp_path: Path) -> None:
    """A checkpoint by its published names, against the same sums in numpy."""
    import json
    import struct

    import torch

    from honeyguide.ranking.text.model import Bert, BiEncoder, read_safetensors

    torch.manual_seed(0)
    bert = Bert(30, 8, 1, 2, positions=16)
    inside = {
        "query": "attention.self.query", "key": "attention.self.key", "value": "attention.self.value",
        "out": "attention.output.dense", "attention_norm": "attention.output.LayerNorm", "up": "intermediate.dense",
        "down": "output.dense", "norm": "output.LayerNorm",
    }  # fmt: skip
    outside = {"words": "word_embeddings", "places": "position_embeddings", "kinds": "token_type_embeddings"}
    header, body = {}, b""
    for name, value in bert.state_dict().items():
        part, _, leaf = name.rpartition(".")
        if part.startswith("blocks."):
            theirs = f"encoder.layer.0.{inside[part.split('.')[2]]}.{leaf}"
        else:
            theirs = f"embeddings.{outside.get(part, 'LayerNorm')}.{leaf}"
        raw = value.numpy().astype(np.float32).tobytes()
        header[theirs] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    head = json.dumps(header).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + body)
    again = Bert(30, 8, 1, 2, positions=16)
    again.load_published(read_safetensors(tmp_path / "model.safetensors"))
    ids = torch.tensor([[3, 5, 7, 0], [4, 6, 0, 0]])
    mask = (ids != 0).long()
    with torch.no_grad():
        assert torch.equal(BiEncoder(bert)(ids, mask), BiEncoder(again)(ids, mask))
        alone = BiEncoder(bert)(ids[1:, :2], mask[1:, :2])
        assert torch.allclose(BiEncoder(bert)(ids, mask)[1:], alone, atol=1e-5)  # padding tells nothing


def test_word_pieces_cut_and_pad() -> None:
    pieces = WordPieces.learn(["red shoe", "blue shoe", "red hat"] * 5, 60)
    assert pieces.padded(["red shoe shoe shoe shoe"], 4)[0, -1] == pieces.separator
    assert (pieces.padded(["red"], 8)[0] == 0).sum() >= 4
    ids, kinds = pieces.together("red", ["shoe", "blue hat"], 8, 8)
    assert ids.shape == kinds.shape
    assert kinds[0, 0] == 0
    assert kinds[1].max() == 1


def test_too_little_to_learn_from_is_refused(tmp_path: Path) -> None:
    view, lesson = synonyms()
    few = Lesson(lesson.queries[:5], lesson.rows[:5], lesson.grades[:5], "judgments")
    with pytest.raises(BuildError, match="5"):
        fit_encoders(view, few, SMALL, tmp_path)
    with pytest.raises(ValidationError):
        TextConfig.model_validate({"start": "gpt"})
