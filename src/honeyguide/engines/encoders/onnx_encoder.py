"""A folder with any ONNX sentence encoder: a model, its tokenizer, and how the tokens' vectors become one.

The layout is that of sentence-transformers: `model.onnx` (there or in `onnx/`), `tokenizer.json`, and where they are,
`1_Pooling/config.json` (mean of the tokens, or the first), `sentence_bert_config.json` (the longest text) and
`config_sentence_transformers.json` (what is put before a query and before a text).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import F32, I64
from honeyguide.engines.encoders.vectors import unit
from honeyguide.engines.onnx.session import OnnxModel
from honeyguide.errors import BuildError, MissingExtraError

__all__ = ["OnnxEncoder", "read_tokenizer"]

_MODELS = ("model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
_TOKENS = 4_096  # in one run, padding included: enough to use the caches, little enough to stay in them
_MOST_TOKENS = 128
_INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class OnnxEncoder:
    """`contracts.Encoder` over a folder. Thread-safe. Raises BuildError for a folder that holds no such encoder."""

    def __init__(self, folder: Path, *, name: str | None = None) -> None:
        self._tokenizer = read_tokenizer(folder)
        model = next((folder / one for one in _MODELS if (folder / one).is_file()), folder / _MODELS[0])
        self._model = OnnxModel(model)
        asked = [port.name for port in self._model.inputs]
        if "input_ids" not in asked or not set(asked) <= _INPUTS:
            raise BuildError(
                expected=f"{model.name} to take input_ids, attention_mask and perhaps token_type_ids",
                got=", ".join(asked) or "no inputs",
                do="Export the encoder as sentence-transformers or Optimum do.",
            )
        self._inputs = asked
        output = next((p for p in self._model.outputs if p.name == "sentence_embedding"), self._model.outputs[0])
        self._place, self._pooled = self._model.outputs.index(output), len(output.shape) == 2
        self._first = bool(_told(folder / "1_Pooling" / "config.json").get("pooling_mode_cls_token", False))
        longest = _told(folder / "sentence_bert_config.json").get("max_seq_length") or _MOST_TOKENS
        prompts = _told(folder / "config_sentence_transformers.json").get("prompts") or {}
        self._query_prompt = str(prompts.get("query") or "")
        self._text_prompt = str(prompts.get("document") or prompts.get("passage") or "")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(min(int(longest), _MOST_TOKENS))
        self._lock = threading.Lock()
        self.name = name or folder.name
        self.version = _fingerprint(model, folder / "tokenizer.json")
        self.dimension = int(self._embed([[0]]).shape[1])

    def encode(self, texts: Sequence[str]) -> F32:
        """(n, dimension), rows of unit length; zeros for a text of white space. At most 128 tokens of each are read."""
        return self._encode(texts, self._text_prompt)

    def encode_queries(self, queries: Sequence[str]) -> F32:
        """The same for what people type: encoders that were taught to tell queries from texts are told."""
        return self._encode(queries, self._query_prompt)

    def _encode(self, texts: Sequence[str], prompt: str) -> F32:
        out = np.zeros((len(texts), self.dimension), np.float32)
        # A query of thousands of words costs no more than its first tokens.
        cut = [prompt + text[: 16 * _MOST_TOKENS].encode("utf-8", "replace").decode() for text in texts]
        with self._lock:
            ids = [self._tokenizer.encode(text).ids for text in cut]
        order = sorted(range(len(ids)), key=lambda at: len(ids[at]))
        for batch in _batches(order, ids):
            out[batch] = self._embed([ids[at] for at in batch])
        return unit(out, texts)

    def _embed(self, ids: list[list[int]]) -> F32:
        lengths = np.array([len(one) for one in ids])
        mask: I64 = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
        padded = np.zeros(mask.shape, np.int64)
        padded[mask.astype(bool)] = [one for text in ids for one in text]
        given = {"input_ids": padded, "attention_mask": mask, "token_type_ids": np.zeros_like(padded)}
        found = self._model.run({name: given[name] for name in self._inputs})[self._place]
        if self._pooled or self._first:
            return np.asarray(found if self._pooled else found[:, 0], np.float32)
        weight = mask[:, :, None].astype(np.float32)
        return np.asarray((found * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1), np.float32)


def _batches(order: list[int], ids: list[list[int]]) -> list[list[int]]:
    """Texts of like length together, so that little is padding."""
    found: list[list[int]] = []
    for at in order:
        if found and len(ids[at]) * (len(found[-1]) + 1) <= _TOKENS:
            found[-1].append(at)
        else:
            found.append([at])
    return found


def read_tokenizer(folder: Path | None) -> Any:
    """The tokenizer of a folder; of none: only whether there could be one. MissingExtraError, BuildError."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtraError(
            expected="the library `tokenizers`, by which this encoder reads",
            got="an installation without it",
            do="Run `pip install 'honeyguide[encoders]'`.",
        ) from error
    if folder is None:
        return None
    path = folder / "tokenizer.json"
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        got = getattr(error, "strerror", None) or "text that is not UTF-8"
    except Exception as error:  # noqa: BLE001 - the library raises bare `Exception` for a file that it cannot read
        got = str(error).splitlines()[0][:200]
    raise BuildError(
        expected=f"a tokenizer.json in {folder}", got=got.lower(), do="Export the encoder with its tokenizer."
    )


def _told(path: Path) -> dict[str, Any]:
    """A JSON object, {} where there is no file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BuildError(expected=f"JSON in {path}", got=str(error), do="Export the encoder again.") from error
    return found if isinstance(found, dict) else {}


def _fingerprint(*paths: Path) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).digest())
    return digest.hexdigest()
