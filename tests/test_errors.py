"""The error types: the table of them, and how a provider's error is recognised by its structure."""

import re
from inspect import signature

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import cli
from enrichlog.errors import (
    CODES,
    ERROR_TYPES,
    PARAMS,
    SHORT_NAMES,
    STATUSES,
    ProviderError,
    find_error_types,
    recognise,
)
from enrichlog.exceptions import UnknownErrorType
from enrichlog.settings import Settings

# name: (group, fault, retryable, counts, wait, cap, deferrals, stops)
TABLE = {
    "quota_exceeded": ("Quota Exceeded", "setup", True, False, "none", None, None, True),
    "authentication": ("Configuration", "setup", True, False, "none", None, None, True),
    "permission": ("Configuration", "setup", True, False, "none", None, None, True),
    "model_not_found": ("Configuration", "setup", True, False, "none", None, None, True),
    "invalid_schema": ("Configuration", "setup", True, False, "none", None, None, True),
    "prompt_not_found": ("Configuration", "setup", True, False, "none", None, None, True),
    "rate_limited": ("Rate Limited", "ours", True, False, "backoff", None, None, False),
    "server_error": ("Provider", "provider", True, False, "backoff", None, 20, False),
    "connection": ("Provider", "provider", True, False, "backoff", None, 20, False),
    "invalid_response_body": ("Provider", "provider", True, False, "backoff", None, 20, False),
    "interrupted": ("Interrupted", "ours", True, True, "none", 3, None, False),
    "timeout": ("Timeout", "provider", True, True, "backoff", None, None, False),
    "invalid_json": ("Invalid JSON", "posting", True, True, "short", 2, None, False),
    "schema_mismatch": ("Parsing Error", "posting", True, True, "short", 2, None, False),
    "output_truncated": ("Parsing Error", "posting", True, True, "short", 2, None, False),
    "empty_output": ("Parsing Error", "posting", True, True, "short", 2, None, False),
    "refusal": ("Rejected", "posting", False, True, "backoff", None, None, False),
    "content_filter": ("Rejected", "posting", False, True, "backoff", None, None, False),
    "input_too_large": ("Rejected", "posting", False, True, "backoff", None, None, False),
    "input_error": ("Rejected", "posting", False, True, "backoff", None, None, False),
    "bad_request": ("Rejected", "posting", False, True, "backoff", None, None, False),
    "budget_exceeded": ("Budget", "ours", True, False, "none", None, None, False),
    "storage_error": ("Storage", "ours", True, False, "none", None, None, True),
    "other": ("Other", "ours", True, True, "backoff", 2, None, False),
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
    (ProviderError(413, "rate_limit_exceeded", "tokens"), "input_too_large"),  # more than the limit of a minute
    (ProviderError(413, None, "request_too_large"), "input_too_large"),
    (ProviderError(400, "400", "BadRequestError", "input_tokens"), "input_too_large"),
    (ProviderError(400, "400", "exceed_context_size_error"), "input_too_large"),
    (ProviderError(400, "content_filter"), "content_filter"),
    (ProviderError(400, "invalid_prompt", "invalid_request_error"), "content_filter"),
    (ProviderError(400, "ResponsibleAIPolicyViolation"), "content_filter"),
    (ProviderError(403, "flagged_input"), "content_filter"),
    (ProviderError(None, "bio_policy"), "content_filter"),
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
    (ProviderError(None, "insufficient_quota"), "quota_exceeded"),
    (ProviderError(None, "402"), "quota_exceeded"),  # a gateway's status of its provider
    (ProviderError(None, "404", "NotFoundError"), "model_not_found"),
    (ProviderError(None, "408"), "timeout"),
    (ProviderError(None, "429"), "rate_limited"),
    (ProviderError(None, "502"), "server_error"),
    (ProviderError(None, "1300", "rate_limited"), "server_error"),  # no status: four digits
    (ProviderError(400, "API_KEY_INVALID", "INVALID_ARGUMENT"), "authentication"),
    (ProviderError(400, "400", "FAILED_PRECONDITION"), "permission"),
    (ProviderError(429, "429", "RESOURCE_EXHAUSTED"), "rate_limited"),
    (ProviderError(429, "1300", "rate_limited"), "rate_limited"),
    (ProviderError(429, "3505", "service_tier_capacity_exceeded"), "server_error"),
    (ProviderError(400, "1500", "invalid_model"), "model_not_found"),
    (ProviderError(400, "model_decommissioned", "invalid_request_error"), "model_not_found"),
    (ProviderError(400, "json_validate_failed", "invalid_request_error"), "invalid_json"),
    (ProviderError(400, "blocked_api_access", "invalid_request_error"), "quota_exceeded"),
    (ProviderError(403, None, "billing_error"), "quota_exceeded"),
    (ProviderError(429, None, "budget_exceeded"), "quota_exceeded"),
    (ProviderError(451), "permission"),
    (ProviderError(407), "connection"),
    (ProviderError(405), "model_not_found"),
    (ProviderError(410), "model_not_found"),
    (ProviderError(400, None, "invalid_request_error", "model"), "model_not_found"),
    (ProviderError(400, None, "invalid_request_error", "model_kwargs"), "bad_request"),
    (ProviderError(400, None, "invalid_request_error", "prompt.version"), "prompt_not_found"),
    (ProviderError(400, None, "invalid_request_error", "text.format[0].schema.x.y"), "invalid_schema"),
    (ProviderError(400, None, "invalid_request_error", "text.verbosity"), "bad_request"),
    (ProviderError(422, None, None, "response_format.schema"), "invalid_schema"),
    (ProviderError(500, None, None, "response_format"), "server_error"),
    *((ProviderError(status), "server_error") for status in (424, 425, 498, 499, 500, 520, 529, 599, 600, 999)),
    (ProviderError(498, "capacity_exceeded"), "server_error"),
]

