"""What `serve` can be told."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ServeSettings"]


class ServeSettings(BaseModel):
    """The HTTP server's settings: `[serve]` in `honeyguide.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080  # 0: any free one
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    api_keys: tuple[Annotated[str, Field(min_length=8)], ...] = ()  # none: open to whoever reaches the port
    max_body_bytes: Annotated[int, Field(ge=1_024, le=1 << 30)] = 1 << 20
    cors_origins: tuple[str, ...] = ()  # none: no cross-origin requests
    keep_alive_s: Annotated[int, Field(ge=1, le=3_600)] = 75
    drain_s: Annotated[int, Field(ge=0, le=3_600)] = 30  # how long a shutdown waits for requests in flight
    start_s: Annotated[int, Field(ge=1, le=3_600)] = 120  # how long a worker may take to be ready
    access_log: bool = False
