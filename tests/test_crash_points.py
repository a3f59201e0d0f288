"""A worker is killed at every point of its walk and started again: nothing is lost, and every call has its start."""

import signal
import sys

import pytest

from enrichlog.simulator import Fault, Rule, Script
from tests.crash_points import POINTS
from tests.fleet import Fleet
from tests.service import import_many

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")

POSTINGS = 4
DURING = "during the call"
NOTHING_OPEN = ("before the claim", "before the claim's commit", "after the commit")
CALL_LOST = (DURING, "after the reply", "before the commit")
"""The points at which a call has been made and its outcome is not in the log."""


def kill(fleet: Fleet, point: str) -> None:
    """Have a worker killed at this point."""
    if point == DURING:
        fleet.simulator.play(Script(rules=[Rule("Work number 002", (Fault.HANG,))]))
        worker = fleet.worker("anna", concurrency=1)
        fleet.called(3)
        worker.send(signal.SIGKILL)
        fleet.simulator.play(Script())
    else:
        worker = fleet.worker("anna", concurrency=1, before=f"tests.crash_points:kill_at {point}")
    assert worker.wait() == -signal.SIGKILL, worker.said
    assert worker.acknowledged


@pytest.mark.pooled
@pytest.mark.parametrize("point", [*POINTS[:4], DURING, *POINTS[4:]])
def test_a_worker_is_killed_and_what_it_held_is_freed_as_it_starts_again(fleet: Fleet, point: str) -> None:
    import_many(fleet.database, POSTINGS)
    kill(fleet, point)
    fleet.finish(fleet.worker("anna"))
    account = fleet.check()
    assert account.unfinished == account.succeeded_again == []
    assert account.died == (point not in NOTHING_OPEN)
    assert account.extra_calls == (point in CALL_LOST)
    assert account.calls == POSTINGS + account.extra_calls
    assert account.late_results == 0


@pytest.mark.parametrize(
    ("walk", "fault"),
    [
        ("call_before_the_claims_commit", "of which the log has no start"),
        ("acknowledge_before_the_commit", "was acknowledged and is not there"),
    ],
)
def test_a_walk_the_other_way_round_would_be_noticed(postgresql_fleet: Fleet, walk: str, fault: str) -> None:
    fleet = postgresql_fleet
    import_many(fleet.database, POSTINGS)
    assert fleet.worker("anna", before=f"tests.crash_points:{walk}").wait() == -signal.SIGKILL
    fleet.finish(fleet.worker("anna"))
    (found,) = fleet.account().faults
    assert fault in found
