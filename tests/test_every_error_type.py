"""Every fault and every error type: a reply of a real server through the real SDK, and the end event that it becomes.

Each row is exact: the message as people see it, the raw facts, the verdict, the wait, what it cost.
"""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NamedTuple, get_args

import pytest
from sqlalchemy import select

from enrichlog import attempt
from enrichlog.enrichment import Enrichment, enrichment_of, request_for
from enrichlog.errors import CODES, ERROR_TYPES, FINISHES, PARAMS, STATUSES
from enrichlog.llm import Client
from enrichlog.outcome import Outcome, defect, judge, not_called
from enrichlog.reply import Api, Reply
from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from eventlog.events import Attempt, Counted, EnrichmentFailed, EnrichmentSucceeded, moment
from projections.enrichment_status import enrichment_status
from tests.builders import NOON
from tests.byte_server import answering, http
from tests.service import KEY, Skills, enrich, import_postings, of_type, posting, small

APIS: tuple[Api, ...] = get_args(Api)
DEADLINE = 0.4
EXTRACT = "Could not extract structured output from API response: "
NAMED = "invalid_request_error"

# -- what each error type means ---------------------------------------------------------------------------------------

BACKOFF, SHORT = 19_080, 1_908  # milliseconds, of the stream job-1 after its first failure
DEFERRED = {"max_deferrals": 20, "max_deferred_seconds": 14 * 24 * 60 * 60}
SETUP = {"fault": "setup", "retryable": True, "counts": False, "wait_ms": 0}
PROVIDER = {"fault": "provider", "retryable": True, "counts": False, "wait_ms": BACKOFF, **DEFERRED}
MALFORMED = {"fault": "posting", "retryable": True, "counts": True, "cap": 2, "wait_ms": SHORT}
FINAL = {"fault": "posting", "retryable": False, "counts": True}
OURS = {"fault": "ours", "retryable": True, "counts": False}

MEANS: dict[str, dict[str, Any]] = {
    "quota_exceeded": SETUP,
    "authentication": SETUP,
    "permission": SETUP,
    "model_not_found": SETUP,
    "invalid_schema": SETUP,
    "prompt_not_found": SETUP,
    "rate_limited": {**OURS, "wait_ms": BACKOFF, "max_deferred_seconds": 14 * 24 * 60 * 60},
    "server_error": PROVIDER,
    "connection": PROVIDER,
    "invalid_response_body": PROVIDER,
    "interrupted": {**OURS, "counts": True, "cap": 3, "wait_ms": 0},
    "timeout": {"fault": "provider", "retryable": True, "counts": True, "wait_ms": BACKOFF},
    "invalid_json": MALFORMED,
    "schema_mismatch": MALFORMED,
    "output_truncated": MALFORMED,
    "empty_output": MALFORMED,
    "refusal": FINAL,
    "content_filter": FINAL,
    "input_too_large": FINAL,
    "input_error": FINAL,
    "bad_request": FINAL,
    "budget_exceeded": {**OURS, "wait_ms": 0},
    "storage_error": {**OURS, "wait_ms": 0},
    "other": {**OURS, "counts": True, "cap": 2, "wait_ms": BACKOFF},
}

