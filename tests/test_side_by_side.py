"""Work that several processes share: Ctrl-C reaches them all, and is for the one that started the others."""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import pytest

from eventlog import side_by_side

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of one process to another")


def found(_progress: Callable[[int], None]) -> int:
    return 7


def test_an_interrupt_that_meets_a_process_as_it_begins_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start = side_by_side._start

    def interrupted(*arguments: Any) -> Any:
        process, pipe = start(*arguments)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGINT)
        return process, pipe

    monkeypatch.setattr(side_by_side, "_start", interrupted)
    assert side_by_side.do_all([found, found], lambda count: None) == [7, 7]


def test_an_interrupt_waits_until_what_is_started_has_all_that_it_needs() -> None:
    held = []

    def work() -> None:
        with side_by_side._interrupts_held():
            signal.raise_signal(signal.SIGINT)
            held.append("still here")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert held == ["still here"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


class Peculiar(Exception):
    """It cannot be made anew from what it says."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail_peculiarly(_progress: Callable[[int], None]) -> int:
    raise Peculiar(1, 2)


def test_an_error_that_cannot_be_sent_is_told_by_what_it_says() -> None:
    with pytest.raises(RuntimeError, match="Peculiar"):
        side_by_side.do_all([fail_peculiarly], lambda count: None)
