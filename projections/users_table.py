"""Writing to the users' table, whose constraints, triggers and locks are theirs: a refusal there loses no event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, Table, select, tuple_
from sqlalchemy.exc import DBAPIError

from eventlog.dialects import Dialect
from projections.projection import Refusals, Row

LOCKED = "the row was locked by another program"


def write_rows(connection: Connection, dialect: Dialect, table: Table, rows: Mapping[str, Row]) -> Refusals:
    """Write the rows (by stream; each the columns to set, with its key) as far as the table takes them.

    Returns the database's reason for each stream whose row it refused. Rows locked by someone else are not waited for.
    """
    if not rows:
        return {}
    try:
        with connection.begin_nested():
            dialect.enter_users_table(connection)
            locked = _locked_by_others(connection, table, rows)
    except DBAPIError as refusal:
        return dict.fromkeys(rows, _reason(connection, dialect, refusal))
    free = [(stream_id, row) for stream_id, row in rows.items() if stream_id not in locked]
    return dict.fromkeys(locked, LOCKED) | _write_or_bisect(connection, dialect, table, free)


def _write_or_bisect(
    connection: Connection, dialect: Dialect, table: Table, rows: Sequence[tuple[str, Row]]
) -> Refusals:
    """One savepoint round all of them; on refusal round each half."""
    if not rows:
        return {}
    try:
        with connection.begin_nested():
            dialect.enter_users_table(connection)
            _upsert(connection, dialect, table, [row for _, row in rows])
            dialect.leave_users_table(connection)
    except DBAPIError as refusal:
        reason = _reason(connection, dialect, refusal)
        if len(rows) == 1:
            return {rows[0][0]: reason}
        middle = len(rows) // 2
        refusals = _write_or_bisect(connection, dialect, table, rows[:middle])
        return refusals | _write_or_bisect(connection, dialect, table, rows[middle:])
    return {}


def _reason(connection: Connection, dialect: Dialect, refusal: DBAPIError) -> str:
    """The database's own words. A lost connection or transaction is no refusal of a row, and is raised on."""
    if refusal.connection_invalidated:
        raise refusal
    dialect.require_transaction(connection)
    return str(refusal.orig).strip()


def _upsert(connection: Connection, dialect: Dialect, table: Table, rows: Sequence[Row]) -> None:
    """Rows that set the same columns go in one statement."""
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[tuple(row)].append(row)
    keys = list(table.primary_key.columns)
    for columns, group in alike.items():
        insert = dialect.insert(table)
        values = {name: insert.excluded[name] for name in columns if name not in table.primary_key.columns}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=values), group)


def _locked_by_others(connection: Connection, table: Table, rows: Mapping[str, Row]) -> list[str]:
    keys = list(table.primary_key.columns)
    wanted = {tuple(row[column.name] for column in keys): stream_id for stream_id, row in rows.items()}
    mine = select(*keys).where(tuple_(*keys).in_(wanted))
    free = mine.with_for_update(skip_locked=True).cte("free")
    locked = mine.where(tuple_(*keys).not_in(select(*free.c)))
    return [wanted[tuple(key)] for key in connection.execute(locked)]
