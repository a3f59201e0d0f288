"""Four processes that enrich out of one database, beside one process, and beside as many bare clients."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import threading
import time
from contextlib import ExitStack
from itertools import count
from multiprocessing.pool import Pool
from typing import Literal, NamedTuple

from bench.databases import fresh_databases
from bench.rounds import Side, Target, compare
from bench.service import import_postings, simulator_process
from bench.walk import CONCURRENCY, KEY, naive
from enrichlog.enrichment import enrichment_of
from enrichlog.runs import perform
from enrichlog.settings import Settings
from enrichlog.targets import open_scope
from eventlog.database import Database

PROCESSES, POSTINGS = 4, 2_000
"""So many postings for each process."""

CORES = 4
"""With fewer, clients, servers and database take each other's."""

Way = Literal["enrich", "bare"]


class Done(NamedTuple):
    """What one process did, and in how many seconds."""

    postings: int
    seconds: float


def main() -> None:
    """Measure on PostgreSQL; each process has a simulator of its own, so that no server is what all wait for."""
    with ExitStack() as stack:
        urls = [stack.enter_context(simulator_process()) for _ in range(PROCESSES)]
        database = stack.enter_context(fresh_databases())["postgresql"]
        context, sides = multiprocessing.get_context("spawn"), dict[str, Side]()
        for processes in (1, PROCESSES):
            arguments = (database.url, context.Queue(), context.Barrier(processes))
            for url in urls[:processes]:
                arguments[1].put(url)
            pool = stack.enter_context(context.Pool(processes, _open, arguments))
            sides[f"enrichlog, {_of(processes)}"] = _enriching(pool, database, processes)
            sides[f"bare client, {_of(processes)}"] = _side(pool, "bare", processes)
        ours, many = f"enrichlog, {_of(1)}", f"enrichlog, {_of(PROCESSES)}"
        targets = [Target(many, ours, 1.5)] if (os.cpu_count() or 1) >= CORES else []
        compare(f"enrichment, {CONCURRENCY} calls at once in each process", "postings/s", sides, targets, rounds=3)


def _of(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def _enriching(pool: Pool, database: Database, processes: int) -> Side:
    numbers, run = count(), _side(pool, "enrich", processes)

    def enrich() -> float:
        import_postings(database, f"by{processes}-{next(numbers)}", processes * POSTINGS)
        return run()

    return enrich


def _side(pool: Pool, way: Way, processes: int) -> Side:
    def side() -> float:
        done = pool.map(_work, [way] * processes, chunksize=1)
        total = sum(one.postings for one in done)
        if total != processes * POSTINGS:
            raise SystemExit(f"{total} of {processes * POSTINGS} postings were enriched")
        return total / max(one.seconds for one in done)

    return side


_database: Database
_settings: Settings
_together: threading.Barrier


def _open(url: str, servers: multiprocessing.Queue[str], together: threading.Barrier) -> None:
    """In each process: its server, and connections of its own."""
    global _database, _settings, _together
    _database, _together = Database(url), together
    _settings = Settings(base_url=servers.get(), api_key=KEY, prices_of="openai", concurrency=CONCURRENCY)


def _work(way: Way) -> Done:
    enrichment = enrichment_of(_settings)
    _together.wait()
    started = time.perf_counter()
    if way == "bare":
        asyncio.run(naive(enrichment, POSTINGS))
        done = POSTINGS
    else:
        done = perform(_database, _settings, enrichment, open_scope(_database, enrichment.name)).succeeded
    return Done(done, time.perf_counter() - started)


if __name__ == "__main__":
    main()
