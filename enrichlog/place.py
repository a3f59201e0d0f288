"""Opening the database that the settings name."""

from __future__ import annotations

import os
from functools import lru_cache

from enrichlog.settings import Settings
from eventlog import migration
from eventlog.database import Database


def database_of(settings: Settings) -> Database:
    """The database, whether it is there or not."""
    return _database(settings.database, settings.database_schema, os.getpid())


def open_database(settings: Settings) -> Database:
    """The database, checked: it is there and its tables are those this version needs.

    Raises `NotInitialised`, `SchemaOutdated`, `SchemaTooNew`, or what keeps it from being reached.
    """
    database = database_of(settings)
    migration.check(database)
    return database


@lru_cache(maxsize=8)
def _database(url: str, schema: str, process: int) -> Database:
    """One for each process: after a fork the connections are the parent's, and are left to it as they are."""
    return Database(url, schema)
