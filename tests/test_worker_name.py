"""The name of a worker: one holder at a time on one machine, and free as soon as that has ended, however it ended."""

import itertools
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from enrichlog import worker_name
from enrichlog.exceptions import InvalidWorkerName, NameHeld, UnusableStateFolder
from enrichlog.settings import Settings, configure
from enrichlog.worker_name import WorkerName, default_names, hold, host_name, require_name

HOLDER = """
import sys
from enrichlog.settings import configure
from enrichlog.worker_name import hold
held = hold(configure(state_folder=sys.argv[1]), "jobs.db", "a")
print(held.place, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def state(bare: Path) -> Settings:
    """Settings under which names are kept in a folder of the test's own."""
    return configure(state_folder=bare / "state")


def test_a_name_has_one_holder_at_a_time_and_the_second_is_told_which(state: Settings) -> None:
    held = hold(state, "jobs.db", "a")
    with pytest.raises(NameHeld, match=rf"a worker a on this machine already: process {os.getpid()}, since \d{{4}}-"):
        hold(state, "jobs.db", "a")
    held.release()
    again = hold(state, "jobs.db", "a")
    assert again.place == held.place  # the same place on the same machine
    again.release()


def test_another_name_and_another_database_are_free_and_have_places_of_their_own(state: Settings) -> None:
    held = [hold(state, *which) for which in (("jobs.db", "a"), ("jobs.db", "b"), ("other.db", "a"))]
    assert len({one.place for one in held}) == 3
    for one in held:
        one.release()


def test_a_holder_that_is_killed_leaves_its_name_free_at_once(state: Settings) -> None:
    assert state.state_folder
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(state.state_folder)], cwd=Path(worker_name.__file__).parent.parent,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        place = process.stdout.readline().strip() if process.stdout else ""
        with pytest.raises(NameHeld, match=f"process {process.pid}, since"):
            hold(state, "jobs.db", "a")
        process.kill()
        process.wait()
        held = hold(state, "jobs.db", "a")
    assert held.place == place
    held.release()


def test_of_workers_that_begin_together_each_has_a_name_of_its_own(state: Settings) -> None:
    def first_free(_: int) -> WorkerName:
        for name in default_names():
            with suppress(NameHeld):
                return hold(state, "jobs.db", name)
        raise AssertionError("no name is free")

    with ThreadPoolExecutor(8) as threads:
        held = list(threads.map(first_free, range(8)))
    assert {one.name for one in held} == {f"{host_name()}-worker-{number}" for number in range(1, 9)}
    for one in held:
        one.release()


class _Killed(BaseException):
    """What stands for a kill: nobody handles it."""


@pytest.mark.parametrize("written", [0, 1, 100])
def test_a_name_keeps_its_place_when_its_holder_is_killed_as_it_writes(
    state: Settings, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    held = hold(state, "jobs.db", "a")
    held.release()
    write = os.write

    def is_cut(file: int, text: bytes) -> int:
        write(file, text[:written])
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", is_cut)
        with pytest.raises(_Killed):
            hold(state, "jobs.db", "a")
    again = hold(state, "jobs.db", "a")
    assert again.place == held.place
    again.release()


def test_a_file_that_was_cut_off_is_a_new_place(state: Settings) -> None:
    held = hold(state, "jobs.db", "a")
    held.release()
    assert state.state_folder
    (file,) = state.state_folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 or sys.platform == "win32"
    for text in ("", '{"place": "', "[]"):
        file.write_text(text)
        again = hold(state, "jobs.db", "a")
        assert again.place != held.place
        again.release()


@pytest.mark.parametrize("name", ["a", "worker-1", "A.b_c-9", "x" * 100])
def test_a_name_may_be_like_this(name: str) -> None:
    assert require_name(name) == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ä", "x" * 101, "a\n", "$(id)"])
def test_a_name_may_not_be_like_this(name: str) -> None:
    with pytest.raises(InvalidWorkerName, match="1 to 100 of the characters"):
        require_name(name)


def test_a_name_that_a_run_can_have_is_refused_and_others_that_end_in_a_number_are_not() -> None:
    with pytest.raises(InvalidWorkerName, match="runs of enrich on this machine are called like that"):
        require_name(f"{host_name()}-4711")
    assert require_name(f"{host_name()}-worker-4711")


def test_the_default_names_are_names_whatever_the_machine_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_name, "host_name", lambda: "größer und länger" * 20)
    assert all(map(require_name, itertools.islice(default_names(), 12)))


def _no_home(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    (place / "file").touch()
    monkeypatch.setenv("HOME", str(place / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place / f"enrichlog-{os.getuid()}"


def _state_home(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(place))
    return place / "enrichlog"


def _home(monkeypatch: pytest.MonkeyPatch, place: Path) -> Path:
    monkeypatch.setenv("HOME", str(place))
    return place / ".local" / "state" / "enrichlog"


@pytest.mark.skipif(sys.platform == "win32", reason="a home is found otherwise there")
@pytest.mark.parametrize("where", [_state_home, _home, _no_home])
def test_the_files_are_where_a_system_keeps_such_files_or_in_the_temporary_folder(
    bare: Path, monkeypatch: pytest.MonkeyPatch, where: Callable[[pytest.MonkeyPatch, Path], Path]
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    folder = where(monkeypatch, bare)
    hold(configure(), "jobs.db", "a").release()
    assert len(list(folder.iterdir())) == 1
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="it is no link there")
def test_a_folder_that_cannot_be_used_or_is_somebody_elses_is_refused(
    bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bare / "file").touch()
    with pytest.raises(UnusableStateFolder, match=r"file/state cannot be used to keep .*: Not a directory\. Name a"):
        hold(configure(state_folder=bare / "file" / "state"), "jobs.db", "a")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    configure(state_folder=None)
    _no_home(monkeypatch, bare).symlink_to(bare / "theirs")
    (bare / "theirs").mkdir()
    with pytest.raises(UnusableStateFolder, match="it is somebody else's"):
        hold(Settings(), "jobs.db", "a")
