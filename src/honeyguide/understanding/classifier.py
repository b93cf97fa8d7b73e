"""A class for a short text: softmax regression over hashed words and letters, and over a sentence encoder's vector.

Words and 3- to 4-grams of letters learn from few examples of one language; a multilingual encoder carries what was
learnt in one language to the others. Both in one model, each group of features scaled to unit length.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Self
from zipfile import BadZipFile

import msgspec
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from honeyguide.contracts import F32, F64, I64, Encoder
from honeyguide.errors import BuildError, RequestError
from honeyguide.kernels import text

__all__ = ["ClassifierConfig", "TextClassifier"]

_NAMES, _ARRAYS = "classes.json", "weights.npz"
_MANY = 2_000  # texts from which the fit is made cheaper, at no loss that can be measured


class ClassifierConfig(BaseModel):
    """How a text becomes features, and how strongly weights are held back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    buckets_log2: Annotated[int, Field(ge=8, le=20)] = 14  # hashed features of words and letters
    letters: bool = True  # grams of letters beside words
    words_weight: Annotated[float, Field(ge=0)] = 1.0
    encoder_weight: Annotated[float, Field(ge=0)] = 2.0
    l2: Annotated[float, Field(gt=0)] = 1e-4
    max_iterations: Annotated[int, Field(ge=1)] = 100
    max_words: Annotated[int, Field(ge=1, le=256)] = 32


