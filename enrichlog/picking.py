"""Which rows a claim locks: those that are due, in their order, never waiting for what others hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, or_, select
from sqlalchemy.exc import DBAPIError

from enrichlog.scope import Scope, scope_branches
from eventlog.database import Database
from eventlog.dialects import Dialect
from projections.enrichment_status import enrichment_status


def pick(
    connection: Connection, database: Database, enrichment: str, scope: Scope, now: datetime, max_attempts: int,
    limit: int, *, alone: bool,
) -> tuple[list[Row[Any]], Scope]:  # fmt: skip
    """Lock up to `limit` rows that a run over the scope takes next; `alone`: of those on which a worker died.

    Returns the scope, too, with where the next look begins.
    """
    names = scope.turn(limit)
    branches = scope_branches(database, enrichment, scope, now, max_attempts, names, alone=alone)
    if scope.is_second_round:
        return _pick_patiently(connection, database.dialect, next(branches)), scope
    if names or alone:
        return _in_turn(_pick(connection, branches, limit, {}), names), scope
    heads = dict(scope.heads)
    picked = _pick(connection, branches, limit, heads)
    return picked, replace(scope, heads=tuple(heads.items()))


def _pick(
    connection: Connection, branches: Iterable[ColumnElement[bool]], limit: int, heads: dict[int, datetime]
) -> list[Row[Any]]:
    """Lock due rows, never waiting for those that others hold; what was due before the head of a branch is the last.

    The heads move on to the first row that is found.
    """
    picked: list[Row[Any]] = []
    for place, part in _parts(branches if limit > 0 else (), heads):
        query = select(enrichment_status).where(part).order_by(enrichment_status.c.due_at)
        query = query.limit(limit - len(picked)).with_for_update(skip_locked=True)
        found = connection.execute(query).all()
        if found and found[0].due_at is not None:
            heads[place] = found[0].due_at
        picked += found
        if len(picked) >= limit:
            break
    return picked


def _parts(
    branches: Iterable[ColumnElement[bool]], heads: Mapping[int, datetime]
) -> Iterator[tuple[int, ColumnElement[bool]]]:
    """The branches with their places, each in one part, or in two: from its head on, then what is before it."""
    due_at = enrichment_status.c.due_at
    for place, branch in enumerate(branches):
        head = heads.get(place)
        if head is None:
            yield place, branch
        else:
            yield place, and_(branch, due_at >= head)
            yield place, and_(branch, or_(due_at < head, due_at.is_(None)))


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
