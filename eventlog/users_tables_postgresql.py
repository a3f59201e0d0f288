"""The users' tables and queries in PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson
import sqlalchemy.dialects.postgresql as postgresql
from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    Numeric,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
)
from sqlalchemy.exc import DBAPIError

from eventlog.column_types import Spelt, kind_of
from eventlog.events import iso
from eventlog.held import read_row
from eventlog.inspection import quoted
from eventlog.inspection_postgresql import HELD_AS
from eventlog.users_tables import Row

Types = tuple[Any, ...]
"""Columns of a table of the users' with their types, but no moments, which keep their zone; empty until asked for."""

_OF_ANOTHER_TYPE = ("42804", "42704", "22001")  # also of one that is there no more, or has another length
_NO_ARBITER = ("55000", "42P10")  # the key is unique by a constraint that may be deferred, or by none
_TOO_LONG = "22001"
_OF_LENGTH = re.compile(r"character(?: varying)?\((\d+)\)")
_TYPES_OF = """SELECT attname::text, format_type(atttypid, atttypmod)
FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped AND typcategory <> 'D' ORDER BY attnum"""

_COLUMNS_OF = f"""SELECT attname::text, {HELD_AS}
FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped ORDER BY attnum"""

_KEY_FORMS = {
    "uuid": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
    **dict.fromkeys(("smallint", "integer", "bigint"), "^(0|-?[1-9][0-9]{0,18})$"),
}
"""How the keys are spelt that are no texts, by their type."""

_KEY_TEXTS = ("text", "character varying")
_TEXTS = (*_KEY_TEXTS, "character", "citext", "name")

_ROW = "enrichlog_row"  # a column of the users' of the same name would be taken for it

_NAMES = re.compile(r'(?:("[^"]+"|\w+)\.)?("[^"]+"|\w+)')
_LACKING = """WITH named AS (SELECT * FROM unnest(%s::text[], %s::text[]) named (place, name)), lacking AS (
    SELECT 'USAGE ON SCHEMA ' || quote_ident(nspname) AS lacking
    FROM pg_namespace
    WHERE nspname IN (SELECT place FROM named) AND NOT has_schema_privilege(oid, 'USAGE')
    UNION
    SELECT 'SELECT ON ' || pg_class.oid::regclass
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace JOIN named ON name = relname
    WHERE relkind IN ('r', 'v', 'm', 'p', 'f') AND NOT has_table_privilege(pg_class.oid, 'SELECT')
        AND CASE WHEN place IS NULL THEN pg_table_is_visible(pg_class.oid) ELSE place = nspname END
)
SELECT 'GRANT ' || lacking || ' TO ' || quote_ident(current_user) FROM lacking ORDER BY lacking DESC"""
"""Of all words in a query those that are the names of schemas and tables without the rights: a check names them all."""


