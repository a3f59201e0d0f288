"""Recording past attempts: each stream's under its lock, once, and with room for whoever else appends meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sqlalchemy import RowMapping

from eventlog.database import Database
from eventlog.errors import DatabaseRefused, NotAppended
from eventlog.log import Proposal
from projections import enrichment_status
from projections.inline import append_all

Told = Mapping[str, list[Proposal]]
"""The events of streams, by stream; the first of each that its posting was noticed."""

BREATH_SECONDS = 0.02
"""Who waits for a file with one writer tries again within this time."""

_BREATHS = 20
_EVENTS_OF_A_STREAM = 4


class Recorded(NamedTuple):
    """Of which streams the attempts were recorded, as how many events, and why others could not be."""

    streams: set[str]
    events: int
    refused: dict[str, str]


def is_free(status: RowMapping) -> bool:
    """Whether nothing has happened to a posting but that it was noticed: what was decided of it since then stands."""
    return bool(status["version"] <= 1 and not status["attempts"])


class PastRecorder:
    """Appends the events of streams that are free; in a file that others append to, few at a time and with pauses."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last: int | None = None
        self._breaths = 0

    def record(self, told: Told) -> Recorded:
        """Record all that can be."""
        found = Recorded(set(), 0, {})
        for some in self._parts(told):
            one = self._record_or_part(some)
            refused = found.refused | one.refused
            found = Recorded(found.streams | one.streams, found.events + one.events, refused)
            if self._breaths:
                self._breaths -= 1
                time.sleep(BREATH_SECONDS)
        return found

    def _parts(self, told: Told) -> Iterator[Told]:
        most, streams = self._database.dialect.events_together, list(told)
        size = len(streams) if most is None else most // _EVENTS_OF_A_STREAM
        for first in range(0, len(streams), size or 1):
            yield {stream_id: told[stream_id] for stream_id in streams[first : first + size]}

    def _record_or_part(self, told: Told) -> Recorded:
        """Record the events of these streams together or, where one of them cannot be, stream by stream."""
        try:
            return self._record(told)
        except (NotAppended, DatabaseRefused) as error:
            if len(told) == 1:
                return Recorded(set(), 0, dict.fromkeys(told, str(error)))
        alone = [self._record_or_part({stream_id: told[stream_id]}) for stream_id in told]
        refused = {stream_id: reason for one in alone for stream_id, reason in one.refused.items()}
        return Recorded(set().union(*(one.streams for one in alone)), sum(one.events for one in alone), refused)

    def _record(self, told: Told) -> Recorded:
        with self._database.write() as connection:
            # Before any row is made, as a sync does: else these two could wait for each other.
            there = enrichment_status.lock(connection, told)
            enrichment_status.insert_missing(connection, self._database.dialect, told.keys() - there.keys())
            locked = there | enrichment_status.lock(connection, told.keys() - there.keys())
            free = {stream_id: row for stream_id, row in locked.items() if is_free(row)}
            noticed = {stream_id for stream_id, row in free.items() if row["version"]}
            events = [one for stream_id in free for one in told[stream_id][stream_id in noticed :]]
            appended = append_all(connection, self._database, events, free, shows=False)
        if appended:
            self._look_for_others(appended[0].position, appended[-1].position)
        return Recorded(set(free), len(events), {})

    def _look_for_others(self, first: int, last: int) -> None:
        """Make room for a while once somebody else has appended to a file, which has one writer at a time."""
        others_append = self._last is not None and first != self._last + 1
        if others_append and self._database.dialect.events_together is not None:
            self._breaths = _BREATHS
        self._last = last
