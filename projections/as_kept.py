"""What the users' table makes of rows: types and triggers of theirs may keep something else than what is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from eventlog.database import Database
from eventlog.errors import DatabaseReadOnly, RightMissing
from projections.drift import Difference, difference
from projections.projection import Projection, Row, Writing

TOGETHER = 500


class _TakenBack(Exception):
    """All that was written is to be rolled back."""


def without_what_the_table_changes(
    database: Database, projection: Projection[Any], found: Sequence[Difference]
) -> list[Difference]:
    """Those of the differences that are none of the table's own making.

    A row is such when the table, given what the events say, would keep just what it holds. It is asked: the rows are
    written, read and taken back, in a transaction of their own. Where that is not allowed, all differences stay.
    """
    stale = {one.stream_id: one.folded for one in found if one.kind == "stale" and one.folded is not None}
    kept: dict[str, Row] = {}
    names = sorted(stale)
    with suppress(DatabaseReadOnly, RightMissing):
        for start in range(0, len(names), TOGETHER):
            kept |= _kept(database, projection, {name: stale[name] for name in names[start : start + TOGETHER]})
    return [
        one for one in found if one.stream_id not in kept or difference(one.stream_id, one.live, kept[one.stream_id])
    ]


def _kept(database: Database, projection: Projection[Any], rows: Mapping[str, Row]) -> dict[str, Row]:
    """What the table would keep of each of these rows that it takes, of the columns that are written."""
    kept: dict[str, Row] = {}
    with suppress(_TakenBack), database.write() as connection:
        refused = projection.store(connection, database.dialect, rows, Writing(parts=rows))
        held = projection.load(connection, database.dialect, [name for name in rows if name not in refused])
        kept = {name: {column: row[column] for column in rows[name]} for name, row in held.items()}
        raise _TakenBack
    return kept
