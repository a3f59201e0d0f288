"""Which rows a claim locks: those that are due, in their order, never waiting for what others hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, select
from sqlalchemy.exc import DBAPIError

from enrichlog.scope import Scope, scope_branches
from eventlog.database import Database
from eventlog.dialects import Dialect
from projections.enrichment_status import enrichment_status


def pick(
    connection: Connection, database: Database, enrichment: str, scope: Scope, now: datetime, max_attempts: int,
    limit: int, *, alone: bool,
) -> list[Row[Any]]:  # fmt: skip
    """Lock up to `limit` rows that a run over the scope takes next; `alone`: of those on which a worker died."""
    names = scope.turn(limit)
    branches = scope_branches(database, enrichment, scope, now, max_attempts, names, alone=alone)
    if scope.is_second_round:
        return _pick_patiently(connection, database.dialect, next(branches))
    return _in_turn(_pick(connection, branches, limit), names)


def _pick(connection: Connection, branches: Iterable[ColumnElement[bool]], limit: int) -> list[Row[Any]]:
    """Lock due rows, never waiting for those that others hold."""
    picked: list[Row[Any]] = []
    for branch in branches if limit > 0 else ():
        query = select(enrichment_status).where(branch).order_by(enrichment_status.c.due_at)
        query = query.limit(limit - len(picked)).with_for_update(skip_locked=True)
        picked += connection.execute(query)
        if len(picked) >= limit:
            break
    return picked


def _pick_patiently(connection: Connection, dialect: Dialect, named: ColumnElement[bool]) -> list[Row[Any]]:
    """Lock named rows in the order of all streams, waiting a while for those that others hold."""
    query = select(enrichment_status).where(named).order_by(enrichment_status.c.stream_id)
    try:
        with connection.begin_nested():
            dialect.wait_briefly(connection)
            return list(connection.execute(query.with_for_update()))
    except DBAPIError as error:
        if not dialect.is_locked(error):
            raise
    return list(connection.execute(query.with_for_update(skip_locked=True)))


def _in_turn(picked: Sequence[Row[Any]], names: Sequence[str]) -> list[Row[Any]]:
    """Those that are named in the order of their names."""
    places = {job_id: place for place, job_id in enumerate(names)}
    return sorted(picked, key=lambda row: places.get(row.job_id, len(places)))
