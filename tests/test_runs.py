"""Running what is asynchronous: in a script, and beside an event loop that runs already."""

import asyncio
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator

import pytest

from enrichlog.runs import run_anywhere
from tests.builders import BOUND


@pytest.fixture
def notebook() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that leaves Ctrl-C alone, as a notebook's does."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def functions_of(thread: int) -> list[str]:
    """The functions that a thread is in now."""
    return [frame.name for frame in traceback.extract_stack(sys._current_frames()[thread])]


async def until_main_thread_waits() -> None:
    """Until it is in the wait for a result: an interrupt before that would meet a run that has hardly begun."""
    main = threading.main_thread().ident
    assert main is not None
    async with asyncio.timeout(BOUND):
        while "result" not in functions_of(main):  # noqa: ASYNC110 (no event tells what another thread is at)
            await asyncio.sleep(0)


async def answer() -> int:
    return 42


async def broken() -> int:
    raise ValueError("it broke")


def test_a_coroutine_runs_in_a_script() -> None:
    assert run_anywhere(answer()) == 42
    with pytest.raises(ValueError, match="it broke"):
        run_anywhere(broken())


def test_a_coroutine_runs_beside_a_running_loop(notebook: asyncio.AbstractEventLoop) -> None:
    async def cell() -> int:
        with pytest.raises(ValueError, match="it broke"):
            run_anywhere(broken())
        return run_anywhere(answer())

    assert notebook.run_until_complete(cell()) == 42


def test_ctrl_c_beside_a_running_loop_cancels_at_once_and_is_raised_after_the_cleaning_up(
    notebook: asyncio.AbstractEventLoop,
) -> None:
    happened: list[str] = []

    async def endless() -> None:
        await until_main_thread_waits()
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.wait_for(asyncio.Event().wait(), BOUND)
        except asyncio.CancelledError:
            happened.append("cancelled")
            await asyncio.sleep(0)
            happened.append("cleaned up")
            raise
        except TimeoutError:
            happened.append("nobody cancelled it")

    async def cell() -> None:
        run_anywhere(endless())

    with pytest.raises(KeyboardInterrupt):
        notebook.run_until_complete(cell())
    assert happened == ["cancelled", "cleaned up"]
