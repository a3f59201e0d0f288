"""Group commit: what concurrent attempts produce together is committed together, by one thread of the process."""

from __future__ import annotations

import logging
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


class _Submission(NamedTuple):
    proposals: tuple[Proposal, ...]
    acknowledged: Future[list[Appended]]


class Recorder:
    """Appends what many producers submit, and acknowledges each once it is durable.

    A conflict, or a refusal by the database, reaches only the producer whose event it is. While the database is away
    submissions are held and tried again for `patience` seconds; what was written before the connection broke is
    recognised by its event id. Use it as a context manager: leaving it waits for all that was submitted.
    """

    def __init__(self, database: Database, inline: Inline | None = None, patience: float = PATIENCE_SECONDS) -> None:
        self._database, self._inline, self._patience = database, inline, patience
        self._waiting: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._closing, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="enrichlog-recorder", daemon=True)

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._closing:
            self._closed = True
            self._waiting.put(None)
        self._thread.join()

    def submit(self, *proposals: Proposal) -> Future[list[Appended]]:
        """Have these appended together, in order. The future raises `Conflict` or the database's error."""
        submission = _Submission(proposals, Future())
        with self._closing:  # nothing may come behind the mark of the end: nobody would take it
            if self._closed:
                raise NotAppended(reason="the recorder has ended")
            self._waiting.put(submission)
        return submission.acknowledged

    def append(self, *proposals: Proposal) -> list[Appended]:
        """Submit, and wait until it is durable."""
        return self.submit(*proposals).result()

    def _run(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._gather()
            if batch:
                self._commit(batch)

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
        try:
            outcomes = self._append([proposal for one in batch for proposal in one.proposals])
        except (DatabaseBusy, DatabaseUnavailable) as away:
            for one in batch:
                _fail(one, away)
        except Exception as refused:  # whatever it is: a producer must never wait for an answer that cannot come
            if len(batch) == 1:
                _fail(batch[0], refused)
            else:
                for one in batch:
                    self._commit([one])
        else:
            _acknowledge(batch, outcomes)

    def _append(self, proposals: Sequence[Proposal]) -> list[Outcome]:
        """Append in one transaction; a database that is busy or away is tried again with a jittered wait."""
        deadline, pause = time.monotonic() + self._patience, 0.05
        while True:
            try:
                with self._database.write() as connection:
                    return append(connection, self._database.dialect, proposals, self._inline)
            except (DatabaseBusy, DatabaseUnavailable) as away:
                if time.monotonic() + pause > deadline:
                    raise
                logger.warning("%s Trying again.", away)
                time.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, 5.0)


def _acknowledge(batch: Sequence[_Submission], outcomes: Sequence[Outcome]) -> None:
    position = 0
    for one in batch:
        mine = outcomes[position : position + len(one.proposals)]
        position += len(one.proposals)
        conflict = next((outcome for outcome in mine if isinstance(outcome, Conflict)), None)
        if conflict is not None:
            _fail(one, conflict)
        elif one.acknowledged.set_running_or_notify_cancel():  # else nobody waits for it any more
            one.acknowledged.set_result([outcome for outcome in mine if isinstance(outcome, Appended)])


def _fail(one: _Submission, error: Exception) -> None:
    if one.acknowledged.set_running_or_notify_cancel():
        one.acknowledged.set_exception(error)
