"""What a worker does beside its work: now and then it has the projections that follow the log go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from eventlog.database import Database
from eventlog.errors import EnrichlogError, FoldOutdated, FoldTooNew, LogUnsound, Unfoldable, UnknownEventType
from projections.catalogue import following
from projections.following import catch_up
from projections.spanning import SpanningProjection

logger = logging.getLogger(__name__)

EVERY_SECONDS = 30.0
PAGES = 5
"""So many are applied at one look, which is some tenths of a second: the heartbeat waits for it."""

REST = 19
"""So many times as long as a look took nothing is done then: a twentieth of the time is the most it takes."""


class KeepingUp:
    """Applies what was appended, so that whoever asks next need not wait for it.

    All workers do, and whoever comes first has done it. What keeps one from it is no reason to end.
    """

    def __init__(self, database: Database, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database, self._monotonic = database, monotonic
        self._next, self._told = monotonic(), set[str]()

    def look(self) -> None:
        """Go on with each, if that is due."""
        began = self._monotonic()
        if began < self._next:
            return
        self._next = began + EVERY_SECONDS
        is_done = [self._follow(one) for one in following().values()]
        ended = self._monotonic()
        rest = REST * (ended - began)
        self._next = ended + (max(EVERY_SECONDS, rest) if all(is_done) else rest)

    def _follow(self, projection: SpanningProjection[Any]) -> bool:
        """Whether nothing is left that could be applied soon."""
        try:
            return catch_up(self._database, projection, pages=PAGES)
        except (FoldOutdated, FoldTooNew, LogUnsound, UnknownEventType, Unfoldable) as stale:
            self._tell(projection.name, stale)
        except EnrichlogError as away:
            logger.debug("%s does not follow the log: %s", projection.name, away)
        return True

    def _tell(self, name: str, stale: EnrichlogError) -> None:
        """Warn once: it takes a person to mend it."""
        if name not in self._told:
            logger.warning("%s", stale)
        self._told.add(name)
