"""Appending to the log alone, chain included, by one writer: one event in each transaction, and a thousand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from bench.baselines import eventsourcing_recorder, raw_insert, stored_events
from bench.databases import Kind, fresh_databases
from bench.payload import proposal
from bench.rounds import Side, Target, compare, rate
from eventlog.database import Database
from eventlog.log import append

SECONDS = 2.0
BATCH = 1_000
OURS, BARE, THEIRS = "eventlog", "psycopg insert + commit", "eventsourcing recorder"
SINGLE_TARGETS: dict[Kind, list[Target]] = {
    "postgresql": [Target(OURS, BARE, 0.4), Target(OURS, THEIRS, 1.5)],
    "sqlite": [Target(OURS, THEIRS, 0.8)],
}
BATCH_TARGETS: dict[Kind, list[Target]] = {
    "postgresql": [Target(OURS, THEIRS, 2.0)],
    "sqlite": [Target(OURS, THEIRS, 0.7)],
}


def main() -> None:
    """Measure on both databases."""
    with fresh_databases() as databases:
        for kind, database in databases.items():
            _measure(kind, database)


def _measure(kind: Kind, database: Database) -> None:
    with ExitStack() as stack:
        recorder = stack.enter_context(eventsourcing_recorder(database))

        def theirs(size: int) -> Callable[[], int]:
            return lambda: len(recorder.insert_events(stored_events(size)) or ())

        singles: dict[str, Callable[[], int]] = {OURS: _append(database, 1), THEIRS: theirs(1)}
        if kind == "postgresql":
            singles[BARE] = stack.enter_context(raw_insert(database))
        compare(f"append one by one, {kind}", "events/s", _timed(singles), SINGLE_TARGETS[kind])
        batches = {OURS: _append(database, BATCH), THEIRS: theirs(BATCH)}
        compare(f"append in batches of {BATCH:,}, {kind}", "events/s", _timed(batches), BATCH_TARGETS[kind])


def _append(database: Database, size: int) -> Callable[[], int]:
    def step() -> int:
        proposals = [proposal() for _ in range(size)]
        with database.write() as connection:
            return len(append(connection, database.dialect, proposals))

    return step


def _timed(steps: dict[str, Callable[[], int]]) -> dict[str, Side]:
    def side(step: Callable[[], int]) -> Side:
        return lambda: rate(step, SECONDS)

    return {name: side(step) for name, step in steps.items()}


if __name__ == "__main__":
    main()
