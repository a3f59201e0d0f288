"""Whether this code knows every type of event that the log holds: for folds that read some types only."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, select

from eventlog.events import EVENT_TYPES
from eventlog.schema import events
from eventlog.upcasting import read


def require_known(connection: Connection) -> None:
    """Raises `UnknownEventType` for the first event of a type that this code does not know.

    A look into the index for each type: a fold that skipped such an event would never say so.
    """
    one = select(events.c.position, events.c.type, events.c.facts).order_by(events.c.position).limit(1)
    unknown = [kind for kind in _types(connection) if kind not in EVENT_TYPES]
    found = [connection.execute(one.where(events.c.type == kind)).one() for kind in unknown]
    if found:
        position, kind, facts = min(found)
        read(kind, facts, None, position)


def _types(connection: Connection) -> Iterator[str]:
    """The types that the log holds, each found behind the one before."""
    kind, following = "", select(events.c.type).order_by(events.c.type).limit(1)
    while (found := connection.execute(following.where(events.c.type > kind)).scalar()) is not None:
        yield (kind := found)
