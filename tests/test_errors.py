"""The error types: the table of them, and how a provider's error is recognised by its structure."""

from inspect import signature

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog.errors import CODES, ERROR_TYPES, SHORT_NAMES, STATUSES, ProviderError, find, recognise
from enrichlog.exceptions import UnknownErrorType

# name: (group, retryable, counts, wait, cap, stops)
TABLE = {
    "quota_exceeded": ("Quota Exceeded", True, False, "none", None, True),
    "authentication": ("Configuration", True, False, "none", None, True),
    "permission": ("Configuration", True, False, "none", None, True),
    "model_not_found": ("Configuration", True, False, "none", None, True),
    "invalid_schema": ("Configuration", True, False, "none", None, True),
    "prompt_not_found": ("Configuration", True, False, "none", None, True),
    "rate_limited": ("Rate Limited", True, False, "backoff", None, False),
    "server_error": ("Provider", True, False, "backoff", None, False),
    "connection": ("Provider", True, False, "backoff", None, False),
    "invalid_response_body": ("Provider", True, False, "backoff", None, False),
    "interrupted": ("Interrupted", True, True, "none", 3, False),
    "timeout": ("Timeout", True, True, "backoff", None, False),
    "invalid_json": ("Invalid JSON", True, True, "short", 2, False),
    "schema_mismatch": ("Parsing Error", True, True, "short", 2, False),
    "output_truncated": ("Parsing Error", True, True, "short", 2, False),
    "empty_output": ("Parsing Error", True, True, "short", 2, False),
    "refusal": ("Rejected", False, True, "backoff", None, False),
    "content_filter": ("Rejected", False, True, "backoff", None, False),
    "input_too_large": ("Rejected", False, True, "backoff", None, False),
    "input_error": ("Rejected", False, True, "backoff", None, False),
    "bad_request": ("Rejected", False, True, "backoff", None, False),
    "budget_exceeded": ("Budget", True, False, "none", None, True),
    "storage_error": ("Storage", True, False, "none", None, True),
    "other": ("Other", True, True, "backoff", 2, False),
}

