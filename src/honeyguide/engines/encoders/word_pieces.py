"""A vocabulary of word pieces: one that exists, or one that is learnt from a catalog's own texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from honeyguide.contracts import I64
from honeyguide.engines.encoders.onnx_encoder import read_tokenizer

__all__ = ["WordPieces"]

_SIGNS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieces:
    """A BERT tokenizer: `[CLS]` first, `[SEP]` last, 0 pads."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.size = int(tokenizer.get_vocab_size())
        self.separator = int(tokenizer.token_to_id("[SEP]") or 0)

    @classmethod
    def open(cls, path: Path) -> WordPieces:
        """Read a tokenizer.json."""
        return cls(read_tokenizer(path.parent))

    @classmethod
    def learn(cls, texts: Sequence[str], size: int) -> WordPieces:
        """The most useful pieces of some texts (Schuster and Nakajima 2012); the same texts give the same pieces."""
        read_tokenizer(None)
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

        tokenizer = Tokenizer(models.WordPiece(unk_token=_SIGNS[1]))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=list(_SIGNS), show_progress=False)
        clean = [text.encode("utf-8", "replace").decode() for text in texts]
        tokenizer.train_from_iterator(clean, trainer)
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[(sign, tokenizer.token_to_id(sign)) for sign in _SIGNS[2:4]]
        )
        return cls(tokenizer)

    def ids(self, text: str, most: int) -> list[int]:
        """Pieces of one text, its last sign kept where it is cut."""
        found: list[int] = self._tokenizer.encode(text.encode("utf-8", "replace").decode()).ids
        return found if len(found) <= most else [*found[: most - 1], self.separator]

    def padded(self, texts: Sequence[str], most: int) -> I64:
        """(n, most), 0 after the last piece."""
        out = np.zeros((len(texts), most), np.int64)
        for at, text in enumerate(texts):
            ids = self.ids(text, most)
            out[at, : len(ids)] = ids
        return out

    def together(self, query: str, texts: Sequence[str], most_query: int, most_text: int) -> tuple[I64, I64]:
        """A query before each text, and which of the two each piece belongs to, (n, longest)."""
        first = self.ids(query, most_query)
        rows = [first + self.ids(text, most_text)[1:] for text in texts]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        kinds = np.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
            kinds[at, len(first) : len(row)] = 1
        return ids, kinds

    def save(self, path: Path) -> None:
        """Write a tokenizer.json."""
        self._tokenizer.save(str(path))
