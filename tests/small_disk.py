"""A small file system that root mounts, for what happens when a disk runs full."""

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


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