RECOGNISED = [
    (ProviderError(429, "insufficient_quota", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(429, "credit_balance_exhausted", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(429, "organization_spend_limit_exceeded", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(429, "project_spend_limit_exceeded", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(429, "organization_usage_limit_exceeded", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(429, "a_limit_of_tomorrow", "insufficient_quota"), "quota_exceeded"),
    (ProviderError(403, "billing_hard_limit_reached"), "quota_exceeded"),
    (ProviderError(402), "quota_exceeded"),
    (ProviderError(429, "rate_limit_exceeded", "requests"), "rate_limited"),
    (ProviderError(429, "rate_limit_exceeded", "tokens"), "rate_limited"),
    (ProviderError(429, "rate_limit_exceeded", "tokens", None, 30_000, 30_000), "input_too_large"),
    (ProviderError(429, "rate_limit_exceeded", "tokens", None, 30_000, 12), "rate_limited"),
    (ProviderError(429, "rate_limit_exceeded", "tokens", None, None, None), "rate_limited"),
    (ProviderError(429, "rate_limit_exceeded", "requests", None, 30_000, 30_000), "rate_limited"),
    (ProviderError(500, None, "tokens", None, 30_000, 30_000), "server_error"),
    (ProviderError(429), "rate_limited"),
    (ProviderError(429, "429", "too_many_requests"), "rate_limited"),
    (ProviderError(401, "invalid_api_key", "invalid_request_error"), "authentication"),
    (ProviderError(401, None, "invalid_request_error"), "authentication"),
    (ProviderError(403), "permission"),
    (ProviderError(403, "unsupported_country_region_territory", "request_forbidden"), "permission"),
    (ProviderError(404, "model_not_found", "invalid_request_error"), "model_not_found"),
    (ProviderError(403, "model_not_found", "invalid_request_error"), "model_not_found"),
    (ProviderError(404), "model_not_found"),
    (ProviderError(404, "prompt_not_found"), "prompt_not_found"),
    *((ProviderError(status), "invalid_response_body") for status in (101, 201, 202, 204, 206, 299)),
    *((ProviderError(status), "model_not_found") for status in (300, 304, 307, 308)),
    (ProviderError(400, None, "invalid_request_error", "text.format.schema"), "invalid_schema"),
    (ProviderError(400, None, "invalid_request_error", "response_format"), "invalid_schema"),
    (ProviderError(400, "invalid_json_schema", "invalid_request_error", "text.format.schema"), "invalid_schema"),
    (ProviderError(400, None, "invalid_request_error", "temperature"), "bad_request"),
    (ProviderError(400), "bad_request"),
    (ProviderError(418), "bad_request"),
    (ProviderError(422, "missing"), "bad_request"),
    (ProviderError(400, "context_length_exceeded", "invalid_request_error", "messages"), "input_too_large"),
    (ProviderError(400, "string_above_max_length", "invalid_request_error", "input"), "input_too_large"),
    (ProviderError(413), "input_too_large"),
    (ProviderError(400, "content_filter"), "content_filter"),
    (ProviderError(400, "invalid_prompt", "invalid_request_error"), "content_filter"),
    (ProviderError(408), "timeout"),
    (ProviderError(409), "server_error"),
    (ProviderError(500, None, "server_error"), "server_error"),
    (ProviderError(502), "server_error"),
    (ProviderError(503), "server_error"),
    (ProviderError(504), "server_error"),
    (ProviderError(529, None, "overloaded_error"), "server_error"),
    (ProviderError(None, "server_error"), "server_error"),
    (ProviderError(None, "rate_limit_exceeded"), "rate_limited"),
    (ProviderError(None, "vector_store_timeout"), "server_error"),
]

KINDS = ERROR_TYPES.values()
texts = st.one_of(st.none(), st.text(max_size=20), st.sampled_from([*CODES, "tokens", "text.format.schema"]))


def test_the_table_is_the_whole_taxonomy() -> None:
    rows = ((one.name, (one.group, one.retryable, one.counts, one.wait, one.cap, one.stops)) for one in KINDS)
    assert dict(rows) == TABLE


def test_every_error_type_goes_by_its_own_name_and_says_what_to_do() -> None:
    assert all(kind.name == name and kind.advice for name, kind in ERROR_TYPES.items())


@pytest.mark.parametrize(("error", "name"), RECOGNISED)
def test_an_error_is_recognised_by_its_structure(error: ProviderError, name: str) -> None:
    assert recognise(error).name == name


def test_every_code_and_every_status_leads_to_an_error_type() -> None:
    assert {*CODES.values(), *STATUSES.values()} <= ERROR_TYPES.keys()
    assert all(set(names) <= ERROR_TYPES.keys() for names in SHORT_NAMES.values())


def test_a_message_has_no_part_in_it() -> None:
    assert "message" not in ProviderError._fields
    assert list(signature(recognise).parameters) == ["error", "codes"]


@given(st.none() | st.integers(100, 999), texts, texts, texts)
def test_whatever_a_provider_says_is_some_error_type(
    status: int | None, code: str | None, kind: str | None, param: str | None
) -> None:
    assert recognise(ProviderError(status, code, kind, param)) in ERROR_TYPES.values()


def test_a_providers_own_codes_can_be_added_and_win() -> None:
    error = ProviderError(429, "rate_limit_exceeded", "tokens")
    assert recognise(error, {"rate_limit_exceeded": "quota_exceeded"}).name == "quota_exceeded"
    assert recognise(ProviderError(400, "engine_dead"), {"engine_dead": "server_error"}).name == "server_error"
    assert recognise(error, {"engine_dead": "server_error"}).name == "rate_limited"


def test_error_types_are_found_by_name_and_by_short_name_each_once() -> None:
    assert find(("parsing", "timeout", "schema_mismatch")) == (
        "schema_mismatch",
        "output_truncated",
        "empty_output",
        "timeout",
    )
    assert [find((name,)) for name in ("quota", "json", "rate_limit")] == [
        ("quota_exceeded",),
        ("invalid_json",),
        ("rate_limited",),
    ]
    assert find(()) == ()


def test_an_unknown_error_type_is_refused_with_the_list_of_the_known() -> None:
    with pytest.raises(UnknownErrorType) as refused:
        find(("timeout", "tiemout"))
    message = str(refused.value)
    assert message.startswith("There is no error type tiemout. Known are: ")
    assert all(name in message for name in (*ERROR_TYPES, *SHORT_NAMES))
