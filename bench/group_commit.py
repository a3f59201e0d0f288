"""Group commit: 128 threads, each waiting for its durable acknowledgement, beside four processes of the library."""

from __future__ import annotations

import multiprocessing
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from multiprocessing.pool import Pool

from eventsourcing.persistence import ApplicationRecorder, OperationalError

from bench.baselines import eventsourcing_recorder, stored_events
from bench.databases import Kind, fresh_databases
from bench.payload import proposal
from bench.rounds import Target, compare, rate
from eventlog.database import Database
from eventlog.recorder import Recorder

SECONDS = 3.0
PRODUCERS, PROCESSES = 128, 4
OURS, THEIRS = f"eventlog, {PRODUCERS} producers", f"eventsourcing, {PROCESSES} processes"
TARGETS = {"postgresql": Target(OURS, THEIRS, 6.0), "sqlite": Target(OURS, THEIRS, 2.0)}


def main() -> None:
    """Measure on both databases."""
    with fresh_databases() as databases:
        for kind, database in databases.items():
            _measure(kind, database)


def _measure(kind: Kind, database: Database) -> None:
    with eventsourcing_recorder(database):  # its table is there before four processes look for it
        context = multiprocessing.get_context("spawn")
    arguments = (database.url, context.Barrier(PROCESSES))
    with context.Pool(PROCESSES, _open, arguments) as pool:
        sides = {OURS: lambda: _ours(database), THEIRS: lambda: _theirs(pool)}
        compare(f"group commit, {kind}", "durable events/s", sides, [TARGETS[kind]])
        pool.close()
        pool.join()  # in order: each process closes its own connections


def _ours(database: Database) -> float:
    def append() -> int:
        recorder.append(proposal())
        return 1

    def produce(_: int) -> float:
        barrier.wait()
        return rate(append, SECONDS)

    barrier = threading.Barrier(PRODUCERS)
    with Recorder(database) as recorder, ThreadPoolExecutor(PRODUCERS) as threads:
        return sum(threads.map(produce, range(PRODUCERS)))


def _theirs(pool: Pool) -> float:
    return sum(pool.map(_produce, [SECONDS] * PROCESSES, chunksize=1))


_opened: AbstractContextManager[ApplicationRecorder]  # kept, because it closes what it opened when it goes
_recorder: ApplicationRecorder
_together: threading.Barrier


def _open(url: str, together: threading.Barrier) -> None:
    """In each process of the library: a recorder of its own."""
    global _opened, _recorder, _together
    _opened, _together = eventsourcing_recorder(Database(url)), together
    _recorder = _opened.__enter__()


def _produce(seconds: float) -> float:
    """Commit one by one; a busy SQLite file is tried again."""
    _together.wait()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        try:
            done += len(_recorder.insert_events(stored_events(1)) or ())
        except OperationalError as error:
            if "locked" not in str(error):
                raise
    return done / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
