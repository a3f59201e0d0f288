"""All that differs between SQLite and PostgreSQL: nobody else asks which of the two it is."""

from __future__ import annotations

import hashlib
import logging
import random
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import orjson
import sqlalchemy.dialects
import sqlalchemy.dialects.postgresql as postgresql
import sqlalchemy.dialects.sqlite as sqlite
from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    Executable,
    Table,
    Text,
    any_,
    bindparam,
    create_engine,
    event,
    func,
    make_url,
    update,
)
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.schema import ExecutableDDLElement

from eventlog import errors
from eventlog.column_types import Spelt, kind_of
from eventlog.events import iso
from eventlog.inspection import Inspection
from eventlog.inspection import quoted as quoted
from eventlog.inspection_postgresql import PostgreSQLInspection
from eventlog.inspection_sqlite import SQLiteInspection
from eventlog.plain_values import json_text, plain_values
from eventlog.rights import APP_ROLE, owners_rows, rights
from eventlog.schema import OURS, UtcDateTime, events
from eventlog.script import GuardedScript, PlainScript, Script
from eventlog.users_tables import UsersTables
from eventlog.users_tables_postgresql import PostgreSQLUsersTables
from eventlog.users_tables_sqlite import SQLiteUsersTables

Clock = Callable[[], datetime]
Row = Mapping[str, Any]
EVENT_COLUMNS = tuple(column.name for column in events.columns)
BUSY_PATIENCE_SECONDS = 30.0
READ_PATIENCE_MILLISECONDS = 5_000

# Who freezes is cut off before those who wait for it give up. Sealing a batch takes its time.
LOCK_PATIENCE, FROZEN, FROZEN_WITH_THE_LOG = "30s", "20s", "2s"
BRIEF_PATIENCE = "5s"

# A server that vanishes without a word (its machine, or the way to it) is missed within half a minute; the system would
# wait for a quarter of an hour, and for two hours where it is our turn to listen. A URL may say otherwise.
VANISHED = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 30_000}

# What is acknowledged has to be on disk, whatever the role, or a pooler's other client, has set; more is left as it is.
DURABLE = "coalesce(nullif(current_setting('synchronous_commit'), 'off'), 'on')"


class Head(NamedTuple):
    """Where the log ends, and the database's time as read after the log lock."""

    position: int
    hash: bytes | None
    now: datetime


