"""The rule of the open attempt: what an event is recorded as, once it is clear what its stream has come to."""

import pytest

from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentLateResult, EnrichmentStarted, Event, FailureReclassified
from eventlog.log import Appended, read_stream
from projections.decisions import decide
from projections.status import Status
from tests.builders import (
    appended,
    cancelled,
    dismissed,
    erased,
    failed,
    requested,
    shown,
    started,
    status,
    succeeded,
    tell,
)

RUNNING = Status(version=2, state="running", attempts=1, attempt_id="attempt-1")
PENDING = Status(version=1)
IN_A_BATCH = Status(version=4, batch="b", before_batch="{}")
RECLASSIFIED = FailureReclassified(
    error_type="other", retryable=False, counts=True, attempt_id="attempt-1", actor="rules",
    previous_error_type="timeout",
)  # fmt: skip
JOB = "job-1"


@pytest.mark.parametrize(
    ("standing", "event", "reason"),
    [
        (PENDING, requested(), "it is known already"),
        (Status(), requested("retry"), "nobody has requested it yet; import the posting first"),
        (Status(), started(), "nobody has requested it yet; import the posting first"),
        (Status(), failed(), "nobody has requested it yet; import the posting first"),
        (Status(), dismissed(), "nobody has requested it yet; import the posting first"),
        (Status(), erased(), "nobody has requested it yet; import the posting first"),
        (RUNNING, started(2), "an attempt is in flight; wait until it has ended"),
        (RUNNING, requested("retry"), "an attempt is in flight; wait until it has ended"),
        (RUNNING, requested("force"), "an attempt is in flight; wait until it has ended"),
        (RUNNING, requested("requeue"), "an attempt is in flight; wait until it has ended"),
        (RUNNING, dismissed(), "an attempt is in flight; wait until it has ended"),
        (PENDING, started(2), "attempt 1 is next, not 2"),
        (Status(), cancelled(), "nobody has requested it yet; import the posting first"),
        (IN_A_BATCH, cancelled("another"), "it does not wait for this batch, or not for it alone"),
        (IN_A_BATCH._replace(state="running"), cancelled(), "it does not wait for this batch, or not for it alone"),
        (PENDING._replace(batch="b"), cancelled(), "it does not wait for this batch, or not for it alone"),
        (PENDING._replace(state="failed", attempts=3), started(3), "attempt 4 is next, not 3"),
    ],
)
def test_what_does_not_fit_is_a_conflict(standing: Status, event: Event, reason: str) -> None:
    with pytest.raises(Conflict) as conflict:
        decide(JOB, standing, event)
    assert str(conflict.value) == f"The stream {JOB} has moved on: {reason}."
    assert conflict.value.kind == "conflict"


@pytest.mark.parametrize(
    ("standing", "event"),
    [
        (Status(), requested()),
        (Status(), requested("changed")),
        (PENDING, started()),
        (RUNNING, requested("changed")),
        (RUNNING, succeeded()),
        (RUNNING, failed()),
        (RUNNING, erased()),
        (RUNNING, RECLASSIFIED),
        (IN_A_BATCH, cancelled()),
        (RUNNING._replace(state="failed"), requested("retry")),
        (RUNNING._replace(state="failed"), started(2)),
        (RUNNING._replace(state="succeeded"), requested("force")),
        (RUNNING._replace(state="dismissed"), requested("requeue")),
    ],
)
def test_what_fits_is_recorded_as_it_is(standing: Status, event: Event) -> None:
    assert decide(JOB, standing, event) is event


def types(database: Database, stream_id: str) -> list[str]:
    return [event.type.removeprefix("Enrichment") for event in read_stream(database, stream_id)]


def test_an_end_belongs_to_its_attempt_whatever_else_was_appended_meanwhile(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), requested("changed"), succeeded())
    assert types(shared, job) == ["Requested", "Started", "Requested", "Succeeded"]


def test_an_end_that_comes_after_its_attempt_was_closed_is_a_late_result(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), failed(error_type="interrupted"), started(2))
    (late,) = appended(tell(shared, job, failed(1, cost_microdollars=70, input_tokens=9, latency_ms=400_000)))
    assert late.type == "EnrichmentLateResult"
    stored = read_stream(shared, job)[-1]
    assert stored.facts["outcome"] == "failed"
    assert (stored.facts["used"], stored.facts["error_type"], stored.facts["latency_ms"]) == (False, "timeout", 400_000)
    assert stored.content == {"message": "Request timeout after 300 seconds"}
    live = status(shared, job)
    assert (live["state"], live["attempt_id"], live["cost_microdollars"]) == ("running", "attempt-2", 70)


