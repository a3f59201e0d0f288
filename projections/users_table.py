"""Writing to the users' table, whose constraints, triggers and locks are theirs: a refusal there loses no event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select, tuple_
from sqlalchemy.exc import DBAPIError

from eventlog.dialects import Dialect
from projections.llm_enrichment import llm_enrichment

Row = dict[str, Any]
Refusals = dict[str, str]

LOCKED = "the row was locked by another program"


def write_rows(connection: Connection, dialect: Dialect, rows: Mapping[str, Row]) -> Refusals:
    """Write the rows (by stream; each the columns to set, with its key) as far as the table takes them.

    Returns the database's reason for each stream whose row it refused. Rows locked by someone else are not waited for.
    """
    if not rows:
        return {}
    locked = _locked_by_others(connection, rows)
    free = [(stream_id, row) for stream_id, row in rows.items() if stream_id not in locked]
    return dict.fromkeys(locked, LOCKED) | _write_or_bisect(connection, dialect, free)


def _write_or_bisect(connection: Connection, dialect: Dialect, rows: Sequence[tuple[str, Row]]) -> Refusals:
    """One savepoint round all of them; on refusal round each half."""
    if not rows:
        return {}
    try:
        with connection.begin_nested():
            dialect.enter_users_table(connection)
            _upsert(connection, dialect, [row for _, row in rows])
            dialect.leave_users_table(connection)
    except DBAPIError as refusal:
        if refusal.connection_invalidated:
            raise
        if len(rows) == 1:
            return {rows[0][0]: str(refusal.orig).strip()}
        middle = len(rows) // 2
        first, second = rows[:middle], rows[middle:]
        return _write_or_bisect(connection, dialect, first) | _write_or_bisect(connection, dialect, second)
    return {}


def _upsert(connection: Connection, dialect: Dialect, rows: Sequence[Row]) -> None:
    """Rows that set the same columns go in one statement."""
    alike: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        alike[tuple(row)].append(row)
    keys = list(llm_enrichment.primary_key.columns)
    for columns, group in alike.items():
        insert = dialect.insert(llm_enrichment)
        values = {name: insert.excluded[name] for name in columns if name not in llm_enrichment.primary_key.columns}
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=values), group)


def _locked_by_others(connection: Connection, rows: Mapping[str, Row]) -> list[str]:
    keys = list(llm_enrichment.primary_key.columns)
    wanted = {tuple(row[column.name] for column in keys): stream_id for stream_id, row in rows.items()}
    mine = select(*keys).where(tuple_(*keys).in_(wanted))
    free = mine.with_for_update(skip_locked=True).cte("free")
    locked = mine.where(tuple_(*keys).not_in(select(*free.c)))
    return [wanted[tuple(key)] for key in connection.execute(locked)]