class Dialect(Protocol):
    """What the log needs of a database."""

    name: str
    schema: str | None
    script: Script
    now: ColumnElement[datetime]
    """What `clock` tells, as a column that a query can bring along."""

    rows_together: int | None
    """How many rows one read may go over while others write; None for any number."""

    events_together: int | None
    """Of how many events the rows may be read and written together while others append; None for any number."""

    inspection: Inspection
    """What it tells of the users' tables."""

    theirs: UsersTables
    """How their tables and queries are read and written."""

    def __hash__(self) -> int: ...
    def engine(self) -> Engine: ...
    def where(self) -> str: ...
    def exists(self) -> bool: ...
    def create_place(self) -> None: ...
    def qualified(self, table: str) -> str: ...
    def clock(self, connection: Connection) -> datetime: ...
    def see_one_moment(self, connection: Connection) -> None:
        """Have all statements of a transaction that begins see the same moment of the log and its read models."""
        ...

    def lock_log(self, connection: Connection) -> Head:
        """Take the log lock, then by another statement, which sees all that is committed, read where the log ends."""
        ...

    def insert_events(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None: ...
    def among(self, column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
        """Whether a column is one of a list of texts, which the parameter of that name brings."""
        ...

    def insert(self, table: Table) -> sqlite.Insert | postgresql.Insert: ...
    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> set[str]:
        """Insert those rows, of like columns, whose key, which is one column, is not there yet.

        Returns the keys whose rows nobody else can change any more before this transaction ends.
        """
        ...

    def update(self, connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        """Set these columns of rows that are there, each found by the table's primary key, which is one column."""
        ...

    def wait_briefly(self, connection: Connection) -> None:
        """Have locks be waited for a few seconds only, until the log lock is taken."""
        ...

    def is_locked(self, error: DBAPIError) -> bool:
        """Whether a lock was not to be had, so that the statement can be tried again as it is."""
        ...

    def is_stale(self, error: DBAPIError) -> bool:
        """Whether a transaction could not begin because its connection broke before, so that another one may do."""
        ...

    def require_transaction(self, connection: Connection) -> None:
        """Raises `DatabaseRefused` when a trigger of the users' has ended our transaction: what follows would stay."""
        ...

    def lock_migrations(self, connection: Connection) -> None: ...
    def owners_rows(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        """The SQL that lets the owner of these tables, those that are there, see their rows, and nobody else."""
        ...

    def rights(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        """The SQL that gives each table and view of ours, and each that we made for the users, its rights."""
        ...

    def lacking_role(self, connection: Connection) -> str | None:
        """The name of the application role, where there should be one and is none."""
        ...

    def spelt(self, statement: Executable) -> str:
        """A statement as text, with our schema and all values in it."""
        ...

    def statements(self, script: str) -> Iterator[str]: ...
    def has_our_table(self, connection: Connection, table: str) -> bool: ...
    def translate(self, error: DBAPIError) -> errors.EnrichlogError: ...


class SQLite:
    """A file: one writer at a time, so BEGIN IMMEDIATE is the log lock."""

    name = "sqlite"
    schema: str | None = None
    script: Script = PlainScript()
    rows_together: int | None = 25_000  # a tenth of a second: without the write-ahead log nobody commits meanwhile
    events_together: int | None = 400  # some hundredths of a second: one writer at a time

    def __init__(self, url: URL, clock: Clock | None = None) -> None:
        if not url.database or url.database == ":memory:":
            raise errors.UnusableDatabaseUrl(where=url, reason="the log needs a file")
        self.path = Path(url.database).absolute()
        self.inspection: Inspection = SQLiteInspection()
        self.theirs: UsersTables = SQLiteUsersTables()
        self._clock = clock or (lambda: datetime.now(UTC))
        self.now: ColumnElement[datetime] = _told(self._clock)

    def engine(self) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            execution_options={"schema_translate_map": {OURS: None}},
            hide_parameters=True,  # texts of postings and results stay out of logs and errors
            json_deserializer=orjson.loads,
            json_serializer=json_text,
            connect_args={"isolation_level": None},  # None: transactions begin where we say
        )
        event.listen(engine, "connect", self._prepare)
        event.listen(engine, "begin", _begin_sqlite)
        event.listen(engine, "commit", _commit_sqlite)
        return engine

    def _prepare(self, dbapi_connection: sqlite3.Connection, _record: object) -> None:
        """Durability: FULL always; the write-ahead log only where SQLite's reset of it is sound."""
        mode = "WAL" if _wal_is_sound(sqlite3.sqlite_version_info) else "TRUNCATE"
        with suppress(sqlite3.OperationalError):  # read-only or locked: the statement to come says so
            dbapi_connection.execute(f"PRAGMA journal_mode={mode}")
        dbapi_connection.execute("PRAGMA synchronous=FULL")
        dbapi_connection.execute("PRAGMA foreign_keys=ON")

    def where(self) -> str:
        return str(self.path)

    def exists(self) -> bool:
        try:
            return self.path.exists() and self.path.stat().st_size > 0
        except OSError as error:
            raise errors.DatabaseUnavailable(where=self.where(), reason=error.strerror) from error

    def create_place(self) -> None:
        """Make the file, readable and writable for its owner alone."""
        try:
            self.path.touch(mode=0o600)
        except OSError as error:
            raise errors.DatabaseUnavailable(where=self.where(), reason=error.strerror) from error

    def qualified(self, table: str) -> str:
        return table

    def clock(self, connection: Connection) -> datetime:
        return self._clock()  # the file's clock is that of the machine it is on

    def see_one_moment(self, connection: Connection) -> None:
        """Every transaction does."""

    def lock_log(self, connection: Connection) -> Head:
        """BEGIN IMMEDIATE has it already."""
        last = "SELECT position, hash FROM events ORDER BY position DESC LIMIT 1"
        position, hash_ = connection.exec_driver_sql(last).one_or_none() or (0, None)
        return Head(position, hash_, self._clock())

    def insert_events(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(EVENT_COLUMNS))
        timed = [(*row[:6], iso(row[6]), *row[7:]) for row in rows]
        connection.exec_driver_sql(f"INSERT INTO events ({', '.join(EVENT_COLUMNS)}) VALUES ({marks})", timed)

    def among(self, column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
        return self.theirs.is_key(column, "", parameter)

    def insert(self, table: Table) -> sqlite.Insert:
        return sqlite.insert(table)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> set[str]:
        (key,) = table.primary_key
        if rows:
            names = tuple(rows[0])
            marks = ", ".join("?" * len(names))
            into = f"{table.name} ({', '.join(map(quoted, names))})"
            connection.exec_driver_sql(
                f"INSERT INTO {into} VALUES ({marks}) ON CONFLICT DO NOTHING", plain_values(table, rows)
            )
        return {row[key.name] for row in rows}

    def update(self, connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        (key,) = table.primary_key
        statement = update(table).where(key == bindparam("_key")).values({name: bindparam(name) for name in names})
        connection.execute(statement, [{"_key": row[key.name], **{name: row[name] for name in names}} for row in rows])

    def wait_briefly(self, connection: Connection) -> None:
        """One writer at a time: there are no locks to wait for."""

    def is_locked(self, error: DBAPIError) -> bool:
        return False  # whoever writes has the whole file

    def is_stale(self, error: DBAPIError) -> bool:
        return False  # a file does not go away

    def require_transaction(self, connection: Connection) -> None:
        if not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
            raise errors.DatabaseRefused(where=self.where(), reason="a trigger rolled the whole transaction back")

    def lock_migrations(self, connection: Connection) -> None:
        """BEGIN IMMEDIATE has it already."""

    def owners_rows(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        yield from ()

    def rights(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        yield from ()  # the file is for its owner alone

    def lacking_role(self, connection: Connection) -> str | None:
        return None

    def spelt(self, statement: Executable) -> str:
        return _spelt(statement, sqlite.dialect(), "main")

    def statements(self, script: str) -> Iterator[str]:
        """One by one, because the driver takes one statement at a time."""
        statement = ""
        for line in script.splitlines(keepends=True):
            statement += line
            if sqlite3.complete_statement(statement):
                yield statement.strip()
                statement = ""

    def has_our_table(self, connection: Connection, table: str) -> bool:
        found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
        return found.first() is not None

    def translate(self, error: DBAPIError) -> errors.EnrichlogError:
        cause, where = error.orig, self.where()
        code = getattr(cause, "sqlite_errorcode", None)
        primary = code & 0xFF if isinstance(code, int) else None
        match primary:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                return errors.DatabaseBusy(where=where, reason=str(cause))
            case sqlite3.SQLITE_READONLY:
                remedy = "Give this user the right to write to it, and to its folder"
                return errors.DatabaseReadOnly(where=where, remedy=remedy)
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                return errors.NotADatabase(where=where)
            case sqlite3.SQLITE_FULL | sqlite3.SQLITE_IOERR:
                return errors.DiskFailed(where=where, reason=str(cause))
            case sqlite3.SQLITE_CANTOPEN:
                return errors.DatabaseUnavailable(where=where, reason=str(cause))
        return errors.DatabaseRefused(where=where, reason=str(cause))


_NO_SESSION = ("08P01", "query_wait_timeout")
"""PgBouncer's one state for all that it refuses, and the whole of its message."""


class _Psycopg(PGDialect_psycopg):
    """SQLAlchemy's dialect of the driver, whose transactions begin as ours do, in one round trip."""

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Begin, whatever the defaults of the role: a default of REPEATABLE READ would see a stale head of the log.

        Nothing is set for a session, which behind a pooler is another one in each transaction.
        """
        dbapi_connection.cursor().execute(
            f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '{LOCK_PATIENCE}'; "
            f"SET LOCAL idle_in_transaction_session_timeout = '{FROZEN}'; "
            "SET LOCAL datestyle = ISO; SET LOCAL client_encoding = 'UTF8'"  # as the driver reads times and texts
        )


sqlalchemy.dialects.registry.register("postgresql.enrichlog", __name__, _Psycopg.__name__)


class PostgreSQL:
    """A server: many writers, serialised for the instant of numbering by one advisory lock."""

    name = "postgresql"
    schema: str | None
    rows_together: int | None = None
    events_together: int | None = None
    now: ColumnElement[datetime]

    def __init__(self, url: URL, schema: str = "enrichlog", clock: Clock | None = None, pool_size: int = 5) -> None:
        self.url = url.set(drivername="postgresql+psycopg")
        self.schema, self._ours = schema, quoted(schema)
        self.script: Script = GuardedScript(self._ours, lock_key(f"{schema} migrations"))
        self.inspection: Inspection = PostgreSQLInspection(schema)
        self.theirs: UsersTables = PostgreSQLUsersTables()
        self._clock = clock
        self.now = func.clock_timestamp(type_=UtcDateTime) if clock is None else _told(clock)
        self._pool_size = pool_size
        # The users' table has left a shorter wait for locks behind it. Two statements, each with a snapshot of its own,
        # in one round trip: nobody else can append until we have committed.
        last = f"SELECT position, hash FROM {self.qualified('events')} ORDER BY position DESC LIMIT 1"
        self._lock_log = (
            f"SELECT set_config('lock_timeout', '{LOCK_PATIENCE}', true), "
            f"set_config('idle_in_transaction_session_timeout', '{FROZEN_WITH_THE_LOG}', true), "
            f"set_config('synchronous_commit', {DURABLE}, true), "
            f"pg_advisory_xact_lock({lock_key(schema)}); "
            f"SELECT position, hash, clock_timestamp() FROM (SELECT 1) one LEFT JOIN ({last}) last ON true"
        )
        # %b: in binary; the text form of an array has every quote in our JSON escaped, which took most of the insert.
        columns = ", ".join(EVENT_COLUMNS)
        self._insert = f"INSERT INTO {self.qualified('events')} ({columns}) SELECT * FROM {_unnested(events.columns)}"

    def engine(self) -> Engine:
        logging.getLogger("psycopg").addFilter(_is_news)
        return create_engine(
            self.url.set(drivername="postgresql+enrichlog"),
            execution_options={"schema_translate_map": {OURS: self.schema}},
            hide_parameters=True,
            json_deserializer=orjson.loads,
            json_serializer=json_text,
            isolation_level="AUTOCOMMIT",  # transactions begin where we say, and as we say
            pool_size=self._pool_size,
            # No prepared statements: behind a pooler in transaction mode the next one may meet another session.
            connect_args={
                "prepare_threshold": None,
                "connect_timeout": 10,
                "client_encoding": "utf8",
                **{name: value for name, value in VANISHED.items() if name not in self.url.query},
            },
        )

    def where(self) -> str:
        return self.url.set(drivername="postgresql", query={}, password=None).render_as_string()

    def exists(self) -> bool:
        return True

    def create_place(self) -> None:
        """A database is made by whoever runs the server; the schema by the first migration."""

    def qualified(self, table: str) -> str:
        return f"{self._ours}.{table}"

    def clock(self, connection: Connection) -> datetime:
        if self._clock is not None:
            return self._clock()
        now: datetime = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
        return now.astimezone(UTC)

    def see_one_moment(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")

    def lock_log(self, connection: Connection) -> Head:
        cursor: Any = connection.exec_driver_sql(self._lock_log).cursor
        cursor.nextset()
        position, last, now = cursor.fetchone()
        return Head(position or 0, last, self._clock() if self._clock else now.astimezone(UTC))

    def insert_events(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        columns = tuple(list(column) for column in zip(*rows, strict=True))
        connection.exec_driver_sql(self._insert, columns)

    def among(self, column: ColumnElement[Any], parameter: str) -> ColumnElement[bool]:
        if isinstance(column.type, Spelt):
            return self.theirs.is_key(column, column.type.name, parameter)
        # One array: to bind and to plan a thousand parameters took as long as the look-up itself.
        return column == any_(bindparam(parameter, type_=postgresql.ARRAY(Text)))

    def insert(self, table: Table) -> postgresql.Insert:
        return postgresql.insert(table)

    def insert_new(self, connection: Connection, table: Table, rows: Sequence[Row]) -> set[str]:
        if not rows:
            return set()
        names = tuple(rows[0])
        values = tuple([row[name] for row in rows] for name in names)
        statement = _insert_new(self.qualified(table.name), table, names)
        return set(connection.exec_driver_sql(statement, values).scalars())

    def update(self, connection: Connection, table: Table, names: Sequence[str], rows: Sequence[Row]) -> None:
        """All rows in one statement: as many statements would have to be planned one by one."""
        (key,) = table.primary_key
        values = tuple([row[name] for row in rows] for name in (key.name, *names))
        connection.exec_driver_sql(_update(self.qualified(table.name), table, tuple(names)), values)

    def wait_briefly(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BRIEF_PATIENCE}'")

    def is_locked(self, error: DBAPIError) -> bool:
        return getattr(error.orig, "sqlstate", None) == "55P03"

    def is_stale(self, error: DBAPIError) -> bool:
        state = getattr(error.orig, "sqlstate", None) or ""
        return error.connection_invalidated and state[:2] != "08"  # with these a pooler that is there refuses

    def require_transaction(self, connection: Connection) -> None:
        """No trigger can end a transaction here."""

    def lock_migrations(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({lock_key(f'{self.schema} migrations')})")

    def owners_rows(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        yield owners_rows(self._ours, ours, theirs)

    def rights(self, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
        return rights(self._ours, ours, theirs)

    def lacking_role(self, connection: Connection) -> str | None:
        found = connection.exec_driver_sql("SELECT to_regrole(%s)", (APP_ROLE,)).scalar_one()
        return APP_ROLE if found is None else None

    def spelt(self, statement: Executable) -> str:
        return _spelt(statement, postgresql.dialect(), self.schema)  # type: ignore[no-untyped-call] # SQLAlchemy's

    def statements(self, script: str) -> Iterator[str]:
        yield script

    def has_our_table(self, connection: Connection, table: str) -> bool:
        query = "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(%s) AND relname = %s"
        return connection.exec_driver_sql(query, (self._ours, table)).first() is not None

    def translate(self, error: DBAPIError) -> errors.EnrichlogError:
        state, where = getattr(error.orig, "sqlstate", None) or "", self.where()
        reason = str(error.orig).strip().split("\n", 1)[0]
        lost = isinstance(error, OperationalError | InterfaceError) and not state
        if state in ("55P03", "40P01", "40001", "57014"):  # the last: it took longer than the role's statement_timeout
            return errors.DatabaseBusy(where=where, reason=reason)
        if state in ("53100", "58030"):  # disk full, I/O error
            return errors.DiskFailed(where=where, reason=reason)
        if (state, reason) == _NO_SESSION:
            return errors.NoSessionFree(where=where, reason=reason)
        if error.connection_invalidated or state[:2] in ("08", "28", "3D", "57", "53") or lost:
            return errors.DatabaseUnavailable(where=where, reason=reason)
        if state == "25006":
            remedy = "Connect to a server, and as a user, whose transactions may write"
            return errors.DatabaseReadOnly(where=where, remedy=remedy)
        if state == "42501":
            return errors.RightMissing(where=where, reason=reason)
        return errors.DatabaseRefused(where=where, reason=reason)


def dialect_for(url: str, schema: str = "enrichlog", clock: Clock | None = None) -> Dialect:
    """The dialect of a database URL; a bare file name is SQLite, `postgres://` is accepted."""
    try:
        parsed = make_url(url) if "://" in url else URL.create("sqlite", database=url)
    except (ArgumentError, ValueError):  # neither shown nor chained: its password may stand anywhere in it
        raise errors.UnusableDatabaseUrl(where="given", reason="it does not have the form of a URL") from None
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return SQLite(parsed, clock)
    if "@" in f"{parsed.host}{parsed.database}":  # not shown: what was taken for a place is a part of the password
        raise errors.UnusableDatabaseUrl(where="given", reason="percent-encode the password: / is %2F and @ is %40")
    if backend in ("postgresql", "postgres"):
        return PostgreSQL(parsed, schema, clock)
    where = parsed.set(query={}, password=None)
    raise errors.UnusableDatabaseUrl(where=where, reason=f"{backend} is not supported")


def _spelt(statement: Executable, dialect: sqlalchemy.Dialect, schema: str | None) -> str:
    options: dict[str, Any] = {"schema_translate_map": {OURS: schema}, "render_schema_translate": True}
    if not isinstance(statement, ExecutableDDLElement):
        options["compile_kwargs"] = {"literal_binds": True}
    return str(statement.compile(dialect=dialect, **options)).strip()  # type: ignore[attr-defined]


def _told(clock: Clock) -> ColumnElement[datetime]:
    """The time by a clock of this process, as it is when the query is sent."""
    return bindparam("now", callable_=clock, type_=UtcDateTime)


def lock_key(name: str) -> int:
    """A PostgreSQL advisory lock key: the first 8 bytes of the SHA-256 of `enrichlog <name>`, signed."""
    return int.from_bytes(hashlib.sha256(f"enrichlog {name}".encode()).digest()[:8], "big", signed=True)


def _is_news(record: logging.LogRecord) -> bool:
    """Whether the driver says what nobody knows yet: each row that is refused among many it also tells as a warning."""
    return not str(record.msg).startswith("error ignored terminating")


@lru_cache(maxsize=16)
def _insert_new(place: str, table: Table, names: tuple[str, ...]) -> str:
    """Insert rows whose key is not there, given as one array for each column."""
    (key,) = table.primary_key
    columns = ", ".join(map(quoted, names))
    given = _unnested(table.c[name] for name in names)
    return f"INSERT INTO {place} ({columns}) SELECT * FROM {given} ON CONFLICT DO NOTHING RETURNING {quoted(key.name)}"


@lru_cache(maxsize=64)
def _update(place: str, table: Table, names: tuple[str, ...]) -> str:
    """Set columns of many rows, given as one array for each column, that of the key first."""
    (key,) = table.primary_key
    columns = [key, *(table.c[name] for name in names)]
    given = f"{_unnested(columns)} AS given ({', '.join(quoted(column.name) for column in columns)})"
    assigned = ", ".join(f"{quoted(name)} = given.{quoted(name)}" for name in names)
    return f"UPDATE {place} kept SET {assigned} FROM {given} WHERE kept.{quoted(key.name)} = given.{quoted(key.name)}"


def _unnested(columns: Iterable[Column[Any]]) -> str:
    """Rows of these columns, of which each is given as one array."""
    return f"unnest({', '.join(f'%b::{kind_of(column)}[]' for column in columns)})"


def _begin_sqlite(connection: Connection) -> None:
    """Only reads wait inside SQLite: between processes that write its wait is unfair, so they have `_patiently`."""
    writes = connection.get_execution_options().get("writes", False)
    connection.connection.cursor().execute(f"PRAGMA busy_timeout={0 if writes else READ_PATIENCE_MILLISECONDS}")
    _patiently(connection, "BEGIN IMMEDIATE" if writes else "BEGIN")


def _commit_sqlite(connection: Connection) -> None:
    """Commit here, again and again while readers hold the file: a rollback would lose what is already written.

    The commit that SQLAlchemy sends after this event then finds nothing to do.
    """
    _patiently(connection, "COMMIT")


def _patiently(connection: Connection, statement: str) -> None:
    """Run a statement until the file is free; the wait is jittered because SQLite's own is unfair between processes."""
    deadline = time.monotonic() + BUSY_PATIENCE_SECONDS
    while True:
        try:
            connection.connection.cursor().execute(statement)
            return
        except sqlite3.Error as error:
            busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise DBAPIError(statement, None, error) from error
            time.sleep(random.uniform(0.001, 0.02))


def _wal_is_sound(version: tuple[int, ...]) -> bool:
    """Whether this SQLite has the WAL-reset fix: 3.51.3, or 3.50.7 and 3.44.6 on their branches."""
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)
