"""Watching where everything stands: `status` again and again, in place on a terminal, else one after another."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from time import sleep

from rich.console import Console
from rich.live import Live
from rich.text import Text

from enrichlog import breaker_screen, status_screen, terminal
from enrichlog.moments import told_moment
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import DatabaseBusy, DatabaseUnavailable, EnrichlogError
from eventlog.events import iso
from eventlog.redaction import redact

Clock = Callable[[], datetime]
Put = Callable[[str], None]
"""Shows what a round tells."""


def watch(
    settings: Settings, database: Database, enrichment: str, *, every: float, as_json: bool,
    clock: Clock = lambda: datetime.now(UTC), wait: Callable[[float], None] | None = None,
) -> None:  # fmt: skip
    """Tell where everything stands each so many seconds, until Ctrl-C: that is how it is meant to end.

    A database that is away or busy is told of, and looked for again. Raises what else is wrong with it.
    """
    look, place = (_documents, _in_turn) if as_json else (_screens, _in_place if terminal.out.is_terminal else _in_turn)
    with suppress(KeyboardInterrupt), place() as put:
        for told in look(settings, database, enrichment, every, clock):
            put(told)
            (wait or sleep)(every)


@contextmanager
def _in_place() -> Iterator[Put]:
    """Each round takes the place of the one before; what does not fit the window is cut off."""
    own = Console(force_terminal=True, highlight=False, emoji=False)  # rounds are told, and caught, on the other one
    with Live(console=own, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        yield lambda told: live.update(Text.from_ansi(told.rstrip("\n")), refresh=True)


@contextmanager
def _in_turn() -> Iterator[Put]:
    def put(told: str) -> None:
        sys.stdout.write(told)
        sys.stdout.flush()  # whoever reads a pipe is not to wait for the next round

    yield put


def _documents(settings: Settings, database: Database, enrichment: str, every: float, clock: Clock) -> Iterator[str]:
    """A line of JSON for each round: the document of `status`, or the error, with the time."""
    while True:
        at = iso(clock())
        try:
            found = status_screen.document(settings, database, enrichment)
        except (DatabaseUnavailable, DatabaseBusy) as error:
            found = {"error": redact(str(error))}
        yield terminal.json_text({"at": at, **found}) + "\n"


def _screens(settings: Settings, database: Database, enrichment: str, every: float, clock: Clock) -> Iterator[str]:
    """What `status` shows in each round, below the time, or why it cannot, below what was known last."""
    last = ""
    while True:
        at = told_moment(clock())
        try:
            last = _shown(settings, database, enrichment, at)
            yield last
        except (DatabaseUnavailable, DatabaseBusy) as error:
            known = last if terminal.out.is_terminal else ""  # in a pipe it has been told
            yield known + _failed(error, at, every)


def _shown(settings: Settings, database: Database, enrichment: str, at: str) -> str:
    with terminal.err.capture() as warning, terminal.out.capture() as shown:
        terminal.say(at)
        status_screen.show(settings, database, enrichment)
        breaker_screen.warn(database, settings)
    return shown.get() + warning.get() + "\n"


def _failed(error: EnrichlogError, at: str, every: float) -> str:
    with terminal.out.capture() as shown:
        terminal.say(f"{at}: {redact(error.told(terminal.advise))}")
        terminal.say(f"It is tried again every {every:g} s.\n")
    return shown.get()