KINDS = ERROR_TYPES.values()
texts = st.one_of(st.none(), st.text(max_size=20), st.sampled_from([*CODES, *PARAMS, "tokens", "429"]))


def test_the_table_is_the_whole_taxonomy() -> None:
    assert {kind.name: (kind.group, kind.fault, *kind[3:5], *kind[6:10]) for kind in KINDS} == TABLE


def test_every_error_type_goes_by_its_own_name_and_says_what_to_do() -> None:
    assert all(kind.name == name and kind.advice for name, kind in ERROR_TYPES.items())


def test_advice_names_only_commands_options_and_settings_that_exist() -> None:
    commands = cli.commands
    options = {name for command in commands.values() for param in command.params for name in param.opts}
    for kind in KINDS:
        assert set(re.findall(r"enrichlog ([a-z]+)", kind.advice)) <= commands.keys()
        assert set(re.findall(r"--[a-z-]+", kind.advice)) <= options
        assert set(re.findall(r"[a-z]+_[a-z_]+", kind.advice)) <= Settings.model_fields.keys()


def test_advice_is_a_sentence_that_people_can_act_on() -> None:
    assert all(kind.advice[0].isupper() and " " in kind.advice and len(kind.advice) <= 120 for kind in KINDS)
    put_off = [kind for kind in KINDS if kind.fault == "provider" and kind.max_deferrals]
    assert all("The next enrichlog enrich, or a worker, takes it after the wait" in kind.advice for kind in put_off)


@pytest.mark.parametrize(("error", "name"), RECOGNISED)
def test_an_error_is_recognised_by_its_structure(error: ProviderError, name: str) -> None:
    assert recognise(error).name == name


def test_nothing_leads_to_two_error_types() -> None:
    known = [sign for kind in KINDS for signs in kind[10:] for sign in signs]
    once = [sign for sign in known if known.count(sign) == 1]
    assert set(known) - set(once) == {"content_filter"}  # a code, and why a model stopped: of the same type
    assert set(CODES) | set(PARAMS) | set(STATUSES) <= set(known)


def test_a_code_that_says_no_more_than_its_status_is_not_listed() -> None:
    generic = {"invalid_request_error", "api_error", "BadRequestError", "INVALID_ARGUMENT", "tokens", "requests", "429"}
    assert generic.isdisjoint(CODES)


def test_every_short_name_leads_to_error_types() -> None:
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
    assert recognise(ProviderError(429, "1113"), {"1113": "quota_exceeded"}).name == "quota_exceeded"
    assert recognise(ProviderError(429, None, "burst"), {"burst": "server_error"}).name == "server_error"
    assert recognise(ProviderError(None, "502"), {"502": "rate_limited"}).name == "rate_limited"
    assert recognise(ProviderError(413, "rate_limit_exceeded"), {"rate_limit_exceeded": "other"}).name == "other"
    pair = {"invalid_value:seed": "invalid_schema"}
    assert recognise(ProviderError(400, "invalid_value", None, "seed"), pair).name == "invalid_schema"
    assert recognise(ProviderError(400, "invalid_value", None, "stop"), pair).name == "bad_request"
    assert recognise(error, {"engine_dead": "server_error"}).name == "rate_limited"


def test_error_types_are_found_by_name_and_by_short_name_each_once() -> None:
    assert find_error_types(("parsing", "timeout", "schema_mismatch")) == (
        "schema_mismatch",
        "output_truncated",
        "empty_output",
        "timeout",
    )
    assert [find_error_types((name,)) for name in ("quota", "json", "rate_limit")] == [
        ("quota_exceeded",),
        ("invalid_json",),
        ("rate_limited",),
    ]
    assert find_error_types(()) == ()


def test_an_unknown_error_type_is_refused_with_the_list_of_the_known() -> None:
    with pytest.raises(UnknownErrorType) as refused:
        find_error_types(("timeout", "tiemout"))
    message = str(refused.value)
    assert message.startswith("There is no error type tiemout. Known are: ")
    assert all(name in message for name in (*ERROR_TYPES, *SHORT_NAMES))
