"""Claims: how many postings four processes take in a second, and whether a million that wait make a claim slower."""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from multiprocessing.pool import Pool
from statistics import median
from typing import Literal

import psycopg

from bench.databases import KINDS, fresh_databases
from bench.grown import PENDING, grow
from bench.rounds import Side, Target, compare, rate
from enrichlog.claims import claim
from enrichlog.enrichment import enrichment_of
from enrichlog.scope import Scope
from enrichlog.settings import Settings
from eventlog.database import Database
from tests.builders import run

PROCESSES, TOGETHER, SECONDS = 4, 10, 1.0
POSTINGS, FEW, MANY = 400_000, 1_000, 1_000_000
CLAIMS = 10
"""In a round of latencies: all rounds together leave something of the few."""

Way = Literal["claim", "bare"]
OURS, BARE = f"claim of {TOGETHER}", "bare UPDATE … SKIP LOCKED … RETURNING"
TAKE = f"""
UPDATE bare_queue SET state = 'running', attempts = attempts + 1, version = version + 1,
    due_at = clock_timestamp() + interval '360 seconds'
WHERE stream_id IN (
    SELECT stream_id FROM bare_queue WHERE state = 'pending' AND enrichment = 'job'
    ORDER BY due_at LIMIT {TOGETHER} FOR UPDATE SKIP LOCKED)
RETURNING *
"""


def main() -> None:
    """Measure the rate on PostgreSQL, and the latency on both databases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postings", type=int, default=MANY, help="how many wait where many do")
    options = parser.parse_args()
    with fresh_databases() as databases:
        _measure_rate(databases["postgresql"])
    with fresh_databases() as few, fresh_databases() as many:
        for kind in KINDS:
            sides = {
                f"{number:,} pending": _latency(found[kind], number)
                for found, number in ((few, FEW), (many, options.postings))
            }
            slower, faster = reversed(sides)
            target = Target(slower, faster, 1.5, at_most=True)
            compare(f"a claim of {TOGETHER}, {kind}", "ms, medians", sides, [target])


def _measure_rate(database: Database) -> None:
    _build(database, POSTINGS)
    ours = database.dialect.qualified("enrichment_status")
    run(database, f"CREATE TABLE bare_queue (LIKE {ours} INCLUDING ALL)")
    run(database, f"INSERT INTO bare_queue SELECT * FROM {ours}")
    run(database, "ANALYZE")
    context = multiprocessing.get_context("spawn")
    with context.Pool(PROCESSES, _open, (database.url, context.Barrier(PROCESSES))) as pool:
        sides: dict[str, Side] = {OURS: lambda: _rate(pool, "claim"), BARE: lambda: _rate(pool, "bare")}
        compare(f"claims by {PROCESSES} processes", "postings/s", sides, [Target(OURS, BARE, 0.3)])
        pool.close()
        pool.join()  # in order: each process closes its own connections


def _rate(pool: Pool, way: Way) -> float:
    return sum(pool.map(_take_for_a_while, [way] * PROCESSES, chunksize=1))


_takes: dict[Way, Callable[[], int]]
_together: threading.Barrier
_kept = ExitStack()


def _open(url: str, together: threading.Barrier) -> None:
    """In each process: connections of its own for both ways."""
    global _takes, _together
    bare = _kept.enter_context(psycopg.connect(url, autocommit=True))
    _takes, _together = (
        {"claim": _claiming(Database(url)), "bare": lambda: len(bare.execute(TAKE).fetchall())},
        together,
    )


def _take_for_a_while(way: Way) -> float:
    _together.wait()
    return rate(lambda: _some(_takes[way]()), SECONDS)


def _claiming(database: Database) -> Callable[[], int]:
    """Claims by a worker of its own, of whatever is due."""
    settings = Settings(base_url="http://127.0.0.1:9/v1", api_key="sk-bench", prices_of="openai")
    enrichment, scope = enrichment_of(settings), Scope(datetime.now(UTC))
    return lambda: len(claim(database, settings, enrichment, scope, "bench", TOGETHER).taken)


def _some(taken: int) -> int:
    if not taken:
        raise SystemExit("nothing is left to claim: the figure would be one of empty claims")
    return taken


def _latency(database: Database, postings: int) -> Side:
    _build(database, postings)
    take = _claiming(database)

    def milliseconds() -> float:
        started = time.perf_counter()
        _some(take())
        return 1e3 * (time.perf_counter() - started)

    return lambda: median(milliseconds() for _ in range(CLAIMS))


def _build(database: Database, postings: int) -> None:
    print(f"{database.dialect.name}: building {postings:,} pending postings …", flush=True)
    grow(database, postings, [PENDING])
    run(database, "ANALYZE")  # as a server does by itself


if __name__ == "__main__":
    main()
