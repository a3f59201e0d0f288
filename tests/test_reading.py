"""How today's rules read a failure of the past: what its facts decide, and what they leave as it is."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from enrichlog import attempt, reading
from enrichlog.attempt import Started
from enrichlog.enrichment import enrichment_of
from enrichlog.errors import CODES, ERROR_TYPES, FINISHES, STATUSES
from enrichlog.outcome import judge
from enrichlog.reading import Failure, read_again
from enrichlog.reply import Api, Reply
from enrichlog.retry import judged, wait_ms
from enrichlog.settings import Settings
from eventlog.events import EnrichmentFailed
from tests.builders import NOON, failed, reclassified, started
from tests.service import Skills

STREAM = "job-1"
ERROR_CODES = {"wallet_empty": "quota_exceeded", "slow_down": "timeout"}


def facts_of(error_type: str, **facts: Any) -> dict[str, Any]:
    """The facts of a failure as its event holds them, with the verdict that the table gives its type."""
    kind = ERROR_TYPES[error_type]
    event = failed(**{**judged(kind), "fault": kind.fault, "wait_ms": 7, **facts})
    return event.payload(NOON).facts


def read(facts: dict[str, Any], verdict: dict[str, Any] | None = None, number: int = 1) -> dict[str, Any]:
    """What is read differently; nothing when all is the same."""
    return read_again(Failure(STREAM, facts, verdict or facts, number), ERROR_CODES) or {}


DECIDED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a code": ("rate_limited", {"http_status": 429, "error_code": "wallet_empty"}, "quota_exceeded"),
    "a type": ("rate_limited", {"http_status": 429, "provider_error_type": "insufficient_quota"}, "quota_exceeded"),
    "a status": ("other", {"http_status": 402}, "quota_exceeded"),
    "limits": (
        "rate_limited",
        {"http_status": 429, "provider_error_type": "tokens", "limit_tokens": 9, "remaining_tokens": 9},
        "input_too_large",
    ),
    "a param": ("bad_request", {"http_status": 400, "error_param": "text.format.schema"}, "invalid_schema"),
    "an error within a reply": (
        "server_error", {"http_status": 200, "error_code": "insufficient_quota"}, "quota_exceeded"
    ),
    "a finish reason": ("invalid_json", {"http_status": 200, "finish_reason": "length"}, "output_truncated"),
    "a filter": ("schema_mismatch", {"http_status": 200, "finish_reason": "content_filter"}, "content_filter"),
    "what was imported with its facts": (
        "other", {"origin": "imported", "http_status": 429, "error_code": "insufficient_quota"}, "quota_exceeded"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", DECIDED)
def test_a_failure_is_recognised_anew_by(name: str) -> None:
    recorded_as, facts, today = DECIDED[name]
    assert read(facts_of(recorded_as, **facts))["error_type"] == today


LEFT: dict[str, tuple[str, dict[str, Any]]] = {
    "a malformed answer": ("invalid_json", {"http_status": 200, "finish_reason": "stop"}),
    "an answer that misses the schema": ("schema_mismatch", {"http_status": 200, "error_class": "ValidationError"}),
    "a refusal that a filter ended": ("refusal", {"http_status": 200, "finish_reason": "content_filter"}),
    "a failed response that says nothing": ("server_error", {"http_status": 200, "finish_reason": "length"}),
    "a body that is no JSON": ("invalid_response_body", {"http_status": 200, "error_class": "JSONDecodeError"}),
    "no reply in time": ("timeout", {"error_class": "TimeoutError"}),
    "no connection": ("connection", {"error_class": "ClientConnectorError"}),
    "what was not sent": ("input_error", {"called": False}),
    "what was recorded elsewhere": ("other", {"called": False, "origin": "external"}),
    "a stopped run": ("interrupted", {"counts": False}),
    "a worker that died": ("interrupted", {"counts": True, "worker_died": True, "cap": 9}),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_the_facts_do_not_tell_stays(name: str) -> None:
    recorded_as, facts = LEFT[name]
    assert read(facts_of(recorded_as, **facts)) == {}


def test_a_type_that_the_table_does_not_know_any_more_stays_unless_the_facts_tell_another() -> None:
    gone = facts_of("other") | {"error_type": "gone"}
    assert read(gone) == {}
    assert read(gone | {"http_status": 503})["error_type"] == "server_error"


def replies() -> Iterator[tuple[Api, Reply]]:
    """Replies of every status and code that the table knows, and answers that ended in every way."""
    headers = {"x-ratelimit-limit-tokens": "9", "x-ratelimit-remaining-tokens": "9", "retry-after": "7"}
    for status in (202, 302, 400, 418, 500, 503, *STATUSES):
        for code in (None, *CODES):
            error = {"code": code, "type": "tokens", "param": "text.format"}
            yield "responses", Reply(1, status, headers, json.dumps({"error": error}).encode())
    for code in CODES:
        yield "responses", Reply(1, 200, body=json.dumps({"status": "failed", "error": {"code": code}}).encode())
    for reason in (*FINISHES, "stop"):
        details = {"incomplete_details": {"reason": reason}, "output": []}
        yield "responses", Reply(1, 200, body=json.dumps(details).encode())
        yield "chat", Reply(1, 200, body=json.dumps({"choices": [{"finish_reason": reason}]}).encode())
    for broken in ("timeout", "connection", "too_large", "packed"):
        yield "responses", Reply(1, None, broken=broken)


def test_what_was_recorded_today_is_read_the_same(service: Settings) -> None:
    enrichment, seen = enrichment_of(service), set()
    for api, reply in replies():
        outcome = judge(reply, api, Skills, 300.0, ERROR_CODES)
        end = attempt.end(enrichment, Started(STREAM, started()), outcome)
        assert isinstance(end, EnrichmentFailed)
        facts = end.payload(NOON).facts
        assert read(facts) == {}, facts
        seen.add(facts["error_type"])
    assert len(seen) > 12


@pytest.mark.parametrize("reason", FINISHES)
def test_a_finish_reason_means_what_it_means_to_an_answer(reason: str) -> None:
    reply = Reply(1, 200, body=json.dumps({"choices": [{"finish_reason": reason}]}).encode())
    judged_as = judge(reply, "chat", Skills, 300.0).failed
    assert judged_as is not None
    assert judged_as.kind.name == FINISHES[reason]


def test_the_same_type_with_another_verdict_is_a_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of("timeout")
    monkeypatch.setitem(ERROR_TYPES, "timeout", ERROR_TYPES["timeout"]._replace(cap=2))
    found = read(facts)
    assert (found["error_type"], found["cap"], found["wait_ms"]) == ("timeout", 2, 7)


def test_another_type_waits_as_if_it_had_been_recognised_at_once() -> None:
    facts = facts_of("other", http_status=503, retry_after_ms=40_000)
    own = wait_ms(ERROR_TYPES["server_error"], STREAM, 3)
    assert own > 40_000
    assert read(facts, number=3)["wait_ms"] == own
    assert read(facts | {"retry_after_ms": own + 1}, number=3)["wait_ms"] == own + 1


def test_what_was_not_retryable_and_is_so_today_waits_as_if_it_had_been_from_the_beginning() -> None:
    found = read(facts_of("timeout", retryable=False, wait_ms=None), number=2)
    assert (found["retryable"], found["wait_ms"]) == (True, wait_ms(ERROR_TYPES["timeout"], STREAM, 2))


def test_what_is_not_retryable_today_has_no_wait() -> None:
    assert read(facts_of("other", http_status=422))["wait_ms"] is None


def test_the_last_reading_is_what_is_compared_with() -> None:
    facts = facts_of("rate_limited", http_status=429, error_code="wallet_empty")
    again = reclassified(**read(facts)).payload(NOON).facts
    assert read(facts, again) == {}


# -- outages ----------------------------------------------------------------------------------------------------------


def test_a_failure_of_the_provider_that_neither_counts_nor_is_bounded_can_only_be_one_of_an_outage() -> None:
    providers = [kind for kind in ERROR_TYPES.values() if kind.fault == "provider"]
    assert len(providers) > 1
    assert [kind.name for kind in providers if not kind.counts and kind.max_deferrals is None] == []


IN_AN_OUTAGE = {"counts": False, "max_deferrals": None, "max_deferred_seconds": None}


@pytest.mark.parametrize("error_type", ["timeout", "server_error"])
def test_a_failure_of_an_outage_stays_uncounted(error_type: str) -> None:
    assert read(facts_of(error_type, **IN_AN_OUTAGE)) == {}


@pytest.mark.parametrize("code", [None, "slow_down", "context_length_exceeded"])
def test_a_failure_of_an_outage_stays_uncounted_under_any_other_name(code: str | None) -> None:
    facts = facts_of("connection", **IN_AN_OUTAGE, http_status=503, error_code=code)
    found = read(facts)
    assert found["error_type"] != "connection"
    assert {name: found[name] for name in IN_AN_OUTAGE} == IN_AN_OUTAGE


def test_a_failure_that_was_put_off_before_any_outage_may_be_counted() -> None:
    found = read(facts_of("server_error", http_status=503, error_code="slow_down"))
    assert (found["error_type"], found["counts"]) == ("timeout", True)


def test_what_was_not_counted_for_another_reason_is_no_counted_failure_of_the_provider_either() -> None:
    found = read(facts_of("rate_limited", http_status=429, error_code="slow_down"))
    assert (found["error_type"], found["counts"]) == ("timeout", False)


def test_what_was_not_counted_counts_when_it_is_the_postings_own() -> None:
    found = read(facts_of("rate_limited", http_status=429, error_code="context_length_exceeded"))
    assert (found["error_type"], found["counts"], found["retryable"]) == ("input_too_large", True, False)


def test_the_wait_makes_no_difference() -> None:
    assert "wait_ms" not in reading.COMPARED
    assert read(facts_of("timeout", wait_ms=1)) == read(facts_of("timeout", wait_ms=2)) == {}