# -- the replies of the simulator -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """What becomes of a fault: error type, message (or what it matches), HTTP status, what the provider said, output.

    `said` is code, type and param, the last in both APIs; `spent` the tokens of the output, None where the reply tells
    no usage; `differs` what is otherwise than the type usually has it.
    """

    error_type: str
    message: str | re.Pattern[str]
    status: int | None
    said: Sequence[Any] = (None, None, (None, None))
    spent: int | None = None
    error_class: str | None = None
    differs: Mapping[str, Any] = MappingProxyType({})


def said(code: str | None, kind: str | None, *param: str) -> tuple[Any, ...]:
    return code, kind, (param * 2)[:2] or (None, None)


FULL = {"limit_tokens": 30_000, "remaining_tokens": 30_000}
ROWS: dict[Fault, Row] = {
    Fault.QUOTA: Row(
        "quota_exceeded",
        "Error code: 429 - You exceeded your current quota, please check your plan and billing details. For more "
        "information on this error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        429, said("insufficient_quota", "insufficient_quota")),
    Fault.RATE_LIMIT: Row(
        "rate_limited",
        "Error code: 429 - Rate limit reached for gpt-4o-mini in organization org-simulator on requests per min (RPM): "
        "Limit 500, Used 500, Requested 1. Please try again in 60s. Visit "
        "https://platform.openai.com/account/rate-limits to learn more.",
        429, said("rate_limit_exceeded", "requests"), differs={"retry_after_ms": 60_000, "wait_ms": 60_000}),
    Fault.REQUEST_TOO_LARGE: Row(
        "input_too_large",
        "Error code: 429 - Request too large for gpt-4o-mini in organization org-simulator on tokens per min (TPM): "
        "Limit 30000, Requested 31538. The input or output tokens must be reduced in order to run successfully. Visit "
        "https://platform.openai.com/account/rate-limits to learn more.",
        429, said("rate_limit_exceeded", "tokens"), differs=FULL),
    Fault.UNAUTHORIZED: Row(
        "authentication",
        "Error code: 401 - Incorrect API key provided: [redacted] You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        401, said("invalid_api_key", NAMED)),
    Fault.PAYMENT_REQUIRED: Row(
        "quota_exceeded", "Error code: 402 - Insufficient credits. Add more and try again.", 402, said("402", None)),
    Fault.PERMISSION: Row(
        "permission", "Error code: 403 - Country, region, or territory not supported", 403,
        said("unsupported_country_region_territory", "request_forbidden")),
    Fault.MODEL_NOT_FOUND: Row(
        "model_not_found",
        "Error code: 404 - The model `gpt-4o-mini` does not exist or you do not have access to it.",
        404, said("model_not_found", NAMED)),
    Fault.PROMPT_NOT_FOUND: Row(
        "prompt_not_found", "Error code: 404 - The stored prompt of this request was not found.", 404,
        said("prompt_not_found", NAMED)),
    Fault.REQUEST_TIMEOUT: Row("timeout", "Error code: 408 - The request timed out. Please try again.", 408),
    Fault.CONFLICT: Row(
        "server_error", "Error code: 409 - The resource is being changed by another request.", 409,
        said(None, "conflict_error")),
    Fault.BAD_REQUEST: Row(
        "bad_request", "Error code: 400 - Invalid request: one of its values is not allowed.", 400, said(None, NAMED)),
    Fault.UNSUPPORTED_PARAMETER: Row(
        "bad_request", "Error code: 400 - Unsupported parameter: 'temperature' is not supported with this model.", 400,
        said("unsupported_parameter", NAMED, "temperature")),
    Fault.CONTENT_POLICY: Row(
        "content_filter",
        "Error code: 400 - The response was filtered due to the prompt triggering a content management policy.",
        400, said("content_filter", None, "prompt")),
    Fault.INVALID_SCHEMA: Row(
        "invalid_schema",
        "Error code: 400 - Invalid schema for response_format: In context=(), 'additionalProperties' is required to be "
        "supplied and to be false.",
        400, said(None, NAMED, "text.format.schema", "response_format")),
    Fault.CONTEXT_LENGTH: Row(
        "input_too_large",
        "Error code: 400 - This model's maximum context length is 128000 tokens. However, your messages resulted in "
        "140004 tokens. Please reduce the length of the messages.",
        400, said("context_length_exceeded", NAMED, "input", "messages")),
    Fault.SERVER_ERROR: Row(
        "server_error",
        "Error code: 500 - The server had an error processing your request. Sorry about that! You can retry your "
        "request, or contact us through our help center at help.openai.com if you keep seeing this error.",
        500, said(None, "server_error")),
    Fault.BAD_GATEWAY: Row("server_error", "Error code: 502", 502),
    Fault.OVERLOADED: Row(
        "server_error", "Error code: 503 - The engine is currently overloaded, please try again later.", 503,
        said(None, "server_error")),
    Fault.OVERLOADED_ERROR: Row("server_error", "Error code: 529 - Overloaded", 529, said(None, "overloaded_error")),
    Fault.REDIRECT: Row("model_not_found", "Error code: 307", 307),
    Fault.HANG: Row("timeout", "Request timeout after 0.4 seconds", None, error_class="TimeoutError"),
    Fault.DRIP: Row("timeout", "Request timeout after 0.4 seconds", 200, error_class="TimeoutError"),
    Fault.RESET: Row(
        "connection", re.compile(r"ReadError: Response payload is not completed: .*received \d+ of \d+ bytes.*"), 200,
        error_class="ReadError"),
    Fault.TRUNCATED_JSON: Row(
        "invalid_response_body",
        re.compile(r"The response body is not JSON: unexpected end of data: line 1 column \d+ \(char \d+\)"), 200,
        error_class="JSONDecodeError"),
    Fault.HTML: Row(
        "invalid_response_body",
        "The response body is not JSON: unexpected character, expected a JSON value: line 1 column 1 (char 0)", 200,
        error_class="JSONDecodeError"),
    Fault.HUGE: Row("invalid_response_body", "The response is larger than 2 MiB", 200, error_class="BodyTooLarge"),
    Fault.FAILED: Row(
        "server_error", "The model failed to generate a response.", 200, said("server_error", None)),
    Fault.WRONG_SCHEMA: Row(
        "schema_mismatch",
        EXTRACT + "title: Input should be a valid string; skills: Input should be a valid array", 200, spent=16,
        error_class="ValidationError"),
    Fault.INVALID_JSON: Row(
        "invalid_json", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)", 200, spent=17,
        error_class="JSONDecodeError"),
    Fault.REFUSAL: Row(
        "refusal", EXTRACT + "the model refused: I'm sorry, but I cannot assist with that request.", 200, spent=13),
    Fault.INCOMPLETE: Row(
        "output_truncated",
        re.compile(re.escape(EXTRACT) + r"the output was cut off \((max_output_tokens|length)\)"), 200, spent=6),
    Fault.CONTENT_FILTER: Row("content_filter", EXTRACT + "the content filter stopped it", 200, spent=0),
    Fault.EMPTY: Row("empty_output", EXTRACT + "no text", 200, spent=0),
}  # fmt: skip
NO_FAULTS = {Fault.OK, Fault.FENCED_JSON}
COSTS = {16: 29, 17: 30, 13: 27, 6: 23, 0: 19}
"""Tokens of the output -> micro-dollars, with 126 tokens of input: 0.15 and 0.60 dollars a million."""


def enrichment(server: str, api: Api = "responses") -> Enrichment:
    settings = Settings.model_construct(base_url=server, prices_of="openai", api=api)
    return small(enrichment_of(settings))


def ask(asked: Enrichment, *, times: int = 1) -> list[Reply]:
    """So many calls of one client, one after the other."""
    body = request_for(asked, posting()._asdict(), "h" * 64, 100_000, cut=False).body

    async def calls() -> list[Reply]:
        async with Client(asked.server, KEY, deadline=DEADLINE, connections=1) as client:
            return [await client.ask(asked.api, body, f"attempt-{number}") for number in range(times)]

    return asyncio.run(calls())


def end_of(asked: Enrichment, outcome: Outcome) -> attempt.End:
    """The end event that an outcome becomes, of the first attempt of a posting."""
    request = request_for(asked, posting()._asdict(), "h" * 64, 100_000, cut=False)
    begun = attempt.start(asked, request, number=1, input_hash="h" * 64, worker="w", lease_seconds=360)
    return attempt.end(asked, attempt.Started("job-1", begun, 0), outcome)


COMMON = {*Attempt.model_fields, *Counted.model_fields, "latency_ms", "schema_version", "called", "worker_died"}


def facts_of(end: attempt.End) -> dict[str, Any]:
    """What the end says of this failure, without what every attempt has."""
    payload = end.payload(NOON)
    return {name: value for name, value in payload.facts.items() if name not in COMMON}


def expected(row: Row, api: Api, request_id: str | None) -> dict[str, Any]:
    """The facts of a row, all of them; what is unknown is not among them."""
    code, kind, params = row.said
    refused = row.status is not None and row.status != 200
    limits = {"limit_tokens": 30_000, "remaining_tokens": 29_000} if refused else {}
    facts = {"error_type": row.error_type, **MEANS[row.error_type], "http_status": row.status, "error_code": code,
             "provider_error_type": kind, "error_param": params[APIS.index(api)], "error_class": row.error_class,
             "request_id": request_id, **limits, **row.differs}  # fmt: skip
    if row.status in range(300, 500):
        facts["cost_microdollars"] = 0
    if row.spent is not None:
        facts |= {"input_tokens": 126, "output_tokens": row.spent, "cache_read_input_tokens": 0,
                  "reasoning_output_tokens": 0, "cost_microdollars": COSTS[row.spent]}  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def is_said(message: str | None, wanted: str | re.Pattern[str]) -> bool:
    if isinstance(wanted, str):
        return message == wanted
    return wanted.fullmatch(message or "") is not None


def test_every_fault_and_every_error_type_has_a_row() -> None:
    assert set(ROWS) | NO_FAULTS == set(Fault)
    assert set(MEANS) == set(ERROR_TYPES)
    assert {row.error_type for row in ROWS.values()} | set(WITHOUT_A_REPLY) == set(ERROR_TYPES)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", ROWS)
def test_a_fault_becomes_an_end_with_exactly_these_facts(simulator: Simulator, fault: Fault, api: Api) -> None:
    simulator.play(Script(rules=[Rule("Engineer", [fault])], drip=0.01, retry_after=60.0))
    asked = enrichment(simulator.base_url, api)
    (reply,) = ask(asked)
    end = end_of(asked, judge(reply, api, Skills, DEADLINE))
    assert isinstance(end, EnrichmentFailed)
    assert is_said(end.message, ROWS[fault].message), end.message
    identity = ("response_id", "response_model", "finish_reason")
    found = {name: value for name, value in facts_of(end).items() if name not in identity}
    assert found == expected(ROWS[fault], api, None if fault is Fault.HANG else f"req_{1:032x}")
    assert (end.called, end.worker_died, end.latency_ms) == (True, False, reply.latency_ms)
    assert end.provider_name == (None if fault is Fault.HANG else "enrichlog-simulator")
    path = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}[api]
    assert [(call.fault, call.path) for call in simulator.journal] == [(fault, path)]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", sorted(NO_FAULTS))
def test_what_is_no_fault_becomes_a_success(simulator: Simulator, fault: Fault, api: Api) -> None:  # the control
    simulator.play(Script(rules=[Rule("Engineer", [fault])]))
    asked = enrichment(simulator.base_url, api)
    end = end_of(asked, judge(ask(asked)[0], api, Skills, DEADLINE))
    assert isinstance(end, EnrichmentSucceeded)
    assert (end.result or {})["title"] == "Engineer 1"


def test_a_deadline_of_five_minutes_is_told_as_people_know_it() -> None:
    outcome = judge(Reply(300_000, broken="timeout", error_class="TimeoutError"), "responses", Skills, 300.0)
    assert outcome.failed is not None
    assert outcome.failed.message == "Request timeout after 300 seconds"


# -- the error types that no reply leads to ---------------------------------------------------------------------------

WITHOUT_A_REPLY: dict[str, tuple[Outcome, str, bool]] = {
    "input_error": (not_called("input_error", "No description found"), "No description found", False),
    "budget_exceeded": (not_called("budget_exceeded", "The limit is reached"), "The limit is reached", False),
    "storage_error": (not_called("storage_error", "Not recorded"), "Not recorded", False),
    "other": (defect(KeyError("day")), "KeyError: 'day'", True),
    "interrupted": (Outcome(), "The worker died", True),
}


@pytest.mark.parametrize("name", WITHOUT_A_REPLY)
def test_what_no_reply_leads_to_becomes_an_end_too(name: str) -> None:
    asked = enrichment("http://127.0.0.1:9/v1")
    outcome, message, called = WITHOUT_A_REPLY[name]
    request = request_for(asked, posting()._asdict(), "h" * 64, 100_000, cut=False)
    begun = attempt.start(asked, request, number=1, input_hash="h" * 64, worker="w", lease_seconds=360)
    started = attempt.Started("job-1", begun, 0)
    died = name == "interrupted"
    end = attempt.interrupted(started, message, worker_died=True) if died else attempt.end(asked, started, outcome)
    assert isinstance(end, EnrichmentFailed)
    assert (end.message, end.called, end.worker_died) == (message, called, died)
    verdict = {"error_type": name, **MEANS[name]}
    assert {field: value for field, value in facts_of(end).items() if field in verdict} == verdict


def test_a_shutdown_is_an_interruption_that_does_not_count() -> None:
    asked = enrichment("http://127.0.0.1:9/v1")
    request = request_for(asked, posting()._asdict(), "h" * 64, 100_000, cut=False)
    begun = attempt.start(asked, request, number=1, input_hash="h" * 64, worker="w", lease_seconds=360)
    end = attempt.interrupted(attempt.Started("job-1", begun, 0), "Shut down")
    assert (end.error_type, end.counts, end.worker_died, end.fault) == ("interrupted", False, False, "ours")


# -- all that leads to an error type ----------------------------------------------------------------------------------


def whole(document: Any, status: int = 200) -> bytes:
    body = json.dumps(document).encode()
    return http(body, f"content-length: {len(body)}", "connection: close", status=f"{status} Said")


def refused(status: int, **error: Any) -> bytes:
    return whole({"error": {"message": "Said.", **error}}, status)


def types_of(replies: Sequence[bytes], api: Api = "responses", codes: dict[str, str] | None = None) -> list[str]:
    """The error types that a server's replies come out as, through the SDK."""
    with answering(*replies) as server:
        asked = enrichment(server.base_url, api)
        outcomes = [judge(reply, api, Skills, DEADLINE, codes) for reply in ask(asked, times=len(replies))]
    assert all(outcome.failed for outcome in outcomes)
    return [outcome.failed.kind.name for outcome in outcomes if outcome.failed]


