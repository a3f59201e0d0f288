"""Reports and plans over failures read small indexes of what has failed, however much has not."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Select, insert, select

from enrichlog.own_postings import job_postings
from enrichlog.reports import failure_count, failures_by_type, newest_failures
from enrichlog.retry_plan import RetryPlan, counting
from enrichlog.selection import Allowance, Selection
from eventlog.database import Database
from projections.enrichment_status import enrichment_status, row
from projections.status import Status
from tests.builders import NOON, run
from tests.query_plans import is_walked, plan_of

DONE, FAILED = 3_000, 60
TIMEOUTS, NEWER = Selection(("timeout",)), Selection(since=NOON + timedelta(minutes=50))


@pytest.fixture(scope="module")
def grown(shared: Database) -> Database:
    """Many postings that succeeded, and a few that failed."""
    postings = [f"{number:05}" for number in range(DONE + FAILED)]
    done = Status(version=3, state="succeeded", successes=1, completed_at=NOON)
    failed = Status(version=3, state="failed", error_type="timeout", retryable=True, due_at=NOON)
    rows = [row(f"job-{one}", done) for one in postings[:DONE]]
    for minute, one in enumerate(postings[DONE:]):
        rows.append(row(f"job-{one}", failed._replace(completed_at=NOON + timedelta(minutes=minute))))
    values = {"title": "t", "description": "d", "input_hash": "h", "imported_at": NOON}
    with shared.write() as connection:
        connection.execute(insert(enrichment_status), rows)
        connection.execute(insert(job_postings), [{"id": one, **values} for one in postings])
    run(shared, "ANALYZE")
    return shared


def planned(selection: Selection) -> Select[Any]:
    return counting(Database("any.db"), RetryPlan("job", selection, Allowance(None, 5), 1, NOON))


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        (failures_by_type("job"), {"enrichment_status_failed", "enrichment_status_retry"}),
        (newest_failures("job", Selection()).limit(5), {"enrichment_status_failed"}),
        (newest_failures("job", TIMEOUTS).limit(5), {"enrichment_status_failed", "enrichment_status_retry"}),
        (newest_failures("job", NEWER).limit(5), {"enrichment_status_failed"}),
        (failure_count("job", Selection()), {"enrichment_status_failed", "enrichment_status_retry"}),
        (failure_count("job", TIMEOUTS), {"enrichment_status_failed", "enrichment_status_retry"}),
        (failure_count("job", NEWER), {"enrichment_status_failed", "enrichment_status_retry"}),
        (planned(Selection()), {"enrichment_status_retry", "enrichment_status_failed"}),
        (planned(TIMEOUTS), {"enrichment_status_retry", "enrichment_status_failed"}),
        (planned(NEWER), {"enrichment_status_retry", "enrichment_status_failed"}),
    ],
    ids=["errors", *(f"{what} {of}" for what in ("failed", "count", "plan") for of in ("all", "by type", "since"))],
)
def test_what_failed_is_found_by_an_index_of_failures(grown: Database, query: Select[Any], indexes: set[str]) -> None:
    found = plan_of(grown, query)
    assert any(index in found for index in indexes), found
    assert not is_walked(found)


def test_a_query_that_does_not_say_failed_finds_no_index_of_failures(grown: Database) -> None:
    status = enrichment_status.c
    found = plan_of(grown, select(status.stream_id).where(status.error_type == "timeout"))
    assert is_walked(found)
