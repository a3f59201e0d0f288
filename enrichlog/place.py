"""Opening the database that the settings name."""

from __future__ import annotations

import os
import shlex
import threading

from enrichlog.adopted import adopted_of
from enrichlog.masking import masked
from enrichlog.settings import Settings
from enrichlog.source_check import look_up
from eventlog import migration
from eventlog.database import Database
from projections.adoption import Adopted
from projections.checkpoints import checkpoints, rebuilds

MOST_OPEN = 8
_Key = tuple[str, str, Adopted | None, int]
_open: dict[_Key, Database] = {}
_opening = threading.Lock()


def database_of(settings: Settings) -> Database:
    """The database, whether it is there or not."""
    return _database(settings.database, settings.database_schema, adopted_of(settings), os.getpid())


def open_database(settings: Settings) -> Database:
    """The database, checked: it is there and its tables are those this version needs.

    Raises `NotInitialised`, `SchemaOutdated`, `SchemaTooNew`, `TableNotMade`, `UnusableSource`, or what keeps it
    from being reached.
    """
    database = database_of(settings)
    migration.check(database, flag_for(settings), (checkpoints.name, rebuilds.name))
    if database.adopted is not None and not database.adopted.is_looked_up:
        look_up(database)
    return database


def flag_for(settings: Settings) -> str:
    """What the next command must be given to reach the same database; nothing where it is set for all of them."""
    if settings.sources["database"] != "flag":
        return ""
    url = settings.database
    return f" --database {shlex.quote(url) if masked(url) == url else 'URL'}"


def _database(url: str, schema: str, adopted: Adopted | None, process: int) -> Database:
    """One for each process: after a fork the connections are the parent's, and are left to it as they are."""
    place = (url, schema, adopted, process)
    with _opening:
        if place not in _open:
            ours = [one for one in _open if one[-1] == process]
            for one in ours[: max(0, len(ours) + 1 - MOST_OPEN)]:
                _open.pop(one).close()
            _open[place] = Database(url, schema, adopted=adopted)
        return _open[place]


def close_databases() -> None:
    """Close the connections of all databases that this process has opened; the next use opens new ones."""
    with _opening:
        for place in [one for one in _open if one[-1] == os.getpid()]:
            _open.pop(place).close()
