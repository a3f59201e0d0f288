"""The breaker: what opens it, who may call while it is open, what closes it, and that a rebuild gives the same."""

import asyncio
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from enrichlog.breakers import list_breakers, set_by_hand, why_held
from enrichlog.claims import Claims, claim, lease_seconds
from enrichlog.course import to_the_end
from enrichlog.enrichment import enrichment_of
from enrichlog.errors import ERROR_TYPES
from enrichlog.exceptions import UnknownBreaker
from enrichlog.patience import PROBE_LOOK_SECONDS
from enrichlog.runs import perform
from enrichlog.scope import Scope
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import Target, scope_of
from enrichlog.worker import Worker
from eventlog.database import Database
from eventlog.errors import HeldBack
from eventlog.events import EnrichmentFailed, Event
from eventlog.log import Recorded
from projections import breaker as model
from projections.breaker import Breaker, breaker_id, find_breaker, fold
from projections.outage import Outage
from projections.rebuild import reconcile_named
from tests.builders import (
    BOUND,
    NOON,
    StoppedClock,
    dismissed,
    failed,
    follow,
    offer,
    proposal,
    run,
    started,
    status,
    tell,
)
from tests.command_line import Command
from tests.drift import drift_of
from tests.service import close_breaker, import_many, import_postings, of_type, posting

PLACE = {"endpoint": "https://api.example/v1", "request_model": "model-1", "credential": "key-1"}
SETUP: dict[str, Any] = {"fault": "setup", "error_type": "quota_exceeded", "http_status": 429, "counts": False}
PROVIDER: dict[str, Any] = {"fault": "provider", "error_type": "server_error", "http_status": 503, "counts": False}
POSTING: dict[str, Any] = {"fault": "posting", "error_type": "invalid_json", "http_status": 200}


class Story:
    """Events of one breaker, one second and one position after the other, folded as they come."""

    def __init__(self) -> None:
        self.state, self.position = Breaker(), 0

    @property
    def now(self) -> Any:
        return NOON + timedelta(seconds=self.position)

    @property
    def is_(self) -> str:
        return self.state.state

    def tell(self, kind: str, stream: str = "job-1", **facts: Any) -> int:
        self.position += 1
        known = {"origin": "call", "called": True, "probe": False, "attempt_id": "a", "lease_seconds": 300, **PLACE}
        event = Recorded(self.position, "e", stream, 1, kind, self.now, {**known, **facts}, None)
        self.state = fold(self.state, event)
        return self.position

    def fail(self, since: int, stream: str = "job-1", **facts: Any) -> None:
        self.tell("EnrichmentFailed", stream, started_position=since, **facts)

    def succeed(self, since: int, **facts: Any) -> None:
        self.tell("EnrichmentSucceeded", started_position=since, http_status=200, **facts)

    def probe(self, attempt_id: str = "probe") -> int:
        return self.tell("EnrichmentStarted", probe=True, attempt_id=attempt_id)


@pytest.fixture
def story() -> Story:
    return Story()


def outage(story: Story, failures: int = 5, postings: int = 3, **facts: Any) -> None:
    since = story.tell("EnrichmentStarted")
    for number in range(failures):
        story.fail(since, f"job-{number % postings}", **{**PROVIDER, **facts})


# -- the fold ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error_type", [kind.name for kind in ERROR_TYPES.values() if kind.fault == "setup"])
def test_what_concerns_every_posting_opens_it_at_once(story: Story, error_type: str) -> None:
    story.fail(story.tell("EnrichmentStarted"), **{**SETUP, "error_type": error_type})
    assert (story.state.state, story.state.error_type) == ("open", error_type)
    assert story.state.open_until == story.now + timedelta(seconds=60)
    assert not story.state.is_free(story.now)


@pytest.mark.parametrize(
    ("failures", "postings", "state"), [(5, 3, "open"), (4, 4, "closed"), (9, 2, "closed"), (9, 1, "closed")]
)
def test_five_failures_of_the_provider_in_a_row_over_three_postings_open_it(
    story: Story, failures: int, postings: int, state: str
) -> None:
    outage(story, failures, postings)
    assert story.is_ == state


@pytest.mark.parametrize("error_type", ["server_error", "connection", "invalid_response_body", "timeout"])
def test_timeouts_are_failures_of_the_provider_too(story: Story, error_type: str) -> None:
    assert ERROR_TYPES[error_type].fault == "provider"
    outage(story, error_type=error_type)
    assert story.state.error_type == error_type


