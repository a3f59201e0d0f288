"""A fleet over 20,000 postings: each is called exactly once, by 8 workers on PostgreSQL and by 4 on one SQLite file."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import get_args

from bench.databases import KINDS, Kind, fresh_databases
from bench.service import import_postings
from enrichlog.simulator import Simulator
from tests.fleet import Fleet
from tests.forks import Forks

WORKERS: dict[Kind, int] = {"postgresql": 8, "sqlite": 4}


def main() -> None:
    """Run both databases, or the one that is named; ends with 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--postings", type=int, default=20_000)
    parser.add_argument("--concurrency", type=int, default=50, help="calls at the same time in each worker")
    options = parser.parse_args()
    faults: list[str] = []
    with fresh_databases() as databases, tempfile.TemporaryDirectory(prefix="enrichlog-fleet-") as folder:
        for kind in options.kinds or KINDS:
            place = Path(folder) / kind
            place.mkdir()
            with Simulator() as simulator, Forks(place) as forks:
                fleet = Fleet(forks, databases[kind], simulator, place)
                faults += _enrich_all(kind, fleet, options.postings, options.concurrency)
    sys.exit(bool(faults))


def _enrich_all(kind: Kind, fleet: Fleet, postings: int, concurrency: int) -> list[str]:
    """Enrich so many postings, tell how that went, and return what was wrong."""
    count = WORKERS[kind]
    print(f"\nfleet, {kind}: {count} workers × {concurrency} calls, {postings:,} postings", flush=True)
    import_postings(fleet.database, "fleet", postings)
    began = time.perf_counter()
    workers = [fleet.worker(f"fleet-{number + 1}", concurrency=concurrency) for number in range(count)]
    while fleet.undone():
        time.sleep(1.0)
    seconds = time.perf_counter() - began
    fleet.finish(*workers)
    account = fleet.account()
    faults = account.faults + fleet.unsound() + [f"{name} is not finished" for name in account.unfinished]
    if account.calls != postings or account.died or account.late_results:
        faults.append(f"{account.calls:,} calls, {account.died} died, {account.late_results} late results")
    print(f"  {account.calls:,} calls in {seconds:,.0f} s, {postings / seconds:,.0f} postings/s")
    print(f"  {len(faults)} faults", *faults[:20], sep="\n    ", flush=True)
    return faults


if __name__ == "__main__":
    main()
