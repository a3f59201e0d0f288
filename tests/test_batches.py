"""Batches: which there are, what became of each posting, and what taking one back gives back."""

from collections.abc import Sequence

import pytest

from enrichlog.batches import Fate, cancel, fate_of, fates, find_batch, list_batches, why_cancelled
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import NothingWaits, UnknownBatch, UsageError
from enrichlog.retry_batch import RetryBatch, request_plan
from enrichlog.retry_plan import plan_retry
from enrichlog.runs import perform
from enrichlog.selection import Allowance, Selection
from enrichlog.settings import Settings
from enrichlog.targets import batch_scope
from enrichlog.told_run import run as told_run
from eventlog.database import Database
from eventlog.errors import BatchWasCancelled, Conflict
from eventlog.events import BatchCancelled, Event
from eventlog.log import read_stream
from projections.rebuild import reconcile_named
from tests.builders import (
    cancelled,
    dismissed,
    failed,
    offer,
    proposal,
    requested,
    run,
    shown,
    started,
    status,
    succeeded,
    tell,
)
from tests.command_line import Command
from tests.drift import drift_of
from tests.service import import_many, import_postings, of_type, posting, whole_log

OVER_AT_ONCE = failed(error_type="quota_exceeded", counts=False, wait_ms=0)


@pytest.fixture
def planned(database: Database) -> RetryBatch:
    """Three failed postings, requested as one batch."""
    import_many(database, 3)
    for job_id in ("000", "001", "002"):
        tell(database, f"job-{job_id}", started(), OVER_AT_ONCE)
    plan = plan_retry(database, "job", Selection(("quota_exceeded",)), Allowance(None, 5))
    return request_plan(database, plan, "the quota is back")


def test_a_batch_says_who_asked_for_what_and_why(database: Database, planned: RetryBatch) -> None:
    found = find_batch(database, planned.batch)
    assert (found.row.enrichment, found.row.why, found.row.requested, found.state) == ("job", "retry", 3, "open")
    positions = [one.position for one in of_type(database, "EnrichmentRequested")[-3:]]
    assert (found.row.first_position, found.row.last_position) == (positions[0], positions[-1])
    assert found.reason == "the quota is back"
    assert found.selection == f"--error-type quota_exceeded at position {positions[0] - 1}"


def test_the_newest_batches_are_listed_first_and_no_more_than_asked_for(
    database: Database, planned: RetryBatch
) -> None:
    tell(database, "job-000", started(2), failed(2), requested("retry", batch="later"))
    total, found = list_batches(database, 1)
    assert (total, [one.row.batch for one in found]) == (2, ["later"])
    assert [one.row.batch for one in list_batches(database, 9)[1]] == ["later", planned.batch]


def test_a_batch_is_open_while_a_posting_waits_for_it(database: Database, planned: RetryBatch) -> None:
    for job_id in ("000", "001", "002"):
        assert find_batch(database, planned.batch).state == "open"
        tell(database, f"job-{job_id}", started(2), succeeded(2))
    assert find_batch(database, planned.batch).state == "done"


def test_a_batch_that_nobody_knows_is_refused(database: Database) -> None:
    for ask in (lambda: find_batch(database, "no"), lambda: cancel(database, "no", "because")):
        with pytest.raises(UnknownBatch, match="There is no batch no"):
            ask()


BEFORE = (requested(), started(), failed(), requested("retry", batch="b"))


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ([], "not_yet"),
        ([started(2)], "not_yet"),
        ([started(2), succeeded(2)], "recovered"),
        ([started(2), failed(2)], "failed_the_same_way"),
        ([started(2), failed(2, error_type="refusal")], "failed_differently"),
        ([started(2), failed(2), started(3), succeeded(3)], "failed_the_same_way"),
        ([succeeded(1)], "recovered"),
        ([cancelled("b")], "withdrawn"),
        ([cancelled("b"), requested("retry"), started(2), succeeded(2)], "withdrawn"),
        ([dismissed()], "withdrawn"),
    ],
)
def test_the_first_end_after_a_request_decides(
    shared: Database, job: str, since: Sequence[Event], expected: Fate
) -> None:
    tell(shared, job, *BEFORE, *since)
    assert fate_of(read_stream(shared, job), len(BEFORE)) == expected


