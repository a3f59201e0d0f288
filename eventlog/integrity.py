"""Whether the log is what was appended: positions without gaps, versions in order, the hash chain unbroken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import RowMapping, exists, literal, select, tuple_

from eventlog.chain import GENESIS, Sealed, digest_content, link
from eventlog.database import Database
from eventlog.errors import UnknownEventType
from eventlog.log import PAGE, recorded
from eventlog.schema import events, part_of

UNREADABLE = "it cannot be read: a column holds what was never appended"


class Anchor(NamedTuple):
    """A position and its hash, to be kept outside the database: it proves all events up to there."""

    position: int
    hash: str


class LogReport(NamedTuple):
    """What checking the log found: how many events, its anchor, and every fault as (position, what differs)."""

    events: int
    anchor: Anchor
    faults: list[tuple[int, str]]


def verify_log(database: Database) -> LogReport:
    """Recompute the whole chain, in short pages. Faults are collected, one for each event at the most.

    After a fault the chain goes on from the hash as stored, so that one change is reported once.
    """
    position, previous, faults = 0, GENESIS, []
    for row in _rows(database):
        if isinstance(row, int):
            faults.append((row, UNREADABLE))
            position, previous = row, _hash_at(database, row)
            continue
        try:
            reason = _fault(database, row, position, previous)
        except (TypeError, AttributeError):  # a column of another type, as SQLite allows
            reason = UNREADABLE
        if reason:
            faults.append((row["position"], reason))
        position, previous = row["position"], row["hash"]
    faults += _version_faults(database)
    return LogReport(position, Anchor(position, previous.hex()), faults)


def compare(database: Database, anchor: Anchor) -> tuple[int, str] | None:
    """The fault of the log at an anchor, as (position, what differs); None when the event there is the anchor's."""
    found = database.page(select(events.c.hash).where(events.c.position == anchor.position))
    if not found:
        return anchor.position, "it is missing, and an anchor says that it was there"
    if bytes(found[0][0]).hex() != anchor.hash:
        return anchor.position, "its hash is not that of the anchor"
    return None


def _rows(database: Database) -> Iterator[RowMapping | int]:
    """All rows in order of position; for one that cannot be read, its position alone."""
    after = 0
    while positions := _positions(database, after):
        try:
            yield from _page(database, after, positions[-1])
        except (ValueError, TypeError):  # what a type cannot take: then one by one, to find which
            for position in positions:
                try:
                    yield from _page(database, position - 1, position)
                except (ValueError, TypeError):
                    yield position
        after = positions[-1]


def _positions(database: Database, after: int) -> list[int]:
    query = select(events.c.position).where(events.c.position > after).order_by(events.c.position).limit(PAGE)
    return [row[0] for row in database.page(query)]


def _page(database: Database, after: int, last: int) -> list[RowMapping]:
    query = select(events).where(events.c.position > after, events.c.position <= last).order_by(events.c.position)
    return [row._mapping for row in database.page(query)]


def _hash_at(database: Database, position: int) -> bytes:
    found: bytes = database.page(select(events.c.hash).where(events.c.position == position))[0][0]
    return found


def _fault(database: Database, row: RowMapping, last: int, previous: bytes) -> str | None:
    sealed = Sealed(*(row[name] for name in Sealed._fields))
    stream_id = sealed.stream_id
    if row["position"] != last + 1:
        return f"positions {last + 1} to {row['position'] - 1} are missing"
    if sealed.part != part_of(stream_id):
        return f"its part is {sealed.part}, that of {stream_id} is {part_of(stream_id)}"
    if link(previous, row["position"], row["recorded_at"], sealed) != row["hash"]:
        return "its hash does not follow from the event before and its own header and facts"
    if sealed.salt is None and sealed.content is None and digest_content(None, None) != sealed.content_digest:
        return None if _is_erased(database, stream_id, row["position"]) else "its content is gone and was never erased"
    if digest_content(sealed.salt, sealed.content) != sealed.content_digest or _came_later(sealed):
        return "its content is not what was appended"
    try:
        recorded(row)
    except UnknownEventType as unknown:
        return str(unknown)
    return None


def _came_later(sealed: Sealed) -> bool:
    """Content without a salt: nothing was appended with it, or it had been erased."""
    return sealed.salt is None and sealed.content is not None


def _version_faults(database: Database) -> list[tuple[int, str]]:
    """Streams whose versions are not 1, 2, 3 …; read in the order of the streams, so that memory stays flat."""
    table, faults, last = events.c, [], ("", 0)
    query = select(table.stream_id, table.version, table.position).order_by(table.stream_id, table.version).limit(PAGE)
    while page := database.page(query.where(tuple_(table.stream_id, table.version) > tuple_(*map(literal, last)))):
        for stream_id, version, position in page:
            expected = last[1] + 1 if stream_id == last[0] else 1
            if version != expected:
                faults.append((position, f"version {version} of {stream_id} stands where {expected} belongs"))
            last = (stream_id, version)
    return faults


def _is_erased(database: Database, stream_id: str, position: int) -> bool:
    later = events.c.stream_id == stream_id, events.c.type == "ContentErased", events.c.position > position
    return bool(database.page(select(exists().where(*later)))[0][0])
