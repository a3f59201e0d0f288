"""The arithmetic of limits: how many requests may begin in any minute, how a brake lets go, and the money of a day."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from eventlog.events import iso
from eventlog.log import Recorded
from projections import rate
from projections.brake import Brake, braked, pace
from projections.spending import Spending, nothing_spent
from tests.builders import NOON
from tests.minutes import most_in_a_minute

MINUTE = timedelta(minutes=1)
MIDNIGHT = NOON.replace(hour=0) + timedelta(days=1)
pauses = st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 80)), min_size=1, max_size=40)


def begun(arrivals: list[tuple[int, int]], per_minute: int) -> list[datetime]:
    """When requests begin that arrive in bursts after pauses (ms), each trying until it may."""
    now = full_at = NOON
    found = []
    for pause, burst in arrivals:
        now += timedelta(milliseconds=pause)
        for _ in range(burst):
            now = max(now, rate.may_begin_at(full_at, now, per_minute))
            after = rate.begin(full_at, now, per_minute)
            assert after is not None
            full_at = after
            found.append(now)
    return found


# -- requests ---------------------------------------------------------------------------------------------------------


@examples(max_examples=60)
@given(pauses, st.integers(1, 2_000))
def test_in_no_minute_more_requests_begin_than_the_limit_and_a_twentieth(
    arrivals: list[tuple[int, int]], per_minute: int
) -> None:
    assert most_in_a_minute([(at, 1) for at in begun(arrivals, per_minute)]) <= per_minute * 1.05


def test_with_a_bucket_of_a_whole_minute_twice_the_limit_would_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    assert most_in_a_minute([(at, 1) for at in begun([(0, 1300)], 600)]) <= 630  # as it is: the control
    monkeypatch.setattr(rate, "BUCKET", MINUTE)
    assert most_in_a_minute([(at, 1) for at in begun([(0, 1300)], 600)]) == 1199


def test_what_is_asked_for_all_the_time_begins_as_often_as_the_limit_says() -> None:
    found = begun([(0, 6000)], 600)
    assert found[-1] - found[0] == timedelta(seconds=(6000 - 30) / 10)


@pytest.mark.parametrize("per_minute", [1, 19, 600])
def test_a_clock_that_was_set_back_holds_back_for_a_minute_at_the_most(per_minute: int) -> None:
    full_at = rate.begin(NOON, NOON, per_minute)
    assert full_at is not None
    for back in (timedelta(minutes=1, seconds=1), timedelta(days=1)):
        assert rate.begin(full_at, full_at - back, per_minute) == full_at - back + MINUTE / per_minute
    assert rate.may_begin_at(full_at, full_at - MINUTE, per_minute) <= full_at


def test_how_many_may_begin_is_as_many_as_then_can() -> None:
    assert [rate.count(NOON, NOON, 600, most) for most in (0, 7, 100)] == [0, 7, 30]
    assert rate.count(NOON + timedelta(seconds=2), NOON, 600, 100) == 10
    assert [rate.count(NOON, NOON, per_minute, 100) for per_minute in (1, 19, 40)] == [1, 1, 2]


# -- the brake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begun_", "limit", "to"),
    [(600, None, 300), (600, 1000, 300), (600, 400, 200), (1, None, 30), (60, None, 30), (0, 5, 1), (3, 3, 1)],
)
def test_a_refusal_halves_what_has_begun_or_the_limit_where_that_is_less(
    begun_: int, limit: int | None, to: int
) -> None:
    assert braked(NOON, 7, begun_, limit) == Brake(NOON, to, 7)


def test_the_brake_lets_a_tenth_of_the_limit_go_with_each_minute_until_the_limit_is_reached() -> None:
    brake = Brake(NOON, 300, 1)
    allowed = [brake.allowed(NOON + minutes * MINUTE, 600) for minutes in (0, 0.5, 1, 4, 4.9, 5, 100)]
    assert allowed == [300, 330, 360, 540, 594, None, None]


def test_where_no_limit_is_set_the_brake_is_off_once_it_allows_three_times_as_much() -> None:
    brake = Brake(NOON, 50, 1)
    assert [brake.allowed(NOON + minutes * MINUTE, None) for minutes in (0, 1, 9.9, 10)] == [50, 60, 149, None]


@given(st.integers(1, 5_000), st.integers(1, 5_000), st.lists(st.integers(0, 700), min_size=2, max_size=2).map(sorted))
def test_the_brake_never_tightens_by_itself_and_never_allows_more_than_the_limit(
    to: int, limit: int, at: list[int]
) -> None:
    sooner, later = (Brake(NOON, to, 1).allowed(NOON + timedelta(seconds=one), limit) or limit for one in at)
    assert 1 <= sooner <= later <= limit


@pytest.mark.parametrize(("seconds", "per_minute"), [(0, 6000), (0.1, 6000), (20, 30), (60, 10)])
def test_a_run_that_has_just_begun_is_not_braked_to_the_little_that_it_has_begun(
    seconds: float, per_minute: int
) -> None:
    assert pace(10, NOON, NOON + timedelta(seconds=seconds)) == per_minute


# -- the money of a day -----------------------------------------------------------------------------------------------


def start(at: datetime = NOON, reserved: int | None = 100, **facts: Any) -> Recorded:
    values = {"origin": "call", "lease_seconds": 300, "reserved_microdollars": reserved, **facts}
    return Recorded(1, "e", "job-1", 1, "EnrichmentStarted", at, values, None)


def end(kind: str = "EnrichmentSucceeded", at: datetime = NOON, began: datetime = NOON, **facts: Any) -> Recorded:
    values = {"called": True, "reserved_microdollars": 100, "started_at": iso(began), **facts}
    return Recorded(2, "f", "job-1", 2, kind, at, values, None)


def spent(*told: Recorded) -> int:
    spending = nothing_spent(told[0].recorded_at)
    for one in told:
        spending = spending.after(one)
    return spending.used


@pytest.mark.parametrize(
    ("facts", "used"),
    [
        ({"cost_microdollars": 30}, 30),
        ({"cost_microdollars": 130}, 130),
        ({"cost_microdollars": 0}, 0),  # refused, or no connection
        ({}, 100),  # made, and nobody knows what it cost
        ({"called": False}, 0),
    ],
)
def test_the_end_puts_what_a_call_cost_in_the_place_of_what_was_reserved(facts: dict[str, Any], used: int) -> None:
    assert spent(start()) == 100
    assert spent(start(), end(**facts)) == used


@pytest.mark.parametrize(("facts", "used"), [({"cost_microdollars": 30}, 30), ({}, 100), ({"called": False}, 0)])
def test_a_late_result_settles_what_an_interruption_kept(facts: dict[str, Any], used: int) -> None:
    interrupted = end("EnrichmentFailed", worker_died=True)
    assert spent(start(), interrupted) == 100
    assert spent(start(), interrupted, end("EnrichmentLateResult", **facts)) == used


@pytest.mark.parametrize("facts", [{"origin": "external"}, {"lease_seconds": 0}, {"reserved_tokens": 0}])
def test_a_start_without_a_call_of_ours_spends_nothing(facts: dict[str, Any]) -> None:
    assert spent(start(**facts)) == 0


def test_at_midnight_nothing_is_spent_and_what_began_before_stays_with_its_day() -> None:
    before, after = MIDNIGHT - timedelta(microseconds=1), MIDNIGHT
    assert nothing_spent(before) == Spending(0, MIDNIGHT)
    assert spent(start(before), start(after)) == 100
    assert spent(start(before), end(at=after, began=before, cost_microdollars=500)) == 0
    assert spent(start(before), start(after), end(at=after, began=before, cost_microdollars=500)) == 100
