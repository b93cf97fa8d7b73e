"""Opens the sentence encoder that a configuration names: fetched, cached, the same for build and serving."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from honeyguide.contracts import Encoder, Progress
from honeyguide.engines.encoders.cache import CachedEncoder
from honeyguide.engines.encoders.multilingual import MultilingualEncoder
from honeyguide.engines.encoders.onnx_encoder import OnnxEncoder
from honeyguide.intake.datasets import cache_folder
from honeyguide.intake.encoder_files import SERVED, fetch_encoder

__all__ = ["EncoderConfig", "open_encoder"]


class EncoderConfig(BaseModel):
    """Which encoder: "multilingual", "minilm" (English), "none", or "folder" with an ONNX encoder in `folder`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    use: str = "none"
    letters: int = Field(default=200, ge=10, le=5_000)  # of an item's texts, the title first
    folder: str = ""

    @model_validator(mode="after")
    def _known(self) -> EncoderConfig:
        names = ("none", "multilingual", *SERVED, "folder")
        if self.use not in names:
            raise ValueError(f"use is one of {', '.join(names)}")
        if (self.use == "folder") != bool(self.folder):
            raise ValueError('folder belongs to use = "folder", which needs it')
        return self


def open_encoder(
    config: EncoderConfig, *, root: Path | None = None, cache: Path | None = None,
    progress: Progress | None = None, most: int = 10_000,
) -> CachedEncoder | None:  # fmt: skip
    """The encoder, remembering what it has met; None for "none".

    root: what a relative `folder` starts from. most: texts kept in memory. Raises MissingExtraError without the extra
    `encoders`, BuildError for a folder that holds none, and as `fetch_encoder` does.
    """
    if config.use == "none":
        return None
    folder = (root or Path()) / config.folder if config.use == "folder" else None
    home = cache or cache_folder()
    return CachedEncoder(_opened(config.use, folder, home, progress), home / "vectors", most=most)


def _opened(use: str, folder: Path | None, home: Path, progress: Progress | None) -> Encoder:
    if use == "multilingual":
        return _multilingual()
    return _onnx(folder or fetch_encoder(use, home, progress=progress), use)


@lru_cache(maxsize=1)
def _multilingual() -> Encoder:
    return MultilingualEncoder()


@lru_cache(maxsize=4)
def _onnx(folder: Path, name: str) -> Encoder:
    return OnnxEncoder(folder, name=name if name != "folder" else folder.name)
