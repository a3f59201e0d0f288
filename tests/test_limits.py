"""Limits over all workers: what a claim may begin, what ends give back, the money of a day, and the brake."""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from enrichlog.answer import Usage
from enrichlog.attempt import end, end_proposal, interrupted
from enrichlog.claims import Claim, Claims, claim, lease_seconds
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.errors import ERROR_TYPES
from enrichlog.exceptions import UnknownPrice
from enrichlog.limits import Limited, clear_limits, list_limits, names_of, require_price, set_limits
from enrichlog.outcome import Failed, Outcome
from enrichlog.scope import Scope
from enrichlog.settings import Settings, configure
from enrichlog.targets import Target, scope_of
from eventlog.database import Database
from eventlog.errors import LimitReached
from projections import brake, spending
from projections.limit import MONEY, Limit, Name
from projections.limits import load, set_amounts
from tests.builders import NOON, StoppedClock, offer, proposal, requested, started, status, tell
from tests.service import import_many, import_postings, of_type, posting

ANSWERED = Outcome(result={"title": "x"}, usage=Usage(100, 20), http_status=200)
REFUSED = Outcome(failed=Failed(ERROR_TYPES["rate_limited"], "Error code: 429"), http_status=429)
UNKNOWN = Outcome(failed=Failed(ERROR_TYPES["server_error"], "broken"), http_status=500)


@pytest.fixture
def settings(bare: object) -> Settings:
    return configure(base_url="http://127.0.0.1:1/v1", prices_of="openai", deadline_seconds=300.0)


@pytest.fixture
def asked(settings: Settings) -> Enrichment:
    return enrichment_of(settings)


def claims(database: Database, settings: Settings, most: int = 100, scope: Scope | None = None) -> Claims:
    return claim(database, settings, enrichment_of(settings), scope or Scope(database.now()), "worker-1", most)


def record(database: Database, settings: Settings, one: Claim, outcome: Outcome) -> None:
    offer(database, end_proposal(one.started, end(enrichment_of(settings), one.started, outcome)))


def row(database: Database, settings: Settings, unit: Any = "requests") -> Limit:
    return all_limits(database).get(names_of(enrichment_of(settings).called)[unit], Limit())


def all_limits(database: Database) -> dict[Name, Limit]:
    with database.read() as connection:
        return load(connection)


def reservation(one: Claim) -> int:
    return one.started.event.reserved_microdollars or 0


def price_of_one(database: Database, settings: Settings) -> int:
    """What a call reserves; the claim that tells it is gone again."""
    (one,) = claims(database, settings, 1).taken
    offer(database, end_proposal(one.started, interrupted(one.started, "not begun", called=False)))
    return reservation(one)


