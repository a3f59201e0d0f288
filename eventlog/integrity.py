"""Whether the log is what was appended: positions without gaps, versions in order, the hash chain unbroken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import LargeBinary, RowMapping, cast, exists, literal, select, tuple_

from eventlog.chain import GENESIS, SALT_BYTES, Sealed, digest_content, link
from eventlog.database import Database
from eventlog.errors import DatabaseRefused, Unfoldable, UnknownEventType
from eventlog.log import PAGE, recorded
from eventlog.schema import events, part_of

UNREADABLE = "it cannot be read: a column holds what was never appended"

_READ_ERRORS = (ValueError, TypeError, LookupError, AttributeError, DatabaseRefused)  # DatabaseRefused: by the driver
_TYPES = [(column.name, column.type.python_type, column.nullable) for column in events.columns]


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
    last, previous, faults = 0, GENESIS, list[tuple[int, str]]()
    for position, row in _rows(database):
        if position < 1:
            faults.append((position, "positions begin at 1"))
            continue
        reason = UNREADABLE if row is None else _fault(database, row, last, previous)
        if reason:
            faults.append((position, reason))
        last, previous = position, _hash_at(database, position) if row is None else row["hash"]
    if all(reason != UNREADABLE for _, reason in faults):  # else versions cannot be told either
        faults += _version_faults(database)
    return LogReport(last, Anchor(last, previous.hex()), faults)


def compare(database: Database, anchor: Anchor) -> tuple[int, str] | None:
    """The fault of the log at an anchor, as (position, what differs); None when the event there is the anchor's.

    Position 0 is before the first event: the anchor of an empty log is true of every log.
    """
    found = _hash_at(database, anchor.position) if anchor.position else GENESIS
    if not found:
        return anchor.position, "it is missing, and an anchor says that it was there"
    if found.hex() != anchor.hash:
        return anchor.position, "its hash is not that of the anchor"
    return None


def _rows(database: Database) -> Iterator[tuple[int, RowMapping | None]]:
    """All positions in order, each with its row, or with None where that cannot be read."""
    positions = _positions(database, None)
    while positions:
        try:
            rows = _page(database, positions[0], positions[-1])
        except _READ_ERRORS:  # then one by one, to find which
            rows = [row for position in positions for row in _readable(database, position)]
        found = {row["position"]: row for row in rows}
        yield from ((position, found.get(position)) for position in positions)
        positions = _positions(database, positions[-1])


def _positions(database: Database, after: int | None) -> list[int]:
    """The positions of the next page; the first has no lower bound, because what is wrong may stand below 1."""
    query = select(events.c.position).order_by(events.c.position).limit(PAGE)
    return [row[0] for row in database.page(query if after is None else query.where(events.c.position > after))]


def _page(database: Database, first: int, last: int) -> list[RowMapping]:
    """The rows of a page whose columns all have their types: SQLite keeps whatever it is given."""
    query = select(events).where(events.c.position.between(first, last)).order_by(events.c.position)
    return [row._mapping for row in database.page(query) if _has_the_types(row._mapping)]


def _readable(database: Database, position: int) -> list[RowMapping]:
    try:
        return _page(database, position, position)
    except _READ_ERRORS:
        return []


def _has_the_types(row: RowMapping) -> bool:
    return all(nullable if (value := row[name]) is None else isinstance(value, kind) for name, kind, nullable in _TYPES)


def _hash_at(database: Database, position: int) -> bytes:
    """The hash as stored, whatever its type; empty when there is none."""
    found = database.page(select(cast(events.c.hash, LargeBinary)).where(events.c.position == position))
    return (found[0][0] if found else None) or b""


def _fault(database: Database, row: RowMapping, last: int, previous: bytes) -> str | None:
    sealed = Sealed(*(row[name] for name in Sealed._fields))
    stream_id = sealed.stream_id
    if row["position"] != last + 1:
        return f"positions {last + 1} to {row['position'] - 1} are missing"
    if sealed.part != part_of(stream_id):
        return f"its part is {sealed.part}, that of {stream_id} is {part_of(stream_id)}"
    if (
        link(previous, row["position"], row["recorded_at"], *sealed[:3], *sealed[4:6], sealed.content_digest)
        != row["hash"]
    ):
        return "its hash does not follow from the event before and its own header and facts"
    if sealed.salt is None and sealed.content is None and digest_content(None, None) != sealed.content_digest:
        return None if _is_erased(database, stream_id, row["position"]) else "its content is gone and was never erased"
    if not _is_salted(sealed) or digest_content(sealed.salt, sealed.content) != sealed.content_digest:
        return "its content is not what was appended"
    try:
        recorded(row)
    except (UnknownEventType, Unfoldable) as unknown:
        return str(unknown)
    except _READ_ERRORS:  # chained, and yet no event
        return UNREADABLE
    return None


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


def _is_salted(sealed: Sealed) -> bool:
    """Whether a whole salt stands before content, and none elsewhere: the digest cannot tell where one ends."""
    salt_bytes = None if sealed.salt is None else len(sealed.salt)
    return salt_bytes == (None if sealed.content is None else SALT_BYTES)


def _is_erased(database: Database, stream_id: str, position: int) -> bool:
    later = events.c.stream_id == stream_id, events.c.type == "ContentErased", events.c.position > position
    return bool(database.page(select(exists().where(*later)))[0][0])
