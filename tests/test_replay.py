"""A replay under history's own policy is history; under a tighter one it is what was left of it, counted by hand."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog.replay import Policy, Replay, replay
from enrichlog.retry import backoff_ms
from eventlog.events import EnrichmentLateResult, Event
from tests.builders import NOON, dismissed, failed, reclassified, requested, started, succeeded

DEFAULT = 5
ENOUGH = 1_000


class Told(NamedTuple):
    """An event as a fold sees it."""

    stream_id: str
    version: int
    type: str
    facts: dict[str, Any]
    content: None = None


def tell(*events: Event, stream_id: str = "job-1") -> list[Told]:
    return [
        Told(stream_id, version, type(event).__name__, event.payload(NOON).facts)
        for version, event in enumerate(events, 1)
    ]


class Tried(NamedTuple):
    """One attempt of a made-up history: what it came to, its cost, and what went before it."""

    ends: str
    tokens: int
    before: str


OUTCOMES = ("succeeded", "counted", "uncounted")
BEFORE = ("", "", "", "retry", "changed", "force", "requeue", "model", "back")
tried = st.builds(Tried, st.sampled_from(OUTCOMES), st.integers(0, 9), st.sampled_from(BEFORE))
histories = st.lists(tried, max_size=12)


def lived(history: Sequence[Tried]) -> list[Told]:
    """The events of such a history; a request stands before its attempt, what it is made with in its start."""
    events: list[Event] = [requested()]
    for number, (one, model) in enumerate(zip(history, models(history), strict=True), 1):
        if one.before not in ("", "model", "back"):
            events.append(requested(one.before, grant=int(one.before == "requeue")))
        events.append(started(number, request_model=f"model-{model}", prompt_hash="p", schema_hash="s"))
        usage = {"input_tokens": one.tokens, "cost_microdollars": one.tokens}
        counts = one.ends == "counted"
        events.append(succeeded(number, **usage) if one.ends == "succeeded" else failed(number, counts=counts, **usage))
    return tell(*events)


def models(history: Sequence[Tried]) -> Iterator[int]:
    """The model of each attempt: another one than ever, or back to the first."""
    newest = model = 0
    for one in history:
        newest += one.before == "model"
        model = {"model": newest, "back": 0}.get(one.before, model)
        yield model


class Counted(NamedTuple):
    """The numbers that a policy changes."""

    attempts: int
    calls: int
    tokens: int
    cost: int
    state: str


def counted(told: Replay) -> Counted:
    status = told.status
    return Counted(told.attempts, told.calls, status.input_tokens, status.cost_microdollars, status.state)


def by_hand(history: Sequence[Tried], most: int) -> Counted:
    """The same numbers without fold and replay: walk the attempts, keep those that the budget allows."""
    kept: list[Tried] = []
    used, granted, tried, state = 0, 0, set[int](), "pending"
    for one, model in zip(history, models(history), strict=True):
        if one.before in ("changed", "force"):
            used, granted, tried = 0, 0, set()
        granted += one.before == "requeue"
        if one.before in ("changed", "force", "requeue"):
            state = "pending"
        budget = 0 if tried and model not in tried else used
        if budget - granted >= most:
            continue
        used = budget
        tried.add(model)
        kept.append(one)
        state = "succeeded" if one.ends == "succeeded" else "failed"
        used = 0 if state == "succeeded" else used + (one.ends == "counted")
        granted = 0 if state == "succeeded" else granted
        tried = set() if state == "succeeded" else tried
    tokens = sum(one.tokens for one in kept)
    return Counted(len(kept), len(kept), tokens, tokens, state)


@given(histories)
def test_a_policy_that_never_stops_what_happened_reproduces_it(history: list[Tried]) -> None:
    events = lived(history)
    told = replay("job-1", events)
    own = replay("job-1", events, Policy(max(told.most_used + 1, 1)))
    assert counted(own) == counted(told) == by_hand(history, ENOUGH)
    assert own.status._replace(max_attempts=told.status.max_attempts) == told.status
    assert (own.waits, own.follow_ups) == (told.waits, told.follow_ups)
    assert told.attempts == told.status.attempts == len(history)


@given(histories, st.integers(1, 5))
def test_a_tighter_policy_gives_what_counting_by_hand_gives(history: list[Tried], most: int) -> None:
    assert counted(replay("job-1", lived(history), Policy(most))) == by_hand(history, most)


def test_the_numbers_by_hand_do_depend_on_the_policy() -> None:
    history = [Tried("counted", 1, ""), Tried("counted", 1, ""), Tried("succeeded", 1, "")]
    assert by_hand(history, 2) == Counted(2, 2, 2, 2, "failed")
    assert by_hand(history, 3) == Counted(3, 3, 3, 3, "succeeded")


@given(histories, st.integers(1, 4))
def test_a_tighter_policy_never_costs_more(history: list[Tried], most: int) -> None:
    looser, tighter = (counted(replay("job-1", lived(history), Policy(n))) for n in (most + 1, most))
    assert tighter[:4] <= looser[:4]


def test_a_request_that_the_policy_would_refuse_leaves_no_posting_pending() -> None:
    events = tell(requested(), started(), failed(), started(2), failed(2), requested("retry", max_attempts=9))
    assert replay("job-1", events).standing(9) == "pending"
    assert replay("job-1", events, Policy(2)).standing(2) == "given_up"
    assert replay("job-1", events, Policy(3)).standing(3) == "pending"


def test_what_became_of_an_attempt_that_is_left_out_is_left_out_too() -> None:
    late = EnrichmentLateResult(attempt_id="attempt-2", attempt=2, outcome="succeeded", used=True, input_tokens=5)
    events = tell(requested(), started(), failed(), started(2), failed(2, input_tokens=3), reclassified(2), late)
    cut = replay("job-1", events, Policy(1))
    assert (cut.status.state, cut.status.error_type, cut.status.input_tokens) == ("failed", "timeout", 0)
    assert replay("job-1", events).status.input_tokens == 8


def test_a_late_success_is_of_use_where_the_success_before_it_never_was() -> None:
    late = EnrichmentLateResult(attempt_id="attempt-1", attempt=1, outcome="succeeded", used=False)
    events = tell(requested(), started(), failed(error_type="interrupted"), started(2), succeeded(2), late)
    assert replay("job-1", events, Policy(1)).status.successes == 1
    assert replay("job-1", events[:-1], Policy(1)).status.successes == 0


@pytest.mark.parametrize(
    ("events", "standing"),
    [
        ([requested()], "pending"),
        ([requested(), started()], "running"),
        ([requested(), started(), failed()], "open"),
        ([requested(), started(), failed(cap=1)], "given_up"),
        ([requested(), started(), failed(retryable=False, wait_ms=None)], "given_up"),
        ([requested(max_attempts=1), started(), failed()], "given_up"),
        ([requested(), started(), failed(), dismissed()], "dismissed"),
        ([requested(), started(), succeeded()], "succeeded"),
    ],
)
def test_every_posting_stands_somewhere(events: list[Event], standing: str) -> None:
    told = replay("job-1", tell(*events))
    assert told.standing(told.own_allowance(DEFAULT)) == standing


def test_a_policy_overrides_caps_and_requests_and_what_is_not_retryable_stays_final() -> None:
    capped = replay("job-1", tell(requested(max_attempts=1), started(), failed(cap=1)))
    assert (capped.standing(3), capped.attempts_left(3)) == ("open", 2)
    final = replay("job-1", tell(requested(), started(), failed(retryable=False, wait_ms=None)))
    assert final.standing(3) == "given_up"


def test_a_policy_overrides_how_many_workers_may_die_on_a_posting() -> None:
    dead = {"error_type": "interrupted", "worker_died": True, "cap": 3, "wait_ms": 0}
    events = tell(requested(), *(event for n in (1, 2, 3) for event in (started(n), failed(n, **dead))))
    told = replay("job-1", events)
    assert (told.standing(told.own_allowance(DEFAULT)), told.is_the_same_under(Policy(5))) == ("given_up", False)
    assert replay("job-1", events, Policy(5)).standing(5) == "open"
    assert replay("job-1", events, Policy(2)).attempts == 2


def test_a_posting_that_was_put_off_too_often_is_given_up_under_any_policy() -> None:
    late = {"error_type": "server_error", "counts": False, "max_deferrals": 2}
    events = tell(requested(), *(event for n in (1, 2) for event in (started(n), failed(n, **late))))
    assert [replay("job-1", events, Policy(most)).standing(most) for most in (1, 9)] == ["given_up", "given_up"]


def test_what_followed_a_failure_is_kept_by_its_type_unless_a_new_budget_began() -> None:
    known = {"prompt_hash": "p", "schema_hash": "s"}
    events = tell(
        requested(), started(), failed(), started(2), failed(2, error_type="quota_exceeded", counts=False),
        started(3), failed(3), requested("force"), started(4, **known), failed(4),
        started(5, request_model="other", **known), succeeded(5),
    )  # fmt: skip
    assert replay("job-1", events).follow_ups == [("timeout", "uncounted"), ("quota_exceeded", "counted")]


def test_waits_are_those_that_an_attempt_followed_recorded_or_of_another_base() -> None:
    events = tell(
        requested(), started(), failed(wait_ms=19_080), started(2), failed(2, wait_ms=31_000, retry_after_ms=31_000),
        started(3), failed(3, wait_ms=118_633),
    )  # fmt: skip
    assert replay("job-1", events).waits == replay("job-1", events, Policy(9)).waits == [19_080, 31_000]
    assert replay("job-1", events, Policy(9, 30.0)).waits == [19_080, 31_000]
    assert replay("job-1", events, Policy(9, 60.0)).waits == [backoff_ms("job-1", n, 60.0) for n in (1, 2)]
    assert replay("job-1", events, Policy(1, 60.0)).waits == []
