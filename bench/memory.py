"""Memory of `enrich` over 100,000 pending postings: how high, and whether it grows. Takes minutes."""

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

from bench.databases import KINDS, Kind, fresh_databases
from bench.service import import_postings, simulator_process
from eventlog.database import Database

POSTINGS = 100_000
PEAK_MIB, GROWTH = 200, 1.1
"""The targets: the peak, and the last quarter of the calls by the second, since the first is still filling pools."""
EVERY_SECONDS = 0.2
CLI = Path(__file__).parent.parent / "cli.py"


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--postings", type=int, default=POSTINGS)
    options = parser.parse_args()
    with simulator_process() as base_url, fresh_databases() as databases:
        for kind in options.kinds or KINDS:
            print(f"\nmemory of enrich, {kind}, {options.postings:,} postings: importing them …", flush=True)
            import_postings(databases[kind], "memory", options.postings)
            _report(*_watch(databases[kind], base_url), options.postings)


class Sample(NamedTuple):
    """The process at one moment: seconds since its start, resident MiB, and whether it has begun to call."""

    seconds: float
    size: float
    calls: bool


def _watch(database: Database, base_url: str) -> tuple[list[Sample], float]:
    """The process over time, and how long it ran, in seconds."""
    command = [sys.executable, str(CLI), "enrich", "--json", "--concurrency", "100", "--database", database.url]
    environment = {**os.environ, "ENRICHLOG_BASE_URL": base_url, "ENRICHLOG_PRICES_OF": "openai"}
    started, samples = time.perf_counter(), []
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            size = watched.memory_info().rss / 2**20
            calls = watched.num_threads() > 1  # the recorder and the claims have threads of their own
            samples.append(Sample(time.perf_counter() - started, size, calls))
            time.sleep(EVERY_SECONDS)
    if process.returncode:
        raise SystemExit(f"enrich ended with {process.returncode}")
    return samples, time.perf_counter() - started


def _report(samples: Sequence[Sample], seconds: float, postings: int) -> None:
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
