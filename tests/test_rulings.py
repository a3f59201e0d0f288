"""Rulings: what a person decides about single postings, and which of them are left."""

import pytest

from enrichlog.exceptions import UnknownJob, UsageError
from enrichlog.rulings import dismiss, requeue
from eventlog.database import Database
from tests.builders import dismissed, failed, offer, proposal, requested, run, started, status, succeeded, tell
from tests.command_line import Command
from tests.service import import_postings, of_type, posting, whole_log

ALL = ("new", "failed", "final", "used", "running", "done", "dismissed")


@pytest.fixture
def told(database: Database) -> Database:
    """A posting in each state."""
    import_postings(database, *(posting(one) for one in ALL))
    for job_id, verdict in (("failed", {}), ("final", {"retryable": False}), ("used", {"cap": 1})):
        tell(database, f"job-{job_id}", started(), failed(**verdict))
    tell(database, "job-running", started())
    tell(database, "job-done", started(), succeeded())
    tell(database, "job-dismissed", dismissed())
    return database


def test_dismissing_takes_all_but_what_runs_or_is_done(told: Database) -> None:
    ruled = dismiss(told, "job", ALL, "no real posting")
    assert ruled.done == ["new", "failed", "final", "used"]
    assert ruled.left == {
        "running": "an attempt is in flight",
        "done": "it is enriched already",
        "dismissed": "it was dismissed already",
    }
    assert {status(told, f"job-{one}")["state"] for one in ruled.done} == {"dismissed"}
    assert of_type(told, "EnrichmentDismissed")[-1].content == {"reason": "no real posting"}


def test_requeuing_grants_one_more_attempt_whatever_became_of_it(told: Database) -> None:
    ruled = requeue(told, "job", ALL, "mended")
    assert ruled.done == ["failed", "final", "used", "dismissed"]
    assert ruled.left == {
        "new": "it is to be tried anyway",
        "running": "an attempt is in flight",
        "done": "it is enriched already; to pay for it again: enrichlog enrich JOB_ID --force",
    }
    for job_id in ruled.done:
        row = status(told, f"job-{job_id}")
        assert (row["state"], row["grants"]) == ("pending", 1)


def test_an_id_that_nobody_knows_is_refused_before_anything_is_appended(told: Database) -> None:
    before = len(whole_log(told))
    for rule in (dismiss, requeue):
        with pytest.raises(UnknownJob, match="nobody"):
            rule(told, "job", ("failed", "nobody"), "because")
    assert len(whole_log(told)) == before


def test_a_ruling_without_a_reason_is_refused(told: Database) -> None:
    with pytest.raises(UsageError, match="--reason"):
        dismiss(told, "job", ("failed",), "  ")


def test_a_posting_that_no_enrichment_has_seen_can_be_dismissed(told: Database) -> None:
    assert dismiss(told, "summary", ("new",), "too short").done == ["new"]
    assert status(told, "summary-new")["state"] == "dismissed"


def test_a_posting_that_was_deleted_can_be_dismissed_and_not_requeued(told: Database) -> None:
    run(told, "DELETE FROM job_postings WHERE id = 'failed'")
    assert requeue(told, "job", ("failed",), "because").left == {"failed": "its posting is not there any more"}
    assert dismiss(told, "job", ("failed",), "because").done == ["failed"]


def test_a_requeued_posting_that_fails_again_is_used_up_again(told: Database) -> None:
    requeue(told, "job", ("used",), "because")
    tell(told, "job-used", started(2), failed(2, cap=1))
    row = status(told, "job-used")
    assert row["budget_used"] - row["grants"] == 1


def test_named_twice_is_ruled_on_once(told: Database) -> None:
    assert dismiss(told, "job", ("failed", "failed"), "because").done == ["failed"]


def test_typed_rulings_end_with_1_when_any_was_left(enrichlog: Command, told: Database) -> None:
    said = enrichlog("dismiss", "failed", "running", "--reason", "no posting")
    assert (said.code, said.out.splitlines()) == (
        1, ["running was left: an attempt is in flight", "1 posting dismissed."],
    )  # fmt: skip
    assert enrichlog.json("requeue", "failed", "--reason", "it is one") == {"requeued": ["failed"], "left": {}}


@pytest.mark.parametrize("words", [("failed",), ("--reason", "because"), ("nobody", "--reason", "because")])
def test_a_ruling_needs_known_ids_and_a_reason(enrichlog: Command, told: Database, words: tuple[str, ...]) -> None:
    for command in ("dismiss", "requeue"):
        said = enrichlog(command, *words)
        assert said.code == 2
        assert said.error


def test_a_dismissed_posting_is_left_by_enrich_with_what_to_type(enrichlog: Command, told: Database) -> None:
    offer(told, proposal("job-failed", requested("retry")))
    left = enrichlog.json("enrich", "dismissed", "--dry-run")["left"]
    assert left["dismissed"].startswith("it was dismissed; to try it all the same: enrichlog requeue JOB_ID")
