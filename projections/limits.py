"""Limits over all workers: requests and tokens per minute of whom is called, and money per UTC day, a row for each.

No fold explains these rows and no rebuild touches them. They are written under the log lock, which is their lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NamedTuple

from sqlalchemy import CheckConstraint, Column, Connection, Integer, Table, delete, select, tuple_

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata
from projections import spending
from projections.brake import Brake
from projections.spending import Spending

Unit = Literal["requests", "tokens", "microdollars"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "microdollars")
Name = tuple[str, str, str, str]
"""Endpoint, model and credential, which are empty for money, and the unit."""

MONEY: Name = ("", "", "", "microdollars")


class Limit(NamedTuple):
    """One limit and its use; `amount` is null where only single processes have one, or none has and it is braked.

    Of a rate, `full_at` is when its bucket will be full again. Of money, `used` micro-dollars are those of the day that
    ends at `full_at`. The rate of requests is braked since `braked_at`, to `braked_to` at first, by the failure at
    `braked_position`.
    """

    amount: int | None = None
    used: int = 0
    full_at: datetime | None = None
    braked_at: datetime | None = None
    braked_to: int | None = None
    braked_position: int = 0

    @property
    def brake(self) -> Brake | None:
        """The brake, on or off."""
        if self.braked_at is None or self.braked_to is None:
            return None
        return Brake(self.braked_at, self.braked_to, self.braked_position)

    def braked_to_now(self, now: datetime, own: int | None = None) -> int | None:
        """How many requests per minute the brake allows; None when it is off."""
        return self.brake and self.brake.allowed(now, lower(self.amount, own))

    def in_force(self, now: datetime, own: int | None = None) -> int | None:
        """How much may begin per minute for a process with a limit of its own; None when nothing limits it."""
        return lower(self.amount, own, self.braked_to_now(now, own))

    def spending(self, now: datetime) -> Spending:
        """Of money: what is spent of the day that it is now."""
        return Spending(self.used, self.full_at or now).on(now)

    def with_amount(self, amount: int | None, position: int) -> Limit:
        """With that amount, set at a position of the log; that takes the brake off. None changes nothing."""
        if amount is None:
            return self
        return self._replace(amount=amount, braked_at=None, braked_to=None, braked_position=position)

    def spent(self, today: Spending) -> Limit:
        """Of money: with this spending in the place of its own."""
        return self._replace(used=today.used, full_at=today.ends_at)


def lower(*limits: int | None) -> int | None:
    """The lowest of the limits that there are."""
    return min((one for one in limits if one is not None), default=None)


limits = Table(
    "limits",
    metadata,
    Column("endpoint", Key, primary_key=True),
    Column("request_model", Key, primary_key=True),
    Column("credential", Key, primary_key=True),
    Column("unit", Key, primary_key=True),
    Column("amount", Number),
    Column("used", Number, nullable=False),
    Column("full_at", UtcDateTime),
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
    return {tuple(row[:4]): Limit._make(row[4:]) for row in connection.execute(_all())}


@lru_cache(maxsize=1)  # to build a statement costs as much as to run it
def _all() -> Any:
    return select(*(limits.c[name] for name in (*_NAME, *Limit._fields)))


def store(connection: Connection, dialect: Dialect, rows: dict[Name, Limit]) -> None:
    """Write these rows, new or not."""
    if rows:
        insert = dialect.insert(limits)
        written = {name: insert.excluded[name] for name in Limit._fields}
        values = [dict(zip(_NAME, name, strict=True)) | one._asdict() for name, one in rows.items()]
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
