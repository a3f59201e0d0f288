"""Writing to the users' table, whose constraints, triggers and locks are theirs: a refusal there loses no event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC
from functools import lru_cache, partial
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Connection, Select, Table, Text, cast, select, tuple_, type_coerce
from sqlalchemy.exc import DataError, DBAPIError
from sqlalchemy.types import NullType

from eventlog.dialects import Dialect
from eventlog.events import moment
from eventlog.schema import UtcDateTime
from projections.projection import Refusals, Row, Writing

After = Callable[[Connection, Sequence[str]], None]
"""What is to be done in the savepoint of rows that have a new result, given their streams."""

LOCKED = "the row was locked by another program"
DELETED = "its row was deleted from the table"
NOT_TAKEN = "the table did not take the row: a trigger passed over it"


READ_ERRORS = (ValueError, TypeError, AttributeError, DataError)
"""What reading a row raises where a column holds what is none of its values; the last: the driver knows no infinity."""


VALUE_ERRORS = (ValueError, TypeError, OverflowError)
"""What sending a row raises where a value of it is none that a database could be sent."""


class _Wanted(NamedTuple):
    """A row to be written, and whether the table has it already."""

    stream_id: str
    row: Row
    is_there: bool


_Done = Callable[[Connection, Sequence[_Wanted]], None]


class _PassedOver(Exception):
    """The table took fewer rows than it was sent, and said nothing."""


def write_rows(
    connection: Connection, dialect: Dialect, table: Table, rows: Mapping[str, Row], writing: Writing,
    after: After | None = None,
) -> Refusals:  # fmt: skip
    """Write the rows (by stream; each the columns to set, with its key) as far as the table takes them.

    Parts of which the row is not there are not written: they would make one that nobody has ever seen. `after` is
    called with the streams that have a new result, and what it does is of one piece with their rows. Returns the
    reason for each stream whose row was not written, mostly in the database's own words. Rows locked by someone else
    are not waited for.
    """
    if not rows:
        return {}
    try:
        with connection.begin_nested():
            dialect.theirs.enter(connection)  # for all that follows
            is_free = _lock(connection, dialect, table, rows)
    except DBAPIError as refusal:
        return dict.fromkeys(rows, _reason(connection, dialect, refusal))
    locked = [stream_id for stream_id, free in is_free.items() if not free]
    deleted = [stream_id for stream_id in writing.parts if stream_id in rows and stream_id not in is_free]
    left = {*locked, *deleted}
    wanted = [_Wanted(one, row, one in is_free) for one, row in rows.items() if one not in left]
    refused = dict.fromkeys(locked, LOCKED) | dict.fromkeys(deleted, DELETED)
    done = partial(_finish, after, writing.enriched) if after else _nothing
    return refused | _write_or_bisect(connection, dialect, table, wanted, done)


def _finish(after: After, enriched: Collection[str], connection: Connection, rows: Sequence[_Wanted]) -> None:
    """Do what is to be done with rows once they are written."""
    streams = [one.stream_id for one in rows if one.stream_id in enriched]
    if streams:
        after(connection, streams)


def _nothing(connection: Connection, rows: Sequence[_Wanted]) -> None:
    """Nothing is to be done with rows that are written."""


def read_as_it_is(
    connection: Connection, table: Table, where: Sequence[ColumnElement[bool]], asked: Mapping[str, Any]
) -> list[Row]:
    """Rows as a select gives them, but that a value which cannot be read comes as the driver has it."""
    raw = [_raw(column).label(column.name) for column in table.columns]
    found = connection.execute(select(*raw).where(*where), asked).mappings()
    return [{column.name: _value(connection, column, row[column.name]) for column in table.columns} for row in found]


def _raw(column: Column[Any]) -> ColumnElement[Any]:
    """A column as the driver has it, moments as text."""
    return cast(column, Text) if _is_moment(column) else type_coerce(column, NullType())


def _is_moment(column: Column[Any]) -> bool:
    return isinstance(column.type, type(UtcDateTime))


def _value(connection: Connection, column: Column[Any], told: Any) -> Any:
    read = column.type.dialect_impl(connection.dialect).result_processor(connection.dialect, None)
    try:
        if told is not None and _is_moment(column):
            return moment(told).astimezone(UTC)
        return told if read is None or told is None else read(told)
    except READ_ERRORS:
        return told


def _lock(connection: Connection, dialect: Dialect, table: Table, rows: Mapping[str, Row]) -> dict[str, bool]:
    """Lock the rows that are there; for each whether that could be done, since nobody else has it locked."""
    names = [column.name for column in table.primary_key]
    wanted = {tuple(row[name] for name in names): stream_id for stream_id, row in rows.items()}
    asked = {f"of_{name}": list({key[place] for key in wanted}) for place, name in enumerate(names)}
    found = connection.execute(_locking(dialect, table), asked)
    return {wanted[key]: bool(is_free) for *named, is_free in found if (key := tuple(named)) in wanted}


@lru_cache(maxsize=8)  # to build and recognise a statement costs as much as to run it
def _locking(dialect: Dialect, table: Table) -> Select[Any]:
    """Each row whose key has the values that the parameters bring, and whether it is locked now, and by us."""
    keys = list(table.primary_key.columns)
    where = [dialect.among(column, f"of_{column.name}") for column in keys]
    free = select(*keys).where(*where).with_for_update(skip_locked=True).cte("free")
    told: list[Any] = [cast(column, Text) for column in keys]
    return select(*told, tuple_(*keys).in_(select(*free.c))).where(*where)


def _write_or_bisect(
    connection: Connection, dialect: Dialect, table: Table, rows: Sequence[_Wanted], done: _Done
) -> Refusals:
    """One savepoint round all of them; on refusal round each half, but nobody waits for a lock twice."""
    if not rows:
        return {}
    try:
        with connection.begin_nested():
            _write(connection, dialect, table, rows)
            done(connection, rows)
            dialect.theirs.leave(connection)
        return {}
    except _PassedOver:
        reason = NOT_TAKEN
    except VALUE_ERRORS as refusal:  # the driver has no form for it
        reason = f"{type(refusal).__name__}: {refusal}"
    except DBAPIError as refusal:
        reason = _reason(connection, dialect, refusal)
        if dialect.theirs.learns(connection, table, refusal):
            return _write_or_bisect(connection, dialect, table, rows, done)
        if len(rows) == 1:
            reason = dialect.theirs.with_column(refusal, table, rows[0].row) or reason
    if len(rows) == 1 or reason == LOCKED:
        return dict.fromkeys((one.stream_id for one in rows), reason)
    middle = len(rows) // 2
    refusals = _write_or_bisect(connection, dialect, table, rows[:middle], done)
    return refusals | _write_or_bisect(connection, dialect, table, rows[middle:], done)


def _reason(connection: Connection, dialect: Dialect, refusal: DBAPIError) -> str:
    """The database's own words. A lost connection or transaction is no refusal of a row, and is raised on."""
    if refusal.connection_invalidated:
        raise refusal
    dialect.require_transaction(connection)
    _let_go(refusal)
    return LOCKED if dialect.is_locked(refusal) else str(refusal.orig).strip()


def _let_go(error: BaseException | None) -> None:
    """Part an error from the calls that led to it, which refer to it and hold every row they were sent.

    A walk looks for no cycles: a table that refused all its rows would have it take gigabytes.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _write(connection: Connection, dialect: Dialect, table: Table, rows: Sequence[_Wanted]) -> None:
    """Rows that set the same columns go in one statement. Raises `_PassedOver`."""
    alike: dict[tuple[bool, tuple[str, ...]], list[Row]] = defaultdict(list)
    for one in rows:
        alike[one.is_there, tuple(one.row)].append(one.row)
    for (is_there, _), group in alike.items():
        write = dialect.theirs.update_rows if is_there else dialect.theirs.insert_rows
        if write(connection, table, group) < len(group):
            raise _PassedOver
