"""A worker that never ends: it takes what is new or due again, and bears a provider and a database that are away."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection

from enrichlog import course as course_module
from enrichlog import intake, orphans, patience
from enrichlog import worker as worker_module
from enrichlog.calls import Calls
from enrichlog.claims import Claims, claim
from enrichlog.course import Horizon
from enrichlog.enrichment import enrichment_of
from enrichlog.limits import clear_limits, set_limits
from enrichlog.orphans import HELD_LOOKS, close_own
from enrichlog.postings import store_postings
from enrichlog.runs import perform
from enrichlog.scope import Scope
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import Target, scope_of
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.integrity import verify_log
from tests.builders import StoppedClock, failed, requested, sessions, started, status, tell
from tests.daemon import Daemon, Flaky
from tests.drift import drift_of
from tests.service import close_breaker, ends_of, enrich, import_many, import_postings, of_type, posting


@pytest.fixture(autouse=True)
def it_looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits as long as a daemon does for a person to close the breaker."""
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.01)


def check_that_all_is_sound(database: Database) -> None:
    assert {len(found) for found in ends_of(database).values()} == {1}
    assert verify_log(database).faults == []
    assert drift_of(database) == 0


def succeeded(database: Database) -> int:
    return len(of_type(database, "EnrichmentSucceeded"))