def test_a_late_success_is_used_when_nothing_else_has_succeeded(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), failed(error_type="interrupted"), succeeded(cost_microdollars=5))
    live, row = status(shared, job), shown(shared, job)
    assert read_stream(shared, job)[-1].facts["used"] is True
    assert (live["state"], live["error_type"], live["due_at"], live["cost_microdollars"]) == (
        "succeeded",
        None,
        None,
        5,
    )
    assert row is not None
    assert (row["result"], row["enrichment_error"]) == ({"attempt": 1}, None)


def test_a_late_success_does_not_disturb_who_holds_the_posting_now(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), failed(), started(2), succeeded(1))
    live = status(shared, job)
    assert (live["state"], live["attempt_id"], live["successes"]) == ("running", "attempt-2", 1)
    assert live["due_at"] is not None  # the lease goes on
    assert tell(shared, job, started(3))[0].__class__ is Conflict


def test_a_second_success_is_late_and_unused_and_its_cost_counts(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), failed(cost_microdollars=1), started(2))
    tell(shared, job, succeeded(2, cost_microdollars=10), succeeded(1, cost_microdollars=100, input_tokens=7))
    stored, live, row = read_stream(shared, job)[-1], status(shared, job), shown(shared, job)
    assert (stored.type, stored.facts["used"]) == ("EnrichmentLateResult", False)
    assert (live["cost_microdollars"], live["input_tokens"], live["successes"]) == (111, 7, 1)
    assert row is not None
    assert row["result"] == {"attempt": 2}


def test_a_success_then_another_end_of_the_same_attempt_changes_nothing_but_the_cost(
    shared: Database, job: str
) -> None:
    tell(shared, job, requested(), started(), succeeded(cost_microdollars=3), failed(cost_microdollars=4))
    live, row = status(shared, job), shown(shared, job)
    assert (live["state"], live["budget_used"], live["cost_microdollars"]) == ("succeeded", 0, 7)
    assert row is not None
    assert row["enrichment_error"] is None


def test_after_an_erasure_the_end_of_the_running_attempt_is_stored_as_facts_only(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), erased(), succeeded(cost_microdollars=5))
    stored = read_stream(shared, job)[-1]
    assert (stored.type, stored.content, stored.facts["cost_microdollars"]) == ("EnrichmentSucceeded", None, 5)
    assert status(shared, job)["state"] == "succeeded"


@pytest.mark.parametrize("end", [succeeded(1), failed(1, raw_head="{"), failed(1, message="Ann Miller is 34")])
def test_after_an_erasure_a_late_result_is_stored_as_facts_only(shared: Database, job: str, end: Event) -> None:
    tell(shared, job, requested(), started(), failed(error_type="interrupted"), erased(), end)
    stored = read_stream(shared, job)[-1]
    assert (stored.type, stored.content) == ("EnrichmentLateResult", None)


def test_after_an_erasure_a_late_result_of_before_is_facts_only_though_a_new_attempt_runs(
    shared: Database, job: str
) -> None:
    tell(
        shared,
        job,
        requested(),
        started(1),
        failed(1),
        erased(),
        requested("changed"),
        started(2),
        succeeded(1),
    )
    assert read_stream(shared, job)[-1].content is None
    row = shown(shared, job)
    assert row is not None
    assert row["result"] is None


def test_an_attempt_that_began_after_the_erasure_is_stored_with_its_content(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(), failed(), erased(), requested("changed"), started(2), succeeded(2))
    assert read_stream(shared, job)[-1].content == {"result": {"attempt": 2}}


def test_a_late_result_keeps_everything_that_the_end_said() -> None:
    end = failed(
        1, called=False, http_status=429, error_type="rate_limited", request_id="req_1", finish_reason="length"
    )
    late = decide(JOB, RUNNING._replace(attempt_id="attempt-2"), end)
    assert isinstance(late, EnrichmentLateResult)
    lost = set(type(end).model_fields) - set(EnrichmentLateResult.model_fields)
    meant = {"fault", "retryable", "counts", "cap", "max_deferrals", "max_deferred_seconds", "wait_ms", "worker_died"}
    assert lost == meant  # for the posting and for the breaker
    assert {name: value for name, value in late if name in type(end).model_fields} == {
        name: value for name, value in end if name not in lost
    }


def test_the_attempts_of_one_posting_are_numbered_one_after_the_other(shared: Database, job: str) -> None:
    tell(shared, job, requested(), started(1), failed(1), started(2), failed(2))
    first, again = tell(shared, job, started(3), started(4))
    assert isinstance(first, Appended)
    assert isinstance(again, Conflict)
    starts = [event.facts["attempt"] for event in read_stream(shared, job) if event.type == EnrichmentStarted.__name__]
    assert starts == [1, 2, 3]
