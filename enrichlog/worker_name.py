"""The name of a worker on this machine: a file that its holder keeps locked, so that no second one has the name."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import socket
import stat
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enrichlog.exceptions import InvalidWorkerName, NameHeld, UnusableStateFolder
from enrichlog.moments import told_time
from enrichlog.settings import Settings
from eventlog.events import iso

if sys.platform == "win32":
    import msvcrt

    def _lock(file: int) -> None:
        os.lseek(file, _BEYOND, os.SEEK_SET)  # what is locked there nobody else can read
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


_BEYOND = 1 << 30
_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_HOST_LENGTH = 80


class WorkerName:
    """A name that this process holds until it is released or the process ends, however it ends.

    `place` is the id of the lock's file, made once: it stands for this name on this machine.
    """

    def __init__(self, name: str, file: int, place: str) -> None:
        self.name, self.place, self._file = name, place, file

    def release(self) -> None:
        """Let others have the name."""
        os.close(self._file)


INSCRIPTION_BYTES = 512


def host_name() -> str:
    """The name of this machine."""
    return socket.gethostname()


def default_names() -> Iterator[str]:
    """The names that a worker of this machine has by default, the first free one being its own."""
    host = re.sub(r"[^A-Za-z0-9._-]", "-", host_name())[:_HOST_LENGTH]
    return (f"{host}-worker-{number}" for number in itertools.count(1))


def require_name(name: str) -> str:
    """The name, if a worker can have it. Raises `InvalidWorkerName`."""
    if not _NAME.fullmatch(name):
        raise InvalidWorkerName(name=repr(name), reason="names have 1 to 100 of the characters A-Z, a-z, 0-9, . _ -")
    host, _, number = name.rpartition("-")
    if host == host_name() and number.isdecimal():
        raise InvalidWorkerName(name=name, reason="runs of enrich on this machine are called like that")
    return name


def hold(settings: Settings, database: str, name: str) -> WorkerName:
    """Take the name for workers of a database, as `database` tells it apart. Raises `NameHeld` while another has it."""
    path = _path(settings, database, name)
    with _usable(path):
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if _is_ours(file):
                return WorkerName(name, file, _inscribe(file))
            holder = _read(file)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
    raise NameHeld(name=name, pid=holder.get("pid", "unknown"), since=told_time(holder.get("since")))


def has_ended(settings: Settings, database: str, name: str, place: str) -> bool:
    """Whether the process that took the name at this place last is gone; the lock is left alone. Never on Windows."""
    with suppress(OSError, UnusableStateFolder):
        file = os.open(_path(settings, database, name), os.O_RDONLY)
        try:
            holder = _read(file)
        finally:
            os.close(file)
        is_known = (holder.get("place"), holder.get("processes")) == (place, _processes())
        return is_known and not _is_alive(holder.get("pid"))
    return False


def _path(settings: Settings, database: str, name: str) -> Path:
    return _folder(settings) / f"{name}.{hashlib.sha256(database.encode()).hexdigest()[:12]}.lock"


def _processes() -> str:
    """Among which processes the numbers of ours are told apart: a container may have its own and share the folder."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def _is_alive(pid: object) -> bool:
    """Whether there is a process of that number, as far as one can tell."""
    if sys.platform == "win32" or not isinstance(pid, int) or pid <= 0:  # there a signal of 0 ends it
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # it is somebody else's
        return True
    return True


def _is_ours(file: int) -> bool:
    """Take the lock, if nobody else has it."""
    try:
        _lock(file)
    except (BlockingIOError, PermissionError):
        return False
    return True


def _inscribe(file: int) -> str:
    """Write who holds the lock; returns the file's id, which stays the same.

    In one write over what stands there: whoever is killed meanwhile must not take the id along.
    """
    place = _read(file).get("place") or str(uuid.uuid4())
    holder = {"place": place, "pid": os.getpid(), "processes": _processes(), "since": iso(datetime.now(UTC))}
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, json.dumps(holder).encode().ljust(INSCRIPTION_BYTES))
    os.fsync(file)
    return str(place)


def _read(file: int) -> dict[str, Any]:
    """What the file says; nothing when it is new, or whoever wrote it was cut off."""
    os.lseek(file, 0, os.SEEK_SET)
    try:
        holder = json.loads(os.read(file, 4_096))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _folder(settings: Settings) -> Path:
    """Where the files are: as set, else where the system has such files, else a user's own in the temporary folder."""
    if settings.state_folder is not None:
        with _usable(settings.state_folder):
            settings.state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return settings.state_folder
    with suppress(OSError, RuntimeError):  # no home, or one that nobody can write to
        usual = os.environ.get("XDG_STATE_HOME")
        folder = (Path(usual) if usual else Path.home() / ".local" / "state") / "enrichlog"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    return _temporary_folder()


def _temporary_folder() -> Path:
    """A folder that nobody else can have put there for us."""
    user = getattr(os, "getuid", lambda: "user")()
    folder = Path(tempfile.gettempdir()) / f"enrichlog-{user}"
    with _usable(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or (user != "user" and found.st_uid != user):
        raise UnusableStateFolder(path=folder, reason="it is somebody else's")
    return folder


@contextmanager
def _usable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnusableStateFolder(path=path, reason=error.strerror) from error
