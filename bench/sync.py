"""`sync` of an adopted database with 1,000,000 postings of which nothing is new, by ids of type uuid."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any, get_args

from bench.databases import KINDS, Kind, fresh_databases, settle
from bench.rounds import Side, Target, compare
from enrichlog.postings import source_of
from enrichlog.sync import sync, synced
from eventlog.database import Database
from projections.enrichment_status import enrichment_status, row
from projections.status import Status
from tests.adopted import adopt
from tests.builders import NOON, run

POSTINGS = 1_000_000
SECONDS = 5.0
OBVIOUS = "anti-join that counts"
"""What anybody would write who has a table of what is known, with a key of the same type as theirs."""

WORDS: dict[Kind, dict[str, str]] = {
    "postgresql": {"key": "lpad(to_hex(number), 32, '0')::uuid", "type": "uuid", "text": "posting.id::text"},
    "sqlite": {
        "key": "'00000000-0000-0000-0000-' || printf('%012x', number)", "type": "text", "text": "posting.id",
    },
}  # fmt: skip
NUMBERS = "WITH RECURSIVE numbers(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM numbers WHERE number < {count})"
ROWS = (
    "INSERT INTO job_postings (id, title, title_classification)"
    " {numbers} SELECT {key}, 'Engineer', 'Data' FROM numbers",
    "INSERT INTO job_descriptions {numbers} SELECT {key}, 'We look for an engineer, number ' || number FROM numbers",
    "CREATE TABLE known (id {type} PRIMARY KEY)",
    "INSERT INTO known SELECT id FROM job_postings",
)
COUNTED = (
    "SELECT count(*) FROM job_postings WHERE title_classification = 'Data'"
    " AND NOT EXISTS (SELECT FROM known WHERE known.id = job_postings.id)"
)


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--postings", type=int, default=POSTINGS)
    options = parser.parse_args()
    with fresh_databases() as databases:
        for kind in options.kinds or KINDS:
            print(f"\n{kind}, {options.postings:,} postings: building …", flush=True)
            database = adopt(databases[kind].url)
            _grow(database, kind, options.postings)
            _measure(database, f"sync, {kind}")
            database.close()


def _grow(database: Database, kind: Kind, count: int) -> None:
    """Postings, and the statuses of all of them: no events, which nobody looks at here."""
    numbers, words = NUMBERS.format(count=count), WORDS[kind]
    for statement in ROWS:
        run(database, statement.format(numbers=numbers, **words))
    one = row("job-", Status(version=3, state="succeeded", successes=1, completed_at=NOON, input_hash="h"))
    with database.write() as connection:
        connection.execute(enrichment_status.insert(), [one])
    columns = {**{name: name for name in one}, "stream_id": f"'job-' || {words['text']}", "job_id": words["text"]}
    columns = {name: value if value != name else f"status.{name}" for name, value in columns.items()}
    of_one = "FROM job_postings posting, {ours}enrichment_status status WHERE status.stream_id = 'job-'"
    run(
        database,
        f"INSERT INTO {{ours}}enrichment_status ({', '.join(columns)}) SELECT {', '.join(columns.values())} {of_one}",
    )
    run(database, "DELETE FROM {ours}enrichment_status WHERE stream_id = 'job-'")
    settle(database)


def _measure(database: Database, title: str) -> None:
    counted = COUNTED.replace("SELECT FROM", "SELECT 1 FROM")
    acts: dict[str, Callable[[], Any]] = {
        OBVIOUS: lambda: run(database, counted),
        "a worker's look": lambda: sync(database, "job", "bench"),
        "enrichlog sync": lambda: synced(database, "job", "bench"),
    }
    if not source_of(database).count_unrequested(database, "job").total() == 0:
        raise SystemExit("something is new: there is nothing to compare")
    sides = {name: _timed(act) for name, act in acts.items()}
    compare(title, "seconds", sides, [Target("a worker's look", OBVIOUS, 5, at_most=True)])
    seconds = sides["enrichlog sync"]()
    print(f"  enrichlog sync, {seconds:.2f} s   target ≤ {SECONDS} s   {'met' if seconds <= SECONDS else 'MISSED'}")


def _timed(act: Callable[[], Any]) -> Side:
    def seconds() -> float:
        started = time.perf_counter()
        act()
        return time.perf_counter() - started

    return seconds


if __name__ == "__main__":
    main()
