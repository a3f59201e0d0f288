"""Work that several processes share: each does a task of its own, and none waits for another."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple, TypeVar

from eventlog.errors import ProcessDied

T = TypeVar("T")
Progress = Callable[[int], None]
Task = Callable[[Progress], T]
"""What one process does; it is sent there, so it is a function of a module, or a `partial` of one."""


class _Done(NamedTuple):
    """What came of the task of this number."""

    number: int
    result: Any


def do_all(tasks: Sequence[Task[T]], progress: Progress) -> list[T]:
    """Do each task in a process of its own; what came of each, in their order.

    `progress` is called with what each task tells its own. Raises the first error that any of them raises, or
    `ProcessDied`; then the others are stopped.
    """
    context, done = multiprocessing.get_context("spawn"), dict[int, T]()
    started = [_start(context, number, task) for number, task in enumerate(tasks)]
    try:
        for told in _listen([pipe for _, pipe in started]):
            if isinstance(told, _Done):
                done[told.number] = told.result
            else:
                progress(told)
    finally:
        for process, pipe in started:
            process.terminate()
            process.join()
            pipe.close()
    return [done[number] for number in range(len(tasks))]


def _start(context: SpawnContext, number: int, task: Task[Any]) -> tuple[SpawnProcess, Pipe]:
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(number, task, theirs), daemon=True)
    with _interrupts_held():  # while it begins it could not ignore them, and would tell of one with a traceback
        process.start()
    theirs.close()  # ours of it: the pipe ends when that process does
    return process, mine


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Ctrl-C waits until the end of it, and does not reach what is started in it."""
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    resource_tracker.ensure_running()  # which unblocks the signal as it starts
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))  # another thread may receive it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # what is started inherits this, not the handler
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if came:
            signal.raise_signal(signal.SIGINT)


def _listen(pipes: list[Pipe]) -> Iterator[int | _Done]:
    left = list(pipes)
    while left:
        ready = wait(left)
        for pipe in [one for one in left if one in ready]:
            told = _receive(pipe)
            if isinstance(told, _Done):
                left.remove(pipe)
            yield told


def _receive(pipe: Pipe) -> int | _Done:
    try:
        told = pipe.recv()
    except EOFError:
        raise ProcessDied() from None
    if isinstance(told, Exception):
        raise told
    return told  # type: ignore[no-any-return]


def _work(number: int, task: Task[Any], pipe: Pipe) -> None:
    """One of the processes, from its beginning to its end: it tells how far it is, and last what it has found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the other process that is interrupted, and ends this one
    try:
        pipe.send(_Done(number, task(pipe.send)))
    except BrokenPipeError:
        return  # whoever wanted to know has gone
    except Exception as error:  # whatever it is, it is the other process that says so
        pipe.send(_sendable(error))


def _sendable(error: Exception) -> Exception:
    """An error as the other process will have it; one that cannot be sent as what it says of itself."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return error
