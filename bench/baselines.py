"""What the log is compared with: the library `eventsourcing`, and the bare driver."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from urllib.parse import urlsplit

import psycopg
from eventsourcing.persistence import ApplicationRecorder, StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteConnection, SQLiteConnectionPool, SQLiteDatastore

from bench.payload import EVENT, stored_text
from eventlog.chain import GENESIS, seal
from eventlog.database import Database

STATE = stored_text().encode()


def stored_events(number: int) -> Sequence[StoredEvent]:
    """Events of the same size as ours, each the first of an aggregate of its own."""
    return [StoredEvent(uuid.uuid4(), 1, "bench.payload:EnrichmentSucceeded", STATE) for _ in range(number)]


@contextmanager
def eventsourcing_recorder(database: Database) -> Iterator[ApplicationRecorder]:
    """The library's own recorder with its own table in the same database (on SQLite: in a file beside it)."""
    postgresql = database.dialect.name == "postgresql"
    recorder = _postgresql_recorder(database.url) if postgresql else _sqlite_recorder(database)
    try:
        yield recorder
    finally:
        recorder.datastore.close()


def _postgresql_recorder(url: str) -> PostgresApplicationRecorder:
    parts = urlsplit(url)
    place = (parts.path.removeprefix("/"), parts.hostname or "", parts.port or 5432)
    datastore = PostgresDatastore(*place, parts.username or "", parts.password or "")
    recorder = PostgresApplicationRecorder(datastore)
    recorder.create_table()
    return recorder


def _sqlite_recorder(database: Database) -> SQLiteApplicationRecorder:
    datastore = SQLiteDatastore(f"{database.url}.eventsourcing")
    datastore.pool = _Pool(database, datastore.pool.db_name)
    recorder = SQLiteApplicationRecorder(datastore)
    recorder.create_table()
    return recorder


class _Pool(SQLiteConnectionPool):
    """The library's pool, with the journal mode and the synchronous setting of our connections."""

    def __init__(self, database: Database, db_name: str) -> None:
        super().__init__(db_name=db_name)
        with database.read() as connection:
            self._settings = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous")
            }
        self.is_journal_mode_wal = True  # keeps it from setting WAL where we do not

    def _create_connection(self) -> SQLiteConnection:
        connection = super()._create_connection()
        for name, value in self._settings.items():
            connection.cursor().execute(f"PRAGMA {name}={value}")
        return connection


@contextmanager
def raw_insert(database: Database) -> Iterator[Callable[[], int]]:
    """PostgreSQL's bare driver: one of our rows in one transaction, into a table with the same columns and indexes."""
    sealed = seal(str(uuid.uuid4()), "job-1", 1, type(EVENT).__name__, EVENT.payload(datetime.now(UTC)))
    statement = f"INSERT INTO raw_events VALUES ({', '.join(['%s'] * 12)})"
    positions = count(1)
    with psycopg.connect(database.url) as connection:
        connection.execute(f"CREATE TABLE raw_events (LIKE {database.dialect.qualified('events')} INCLUDING ALL)")
        connection.commit()

        def insert() -> int:
            own = sealed._replace(event_id=str(uuid.uuid4()), stream_id=f"job-{uuid.uuid4()}")
            row = (next(positions), *own[:5], datetime.now(UTC), *own[5:], GENESIS)
            connection.execute(statement, row)
            connection.commit()
            return 1

        yield insert
