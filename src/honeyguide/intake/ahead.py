"""The next batch is read while the one before is worked on: Arrow and the kernels leave the interpreter free."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["ahead"]

T = TypeVar("T")


def ahead(source: Iterator[T]) -> Generator[T, None, None]:
    """The same, made one step ahead in a thread of its own; an error comes where its batch would."""
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as beside:
        coming = beside.submit(next, source, end)
        while True:
            batch = coming.result()
            if batch is end:
                return
            coming = beside.submit(next, source, end)
            yield batch  # type: ignore[misc]
