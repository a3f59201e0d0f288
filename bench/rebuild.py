"""Rebuilding both read models over 1,000,000 events: how fast, in how much memory, and what it costs those who append.

The log is one of `long_log`: four events to a posting, about a kilobyte each. Takes an hour, half of it to build logs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import get_args

from bench.databases import KINDS, Kind, clear_read_models, fresh_databases, settle
from bench.full_fold import full_fold
from bench.long_log import write_log
from bench.rebuild_command import NAMES, measure_appends, measure_jobs, measure_memory
from bench.rounds import Side, Target, compare
from bench.runner import projection_runner
from eventlog.database import Database
from projections.drift import Drift
from projections.rebuild import reconcile_named

EVENTS, MORE, FEW = 1_000_000, 5, 4_000
"""How many events: those of most measurements, so many times as many for the memory, those that the library folds."""

OURS, SQL, SAME, RUNNER = "rebuild from nothing", "full fold in SQL", "nothing differs", "ProjectionRunner"
TARGETS: dict[Kind, list[Target]] = {
    "postgresql": [Target(OURS, SQL, 1.0), Target(SAME, OURS, 1.5), Target(OURS, RUNNER, 50)],
    "sqlite": [Target(OURS, SQL, 0.8), Target(SAME, OURS, 1.5)],
}
ACTS = ("speed", "jobs", "appends", "memory")


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--only", choices=ACTS, help="one of the measurements")
    options = parser.parse_args()
    acts = [options.only] if options.only else ACTS
    for kind in options.kinds or KINDS:
        with _built(kind, options.events) as database:
            _measure(kind, database, options.events, acts)
        if "memory" in acts:
            with _built(kind, MORE * options.events) as database:
                measure_memory(database, kind, MORE * options.events)


def _measure(kind: Kind, database: Database, events: int, acts: Sequence[str]) -> None:
    if "speed" in acts:
        _measure_speed(kind, database, events)
    if "jobs" in acts and kind == "postgresql":
        measure_jobs(database, events)
    if "appends" in acts:
        measure_appends(database, kind)
    if "memory" in acts:
        measure_memory(database, kind, events)


def reconcile_both(database: Database, *, write: bool) -> list[Drift]:
    """Both read models, by one process and without a look at the chain."""
    return reconcile_named(database, NAMES, write=write)


@contextmanager
def _built(kind: Kind, events: int) -> Iterator[Database]:
    with fresh_databases() as databases:
        print(f"\n{kind}: building {events:,} events …", flush=True)
        write_log(databases[kind], events)
        settle(databases[kind])
        yield databases[kind]


def _measure_speed(kind: Kind, database: Database, events: int) -> None:
    with ExitStack() as stack:
        sides: dict[str, Side] = {
            OURS: _rate(events, lambda: _rebuild(database), lambda: clear_read_models(database)),
            SQL: _rate(events, lambda: full_fold(database), lambda: clear_read_models(database)),
            SAME: _rate(events, lambda: _look(database)),  # which also holds that the SQL gave the same
        }
        if kind == "postgresql":
            few = stack.enter_context(_built(kind, FEW))
            sides[RUNNER] = stack.enter_context(projection_runner(few))
        compare(f"both read models, {kind}", "events/s", sides, TARGETS[kind], rounds=3)


def _rate(events: int, act: Callable[[], None], prepare: Callable[[], None] = lambda: None) -> Side:
    def rate() -> float:
        prepare()
        started = time.perf_counter()
        act()
        return events / (time.perf_counter() - started)

    return rate


def _rebuild(database: Database) -> None:
    reconcile_both(database, write=True)


def _look(database: Database) -> None:
    for drift in reconcile_both(database, write=False):
        if drift.total:
            raise SystemExit(f"{drift.projection} is not what the log says: {drift.counts}, {drift.examples}")


if __name__ == "__main__":
    main()