class PostgreSQLUsersTables:
    """A server: types that insist, rows that others lock, and what is learnt of a table as it refuses."""

    def __init__(self) -> None:
        self._types = dict[str, Types]()
        self._without_arbiter = set[str]()

    def insert_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        with_arbiter = _place(table) not in self._without_arbiter
        return self._write_rows(connection, _insert_rows if with_arbiter else _insert_only, table, rows)

    def update_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        return self._write_rows(connection, _update_rows, table, rows)

    def _write_rows(
        self, connection: Connection, statement: Callable[[str, Table, tuple[str, ...], Types], str], table: Table,
        rows: Sequence[Row],
    ) -> int:  # fmt: skip
        """All rows as one text of JSON: to dump each value for itself takes longer than to write them."""
        place = _place(table)
        told = orjson.dumps([*rows], _otherwise, orjson.OPT_NON_STR_KEYS).decode()
        types = self._types.get(place, ())
        named = place.replace("%", "%%")
        return connection.exec_driver_sql(statement(named, table, tuple(rows[0]), types), (told,)).rowcount

    def learns(self, connection: Connection, table: Table, error: DBAPIError) -> bool:
        state, place = getattr(error.orig, "sqlstate", None), _place(table)
        if state in _NO_ARBITER and place not in self._without_arbiter:
            self._without_arbiter.add(place)
            return True
        return state in _OF_ANOTHER_TYPE and self._learns_types(connection, place)

    def _learns_types(self, connection: Connection, place: str) -> bool:
        found = tuple(map(tuple, connection.exec_driver_sql(_TYPES_OF, (place,))))
        before, self._types[place] = self._types.get(place), found
        return before != found

    def with_column(self, error: DBAPIError, table: Table, row: Row) -> str | None:
        if getattr(error.orig, "sqlstate", None) != _TOO_LONG:
            return None
        types = dict(self._types.get(_place(table), ()))
        spelt = {name: types.get(name) or str(table.c[name].type) for name in row}
        longest = {name: int(found[1]) for name, kind in spelt.items() if (found := _OF_LENGTH.fullmatch(kind))}
        told = {name: len(str(row[name])) for name in longest if row[name] is not None}
        over = [
            f"{name} takes {longest[name]} characters, not {length}"
            for name, length in told.items()
            if length > longest[name]
        ]
        return f"{str(error.orig).strip()}: {', '.join(over)}" if over else None

    def held(
        self, connection: Connection, table: Table, where: ColumnElement[bool], asked: Row
    ) -> list[dict[str, Any]]:
        (key,) = table.primary_key
        told = select(*(one for one in table.columns if one is not key)).correlate(table).subquery(_ROW)
        as_json = select(func.to_json(literal_column(_ROW))).select_from(told).scalar_subquery()
        found = connection.execute(select(cast(key, Text), cast(as_json, Text)).where(where), asked)
        names = [one.name for one in table.columns if one is not key]
        return [{key.name: name, **read_row(values, names)} for name, values in found]

    def enter(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '100ms'")  # theirs to hold, ours to come back to

    def leave(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET CONSTRAINTS ALL IMMEDIATE")  # a deferred one would refuse the whole COMMIT

    def columns_of(self, connection: Connection, schema: str | None, table: str) -> dict[str, str]:
        place = quoted(table) if schema is None else f"{quoted(schema)}.{quoted(table)}"
        return dict(connection.exec_driver_sql(_COLUMNS_OF, (place,)).all())

    def columns_of_query(self, connection: Connection, query: Executable) -> dict[str, str]:
        cursor: Any = connection.execute(query).cursor
        found = {str(name): int(kind) for name, kind, *_ in cursor.description}
        told = connection.exec_driver_sql(
            "SELECT kind, format_type(kind, NULL) FROM unnest(%s::oid[]) kind", (list(found.values()),)
        )
        types: dict[int, str] = dict(told.all())
        return {name: types[kind] for name, kind in found.items()}

    def as_key(self, text: ColumnElement[str], kind: str) -> ColumnElement[Any]:
        form = _KEY_FORMS.get(kind)
        if form is None:
            return func.to_json(text).op("#>>")(literal_column("'{}'"))  # without our collation: theirs has the index
        is_one: ColumnElement[bool] = text.regexp_match(form)
        if kind == "uuid":
            return case((is_one, cast(text, Spelt(kind))))  # a text that is none would be refused
        is_held = case((is_one, _is_in_range(text)), else_=False)  # whatever the order in which an AND is worked out
        return case((is_held, cast(text, Spelt("bigint"))))

    def is_key(self, column: ColumnElement[Any], kind: str, parameter: str) -> ColumnElement[bool]:
        given = func.unnest(bindparam(parameter, type_=postgresql.ARRAY(Text))).column_valued("given")
        return column == any_(func.array(select(self.as_key(given, kind)).scalar_subquery()))

    def takes_key(self, kind: str) -> bool:
        return kind in _KEY_FORMS or kind in _KEY_TEXTS

    def takes_text(self, kind: str) -> bool:
        return kind in _TEXTS

    @contextmanager
    def reading_only(self, connection: Connection) -> Iterator[None]:
        connection.exec_driver_sql("SET TRANSACTION READ ONLY")
        yield

    def lacking_grants(self, connection: Connection, sql: str) -> list[str]:
        named = [[_unquoted(part) for part in found] for found in set(_NAMES.findall(sql))]
        places, names = [place or None for place, _ in named], [name for _, name in named]
        return list(connection.exec_driver_sql(_LACKING, (places, names)).scalars())


def _place(table: Table) -> str:
    """The name of a table, by its schema where that is told."""
    return quoted(table.name) if table.schema is None else f"{quoted(table.schema)}.{quoted(table.name)}"


def _otherwise(value: Any) -> str:
    """A moment of a class that is derived from `datetime`, as text."""
    if not isinstance(value, datetime):
        raise TypeError(f"{type(value).__name__} is no value of a row")
    return iso(value)


def _unquoted(name: str) -> str:
    """A name as the catalogue has it."""
    return name[1:-1] if name.startswith('"') else name.lower()


def _is_in_range(text: ColumnElement[str]) -> ColumnElement[bool]:
    """Whether a text of digits is a number that 64 bits hold."""
    return cast(text, Numeric).between(literal_column(str(-(2**63))), literal_column(str(2**63 - 1)))


def _named(name: str) -> str:
    """An identifier in a statement with parameters, which begin with a percent sign."""
    return quoted(name).replace("%", "%%")


@lru_cache(maxsize=64)
def _insert_rows(place: str, table: Table, names: tuple[str, ...], types: Types) -> str:
    keys = table.primary_key.columns.keys()
    columns, key = ", ".join(map(_named, names)), ", ".join(map(_named, keys))
    assigned = ", ".join(f"{_named(name)} = excluded.{_named(name)}" for name in names if name not in keys)
    given = f"SELECT {columns} FROM {_given(table, names, types)}"
    return f"INSERT INTO {place} ({columns}) {given} ON CONFLICT ({key}) DO UPDATE SET {assigned}"


@lru_cache(maxsize=64)
def _insert_only(place: str, table: Table, names: tuple[str, ...], types: Types) -> str:
    columns = ", ".join(map(_named, names))
    return f"INSERT INTO {place} ({columns}) SELECT {columns} FROM {_given(table, names, types)}"


@lru_cache(maxsize=64)
def _update_rows(place: str, table: Table, names: tuple[str, ...], types: Types) -> str:
    keys = table.primary_key.columns.keys()
    found = " AND ".join(f"kept.{_named(name)} = given.{_named(name)}" for name in keys)
    assigned = ", ".join(f"{_named(name)} = given.{_named(name)}" for name in names if name not in keys)
    return f"UPDATE {place} kept SET {assigned} FROM {_given(table, names, types)} WHERE {found}"


def _given(table: Table, names: Iterable[str], types: Types) -> str:
    """Rows of these columns that a text of JSON tells; of the table's other columns nothing is asked."""
    theirs = dict(types)
    columns = ", ".join(f"{_named(name)} {theirs.get(name) or kind_of(table.c[name])}" for name in names)
    return f"json_to_recordset(%s::json) AS given ({columns})"
