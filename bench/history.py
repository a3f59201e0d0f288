"""The import of history: 100,000 rows of a table of 50 columns that was there before us, most of them with a result."""

from __future__ import annotations

import argparse
import multiprocessing
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import Connection
from statistics import quantiles
from typing import Any, get_args

import psutil

from bench.databases import KINDS, Kind, fresh_databases, settle
from enrichlog.history_import import import_history
from enrichlog.settings import current
from eventlog.database import Database, Place
from eventlog.events import iso
from eventlog.streams import stream_of
from projections.rebuild import reconcile_named
from projections.target import shown_in
from tests.adopted import COMPANY, LISTS, TEXTS, a_result, adopt
from tests.builders import NOON, offer, proposal, requested, run

ROWS, SECONDS, GROWTH_MIB, APPENDS_A_SECOND = 100_000, 60, 30, 20
TOGETHER = 1_000
SENTENCE = "We look for somebody who builds and runs our pipelines, and tells others how that is done. "
MESSAGES = (
    "Error code: 429 - {'error': {'message': 'You exceeded your current quota', 'code': 'insufficient_quota'}}",
    "Request timeout after 300 seconds",
    "Could not extract structured output from API response: no text (posting {number})",
    "JSONDecodeError: Expecting value: line 1 column 1 (char 0) in the reply for posting {number}: " + SENTENCE * 5,
)


def main() -> None:
    """Measure on both databases, or on the one that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    with fresh_databases() as databases:
        for kind in options.kinds or KINDS:
            print(f"\n{kind}, {options.rows:,} rows: building …", flush=True)
            database = adopt(databases[kind].url)
            fill(database, options.rows)
            settle(database)
            measure(database, kind, options.rows)
            database.close()


def fill(database: Database, rows: int) -> None:
    """Postings, each with its description, and the table as it was before us."""
    table = shown_in(database.adopted.target).table
    run(database, f"INSERT INTO companies VALUES ('{COMPANY}', 'Acme')")
    for first in range(0, rows, TOGETHER):
        numbers = range(first, min(first + TOGETHER, rows))
        ids = {number: str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))) for number in numbers}
        postings = ", ".join(f"('{one}', 'Data engineer {number}', '{COMPANY}', 'Data')" for number, one in ids.items())
        described = ", ".join(f"('{one}', '{SENTENCE * 20}{number}')" for number, one in ids.items())
        run(database, f"INSERT INTO job_postings (id, title, company_id, title_classification) VALUES {postings}")
        run(database, f"INSERT INTO job_descriptions VALUES {described}")
        with database.write() as connection:
            for kind in range(10):
                told = [{"job_posting_id": ids[one], **_told(kind, one)} for one in numbers if one % 10 == kind]
                database.dialect.theirs.insert_rows(connection, table, told)


def _told(kind: int, number: int) -> dict[str, Any]:
    """Of ten rows six have a result, two have failed, one awaits its retry, and one was never tried."""
    at = {"enrichment_completed_at": iso(NOON + timedelta(seconds=number))}
    if kind < 6:
        texts = {name: f"{number} {SENTENCE * (1 + place % 4)}" for place, name in enumerate(TEXTS)}
        lists = {name: [f"{name} {one}" for one in range(4)] for name in LISTS}
        return a_result(**texts, **lists) | at | {"enrichment_model_version": "gpt-4o-mini-2024-07-18"}
    error = {"enrichment_error": MESSAGES[number // 10 % len(MESSAGES)].replace("{number}", str(number))}
    return {6: error | at, 7: error | at, 8: error}.get(kind, {"enrichment_error": None})


def measure(database: Database, kind: Kind, rows: int) -> None:
    """A dry run, the import, and another one, which finds all known; then the check of what it brought."""
    _timed(database, "dry run", rows, dry_run=True)
    with _appending(database) as latencies:
        seconds = _timed(database, "import", rows)
    if kind == "postgresql":
        verdict = "met" if seconds * ROWS / rows <= SECONDS else "MISSED"
        print(f"  target ≤ {SECONDS} s for {ROWS:,} rows: {verdict}")
    p99, most = quantiles(latencies, n=100, method="inclusive")[98], max(latencies)
    print(f"  {APPENDS_A_SECOND} appends a second beside it: p99 {p99:,.0f} ms, at most {most:,.0f} ms")
    _timed(database, "the same again", rows)
    found = {one.projection: one.total for one in reconcile_named(database, write=False) if one.total}
    print(f"  differences afterwards: {found or 'none'}", flush=True)


def _timed(database: Database, name: str, rows: int, *, dry_run: bool = False) -> float:
    memory, began, used = [_resident()], time.perf_counter(), time.process_time()
    found = import_history(database, current(), dry_run=dry_run, progress=lambda count: memory.append(_resident()))
    seconds, used = time.perf_counter() - began, time.process_time() - used
    told = f"{found.succeeded:,} succeeded, {found.failed:,} failed, {found.known:,} known, {found.events:,} events"
    print(f"  {name:<16}{seconds:>7.1f} s  {rows / seconds:>7,.0f} rows/s, {used:.1f} s of processor time   ({told})")
    grown = max(memory) - memory[len(memory) // 4]
    print(f"  {'':<16}{max(memory):>7.0f} MiB, {grown:.0f} since its first quarter   target ≤ {GROWTH_MIB}", flush=True)
    return seconds


def _resident() -> float:
    return psutil.Process().memory_info().rss / 2**20


@contextmanager
def _appending(database: Database) -> Iterator[list[float]]:
    """Another process appends meanwhile, each time of a new posting; afterwards how long each took, in milliseconds."""
    context, latencies = multiprocessing.get_context("spawn"), list[float]()
    mine, theirs = context.Pipe()
    process = context.Process(target=_append, args=(database.place, theirs))
    process.start()
    mine.recv()
    try:
        yield latencies
    finally:
        mine.send("enough")
        latencies += mine.recv()
        process.join()


def _append(place: Place, pipe: Connection) -> None:
    database, found = Database(*place), list[float]()
    pipe.send("begun")
    while not pipe.poll(1 / APPENDS_A_SECOND):
        began = time.perf_counter()
        offer(database, proposal(stream_of("other", str(uuid.uuid4())), requested()))
        found.append(1e3 * (time.perf_counter() - began))
    pipe.send(found)


if __name__ == "__main__":
    main()
