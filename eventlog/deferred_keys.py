"""Foreign keys that SQLite looks at as it commits: looked at before, since there one refuses the whole transaction."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from eventlog.inspection import quoted

DEFERRED = re.compile(r"(?<!NOT )\bDEFERRABLE\s+INITIALLY\s+DEFERRED\b", re.IGNORECASE)


def require_referred(connection: Connection, table: str, key: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises `IntegrityError` for rows, just written with these columns, that refer to what is not there.

    Nothing is asked of a table that has no such key: SQLite has looked itself as the statement ended.
    """
    text = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = ? COLLATE NOCASE", (table,)).scalar()
    if not rows or not text or not DEFERRED.search(text):
        return
    marks, ids = ", ".join("?" * len(rows)), tuple(row[key] for row in rows)
    for place, unmet in _unmet(connection, table, rows[0].keys()):
        query = f"SELECT 1 FROM {quoted(table)} kept WHERE kept.{quoted(key)} IN ({marks}) AND {unmet} LIMIT 1"
        if connection.exec_driver_sql(query, ids).first() is not None:
            raise IntegrityError(query, None, sqlite3.IntegrityError(f"FOREIGN KEY constraint failed: {place}"))


def _unmet(connection: Connection, table: str, written: Set[str]) -> Iterator[tuple[str, str]]:
    """Each foreign key that these columns have a part in: what it refers to, and when a row does not keep it."""
    told = connection.exec_driver_sql(f"PRAGMA foreign_key_list({quoted(table)})").all()
    for number in dict.fromkeys(row.id for row in told):
        parts = [row for row in told if row.id == number]
        parent, columns = parts[0].table, [row[3] for row in parts]
        if written & {*columns}:
            known = _known(connection, parent, [row.to for row in parts])
            is_told = " AND ".join(f"kept.{quoted(one)} IS NOT NULL" for one in columns)
            same = " AND ".join(f"there.{to} = kept.{quoted(one)}" for to, one in zip(known, columns, strict=True))
            place = f"{', '.join(columns)} refers to {parent}"
            yield place, f"{is_told} AND NOT EXISTS (SELECT 1 FROM {quoted(parent)} there WHERE {same})"


def _known(connection: Connection, parent: str, named: Sequence[str | None]) -> list[str]:
    """The columns that are referred to; a reference that names none means the key."""
    if all(named):
        return [quoted(one) for one in named if one]
    told = connection.exec_driver_sql(f"PRAGMA table_info({quoted(parent)})").all()
    return [quoted(row.name) for row in sorted(told, key=lambda row: row.pk) if row.pk]
