"""How far each projection is: the fold that made its rows, the position they stand at, what the last check found.

Operational: no fold explains these rows, and no rebuild touches them.
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Executable,
    Integer,
    SmallInteger,
    Table,
    case,
    exists,
    literal,
    null,
    select,
    true,
    update,
)

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import OURS, Key, Number, UtcDateTime, events, metadata

NEVER_FOLDED = 0
"""The version that is noted of a projection that came to a log with events in it: no fold has made its rows yet."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", Key, primary_key=True),
    Column("fold_version", SmallInteger, nullable=False),
    Column("position", Number),
    Column("checked_at", UtcDateTime),
    Column("checked_position", Number),
    Column("drift", Integer),
    schema=OURS,
)
"""`position` is the last one applied, of a projection that follows the log; null for one that moves with each append.

`drift` is how many rows differed when all were compared last, at `checked_at`, with the log up to `checked_position`;
after a rebuild, how many differ still.
"""

rebuilds = Table(
    "rebuilds",
    metadata,
    Column("projections", Key, primary_key=True),
    Column("share", Key, primary_key=True),
    Column("last_stream", Key, nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    schema=OURS,
)
"""Rebuilds that have not ended: which projections, which share of the parts, and the last stream that is done."""

_columns = checkpoints.c


class Noted(NamedTuple):
    """What is noted of one projection: the columns of its row."""

    projection: str
    fold_version: int
    position: int | None
    checked_at: datetime | None
    checked_position: int | None
    drift: int | None


def noted(database: Database) -> dict[str, Noted]:
    """What is noted of each projection, by name; those that the database was not made ready for are not among them."""
    return {row.projection: Noted(*row) for row in database.page(select(checkpoints))}


def note_check(database: Database, name: str, position: int, drift: int) -> None:
    """Note that all rows were compared with the log up to this position, and that so many differ still."""
    with database.write() as connection:
        checked = {"checked_at": database.dialect.clock(connection), "checked_position": position, "drift": drift}
        connection.execute(update(checkpoints).where(_columns.projection == name).values(checked))


def note_version(database: Database, name: str, version: int) -> None:
    """Note that all rows are what this version of the fold makes of the log, as after a complete rebuild."""
    insert = database.dialect.insert(checkpoints).values(projection=name, fold_version=version)
    with database.write() as connection:
        written = {"fold_version": insert.excluded.fold_version}
        connection.execute(insert.on_conflict_do_update(index_elements=["projection"], set_=written))


def first_note(dialect: Dialect, name: str, version: int, *, is_following: bool) -> Executable:
    """Notes, unless something is noted already, by which fold the rows of a projection begin.

    One that follows the log begins before its first event; one that moves with each append lacks what came before it.
    """
    made_by: ColumnElement[int] = literal(version)
    if not is_following:
        made_by = case((exists(select(events.c.position)), NEVER_FOLDED), else_=made_by)
    position = literal(0) if is_following else null()
    first = select(literal(name), made_by, position).where(true())  # SQLite cannot read ON CONFLICT behind it without
    insert = dialect.insert(checkpoints).from_select(["projection", "fold_version", "position"], first)
    return insert.on_conflict_do_nothing()
