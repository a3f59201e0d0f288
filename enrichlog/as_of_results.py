"""The results that there were when the log ended at an earlier position."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from enrichlog.as_of import AsOf
from enrichlog.as_of_reports import STREAMS_PER_PAGE
from enrichlog.posting import Titled
from enrichlog.postings import find_titles
from eventlog.category import walk_events
from eventlog.database import Database
from eventlog.events import iso
from projections import llm_enrichment
from projections.prefix import states
from projections.projection import Row


def results_as_of(database: Database, enrichment: str, at: AsOf) -> Iterator[dict[str, Any]]:
    """Each result in the order of ids; title and company are those of today. Content erased since is no result."""
    rows = _rows(database, enrichment, at)
    while page := list(islice(rows, STREAMS_PER_PAGE)):
        with database.read() as connection:
            titles = find_titles(connection, database, [row["job_posting_id"] for row in page])
        yield from (told_result(row, titles[row["job_posting_id"]]) for row in page)


def _rows(database: Database, enrichment: str, at: AsOf) -> Iterator[Row]:
    """The rows of the users' table that had a result."""
    projection = llm_enrichment.projection
    for stream_id, state in states(projection, walk_events(database, enrichment, at.position, content=True)):
        row = projection.row(stream_id, state)
        if row is not None and row.get("result") is not None:
            yield row


def told_result(row: Mapping[str, Any], titled: Titled) -> dict[str, Any]:
    """One result as it goes out, of a row of the users' table."""
    completed_at = row["enrichment_completed_at"]
    return {
        "job_id": row["job_posting_id"],
        "enrichment": row["enrichment"],
        **titled._asdict(),
        "enrichment_completed_at": completed_at and iso(completed_at),
        "enrichment_model_version": row["enrichment_model_version"],
        "result": row["result"],
    }
