"""One ahead: while one thing is worked on, the next is made in another thread."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")

_END: Any = object()


def one_ahead(things: Iterator[T]) -> Iterator[T]:
    """The same things in the same order; what the making of one raises is raised in its place."""
    with ThreadPoolExecutor(1, "enrichlog-ahead") as aside:
        coming = aside.submit(next, things, _END)
        while (thing := coming.result()) is not _END:
            coming = aside.submit(next, things, _END)
            yield thing