def test_what_appears_while_it_works_is_taken_without_anybody_asking(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    with Daemon(database, service) as daemon:
        daemon.until(daemon.is_idle)
        import_many(database, 3)
        store_postings(database, [posting("theirs")], [], "tests")  # as their own program would: nothing is requested
        daemon.until(lambda: succeeded(database) == 4)
    assert {start.facts["worker"] for start in of_type(database, "EnrichmentStarted")} == {"daemon"}
    check_that_all_is_sound(database)


def test_what_failed_is_tried_again_by_itself_when_its_wait_is_over_and_no_more_often_than_allowed(
    timed: Database, clock: StoppedClock, simulator: Simulator, service: Settings
) -> None:
    import_postings(timed, posting("mends"), posting("stays", description="Never good."))
    simulator.play(Script(rules=[Rule("number mends", ["server_error", "ok"]), Rule("Never", ["wrong_schema"])]))
    with Daemon(timed, service) as daemon:
        daemon.until(lambda: len(simulator.journal) == 2)
        daemon.until(lambda: len(of_type(timed, "EnrichmentFailed")) == 2)
        assert len(simulator.journal) == 2  # their waits are not over
        for _ in range(4):
            clock.advance(hours=1)
            daemon.until(daemon.is_idle)
            daemon.until(lambda: status(timed, "job-stays")["state"] == "failed")
        daemon.until(lambda: status(timed, "job-mends")["state"] == "succeeded")
        daemon.until(lambda: status(timed, "job-stays")["attempts"] == 2)
    assert len(simulator.journal) == 4
    check_that_all_is_sound(timed)


def test_it_waits_while_the_quota_is_used_up_and_finishes_by_itself_when_that_is_over(
    timed: Database, clock: StoppedClock, simulator: Simulator, service: Settings
) -> None:
    import_many(timed, 6)
    simulator.play(Script(quota=2))
    with Daemon(timed, configure(concurrency=1)) as daemon:
        daemon.until(daemon.is_waiting)
        assert daemon.worker is not None
        assert "quota_exceeded" in str(daemon.worker.standing.why)
        assert len(simulator.journal) == 3
        simulator.restore_quota()
        clock.advance(seconds=61)
        daemon.until(lambda: succeeded(timed) >= 5)
        clock.advance(hours=1)
        daemon.until(lambda: succeeded(timed) == 6)
    assert len(simulator.journal) == 7
    check_that_all_is_sound(timed)


def test_one_that_finds_nothing_pauses_before_it_looks_again(
    sqlite: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []

    def claims(*arguments: Any, alone: bool) -> Claims:
        did.extend([] if alone else ["claim"])
        return claim(*arguments, alone=alone)

    async def pauses(calls: Calls, seconds: float) -> None:
        did.append("pause")
        await pause(calls, seconds)

    pause = Calls.pause
    monkeypatch.setattr(intake, "claim", claims)
    monkeypatch.setattr(Calls, "pause", pauses)
    with Daemon(sqlite, service) as daemon:
        daemon.until(lambda: len(did) >= 8)
        daemon.until(daemon.is_idle)
    assert did[:8] == ["claim", "pause"] * 4


def test_it_waits_while_money_is_limited_and_no_price_known_and_goes_on_when_the_limit_is_taken_away(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    priced, settings = enrichment_of(service), configure(model="our-own-model")
    set_limits(database, priced, None, None, 1_000_000)
    import_many(database, 2)
    ended = enrich(database, settings)
    with Daemon(database, settings) as daemon:
        daemon.until(daemon.is_waiting)
        why = daemon.worker and daemon.worker.standing.why
        assert ended.stopped == why
        assert "our-own-model at http://127.0.0.1:" in (why or "")
        assert "is not known, so the limit of money for all calls cannot be kept. Say whose prices " in (why or "")
        assert simulator.journal == []
        clear_limits(database, priced.called, ["microdollars"])
        daemon.until(lambda: succeeded(database) == 2)


def test_nothing_is_claimed_while_the_database_is_away_and_it_goes_on_when_that_is_back(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 4)
    flaky = Flaky(database.url)
    flaky.is_away = True
    with Daemon(flaky, service) as daemon:
        daemon.until(lambda: daemon.worker is not None and daemon.worker.standing.state == "away")
        assert simulator.journal == []
        flaky.is_away = False
        daemon.until(lambda: succeeded(database) == 4)
    assert len(simulator.journal) == 4
    flaky.close()


class _LosesAnswers(Database):
    """A database whose connection breaks right after these of its commits."""

    def __init__(self, url: str, *lost: int) -> None:
        super().__init__(url)
        self.lost, self.written = lost, 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
        self.written += 1
        if self.written in self.lost:
            raise DatabaseUnavailable(where="there", reason="the connection broke")


@pytest.mark.parametrize("lost", [(1,), (2,), (1, 2, 3, 4)])
def test_a_claim_whose_commit_nobody_heard_of_is_begun_and_each_posting_called_once(
    database: Database, simulator: Simulator, service: Settings, lost: tuple[int, ...]
) -> None:
    import_many(database, 5)
    losing = _LosesAnswers(database.url, *lost)
    done = enrich(losing, service)
    losing.close()
    assert (done.succeeded, len(simulator.journal)) == (5, 5)
    assert losing.written > max(lost)
    check_that_all_is_sound(database)


def test_a_named_posting_whose_claim_broke_is_not_taken_a_second_time(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 2)
    enrich(database, service)
    losing = _LosesAnswers(database.url, 1)
    scope = scope_of(database, "job", [Target("000"), Target("001")], force=True)
    done = perform(losing, service, enrichment_of(service), scope)
    losing.close()
    assert (done.succeeded, len(simulator.journal)) == (2, 4)
    check_that_all_is_sound(database)


def test_what_a_dead_worker_had_begun_is_closed_by_its_next_start_and_nobody_elses(database: Database) -> None:
    for name, worker in (("job-1", "w1"), ("job-2", "w2"), ("job-3", "w1")):
        tell(database, name, requested(), started(worker=worker, attempt_id=_attempt_id(name)))
    assert (close_own(database, "w1"), close_own(database, "w1")) == (2, 0)
    states = [status(database, name) for name in ("job-1", "job-2", "job-3")]
    assert [row["state"] for row in states] == ["failed", "running", "failed"]
    assert [row["deaths"] for row in states] == [1, 0, 1]


@pytest.mark.parametrize("looks", [1, HELD_LOOKS])
def test_what_the_session_of_a_dead_worker_still_holds_is_waited_for_a_little(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    for name in ("job-1", "job-2"):
        tell(postgresql, name, requested(), started(worker="w1", attempt_id=_attempt_id(name)))
    waits: list[float] = []
    with sessions(postgresql, 1) as [dead]:
        dead.execute("SELECT 1 FROM enrichlog.enrichment_status WHERE stream_id = 'job-1' FOR UPDATE")

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == looks:
                dead.rollback()

        monkeypatch.setattr(orphans, "time", SimpleNamespace(sleep=sleep))
        assert close_own(postgresql, "w1") == 2
    assert len(waits) == looks


def _attempt_id(name: str) -> str:
    return f"00000000-0000-4000-8000-00000000000{name[-1]}"


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_horizon_moves_after_each_poll_and_new_postings_are_looked_for_in_a_part_of_the_time(
    timed: Database, clock: StoppedClock, service: Settings, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    ticks = [0.0]
    looked: list[float] = []

    def look(*arguments: Any) -> Scope:
        looked.append(ticks[0])
        ticks[0] += 3.0  # it took so long
        return Scope(timed.now())

    monkeypatch.setattr(course_module, "open_scope", look)
    monkeypatch.setattr(course_module, "count_live", lambda database: workers)
    horizon = Horizon(timed, service, enrichment_of(service), 5.0, monotonic=lambda: ticks[0])
    scope = horizon(Scope(timed.now()))
    clock.advance(seconds=1)
    assert horizon(scope) == scope
    again = 3.0 + 60.0 * max(1, workers)
    while ticks[0] < again:
        ticks[0] += 5.0
        clock.advance(seconds=5)
        assert horizon(scope).horizon == clock.now
    assert looked == [0.0, again]


def test_an_orphan_is_closed_though_no_claim_has_room_for_it(
    timed: Database, clock: StoppedClock, service: Settings
) -> None:
    tell(timed, "job-1", requested(), started(attempt_id=_attempt_id("job-1"), lease_seconds=60))
    horizon = Horizon(timed, service, enrichment_of(service), 0.0)
    horizon(Scope(timed.now()))
    assert status(timed, "job-1")["state"] == "running"
    clock.advance(seconds=61)
    horizon(Scope(timed.now()))
    assert (status(timed, "job-1")["state"], status(timed, "job-1")["deaths"]) == ("failed", 1)


def test_a_posting_on_which_a_worker_died_has_its_turn_though_there_is_always_more_to_do(
    database: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_postings(database, posting("suspect"))
    died = failed(error_type="interrupted", worker_died=True, fault="ours", wait_ms=0, attempt_id=_attempt_id("job-1"))
    tell(database, "job-suspect", started(attempt_id=_attempt_id("job-1")), died)
    import_many(database, 40)
    monkeypatch.setattr(worker_module, "SUSPECTS_SECONDS", 0.2)
    simulator.play(Script(latency=0.02))
    with Daemon(database, configure(concurrency=2)) as daemon:
        daemon.until(lambda: status(database, "job-suspect")["state"] == "succeeded")
        before = succeeded(database)
        daemon.until(lambda: succeeded(database) == 41)
    assert before < 41
    check_that_all_is_sound(database)


def test_a_daemon_that_met_a_fault_of_the_setup_goes_on_once_a_person_closes_the_breaker(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 3)
    simulator.play(Script(rules=[Rule("", (Fault.UNAUTHORIZED, Fault.OK))]))
    with Daemon(database, configure(concurrency=1)) as daemon:
        daemon.until(daemon.is_waiting)
        close_breaker(database, service)
        daemon.until(lambda: succeeded(database) == 3)
    assert len(simulator.journal) == 4
