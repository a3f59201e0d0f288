"""`enrichlog rebuild` as a process of its own: its memory, what a second process brings, and who waits for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from statistics import quantiles

from bench.databases import Kind, clear_read_models
from bench.memory import CLI
from bench.rounds import Side, Target, compare
from eventlog.database import Database
from eventlog.events import EnrichmentRequested
from eventlog.streams import stream_of
from projections import enrichment_status, llm_enrichment
from tests.builders import offer, proposal

NAMES = (enrichment_status.projection.name, llm_enrichment.projection.name)
PEAK_MIB, JOBS, JOBS_RATIO, SLOWER = 150, 2, 1.6, 3.0
"""The targets: the peak, what so many processes bring, and how much longer an append may take (p99)."""

QUIET_SECONDS, APPENDS_A_SECOND = 10.0, 100
KIB_TO_MIB = 2**10 if sys.platform != "darwin" else 2**20
"""Of the peak that the system tells of a process that has ended."""


def measure_memory(database: Database, kind: Kind, events: int) -> None:
    """The peak of a process that rebuilds both from nothing."""
    clear_read_models(database)
    with _rebuilding(database) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    peak = usage.ru_maxrss / KIB_TO_MIB
    verdict = "met" if peak <= PEAK_MIB else "MISSED"
    print(f"  {kind}, {events:,} events: peak {peak:.0f} MiB   target ≤ {PEAK_MIB}   {verdict}", flush=True)


def measure_jobs(database: Database, events: int) -> None:
    """How fast the command is with so many processes, and with one."""

    def rate(jobs: int) -> Side:
        def side() -> float:
            clear_read_models(database)
            started = time.perf_counter()
            with _rebuilding(database, "--jobs", str(jobs)):
                pass
            return events / (time.perf_counter() - started)

        return side

    one, more = "--jobs 1", f"--jobs {JOBS}"
    sides = {one: rate(1), more: rate(JOBS)}
    compare("rebuild, postgresql", "events/s", sides, [Target(more, one, JOBS_RATIO)], rounds=3)


def measure_appends(database: Database, kind: Kind) -> None:
    """How long appends take to be acknowledged, each of a new posting, with and without a rebuild beside them."""
    numbers = count()

    def append() -> float:
        asked = proposal(stream_of("job", f"late-{next(numbers)}"), EnrichmentRequested(why="new", actor="bench"))
        started = time.perf_counter()
        offer(database, asked)
        return 1e3 * (time.perf_counter() - started)

    def quiet() -> float:
        end = time.monotonic() + QUIET_SECONDS
        return _p99(append, lambda: time.monotonic() < end)

    def beside() -> float:
        clear_read_models(database)
        with _rebuilding(database) as process:
            return _p99(append, lambda: process.poll() is None)

    alone, during = "appends alone", "appends during a rebuild"
    target = Target(during, alone, SLOWER, at_most=True)
    title = f"{APPENDS_A_SECOND} appends a second, {kind}"
    compare(title, "ms, p99", {alone: quiet, during: beside}, [target], rounds=3)


def _p99(act: Callable[[], float], goes_on: Callable[[], bool]) -> float:
    """Of what `act` returns, in a steady pace."""
    found, due = list[float](), time.monotonic()
    while goes_on():
        found.append(act())
        due += 1 / APPENDS_A_SECOND
        time.sleep(max(0.0, due - time.monotonic()))
    return quantiles(found, n=100)[98]


@contextmanager
def _rebuilding(database: Database, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The command, from its start to its end."""
    line = [sys.executable, str(CLI), "rebuild", *NAMES, *options, "--json", "--database", database.url]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL) as process:
        yield process
    if process.returncode:
        raise SystemExit(f"rebuild {' '.join(options)} ended with {process.returncode}")