@pytest.mark.parametrize(
    ("between", "state"),
    [
        ({"fault": "posting", "error_type": "refusal"}, "closed"),
        ({"fault": "ours", "error_type": "rate_limited"}, "open"),
        ({"fault": "ours", "error_type": "interrupted"}, "open"),
        ({"fault": "posting", "error_type": "input_error", "called": False}, "open"),
        ({**PROVIDER, "origin": "imported"}, "open"),
    ],
    ids=["an answer", "a rate limit", "an interruption", "no call", "imported"],
)
def test_an_answer_in_between_ends_the_row_and_what_says_nothing_of_the_provider_does_not(
    story: Story, between: dict[str, Any], state: str
) -> None:
    outage(story, 4)
    story.fail(1, **between)
    story.fail(1, "job-2", **PROVIDER)
    assert story.is_ == state
    story.succeed(1)
    assert story.is_ == state


def test_a_success_ends_the_row(story: Story) -> None:
    outage(story, 4)
    story.succeed(1)
    outage(story, 4)
    assert story.is_ == "closed"


def test_ends_of_attempts_that_started_before_it_opened_say_nothing_also_once_it_is_closed(story: Story) -> None:
    early = story.tell("EnrichmentStarted")
    story.fail(early, **SETUP)
    opened = story.state
    for _ in range(6):
        story.fail(early, **PROVIDER)
        story.succeed(early)
    assert story.state == opened
    story.tell("BreakerSet", state="closed", actor="me")
    story.fail(early, **SETUP)
    assert story.is_ == "closed"
    story.fail(story.tell("EnrichmentStarted"), **SETUP)  # the control: one that started since
    assert story.is_ == "open"


def test_a_start_that_is_a_probe_makes_it_half_open_and_only_that_attempts_end_moves_it(story: Story) -> None:
    outage(story)
    since = story.probe()
    assert (story.state.state, story.state.probe_id) == ("half_open", "probe")
    story.succeed(since, attempt_id="another")
    assert story.is_ == "half_open"
    story.succeed(since, attempt_id="probe")
    assert (story.state.state, story.state.failures) == ("closed", 0)


def test_a_probe_that_fails_opens_it_for_twice_as_long_and_at_most_two_minutes(story: Story) -> None:
    outage(story)
    opened, waits = (story.state.opened_at, story.state.opened_position), []
    for _ in range(3):
        since = story.probe()
        story.fail(since, attempt_id="probe", **PROVIDER)
        assert story.state.open_until is not None
        waits.append((story.state.open_until - story.now).total_seconds())
    assert waits == [120, 120, 120]
    assert (story.state.opened_at, story.state.opened_position) == opened


def test_a_probe_that_fails_for_the_postings_own_sake_closes_it(story: Story) -> None:
    outage(story)
    story.fail(story.probe(), attempt_id="probe", **POSTING)
    assert story.is_ == "closed"


def test_a_probe_that_is_asked_to_wait_closes_it_and_everybody_waits(story: Story) -> None:
    outage(story)
    asked: dict[str, Any] = {"http_status": 429, "retry_after_ms": 30_000}
    story.fail(story.probe(), attempt_id="probe", fault="ours", error_type="rate_limited", **asked)
    assert (story.is_, story.state.free_at(story.now)) == ("closed", story.now + timedelta(seconds=30))


@pytest.mark.parametrize(
    "ending",
    [
        {"fault": "ours", "error_type": "interrupted"},
        {"fault": "posting", "error_type": "input_error", "called": False},
    ],
    ids=["interrupted", "never called"],
)
def test_a_probe_that_says_nothing_leaves_it_open_for_another_probe_at_once(
    story: Story, ending: dict[str, Any]
) -> None:
    outage(story)
    story.position += 60
    until = story.state.open_until
    story.fail(story.probe(), attempt_id="probe", **ending)
    assert (story.state.state, story.state.is_free(story.now)) == ("open", True)
    assert story.state.open_until == until  # whoever waits for this opening still does


def test_a_probe_whose_worker_never_came_back_is_followed_by_another_once_its_lease_is_over(story: Story) -> None:
    outage(story)
    story.probe("lost")
    assert not story.state.is_free(story.now + timedelta(seconds=299))
    assert story.state.is_free(story.now + timedelta(seconds=300))
    since = story.probe("second")
    story.fail(since, attempt_id="lost", **PROVIDER)
    assert story.is_ == "half_open"
    story.succeed(since, attempt_id="second")
    assert story.is_ == "closed"


