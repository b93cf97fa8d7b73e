"""POST of JSON over one connection that is kept alive, within a deadline of all of it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["Posting"]

_PIECE = 65_536
_MOST_BYTES = 64 << 20


class Posting:
    """Posts bodies to one address. Not for several threads at once.

    Raises TimeoutError when the answer is not whole in time (also where it drips), OSError when there is no connection
    or the answer is no success. A connection that was used before and was closed by the other side is opened anew once.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        self._parts = urlsplit(url)
        self._target = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, body: bytes, seconds: float) -> bytes:
        """The answer's body, in time."""
        end = time.monotonic() + seconds
        used = self._connection is not None
        try:
            return self._tried(body, end)
        except ConnectionError:
            if not used:
                raise
        return self._tried(body, end)

    def _tried(self, body: bytes, end: float) -> bytes:
        try:
            return self._once(body, end)
        except OSError:  # a closed connection among them
            self.close()
            raise
        except http.client.HTTPException as error:
            self.close()
            raise OSError(f"no HTTP answer: {error or type(error).__name__}") from error

    def _once(self, body: bytes, end: float) -> bytes:
        connection = self._open(end)
        connection.request("POST", self._target, body, self._headers)
        self._patience(end)
        answer = connection.getresponse()
        pieces, size = [], 0
        while True:
            self._patience(end)
            piece = answer.read1(_PIECE)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > _MOST_BYTES:
                self.close()
                raise OSError(f"an answer of more than {_MOST_BYTES >> 20} MB")
        answer.close()  # the connection stays
        if not 200 <= answer.status < 300:
            self.close()
            raise OSError(f"HTTP status {answer.status}")
        return b"".join(pieces)

    def _open(self, end: float) -> http.client.HTTPConnection:
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            self._connection = kind(
                self._parts.hostname or "", self._parts.port, timeout=max(end - time.monotonic(), 1e-3)
            )
        self._patience(end)
        return self._connection

    def _patience(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0.0:
            self.close()
            raise TimeoutError("the answer took too long")
        if self._connection is not None and self._connection.sock is not None:
            self._connection.sock.settimeout(left)

    def close(self) -> None:
        """Let the connection go; the next body opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None
