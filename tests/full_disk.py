"""Disks that run full: a small file system that root mounts, and what is recorded while there is no room."""

import logging
import queue
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from logging.handlers import QueueHandler
from pathlib import Path
from typing import Any

from eventlog.database import Database
from eventlog.integrity import verify_log
from eventlog.log import Appended
from eventlog.recorder import Recorder
from projections.inline import InlineReadModels
from projections.reconcile import PROJECTIONS, reconcile
from tests.builders import BOUND, follow, proposal, requested

BEFORE, MEANWHILE = 20, 500
"""How many events are recorded while there is room, and how many more are offered while there is none."""


class NoSmallDisk(Exception):
    """A small file system could not be mounted; the text says why and what to do."""


class SmallDisk:
    """A file system of a few megabytes, which a ballast fills."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for size in (2**20, 2**12, 1):
                with suppress(OSError):
                    while ballast.write(bytes(size)):
                        pass

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(megabytes: int) -> Iterator[SmallDisk]:
    """Mount a file system that everybody may write to, and take it away again."""
    folder = Path(tempfile.mkdtemp(prefix="enrichlog-disk-"))
    options = f"size={megabytes}m,mode=1777"
    try:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "enrichlog", folder], capture_output=True, text=True, check=False
        )
        if mounted.returncode:
            needs = "These tests mount a small file system: run them as root, in a container with the right to mount."
            raise NoSmallDisk(f"{needs} {mounted.stderr.strip()}")
        try:
            yield SmallDisk(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)  # also where a failed test has left files open
    finally:
        folder.rmdir()


def record_while_full(
    database: Database, fill: Callable[[], Any], make_room: Callable[[], Any]
) -> tuple[list[Appended], str]:
    """Record while the disk is full, and make room once that was told: the acknowledgements, and what was told."""
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listening = QueueHandler(told)
    logger = logging.getLogger("eventlog.recorder")
    logger.addHandler(listening)
    with Recorder(database, InlineReadModels(database.dialect)) as recorder:
        acknowledged = [recorder.append(proposal(f"job-{number}", requested())) for number in range(BEFORE)]
        fill()
        waiting = [recorder.submit(proposal(f"job-later-{number}", requested())) for number in range(MEANWHILE)]
        message = told.get(timeout=BOUND).getMessage()
        make_room()
        acknowledged += [future.result(BOUND) for future in waiting]
    logger.removeHandler(listening)
    return acknowledged, message


def check_that_all_is_there_once(database: Database, acknowledged: int) -> None:
    assert follow(database) == list(range(1, acknowledged + 1)) == list(range(1, BEFORE + MEANWHILE + 1))
    assert verify_log(database).faults == []
    assert [reconcile(database, projection, write=False).total for projection in PROJECTIONS.values()] == [0, 0]
