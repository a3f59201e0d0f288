"""Whether the log is what was appended: positions without gaps, versions in order, the chain unbroken, all foldable."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain, islice, pairwise
from typing import Any, NamedTuple

from sqlalchemy import Select, func, literal, select, tuple_

from eventlog.chain import GENESIS
from eventlog.database import Database, Place
from eventlog.faults import Fault, before, faults_in, hash_at, unsound
from eventlog.log import PAGE
from eventlog.schema import events
from eventlog.side_by_side import Progress, do_all

MOST_TOLD = 1_000
"""So many faults are told one by one; more are counted."""

_LAST = 2**63 - 1  # more than any position


class Anchor(NamedTuple):
    """A position and its hash, to be kept outside the database: it proves all events up to there."""

    position: int
    hash: str


class LogReport(NamedTuple):
    """What checking the log found: how many events, its anchor, and each fault as (position, what is wrong).

    `more` is how many faults there are beside those.
    """

    events: int
    anchor: Anchor
    faults: list[Fault]
    more: int = 0


def verify_log(database: Database, progress: Progress = lambda events: None, jobs: int = 1) -> LogReport:
    """Check all events that the log holds by now; memory stays flat.

    `progress` is called with the number of events of each page. With several `jobs` so many processes share the work,
    each with a range of positions.
    """
    anchor = head(database)
    if jobs > 1:
        return _verify_in_processes(database, anchor, progress, jobs)
    found = log_faults(database, anchor.position, progress)
    told = list(islice(found, MOST_TOLD))
    return LogReport(anchor.position, anchor, told, sum(1 for _ in found))


def require_sound(database: Database, progress: Progress = lambda events: None, jobs: int = 1) -> Anchor:
    """Where the log ends by now, all of it up to there being sound. Raises what `unsound` makes of the first fault."""
    anchor = head(database)
    if jobs == 1:
        require_sound_until(database, anchor.position, progress)
    else:
        for fault in _verify_in_processes(database, anchor, progress, jobs).faults:
            raise unsound(fault)
    return anchor


def require_sound_until(database: Database, until: int, progress: Progress = lambda events: None) -> None:
    """Raises what `unsound` makes of the first fault up to this position, if there is one."""
    for fault in log_faults(database, until, progress):
        raise unsound(fault)


def head(database: Database) -> Anchor:
    """Where the log ends."""
    position, stored = before(database, _LAST)
    return Anchor(position, stored.hex())


def log_faults(database: Database, until: int, progress: Progress = lambda events: None) -> Iterator[Fault]:
    """All faults up to this position, as they are found: whoever wants none takes the first and stops.

    Versions are looked at where nothing else is wrong: else their gaps are what has been told already, a second time.
    """
    is_sound = True
    for fault in chain(_below_the_first(database), faults_in(database, 0, until, progress)):
        is_sound = False
        yield fault
    if is_sound:
        yield from (fault for fault in version_faults(database) if fault[0] <= until)


class _Faults(NamedTuple):
    """The first faults of a range of positions, and how many more there are."""

    told: list[Fault]
    more: int


def _verify_in_processes(database: Database, anchor: Anchor, progress: Progress, jobs: int) -> LogReport:
    cuts = [anchor.position * number // jobs for number in range(jobs + 1)]
    tasks = [partial(_faults_between, database.place, after, until) for after, until in pairwise(cuts)]
    parts = do_all(tasks, progress)
    told = [*_below_the_first(database), *(fault for part in parts for fault in part.told)]
    told = told or list(islice(version_faults(database), MOST_TOLD))
    more = sum(part.more for part in parts) + len(told[MOST_TOLD:])
    return LogReport(anchor.position, anchor, told[:MOST_TOLD], more)


def _faults_between(place: Place, after: int, until: int, progress: Progress) -> _Faults:
    """Those of a range, found by a process of its own."""
    database = Database(*place)
    try:
        found = faults_in(database, after, until, progress)
        return _Faults(list(islice(found, MOST_TOLD)), sum(1 for _ in found))
    finally:
        database.close()


def compare(database: Database, anchor: Anchor) -> Fault | None:
    """The fault of the log at an anchor; None when the event there is the anchor's.

    Position 0 is before the first event: the anchor of an empty log is true of every log.
    """
    found = hash_at(database, anchor.position) if anchor.position else GENESIS
    if not found:
        return anchor.position, "it is missing, and an anchor says that it was there"
    if found.hex() != anchor.hash:
        return anchor.position, "its hash is not that of the anchor"
    return None


def version_faults(database: Database) -> Iterator[Fault]:
    """Events of streams whose versions are not 1, 2, 3 …; a page of streams at a time, so that memory stays flat."""
    name, version = events.c.stream_id, events.c.version
    counts = func.count(), func.count(version.distinct()), func.min(version), func.max(version)
    query: Select[Any] = select(name, *counts).group_by(name).order_by(name).limit(PAGE)
    after = ""
    while page := database.page(query.where(name > after)):
        for stream_id, *counted, first, last in page:
            if first != 1 or counted != [last, last]:
                yield from _version_faults(database, stream_id)
        after = page[-1].stream_id


def _version_faults(database: Database, stream_id: str) -> Iterator[Fault]:
    table, last, at = events.c, 0, 0
    query = select(table.version, table.position).where(table.stream_id == stream_id)
    query, place = query.order_by(table.version, table.position).limit(PAGE), tuple_(table.version, table.position)
    while page := database.page(query.where(place > tuple_(literal(last), literal(at)))):
        for version, position in page:
            if version != last + 1:
                yield position, f"version {version} of {stream_id} stands where {last + 1} belongs"
            last, at = version, position


def _below_the_first(database: Database) -> Iterator[Fault]:
    query = select(events.c.position).where(events.c.position < 1).order_by(events.c.position)
    after: int | None = None
    while page := database.page((query if after is None else query.where(events.c.position > after)).limit(PAGE)):
        yield from ((row.position, "positions begin at 1") for row in page)
        after = page[-1].position
