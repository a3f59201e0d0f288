"""Enlisting: a process takes a worker's name, enters its row, and closes what a dead one of that name had begun."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import NamedTuple

from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import NameElsewhere, NameHeld
from enrichlog.orphans import close_own
from enrichlog.settings import Settings
from enrichlog.worker_name import WorkerName, default_names, hold, require_name
from enrichlog.workers import Registered, Registration, leave, register, registration
from eventlog.database import Database
from eventlog.errors import EnrichlogError


class Enlisted(NamedTuple):
    """A worker that may begin: what it is, since when, and how many attempts of a dead one of its name were closed."""

    worker: Registration
    since: datetime
    closed: int


@contextmanager
def enlisted(settings: Settings, database: Database, asked: Enrichment, name: str | None) -> Iterator[Enlisted]:
    """Be a worker of that name, or of the first default one that is free. Raises `NameHeld` or `NameElsewhere`.

    Who ends otherwise than well keeps the row, by which the next of that name finds out. What a worker on another
    machine had begun is left to its leases: it may be alive.
    """
    held, worker, registered = _enlist(settings, database, asked, name)
    try:
        closed = close_own(database, worker.name) if registered.came_back else 0
        yield Enlisted(worker, registered.since, closed)
        _leave(database, worker)
    except SystemExit:  # told to end before it has begun
        _leave(database, worker)
        raise
    finally:
        held.release()


def told_apart(settings: Settings, database: Database) -> str:
    """The database, so that workers of another may have the same names."""
    return f"{database.dialect.where()} {settings.database_schema}"


def _leave(database: Database, worker: Registration) -> None:
    with suppress(EnrichlogError):  # it is away, and will show that we were not seen since
        leave(database, worker)


def _enlist(
    settings: Settings, database: Database, asked: Enrichment, name: str | None
) -> tuple[WorkerName, Registration, Registered]:
    if name is not None:
        return _enlist_as(settings, database, asked, require_name(name))
    names = default_names()
    while True:
        with suppress(NameHeld, NameElsewhere):
            return _enlist_as(settings, database, asked, next(names))


def _enlist_as(
    settings: Settings, database: Database, asked: Enrichment, name: str
) -> tuple[WorkerName, Registration, Registered]:
    held = hold(settings, told_apart(settings, database), name)
    try:
        worker = registration(held, asked, settings.concurrency)
        return held, worker, register(database, worker)
    except BaseException:
        held.release()
        raise