@contextmanager
def together(count: int, act: Callable[[int], Any]) -> Iterator[list[Any]]:
    """The same in several threads that begin at the same time."""
    gate = threading.Barrier(count)

    def run(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(count) as threads:
        yield list(threads.map(run, range(count)))


# -- rates ------------------------------------------------------------------------------------------------------------


def test_a_claim_takes_as_many_as_may_begin_and_says_when_the_next_may(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 20)
    set_limits(timed, asked, 60, None, None)
    assert [len(claims(timed, settings).taken) for _ in range(2)] == [3, 0]
    limited = claims(timed, settings).limited
    assert limited is not None
    assert (limited.unit, limited.amount, limited.until) == ("requests", 60, NOON + timedelta(seconds=1))
    assert limited.why.startswith("The limit of 60 requests per minute is reached: the next call may begin at 2024-")
    clock.advance(seconds=1)
    assert len(claims(timed, settings).taken) == 1


def test_a_limit_of_tokens_takes_what_calls_may_take_and_the_end_puts_what_they_took_in_its_place(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 20)
    set_limits(timed, asked, None, 20_000, None)
    running = claims(timed, settings).taken
    reserved = running[0].started.event.reserved_tokens or 0
    assert reserved > 4_096
    assert len(running) == 20_000 // reserved
    clock.advance(seconds=5)
    limited = claims(timed, settings).limited
    assert limited is not None
    assert (limited.unit, limited.amount, limited.until) == ("tokens", 20_000, NOON + timedelta(seconds=61))
    assert "begin at 2024-01-01 12:01:01 UTC, or when one that runs takes less than it might. To ch" in limited.why
    record(timed, settings, running[0], ANSWERED)
    assert row(timed, settings, "tokens").minute.tokens(clock.now) == (len(running) - 1) * reserved + 120
    (more,) = claims(timed, settings).taken
    clock.advance(seconds=56)  # what began first has left, however it ends now
    record(timed, settings, running[1], ANSWERED)
    assert row(timed, settings, "tokens").minute.tokens(clock.now) == reserved
    assert len(claims(timed, settings).taken) == len(running) - 1
    record(timed, settings, more, ANSWERED)
    assert row(timed, settings, "tokens").minute.tokens(clock.now) == (len(running) - 1) * reserved + 120


def test_a_late_result_puts_the_tokens_it_took_in_the_place_of_what_its_interruption_kept(
    timed: Database, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 1)
    set_limits(timed, asked, None, 20_000, None)
    (one,) = claims(timed, settings).taken
    offer(timed, end_proposal(one.started, interrupted(one.started, "died", worker_died=True)))
    assert row(timed, settings, "tokens").minute.tokens(NOON) == one.started.event.reserved_tokens
    late = end_proposal(one.started, end(asked, one.started, ANSWERED))
    offer(timed, late._replace(event_id=str(uuid.uuid4())))
    assert row(timed, settings, "tokens").minute.tokens(NOON) == 120


@pytest.mark.parametrize(("outcome", "is_free"), [(REFUSED, True), (UNKNOWN, False)], ids=["refused", "unknown"])
def test_a_refused_call_gives_all_tokens_back_and_one_of_which_nobody_knows_none(
    timed: Database, settings: Settings, asked: Enrichment, outcome: Outcome, is_free: bool
) -> None:
    import_many(timed, 1)
    set_limits(timed, asked, None, 100_000, None)
    (one,) = claims(timed, settings).taken
    record(timed, settings, one, outcome)
    assert (row(timed, settings, "tokens").minute.tokens(NOON) == 0) == is_free


def test_a_posting_without_text_takes_no_request_and_a_call_that_never_went_out_gives_back_tokens_alone(
    timed: Database, settings: Settings, asked: Enrichment
) -> None:
    import_postings(timed, posting("0", description=" "), *(posting(str(number)) for number in range(1, 9)))
    set_limits(timed, asked, 60, 20_000, None)
    taken = claims(timed, settings, 3).taken
    assert [one.outcome is None for one in taken] == [False, True, True]
    (more,) = claims(timed, settings).taken
    record(timed, settings, taken[0], taken[0].outcome or ANSWERED)
    before = row(timed, settings, "tokens").minute.tokens(NOON)
    offer(timed, end_proposal(more.started, interrupted(more.started, "not begun", called=False)))
    assert before - row(timed, settings, "tokens").minute.tokens(NOON) == more.started.event.reserved_tokens
    limited = claims(timed, settings).limited
    assert limited is not None
    assert limited.unit == "requests"  # or in a later minute that one would begin beside all its own


@pytest.mark.pooled
@pytest.mark.parametrize("own", [False, True], ids=["for all", "a setting"])
def test_many_workers_begin_together_no_more_than_the_limit(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment, own: bool
) -> None:
    import_many(timed, 100)
    if own:
        settings = configure(requests_per_minute=120)
    else:
        set_limits(timed, asked, 120, None, None)
    databases = [Database(timed.url, clock=clock) for _ in range(4)]
    begun = []
    for _ in range(3):
        with together(4, lambda number: claims(databases[number], settings, 5)) as found:
            begun.append(sum(len(one.taken) for one in found))
        clock.advance(seconds=1)
    for one in databases:
        one.close()
    assert begun == [6, 2, 2]
    assert len(of_type(timed, "EnrichmentStarted")) == 10


def test_what_others_have_begun_since_a_claim_looked_is_not_begun_again(timed: Database, asked: Enrichment) -> None:
    set_limits(timed, asked, 60, None, None)
    endpoint, model, credential = asked.called
    place: dict[str, Any] = {"endpoint": endpoint, "request_model": model, "credential": credential}
    streams = [f"job-{number}" for number in range(4)]
    for stream in streams:
        tell(timed, stream, requested())
    starts = [proposal(stream, started(**place)) for stream in streams]
    offer(timed, *starts[:2])
    with pytest.raises(LimitReached):
        offer(timed, *starts[2:])
    assert len(of_type(timed, "EnrichmentStarted")) == 2  # neither of the two was begun
    offer(timed, starts[2])


# -- settings of a process's own --------------------------------------------------------------------------------------


def with_own(settings: Settings, **limits: int) -> Settings:
    return settings.model_copy(update=limits)


def begun_each_second(
    timed: Database, clock: StoppedClock, settings: Settings, seconds: int, *numbers: int
) -> list[int]:
    """How many calls processes with these settings of their own have begun after so many seconds of trying."""
    counts = [0] * len(numbers)
    for _ in range(seconds):
        for place, number in enumerate(numbers):
            counts[place] += len(claims(timed, with_own(settings, requests_per_minute=number), 5).taken)
        clock.advance(seconds=1)
    return counts


def test_a_process_with_a_low_setting_of_its_own_is_not_starved_by_one_with_a_high_setting(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 200)
    assert begun_each_second(timed, clock, settings, 16, 300, 12) == [5 * 16, 4]


def test_processes_with_the_same_setting_share_it(timed: Database, clock: StoppedClock, settings: Settings) -> None:
    import_many(timed, 100)
    found = begun_each_second(timed, clock, settings, 10, *[120] * 8)
    assert sum(found) == 6 + 2 * 9


@pytest.mark.parametrize(("for_all", "begun"), [(60, [3 + 9, 0]), (1_200, [5 * 10, 2])], ids=["lower", "higher"])
def test_the_limit_for_all_binds_beside_what_processes_have_set(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment, for_all: int, begun: list[int]
) -> None:
    import_many(timed, 100)
    set_limits(timed, asked, for_all, None, None)
    assert begun_each_second(timed, clock, settings, 10, 300, 12) == begun


def seconds_of(limited: Limited | None) -> tuple[str, int, float]:
    assert limited is not None
    return limited.unit, limited.amount, (limited.until - NOON).total_seconds()


def test_until_the_longer_of_two_waits_nothing_begins_and_that_limit_is_told(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 10)
    set_limits(timed, asked, 60, None, None)
    own = with_own(settings, requests_per_minute=10)
    assert [len(claims(timed, one).taken) for one in (own, settings)] == [1, 2]
    limited = claims(timed, own).limited
    assert seconds_of(limited) == ("requests", 10, 6)
    assert limited is not None
    assert limited.why.endswith(
        " That is this process's own setting requests_per_minute, which all that have the same share"
    )
    assert seconds_of(claims(timed, settings).limited) == ("requests", 60, 1)


def test_tokens_are_settled_in_each_limit_that_they_were_taken_from(
    timed: Database, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 10)
    set_limits(timed, asked, None, 50_000, None)
    others, ours = (claims(timed, with_own(settings, tokens_per_minute=most)).taken for most in (11_000, 8_000))
    reserved = others[0].started.event.reserved_tokens or 0
    assert (len(others), len(ours)) == (2, 1)
    record(timed, settings, ours[0], ANSWERED)
    with timed.read() as connection:
        found = {name.own: each.minute.tokens(NOON) for name, each in load(connection).items()}
    assert found == {0: 2 * reserved + 120, 11_000: 2 * reserved, 8_000: 120}


def test_a_setting_is_listed_while_it_is_used_and_forgotten_after_an_hour(
    timed: Database, clock: StoppedClock, settings: Settings
) -> None:
    import_many(timed, 20)
    claims(timed, with_own(settings, requests_per_minute=60, tokens_per_minute=20_000), 1)
    listed, now = list_limits(timed)
    assert [(one.unit, one.document(now)["limit"], one.document(now)["is_setting"]) for one in listed] == [
        ("requests", 60, True), ("tokens", 20_000, True),
    ]  # fmt: skip
    clock.advance(minutes=2, seconds=2)
    assert list_limits(timed)[0] == []
    claims(timed, with_own(settings, requests_per_minute=61), 1)
    with timed.read() as connection:
        assert sorted(name.own for name in load(connection)) == [60, 61, 20_000]
    clock.advance(hours=1)
    claims(timed, with_own(settings, requests_per_minute=61), 1)
    with timed.read() as connection:
        assert [name.own for name in load(connection)] == [61]


def test_without_a_limit_there_are_no_rows(timed: Database, settings: Settings) -> None:
    import_many(timed, 3)
    for one in claims(timed, settings).taken:
        record(timed, settings, one, ANSWERED)
    assert list_limits(timed)[0] == []


# -- the brake --------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few calls are enough to see how the brake works."""
    monkeypatch.setattr(brake, "FLOOR", 1)


def test_a_call_refused_for_its_rate_halves_the_pace_of_all_and_earlier_ones_do_not_halve_it_again(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment, no_floor: None
) -> None:
    import_many(timed, 100)
    first = claims(timed, settings, 40).taken
    clock.advance(seconds=59)
    for one in first[:3]:
        record(timed, settings, one, REFUSED)
    braked = row(timed, settings)
    assert (braked.amount, braked.braked_to, braked.braked_at) == (None, 20, clock.now)
    (second,) = claims(timed, settings).taken
    limited = claims(timed, settings).limited
    assert limited is not None
    assert limited.why.startswith("The provider has refused calls for their rate: 20 requests per minute may begin")
    record(timed, settings, second, REFUSED)
    assert row(timed, settings).braked_position > braked.braked_position
    clock.advance(minutes=9.9)
    assert len(claims(timed, settings).taken) == 2  # of 59 in a minute
    clock.advance(minutes=0.1)
    assert len(claims(timed, settings).taken) > 40
    assert all_limits(timed) == {}


def test_what_begins_at_another_place_is_no_part_of_the_pace(
    timed: Database, clock: StoppedClock, settings: Settings, no_floor: None
) -> None:
    import_many(timed, 50)
    elsewhere = settings.model_copy(update={"base_url": "http://127.0.0.1:2/v1"})
    claims(timed, elsewhere, 30)
    first = claims(timed, settings, 20).taken
    clock.advance(seconds=59)
    record(timed, settings, first[0], REFUSED)
    assert row(timed, settings).braked_to == 10
    assert row(timed, elsewhere) == Limit()


def test_setting_a_limit_takes_the_brake_off(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment, no_floor: None
) -> None:
    import_many(timed, 10)
    first, _ = claims(timed, settings, 2).taken
    clock.advance(seconds=59)
    record(timed, settings, first, REFUSED)
    assert row(timed, settings).in_force(clock.now) == 1
    (second,) = claims(timed, settings).taken
    set_limits(timed, asked, 600, None, None)
    record(timed, settings, second, REFUSED)  # it began before that
    assert row(timed, settings).in_force(clock.now) == 600


# -- money ------------------------------------------------------------------------------------------------------------


def test_a_call_begins_only_while_the_money_of_the_day_covers_all_that_running_calls_may_cost(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 10)
    price = price_of_one(timed, settings)
    set_limits(timed, asked, None, None, 2 * price + price // 2)
    first, second = claims(timed, settings).taken
    limited = claims(timed, settings).limited
    assert limited is not None
    assert (limited.unit, limited.until) == ("microdollars", NOON.replace(hour=0) + timedelta(days=1))
    record(timed, settings, first, ANSWERED)
    record(timed, settings, second, UNKNOWN)  # that one may have cost all of it
    cost = of_type(timed, "EnrichmentSucceeded")[0].facts["cost_microdollars"]
    assert row(timed, settings, "microdollars").used == cost + price
    assert len(claims(timed, settings).taken) == 1
    clock.advance(hours=12)
    assert len(claims(timed, settings).taken) == 2


def test_a_call_that_a_claim_took_before_money_was_limited_does_not_begin_after_it(timed: Database) -> None:
    tell(timed, "job-1", requested())
    start = started(reserved_microdollars=5)
    set_amounts(timed, {MONEY: 1_000})
    with pytest.raises(LimitReached):
        offer(timed, proposal("job-1", start))
    offer(timed, proposal("job-1", start.model_copy(update={"microdollars_per_day": 1_000})))
    assert all_limits(timed)[MONEY].used == 5


def test_force_does_not_get_round_the_money_of_the_day(timed: Database, settings: Settings, asked: Enrichment) -> None:
    import_many(timed, 2)
    price = price_of_one(timed, settings)
    set_limits(timed, asked, None, None, price)
    assert len(claims(timed, settings).taken) == 1
    scope = scope_of(timed, "job", [Target("001", status(timed, "job-001")["version"])], force=True)
    forced = claims(timed, settings, scope=scope)
    assert (forced.taken, forced.limited is not None) == ([], True)


@pytest.mark.parametrize("own", [False, True], ids=["for all", "a setting"])
def test_a_limit_that_is_new_begins_with_what_today_has_used(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment, own: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    clock.now = NOON - timedelta(days=1)
    import_many(timed, 12)
    yesterday = claims(timed, settings, 2).taken
    clock.now = NOON
    record(timed, settings, yesterday[0], ANSWERED)
    today = claims(timed, settings, 3).taken
    record(timed, settings, today[0], ANSWERED)
    cost = of_type(timed, "EnrichmentSucceeded")[-1].facts["cost_microdollars"]
    bulk = spending.count_bulk

    def counted(database: Database) -> Any:
        found = bulk(database)
        claims(database, settings, 1)  # while nobody holds the lock
        return found

    monkeypatch.setattr(spending, "count_bulk", counted)
    monkeypatch.setattr("projections.spanning.PAGE", 2)
    monkeypatch.setattr(spending, "PAGE", 2)
    price = reservation(today[0])
    if own:
        claims(timed, configure(dollars_per_day=(2 * price) / 1e6))
    else:
        set_limits(timed, asked, None, None, 2 * price)
    found = row(timed, settings, "microdollars")
    assert (found.used, found.amount) == (cost + 3 * price, None if own else 2 * price)


def test_a_late_result_settles_what_the_death_of_a_worker_kept(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 1)
    set_limits(timed, asked, None, None, 1_000_000)
    (zombie,) = claims(timed, settings).taken
    clock.advance(seconds=lease_seconds(settings) + 1)
    claims(timed, settings)
    assert row(timed, settings, "microdollars").used == reservation(zombie)
    record(timed, settings, zombie, ANSWERED)
    (late,) = of_type(timed, "EnrichmentLateResult")
    assert row(timed, settings, "microdollars").used == late.facts["cost_microdollars"] > 0


def test_a_posting_that_costs_more_than_a_day_may_waits_for_the_next_and_blocks_nobody(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_postings(timed, posting("0", description="word " * 50_000), posting("1"))
    set_limits(timed, asked, None, None, 5_000)
    large, small = sorted(claims(timed, settings).taken, key=lambda one: one.posting.id)
    assert small.outcome is None
    assert large.outcome is not None
    record(timed, settings, large, large.outcome)
    found = status(timed, "job-0")
    assert (found["error_type"], found["counted"]) == ("budget_exceeded", False)
    assert found["due_at"] == NOON.replace(hour=0) + timedelta(days=1)
    assert row(timed, settings, "microdollars").used == reservation(small)
    assert found["completed_at"] == clock.now


def test_under_a_limit_of_money_answers_are_bounded_and_an_unknown_price_is_refused(
    timed: Database, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 2)
    set_limits(timed, asked, None, None, 1_000_000)
    (one,) = claims(timed, settings, 1).taken
    assert one.request.body["max_output_tokens"] == 4_096
    unknown = configure(model="model-of-nobody")
    limited = claims(timed, unknown).limited
    assert limited is not None
    assert limited.unit == "microdollars"
    assert limited.why.startswith("The price of model-of-nobody at http://127.0.0.1:1/v1 is not known, so the limit of")
    with pytest.raises(UnknownPrice):
        set_limits(timed, enrichment_of(unknown), None, None, 5)
    with pytest.raises(UnknownPrice):  # before a run or a worker begins
        require_price(timed, unknown, enrichment_of(unknown), None)
    clear_limits(timed, asked.called, ["microdollars"])
    require_price(timed, unknown, enrichment_of(unknown), None)
    assert len(claims(timed, unknown).taken) == 1


@pytest.mark.pooled
def test_several_workers_together_never_reserve_more_than_the_money_of_the_day(
    timed: Database, clock: StoppedClock, settings: Settings, asked: Enrichment
) -> None:
    import_many(timed, 40)
    limit = 7 * price_of_one(timed, settings) + 1
    set_limits(timed, asked, None, None, limit)
    databases = [Database(timed.url, clock=clock) for _ in range(4)]
    with together(4, lambda number: claims(databases[number], settings, 5)) as found:
        taken = [claimed for one in found for claimed in one.taken]
    for one in databases:
        one.close()
    assert len(taken) == 7
    assert row(timed, settings, "microdollars").used == sum(map(reservation, taken)) <= limit


def test_counting_a_day_again_keeps_an_amount_that_was_set_meanwhile(timed: Database) -> None:
    set_amounts(timed, {MONEY: 5})
    set_amounts(timed, {MONEY: None})
    with timed.read() as connection:
        assert load(connection)[MONEY].amount == 5
