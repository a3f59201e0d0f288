"""What is wrong with the events of a range of the log; ranges can be checked side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import LargeBinary, Select, cast, func, select

from eventlog.chain import GENESIS, SALT_BYTES, digest_content, link
from eventlog.database import Pages
from eventlog.errors import DatabaseRefused, EnrichlogError, LogUnsound, Unfoldable, UnknownEventType
from eventlog.events import ContentErased
from eventlog.log import PAGE
from eventlog.schema import events, part_of
from eventlog.shape import misfit
from eventlog.upcasting import read

Fault = tuple[int, str]
"""The position of an event, and what is wrong with it."""

Place = tuple[int, bytes]
"""A position and the hash that is stored there."""

UNREADABLE = "it cannot be read: a column holds what was never appended"
MISSING = "it is missing"
_GONE = "its content is gone and was never erased"
_EMPTY = digest_content(None, None)

_READ_ERRORS = (ValueError, TypeError, LookupError, AttributeError, DatabaseRefused)  # DatabaseRefused: by the driver
_TYPES = [(column.type.python_type, column.nullable) for column in events.columns]
_part_of = lru_cache(maxsize=4_096)(part_of)  # the events of a stream are not far from each other


class NotKnown(str):
    """What is told of an event that is intact, but of a newer version than this code: `error` was raised for it."""

    __slots__ = ("error",)
    error: UnknownEventType

    def __new__(cls, error: UnknownEventType) -> NotKnown:
        told = super().__new__(cls, str(error))
        told.error = error
        return told

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is sent from one process to another."""
        return NotKnown, (self.error,)


def unsound(fault: Fault) -> EnrichlogError:
    """What to raise for a fault where the log is to be folded: `LogUnsound`, or `UnknownEventType`."""
    position, reason = fault
    return reason.error if isinstance(reason, NotKnown) else LogUnsound(position=position, reason=reason)


def require_sound_between(pages: Pages, after: int, until: int) -> None:
    """Raises what `unsound` makes of the first fault behind `after` and up to `until`, if there is one.

    The last of them has to be there too: whoever goes on behind it does not come back.
    """
    for fault in faults_in(pages, after, until):
        raise unsound(fault)
    if after < until and not hash_at(pages, until):
        raise LogUnsound(position=until, reason=MISSING)


def faults_in(
    pages: Pages, after: int, until: int, progress: Callable[[int], None] = lambda events: None
) -> Iterator[Fault]:
    """The faults of the events behind `after` and up to `until`, in order, one for each event at the most.

    The events are read in short pages; `progress` is called with how far each goes. The chain goes on from the hash
    that is stored at `after`, and after a fault from the hash as stored, so that one change is told once; the faults of
    two ranges side by side are those of both as one.
    """
    place = before(pages, after)
    while (last := place[0]) < until:
        query = select(events).where(events.c.position > last, events.c.position <= until)
        try:
            rows: Sequence[Sequence[Any]] = pages.page(query.order_by(events.c.position).limit(PAGE))
            told = _faults_of(pages, rows, place)
        except _READ_ERRORS:  # by the driver: then one by one, to find which
            told, place = _one_by_one(pages, place, until)
        else:
            place = _place(pages, rows[-1]) if rows else (until, b"")
        progress(place[0] - last)
        yield from told


def before(pages: Pages, position: int) -> Place:
    """The last event up to this position; 0 and the hash of nothing when there is none."""
    last = pages.page(select(func.max(events.c.position)).where(events.c.position.between(1, position)))[0][0]
    return (last, hash_at(pages, last)) if last else (0, GENESIS)


def hash_at(pages: Pages, position: int) -> bytes:
    """The hash as stored, whatever its type; empty when there is none."""
    found = pages.page(select(cast(events.c.hash, LargeBinary)).where(events.c.position == position))
    return (found[0][0] if found else None) or b""


def _faults_of(pages: Pages, rows: Sequence[Sequence[Any]], place: Place) -> list[Fault]:
    """The faults of events that follow each other from this place on."""
    found = list[tuple[int, str, str]]()
    last, previous = place
    for row in rows:
        try:
            reason = _fault(row, last, previous)
        except _READ_ERRORS:
            reason = UNREADABLE
        last, previous = row[0], row[-1]
        if reason is not None:
            found.append((last, row[2], reason if _has_the_types(row) else UNREADABLE))
            previous = _place(pages, row)[1]
    erased = _erasures(pages, {stream_id for _, stream_id, reason in found if reason == _GONE})
    return [(at, reason) for at, stream_id, reason in found if reason != _GONE or erased.get(stream_id, 0) < at]


def _fault(row: Sequence[Any], last: int, previous: bytes) -> str | None:
    position, event_id, stream_id, version, part, kind, recorded_at, facts, content, salt, digest, stored = tuple(row)
    if position != last + 1:
        return f"positions {last + 1} to {position - 1} are missing"
    if part != _part_of(stream_id):
        return f"its part is {part}, that of {stream_id} is {part_of(stream_id)}"
    if link(previous, position, recorded_at, event_id, stream_id, version, kind, facts, digest) != stored:
        return "its hash does not follow from the event before and its own header and facts"
    is_gone = content is None and salt is None and digest != _EMPTY
    if not is_gone and not (_is_salted(salt, content) and digest_content(salt, content) == digest):
        return "its content is not what was appended"
    return _unfoldable(kind, facts, content, position) or (_GONE if is_gone else None)


def _is_salted(salt: bytes | None, content: str | None) -> bool:
    """Whether a whole salt stands before content, and none elsewhere: the digest cannot tell where one ends."""
    return salt is None if content is None else salt is not None and len(salt) == SALT_BYTES


def _unfoldable(kind: str, facts: str, content: str | None, position: int) -> str | None:
    """Why no fold may take an event that is stored as these texts."""
    try:
        return misfit(kind, read(kind, facts, content, position))
    except UnknownEventType as unknown:
        return NotKnown(unknown)
    except Unfoldable as error:
        return f"it is no {kind}: {error.facts['reason']}"


def _has_the_types(row: Sequence[Any]) -> bool:
    """Whether all columns hold what they were made for: SQLite keeps whatever it is given."""
    return all(
        nullable if value is None else isinstance(value, kind)
        for value, (kind, nullable) in zip(row, _TYPES, strict=True)
    )


def _place(pages: Pages, row: Sequence[Any]) -> Place:
    position, stored = row[0], row[-1]
    return position, stored if isinstance(stored, bytes) else hash_at(pages, position)


def _erasures(pages: Pages, streams: set[str]) -> dict[str, int]:
    """The position of the last erasure of each of these streams that has one."""
    table = events.c
    query: Select[Any] = select(table.stream_id, func.max(table.position)).where(table.stream_id.in_(sorted(streams)))
    of_erasures = query.where(table.type == ContentErased.__name__).group_by(table.stream_id)
    return dict(map(tuple, pages.page(of_erasures))) if streams else {}


def _one_by_one(pages: Pages, place: Place, until: int) -> tuple[list[Fault], Place]:
    """A page of events of which the driver cannot read some, as far as it goes, and the place behind it."""
    query = select(events.c.position).where(events.c.position > place[0], events.c.position <= until)
    found = list[Fault]()
    for (position,) in pages.page(query.order_by(events.c.position).limit(PAGE)):
        try:
            rows = pages.page(select(events).where(events.c.position == position))
        except _READ_ERRORS:
            found.append((position, UNREADABLE))
            place = position, hash_at(pages, position)
        else:
            found += _faults_of(pages, rows, place)
            place = _place(pages, rows[0])
    return found, place
