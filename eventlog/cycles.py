"""Work on many events and rows, which refer to nothing that refers to them: cycles among them are looked for seldom."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""About as many as a page has."""


@contextmanager
def collecting_cycles_seldom() -> Iterator[None]:
    """To look for cycles took a fifth of the time of a walk."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], OBJECTS_BETWEEN_COLLECTIONS), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
