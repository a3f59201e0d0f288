"""Targets: which of the postings that are named a run takes, and why it leaves the others; and who asks."""

import getpass

import pytest

from enrichlog.actor import actor
from enrichlog.exceptions import UnknownJob
from enrichlog.targets import Target, choose, every_posting
from eventlog.database import Database
from tests.builders import NOON, StoppedClock, dismissed, failed, started, status, succeeded, tell
from tests.service import import_many, import_postings, posting

IN_FLIGHT = {"000": "an attempt is in flight"}


def left(database: Database, *, force: bool = False) -> dict[str, str]:
    return choose(database, "job", ["000"], 5, force=force).left


@pytest.mark.parametrize("force", [False, True], ids=["named", "forced"])
def test_a_posting_in_flight_is_left_until_its_lease_runs_out(
    timed: Database, clock: StoppedClock, force: bool
) -> None:
    import_many(timed, 1)
    assert left(timed, force=force) == {}
    tell(timed, "job-000", started(lease_seconds=60))
    clock.advance(seconds=59)
    assert left(timed, force=force) == IN_FLIGHT
    assert choose(timed, "job", ["000"], 5, force=force).targets == []
    clock.advance(seconds=1)
    assert choose(timed, "job", ["000"], 5, force=force) == ([Target("000", 2)], {})


def test_every_posting_is_every_one_that_no_attempt_is_in_flight_for(database: Database) -> None:
    import_many(database, 2)
    tell(database, "job-000", started())
    assert every_posting(database, "job") == [Target("001")]


def test_what_is_done_or_final_or_used_up_is_left_unless_it_is_forced(timed: Database) -> None:
    import_postings(timed, *(posting(one) for one in ("done", "final", "used", "dismissed", "waits", "new")))
    tell(timed, "job-done", started(), succeeded())
    tell(timed, "job-final", started(), failed(error_type="refusal", retryable=False))
    tell(timed, "job-used", started(), failed(cap=1))
    tell(timed, "job-waits", started(), failed())
    tell(timed, "job-dismissed", dismissed())
    ids = ["done", "final", "used", "dismissed", "waits", "new"]
    chosen = choose(timed, "job", ids, 5, force=False)
    assert [target.job_id for target in chosen.targets] == ["waits", "new"]
    assert chosen.left == {
        "done": "already enriched",
        "final": "refusal: trying again brings the same",
        "used": "its attempts are used up",
        "dismissed": (
            "it was dismissed; to try it all the same: enrichlog requeue JOB_ID --reason TEXT, or give --force"
        ),
    }
    assert [target.job_id for target in choose(timed, "job", ids, 5, force=True).targets] == ids
    assert status(timed, "job-waits")["due_at"] > NOON  # a name is asking enough: it is not waited for


def test_a_posting_that_nobody_knows_is_refused(database: Database) -> None:
    with pytest.raises(UnknownJob):
        choose(database, "job", ["nobody"], 5, force=True)


@pytest.mark.parametrize("error", [OSError, KeyError, ImportError])
def test_who_acts_is_unknown_where_the_system_has_no_name_for_it(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def getuser() -> str:
        raise error

    monkeypatch.setattr(getpass, "getuser", getuser)
    assert actor() == "unknown"
    monkeypatch.setattr(getpass, "getuser", lambda: "someone")
    assert actor() == "someone"
