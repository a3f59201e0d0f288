"""What a worker does where it cannot simply go on: a run comes to its end, a daemon waits and looks again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from enrichlog.anew import with_failures_anew
from enrichlog.enrichment import Enrichment
from enrichlog.exceptions import UnusableSource
from enrichlog.orphans import close_overdue
from enrichlog.passed_over import show_what_was_passed_over
from enrichlog.patience import Patience
from enrichlog.scope import Scope
from enrichlog.settings import Settings
from enrichlog.targets import open_scope
from enrichlog.workers import count_live
from eventlog.database import Database

SYNC_SHARE = 20
"""To look for new postings, and for failures to be tried anew, takes no more than such a part of the daemons' time."""


@dataclass(frozen=True)
class Course:
    """How long a worker waits, and for what.

    `poll_seconds` after which a worker that found nothing looks again; None: it ends. `renewed` gives the scope of the
    next claim.
    """

    patience: Patience
    renewed: Callable[[Scope], Scope] = lambda scope: scope
    poll_seconds: float | None = None

    @property
    def is_endless(self) -> bool:
        """Whether it is a daemon's: going on is never useless then, because the breaker and the limits hold what is."""
        return self.poll_seconds is not None


def to_the_end(*, patient: bool = False) -> Course:
    """A run's; a `patient` one waits for the probe of an open breaker, and ends when that fails."""
    return Course(Patience(waits_for_probe=patient))


def for_ever(database: Database, settings: Settings, enrichment: Enrichment, poll_seconds: float) -> Course:
    """A daemon's: what is new or due later comes into its scope as time goes by."""
    horizon = Horizon(database, settings, enrichment, poll_seconds)
    return Course(Patience(waits_for_probe=True, is_endless=True), horizon, poll_seconds)


class Horizon:
    """The moving horizon of a daemon's scope: now, and again after each `poll_seconds`.

    New and changed postings are looked for on the way, as often as that takes no more than a part of the time, that of
    all workers together: among a million it takes seconds, of the database too.
    """

    def __init__(
        self, database: Database, settings: Settings, enrichment: Enrichment, poll_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._database, self._settings, self._enrichment = database, settings, enrichment
        self._poll_seconds, self._monotonic = poll_seconds, monotonic
        self._next = self._next_sync = -math.inf

    def __call__(self, scope: Scope) -> Scope:
        """The scope as of now, or as it was when that is not long ago. Raises what the database raises.

        `UnusableSource` is raised once for each look at all postings: what is known already has its turn meanwhile.
        """
        began = self._monotonic()
        if began < self._next:
            return scope
        scope = self._sync(began) if began >= self._next_sync else Scope(self._database.now(), basis=scope.basis)
        close_overdue(self._database, self._enrichment.name)  # a claim that is always full never comes to it
        show_what_was_passed_over(self._database)
        self._next = self._monotonic() + self._poll_seconds
        return scope

    def _sync(self, began: float) -> Scope:
        """What is new and changed is requested, and the next look put off."""
        try:
            scope = open_scope(self._database, self._enrichment.name)
            scope = with_failures_anew(self._database, scope, self._enrichment, self._settings.max_attempts)
        except UnusableSource:
            self._put_off(began)
            raise
        self._put_off(began)
        return scope

    def _put_off(self, began: float) -> None:
        took, live = self._monotonic() - began, count_live(self._database)
        self._next_sync = self._monotonic() + SYNC_SHARE * took * max(1, live)
