"""Claiming: which postings are taken and in which order, leases that run out, and claimers beside each other."""

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import Connection, delete, insert, select, text

from enrichlog import claims as claims_module
from enrichlog.attempt import end, end_proposal
from enrichlog.claims import Claim, Claims, claim, lease_seconds
from enrichlog.enrichment import enrichment_of
from enrichlog.errors import ERROR_TYPES
from enrichlog.orphans import close_overdue
from enrichlog.outcome import Failed, Outcome
from enrichlog.own_postings import job_postings
from enrichlog.posting import Posting
from enrichlog.postings import load_postings
from enrichlog.retry import allowance, verdict
from enrichlog.scope import Scope, count_due, scope_branches
from enrichlog.selection import Allowance, Selection
from enrichlog.settings import Settings, configure
from enrichlog.targets import Target, request, scope_of
from eventlog import dialects
from eventlog.database import Database
from projections.enrichment_status import enrichment_status, row
from projections.status import STATES, Status
from tests.builders import (
    BOUND,
    NOON,
    StoppedClock,
    dismissed,
    failed,
    offer,
    requested,
    run,
    sessions,
    shown,
    started,
    status,
    succeeded,
    tell,
    wait_for_a_waiter,
)
from tests.service import import_many, import_postings, of_type, posting, whole_log