def test_a_wait_that_the_provider_asks_for_is_a_floor_for_everybody_and_makes_the_cooldown_longer(story: Story) -> None:
    since = story.tell("EnrichmentStarted")
    story.fail(since, fault="ours", error_type="rate_limited", retry_after_ms=20_000)
    assert story.state.free_at(story.now) == story.now + timedelta(seconds=20)
    story.fail(since, fault="ours", error_type="rate_limited", retry_after_ms=5_000)
    assert story.state.free_at(story.now) == story.now + timedelta(seconds=19)  # the longer one stays
    story.fail(since, **SETUP, retry_after_ms=600_000)
    assert story.state.open_until == story.now + timedelta(seconds=600)


def test_a_wait_that_a_posting_was_asked_for_by_its_own_fault_is_no_floor_for_the_others(story: Story) -> None:
    since = story.tell("EnrichmentStarted")
    story.fail(since, **POSTING, retry_after_ms=20_000)
    assert story.state.is_free(story.now)
    story.fail(since, **PROVIDER, retry_after_ms=20_000)  # the control
    assert not story.state.is_free(story.now)


def test_by_hand_it_opens_for_as_long_as_is_said_or_until_it_is_closed_and_closing_needs_no_probe(story: Story) -> None:
    story.tell("BreakerSet", state="open", actor="me")
    assert (story.state.free_at(story.now), story.state.actor) == (None, "me")
    story.tell("BreakerSet", state="open", actor="me", cooldown_seconds=7_200)
    assert story.state.free_at(story.now) == story.now + timedelta(hours=2)
    story.fail(1, fault="ours", error_type="rate_limited", retry_after_ms=20_000)
    story.tell("BreakerSet", state="closed", actor="me")
    assert (story.state.state, story.state.is_free(story.now)) == ("closed", True)


def test_what_began_before_a_person_closed_it_does_not_open_it_again(story: Story) -> None:
    outage(story)
    since = story.probe()
    story.tell("BreakerSet", state="closed", actor="me")
    story.fail(since, attempt_id="probe", **SETUP)
    assert story.is_ == "closed"
    story.fail(story.tell("EnrichmentStarted"), **SETUP)  # the control
    assert story.is_ == "open"


def test_opening_it_by_hand_keeps_the_wait_that_the_provider_asked_for(story: Story) -> None:
    story.fail(story.tell("EnrichmentStarted"), fault="ours", error_type="rate_limited", retry_after_ms=300_000)
    asked = story.state.free_at(story.now)
    story.tell("BreakerSet", state="open", actor="me", cooldown_seconds=60)
    assert story.state.free_at(story.now) == asked


# -- claims -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def settings(bare: object) -> Settings:
    return configure(base_url="http://127.0.0.1:1/v1", model="model-1", deadline_seconds=300.0)


def claims(database: Database, settings: Settings, limit: int = 100, worker: str = "worker-1") -> Claims:
    return claim(database, settings, enrichment_of(settings), Scope(database.now()), worker, limit)


def where(settings: Settings) -> dict[str, Any]:
    return dict(zip(PLACE, enrichment_of(settings).called, strict=True))


def open_it(database: Database, settings: Settings, job_id: str = "000", **facts: Any) -> None:
    """Have an attempt of this posting end in what opens the breaker at once."""
    at = {**where(settings), "attempt_id": f"opens-{job_id}"}
    begun = status(database, f"job-{job_id}")["attempts"] + 1
    tell(database, f"job-{job_id}", started(begun, **at))
    position = of_type(database, "EnrichmentStarted")[-1].position
    ending = {**SETUP, **at, "started_position": position, "wait_ms": 0, **facts}
    tell(database, f"job-{job_id}", failed(begun, **ending))


def breaker_of(database: Database, settings: Settings) -> Breaker:
    with database.read() as connection:
        return find_breaker(connection, database.dialect, *enrichment_of(settings).called)[1]


