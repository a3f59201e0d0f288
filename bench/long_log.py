"""A long log as a fleet would have written it: numbered, chained, and put straight into the table.

The chain is a true one, so `verify` passes the log. The events of a stream lie as far apart as its calls and waits were
long, with those of thousands of others between them, and the streams are in no order of their names. The read models
stay empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from sqlalchemy import insert

from bench.stories import Story, Told, stories
from enrichlog.own_postings import job_postings
from eventlog.chain import GENESIS, SALT_BYTES, Sealed, digest_content, link
from eventlog.database import Database
from eventlog.events import iso
from eventlog.schema import part_of

EVENTS_TO_A_STREAM = 4
A_SECOND, TOGETHER = 100, 1_000
"""So many postings are imported a second; so many rows are written in one statement."""

PRIME, SCRAMBLED = 9_999_991, 6_180_339
"""Times the latter, modulo the former, ids are not in the order in which postings came."""

SEED = 7
BEGAN, FAR = datetime(2026, 1, 1, tzinfo=UTC), 10**15


class _Next(NamedTuple):
    """What happens next to a posting, and its attempt if one runs; the first that happens is the smallest."""

    at_ms: int
    number: int
    version: int
    attempt_id: str = ""
    started_at: str = ""
    started_position: int = 0


def write_log(database: Database, events: int) -> None:
    """Fill the log of an empty, migrated database, and the postings that it is about: one for every four events."""
    postings = events // EVENTS_TO_A_STREAM
    with database.write() as connection:
        rows = _rows(postings)
        while page := list(islice(rows, TOGETHER)):
            database.dialect.insert_events(connection, page)
        for first in range(0, postings, TOGETHER):
            numbers = range(first, min(first + TOGETHER, postings))
            connection.execute(insert(job_postings), [_posting(number) for number in numbers])


def job_id(number: int) -> str:
    """The id of the posting that came in as this one."""
    return f"posting-{PRIME + number * SCRAMBLED % PRIME}"


def _posting(number: int) -> dict[str, Any]:
    at = _time(_imported_ms(number))
    told = {"title": f"Data Engineer {number}", "description": "Builds pipelines.", "input_hash": _hash(number)}
    return {"id": job_id(number), **told, "imported_at": at}


def _rows(postings: int) -> Iterator[tuple[Any, ...]]:
    previous = GENESIS
    for position, (at_ms, sealed) in enumerate(_sealed(postings), 1):
        at, (event_id, stream_id, version, part, kind, facts, *content, digest) = _time(at_ms), sealed
        previous = link(previous, position, at, event_id, stream_id, version, kind, facts, digest)
        yield (position, event_id, stream_id, version, part, kind, at, facts, *content, digest, previous)


def _sealed(postings: int) -> Iterator[tuple[int, Sealed]]:
    """All events, in the order in which they happened."""
    told, random = stories(), Random(SEED)
    coming: list[_Next] = []
    position = 0
    for number in range(postings + 1):
        imported_ms = _imported_ms(number) if number < postings else FAR
        while coming and coming[0].at_ms < imported_ms:
            position += 1
            one = heappop(coming)
            story = told[one.number % len(told)]
            yield one.at_ms, _seal(one, story, random)
            if one.version < len(story):
                heappush(coming, _after(one, story, position, random))
        if number < postings:
            heappush(coming, _Next(imported_ms, number, 1))


def _after(one: _Next, story: Story, position: int, random: Random) -> _Next:
    """The next event of the same posting; whoever is to take it is up to a fifth of the wait late."""
    step = story[one.version]
    at_ms = one.at_ms + step.wait_ms + int(step.wait_ms * random.random() / 5)
    if step.type == "EnrichmentStarted":
        return _Next(at_ms, one.number, one.version + 1, _uuid(random))
    if one.attempt_id and not one.started_at:  # it has just begun
        return _Next(at_ms, one.number, one.version + 1, one.attempt_id, iso(_time(one.at_ms)), position)
    return _Next(at_ms, one.number, one.version + 1)


def _seal(one: _Next, story: Story, random: Random) -> Sealed:
    step = story[one.version - 1]
    stream_id = f"job-{job_id(one.number)}"
    happened = iso(_time(one.at_ms))
    told = Told(happened, one.attempt_id, one.started_at, str(one.started_position), _hash(one.number))
    facts = step.facts % told._asdict()
    salt = None if step.content is None else random.randbytes(SALT_BYTES)
    digest = digest_content(salt, step.content)
    return Sealed(
        _uuid(random), stream_id, one.version, part_of(stream_id), step.type, facts, step.content, salt, digest
    )


def _imported_ms(number: int) -> int:
    return number // TOGETHER * TOGETHER * 1_000 // A_SECOND


def _time(at_ms: int) -> datetime:
    return BEGAN + timedelta(milliseconds=at_ms)


def _hash(number: int) -> str:
    return f"{number:064x}"


def _uuid(random: Random) -> str:
    digits = f"{random.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
