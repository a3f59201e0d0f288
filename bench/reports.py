"""`errors`, `failed` and the plan of a retry over 1,000,000 postings with 3,000,000 events. Takes minutes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from sqlalchemy import func, select

from bench.databases import KINDS, Kind, fresh_databases
from bench.grown import FAILED, MIXED, grow
from bench.grown import Kind as Ending
from bench.rounds import Side, Target, compare
from enrichlog import reports
from enrichlog.retry_plan import plan_retry, targets_of
from enrichlog.selection import Allowance, Selection
from eventlog.database import Database
from projections.enrichment_status import enrichment_status
from tests.builders import run

POSTINGS = 1_000_000
COUNT = "SELECT count(*) FROM enrichment_status"
SECONDS = 1.0
MIXTURES: dict[str, Sequence[Ending]] = {"a third succeeded": MIXED, "all failed": FAILED}


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--postings", type=int, default=POSTINGS)
    options = parser.parse_args()
    for name, endings in MIXTURES.items():
        with fresh_databases() as databases:
            for kind in options.kinds or KINDS:
                print(f"\n{kind}, {options.postings:,} postings, {name}: building …", flush=True)
                grow(databases[kind], options.postings, endings)
                run(databases[kind], "ANALYZE")  # as a server does by itself
                _measure(databases[kind], f"reports, {kind}, {name}")


def _measure(database: Database, title: str) -> None:
    sides = {name: _timed(database, act) for name, act in _acts().items()}
    compare(title, "seconds", sides, [Target(name, COUNT, 150, at_most=True) for name in sides if name != COUNT])
    slowest = max(sides, key=lambda name: min(sides[name]() for _ in range(3)))
    seconds = sides[slowest]()
    print(f"  slowest: {slowest}, {seconds:.2f} s   target ≤ {SECONDS} s   {'met' if seconds <= SECONDS else 'MISSED'}")


def _acts() -> dict[str, Callable[[Database], Any]]:
    policy, since = Allowance(None, 5), datetime.now(UTC) - timedelta(days=1, hours=3)
    of_type, newer = Selection(("timeout",)), Selection(since=since)

    def page_of_targets(database: Database) -> None:
        next(targets_of(database, plan_retry(database, "job", Selection(("quota_exceeded",)), policy)))

    return {
        COUNT: lambda database: database.page(select(func.count()).select_from(enrichment_status)),
        "errors": lambda database: reports.errors(database, "job"),
        "failed": lambda database: reports.failed(database, "job", Selection(), 50, 5),
        "failed --error-type": lambda database: reports.failed(database, "job", of_type, 50, 5),
        "failed --since": lambda database: reports.failed(database, "job", newer, 50, 5),
        "retry --dry-run": lambda database: plan_retry(database, "job", Selection(), policy),
        "retry --error-type --dry-run": lambda database: plan_retry(database, "job", of_type, policy),
        "retry --since --max-attempts --dry-run": lambda database: plan_retry(database, "job", newer, Allowance(9, 5)),
        "retry --error-type, until its first 500 targets": page_of_targets,
    }


def _timed(database: Database, act: Callable[[Database], Any]) -> Side:
    def seconds() -> float:
        started = time.perf_counter()
        act(database)
        return time.perf_counter() - started

    return seconds


if __name__ == "__main__":
    main()
