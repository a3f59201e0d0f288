"""What `enrichlog worker` does: it takes a name, works for ever under it, and leaves it in good order."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from enrichlog import terminal
from enrichlog.diary import told_attempts
from enrichlog.enlisting import Enlisted, enlisted
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.limits import require_price
from enrichlog.progress import Run
from enrichlog.ready import require_ready
from enrichlog.runs import serve
from enrichlog.screens import SIMULATED
from enrichlog.settings import Settings
from enrichlog.terminal import counted
from enrichlog.watch import Watch
from eventlog.database import Database
from eventlog.errors import EnrichlogError

logger = logging.getLogger(__name__)

DONE, STOPPED = 0, 1
UNRECORDED = "open until the next worker of this name starts on this machine, or its lease runs out"


def work(
    settings: Settings, database: Database, *, enrichment: str, name: str | None, poll_seconds: float,
    grace_seconds: float, as_json: bool,
) -> int:  # fmt: skip
    """Work until a signal ends it, tell what is going on, and return the exit code.

    What ends it otherwise is raised, after what was done until then, if anything, is told.
    """
    _tell_unless_told_not_to(settings)
    asked, began = enrichment_of(settings, enrichment), time.monotonic()
    require_ready(settings, database, asked)
    require_price(database, settings, asked, None)
    with _ending_at_sigterm(), enlisted(settings, database, asked, name) as one:
        _tell_beginning(one, asked, settings)
        watch = Watch(database, settings, one, logger.info)
        try:
            run = serve(
                database, settings, asked, name=one.worker.name, poll_seconds=poll_seconds,
                grace_seconds=grace_seconds, watch=watch.begin, signals=True,
            )  # fmt: skip
        except EnrichlogError:
            if watch.run.done or watch.run.unrecorded:
                _tell_end(watch.run, one.worker.name, time.monotonic() - began, as_json=as_json)
            raise
        finally:
            watch.end()
    _tell_end(run, one.worker.name, time.monotonic() - began, as_json=as_json)
    return _exit_code(run)


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Have SIGTERM end the process in good order until the walk listens itself: there is nothing to drain before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(DONE))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _tell_unless_told_not_to(settings: Settings) -> None:
    """Nobody watches a bar in a daemon: what it does is in its log, also where only warnings are usual."""
    logger.setLevel(logging.INFO if settings.sources["log_level"] == "default" else logging.NOTSET)


def _tell_beginning(one: Enlisted, asked: Enrichment, settings: Settings) -> None:
    if one.closed:
        logger.warning("Closed %s that the last worker of this name had left open.", counted(one.closed, "attempt"))
    logger.info(
        "Worker %s asks %s at %s for the enrichment %s, up to %s at a time.",
        one.worker.name, asked.model, asked.endpoint, asked.name, counted(settings.concurrency, "posting"),
    )  # fmt: skip


def _tell_end(run: Run, name: str, seconds: float, *, as_json: bool) -> None:
    """The summary, or the one document."""
    if as_json:
        done = {key: value for key, value in vars(run).items() if key != "missed"}
        terminal.print_json({"worker": name, **done, "done": run.done, "seconds": round(seconds, 3)})
        return
    terminal.say(f"{told_attempts(run, seconds)}. {run.stopped or ''}".rstrip())
    if run.unrecorded:
        one = counted(run.unrecorded, "more attempt")
        terminal.say(f"{one} ended and could not be recorded: {UNRECORDED}")
    if run.simulated:
        terminal.say(SIMULATED)


def _exit_code(run: Run) -> int:
    """A drain that a signal asked for has gone well; a second signal, or anything else, has cut the work off."""
    if run.signal is None:
        return STOPPED
    return 128 + run.signal if run.hurried else DONE
