"""The users' tables and queries in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Executable,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.types import NullType

from eventlog.deferred_keys import require_referred
from eventlog.inspection import quoted
from eventlog.plain_values import plain_values
from eventlog.users_tables import Row


class SQLiteUsersTables:
    """A file: no types, no roles, and nobody else who has a row locked."""

    def insert_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        keys, names = table.primary_key.columns.keys(), tuple(rows[0])
        columns, marks = ", ".join(map(quoted, names)), ", ".join("?" * len(names))
        assigned = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in names if name not in keys)
        into = f"INSERT INTO {_place(table)} ({columns}) VALUES ({marks})"
        conflict = f"ON CONFLICT ({', '.join(map(quoted, keys))}) DO UPDATE SET {assigned}"
        return self._execute_many(connection, table, rows, f"{into} {conflict}", plain_values(table, rows))

    def update_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        keys = table.primary_key.columns.keys()
        names = [*(name for name in rows[0] if name not in keys), *keys]
        assigned = ", ".join(f"{quoted(name)} = ?" for name in names if name not in keys)
        found = " AND ".join(f"{quoted(name)} = ?" for name in keys)
        ordered = [{name: row[name] for name in names} for row in rows]
        statement = f"UPDATE {_place(table)} SET {assigned} WHERE {found}"
        return self._execute_many(connection, table, rows, statement, plain_values(table, ordered))

    @staticmethod
    def _execute_many(
        connection: Connection, table: Table, rows: Sequence[Row], statement: str, values: list[tuple[Any, ...]]
    ) -> int:
        """Write rows, each by its values in this statement; how many rows it met in all."""
        met = connection.exec_driver_sql(statement, values, {"preserve_rowcount": True}).rowcount
        (key,) = table.primary_key.columns.keys()[:1]
        require_referred(connection, table.name, key, rows)
        return met

    def learns(self, connection: Connection, table: Table, error: DBAPIError) -> bool:
        return False  # a column takes what it is given

    def with_column(self, error: DBAPIError, table: Table, row: Row) -> str | None:
        return None

    def held(
        self, connection: Connection, table: Table, where: ColumnElement[bool], asked: Row
    ) -> list[dict[str, Any]]:
        names = [column.name for column in table.columns]
        told = [cast(one, Text) if one.primary_key else type_coerce(one, NullType()) for one in table.columns]
        return [dict(zip(names, row, strict=True)) for row in connection.execute(select(*told).where(where), asked)]

    def enter(self, connection: Connection) -> None:
        """One writer at a time: no row of theirs can be locked."""

    def leave(self, connection: Connection) -> None:
        """Constraints are checked as each statement ends, and those at the commit were as rows were written."""

    def columns_of(self, connection: Connection, schema: str | None, table: str) -> dict[str, str]:
        place = "" if schema is None else f"{quoted(schema)}."
        try:
            rows = connection.exec_driver_sql(f"PRAGMA {place}table_xinfo({quoted(table)})").all()
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR:
                raise
            return {}  # a view whose table was dropped; elsewhere it would have gone with that
        return {row.name: row.type.lower() for row in rows}

    def columns_of_query(self, connection: Connection, query: Executable) -> dict[str, str]:
        return dict.fromkeys(connection.execute(query).keys(), "")

    def as_key(self, text: ColumnElement[str], kind: str) -> ColumnElement[Any]:
        return text  # the column's affinity makes a number of what is one

    def is_key(self, column: ColumnElement[Any], kind: str, parameter: str) -> ColumnElement[bool]:
        # One text: to bind a thousand parameters, and to prepare a statement of them, takes as long as to look up.
        listed = func.json_each(bindparam(parameter, type_=JSON))
        return column.in_(select(literal_column("value")).select_from(listed))

    def takes_key(self, kind: str) -> bool:
        return True  # a query's columns have no type

    def takes_text(self, kind: str) -> bool:
        return True

    @contextmanager
    def reading_only(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql("PRAGMA query_only=ON")
        try:
            yield
        finally:
            connection.exec_driver_sql("PRAGMA query_only=OFF")

    def lacking_grants(self, connection: Connection, sql: str) -> list[str]:
        return []  # whoever may read the file may read all of it


def _place(table: Table) -> str:
    """The name of a table, in its file where that is not the main one."""
    return quoted(table.name) if table.schema is None else f"{quoted(table.schema)}.{quoted(table.name)}"
