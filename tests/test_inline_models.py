"""The two read models that move with the log, and what they show after each history."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import BatchCancelled, Event
from eventlog.log import Proposal
from projections import enrichment_status, llm_enrichment
from tests.builders import (
    NOON,
    StoppedClock,
    cancelled,
    dismissed,
    erased,
    failed,
    offer,
    proposal,
    reclassified,
    requested,
    row_of,
    shown,
    started,
    status,
    succeeded,
    tell,
)

MINUTE = timedelta(minutes=1)
TIMEOUT = "Request timeout after 300 seconds"


@pytest.fixture
def timed(shared: Database, clock: StoppedClock) -> Iterator[Database]:
    """The module's database, which takes the time from this test's clock."""
    database = Database(shared.url, clock=clock)
    yield database
    database.close()


def tell_minute_by_minute(database: Database, clock: StoppedClock, stream_id: str, events: Sequence[Event]) -> None:
    """The first at noon, each other one minute after the one before."""
    for event in events:
        assert not isinstance(tell(database, stream_id, event)[0], Conflict)
        clock.advance(minutes=1)


OLD: dict[str, Any] = {"request_model": "model-1", "prompt_hash": "p1", "schema_hash": "s1", "input_hash": "i1"}
NEW: dict[str, Any] = {"request_model": "model-2", "prompt_hash": "p2", "schema_hash": "s2", "input_hash": "i2"}
OTHER = OLD | {"request_model": "model-2"}


def at(minute: float) -> datetime:
    return NOON + minute * MINUTE


FIRST_FAILURE = (requested(), started(), failed())
NOT_COUNTED = reclassified(error_type="server_error", retryable=True, counts=False, max_deferrals=20)
DEFERRED = failed(counts=False, error_type="server_error", max_deferrals=20)


def deferred_for_two_minutes(longest: int) -> tuple[Event, ...]:
    """A posting that the provider failed twice, where so many seconds of that are borne."""
    facts: dict[str, Any] = {"counts": False, "max_deferrals": 20, "max_deferred_seconds": longest}
    return (requested(), started(), failed(**facts), started(2), failed(2, **facts))


HISTORIES: dict[str, tuple[tuple[Event, ...], dict[str, Any]]] = {
    "seen": ((requested(input_hash="h"),), {"state": "pending", "due_at": at(0), "input_hash": "h", "attempts": 0}),
    "started": (
        (requested(), started(reserved_microdollars=7)),
        {"state": "running", "attempts": 1, "attempt_id": "attempt-1", "worker": "worker-1", "due_at": at(1 + 5.5),
         "reserved_microdollars": 7, "request_model": "model-1"},
    ),
    "succeeded": (
        (requested(), started(reserved_microdollars=7),
         succeeded(input_tokens=10, output_tokens=5, cost_microdollars=3)),
        {"state": "succeeded", "successes": 1, "due_at": None, "completed_at": at(2), "input_tokens": 10,
         "output_tokens": 5, "cost_microdollars": 3, "unpriced_calls": 0, "reserved_microdollars": 0, "worker": None},
    ),
    "a price that is not known": (
        (requested(), started(), succeeded(input_tokens=10)),
        {"cost_microdollars": 0, "unpriced_calls": 1},
    ),
    "failed and counted": (
        FIRST_FAILURE,
        {"state": "failed", "error_type": "timeout", "retryable": True, "budget_used": 1, "deferrals": 0,
         "due_at": at(2.5), "completed_at": at(2)},
    ),
    "failed and deferred": (
        (requested(), started(), failed(counts=False, error_type="server_error", max_deferrals=20)),
        {"state": "failed", "budget_used": 0, "failures": 1, "deferrals": 1, "deferred_since": at(2)},
    ),
    "deferred for less time than is borne": (
        deferred_for_two_minutes(longest=121), {"deferrals": 2, "deferred_since": at(2), "due_at": at(4.5)},
    ),
    "deferred for all the time that is borne": (
        deferred_for_two_minutes(longest=120), {"deferrals": 2, "retryable": True, "due_at": None},
    ),
    "failed for good": (
        (requested(), started(), failed(retryable=False, error_type="refusal", cap=2)),
        {"state": "failed", "retryable": False, "due_at": None, "cap": 2, "budget_used": 1},
    ),
    "a second failure": (
        (*FIRST_FAILURE, started(2), failed(2, wait_ms=None)),
        {"attempts": 2, "budget_used": 2, "due_at": at(4)},
    ),
    "a requested retry": (
        (*FIRST_FAILURE, requested("retry", batch="b", max_attempts=9)),
        {"state": "pending", "due_at": at(3), "budget_used": 1, "grants": 0, "max_attempts": 9, "batch": "b",
         "error_type": "timeout"},
    ),
    "a later request that names no maximum": (
        (*FIRST_FAILURE, requested("retry", max_attempts=9), started(2), failed(2), requested("retry")),
        {"state": "pending", "max_attempts": None},
    ),
    "one more attempt granted": (
        (*FIRST_FAILURE, requested("requeue", grant=1)), {"state": "pending", "budget_used": 1, "grants": 1}
    ),
    "a changed posting": (
        (*FIRST_FAILURE, requested("changed", input_hash="new")),
        {"state": "pending", "budget_used": 0, "attempts": 1, "input_hash": "new"},
    ),
    "a forced retry of a success": (
        (requested(), started(), succeeded(), requested("force")), {"state": "pending", "successes": 1, "due_at": at(3)}
    ),
    "another model": (
        (requested(), started(**OLD), failed(), started(2, **OTHER), failed(2)), {"budget_used": 1, "attempts": 2}
    ),
    "another model, and back to the first": (
        (requested(), started(**OLD), failed(), started(2, **OTHER), failed(2), started(3, **OLD), failed(3)),
        {"budget_used": 2, "attempts": 3},
    ),
    "what a result rests on": ((requested(), started(**OLD), succeeded(**OLD)), OLD),
    "what a late result rests on": (
        (requested(), started(**OLD), failed(), started(2, **NEW), failed(2), succeeded(1, **OLD)),
        {"state": "succeeded", **OLD},
    ),
    "a late result while another attempt runs": (
        (requested(), started(**OLD), failed(), started(2, **NEW), succeeded(1, **OLD)), {"state": "running", **NEW}
    ),
    "a late result that another input has overtaken": (
        (requested(), started(**OLD), failed(), requested("changed", input_hash="i2"), succeeded(1, **OLD)),
        {"state": "pending", "input_hash": "i2"},
    ),
    "a result of an input that changed while it ran": (
        (requested(), started(**OLD), requested("changed", input_hash="i2"), succeeded(**OLD)),
        {"state": "pending", "input_hash": "i2"},
    ),
    "a result that was made elsewhere, which does not say what it rests on": (
        (requested(), started(**OLD), failed(), started(2, origin="external", request_model=None), succeeded(2)),
        {"state": "succeeded", "request_model": None, "prompt_hash": None, "schema_hash": None, "input_hash": "i1"},
    ),
    "an attempt made elsewhere, which does not say what it rested on": (
        (*FIRST_FAILURE, started(2, origin="external", request_model=None), failed(2), started(3), failed(3)),
        {"budget_used": 3, "attempts": 3, "request_model": "model-1"},
    ),
    "changed while it runs": (
        (requested(), started(), requested("changed")), {"state": "running", "rerun": True, "attempt_id": "attempt-1"}
    ),
    "changed while it ran": (
        (requested(), started(), requested("changed"), succeeded()),
        {"state": "pending", "rerun": False, "successes": 1, "due_at": at(3)},
    ),
    "dismissed": ((*FIRST_FAILURE, dismissed()), {"state": "dismissed", "due_at": None, "error_type": "timeout"}),
    "dismissed and wanted again": ((*FIRST_FAILURE, dismissed(), requested("requeue")), {"state": "pending"}),
    "a retry that was withdrawn": (
        (requested(input_hash="h"), started(), DEFERRED, requested("retry", batch="b", max_attempts=9), cancelled("b")),
        {"state": "failed", "error_type": "server_error", "due_at": at(2.5), "completed_at": at(2), "batch": None,
         "max_attempts": None, "deferrals": 1, "deferred_since": at(2), "awaiting": False, "before_batch": None},
    ),
    "a forced retry that was withdrawn": (
        (*FIRST_FAILURE, requested("force", batch="b"), cancelled("b")),
        {"state": "failed", "budget_used": 1, "failures": 1, "due_at": at(2.5)},
    ),
    "a forced success that was withdrawn": (
        (requested(), started(), succeeded(), requested("force", batch="b"), cancelled("b")),
        {"state": "succeeded", "due_at": None, "successes": 1},
    ),
    "wanted in a batch while it was dismissed, and withdrawn": (
        (*FIRST_FAILURE, dismissed(), requested("retry", batch="b"), cancelled("b")),
        {"state": "dismissed", "due_at": None},
    ),
    "a batch that noticed a change, withdrawn: the change is to be noticed again": (
        (requested(input_hash="old"), started(), succeeded(), requested("changed", input_hash="new", batch="b"),
         cancelled("b")),
        {"state": "succeeded", "input_hash": "old"},
    ),
    "withdrawn, then wanted in another batch": (
        (*FIRST_FAILURE, requested("retry", batch="b"), cancelled("b"), requested("retry", batch="c")),
        {"state": "pending", "batch": "c", "due_at": at(5)},
    ),
    "read differently today": (
        (*FIRST_FAILURE, reclassified()),
        {"state": "failed", "error_type": "refusal", "retryable": False, "due_at": None, "budget_used": 1},
    ),
    "no longer counted": (
        (*FIRST_FAILURE, reclassified(error_type="server_error", retryable=True, counts=False, wait_ms=60_000)),
        {"budget_used": 0, "due_at": at(3), "retryable": True},
    ),
    "no longer counted, told twice": (
        (*FIRST_FAILURE, *2 * (NOT_COUNTED,)),
        {"budget_used": 0, "deferrals": 1},
    ),
    "erased": ((*FIRST_FAILURE, erased()), {"state": "failed", "erased_attempts": 1, "error_type": "timeout"}),
    "tried again after an erasure": (
        (*FIRST_FAILURE, erased(), started(2)), {"state": "running", "erased_attempts": 1}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HISTORIES)
def test_the_status_after(timed: Database, clock: StoppedClock, job: str, name: str) -> None:
    events, expected = HISTORIES[name]
    tell_minute_by_minute(timed, clock, job, events)
    row = status(timed, job)
    assert {column: row[column] for column in expected} == expected
    assert f"{row['enrichment']}-{row['job_id']}" == job
    place = {"version": len(events), "fold_version": 1, "projection_error": None, "untold_result": None}
    assert {column: row[column] for column in place} == place


def line(result: Any, error: str | None, minute: int | None, model: str | None = "model-1-snapshot") -> dict[str, Any]:
    completed_at = None if minute is None else at(minute)
    return {
        "result": result,
        "enrichment_error": error,
        "enrichment_completed_at": completed_at,
        "enrichment_model_version": model,
    }


SUCCESS = (requested(), started(), succeeded())
ONE, TWO = {"attempt": 1}, {"attempt": 2}
SHOWN: dict[str, tuple[tuple[Event, ...], dict[str, Any] | None]] = {
    "nothing before the first attempt has ended": ((requested(), started()), None),
    "a result": (SUCCESS, line(ONE, None, 2)),
    "the model that was asked for when the answer names none": (
        (requested(), started(), succeeded(response_model=None, request_model="model-1")), line(ONE, None, 2, "model-1")
    ),
    "a failure": (FIRST_FAILURE, line(None, TIMEOUT, 2, None)),
    "a failure without a message": (
        (requested(), started(), failed(message=None)), line(None, "timeout", 2, None)
    ),
    "an error cut at 2,000 characters": (
        (requested(), started(), failed(message="x" * 2_001)), line(None, "x" * 2_000, 2, None)
    ),
    "no time while a failed one awaits its requested retry": (
        (*FIRST_FAILURE, requested("retry")), line(None, TIMEOUT, None, None)
    ),
    "no time while that retry runs": (
        (*FIRST_FAILURE, requested("retry"), started(2)), line(None, TIMEOUT, None, None)
    ),
    "the time of the end of that retry": (
        (*FIRST_FAILURE, requested("retry"), started(2), failed(2, message="again")), line(None, "again", 5, None)
    ),
    "the time again when the retry is withdrawn": (
        (*FIRST_FAILURE, requested("retry"), dismissed()), line(None, TIMEOUT, 2, None)
    ),
    "the time again when the retry's batch is cancelled": (
        (*FIRST_FAILURE, requested("retry", batch="b"), cancelled("b")), line(None, TIMEOUT, 2, None)
    ),
    "a result of before when a forced retry's batch is cancelled": (
        (*SUCCESS, requested("force", batch="b"), cancelled("b")), line(ONE, None, 2)
    ),
    "the time while it is tried again without a request": ((*FIRST_FAILURE, started(2)), line(None, TIMEOUT, 2, None)),
    "a success clears the error": ((*FIRST_FAILURE, started(2), succeeded(2)), line(TWO, None, 4)),
    "a forced retry leaves result and time": ((*SUCCESS, requested("force")), line(ONE, None, 2)),
    "a forced retry that fails keeps the result": (
        (*SUCCESS, requested("force"), started(2), failed(2)), line(ONE, TIMEOUT, 5)
    ),
    "a newer success replaces the result": (
        (*SUCCESS, requested("changed"), started(2), succeeded(2)), line(TWO, None, 5)
    ),
    "a failure of a posting that changed meanwhile awaits its retry at once": (
        (requested(), started(), requested("changed"), failed()), line(None, TIMEOUT, None, None)
    ),
    "a late result that is used": ((*FIRST_FAILURE, succeeded(1)), line(ONE, None, 3)),
    "a late result that is not used": (
        (*FIRST_FAILURE, started(2), succeeded(2), succeeded(1)), line(TWO, None, 4)
    ),
    "an erased result": ((*SUCCESS, erased()), line(None, None, 2)),
    "an erased error": ((*FIRST_FAILURE, erased()), line(None, "content erased", 2, None)),
    "nothing for a posting erased before it was tried": ((requested(), erased()), None),
    "an error erased while its requested retry runs": (
        (*FIRST_FAILURE, requested("retry"), started(2), erased()), line(None, "content erased", None, None)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_the_users_table_shows(timed: Database, clock: StoppedClock, job: str, name: str) -> None:
    events, expected = SHOWN[name]
    tell_minute_by_minute(timed, clock, job, events)
    row = shown(timed, job)
    if row is not None:
        assert f"{row.pop('enrichment')}-{row.pop('job_posting_id')}" == job
    assert row == expected


def test_a_posting_that_was_pending_already_is_not_freed_by_cancelling(shared: Database, job: str) -> None:
    tell(shared, job, requested(), requested("force", batch="b"))
    assert isinstance(tell(shared, job, cancelled("b"))[0], Conflict)
    assert status(shared, job)["state"] == "pending"


def test_operators_streams_have_no_row(shared: Database) -> None:
    offer(shared, proposal("$batch-1", BatchCancelled(batch="1", actor="tests")))
    assert row_of(shared, enrichment_status.enrichment_status, "$batch-1") is None


def test_several_enrichments_of_one_posting_have_rows_of_their_own(shared: Database) -> None:
    tell(shared, "job-a-1", requested(), started(), succeeded())
    tell(shared, "skills-a-1", requested(), started(), failed())
    rows = [shown(shared, "job-a-1"), shown(shared, "skills-a-1")]
    assert [row and (row["job_posting_id"], row["enrichment"]) for row in rows] == [("a-1", "job"), ("a-1", "skills")]
    assert [row and row["enrichment_error"] for row in rows] == [None, TIMEOUT]


def test_a_conflict_leaves_the_read_models_as_they_were(shared: Database, job: str) -> None:
    tell(shared, job, *FIRST_FAILURE)
    before = status(shared, job), shown(shared, job)
    assert isinstance(tell(shared, job, requested())[0], Conflict)
    assert isinstance(tell(shared, "job-unknown", started())[0], Conflict)
    assert (status(shared, job), shown(shared, job)) == before
    assert row_of(shared, enrichment_status.enrichment_status, "job-unknown") is None


@pytest.mark.parametrize("refused", [proposal("", requested(), expected_version=4), proposal("", requested("retry"))])
def test_a_first_request_that_is_refused_leaves_no_row_behind(shared: Database, job: str, refused: Proposal) -> None:
    (outcome,) = offer(shared, refused._replace(stream_id=job))
    assert isinstance(outcome, Conflict)
    assert row_of(shared, enrichment_status.enrichment_status, job) is None


def test_columns_that_users_added_to_their_table_are_left_alone(database: Database) -> None:
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE llm_enrichment ADD COLUMN notes text")
        connection.execute(insert(llm_enrichment.llm_enrichment).values(job_posting_id="1", enrichment="job"))
        connection.exec_driver_sql("UPDATE llm_enrichment SET notes = 'mine'")
    tell(database, "job-1", *SUCCESS, requested("force"), started(2), failed(2))
    with database.read() as connection:
        query = "SELECT notes, enrichment_error FROM llm_enrichment"
        assert connection.exec_driver_sql(query).all() == [("mine", TIMEOUT)]
