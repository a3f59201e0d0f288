"""A file that is written beside its place and takes it once it is whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from enrichlog.exceptions import UnwritableFile


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """A new text for a file, which keeps the old one unless the block ends well. Raises `UnwritableFile`.

    What is no regular file, such as a pipe or a device, is written to directly.
    """
    place = path.resolve()
    beside = place.with_name(f".{place.name}.{os.getpid()}") if place.is_file() or not place.exists() else None
    try:
        with (beside or place).open("w", encoding="utf-8", newline="") as out:
            yield out
        if beside:
            _take_place(beside, place)
    except OSError as error:
        raise UnwritableFile(path=path, reason=error.strerror) from error
    finally:
        if beside:
            with suppress(OSError):
                beside.unlink()


def _take_place(beside: Path, place: Path) -> None:
    if place.exists():
        shutil.copymode(place, beside)
    beside.replace(place)