def test_nothing_is_claimed_while_it_is_open_and_one_posting_as_a_probe_after_that(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 5)
    open_it(timed, settings)
    held = claims(timed, settings)
    assert (held.taken, held.held, held.rest.is_exhausted) == ([], breaker_of(timed, settings), False)
    clock.advance(seconds=60)
    (probe,) = claims(timed, settings).taken
    assert probe.started.event.probe
    again = claims(timed, settings)
    assert again.taken == []
    assert again.held is not None
    assert again.held.state == "half_open"
    assert len(of_type(timed, "EnrichmentStarted")) == 2


def test_of_the_named_postings_the_first_is_the_probe_and_the_others_keep_their_turn(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 4)
    open_it(timed, settings)
    clock.advance(seconds=60)
    named = scope_of(timed, "job", [Target(job_id) for job_id in ("003", "002", "001")], force=False)
    probing = claim(timed, settings, enrichment_of(settings), named, "worker-1", 100)
    assert [(one.posting.id, one.started.event.probe) for one in probing.taken] == [("003", True)]
    close_breaker(timed, settings)
    rest = claim(timed, settings, enrichment_of(settings), probing.rest, "worker-1", 100)
    assert [(one.posting.id, one.started.event.probe) for one in rest.taken] == [("002", False), ("001", False)]


def test_where_nothing_is_due_nobody_is_held_back(timed: Database, settings: Settings) -> None:
    import_many(timed, 1)
    open_it(timed, settings)
    assert claims(timed, settings).held is not None  # the control
    tell(timed, "job-000", dismissed())
    assert claims(timed, settings) == Claims([], Scope(NOON))


def test_another_endpoint_model_or_key_is_not_held_back(timed: Database, settings: Settings) -> None:
    import_many(timed, 4)
    open_it(timed, settings)
    assert claims(timed, settings).held is not None  # the control
    for other in (configure(base_url="http://127.0.0.2:1/v1", model="model-1"), configure(api_key="another")):
        assert len(claims(timed, other, 1).taken) == 1


@pytest.mark.pooled
def test_of_many_claimers_at_once_exactly_one_gets_the_probe(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 40)
    open_it(database, settings)
    run(database, "UPDATE {ours}breaker SET open_until = opened_at")  # as if the cooldown were over
    together = threading.Barrier(6)

    def take(number: int) -> list[bool]:
        together.wait(BOUND)
        return [one.started.event.probe for one in claims(database, settings, 10, f"worker-{number}").taken]

    with ThreadPoolExecutor(6) as threads:
        found = [probe for each in threads.map(take, range(6), timeout=BOUND) for probe in each]
    assert found == [True]


@pytest.mark.pooled
def test_a_claim_that_looked_before_it_opened_is_undone(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 3)
    open_it(database, settings)
    monkeypatch.setattr("enrichlog.claims.find_breaker", lambda *_: (database.now(), Breaker()))
    before = len(of_type(database, "EnrichmentStarted"))
    assert claims(database, settings).taken == []
    assert len(of_type(database, "EnrichmentStarted")) == before
    assert status(database, "job-001")["state"] == "pending"


@pytest.mark.pooled
def test_the_log_itself_admits_no_start_that_the_breaker_does_not(database: Database, settings: Settings) -> None:
    import_many(database, 2)
    open_it(database, settings)
    with pytest.raises(HeldBack):
        tell(database, "job-001", started(**where(settings)))
    tell(database, "job-001", started(origin="external", **where(settings)))  # nobody calls for that


def test_attempts_whose_worker_died_are_closed_while_it_is_open_too(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 2)
    (one, _) = claims(timed, settings).taken
    clock.advance(seconds=lease_seconds(settings))
    set_by_hand(timed, "open", None, enrichment_of(settings).called, "maintenance")
    held = claims(timed, settings)
    assert (held.put_aside, held.taken) == (2, [])
    assert status(timed, f"job-{one.posting.id}")["state"] == "failed"


# -- outages ----------------------------------------------------------------------------------------------------------


def ends(settings: Settings, count: int, position: int, **facts: Any) -> Sequence[tuple[str, Event]]:
    at = where(settings)
    return [
        (f"job-{n:03}", failed(attempt_id=f"{n}", **{**at, "started_position": position, "wait_ms": 0, **facts}))
        for n in range(count)
    ]


