"""The error tree. Every error says what was expected, what came and what to do.

`HoneyguideError` is the root: catch it and you have caught everything this package raises on purpose.
Each class carries the exit code of the command line and the HTTP status of the API, so neither has a table of its own.
"""

from __future__ import annotations

__all__ = [
    "BuildError",
    "ConfigError",
    "DataError",
    "DataUnavailableError",
    "DeadlineExceededError",
    "HoneyguideError",
    "MissingExtraError",
    "NotFoundError",
    "RequestError",
    "RequestTooLargeError",
    "ResourceError",
    "TrimmedError",
    "UnauthorizedError",
    "WorkspaceError",
]


class HoneyguideError(Exception):
    """Something that a person can act on: `expected`, `got`, and what to `do` about it."""

    exit_code: int = 2
    http_status: int = 400

    def __init__(self, *, expected: str, got: str, do: str) -> None:
        self.expected, self.got, self.do = expected, got, do
        super().__init__(f"Expected {expected}; got {got}. {do}")


class DataError(HoneyguideError):
    """A file or table that cannot be used: missing, empty, unreadable, or without a needed column."""


class DataUnavailableError(HoneyguideError):
    """A dataset whose sources are down, or whose content is not what its checksum promises."""

    http_status = 503


class ConfigError(HoneyguideError):
    """`honeyguide.toml` holds an unknown key or a value out of range."""


class WorkspaceError(HoneyguideError):
    """A folder that is no workspace, or one written by a newer version."""


class BuildError(HoneyguideError):
    """A build that cannot be made or found. The build in service stays in service."""

    http_status = 503


class NotFoundError(HoneyguideError):
    """A person, item, surface or build that nobody knows."""

    http_status = 404


class RequestError(HoneyguideError):
    """A request that cannot be read: malformed, out of range, or with an unknown field."""

    http_status = 422


class RequestTooLargeError(RequestError):
    """A request over the size limit."""

    http_status = 413


class UnauthorizedError(RequestError):
    """A request without a valid API key."""

    http_status = 401


class ResourceError(HoneyguideError):
    """The machine refused: a full disk, a port in use, a folder without write permission."""

    http_status = 507


class TrimmedError(HoneyguideError):
    """Records of the log that are in the tables by now: read the snapshot, then the log from its offset on."""

    http_status = 503


class MissingExtraError(HoneyguideError):
    """A feature whose optional dependency is not installed."""

    http_status = 501


class DeadlineExceededError(HoneyguideError):
    """A stage ran past the surface's deadline; the answer falls back and says so."""

    http_status = 504