def test_what_became_of_a_batch_is_told_of_its_postings_alone(database: Database, planned: RetryBatch) -> None:
    tell(database, "job-000", started(2), succeeded(2), requested("force", batch="other"), started(3), failed(3))
    tell(database, "job-001", started(2), OVER_AT_ONCE.model_copy(update={"attempt": 2, "attempt_id": "attempt-2"}))
    found = list(fates(database, find_batch(database, planned.batch)))
    assert found == [("000", "recovered"), ("001", "failed_the_same_way"), ("002", "not_yet")]


def test_cancelling_gives_back_what_waits_and_lets_end_what_runs(database: Database, planned: RetryBatch) -> None:
    tell(database, "job-000", started(2))
    row = shown(database, "job-001")
    assert row is not None
    assert row["enrichment_completed_at"] is None
    done = cancel(database, planned.batch, "the wrong model")
    assert (done.freed, done.running, done.is_new) == (2, 1, True)
    states = [status(database, f"job-{one}")["state"] for one in ("000", "001", "002")]
    assert states == ["running", "failed", "failed"]
    row = shown(database, "job-001")
    assert row is not None
    assert row["enrichment_completed_at"] == status(database, "job-001")["completed_at"]
    found = find_batch(database, planned.batch)
    assert (found.state, found.row.freed, found.cancelled_for) == ("cancelled", 2, "the wrong model")
    assert [fate for _, fate in fates(database, found)] == ["not_yet", "withdrawn", "withdrawn"]


def test_what_cancelling_gave_back_is_in_the_next_plan(database: Database, planned: RetryBatch) -> None:
    cancel(database, planned.batch, "later")
    assert plan_retry(database, "job", Selection(), Allowance(None, 5)).taken == 3


def test_a_cancelling_that_ended_early_is_brought_to_its_end(database: Database, planned: RetryBatch) -> None:
    event = BatchCancelled(batch=planned.batch, actor="tests", reason="because")
    offer(database, proposal(f"$batch-{planned.batch}", event), proposal("job-000", event))
    done = cancel(database, planned.batch, "because")
    assert (done.freed, done.is_new) == (2, False)
    with pytest.raises(NothingWaits):
        cancel(database, planned.batch, "because")
    assert len(read_stream(database, f"$batch-{planned.batch}")) == 1


def test_whoever_cancels_first_is_who_has_cancelled(database: Database, planned: RetryBatch) -> None:
    for who in ("first", "second"):
        event = BatchCancelled(batch=planned.batch, actor=who, reason=who)
        assert not isinstance(tell(database, f"$batch-{planned.batch}", event)[0], Conflict)
    assert find_batch(database, planned.batch).row.cancelled_by == "first"


def test_cancelling_needs_a_reason(database: Database, planned: RetryBatch) -> None:
    with pytest.raises(UsageError, match="--reason"):
        cancel(database, planned.batch, " ")


def test_no_more_of_a_cancelled_batch_is_requested(database: Database, planned: RetryBatch) -> None:
    cancel(database, planned.batch, "because")
    before = len(whole_log(database))
    more = requested("retry", batch=planned.batch)
    with pytest.raises(BatchWasCancelled, match=r"was cancelled by .*: no more of it is requested\."):
        offer(database, proposal("job-000", more))
    assert len(whole_log(database)) == before
    assert not isinstance(tell(database, "job-000", requested("retry", batch="another"))[0], Conflict)


def test_the_live_rows_of_batches_are_what_the_log_adds_up_to(database: Database, planned: RetryBatch) -> None:
    tell(database, "job-000", started(2), succeeded(2))
    cancel(database, planned.batch, "because")
    tell(database, "$batch-unknown", cancelled("unknown"))
    assert drift_of(database, "batches") == 0
    run(database, "UPDATE {ours}batches SET requested = 7, cancelled_by = NULL")
    assert reconcile_named(database, ["batches"], write=True)[0].total == 2
    assert drift_of(database, "batches") == 0


# -- while it runs ----------------------------------------------------------------------------------------------------