@pytest.mark.parametrize("together", [True, False], ids=["in one append", "one by one"])
def test_of_a_streak_of_timeouts_the_first_five_count_and_the_later_ones_do_not(
    database: Database, settings: Settings, together: bool
) -> None:
    import_many(database, 12)
    at = where(settings)
    offer(database, *(proposal(f"job-{n:03}", started(attempt_id=f"{n}", **at)) for n in range(12)))
    timeouts = [proposal(*one) for one in ends(settings, 12, 999, fault="provider", error_type="timeout")]
    for batch in [timeouts] if together else [[one] for one in timeouts]:
        offer(database, *batch)
    counted = [one.facts["counts"] for one in of_type(database, "EnrichmentFailed")]
    assert counted == [True] * 5 + [False] * 7
    assert breaker_of(database, settings).state == "open"
    assert drift_of(database, "enrichment_status") == 0


def test_what_began_before_it_opened_does_not_count_either_when_it_ends_after_it_has_closed_again(
    database: Database, settings: Settings
) -> None:
    import_many(database, 8)
    at = where(settings)
    offer(database, *(proposal(f"job-{n:03}", started(attempt_id=f"{n}", **at)) for n in range(8)))
    early, timeout = follow(database)[-1], {"fault": "provider", "error_type": "timeout"}
    *first, late, _ = ends(settings, 8, early, **timeout)
    for one in first:
        offer(database, proposal(*one))
    close_breaker(database, settings)
    offer(database, proposal(*late))
    counted = [one.facts["counts"] for one in of_type(database, "EnrichmentFailed")]
    assert counted == [True] * 5 + [False] * 2
    fresh = ends(settings, 8, follow(database)[-1] + 1, **timeout)[-1]
    offer(database, proposal(*fresh))  # the control: as if it had begun since
    assert of_type(database, "EnrichmentFailed")[-1].facts["counts"] is True


@pytest.mark.parametrize(
    ("facts", "counts"),
    [({}, False), ({"origin": "imported"}, True), ({"fault": "posting"}, True), ({"credential": "another"}, True)],
    ids=["ours", "imported", "the posting's own", "another key's"],
)
def test_only_a_failure_of_the_provider_that_is_open_is_not_counted(facts: dict[str, Any], counts: bool) -> None:
    known = Outage({tuple(PLACE.values()): Breaker("open")})
    judged = known.judged(failed(**{**PLACE, "fault": "provider", "counts": True, **facts}))
    assert isinstance(judged, EnrichmentFailed)
    assert judged.counts == counts


