"""Projections whose rows span streams: folded in the order of the log, written after the log lock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Select, Table, bindparam, select

from eventlog.dialects import Dialect
from eventlog.log import PAGE as EVENTS_PER_PAGE
from eventlog.log import Recorded
from eventlog.schema import events
from eventlog.upcasting import read
from projections.projection import Row

S = TypeVar("S")
Key = tuple[Any, ...]
PAGE = EVENTS_PER_PAGE
"""How many events are read together."""

WITHOUT_CONTENT = [events.c[name] for name in Recorded._fields if name != "content"]
"""The columns of which an event is read where its facts are enough."""


@dataclass(frozen=True)
class SpanningProjection(Generic[S]):
    """A read model with one row per key of its own, such as an endpoint with its model, over events of many streams.

    `key` is the row that an event of these `types` is about, None for no row. `fold` is pure, and reads facts only.
    `row` gives the columns beside those of the key, which are the table's primary key. `admit` may refuse a live event,
    by raising, before it is folded: then its whole append is undone. One that `is_following` does not move with each
    append: it follows the log with a checkpoint. One that `is_ordered` depends on the order of events of different
    streams, which is that of the log; the rows of others are the same in whatever order streams are folded.
    """

    name: str
    version: int
    table: Table
    types: Sequence[str]
    initial: S
    key: Callable[[Recorded], Key | None]
    fold: Callable[[S, Recorded], S]
    row: Callable[[S], Row]
    state: Callable[[Any], S]
    admit: Callable[[S, Recorded], None] = lambda state, event: None
    is_following: bool = False
    is_ordered: bool = False


def advance(
    connection: Connection, dialect: Dialect, projection: SpanningProjection[S], recorded: Sequence[Recorded]
) -> None:
    """Move the rows that these events are about; the log lock, which the caller holds, is the lock of all rows."""
    told = [(key, event) for event in recorded if (key := _key(projection, event)) is not None]
    if not told:
        return
    before = load(connection, projection, {key for key, _ in told})
    after = dict(before)
    for key, event in told:
        state = after.get(key, projection.initial)
        projection.admit(state, event)
        after[key] = projection.fold(state, event)
    store(connection, dialect, projection, {key: s for key, s in after.items() if before.get(key) != s})


def load(connection: Connection, projection: SpanningProjection[S], keys: Iterable[Key]) -> dict[Key, S]:
    """The states of these keys, as far as they have rows."""
    rows = {key: connection.execute(_row_of(projection.table), _parameters(key)).one_or_none() for key in keys}
    return {key: projection.state(row) for key, row in rows.items() if row is not None}


def _parameters(key: Key) -> dict[str, Any]:
    return {f"key_{place}": value for place, value in enumerate(key)}


@lru_cache(maxsize=16)  # to build and recognise a statement costs as much as to run it
def _row_of(table: Table) -> Select[Any]:
    """The row whose key the parameters bring, each named for its place."""
    named = [column == bindparam(f"key_{place}") for place, column in enumerate(table.primary_key)]
    return select(table).where(*named)


def store(connection: Connection, dialect: Dialect, projection: SpanningProjection[S], states: dict[Key, S]) -> None:
    """Write the rows of these states, new or not."""
    if not states:
        return
    names = [column.name for column in projection.table.primary_key]
    rows = [dict(zip(names, key, strict=True)) | projection.row(state) for key, state in states.items()]
    insert = dialect.insert(projection.table)
    written = {name: insert.excluded[name] for name in rows[0] if name not in names}
    connection.execute(insert.on_conflict_do_update(index_elements=names, set_=written), rows)


def _key(projection: SpanningProjection[Any], event: Recorded) -> Key | None:
    return projection.key(event) if event.type in projection.types else None


def key_of(projection: SpanningProjection[Any], row: Any) -> Key:
    """The key of a row of its table."""
    return tuple(row._mapping[column.name] for column in projection.table.primary_key)


def page_of(connection: Connection, types: Sequence[str], after: int) -> tuple[list[Recorded], int]:
    """The next events of these types, facts only, and the position they reach."""
    query = select(*WITHOUT_CONTENT).where(events.c.position > after, events.c.type.in_(types))
    rows = connection.execute(query.order_by(events.c.position).limit(PAGE)).all()
    page = [facts_only(row) for row in rows]
    return page, page[-1].position if page else after


def facts_only(row: Any) -> Recorded:
    """The event of a row of the columns `WITHOUT_CONTENT`, in today's version.

    Raises `UnknownEventType` and `Unfoldable`.
    """
    facts, _ = read(row.type, row.facts, None, row.position)
    return Recorded._make((*row[:-1], facts, None))
