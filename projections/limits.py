"""Limits over all workers: requests and tokens per minute of whom is called, and money per UTC day, a row for each.

Beside the limit for all there is one row for each number that processes have as a setting of their own: those with the
same number share it. No fold explains these rows and no rebuild touches them. The log lock is their lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, Text, delete, select, tuple_

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata
from projections import spending
from projections.limit import MONEY, Limit, Name
from projections.window import window_of

limits = Table(
    "limits",
    metadata,
    Column("endpoint", Key, primary_key=True),
    Column("request_model", Key, primary_key=True),
    Column("credential", Key, primary_key=True),
    Column("unit", Key, primary_key=True),
    Column("own", Number, primary_key=True),
    Column("amount", Number),
    Column("used", Number, nullable=False),
    Column("full_at", UtcDateTime),
    Column("minute", Text),
    Column("braked_at", UtcDateTime),
    Column("braked_to", Integer),
    Column("braked_position", Number, nullable=False),
    CheckConstraint("unit IN ('requests', 'tokens', 'microdollars')", name="limits_unit"),
    CheckConstraint("amount > 0", name="limits_amount"),
    schema=OURS,
)
_NAME = [column.name for column in limits.primary_key]


def load(connection: Connection) -> dict[Name, Limit]:
    """All limits, which are few."""
    rows = [row._asdict() for row in connection.execute(_all())]
    return {
        Name(*(row.pop(name) for name in Name._fields)): Limit(**row | {"minute": window_of(row["minute"])})
        for row in rows
    }


@lru_cache(maxsize=1)  # to build a statement costs as much as to run it
def _all() -> Any:
    return select(*(limits.c[name] for name in (*_NAME, *Limit._fields)))


def store(connection: Connection, dialect: Dialect, rows: dict[Name, Limit]) -> None:
    """Write these rows, new or not."""
    if rows:
        insert = dialect.insert(limits)
        written = {name: insert.excluded[name] for name in Limit._fields}
        values = [name._asdict() | one._asdict() | {"minute": one.minute.text()} for name, one in rows.items()]
        connection.execute(insert.on_conflict_do_update(index_elements=_NAME, set_=written), values)


def forget(connection: Connection, names: Iterable[Name]) -> None:
    """Remove these rows."""
    if gone := list(names):
        connection.execute(delete(limits).where(tuple_(*limits.primary_key).in_(gone)))


def set_amounts(database: Database, amounts: Mapping[Name, int | None]) -> None:
    """Set limits; None leaves an amount as it is.

    One of money that is new begins with what today's events have used, of which the bulk is counted without the lock.
    """
    with database.read() as connection:
        is_new = MONEY in amounts and MONEY not in load(connection)
    counted = spending.count_bulk(database) if is_new else None
    with database.write() as connection:
        head = database.dialect.lock_log(connection)
        before = load(connection)
        if counted and MONEY not in before:
            before[MONEY] = Limit().spent(spending.count_tail(connection, *counted, head.now))
        rows = {name: before.get(name, Limit()).with_amount(one, head.position) for name, one in amounts.items()}
        store(connection, database.dialect, rows)


def clear(database: Database, names: Iterable[Name]) -> None:
    """Remove limits, with their use."""
    with database.write() as connection:
        database.dialect.lock_log(connection)
        forget(connection, names)


def begin_spending(database: Database) -> None:
    """Have the money of the day counted from now on, for a process that has a limit of its own."""
    with database.read() as connection:
        is_counted = MONEY in load(connection)
    if not is_counted:
        set_amounts(database, {MONEY: None})
