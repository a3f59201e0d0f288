"""What is wrong with the events of one stream, proved without the rest of the log."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import exists, func, select

from eventlog.database import Pages
from eventlog.errors import LogUnsound
from eventlog.faults import Fault, faults_in, hash_at, unsound
from eventlog.schema import events


def stream_faults(pages: Pages, stream_id: str, until: int | None = None) -> Iterator[Fault]:
    """The faults of a stream, if need be up to a position, one for each event at the most: each event follows from the
    hash before it in the log.

    What is missing at its end cannot be told from its events: `require_whole` does, by who knows how far it went.
    """
    query, last = select(events.c.position, events.c.version).where(events.c.stream_id == stream_id), 0
    query = query if until is None else query.where(events.c.position <= until)
    for position, version in pages.page(query.order_by(events.c.version, events.c.position)):
        yield from _fault(pages, stream_id, position, version, last)
        last = version


def _fault(pages: Pages, stream_id: str, position: int, version: int, last: int) -> Iterator[Fault]:
    if position < 1:
        yield position, "positions begin at 1"
    elif found := list(faults_in(pages, position - 1, position)):
        yield from found
    elif version != last + 1:
        yield position, f"version {version} of {stream_id} stands where {last + 1} belongs"


def require_stream_sound(pages: Pages, stream_id: str, until: int | None = None) -> None:
    """Raises what `unsound` makes of the first fault of a stream, if there is one, if need be up to a position."""
    for fault in stream_faults(pages, stream_id, until):
        raise unsound(fault)


def require_whole(pages: Pages, stream_id: str, version: int, known: int, until: int | None = None) -> None:
    """Raises `LogUnsound` when a stream ends at a `version`, and is `known` to have gone on, up to this position.

    What is missing is no earlier than the first position that nothing stands at.
    """
    if known <= version:
        return
    position = _first_missing(pages)
    if until is None or position <= until:
        told = f"{stream_id} was at version {known}, and its events end with version {version}"
        reason = f"it is missing: {told} (or somebody has edited its row in enrichment_status: an anchor tells which)"
        raise LogUnsound(position=position, reason=reason)


def _first_missing(pages: Pages) -> int:
    """The first position without an event; the one behind the head when there is no gap."""
    later, position = events.alias(), events.c.position
    is_last = ~exists().where(later.c.position == position + 1)
    if not hash_at(pages, 1):
        return 1
    found: int = pages.page(select(func.min(position)).where(position > 0, is_last))[0][0]
    return found + 1
