"""Group commit: what concurrent attempts produce together is committed together, by one thread of the process."""

from __future__ import annotations

import logging
import math
import queue
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from eventlog.database import Database
from eventlog.errors import Conflict, DatabaseBusy, DatabaseUnavailable, NotAppended
from eventlog.log import Appended, Inline, Outcome, Proposal, append

logger = logging.getLogger(__name__)

BATCH = 1_000
PATIENCE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 5.0
"""Between two tries, so that work goes on soon once the database is back."""

_AWAY = (DatabaseBusy, DatabaseUnavailable)


class _Submission(NamedTuple):
    proposal: Proposal
    acknowledged: Future[Appended]


class Recorder:
    """Appends what many producers submit, and acknowledges each once it is durable.

    A conflict, or a refusal by the database, reaches only the producer whose event it is. While the database is away
    submissions are held and tried again for `patience` seconds, which may be endless; what was written before the
    connection broke is recognised by its event id. Use it as a context manager: leaving it waits for all that was
    submitted.
    """

    def __init__(self, database: Database, inline: Inline | None = None, patience: float = PATIENCE_SECONDS) -> None:
        self._database, self._inline, self._patience = database, inline, patience
        self._holding, self._changed, self._until = threading.Event(), threading.Event(), math.inf
        self._waiting: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._closing, self._closed = threading.Lock(), False
        self._told: type[Exception] | None = None
        self._thread = threading.Thread(target=self._run, name="enrichlog-recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin to append."""
        self._thread.start()

    def close(self) -> None:
        """Take nothing more, and wait until all that was submitted is recorded, or has failed."""
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    @property
    def is_holding(self) -> bool:
        """Whether the database was away, and not all that came meanwhile is recorded yet."""
        return self._holding.is_set()

    def hurry(self, seconds: float) -> None:
        """From now on, bear a database that is away for no longer than this in all."""
        self._until = min(self._until, time.monotonic() + seconds)
        self._changed.set()

    def submit(self, proposal: Proposal) -> Future[Appended]:
        """Have this appended. The future raises `Conflict` or the database's error."""
        submission = _Submission(proposal, Future())
        with self._closing:  # nothing may come behind the mark of the end: nobody would take it
            if self._closed:
                raise NotAppended(reason="the recorder has ended")
            self._waiting.put(submission)
        return submission.acknowledged

    def append(self, proposal: Proposal) -> Appended:
        """Submit, and wait until it is durable."""
        return self.submit(proposal).result()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._gather()
            if batch:
                self._commit(batch)
            if self._waiting.empty():  # what came while the database was away is not recorded before
                self._holding.clear()

    def _gather(self) -> tuple[list[_Submission], bool]:
        """All that waits, at most a batch; and whether more can come."""
        batch: list[_Submission] = []
        waiting = self._waiting.get()
        while waiting is not None:
            batch.append(waiting)
            if len(batch) >= BATCH:
                return batch, True
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return batch, True
        return batch, False

    def _commit(self, batch: Sequence[_Submission]) -> None:
        """Append a batch; when something in it is refused, each finds out for itself whether it was meant."""
        began = time.monotonic()  # one patience for the batch, however often it is tried
        try:
            outcomes = self._append(batch, began)
        except _AWAY as away:
            _fail(batch, away)
        except Exception:  # whatever it is: a producer must never wait for an answer that cannot come
            self._commit_one_by_one(batch, began)
        else:
            _acknowledge(batch, outcomes)

    def _commit_one_by_one(self, batch: Sequence[_Submission], began: float) -> None:
        """Try each alone. One that was alone already is tried a second time.

        A UNIQUE constraint fires when somebody else commits the same first: now that is there to be found.
        """
        for number, one in enumerate(batch):
            try:
                outcomes = self._append([one], began)
            except _AWAY as away:
                _fail(batch[number:], away)
                return
            except Exception as refused:
                _fail([one], refused)
            else:
                _acknowledge([one], outcomes)

    def _append(self, batch: Sequence[_Submission], began: float) -> list[Outcome]:
        """Append in one transaction; a database that is busy or away is tried again with a jittered wait."""
        proposals, pause = [one.proposal for one in batch], 0.05
        while True:
            try:
                with self._database.write() as connection:
                    outcomes = append(connection, self._database.dialect, proposals, self._inline)
            except _AWAY as away:
                left = min(began + self._patience, self._until) - time.monotonic()
                if left <= 0:
                    raise
                self._tell(away)
                self._wait(min(pause * random.uniform(0.5, 1.0), left))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                self._told = None
                return outcomes

    def _wait(self, seconds: float) -> None:
        """Wait with what is held, unless there is less time by now."""
        self._holding.set()
        if self._changed.wait(seconds):
            self._changed.clear()

    def _tell(self, away: Exception) -> None:
        """Warn once for each time that the database is away; its words may differ at every try."""
        if type(away) is not self._told:
            bound = "" if math.isinf(self._patience) else f" for {self._patience:g} s"
            logger.warning("%s Trying again%s.", away, bound)
        self._told = type(away)


def _acknowledge(batch: Sequence[_Submission], outcomes: Sequence[Outcome]) -> None:
    for one, outcome in zip(batch, outcomes, strict=True):
        if isinstance(outcome, Conflict):
            _fail([one], outcome)
        elif one.acknowledged.set_running_or_notify_cancel():  # else nobody waits for it any more
            one.acknowledged.set_result(outcome)


def _fail(batch: Sequence[_Submission], error: Exception) -> None:
    for one in batch:
        if one.acknowledged.set_running_or_notify_cancel():
            one.acknowledged.set_exception(error)
