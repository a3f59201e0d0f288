"""Memory of `enrich` over 100,000 pending postings, or of a `worker` for some minutes: how high, and whether it grows.

Takes minutes. A worker is fed: postings come in each second, as the last minutes can be told from the first only
while there is something to do.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple, get_args

import psutil  # type: ignore[import-untyped, import-not-found, unused-ignore]
from sqlalchemy import func, select

from bench.databases import KINDS, Kind, fresh_databases
from bench.service import import_postings, simulator_process
from eventlog.database import Database
from projections.enrichment_status import enrichment_status

POSTINGS = 100_000
PEAK_MIB, GROWTH = 200, 1.1
"""The targets: the peak, and the last quarter of the calls by the second, since the first is still filling pools."""
EVERY_SECONDS, FED_EACH_SECOND = 0.2, 100
CLI = Path(__file__).parent.parent / "cli.py"


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--postings", type=int, default=POSTINGS)
    parser.add_argument("--minutes", type=float, help="watch a worker for so long; 60 for the hour")
    options = parser.parse_args()
    with simulator_process() as base_url, fresh_databases() as databases:
        for kind in options.kinds or KINDS:
            if options.minutes is not None:
                print(f"\nmemory of a worker, {kind}, {options.minutes:g} minutes", flush=True)
                _report(*_watch_worker(databases[kind], base_url, 60 * options.minutes))
                continue
            print(f"\nmemory of enrich, {kind}, {options.postings:,} postings: importing them …", flush=True)
            import_postings(databases[kind], "memory", options.postings)
            _report(*_watch(databases[kind], base_url))


class Sample(NamedTuple):
    """The process at one moment: seconds since its start, resident MiB, and whether it has begun to call."""

    seconds: float
    size: float
    calls: bool


def _watch(database: Database, base_url: str) -> tuple[list[Sample], int]:
    """The process over time until it ends, and how many postings it enriched."""
    samples = []
    with _process("enrich", "--json", database=database, base_url=base_url) as process:
        started, watched = time.perf_counter(), psutil.Process(process.pid)
        while process.poll() is None:
            samples.append(_sample(watched, started))
            time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"enrich ended with {process.returncode}")
    return samples, _enriched(database)


def _watch_worker(database: Database, base_url: str, seconds: float) -> tuple[list[Sample], int]:
    """The same of a worker, to which postings come in until it is told to end."""
    samples = list[Sample]()
    with _process("worker", database=database, base_url=base_url) as process:
        started, watched = time.perf_counter(), psutil.Process(process.pid)
        try:
            while (now := time.perf_counter() - started) < seconds:
                if process.poll() is not None:
                    raise SystemExit(f"worker ended by itself with {process.returncode}")
                import_postings(database, f"at-{now:.3f}", round(FED_EACH_SECOND * EVERY_SECONDS))
                samples.append(_sample(watched, started))
                time.sleep(EVERY_SECONDS)
        finally:
            process.terminate()
    if process.returncode:
        raise SystemExit(f"worker was told to end, and ended with {process.returncode}")
    return samples, _enriched(database)


def _process(command: str, *options: str, database: Database, base_url: str) -> subprocess.Popen[bytes]:
    line = [sys.executable, str(CLI), command, *options, "--concurrency", "100", "--database", database.url]
    environment = {**os.environ, "ENRICHLOG_BASE_URL": base_url, "ENRICHLOG_PRICES_OF": "openai"}
    return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL)


def _sample(watched: psutil.Process, started: float) -> Sample:
    calls = watched.num_threads() > 1  # the recorder and the claims have threads of their own
    return Sample(time.perf_counter() - started, watched.memory_info().rss / 2**20, calls)


def _enriched(database: Database) -> int:
    return database.count(select(func.count()).where(enrichment_status.c.state == "succeeded"))


def _report(samples: Sequence[Sample], postings: int) -> None:
    seconds = samples[-1].seconds
    calling = [sample for sample in samples if sample.calls]
    sizes, quarter = [sample.size for sample in calling], len(calling) // 4
    print(f"  {calling[0].seconds:.0f} s before the first call")
    second, last = median(sizes[quarter : 2 * quarter]), median(sizes[3 * quarter :])
    print(f"  {seconds:.0f} s, {postings / seconds:,.0f} postings/s")
    print("  MiB over time: " + " ".join(f"{size:.0f}" for size in sizes[:: max(1, len(sizes) // 20)]))
    print(f"  peak {max(sizes):.0f} MiB   target ≤ {PEAK_MIB}   {'met' if max(sizes) <= PEAK_MIB else 'MISSED'}")
    growth = last / second
    verdict = "met" if growth <= GROWTH else "MISSED"
    print(f"  last quarter / second quarter {growth:.2f} ×   target ≤ {GROWTH} ×   {verdict}", flush=True)


if __name__ == "__main__":
    main()