def test_every_code_leads_to_its_type_as_a_code_and_as_a_type() -> None:
    parted = [code.partition(":") for code in CODES]
    assert types_of([refused(400, code=code, param=param or None) for code, _, param in parted]) == [*CODES.values()]
    plain = {code: name for code, name in CODES.items() if ":" not in code}
    assert types_of([refused(400, type=code) for code in plain]) == [*plain.values()]


def test_every_param_and_what_stands_within_it_leads_to_its_type() -> None:
    assert types_of([refused(400, param=param) for param in PARAMS]) == [*PARAMS.values()]
    assert types_of([refused(422, param=f"{param}.type") for param in PARAMS]) == [*PARAMS.values()]
    assert set(types_of([refused(400, param=f"{param}s") for param in PARAMS])) == {"bad_request"}  # the control


def test_every_status_leads_to_its_type() -> None:
    single = {status: name for status, name in STATUSES.items() if status > 100}
    assert types_of([refused(status) for status in single]) == [*single.values()]
    others = [307, 400, 418, 422, 431, 500, 502, 503, 504, 520, 599]
    assert types_of([refused(status) for status in others]) == [STATUSES[status // 100] for status in others]


def test_every_reason_to_stop_leads_to_its_type() -> None:
    replies = [whole({"choices": [{"finish_reason": reason, "message": {}}]}) for reason in FINISHES]
    assert types_of(replies, "chat") == [*FINISHES.values()]


# -- providers that differ --------------------------------------------------------------------------------------------

OWN = {"1113": "quota_exceeded", "burst": "server_error", "rate_limit_exceeded": "quota_exceeded", "502": "timeout"}


def test_a_code_of_the_settings_wins_over_ours_wherever_it_stands() -> None:
    replies = [
        refused(429, code="1113"),
        refused(429, code=1113),
        refused(400, type="burst"),
        refused(429, code="rate_limit_exceeded", type="tokens"),
        refused(200, code=1113),
        refused(200, code="x", type="burst"),
        refused(200, code=502),
    ]
    told = ["quota_exceeded", "quota_exceeded", "server_error", "quota_exceeded", "quota_exceeded", "server_error"]
    assert types_of(replies, codes=OWN) == [*told, "timeout"]
    assert types_of(replies, "chat", OWN) == [*told, "timeout"]
    by_us = ["rate_limited", "rate_limited", "bad_request", "rate_limited", *["server_error"] * 3]
    assert types_of(replies) == by_us  # the control


def test_a_wait_is_kept_though_the_error_came_with_status_200() -> None:
    with answering(refused(200, code=429).replace(b"content-length", b"retry-after: 7\r\ncontent-length")) as server:
        asked = enrichment(server.base_url, "chat")
        end = end_of(asked, judge(ask(asked)[0], "chat", Skills, DEADLINE))
    assert isinstance(end, EnrichmentFailed)
    assert (end.error_type, end.retry_after_ms, end.error_code) == ("rate_limited", 7_000, "429")


# -- as stored --------------------------------------------------------------------------------------------------------

STORED = (Fault.RATE_LIMIT, Fault.OVERLOADED, Fault.INVALID_JSON, Fault.REFUSAL, Fault.CONTEXT_LENGTH, Fault.EMPTY)


def test_a_stored_end_says_the_same_and_when_the_posting_is_due(database: Database, service: Settings) -> None:
    rules = [Rule(f"Engineer {fault}", [fault]) for fault in STORED]
    import_postings(database, *(posting(fault) for fault in STORED))
    with Simulator(Script(rules=rules, retry_after=60.0)) as simulator:
        enrich(database, service.model_copy(update={"base_url": simulator.base_url}))
    rows = database.page(select(enrichment_status.c.stream_id, enrichment_status.c.due_at))
    due = {row.stream_id: row.due_at for row in rows}
    ends = {recorded.stream_id: recorded for recorded in of_type(database, "EnrichmentFailed")}
    assert len(ends) == len(STORED)
    for fault in STORED:
        end, row = ends[f"job-{fault}"], ROWS[fault]
        assert is_said((end.content or {})["message"], row.message)
        verdict = {"error_type": row.error_type, **MEANS[row.error_type], **row.differs}
        wait = verdict.pop("wait_ms", None)
        assert {name: end.facts[name] for name in verdict} == verdict
        if wait is None:
            assert (due[end.stream_id], end.facts.get("wait_ms")) == (None, None)
        else:
            later = moment(end.facts["occurred_at"]) + timedelta(milliseconds=end.facts["wait_ms"])
            assert due[end.stream_id] == later
    assert ends[f"job-{Fault.RATE_LIMIT}"].facts["wait_ms"] == 60_000


def test_the_settings_codes_reach_the_log(sqlite: Database, service: Settings) -> None:
    import_postings(sqlite, posting())
    rules = [Rule("Engineer", [Fault.RATE_LIMIT])]
    with Simulator(Script(rules=rules)) as simulator:
        own = {"base_url": simulator.base_url, "error_codes": {"rate_limit_exceeded": "refusal"}}
        enrich(sqlite, service.model_copy(update=own))
    (end,) = of_type(sqlite, "EnrichmentFailed")
    assert (end.facts["error_type"], end.facts["error_code"]) == ("refusal", "rate_limit_exceeded")
