"""A limit of tokens: what calls take that begin in any minute, however long they run and however little they take."""

import heapq
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from projections.window import SECONDS, Window, window_of
from tests.builders import NOON
from tests.minutes import most_in_a_minute

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
LIMIT = 60_000


class Rule(Protocol):
    """What may begin, with what has begun so far."""

    def may_begin_at(self, now: datetime, need: int, per_minute: int) -> datetime: ...
    def begin(self, now: datetime, need: int, per_minute: int) -> "Rule | None": ...
    def settled(self, now: datetime, began_at: datetime, change: int) -> "Rule": ...


class Calls(NamedTuple):
    """So many alike, one after the other: what each may take, what percentage it takes, and how long it runs (ms)."""

    number: int
    need: int
    percent: int
    latency: int


alike = st.builds(Calls, st.integers(1, 60), st.integers(1, 20_000), st.integers(0, 100), st.integers(0, 90_000))


def begun(calls: list[Calls], rule: Rule) -> list[tuple[datetime, int]]:
    """What calls really took by when they began, each as soon as it might."""
    now, found = NOON, []
    running: list[tuple[datetime, datetime, int]] = []
    for one in [each for each in calls for _ in range(each.number)]:
        while (after := rule.begin(now, one.need, LIMIT)) is None:
            at = rule.may_begin_at(now, one.need, LIMIT)
            assert at > now
            now = min([at, *(ended_at for ended_at, *_ in running[:1])])
            while running and running[0][0] <= now:
                _, began_at, change = heapq.heappop(running)
                rule = rule.settled(now, began_at, change)
        took, rule = one.need * one.percent // 100, after
        found.append((now, took))
        heapq.heappush(running, (now + timedelta(milliseconds=max(1, one.latency)), now, took - one.need))
    return found


@examples(max_examples=150, deadline=None)
@given(st.lists(alike, min_size=1, max_size=8))
def test_the_calls_that_begin_in_any_minute_take_no_more_than_the_limit(calls: list[Calls]) -> None:
    assert most_in_a_minute(begun(calls, Window())) <= LIMIT


@examples(max_examples=60, deadline=None)
@given(st.lists(alike, min_size=1, max_size=6), st.integers(LIMIT, 3 * LIMIT))
def test_a_call_that_may_take_more_than_the_limit_begins_when_nothing_else_counts(
    calls: list[Calls], need: int
) -> None:
    found = begun([*calls, Calls(2, need, 100, 1_000), *calls], Window())
    assert most_in_a_minute(found) <= need


class Bucket(NamedTuple):
    """A limit as one moment, when all is free again: what a call did not take is free on top of the next minute's."""

    full_at: datetime

    def may_begin_at(self, now: datetime, need: int, per_minute: int) -> datetime:
        return self.full_at - max(timedelta(0), (per_minute / 20 - need) * MINUTE / per_minute)

    def begin(self, now: datetime, need: int, per_minute: int) -> "Bucket | None":
        if self.may_begin_at(now, need, per_minute) > now:
            return None
        return Bucket(max(self.full_at, now) + need * MINUTE / per_minute)

    def settled(self, now: datetime, began_at: datetime, change: int) -> "Bucket":
        return Bucket(max(now, self.full_at + change * MINUTE / LIMIT))


def test_answers_that_turn_from_short_to_long_keep_to_the_limit_and_with_a_bucket_they_would_not() -> None:
    calls = [Calls(2_000, 1_000, 10, 20_000), Calls(300, 1_000, 100, 20_000)]
    assert most_in_a_minute(begun(calls, Window())) <= LIMIT
    assert most_in_a_minute(begun(calls, Bucket(NOON))) > 2 * LIMIT  # the control


def test_short_answers_use_the_limit_though_much_more_was_reserved_for_them() -> None:
    found = begun([Calls(1_500, 1_000, 10, 500)], Window())
    assert sum(took for at, took in found if at < NOON + 2 * SECONDS * SECOND) >= 2 * (LIMIT - 1_000)


def test_when_the_next_may_begin_is_when_enough_seconds_have_left() -> None:
    window = Window()
    for seconds, need in ((0.9, 24_000), (1, 18_000), (7, 18_000)):
        after = window.begin(NOON + seconds * SECOND, need, LIMIT)
        assert after is not None
        window = after
    now = NOON + 8 * SECOND
    moments = [window.may_begin_at(now, need, LIMIT) for need in (1, 24_000, 24_001, 42_000, 60_000, 90_000)]
    assert [(at - NOON) / SECOND for at in moments] == [61, 61, 62, 62, 68, 68]
    assert window.may_begin_at(NOON + 61 * SECOND, 24_000, LIMIT) == NOON + 61 * SECOND
    assert window.empty_at == NOON + 68 * SECOND


@pytest.mark.parametrize(("change", "left"), [(-600, 400), (-1_000, 0), (-5_000, 0), (500, 1_500)])
def test_the_end_of_a_call_changes_the_second_that_it_began_in_while_that_counts(change: int, left: int) -> None:
    window = Window().begin(NOON, 1_000, LIMIT)
    assert window is not None
    later = NOON + 60.9 * SECOND
    assert window.settled(later, NOON + 0.4 * SECOND, change).tokens(later) == left
    assert window.settled(later, NOON - SECOND, change) == window
    assert window.settled(NOON + 61 * SECOND, NOON, change) == window  # it has left


def test_what_is_far_ahead_is_of_a_clock_that_was_set_back_and_holds_nothing_back() -> None:
    window = Window().begin(NOON, LIMIT, LIMIT)
    assert window is not None
    assert window.begin(NOON - MINUTE, LIMIT, LIMIT) is None
    assert window.begin(NOON - 2 * MINUTE, LIMIT, LIMIT) is not None


def test_a_window_is_stored_as_pairs_of_a_second_and_its_tokens() -> None:
    window = Window(((1_704_110_400, 12), (1_704_110_403, 5_000)))
    assert window.text() == "[[1704110400,12],[1704110403,5000]]"
    assert window_of(window.text()) == window
    assert window_of(Window().text()) == Window()
