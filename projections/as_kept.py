"""What the users' table makes of rows: types and triggers of theirs may keep something else than what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from eventlog.database import Database
from eventlog.errors import DatabaseReadOnly, RightMissing
from projections.drift import Difference, difference
from projections.projection import Projection, Row, Writing
from projections.users_table import LOCKED

TOGETHER = 500


class _TakenBack(Exception):
    """All that was written is to be rolled back."""


class _Kept(NamedTuple):
    """What the table would keep of rows, by stream, and those that another program had locked."""

    rows: dict[str, Row]
    locked: set[str]


def without_what_the_table_changes(
    database: Database, projection: Projection[Any], found: Sequence[Difference]
) -> tuple[list[Difference], set[str]]:
    """Those of the differences that are none of the table's own making, and the streams of which nobody knows.

    A row is such when the table, given what the events say, would keep just what it holds. It is asked: the rows are
    written, read and taken back, in a transaction of their own. One that another program has locked cannot be asked
    for, and is left out. Where asking is not allowed, all differences stay.
    """
    stale = {one.stream_id: one.folded for one in found if one.kind == "stale" and one.folded is not None}
    kept, names = _Kept({}, set()), sorted(stale)
    with suppress(DatabaseReadOnly, RightMissing):
        for start in range(0, len(names), TOGETHER):
            rows, locked = _ask(database, projection, {name: stale[name] for name in names[start : start + TOGETHER]})
            kept = _Kept(kept.rows | rows, kept.locked | locked)
    return [one for one in found if _stays(one, kept)], kept.locked


def _stays(found: Difference, kept: _Kept) -> bool:
    """Whether it is a difference still."""
    name = found.stream_id
    return name not in kept.locked and (name not in kept.rows or bool(difference(name, found.live, kept.rows[name])))


def _ask(database: Database, projection: Projection[Any], rows: Mapping[str, Row]) -> _Kept:
    """What the table would keep of each of these rows that it takes, of the columns that are written."""
    kept = _Kept({}, set())
    with suppress(_TakenBack), database.write() as connection:
        refused = projection.store(connection, database.dialect, rows, Writing(parts=rows))
        held = projection.load(connection, database.dialect, [name for name in rows if name not in refused])
        told = {name: {column: row[column] for column in rows[name]} for name, row in held.items()}
        kept = _Kept(told, {name for name, reason in refused.items() if reason == LOCKED})
        raise _TakenBack
    return kept
