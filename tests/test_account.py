"""The account of a fleet notices whatever may be wrong: each of these logs, tables or journals has one thing wrong."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from enrichlog.simulator import Call
from projections.status import Status, fold
from tests.account import Account, most_in_a_minute, take_account
from tests.independent import Row

THEN = "2024-01-01T12:00:00.000000Z"


def event(position: int, kind: str, version: int, attempt: int = 0, *, stream: str = "job-1", **facts: Any) -> Row:
    number = {"attempt_id": f"{stream} {attempt}", "attempt": attempt} if attempt else {}
    content = {"message": facts.pop("message", None), "result": facts.pop("result", None)}
    return {
        "position": position, "event_id": f"{position}", "stream_id": stream, "version": version, "type": kind,
        "facts": json.dumps(number | {"occurred_at": THEN} | facts), "content": json.dumps(content),
    }  # fmt: skip


def requested(position: int, stream: str = "job-1") -> Row:
    return event(position, "EnrichmentRequested", 1, stream=stream, why="new", grant=0)


def started(position: int, version: int, attempt: int = 1, stream: str = "job-1", **facts: Any) -> Row:
    return event(position, "EnrichmentStarted", version, attempt, stream=stream, worker="anna", **facts)


def died(position: int, version: int, attempt: int = 1, **facts: Any) -> Row:
    usual: Row = {"error_type": "interrupted", "worker_died": True, "counts": True, "message": "gone"}
    return event(position, "EnrichmentFailed", version, attempt, **usual | facts)


def succeeded(position: int, version: int, attempt: int = 1, stream: str = "job-1", **facts: Any) -> Row:
    paid = {"input_tokens": 7, "output_tokens": 3, "cost_microdollars": 5, "http_status": 200, "called": True}
    return event(position, "EnrichmentSucceeded", version, attempt, stream=stream, result={}, **paid | facts)


def late(position: int, version: int, *, used: bool) -> Row:
    return succeeded(position, version, outcome="succeeded", used=used) | {"type": "EnrichmentLateResult"}


def call(attempt: int = 1, stream: str = "job-1") -> Call:
    return Call(1, 0, "/v1/responses", "m", f"{stream} {attempt}", None, None, "ok", 200, 7, 3, True)


SOUND = [requested(1), started(2, 2), succeeded(3, 3)]
STATUS: Row = {
    "stream_id": "job-1", "state": "succeeded", "attempts": 1, "budget_used": 0, "deaths": 0, "successes": 1,
    "cost_microdollars": 5, "input_tokens": 7, "output_tokens": 3,
}  # fmt: skip
SHOWN: Row = {
    "enrichment": "job", "job_posting_id": "1", "result": {}, "enrichment_error": None, "enrichment_completed_at": THEN,
}  # fmt: skip


def account(
    events: list[Row] = SOUND, calls: tuple[Call, ...] = (call(),), status: Row = STATUS, shown: Row = SHOWN,
    acknowledged: tuple[str, ...] = ("job-1 1",),
) -> Account:  # fmt: skip
    tables = {"{ours}events": events, "{ours}enrichment_status": [status], "llm_enrichment": [shown]}
    return take_account(lambda query: tables[query.split()[3]], calls, acknowledged)


def test_nothing_is_wrong_with_a_sound_one() -> None:
    found = account()
    assert found.faults == found.unfinished == found.given_up == []
    assert (found.calls, found.extra_calls, found.late_results, found.died) == (1, 0, 0, 0)


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [
        ("positions have gaps", lambda: account([requested(1), started(2, 2), succeeded(4, 3)])),
        ("job-1 has version 4", lambda: account([requested(1), started(2, 2), succeeded(3, 4)])),
        ("is there 2 times", lambda: account([*SOUND[:2], SOUND[2] | {"event_id": "1"}])),
        ("began beside another", lambda: account([*SOUND[:2], started(3, 3, 2), succeeded(4, 4, 2)])),
        ("began after a success", lambda: account([*SOUND, started(4, 4, 2), succeeded(5, 5, 2)])),
        ("was not the open one", lambda: account([*SOUND, succeeded(4, 4)])),
        ("had not been closed", lambda: account([*SOUND[:2], late(3, 3, used=True)])),
        ("is used: True", lambda: account([*SOUND, late(4, 4, used=True)])),
        ("is used: False", lambda: account([*SOUND[:2], died(3, 3), late(4, 4, used=False)])),
        ("began beside one on which a worker had died", lambda: account([
            *SOUND[:2], died(3, 3), started(4, 4, 2), requested(5, "job-2"), started(6, 2, 1, "job-2")
        ])),
        ("0 ends", lambda: account(SOUND[:2])),
        ("of which the log has no start", lambda: account(calls=(call(), call(2)))),
        ("2 calls were made for one attempt", lambda: account(calls=(call(), call()))),
        ("a call that nobody received", lambda: account(calls=())),
        ("8 tokens in, of a call with 7", lambda: account([*SOUND[:2], succeeded(3, 3, input_tokens=8)])),
        ("4 tokens out, of a call with 3", lambda: account([*SOUND[:2], succeeded(3, 3, output_tokens=4)])),
        ("was acknowledged and is not there", lambda: account([*SOUND[:2], died(3, 3)])),
        ("attempts is 2, not 1", lambda: account(status=STATUS | {"attempts": 2})),
        ("in enrichment_status alone", lambda: account(status=STATUS | {"stream_id": "job-2"})),
        ("result is {'a': 1}, not {}", lambda: account(shown=SHOWN | {"result": {"a": 1}})),
        ("error is 'no', not None", lambda: account(shown=SHOWN | {"enrichment_error": "no"})),
        ("ended is None", lambda: account(shown=SHOWN | {"enrichment_completed_at": None})),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told(fault: str, wrong: Callable[[], Account]) -> None:
    assert any(fault in found for found in wrong().faults)


def test_a_call_whose_outcome_nobody_recorded_is_an_extra_one() -> None:
    events = [*SOUND[:2], died(3, 3), started(4, 4, 2), succeeded(5, 5, 2)]
    found = account(events, (call(), call(2)), STATUS | {"attempts": 2}, acknowledged=())
    assert found.faults == []
    assert (found.calls, found.extra_calls, found.died) == (2, 1, 1)
    assert found.spent == {THEN[:10]: 5}


@pytest.mark.parametrize(
    ("received", "most"), [([], 0), ([0], 1), ([0, 59_999], 2), ([0, 60_000], 1), ([0, 50_000, 70_000, 100_000], 3)]
)
def test_the_most_calls_of_a_minute_are_those_of_any_60_seconds(received: list[int], most: int) -> None:
    assert most_in_a_minute([call()._replace(received_ms=one) for one in received]) == most


def test_a_posting_on_which_too_many_workers_died_is_given_up_and_any_other_is_unfinished() -> None:
    deaths = [requested(1)]
    for attempt in (1, 2, 3):
        assert account(deaths).unfinished == ["job-1"]
        deaths += [started(2 * attempt, 2 * attempt, attempt), died(2 * attempt + 1, 2 * attempt + 1, attempt)]
    assert (account(deaths).given_up, account(deaths).unfinished) == (["job-1"], [])


@pytest.mark.parametrize(
    ("tried", "used"),
    [("A", 1), ("AA", 2), ("AB", 1), ("ABA", 2), ("ABABA", 4), ("ABCAB", 3), ("ABaba", 2), ("AB!BA", 1), ("AB!AB", 1)],
)
def test_to_change_back_to_what_a_posting_was_tried_with_is_no_new_budget(tried: str, used: int) -> None:
    """Letters are prompts, small ones with another input; at a mark it is requested by force."""
    events = [requested(1)]
    for letter in tried:
        at, attempt = len(events) + 1, sum(one["type"] == "EnrichmentStarted" for one in events) + 1
        if letter == "!":
            events.append(event(at, "EnrichmentRequested", at, why="force", grant=0))
            continue
        rests_on = {"request_model": "m", "prompt_hash": letter.upper(), "schema_hash": "s"}
        events.append(started(at, at, attempt, input_hash=f"{letter.islower()}", **rests_on))
        events.append(died(at + 1, at + 1, attempt, error_type="schema_mismatch", worker_died=False))
    assert account(events).postings["job-1"]["budget_used"] == used
    assert folded(events).budget_used == used


def folded(events: list[Row]) -> Status:
    """The same by the product's own fold, which is to mean the same."""
    lacking: Row = {"lease_seconds": 10, "retryable": True, "called": True}
    status = Status()
    for one in events:
        facts = lacking | json.loads(one["facts"])
        status = fold(status, SimpleNamespace(type=one["type"], facts=facts, version=one["version"]))
    return status
