"""The queries that people already run on `llm_enrichment`, word for word, and the indexes they use."""

from typing import Any

import pytest
from sqlalchemy import insert

from enrichlog.own_postings import job_postings
from eventlog.database import Database
from tests.builders import (
    NOON,
    StoppedClock,
    dismissed,
    failed,
    offer,
    proposal,
    requested,
    run,
    shown,
    started,
    succeeded,
    tell,
)
from tests.query_plans import plan_of_sql

FAILED = """SELECT * FROM llm_enrichment
WHERE enrichment_error IS NOT NULL
ORDER BY enrichment_completed_at DESC"""

AWAITING = """SELECT * FROM llm_enrichment
WHERE enrichment_error IS NOT NULL AND enrichment_completed_at IS NULL"""

COUNTS = """SELECT CASE WHEN enrichment_error LIKE '%quota%' THEN 'Quota Exceeded'
            WHEN enrichment_error LIKE '%timeout%' THEN 'Timeout'
            WHEN enrichment_error LIKE '%JSONDecodeError%' THEN 'Invalid JSON'
            ELSE 'Other' END AS error_group, COUNT(*) AS count
FROM llm_enrichment WHERE enrichment_error IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"""

QUOTA = "Error code: 429 - You exceeded your current quota, please check your plan and billing details."
JSON = "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"


def ids(database: Database, query: str) -> list[str]:
    return [row["job_posting_id"] for row in run(database, query)]


def fail(database: Database, job: str, message: str, **facts: Any) -> None:
    tell(database, f"job-{job}", requested(), started(), failed(message=message, **facts))


@pytest.fixture
def night(timed: Database, clock: StoppedClock) -> Database:
    """What a night left behind: five failures, a minute apart, and one result."""
    for job, message in (
        ("1", QUOTA),
        ("2", QUOTA),
        ("3", JSON),
        ("4", "Request timeout after 300 seconds"),
        ("5", "?"),
    ):
        fail(timed, job, message)
        clock.advance(minutes=1)
    tell(timed, "job-6", requested(), started(), succeeded())
    return timed


def test_the_failed_ones_come_newest_first(night: Database) -> None:
    assert ids(night, FAILED) == ["5", "4", "3", "2", "1"]


def test_the_errors_are_counted_by_their_text(night: Database) -> None:
    counts = [(row["error_group"], row["count"]) for row in run(night, COUNTS)]
    assert counts == [("Quota Exceeded", 2), ("Invalid JSON", 1), ("Other", 1), ("Timeout", 1)]


def test_those_awaiting_a_requested_retry_are_those_without_a_time(night: Database) -> None:
    assert ids(night, AWAITING) == []
    tell(night, "job-2", requested("retry"))
    tell(night, "job-3", requested("retry"))
    tell(night, "job-4", started(2))  # tried again without a request
    assert sorted(ids(night, AWAITING)) == ["2", "3"]
    tell(night, "job-2", started(2))
    assert sorted(ids(night, AWAITING)) == ["2", "3"]  # until it has ended
    tell(night, "job-2", failed(2, message=QUOTA))
    tell(night, "job-3", dismissed())
    assert ids(night, AWAITING) == []
    assert sorted(ids(night, FAILED)) == ["1", "2", "3", "4", "5"]


def test_a_posting_stops_being_failed_when_it_has_a_result(night: Database) -> None:
    tell(night, "job-1", requested("retry"), started(2), succeeded(2))
    assert "1" not in ids(night, FAILED) + ids(night, AWAITING)
    row = shown(night, "job-1")
    assert row is not None
    assert (row["result"], row["enrichment_error"]) == ({"attempt": 2}, None)


def needing_retry(database: Database) -> list[str]:
    return sorted(row["job_id"] for row in run(database, "SELECT * FROM jobs_needing_retry"))


def test_the_view_lists_what_a_retry_would_take(night: Database) -> None:
    fail(night, "final", "no", error_type="refusal", retryable=False)
    fail(night, "later", "wait", wait_ms=10 * 365 * 86_400_000)  # by the real clock, which the view reads
    fail(night, "capped", "no JSON", cap=1)
    fail(night, "granted", "no JSON", cap=1)
    tell(night, "job-granted", requested("requeue", grant=1), started(2), failed(2, cap=1, counts=False))
    tell(night, "job-1", dismissed())
    tell(night, "job-2", requested("retry"))
    tell(night, "job-3", started(2))
    assert needing_retry(night) == ["4", "5", "granted"]


def test_five_counted_failures_are_the_most_by_default_and_a_request_can_say_otherwise(timed: Database) -> None:
    for job, most in (("a", None), ("b", 6)):
        tell(timed, f"job-{job}", requested(max_attempts=most))
        for attempt in range(1, 6):
            assert job in needing_retry(timed) or attempt == 1
            tell(timed, f"job-{job}", started(attempt), failed(attempt))
    assert needing_retry(timed) == ["b"]


def test_the_view_names_the_posting_and_its_error(night: Database) -> None:
    posting = {"id": "4", "title": "Artificial Intelligence Engineer", "company": "Acme", "description": "…"}
    with night.write() as connection:
        connection.execute(insert(job_postings).values(**posting, input_hash="h", imported_at=NOON))
    found = run(night, "SELECT * FROM jobs_needing_retry WHERE job_id = '4'")[0]
    assert {name: found[name] for name in ("title", "company", "error_type", "enrichment_error", "attempts")} == {
        "title": "Artificial Intelligence Engineer",
        "company": "Acme",
        "error_type": "timeout",
        "enrichment_error": "Request timeout after 300 seconds",
        "attempts": 1,
    }


DUE = """SELECT stream_id FROM {ours}enrichment_status
WHERE enrichment = 'job' AND state = 'failed' AND (budget_used - grants) = 1 AND due_at IS NOT NULL
ORDER BY due_at LIMIT 10"""

MANY = "WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 3000)"
MANY_RESULTS = f"{MANY} INSERT INTO llm_enrichment (job_posting_id) SELECT 'done-' || n FROM many"


def test_the_queries_on_failures_use_their_partial_indexes(timed: Database) -> None:
    run(timed, MANY_RESULTS)
    fail(timed, "failed", QUOTA)
    fail(timed, "awaiting", QUOTA)
    tell(timed, "job-awaiting", requested("retry"))
    run(timed, "ANALYZE")
    assert "llm_enrichment_failed" in plan_of_sql(timed, FAILED)
    assert "llm_enrichment_failed" in plan_of_sql(timed, FAILED + " LIMIT 50")
    assert "llm_enrichment_" in plan_of_sql(timed, AWAITING)  # either index finds the few without a time
    assert ids(timed, AWAITING) == ["awaiting"]


def test_finding_what_is_due_does_not_walk_those_whose_budget_is_used_up(timed: Database) -> None:
    offer(timed, *(proposal(f"job-{n}", requested()) for n in range(1_000)))
    run(timed, "UPDATE {ours}enrichment_status SET state = 'failed', budget_used = 5")
    fail(timed, "due", QUOTA)
    run(timed, "ANALYZE")
    assert [row["stream_id"] for row in run(timed, DUE)] == ["job-due"]
    assert "enrichment_status_due" in plan_of_sql(timed, DUE)
