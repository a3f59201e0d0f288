"""One database: its engine, its transactions, and the place where its errors become ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from sqlalchemy import Connection, Engine, RootTransaction, Select
from sqlalchemy.exc import DBAPIError

from eventlog.dialects import Clock, Dialect, dialect_for
from eventlog.errors import DatabaseReadOnly


class Pages(Protocol):
    """Where rows are read, a page at a time."""

    def page(self, query: Select[Any]) -> list[Any]: ...


class Place(NamedTuple):
    """A database, for a process that is to open it: the arguments of `Database`."""

    url: str
    schema: str
    clock: None
    adopted: Any


class Database:
    """A database that holds, or will hold, a log. Nothing is opened before the first transaction.

    `url` is a SQLAlchemy URL or a file name; `schema` is where our tables live on PostgreSQL; `clock` replaces the
    database's clock (in tests). `adopted` is what upper floors know of tables that were there before us; None where the
    users' tables are those that the migrations make. Raises `UnusableDatabaseUrl`.
    """

    def __init__(self, url: str, schema: str = "enrichlog", clock: Clock | None = None, adopted: Any = None) -> None:
        self.url = url
        self.adopted = adopted
        self.schema = schema
        self.dialect: Dialect = dialect_for(url, schema, clock)
        self._engine: Engine | None = None

    @property
    def place(self) -> Place:
        """What another process needs to open the same database."""
        return Place(self.url, self.schema, None, self.adopted)

    @property
    def engine(self) -> Engine:
        """The pool of connections, made at first use."""
        if self._engine is None:
            self._engine = self.dialect.engine()
        return self._engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A short read: one page, because on SQLite an open reader keeps writers from committing."""
        with self._transaction(writes=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that commits at the end of the block, and rolls back when the block raises."""
        with self._transaction(writes=True) as connection:
            yield connection

    def now(self) -> datetime:
        """The database's time."""
        with self.read() as connection:
            return self.dialect.clock(connection)

    def page(self, query: Select[Any]) -> list[Any]:
        """All rows of one query, in a transaction of its own."""
        with self.read() as connection:
            return list(connection.execute(query).all())

    def within(self, connection: Connection) -> Pages:
        """One of its open transactions, for what reads by pages and is to see no other moment."""
        return _Within(self.dialect, connection)

    def count(self, query: Select[Any]) -> int:
        """The one number that a query counts, in a transaction of its own."""
        with self.read() as connection:
            return int(connection.execute(query).scalar_one())

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            transaction = self._begin(writes)
            with transaction.connection as connection, transaction:
                yield connection
        except DBAPIError as error:
            translated = self.dialect.translate(error)
            if isinstance(translated, DatabaseReadOnly):
                self.engine.dispose()  # sessions keep the default that they began with, also when it is taken back
            raise translated from error

    def _begin(self, writes: bool) -> RootTransaction:
        """A transaction, on another connection if the one in the pool had broken while nobody used it.

        That one tells when it is to begin, and takes all others of the pool along: no round trip is spent on asking.
        """
        try:
            return self._begin_once(writes)
        except DBAPIError as error:
            if not self.dialect.is_stale(error):
                raise
        return self._begin_once(writes)

    def _begin_once(self, writes: bool) -> RootTransaction:
        connection = self.engine.connect().execution_options(writes=writes)
        try:
            return connection.begin()
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close all connections; the next transaction opens new ones."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


class _Within:
    """A transaction that somebody else opens and closes."""

    def __init__(self, dialect: Dialect, connection: Connection) -> None:
        self._dialect, self._connection = dialect, connection

    def page(self, query: Select[Any]) -> list[Any]:
        """All rows of one query."""
        try:
            return list(self._connection.execute(query).all())
        except DBAPIError as error:
            raise self._dialect.translate(error) from error