def test_an_outage_of_any_length_uses_up_no_posting_and_puts_none_off_for_good(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    """Four hours of timeouts and failing servers, ten postings, and a worker that calls whenever it may."""
    import_many(timed, 10)
    calls = 0
    for _ in range(4 * 30):
        clock.advance(minutes=2)
        for one in claims(timed, settings).taken:
            calls += 1
            kind = ERROR_TYPES["timeout" if calls % 2 else "server_error"]
            facts = {"fault": kind.fault, "error_type": kind.name, "counts": kind.counts, "wait_ms": 30_000}
            at = {**where(settings), "started_position": one.started.position, "max_deferrals": kind.max_deferrals}
            end = failed(one.started.event.attempt, attempt_id=one.started.event.attempt_id, **{**at, **facts})
            tell(timed, one.started.stream_id, end)
    assert 50 < calls < 150  # about one probe in two minutes
    sums = "max(budget_used) AS used, max(deferrals) AS off, count(due_at) AS due"
    (found,) = run(timed, f"SELECT {sums} FROM {{ours}}enrichment_status")
    assert found["used"] <= 1
    assert found["off"] <= 1
    assert found["due"] == 10
    assert drift_of(timed, "breaker") == 0


# -- rebuilt ----------------------------------------------------------------------------------------------------------


def test_rebuilt_it_is_what_it_was_live_whatever_happened(database: Database, settings: Settings) -> None:
    at, chance = where(settings), random.Random(7)
    import_many(database, 20)
    kinds = [SETUP, PROVIDER, PROVIDER, PROVIDER, POSTING]
    for step in range(60):
        job_id = f"job-{chance.randrange(20):03}"
        state = breaker_of(database, settings).state
        attempts = status(database, job_id)["attempts"] + 1
        if chance.random() < 0.1:
            set_by_hand(database, chance.choice(["open", "closed"]), None, enrichment_of(settings).called, "chance", 1)
            continue
        probe = state != "closed"
        try:
            tell(database, job_id, started(attempts, attempt_id=f"{step}", probe=probe, **at))
        except HeldBack:
            close_breaker(database, settings)
            continue
        position = of_type(database, "EnrichmentStarted")[-1].position
        facts = {**chance.choice(kinds), **at, "attempt_id": f"{step}", "started_position": position}
        tell(database, job_id, failed(attempts, **facts))
    found = reconcile_named(database, ["breaker"], write=False)[0]
    assert (found.total, found.streams) == (0, 1)
    run(database, "UPDATE {ours}breaker SET failures = 77, state = 'closed'")  # the control
    assert drift_of(database, "breaker") == 1
    assert reconcile_named(database, ["breaker"], write=True)[0].written == 1
    assert drift_of(database, "breaker") == 0


def test_a_row_that_no_event_explains_is_removed_by_a_rebuild_and_a_lost_one_comes_back(
    database: Database, settings: Settings
) -> None:
    import_many(database, 1)
    open_it(database, settings)
    live = breaker_of(database, settings)
    run(database, "UPDATE {ours}breaker SET credential = 'nobody'")
    counts = reconcile_named(database, ["breaker"], write=True)[0].counts
    assert (counts["missing"], counts["extra"]) == (1, 1)
    assert breaker_of(database, settings) == live
    assert len(run(database, "SELECT * FROM {ours}breaker")) == 1


# -- runs -------------------------------------------------------------------------------------------------------------


def test_an_exhausted_quota_costs_few_calls_and_no_budget_however_much_is_pending(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    settings = configure(concurrency=32)
    import_many(database, 10_000)
    simulator.play(Script(quota=0))
    done = perform(database, settings, enrichment_of(settings), Scope(database.now()))
    assert 1 <= len(simulator.journal) <= 40
    assert (done.succeeded, done.stopped is not None) == (0, True)
    (row,) = run(database, "SELECT sum(budget_used) AS used, sum(deferrals) AS off FROM {ours}enrichment_status")
    assert (row["used"], row["off"]) == (0, 0)
    calls = len(simulator.journal)
    again = perform(database, settings, enrichment_of(settings), Scope(database.now()))
    assert (len(simulator.journal), again.done) == (calls, 0)  # nobody calls while it is open
    assert again.stopped is not None
    assert "quota_exceeded" in again.stopped
    run(database, "UPDATE {ours}breaker SET open_until = opened_at")  # as if the cooldown were over
    simulator.play(Script())
    whole = perform(database, settings, enrichment_of(settings), Scope(database.now()), limit=200)
    assert (whole.succeeded, whole.failed) == (200, 0)
    assert breaker_of(database, settings).state == "closed"


def patient_run(database: Database, settings: Settings, client: Any, clock: StoppedClock) -> tuple[Any, list[float]]:
    """A patient run whose waits move the clock on instead of taking time."""
    waited: list[float] = []
    worker = Worker(database, settings, enrichment_of(settings), client, course=to_the_end(patient=True))

    async def sleep(seconds: float | None) -> None:
        assert seconds is not None
        waited.append(seconds)
        clock.advance(seconds=seconds)

    worker._waiting.sleep = sleep  # type: ignore[method-assign]
    return asyncio.run(worker.work(Scope(database.now()))), waited


def test_a_patient_run_waits_for_the_probe_and_goes_on_when_it_succeeds(
    timed: Database, clock: StoppedClock, simulator: Simulator, service: Settings
) -> None:
    from enrichlog.llm import Client

    import_many(timed, 12)
    set_by_hand(timed, "open", None, enrichment_of(service).called, "a short break", 90)

    client = _Through(simulator, service, Client)
    done, waited = patient_run(timed, service, client, clock)
    assert (done.succeeded, done.stopped) == (12, None)
    assert [seconds for seconds in waited if seconds > PROBE_LOOK_SECONDS] == [90.0]  # then it looks at its probe
    assert [start.facts["probe"] for start in of_type(timed, "EnrichmentStarted")] == [True] + [False] * 11


def test_a_patient_run_ends_when_its_probe_finds_the_provider_as_it_was(
    timed: Database, clock: StoppedClock, simulator: Simulator, service: Settings
) -> None:
    from enrichlog.llm import Client

    import_many(timed, 30)
    simulator.play(Script(rules=[Rule("", (Fault.SERVER_ERROR,))]))
    settings = configure(concurrency=1)
    done, waited = patient_run(timed, settings, _Through(simulator, settings, Client), clock)
    assert waited == [60.0]
    assert (done.failed, len(simulator.journal)) == (6, 6)
    assert done.stopped is not None
    assert done.stopped.startswith("Provider: Error code: 500")


def test_a_wait_that_the_provider_asked_for_is_waited_for_by_every_run(
    timed: Database, clock: StoppedClock, simulator: Simulator, service: Settings
) -> None:
    from enrichlog.llm import Client

    import_many(timed, 2)
    simulator.play(Script(rules=[Rule("", (Fault.RATE_LIMIT, Fault.OK))], retry_after=20.0))
    settings = configure(concurrency=1)
    done, waited = patient_run(timed, settings, _Through(simulator, settings, Client), clock)
    assert (done.succeeded, done.errors) == (1, {"rate_limited": 1})
    assert waited == [20.0]


class _Through:
    """A client that is opened for each call: a run of its own loop needs no more."""

    def __init__(self, simulator: Simulator, settings: Settings, kind: Any) -> None:
        self._url, self._kind, self._deadline = simulator.base_url, kind, settings.deadline_seconds

    async def ask(self, api: Any, body: dict[str, object], attempt_id: str) -> Any:
        async with self._kind(self._url, "key", deadline=self._deadline, connections=1) as client:
            return await client.ask(api, body, attempt_id)


# -- for people -------------------------------------------------------------------------------------------------------


def test_every_command_says_why_nothing_is_begun_since_when_until_when_and_what_to_do(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    simulator.play(Script(quota=0))
    enrichlog("enrich", "--concurrency", "1")
    for command in (["status"], ["errors"], ["failed"], ["enrich", "001", "--force"], ["history", "000"]):
        said = enrichlog(*command)
        assert "The breaker has been open since 20" in said.err, command
        assert "(quota_exceeded, HTTP 429 insufficient_quota). No call goes out before 20" in said.err
        assert "Wait until the quota resets" in said.err
        assert "To call again at once: enrichlog breaker close " in said.err
    (held,) = enrichlog.json("status")["held_by"]
    assert (held["error_type"], held["next_call_at"] > held["opened_at"]) == ("quota_exceeded", True)
    calls = len(simulator.journal)
    forced = enrichlog("enrich", "001", "--force")
    assert (forced.code, len(simulator.journal)) == (1, calls)
    enrichlog.done("breaker", "close", "--reason", "credit was added")
    simulator.play(Script())
    assert enrichlog.done("enrich").err.count("breaker") == 0
    assert status(database, "job-002")["state"] == "succeeded"


def test_it_is_listed_opened_and_closed_with_a_reason(enrichlog: Command, database: Database) -> None:
    import_postings(database, posting())
    assert enrichlog.json("breaker", "list") == []
    opened = enrichlog.json("breaker", "open", "--reason", "the provider moves", "--for", "2h")
    assert (opened["state"], opened["reason"]) == ("open", "the provider moves")
    said = enrichlog.done("breaker", "list").out
    assert "the provider moves" in said
    assert "set by" in said
    held = enrichlog("enrich")
    assert held.code == 1
    closed = enrichlog.json("breaker", "close", opened["id"], "--reason", "it has moved")
    assert (closed["state"], closed["id"]) == ("closed", opened["id"])
    assert [one.facts["state"] for one in of_type(database, "BreakerSet")] == ["open", "closed"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["close", "deadbeef", "--reason", "x"], "There is no breaker deadbeef. Known are: none yet."),
        (["close"], "Missing option '--reason'"),
        (["open", "--reason", "x", "--for", "soon"], "'soon' is no span"),
        (["open", "--reason", "x", "--for", "0h"], "'0h' is no span"),
        (["shut"], "No such command 'shut'"),
    ],
)
def test_bad_input_is_told_in_one_line(enrichlog: Command, words: list[str], told: str) -> None:
    said = enrichlog("breaker", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.err


def test_an_unknown_breaker_is_an_error_that_names_the_known_ones(database: Database, settings: Settings) -> None:
    set_by_hand(database, "open", None, enrichment_of(settings).called, "x")
    with pytest.raises(UnknownBreaker, match=breaker_id(*enrichment_of(settings).called)):
        set_by_hand(database, "closed", "0000", enrichment_of(settings).called, "x")
    (known,), now = list_breakers(database)
    assert "until someone closes it" in why_held(known.breaker, now)
    assert database.page(select(model.breaker.c.actor))[0][0] == known.breaker.actor
