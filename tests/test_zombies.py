"""A worker that is frozen past its lease and goes on: fenced, its cost counted, and nobody else is disturbed."""

import signal
import sys
from contextlib import suppress

import pytest

from enrichlog.simulator import Fault, Rule, Script
from eventlog import dialects
from eventlog.database import Database
from eventlog.errors import DatabaseBusy
from tests.builders import requested, run, status, tell
from tests.fleet import Fleet
from tests.forks import Fork, wait_until
from tests.service import import_postings, of_type, posting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals there")

SLOW = Script(latency=0.3)


@pytest.fixture
def frozen(fleet: Fleet) -> Fork:
    """A worker that has called, was frozen before the answer came, and whose lease has run out since."""
    import_postings(fleet.database, posting("1"))
    fleet.simulator.play(SLOW)
    worker = fleet.enrich()
    fleet.called()
    freeze_between_transactions(fleet.database, worker)
    wait_until(lambda: fleet.simulator.journal[0].completed, "no answer was sent")
    fleet.let_leases_run_out()
    return worker


def freeze_between_transactions(database: Database, worker: Fork) -> None:
    """Frozen within one it would hold the lock of a SQLite file, and nobody can cut it off from that."""
    while True:
        worker.send(signal.SIGSTOP)
        wait_until(worker.is_stopped, "it goes on")
        with pytest.MonkeyPatch.context() as patch, suppress(DatabaseBusy):
            patch.setattr(dialects, "BUSY_PATIENCE_SECONDS", 0.0)
            run(database, "DELETE FROM llm_enrichment WHERE 1 = 0")
            return
        worker.send(signal.SIGCONT)
        wait_until(lambda: not worker.is_stopped(), "it does not go on")


def thaw(worker: Fork) -> None:
    """Let it go on to its end."""
    worker.send(signal.SIGCONT)
    assert worker.wait() == 0, worker.said


@pytest.mark.pooled
def test_its_answer_is_not_used_when_another_worker_has_succeeded(fleet: Fleet, frozen: Fork) -> None:
    fleet.simulator.play(Script())
    assert fleet.enrich().wait() == 0
    before = status(fleet.database, "job-1")
    thaw(frozen)
    account, after = fleet.check(), status(fleet.database, "job-1")
    assert (account.calls, account.late_results, account.extra_calls, account.died) == (2, 1, 0, 1)
    (late,) = of_type(fleet.database, "EnrichmentLateResult")
    assert (late.facts["outcome"], late.facts["used"]) == ("succeeded", False)
    assert after["cost_microdollars"] == 2 * before["cost_microdollars"] > 0
    assert (after["state"], after["successes"], after["attempts"]) == ("succeeded", 1, 2)


def test_a_worker_that_was_not_away_for_longer_than_its_lease_is_as_any_other(fleet: Fleet) -> None:
    import_postings(fleet.database, posting("1"))
    fleet.simulator.play(SLOW)
    worker = fleet.enrich()
    fleet.called()
    freeze_between_transactions(fleet.database, worker)
    assert fleet.enrich().wait() == 0  # there is nothing for it to do
    thaw(worker)
    account = fleet.check()
    assert (account.calls, account.late_results, account.died) == (1, 0, 0)


@pytest.mark.pooled
def test_its_answer_is_used_when_nobody_else_has_succeeded(fleet: Fleet, frozen: Fork) -> None:
    fleet.simulator.play(Script(rules=[Rule("Work", (Fault.INVALID_JSON,))]))
    assert fleet.enrich().wait() == 0
    assert status(fleet.database, "job-1")["state"] == "failed"
    thaw(frozen)
    account = fleet.check()
    assert (account.calls, account.late_results, account.extra_calls) == (2, 1, 0)
    assert account.unfinished == account.succeeded_again == []


@pytest.mark.pooled
def test_whoever_holds_its_posting_by_then_is_not_disturbed(fleet: Fleet, frozen: Fork) -> None:
    fleet.simulator.play(Script(latency=1.0))
    holder = fleet.enrich()
    fleet.called(2)
    held = status(fleet.database, "job-1")
    thaw(frozen)
    found = status(fleet.database, "job-1")
    assert found["successes"] == 1  # it is used: the other has not answered yet
    assert [found[name] for name in ("state", "attempt_id", "due_at")] == [
        held[name] for name in ("state", "attempt_id", "due_at")
    ]
    assert holder.wait() == 0
    account = fleet.check()
    assert (account.calls, account.late_results, account.extra_calls) == (2, 1, 0)
    assert account.unfinished == []


@pytest.mark.parametrize("freeze", ["freeze_at before the commit", "freeze_for 500ms before the claim's commit"])
def test_others_go_on_while_one_is_frozen_with_the_log_lock(postgresql_fleet: Fleet, freeze: str) -> None:
    fleet = postgresql_fleet
    import_postings(fleet.database, posting("1"))
    worker = fleet.enrich(before=f"tests.crash_points:{freeze}")
    wait_until(worker.is_stopped, "it did not freeze")
    tell(fleet.database, "job-2", requested())
    thaw(worker)
    account = fleet.check()
    assert account.postings["job-1"]["state"] == "succeeded"
    assert (account.calls, account.died) == (1, 0)


def test_nobody_would_go_on_if_the_database_let_it_keep_the_lock(
    postgresql_fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = postgresql_fleet
    monkeypatch.setattr(dialects, "LOCK_PATIENCE", "1s")  # twice as long as it had above
    import_postings(fleet.database, posting("1"))
    worker = fleet.enrich(before="tests.crash_points:freeze_for 0 before the commit")
    wait_until(worker.is_stopped, "it did not freeze")
    impatient = Database(fleet.database.url)
    with pytest.raises(DatabaseBusy):
        tell(impatient, "job-2", requested())
    impatient.close()
    thaw(worker)
