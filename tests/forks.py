"""`enrichlog …` in processes of its own, forked from one that has imported everything, because they are many.

What a process does before the command, such as to have itself killed somewhere, is a function named by its module.
"""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from tests.command_line import environment

CHECKOUT = Path(__file__).parent.parent
PRELOADED = ("cli", "enrichlog.commands", "enrichlog.told_run", "enrichlog.llm", "psycopg", "tests.crash_points")
PATIENCE_SECONDS = 60.0


class Fork:
    """One process: a child of the one that forks, which is asked how it is."""

    def __init__(self, pid: int, folder: Path, ask: Callable[..., Any]) -> None:
        self.pid = pid
        self._out, self._ask = folder / f"{pid}.txt", ask

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._ask(pid=self.pid, signal=int(number))

    def code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        found: int | None = self._ask(pid=self.pid)["code"]
        return found

    def is_stopped(self) -> bool:
        """Whether it has been stopped by a signal, and not gone on since."""
        return bool(self._ask(pid=self.pid)["stopped"])

    def wait(self) -> int:
        """The exit code, once there is one."""
        wait_until(lambda: self.code() is not None, "the process did not end")
        code = self.code()
        assert code is not None
        return code

    @property
    def said(self) -> str:
        """All that it has printed so far, on both outputs."""
        return self._out.read_text(encoding="utf-8", errors="replace") if self._out.exists() else ""

    @property
    def acknowledged(self) -> set[str]:
        """The attempts whose ends it says are recorded; the last line of one that was killed may be half a line."""
        found = set()
        for line in self.said.splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line) if line.startswith('{"at"') else {}
                found |= {entry["attempt_id"]} if entry.get("level") == "info" and "attempt_id" in entry else set()
        return found


class Forks:
    """The process that forks; leaving its `with` kills all that still run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> "Forks":
        command = [sys.executable, "-c", "from tests.forks import serve; serve()"]
        self._process = subprocess.Popen(
            command, cwd=CHECKOUT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for whoever forks
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def start(self, *words: str, before: str = "", folder: Path, **variables: str) -> Fork:
        """Start a command in a folder, once the function `before`, if any, has been called: `module:name argument`."""
        request = {"words": words, "before": before, "folder": str(folder), "variables": environment(**variables)}
        return Fork(self._ask(**request, out=str(self._folder))["pid"], self._folder, self._ask)

    def _ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        _write(self._process.stdin, request)
        return json.loads(self._process.stdout.readline())


def wait_until(is_true: Callable[[], object], otherwise: str) -> None:
    """Look again and again; raises `AssertionError` when it never comes true."""
    never, deadline = threading.Event(), time.monotonic() + PATIENCE_SECONDS
    while not is_true():
        assert time.monotonic() < deadline, otherwise
        never.wait(0.01)  # until the next look


def serve() -> None:
    """Answer requests until the standard input ends; then nothing that was forked here is left."""
    for name in PRELOADED:
        import_module(name)
    gc.freeze()  # so that what is shared with the forks stays shared
    states: dict[int, dict[str, Any]] = {}
    try:
        for request in _requests():
            _write(sys.stdout, _answer(request, states))
    finally:
        for pid, state in states.items():
            if state["code"] is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def _write(file: IO[str], document: Mapping[str, Any]) -> None:
    file.write(json.dumps(document) + "\n")
    file.flush()


def _requests() -> Iterator[dict[str, Any]]:
    for line in sys.stdin:
        yield json.loads(line)


def _answer(request: dict[str, Any], states: dict[int, dict[str, Any]]) -> dict[str, Any]:
    if "words" in request:
        pid = _fork(request)
        states[pid] = {"pid": pid, "code": None, "stopped": False}
        return states[pid]
    state = states[request["pid"]]
    _look(state)
    if "signal" in request and state["code"] is None:
        os.kill(state["pid"], request["signal"])
    return state


def _look(state: dict[str, Any]) -> None:
    """See what has become of a process since the last look."""
    if state["code"] is not None:
        return
    pid, found = os.waitpid(state["pid"], os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
    if pid and os.WIFSTOPPED(found):
        state["stopped"] = True
    elif pid and os.WIFCONTINUED(found):
        state["stopped"] = False
    elif pid:
        state["code"] = os.waitstatus_to_exitcode(found)


def _fork(request: Mapping[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            _become(request)
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
        finally:
            sys.stdout.flush()
            os._exit(code)  # nothing of the one that forks is to end here
    return pid


def _become(request: Mapping[str, Any]) -> None:
    """Be the command: its folder, its environment, its outputs."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["variables"])
    out = os.open(f"{request['out']}/{os.getpid()}.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (out, 1), (out, 2)):
        os.dup2(source, target)
    if request["before"]:
        module, _, call = request["before"].partition(":")
        name, _, argument = call.partition(" ")
        getattr(import_module(module), name)(*([argument] if argument else []))
    sys.argv = ["enrichlog", *request["words"]]
    import_module("cli").main(list(request["words"]))
