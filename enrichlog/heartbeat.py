"""The heartbeat of a worker: what it is doing is written to its row every few seconds, and when that makes it ready."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from enrichlog.exceptions import NameElsewhere
from enrichlog.workers import UNREADY, Registration, beat
from eventlog.database import Database
from eventlog.errors import EnrichlogError

logger = logging.getLogger(__name__)

BEAT_SECONDS = 10.0


class Heartbeat:
    """Writes the row of a worker, and has `lost` told why when another has taken the name.

    A database that is away is no reason to end, and the next beat is tried like any other.
    """

    def __init__(
        self, database: Database, worker: Registration, since: datetime, lost: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._database, self._worker, self._since, self._lost = database, worker, since, lost
        self._monotonic, self._next, self._was_ready = monotonic, monotonic(), False

    def look(self, state: str, in_flight: int) -> None:
        """Write how the worker is, if that is due or makes it ready or unready."""
        now, is_ready = self._monotonic(), state not in UNREADY
        if now < self._next and is_ready == self._was_ready:
            return
        self._next, self._was_ready = now + BEAT_SECONDS, is_ready
        try:
            beat(self._database, self._worker, self._since, state, in_flight)
        except NameElsewhere as taken:
            self._lost(str(taken))
        except EnrichlogError as away:
            logger.debug("no heartbeat: %s", away)
