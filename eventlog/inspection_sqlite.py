"""What SQLite tells of the users' tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from eventlog.deferred_keys import DEFERRED
from eventlog.inspection import Column, Found, Hidden, Reference, TableIndex, Watch, our_names, quoted

_OF_THEIRS = """SELECT name, type FROM sqlite_master
WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"""

_ENDS = re.compile(r"\bRAISE\s*\(\s*ROLLBACK\b|\bOR\s+ROLLBACK\b", re.IGNORECASE)
_AFFINITIES = (("int", "integer"), ("char|clob|text", "text"), ("blob|^$", "blob"), ("real|floa|doub", "real"))
_TAKEN = {
    "string": ("text", "blob"),
    "moment": ("text", "blob"),
    "integer": ("integer", "real", "numeric", "blob"),
    "number": ("real", "numeric", "blob"),
    "boolean": ("integer", "numeric", "blob"),
    "any": ("blob",),
}
_NAMED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|`([^`]*)`|\[([^]]*)\]|(\w+)""")
_BY_NAME = {"string": "date|time|uuid|string|enum", "moment": "date|time", "json": "json"}


class SQLiteInspection:
    """A file: no schemas, no roles, and types that a column prefers without insisting."""

    patience: Sequence[str] = ()

    def tables(self, connection: Connection) -> list[Found]:
        found = connection.exec_driver_sql(_OF_THEIRS).all()
        names = [row.name for row in found if row.name not in our_names()]
        return [table for name in names if (table := self.table(connection, None, name)) is not None]

    def table(self, connection: Connection, schema: str | None, name: str) -> Found | None:
        kind = connection.exec_driver_sql("SELECT type FROM sqlite_master WHERE name = ?", (name,)).scalar()
        if schema not in (None, "main") or kind not in ("table", "view"):
            return None
        told = connection.exec_driver_sql(f"PRAGMA table_xinfo({quoted(name)})").all()
        keys = [row.name for row in told if row.pk]
        columns = {row.name: _column(row, keys) for row in told}
        indexes = [*self._indexes(connection, name)]
        unique = {index.columns[0] for index, is_unique in indexes if is_unique and len(index.columns) == 1}
        return Found(
            schema, name, columns, frozenset(unique | set(keys if len(keys) == 1 else ())),
            tuple(self._references(connection, name)), tuple(index for index, _ in indexes),
            connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(name)}").scalar_one() if kind == "table" else 0,
            kind == "table",
        )  # fmt: skip

    def is_taken(self, connection: Connection, schema: str | None, name: str) -> bool:
        found = connection.exec_driver_sql("SELECT 1 FROM sqlite_master WHERE lower(name) = lower(?)", (name,))
        return found.first() is not None

    def _indexes(self, connection: Connection, name: str) -> Iterator[tuple[TableIndex, bool]]:
        """Each index, and whether it makes what it holds unique in all rows."""
        for row in connection.exec_driver_sql(f"PRAGMA index_list({quoted(name)})").all():
            told = connection.exec_driver_sql(f"PRAGMA index_info({quoted(row.name)})").all()
            text = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (row.name,)).scalar()
            columns = tuple(one.name for one in told if one.name is not None)
            mentions = frozenset(columns) | _named((text or "").partition("(")[2])
            yield TableIndex(row.name, columns, mentions), bool(row.unique and not row.partial)

    def _references(self, connection: Connection, name: str) -> Iterator[Reference]:
        told = connection.exec_driver_sql(f"PRAGMA foreign_key_list({quoted(name)})").all()
        composed = {row.id for row in told if row.seq}
        for row in told:
            if row.id not in composed:
                yield Reference(row[3], None, row[2], row[4] or self._key(connection, row[2]))

    @staticmethod
    def _key(connection: Connection, name: str) -> str:
        """The key that a reference means which names no column."""
        told = connection.exec_driver_sql(f"PRAGMA table_xinfo({quoted(name)})").all()
        return next((row.name for row in told if row.pk), "rowid")

    def fits(self, kind: str, column: Column) -> bool:
        affinity = _affinity(column.type)
        if kind.startswith("array") or kind == "object":
            return affinity in ("text", "blob") or "json" in column.type
        named = _BY_NAME.get(kind)
        return affinity in _TAKEN[kind] or bool(named and re.search(named, column.type))

    def takes_any_text(self, column: Column) -> bool:
        return True

    def longest(self, column: Column) -> int | None:
        return None  # a length is a word of the type, which nobody looks at

    def refused(self, connection: Connection, table: Found, column: Column, values: Sequence[Any]) -> list[Any]:
        text = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ?", (table.name,)).scalar()
        checks = [one for one in _checks(text or "") if re.search(rf"(?<!\w){re.escape(column.name)}(?!\w)", one)]
        return [value for value in values if any(self._fails(connection, column, one, value) for one in checks)]

    @staticmethod
    def _fails(connection: Connection, column: Column, check: str, value: Any) -> bool:
        given = json.dumps(value) if isinstance(value, list | dict) else value
        query = f"SELECT NOT coalesce(({check}), 1) FROM (SELECT ? AS {quoted(column.name)})"
        try:
            return bool(connection.exec_driver_sql(query, (given,)).scalar_one())
        except DBAPIError:  # it is about other columns too
            return False

    def views(self, connection: Connection, table: Found) -> list[Watch]:
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'view' ORDER BY name")
        named = re.compile(rf"(?<!\w){re.escape(table.name)}(?!\w)", re.IGNORECASE)
        return [Watch(row.name, row.sql) for row in rows if named.search(row.sql)]

    def ending_triggers(self, connection: Connection, table: Found) -> list[Watch]:
        query = (
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?) ORDER BY name"
        )
        rows = connection.exec_driver_sql(query, (table.name,))
        return [Watch(row.name, row.sql) for row in rows if _ENDS.search(row.sql)]

    def invoking_triggers(self, connection: Connection, table: Found) -> list[str]:
        return []  # who may write to the file may do all

    def late_keys(self, connection: Connection, table: Found, *, runs_more: bool) -> list[str]:
        triggers = "SELECT 1 FROM sqlite_master WHERE type = 'trigger' AND lower(tbl_name) = lower(?)"
        if not runs_more and connection.exec_driver_sql(triggers, (table.name,)).first() is None:
            return []
        query = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND lower(name) <> lower(?) ORDER BY name"
        return [row.name for row in connection.exec_driver_sql(query, (table.name,)) if DEFERRED.search(row.sql or "")]

    def missing_grants(
        self, connection: Connection, table: Found, needs: Mapping[str, Sequence[str] | None], role: str | None = None
    ) -> list[str]:
        return []  # who may write to the file may do all

    def missing_policies(self, connection: Connection, table: Found, role: str, *, writes: bool) -> list[str]:
        return []

    def missing_to_make(self, connection: Connection) -> list[str]:
        return []

    def owner(self, connection: Connection, table: Found) -> str | None:
        return None

    def hidden(self, connection: Connection, table: Found) -> Hidden:
        return "none"

    def role(self, connection: Connection) -> str:
        return ""

    def is_same_type(self, one: str, other: str) -> bool:
        return not one or not other or (_affinity(one) == "integer") == (_affinity(other) == "integer")

    def is_castable(self, one: str, other: str) -> bool:
        return True

    def is_key_type(self, spelt: str) -> bool:
        return _affinity(spelt) != "real"

    def add_text(self, place: str, column: str) -> str:
        return f"ALTER TABLE {place} ADD COLUMN {column} text"

    def drop_column(self, place: str, column: str) -> str:
        return f"ALTER TABLE {place} DROP COLUMN {column}"

    def aside(self, statement: str) -> str | None:
        return None  # one writer at a time

    def run_aside(self, engine: Engine, statement: str) -> None:
        """There is nothing that only runs so."""


def _column(row: Any, keys: Sequence[str]) -> Column:
    is_row_number = keys == [row.name] and row.type.upper() == "INTEGER"
    has_default = row.dflt_value is not None or is_row_number
    return Column(row.name, row.type.lower(), not row.notnull, has_default, row.hidden in (2, 3))


def _named(text: str) -> set[str]:
    """The words and quoted names of an expression, which are not those within its texts."""
    return {"".join(found.groups("")).replace('""', '"') for found in _NAMED.finditer(text)}


def _affinity(spelt: str) -> str:
    """What a column prefers by the name of its type, as SQLite reads it."""
    return next((name for words, name in _AFFINITIES if re.search(words, spelt, re.IGNORECASE)), "numeric")


def _checks(text: str) -> Iterator[str]:
    """The conditions of a table's checks."""
    for found in re.finditer(r"\bCHECK\s*\(", text, re.IGNORECASE):
        depth, is_text = 1, False
        for place in range(found.end(), len(text)):
            if text[place] == "'":
                is_text = not is_text
            elif not is_text and text[place] in "()":
                depth += 1 if text[place] == "(" else -1
            if not depth:
                yield text[found.end() : place]
                break