class TextClassifier:
    """Fitted on texts and their classes. A text costs about 40 microseconds without an encoder."""

    def __init__(
        self, classes: Sequence[str], weights: F32, bias: F32, idf: F32, config: ClassifierConfig,
        encoder: Encoder | None = None,
    ) -> None:  # fmt: skip
        """weights: (buckets + dimension, classes); bias: (classes,); idf: (buckets,)."""
        self.classes = tuple(classes)
        self.config, self.encoder = config, encoder
        self._weights, self._bias, self._idf = weights, bias, idf

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        weights: Sequence[float] | None = None,
        config: ClassifierConfig | None = None,
        encoder: Encoder | None = None,
    ) -> Self:
        """Learn from texts, a label each, and how much each counts. RequestError with fewer than two classes."""
        from scipy.optimize import minimize
        from scipy.sparse import csr_matrix, diags

        config = config or ClassifierConfig()
        classes = sorted(set(labels))
        if len(classes) < 2 or len(texts) != len(labels):
            raise RequestError(
                expected="texts with a label each, of two classes or more",
                got=f"{len(texts)} texts, {len(labels)} labels, {len(classes)} classes",
                do="Label more.",
            )
        y = np.searchsorted(classes, labels)
        share = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
        share = share / share.sum()
        buckets = 1 << config.buckets_log2
        rows = [_features(one, config) for one in texts]
        indptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        hashed = csr_matrix(
            (np.ones(indptr[-1]), np.concatenate(rows) if rows else np.zeros(0, np.int64), indptr),
            (len(rows), buckets),
        )
        idf = np.log((1 + len(rows)) / (1 + np.bincount(hashed.indices, minlength=buckets))) + 1
        # The weights of the others stay zero: of many texts a feature tells something only if it recurs.
        seen = np.flatnonzero(np.bincount(hashed.indices, minlength=buckets) >= (1 if len(rows) < _MANY else 3))
        hashed = (hashed @ diags(idf))[:, seen]
        norms = np.sqrt(np.asarray(hashed.multiply(hashed).sum(1)).ravel())
        x = diags(config.words_weight / np.maximum(norms, 1e-12)) @ hashed
        dense = np.zeros((len(rows), 0)) if encoder is None else config.encoder_weight * encoder.encode(texts)
        width, k = x.shape[1] + dense.shape[1], len(classes)
        target = np.zeros((len(y), k))
        target[np.arange(len(y)), y] = 1.0

        def loss(flat: F64) -> tuple[float, F64]:
            w, b = flat[: width * k].reshape(width, k), flat[width * k :]
            z = x @ w[: len(seen)] + dense @ w[len(seen) :] + b
            z -= z.max(1, keepdims=True)
            p = np.exp(z)
            p /= p.sum(1, keepdims=True)
            value = -(share * np.log(np.maximum(p[np.arange(len(y)), y], 1e-300))).sum()
            error = (p - target) * share[:, None]
            gradient = np.concatenate(
                [(x.T @ error).ravel() + config.l2 * w[: len(seen)].ravel(), (dense.T @ error).ravel()
                 + config.l2 * w[len(seen) :].ravel(), error.sum(0)]
            )  # fmt: skip
            return float(value + 0.5 * config.l2 * (w * w).sum()), gradient

        found = minimize(
            loss, np.zeros(width * k + k), jac=True, method="L-BFGS-B",
            options={"maxiter": config.max_iterations, "maxcor": 10 if len(rows) < _MANY else 4,
                     "ftol": 1e-9 if len(rows) < _MANY else 1e-5},
        )  # fmt: skip
        learnt = found.x[: width * k].reshape(width, k).astype(np.float32)
        w = np.zeros((buckets + width - len(seen), k), np.float32)
        w[seen], w[buckets:] = learnt[: len(seen)], learnt[len(seen) :]
        return cls(classes, w, found.x[width * k :].astype(np.float32), idf.astype(np.float32), config, encoder)

    def probabilities(self, query: str) -> F64:
        """The chance of each class, (classes,)."""
        return np.asarray(self._softmax(self._logits(query, None)))

    def predict(self, texts: Sequence[str]) -> list[str]:
        """The likeliest class of each text; the encoder is asked once for all."""
        vectors = None if self.encoder is None else self.encoder.encode(texts)
        return [
            self.classes[int(self._logits(one, None if vectors is None else vectors[i]).argmax())]
            for i, one in enumerate(texts)
        ]

    def _logits(self, query: str, vector: F32 | None) -> F64:
        config = self.config
        z = self._bias.astype(np.float64)
        features, counts = np.unique(_features(query, config), return_counts=True)
        if len(features):
            values = counts * self._idf[features]
            z = z + (config.words_weight / np.sqrt((values * values).sum())) * (values @ self._weights[features])
        if self.encoder is not None:
            if vector is None:
                vector = self.encoder.encode_queries([query])[0]
            z = z + config.encoder_weight * (vector @ self._weights[len(self._idf) :])
        return z

    @staticmethod
    def _softmax(z: F64) -> F64:
        p = np.exp(z - z.max())
        return np.asarray(p / p.sum())

    def save(self, folder: Path) -> None:
        """Write into an existing folder; the encoder is named, not kept."""
        told = {
            "classes": self.classes,
            "config": self.config.model_dump(),
            "encoder": None if self.encoder is None else [self.encoder.name, self.encoder.version],
        }
        (folder / _NAMES).write_bytes(msgspec.json.encode(told))
        np.savez(folder / _ARRAYS, weights=self._weights, bias=self._bias, idf=self._idf)

    @classmethod
    def load(cls, folder: Path, encoder: Encoder | None = None) -> Self:
        """Read what `save` wrote; BuildError if it is not whole, or was fitted with another encoder."""
        try:
            told = msgspec.json.decode((folder / _NAMES).read_bytes())
            arrays = np.load(folder / _ARRAYS)
        except (OSError, ValueError, BadZipFile, msgspec.DecodeError) as error:
            raise BuildError(
                expected="a classifier of queries", got=str(error), do="Run `honeyguide build`."
            ) from error
        given = None if encoder is None else [encoder.name, encoder.version]
        if told["encoder"] != given:
            raise BuildError(
                expected=f"the encoder {told['encoder']} of the classifier",
                got=f"{given}",
                do="Run `honeyguide build`.",
            )
        config = ClassifierConfig.model_validate(told["config"])
        return cls(told["classes"], arrays["weights"], arrays["bias"], arrays["idf"], config, encoder)


def _features(query: str, config: ClassifierConfig) -> I64:
    """Buckets of the words, their pairs, and the letters of each word."""
    words = text.words(text.fold(query[:1_000]))[: config.max_words]
    found = [*words, *(f"{first} {second}" for first, second in pairwise(words))]
    if config.letters:
        for word in words:
            padded = f"_{word}_"
            found += [f"#{padded[at : at + size]}" for size in (3, 4) for at in range(len(padded) - size + 1)]
    mask = (1 << config.buckets_log2) - 1
    return np.fromiter((_bucket(one) & mask for one in found), np.int64, len(found))


def _bucket(feature: str) -> int:
    """FNV-1a of the UTF-8 bytes would take 1 microsecond a byte here; CRC-32 in C takes a tenth of one in all."""
    from zlib import crc32

    return crc32(feature.encode("utf-8", "surrogatepass"))