FAR = datetime(2999, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(bare: object) -> Settings:
    return configure(base_url="http://127.0.0.1:1/v1", prices_of="openai", deadline_seconds=300.0)


def claims(
    database: Database, settings: Settings, limit: int = 100, *, scope: Scope | None = None, worker: str = "worker-1",
    money: int | None = None, alone: bool = False,
) -> Claims:  # fmt: skip
    scope = scope or Scope(database.now())
    return claim(database, settings, enrichment_of(settings), scope, worker, limit, money, alone=alone)


def taken(database: Database, settings: Settings, limit: int = 100, **options: Any) -> list[str]:
    return [one.posting.id for one in claims(database, settings, limit, **options).taken]


def store(database: Database, clock: StoppedClock, *ids: str) -> None:
    """Postings stored a second apart."""
    for job_id in ids:
        import_postings(database, posting(job_id))
        clock.advance(seconds=1)


def fail(database: Database, job_id: str, times: int = 1, **facts: Any) -> None:
    for attempt in range(1, times + 1):
        tell(database, f"job-{job_id}", started(attempt), failed(attempt, **{"wait_ms": 0, **facts}))


def record(database: Database, settings: Settings, one: Claim, outcome: Outcome) -> str:
    """Record how a claimed attempt ended; as what it was recorded."""
    recorded = offer(database, end_proposal(one.started, end(enrichment_of(settings), one.started, outcome)))
    return recorded[0].type  # type: ignore[union-attr]


# -- what a claim is --------------------------------------------------------------------------------------------------


def test_claiming_is_appending_a_start_that_says_who_holds_the_posting_and_for_how_long(
    timed: Database, settings: Settings
) -> None:
    import_postings(timed, posting())
    (one,) = claims(timed, settings).taken
    (start,) = of_type(timed, "EnrichmentStarted")
    assert start.facts["attempt_id"] == one.started.event.attempt_id
    assert {name: start.facts[name] for name in ("attempt", "worker", "lease_seconds", "input_hash")} == {
        "attempt": 1,
        "worker": "worker-1",
        "lease_seconds": 360,
        "input_hash": posting().input_hash,
    }
    assert start.facts["reserved_microdollars"] > 0
    found = status(timed, "job-1")
    assert (found["state"], found["due_at"]) == ("running", NOON + timedelta(seconds=360))


def test_a_claimed_posting_is_not_claimed_again(database: Database, settings: Settings) -> None:
    import_many(database, 3)
    assert len(taken(database, settings, 2)) == 2
    assert len(taken(database, settings)) == 1
    assert taken(database, settings) == []


def test_never_tried_comes_first_then_the_least_failed_the_longest_due_before_the_others(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    store(timed, clock, "twice", "once-late", "once", "new", "newer")
    fail(timed, "twice", times=2)
    clock.advance(seconds=1)
    fail(timed, "once")
    clock.advance(seconds=1)
    fail(timed, "once-late")
    clock.advance(minutes=10)
    order = ["new", "newer", "once", "once-late", "twice"]
    assert count_due(timed, "job", Scope(clock()), 5) == 5
    assert [one for _ in order for one in taken(timed, settings, 1)] == order


def test_only_what_is_due_by_the_horizon_is_taken(timed: Database, clock: StoppedClock, settings: Settings) -> None:
    store(timed, clock, "1", "2")
    fail(timed, "1", wait_ms=30_000)
    horizon = Scope(clock())
    clock.advance(seconds=1)
    store(timed, clock, "3")
    assert taken(timed, settings, scope=horizon) == ["2"]
    clock.advance(seconds=27)
    assert taken(timed, settings) == ["3"]
    clock.advance(seconds=1)
    assert taken(timed, settings) == ["1"]


@pytest.mark.parametrize("force", [False, True], ids=["named", "forced"])
def test_a_named_posting_that_changes_during_the_run_is_left_to_the_next(
    timed: Database, clock: StoppedClock, settings: Settings, force: bool
) -> None:
    import_postings(timed, posting())
    if force:
        tell(timed, "job-1", started(input_hash=posting().input_hash), succeeded())
    scope = scope_of(timed, "job", [Target("1")], force=force)
    ((one,), rest, *_) = claims(timed, settings, scope=scope)
    clock.advance(seconds=1)
    import_postings(timed, posting(description="Other work."))
    record(timed, settings, one, Outcome(result={}))
    assert status(timed, "job-1")["state"] == "pending"
    assert taken(timed, settings, scope=rest) == []
    assert taken(timed, settings, scope=scope_of(timed, "job", [Target("1")], force=force)) == ["1"]


def test_named_postings_have_their_turn_in_the_order_of_their_names_and_are_requested_then(
    timed: Database, settings: Settings
) -> None:
    import_many(timed, 4)
    for number in (0, 1, 2):
        tell(timed, f"job-00{number}", started(), succeeded())
    named = [Target("002"), Target("003"), Target("000"), Target("001")]
    scope = scope_of(timed, "job", named, force=True)
    first = claims(timed, settings, 3, scope=scope)
    assert [one.posting.id for one in first.taken] == ["002", "003", "000"]
    asked = [(one.stream_id, one.facts["why"]) for one in of_type(timed, "EnrichmentRequested")[4:]]
    assert asked == [("job-002", "force"), ("job-000", "force")]  # the other was pending anyway
    assert status(timed, "job-001")["state"] == "succeeded"
    assert taken(timed, settings, 3, scope=first.rest) == ["001"]


def test_a_named_posting_that_somebody_else_enriched_meanwhile_is_not_asked_about_again(
    timed: Database, settings: Settings
) -> None:
    import_many(timed, 1)
    scope = scope_of(timed, "job", [Target("000")], force=False)
    tell(timed, "job-000", started(), succeeded())
    assert taken(timed, settings, scope=scope) == []
    assert taken(timed, settings, scope=scope_of(timed, "job", [Target("000")], force=True)) == ["000"]


def test_a_named_posting_that_somebody_holds_just_then_has_a_second_turn_in_which_it_is_waited_for(
    postgresql: Database, settings: Settings
) -> None:
    import_many(postgresql, 3)
    scope = scope_of(postgresql, "job", [Target(f"00{number}") for number in range(3)], force=False)
    with sessions(postgresql, 1) as (holder,), ThreadPoolExecutor(1) as other:
        holder.execute("SELECT FROM enrichlog.enrichment_status WHERE job_id = '000' FOR UPDATE")
        first = claims(postgresql, settings, scope=scope)
        assert [one.posting.id for one in first.taken] == ["001", "002"]
        assert not first.rest.is_exhausted
        waiting = other.submit(claims, postgresql, settings, scope=first.rest)
        wait_for_a_waiter(postgresql)
        holder.rollback()
        second = waiting.result(BOUND)
    assert [one.posting.id for one in second.taken] == ["000"]
    assert (second.rest.is_exhausted, second.rest.missed) == (True, ())


def test_a_named_posting_that_stays_held_is_missed_and_not_an_error(
    postgresql: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialects, "BRIEF_PATIENCE", "10ms")
    import_many(postgresql, 2)
    scope = scope_of(postgresql, "job", [Target("000"), Target("001")], force=False)
    with sessions(postgresql, 1) as (holder,):
        holder.execute("SELECT FROM enrichlog.enrichment_status WHERE job_id = '000' FOR UPDATE")
        first = claims(postgresql, settings, scope=scope)
        second = claims(postgresql, settings, scope=first.rest)
    assert [[one.posting.id for one in each.taken] for each in (first, second)] == [["001"], []]
    assert (second.rest.is_exhausted, second.rest.missed) == (True, ("000",))


def test_a_named_posting_that_is_not_to_be_had_is_told_after_its_second_turn(
    timed: Database, settings: Settings
) -> None:
    import_many(timed, 2)
    scope = scope_of(timed, "job", [Target("000"), Target("001")], force=False)
    tell(timed, "job-000", started(), succeeded())
    first = claims(timed, settings, 1, scope=scope)
    second = claims(timed, settings, 5, scope=first.rest)
    third = claims(timed, settings, 5, scope=second.rest)
    assert [[one.posting.id for one in each.taken] for each in (first, second, third)] == [[], ["001"], []]
    assert (third.rest.is_exhausted, third.rest.missed) == (True, ("000",))


def test_a_posting_given_up_is_tried_again_when_it_is_forced(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 1)
    for number in (1, 2):
        tell(timed, "job-000", started(number), failed(number, error_type="interrupted", cap=3, wait_ms=0))
    tell(timed, "job-000", started(3, attempt_id=str(uuid.uuid4()), lease_seconds=0))
    closing = claims(timed, settings, scope=scope_of(timed, "job", [Target("000")], force=True))
    (one,) = claims(timed, settings, scope=closing.rest).taken
    kinds = [event.type for event in whole_log(timed)][-3:]
    assert kinds == ["EnrichmentFailed", "EnrichmentRequested", "EnrichmentStarted"]
    assert (one.started.event.attempt, status(timed, "job-000")["budget_used"]) == (4, 0)


def test_what_stands_behind_a_posting_that_is_too_dear_keeps_its_turn_too(timed: Database, settings: Settings) -> None:
    import_many(timed, 4)
    scope = scope_of(timed, "job", [Target(f"00{number}") for number in range(4)], force=True)
    (whole, *_), *_ = claims(timed, settings, 1, scope=scope)
    price = whole.started.event.reserved_microdollars or 0
    again = claims(timed, settings, scope=scope.rest(1), money=2 * price)
    assert [one.posting.id for one in again.taken] == ["001", "002"]
    assert (again.put_aside, again.rest.turned) == (0, 3)


def test_a_forced_attempt_waits_like_the_first_of_a_new_budget(timed: Database, settings: Settings) -> None:
    settings = configure(model="model-1")
    import_many(timed, 1)
    fail(timed, "000", times=2)
    for force, failures in ((False, 2), (True, 0)):
        (one,) = claims(timed, settings, scope=scope_of(timed, "job", [Target("000")], force=force)).taken
        assert one.started.failures == failures
        record(timed, settings, one, Outcome(failed=Failed(ERROR_TYPES["rate_limited"], "no")))


def test_money_that_is_not_enough_for_a_named_posting_keeps_its_turn(timed: Database, settings: Settings) -> None:
    import_many(timed, 3)
    scope = scope_of(timed, "job", [Target(f"00{number}") for number in range(3)], force=True)
    (whole, *_), *_ = claims(timed, settings, scope=scope)
    price = whole.started.event.reserved_microdollars or 0
    record(timed, settings, whole, Outcome(result={}))
    again = claims(timed, settings, scope=scope_of(timed, "job", [Target("000")], force=True), money=price - 1)
    assert (again.taken, again.unaffordable, again.rest.turned) == ([], True, 0)
    assert status(timed, "job-000")["state"] == "succeeded"  # and nothing is left behind that somebody would pay for


def test_what_is_done_or_dismissed_or_of_another_enrichment_is_left(database: Database, settings: Settings) -> None:
    import_many(database, 3)
    tell(database, "job-000", started(), succeeded())
    tell(database, "job-001", dismissed())
    other = enrichment_of(settings)._replace(name="pay")
    assert claim(database, settings, other, Scope(FAR), "w", 10).taken == []
    assert taken(database, settings) == ["002"]


def test_a_posting_that_is_gone_is_left(database: Database, settings: Settings) -> None:
    import_many(database, 2)
    with database.write() as connection:
        connection.execute(delete(job_postings).where(job_postings.c.id == "000"))
    assert count_due(database, "job", Scope(FAR), 5) == 1
    assert taken(database, settings) == ["001"]


def test_a_posting_that_goes_while_it_is_claimed_is_skipped(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 3)

    def load_after_deletion(connection: Connection, _: Database, job_ids: Sequence[str]) -> dict[str, Posting]:
        connection.execute(delete(job_postings).where(job_postings.c.id == "001"))
        return load_postings(connection, database, job_ids)

    monkeypatch.setattr(claims_module, "load_postings", load_after_deletion)
    found = claims(database, settings)
    assert [one.posting.id for one in found.taken] == ["000", "002"]
    assert found.put_aside == 1  # so that a worker comes back for more
    assert status(database, "job-001")["state"] == "pending"


def test_a_posting_without_text_or_with_too_much_of_it_is_claimed_with_its_outcome(
    database: Database, settings: Settings
) -> None:
    settings = configure(max_input_tokens=1_000)
    import_postings(database, posting("1", description=""), posting("2", description="x" * 9_000), posting("3"))
    found = {one.posting.id: one.outcome and one.outcome.failed for one in claims(database, settings).taken}
    assert {job_id: why and why.kind.name for job_id, why in found.items()} == {
        "1": "input_error",
        "2": "input_too_large",
        "3": None,
    }


def test_a_posting_whose_answer_was_cut_off_is_asked_again_with_room_for_twice_as_much(
    sqlite: Database, settings: Settings
) -> None:
    settings = configure(max_output_tokens=300)
    import_postings(sqlite, posting("cut"), posting("other"))
    fail(sqlite, "cut", error_type="output_truncated")
    fail(sqlite, "other", error_type="schema_mismatch")
    found = {one.posting.id: one for one in claims(sqlite, settings).taken}
    rooms = {job_id: one.request.body["max_output_tokens"] for job_id, one in found.items()}
    assert rooms == {"cut": 600, "other": 300}
    assert '"max_output_tokens":600' in (found["cut"].started.event.request_parameters or "")


# -- leases -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def dead(timed: Database, clock: StoppedClock, settings: Settings) -> Claim:
    """A claim whose worker never came back."""
    import_postings(timed, posting())
    (one,) = claims(timed, settings, worker="dead").taken
    clock.advance(seconds=lease_seconds(settings))
    return one


def test_a_lease_holds_until_its_last_second(timed: Database, clock: StoppedClock, settings: Settings) -> None:
    import_postings(timed, posting())
    claims(timed, settings)
    clock.advance(seconds=lease_seconds(settings) - 1)
    assert not claims(timed, settings).found
    clock.advance(seconds=1)
    assert claims(timed, settings).put_aside == 1
    assert taken(timed, settings, alone=True) == ["1"]


def claim_after_death(database: Database, settings: Settings, **options: Any) -> Claim:
    """Close the attempt whose worker died, and claim its posting alone."""
    assert claims(database, settings).put_aside == 1
    (again,) = claims(database, settings, alone=True, **options).taken
    return again


@pytest.mark.pooled
def test_an_orphan_that_somebody_holds_is_left_to_them_and_the_others_are_closed(postgresql: Database) -> None:
    for name in ("job-1", "job-2"):
        tell(postgresql, name, requested(), started(attempt_id=str(uuid.uuid4()), lease_seconds=0))
    with sessions(postgresql, 1) as (holder,):
        holder.execute("SELECT FROM enrichlog.enrichment_status WHERE stream_id = 'job-1' FOR UPDATE")
        assert close_overdue(postgresql, "job") == 1
    assert [status(postgresql, name)["state"] for name in ("job-1", "job-2")] == ["running", "failed"]


def test_an_attempt_whose_lease_ran_out_gets_its_own_end_before_the_next_begins(
    timed: Database, dead: Claim, settings: Settings
) -> None:
    again = claim_after_death(timed, settings, worker="alive")
    *_, closed, begun = whole_log(timed)
    assert (closed.type, closed.facts["attempt_id"]) == ("EnrichmentFailed", dead.started.event.attempt_id)
    assert (closed.facts["error_type"], closed.facts["counts"], closed.facts["attempt"]) == ("interrupted", True, 1)
    assert closed.content == {"message": "The worker dead did not come back before its lease ran out"}
    assert (begun.type, begun.facts["attempt"]) == ("EnrichmentStarted", 2)
    assert begun.facts["attempt_id"] == again.started.event.attempt_id
    assert (status(timed, "job-1")["budget_used"], status(timed, "job-1")["worker"]) == (1, "alive")


def test_the_end_of_a_dead_attempt_says_when_it_was_closed_and_carries_its_facts(
    timed: Database, clock: StoppedClock, dead: Claim, settings: Settings
) -> None:
    claims(timed, settings)
    closed, start = of_type(timed, "EnrichmentFailed")[0], of_type(timed, "EnrichmentStarted")[0]
    assert closed.facts["occurred_at"].startswith(clock().strftime("%Y-%m-%dT%H:%M:%S"))
    same = ("request_model", "endpoint", "credential", "prompt_hash", "schema_hash", "input_hash")
    assert {name: closed.facts[name] for name in same} == {name: start.facts[name] for name in same}


def test_the_answer_of_a_worker_that_was_given_up_is_a_late_result_that_is_used(
    timed: Database, dead: Claim, settings: Settings
) -> None:
    again = claim_after_death(timed, settings)
    assert record(timed, settings, dead, Outcome(result={"title": "late"})) == "EnrichmentLateResult"
    assert (status(timed, "job-1")["state"], status(timed, "job-1")["successes"]) == ("running", 1)
    assert (shown(timed, "job-1") or {})["result"] == {"title": "late"}
    assert record(timed, settings, again, Outcome(result={"title": "on time"})) == "EnrichmentSucceeded"
    assert (shown(timed, "job-1") or {})["result"] == {"title": "on time"}


def test_after_another_success_the_late_result_is_kept_and_not_used(
    timed: Database, dead: Claim, settings: Settings
) -> None:
    again = claim_after_death(timed, settings)
    record(timed, settings, again, Outcome(result={"title": "on time"}))
    assert record(timed, settings, dead, Outcome(result={"title": "late"})) == "EnrichmentLateResult"
    (late,) = of_type(timed, "EnrichmentLateResult")
    assert (late.facts["used"], late.content) == (False, {"result": {"title": "late"}})
    assert (shown(timed, "job-1") or {})["result"] == {"title": "on time"}


@pytest.mark.pooled
def test_a_posting_on_which_a_worker_died_is_claimed_alone_and_after_three_deaths_by_nobody(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    store(timed, clock, "poison", "one", "two")
    assert len(claims(timed, settings).taken) == 3
    clock.advance(seconds=lease_seconds(settings))
    assert claims(timed, settings).put_aside == 3  # all three are suspects
    assert taken(timed, settings) == []  # and are not claimed together
    for _ in range(6):
        for one in claims(timed, settings, alone=True).taken:
            if one.posting.id != "poison":
                record(timed, settings, one, Outcome(result={}))
        clock.advance(seconds=lease_seconds(settings))
        claims(timed, settings)
    attempts = {job_id: status(timed, f"job-{job_id}")["attempts"] for job_id in ("poison", "one", "two")}
    assert attempts == {"poison": 3, "one": 2, "two": 2}
    found = status(timed, "job-poison")
    assert (found["state"], found["budget_used"], found["deaths"], found["due_at"]) == ("failed", 3, 3, None)
    assert [status(timed, f"job-{job_id}")["state"] for job_id in ("one", "two")] == ["succeeded"] * 2


@pytest.mark.parametrize(("ending", "deaths"), [("timeout", 0), ("interrupted", 1)], ids=["an answer", "a shutdown"])
def test_a_posting_is_no_longer_suspected_once_an_attempt_at_it_came_to_an_end_of_its_own(
    timed: Database, dead: Claim, settings: Settings, ending: str, deaths: int
) -> None:
    again = claim_after_death(timed, settings)
    tell(timed, "job-1", failed(2, attempt_id=again.started.event.attempt_id, error_type=ending, counts=False))
    assert status(timed, "job-1")["deaths"] == deaths


def test_a_neighbour_is_not_given_up_for_the_death_of_a_worker_however_much_it_has_failed_itself(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    settings = configure(model="model-1")
    store(timed, clock, "1")
    fail(timed, "1", times=4)
    assert taken(timed, settings) == ["1"]
    clock.advance(seconds=lease_seconds(settings))
    claim_after_death(timed, settings)
    assert status(timed, "job-1")["budget_used"] == 5


def test_who_takes_named_postings_closes_no_dead_attempts_of_others(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 2)
    claims(timed, settings)
    clock.advance(seconds=lease_seconds(settings))
    closing = claims(timed, settings, scope=scope_of(timed, "job", [Target("001")], force=False))
    assert closing.put_aside == 1
    assert [status(timed, f"job-{job_id}")["state"] for job_id in ("000", "001")] == ["running", "failed"]


def test_the_dead_attempt_of_a_posting_that_was_deleted_is_closed_and_no_other_begun(
    timed: Database, dead: Claim, settings: Settings
) -> None:
    with timed.write() as connection:
        connection.execute(delete(job_postings))
    assert count_due(timed, "job", Scope(FAR), 5) == 0
    closing = claims(timed, settings)
    assert (closing.taken, closing.put_aside, closing.found) == ([], 1, True)
    closed = whole_log(timed)[-1]
    assert (closed.type, closed.facts["error_type"]) == ("EnrichmentFailed", "interrupted")
    assert status(timed, "job-1")["state"] == "failed"
    assert not claims(timed, settings).found


# -- claimers beside each other ---------------------------------------------------------------------------------------


@pytest.mark.pooled
def test_two_claimers_never_take_the_same_posting(database: Database, settings: Settings) -> None:
    import_many(database, 60)
    together = threading.Barrier(4)

    def take(number: int) -> list[str]:
        together.wait(BOUND)
        return [one for _ in range(3) for one in taken(database, settings, 5, worker=f"worker-{number}")]

    with ThreadPoolExecutor(4) as threads:
        found = [one for each in threads.map(take, range(4), timeout=BOUND) for one in each]
    assert len(found) == len(set(found)) == 60


@pytest.mark.pooled
def test_a_claim_does_not_wait_for_rows_that_another_holds(postgresql: Database, settings: Settings) -> None:
    import_many(postgresql, 3)
    with postgresql.write() as connection:
        held = select(enrichment_status).where(enrichment_status.c.job_id == "000").with_for_update()
        connection.execute(held)
        connection.execute(text("SET LOCAL lock_timeout = '1ms'"))
        assert taken(postgresql, settings) == ["001", "002"]
    assert taken(postgresql, settings) == ["000"]


# -- budgets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("error_type", "tries"), [("timeout", 5), ("invalid_json", 2), ("other", 2), ("refusal", 1)])
def test_a_posting_is_tried_until_its_budget_is_used(
    sqlite: Database, settings: Settings, error_type: str, tries: int
) -> None:
    kind = ERROR_TYPES[error_type]
    import_postings(sqlite, posting())
    for attempt in range(1, 8):
        if not taken(sqlite, settings):
            break
        number = of_type(sqlite, "EnrichmentStarted")[-1].facts["attempt_id"]
        facts = {"error_type": error_type, "retryable": kind.retryable, "counts": kind.counts, "cap": kind.cap}
        tell(sqlite, "job-1", failed(attempt, attempt_id=number, wait_ms=0, **facts))
    assert len(of_type(sqlite, "EnrichmentStarted")) == tries


def test_failures_that_are_not_the_postings_fault_use_no_budget(sqlite: Database, settings: Settings) -> None:
    import_postings(sqlite, posting())
    fail(sqlite, "1", times=12, error_type="server_error", counts=False)
    assert taken(sqlite, settings) == ["1"]


@pytest.mark.parametrize("most", [1, 3, 9])
def test_the_default_maximum_can_be_set(sqlite: Database, settings: Settings, most: int) -> None:
    import_postings(sqlite, posting("a"), posting("b"))
    fail(sqlite, "a", times=most)
    fail(sqlite, "b", times=most - 1) if most > 1 else None
    assert taken(sqlite, configure(max_attempts=most)) == ["b"]


def test_a_maximum_that_was_requested_overrides_the_cap(sqlite: Database, settings: Settings) -> None:
    import_postings(sqlite, posting())
    fail(sqlite, "1", times=2, error_type="invalid_json", cap=2)
    assert taken(sqlite, settings) == []
    tell(sqlite, "job-1", requested("retry", max_attempts=4))
    assert taken(sqlite, settings) == ["1"]
    number = of_type(sqlite, "EnrichmentStarted")[-1].facts["attempt_id"]
    facts = {"error_type": "invalid_json", "cap": 2, "wait_ms": 0, "attempt_id": number}
    tell(sqlite, "job-1", failed(3, **facts))
    assert taken(sqlite, settings) == ["1"]


def test_a_maximum_above_the_usual_one_that_was_requested_is_used_to_its_last_attempt_and_no_further(
    sqlite: Database, settings: Settings
) -> None:
    for job_id, times in (("one-left", 6), ("used-up", 7)):
        import_postings(sqlite, posting(job_id))
        tell(sqlite, f"job-{job_id}", requested("retry", max_attempts=7))
        fail(sqlite, job_id, times)
    assert settings.max_attempts == 5
    assert taken(sqlite, settings) == ["one-left"]


KINDS = [ERROR_TYPES[name] for name in ("timeout", "invalid_json", "interrupted", "server_error", "refusal")]


def statuses() -> dict[str, Status]:
    """A status for each combination of what decides whether a failed posting is tried again, and of the others."""
    combined = product(KINDS, range(8), range(3), (None, 1, 2, 4, 9), (LONG_AGO, FAR, None), (0, 1))
    failing = [
        Status(
            state="failed",
            error_type=kind.name,
            retryable=kind.retryable,
            cap=kind.cap,
            budget_used=used,
            grants=grants,
            max_attempts=most,
            due_at=due,
            deaths=deaths,
        )
        for kind, used, grants, most, due, deaths in combined
    ]
    others = [Status(state=state, due_at=LONG_AGO) for state in STATES if state != "failed"]
    return {f"job-{number:05}": one for number, one in enumerate(failing + others)}


def is_tried(one: Status) -> bool:
    """Whether a retry takes it, by the pure rules."""
    found = verdict(
        retryable=bool(one.retryable),
        budget_used=one.budget_used - one.grants,
        allowed=allowance(one.max_attempts, one.cap),
        deaths=one.deaths,
        due_at=one.due_at,
        now=datetime.now(UTC),
    )
    return one.state == "failed" and found == "will_try"


def test_the_view_the_plan_the_claims_and_the_rules_agree_on_what_is_tried_again(database: Database) -> None:
    made = statuses()
    postings = [Posting(stream_id.removeprefix("job-"), "t", "d") for stream_id in made]
    values = [{**one._asdict(), "input_hash": "h", "imported_at": NOON} for one in postings]
    with database.write() as connection:
        connection.execute(insert(job_postings), values)
        connection.execute(insert(enrichment_status), [row(stream_id, one) for stream_id, one in made.items()])
        now = database.dialect.clock(connection)
    expected = {stream_id.removeprefix("job-") for stream_id, one in made.items() if is_tried(one)}
    assert 0 < len(expected) < len(made)

    viewed = [one["job_id"] for one in run(database, "SELECT job_id FROM jobs_needing_retry")]
    assert sorted(viewed) == sorted(expected)
    conditions = [*Selection().conditions("job"), Allowance(None, 5).verdicts(now)["will_try"]]
    planned = database.page(select(enrichment_status.c.job_id).where(*conditions))
    assert sorted(one.job_id for one in planned) == sorted(expected)
    query = select(enrichment_status.c.job_id).where(enrichment_status.c.state == "failed")
    branches = [*scope_branches(database, "job", Scope(now), now, 5)]
    branches += scope_branches(database, "job", Scope(now), now, 5, alone=True)
    claimed = [one.job_id for branch in branches for one in database.page(query.where(branch))]
    assert sorted(claimed) == sorted(expected)  # each in one branch only


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.pooled
def test_a_batch_is_what_was_requested_and_nothing_else(database: Database, settings: Settings) -> None:
    import_many(database, 4)
    tell(database, "job-001", started(), succeeded())
    fail(database, "002", times=5)
    targets = [Target(job_id, status(database, f"job-{job_id}")["version"]) for job_id in ("001", "002")]
    found = request(database, "job", targets, "a better prompt")
    assert found.moved_on == []
    assert count_due(database, "job", found.scope, 5) == 2
    assert sorted(taken(database, settings, scope=found.scope)) == ["001", "002"]
    assert sorted(taken(database, settings)) == ["000", "003"]
    batches = {one.facts.get("batch") for one in of_type(database, "EnrichmentRequested")[-2:]}
    assert batches == {found.scope.batch}


def test_a_posting_of_a_batch_is_tried_once(database: Database, settings: Settings) -> None:
    import_many(database, 1)
    version = status(database, "job-000")["version"]
    scope = request(database, "job", [Target("000", version)], "outdated").scope
    assert taken(database, settings, scope=scope) == ["000"]
    number = of_type(database, "EnrichmentStarted")[-1].facts["attempt_id"]
    tell(database, "job-000", failed(attempt_id=number, wait_ms=0))
    assert taken(database, settings, scope=scope) == []


def test_a_posting_that_moved_on_is_reported_and_not_requested(database: Database, settings: Settings) -> None:
    import_many(database, 2)
    old = {job_id: status(database, f"job-{job_id}")["version"] for job_id in ("000", "001")}
    tell(database, "job-000", started(), succeeded())
    found = request(database, "job", [Target(job_id, version) for job_id, version in old.items()], "outdated")
    assert found.moved_on == ["000"]
    assert taken(database, settings, scope=found.scope) == ["001"]


# -- money ------------------------------------------------------------------------------------------------------------


def test_no_more_is_claimed_than_the_money_is_enough_for(database: Database, settings: Settings) -> None:
    import_many(database, 5)
    (first,) = claims(database, settings, 1).taken
    price = first.started.event.reserved_microdollars or 0
    some = claims(database, settings, money=2 * price + price // 2)
    assert (len(some.taken), some.unaffordable) == (2, True)
    assert len(of_type(database, "EnrichmentStarted")) == 3
    none = claims(database, settings, money=price - price // 2)
    assert (none.taken, none.unaffordable) == ([], True)
    rest = claims(database, settings, money=10 * price)
    assert (len(rest.taken), rest.unaffordable) == (2, False)