def test_a_batch_that_is_cancelled_while_it_runs_is_taken_no_further(
    database: Database, planned: RetryBatch, service: Settings
) -> None:
    settings = service.model_copy(update={"concurrency": 1})

    def cancel_at_once(*_: object) -> None:
        if not find_batch(database, planned.batch).row.cancelled_at:
            cancel(database, planned.batch, "enough")

    scope = batch_scope(database, planned.batch)
    done = perform(database, settings, enrichment_of(settings), scope, notice=cancel_at_once)
    assert 1 <= done.succeeded < 3  # one more may have been claimed by then
    assert find_batch(database, planned.batch).row.freed == 3 - done.succeeded


def test_a_run_of_a_cancelled_batch_says_so(
    database: Database, planned: RetryBatch, service: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why_cancelled(database, planned.batch) is None
    cancel(database, planned.batch, "enough")
    scope = batch_scope(database, planned.batch)
    code = told_run(service, database, enrichment_of(service), scope, {}, fail_on_error=False, as_json=False)
    assert code == 1
    said = capsys.readouterr().out
    assert "Stopped early. The batch was cancelled by " in said
    assert ": enough" in said


# -- as typed ---------------------------------------------------------------------------------------------------------


def test_a_batch_is_listed_shown_and_cancelled(enrichlog: Command, database: Database, planned: RetryBatch) -> None:
    tell(database, "job-000", started(2), succeeded(2))
    listed = enrichlog.done("batch", "list").out.splitlines()
    assert planned.batch in listed[1]
    assert listed[-1] == "1 of 1"
    told = enrichlog.done("batch", "show", planned.batch).out.splitlines()
    assert told[-3:-1] == ["  1 recovered: 000", "  2 not yet: 001, 002"]
    assert told[-1] == (
        "What still waits is taken by the next enrichlog enrich. "
        f"To take it back: enrichlog batch cancel {planned.batch} --reason TEXT"
    )
    said = enrichlog.done("batch", "cancel", planned.batch, "--reason", "enough").out
    assert said == f"Batch {planned.batch} is cancelled: 2 postings given back.\n"
    before = len(whole_log(database))
    again = enrichlog("batch", "cancel", planned.batch, "--reason", "enough")
    assert again.error.startswith(
        f"Error: Nothing of batch {planned.batch} waits any more. See what became of it with: "
    )
    assert (again.code, len(whole_log(database))) == (1, before)
    document = enrichlog.json("batch", "show", planned.batch)
    assert (document["state"], document["cancelled_for"]) == ("cancelled", "enough")
    assert document["counts"] == {
        "recovered": 1, "failed_the_same_way": 0, "failed_differently": 0, "not_yet": 0, "withdrawn": 2,
    }  # fmt: skip
    assert document["job_ids"]["withdrawn"] == ["001", "002"]
    assert enrichlog.json("batch", "list")["batches"][0]["freed"] == 2


def test_without_a_batch_there_is_nothing_to_list_and_none_to_show(enrichlog: Command) -> None:
    assert enrichlog.done("batch", "list").out == "There is no batch yet: a retry makes one.\n"
    for words in (("show", "no"), ("cancel", "no", "--reason", "because")):
        said = enrichlog("batch", *words)
        assert (said.code, said.error.partition("See")[0]) == (2, "Error: There is no batch no. ")


def test_a_batch_is_found_by_the_beginning_of_its_id_as_long_as_no_other_begins_so(
    enrichlog: Command, database: Database, planned: RetryBatch
) -> None:
    short = planned.batch[:8]
    assert enrichlog.json("batch", "show", short)["batch"] == planned.batch
    assert enrichlog("batch", "show", planned.batch[:7]).code == 2
    assert "There is no batch" in enrichlog("batch", "show", "%%%%%%%%").error
    import_postings(database, posting("other"))
    tell(database, "job-other", started(), failed(), requested("retry", batch=f"{short}-another"))
    assert "Several batches begin with" in enrichlog("batch", "show", short).error
    assert enrichlog.json("batch", "cancel", planned.batch[:12], "--reason", "enough")["batch"] == planned.batch


def test_a_batch_of_which_an_attempt_runs_still_can_be_ended(
    enrichlog: Command, database: Database, planned: RetryBatch
) -> None:
    for job_id in ("000", "001", "002"):
        tell(database, f"job-{job_id}", started(2))
    assert enrichlog.json("batch", "cancel", planned.batch, "--reason", "enough")["running"] == 3
