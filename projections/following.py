"""Projections that follow the log with a checkpoint, so that appends stay short.

Positions have no gaps and are in commit order, so what stands behind a checkpoint is all that was not applied. Whoever
moves rows locks the checkpoint first, finds it where it read on from, and moves it in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, or_, select, tuple_, update

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.errors import FoldOutdated, FoldTooNew
from eventlog.events import EVENT_TYPES
from eventlog.faults import require_sound_between
from eventlog.log import Recorded, head_position
from eventlog.schema import events
from projections.checkpoints import checkpoints
from projections.spanning import WITHOUT_CONTENT, Key, SpanningProjection, facts_only, key_of, store
from projections.spanning_rows import fold_into, some_at_a_time, with_keys

S = TypeVar("S")
PAGE = 2_000
"""So many positions are applied in one transaction, which is then some hundredths of a second long."""


class Standing(NamedTuple):
    """How far a projection is: the last position applied, where the log ends, and the version that made its rows."""

    position: int
    head: int
    fold_version: int | None

    @property
    def behind(self) -> int:
        """How many events were not applied yet."""
        return max(0, self.head - self.position)


class Page(NamedTuple):
    """The events behind one position up to another that a projection is about, with their keys."""

    after: int
    until: int
    told: list[tuple[Key, Recorded]]


def standing(database: Database, projection: SpanningProjection[Any]) -> Standing:
    """How far a projection is; at position 0 when nobody has begun to follow."""
    with database.read() as connection:
        found = connection.execute(checkpoint_of(projection)).one_or_none()
        position, version = found or (0, None)
        return Standing(position or 0, head_position(connection), version)


def catch_up(
    database: Database, projection: SpanningProjection[S], *, pages: int | None = None,
    progress: Callable[[int], None] = lambda events: None,
) -> bool:  # fmt: skip
    """Apply what was appended since the checkpoint, at most so many pages; whether that was all.

    `progress` is called with the number of positions of each page. Any number of processes may do this at once: each
    event is applied once, also when one of them is killed. Nothing is locked or written when there is nothing to apply.
    Raises `FoldOutdated` or `FoldTooNew` when another version of the fold has made the rows, `UnknownEventType`,
    `Unfoldable`, and `LogUnsound` where the next page is not what was appended: what comes before it is applied.
    """
    for _ in count() if pages is None else range(pages):
        page = _next_page(database, projection)
        if page.until == page.after:
            return True
        if _apply(database, projection, page):
            progress(page.until - page.after)
    return standing(database, projection).behind == 0


def _next_page(database: Database, projection: SpanningProjection[Any]) -> Page:
    """Read and proved without the lock: which events follow a position is never another matter later."""
    found = standing(database, projection)
    _require_version(projection, found.fold_version)
    until = end_of_page(found.position, found.head)
    require_sound_between(database, found.position, until)
    with database.read() as connection:
        return page_behind(connection, projection, found.position, until)


def _apply(database: Database, projection: SpanningProjection[S], page: Page) -> bool:
    """Move rows and checkpoint together; False when somebody else has moved them meanwhile."""
    with database.write() as connection:
        if lock(connection, database.dialect, projection) != page.after:
            return False
        before = load(connection, projection, {key for key, _ in page.told})
        after = dict(before)
        fold_into(projection, after, page.told)
        store(connection, database.dialect, projection, {key: s for key, s in after.items() if before.get(key) != s})
        move(connection, projection, page.until)
    return True


def load(connection: Connection, projection: SpanningProjection[S], keys: Iterable[Key]) -> dict[Key, S]:
    """The states of these keys, as far as they have rows; a hundred of them with one statement."""
    place, states = tuple_(*projection.table.primary_key), dict[Key, S]()
    for some in some_at_a_time(keys):
        for row in connection.execute(select(projection.table).where(place.in_(some))):
            states[key_of(projection, row)] = projection.state(row)
    return states


def checkpoint_of(projection: SpanningProjection[Any]) -> Any:
    """The query for the position and the fold version of a projection; no row where nobody has begun to follow."""
    return select(checkpoints.c.position, checkpoints.c.fold_version).where(checkpoints.c.projection == projection.name)


def lock(
    connection: Connection, dialect: Dialect, projection: SpanningProjection[Any], *, or_older: bool = False
) -> int:
    """Take the lock of all rows of a projection, and read the position that they stand at.

    Raises `FoldTooNew`, and `FoldOutdated` unless rows of an older fold will do.
    """
    found = connection.execute(checkpoint_of(projection).with_for_update()).one_or_none()
    if found is None:
        new = {"projection": projection.name, "fold_version": projection.version, "position": 0}
        connection.execute(dialect.insert(checkpoints).values(new).on_conflict_do_nothing())
        found = connection.execute(checkpoint_of(projection).with_for_update()).one()
    _require_version(projection, found.fold_version, or_older=or_older)
    return found.position or 0


def _require_version(projection: SpanningProjection[Any], found: int | None, *, or_older: bool = False) -> None:
    if found is None or found == projection.version or (or_older and found < projection.version):
        return
    told = FoldOutdated if found < projection.version else FoldTooNew
    raise told(projection=projection.name, found=found, needed=projection.version)


def move(connection: Connection, projection: SpanningProjection[Any], position: int) -> None:
    """Move the checkpoint, whose lock the caller holds, to where the rows stand now."""
    moved = {"position": position, "fold_version": projection.version}
    connection.execute(update(checkpoints).where(checkpoints.c.projection == projection.name).values(moved))


def end_of_page(after: int, head: int) -> int:
    """The last position of the page behind a position.

    A range of positions rather than so many events: else a log with few of some types is read to its end each time.
    """
    return max(after, min(after + PAGE, head))


def page_behind(connection: Connection, projection: SpanningProjection[Any], after: int, until: int) -> Page:
    """The events of the positions behind one and up to another, which have been proved.

    Raises `UnknownEventType` where a newer version of enrichlog has appended what nobody knows here: it is not passed
    over, since the checkpoint never comes back.
    """
    asked = or_(events.c.type.in_(projection.types), events.c.type.not_in(EVENT_TYPES))
    query = select(*WITHOUT_CONTENT).where(events.c.position.between(after + 1, until), asked)
    rows = connection.execute(query.order_by(events.c.position)).all()
    return Page(after, until, with_keys(projection, [facts_only(row) for row in rows]))
