"""Every start is ended or leased: attempts that nobody ended are found in the log alone, with what is known of them."""

from datetime import timedelta

import pytest

from enrichlog.orphans import close_overdue
from eventlog.database import Database
from eventlog.errors import Unfoldable
from eventlog.log import LogAlone
from projections import open_attempts
from projections.open_attempts import EXAMPLES, Abandoned, OpenAttempt, find_abandoned
from tests.builders import NOON, StoppedClock, failed, offer, proposal, requested, run, started, succeeded, tell
from tests.forging import retell

LEASE, LOST = 330, "00000000-0000-4000-8000-000000000001"
NONE = Abandoned(0, [])


@pytest.fixture
def told(timed: Database) -> Database:
    """One posting enriched at the second attempt, one whose attempt has not ended, one that nobody tried."""
    tell(timed, "job-1", requested(), started(), failed(), started(2), succeeded(2))
    tell(timed, "job-2", requested(), started(attempt_id=LOST, lease_seconds=LEASE))
    tell(timed, "job-3", requested())
    return timed


def test_an_attempt_is_abandoned_once_its_lease_has_run_out_by_the_databases_clock(
    told: Database, clock: StoppedClock
) -> None:
    clock.advance(seconds=LEASE - 1)
    assert find_abandoned(told) == NONE
    clock.advance(seconds=1)
    lost = OpenAttempt("job-2", 7, LOST, "worker-1", NOON + timedelta(seconds=LEASE))
    assert find_abandoned(told) == Abandoned(1, [lost])


def test_no_read_model_is_asked(told: Database, clock: StoppedClock) -> None:
    clock.advance(seconds=LEASE)
    run(told, "UPDATE {ours}enrichment_status SET state = 'succeeded', due_at = NULL, attempt_id = NULL")
    assert find_abandoned(told).total == 1


def test_an_attempt_that_is_closed_by_the_next_run_is_abandoned_no_more(told: Database, clock: StoppedClock) -> None:
    clock.advance(seconds=LEASE)
    assert close_overdue(told, "job") == 1
    assert find_abandoned(told) == NONE
    tell(told, "job-2", succeeded(attempt_id=LOST))  # late, and no end any more
    assert find_abandoned(told) == NONE


def test_the_end_of_another_attempt_is_not_its_end(told: Database, clock: StoppedClock) -> None:
    offer(told, proposal("job-2", succeeded(attempt_id="another")), inline=LogAlone())
    offer(told, proposal("job-3", succeeded(attempt_id=LOST)), inline=LogAlone())
    clock.advance(seconds=LEASE)
    assert [one.attempt_id for one in find_abandoned(told).examples] == [LOST]


def test_the_first_are_shown_and_all_are_counted_a_page_at_a_time(
    told: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_attempts, "PAGE", 3)
    for number in range(EXAMPLES):
        tell(told, f"job-4{number}", requested(), started())
    clock.advance(seconds=LEASE)
    read = list[int]()
    found = find_abandoned(told, read.append)
    assert (found.total, [one.stream_id for one in found.examples]) == (
        EXAMPLES + 1, ["job-2", "job-40", "job-41", "job-42", "job-43"],
    )  # fmt: skip
    assert (sum(read), max(read)) == (8 + 2 * EXAMPLES, 3)


def test_a_start_that_does_not_say_which_attempt_it_is_stops_it_with_its_position(told: Database) -> None:
    retell(told, 7, f'"attempt_id":"{LOST}",', "")
    with pytest.raises(Unfoldable, match="EnrichmentStarted at position 7: it has no attempt_id"):
        find_abandoned(told)
