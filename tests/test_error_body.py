"""The errors that providers and gateways send, each in its own shape: what is read from it, and which type it is."""

import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog.error_body import error_in, message_in, provider_error
from enrichlog.errors import ERROR_TYPES, ProviderError, recognise
from enrichlog.outcome import judge
from enrichlog.reply import Api, Reply
from tests.service import Skills


class Shape(NamedTuple):
    """A body, what is to be read from it, and the error type."""

    status: int
    body: Any
    error_type: str
    message: str | None
    code: str | None = None
    type: str | None = None
    param: str | None = None


SAID = "Said."
VIOLATION = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}
GOOGLE = "type.googleapis.com/google.rpc."

SHAPES: dict[str, Shape] = {
    "OpenAI, a model in the prose only": Shape(
        404, {"error": {"message": SAID, "type": "invalid_request_error", "param": None, "code": "model_not_found"}},
        "model_not_found", SAID, "model_not_found", "invalid_request_error"),
    "OpenAI, a country": Shape(
        403, {"error": {"code": "unsupported_country_region_territory", "message": SAID, "param": None,
                        "type": "request_forbidden"}},
        "permission", SAID, "unsupported_country_region_territory", "request_forbidden"),
    "Azure, content filter": Shape(
        400, {"error": {"message": SAID, "type": None, "param": "prompt", "code": "content_filter", "status": 400,
                        "innererror": VIOLATION}},
        "content_filter", SAID, "content_filter", None, "prompt"),
    "Azure, only the inner error tells": Shape(
        400, {"error": {"message": SAID, "code": None, "innererror": VIOLATION}},
        "content_filter", SAID, "ResponsibleAIPolicyViolation"),
    "Azure, the inner error tells more": Shape(
        400, {"error": {"message": SAID, "code": "BadRequest", "innererror": VIOLATION}},
        "content_filter", SAID, "ResponsibleAIPolicyViolation"),
    "Azure, deployment": Shape(
        404, {"error": {"code": "DeploymentNotFound", "message": SAID}}, "model_not_found", SAID, "DeploymentNotFound"),
    "Azure, rate": Shape(429, {"error": {"code": "429", "message": SAID}}, "rate_limited", SAID, "429"),
    "Azure, capacity": Shape(
        429, {"error": {"code": "NoCapacity", "message": SAID}}, "server_error", SAID, "NoCapacity"),
    "Azure's gateway": Shape(401, {"statusCode": 401, "message": SAID}, "authentication", SAID),
    "Anthropic, overloaded": Shape(
        529, {"type": "error", "error": {"type": "overloaded_error", "message": SAID}, "request_id": "req_1"},
        "server_error", SAID, None, "overloaded_error"),
    "Anthropic, billing": Shape(
        403, {"type": "error", "error": {"type": "billing_error", "message": SAID}},
        "quota_exceeded", SAID, None, "billing_error"),
    "Anthropic, too large": Shape(
        413, {"type": "error", "error": {"type": "request_too_large", "message": SAID}},
        "input_too_large", SAID, None, "request_too_large"),
    "Gemini, key": Shape(
        400, [{"error": {"code": 400, "message": SAID, "status": "INVALID_ARGUMENT", "details": [
            {"@type": GOOGLE + "ErrorInfo", "reason": "API_KEY_INVALID"}, {"@type": GOOGLE + "LocalizedMessage"}]}}],
        "authentication", SAID, "API_KEY_INVALID", "INVALID_ARGUMENT"),
    "Gemini, rate": Shape(
        429, [{"error": {"code": 429, "message": SAID, "status": "RESOURCE_EXHAUSTED", "details": [
            {"@type": GOOGLE + "QuotaFailure", "violations": []}, {"@type": GOOGLE + "ErrorInfo", "reason": "X"}]}}],
        "rate_limited", SAID, "429", "RESOURCE_EXHAUSTED"),
    "Gemini, country": Shape(
        400, [{"error": {"code": 400, "message": SAID, "status": "FAILED_PRECONDITION"}}],
        "permission", SAID, "400", "FAILED_PRECONDITION"),
    "OpenRouter, credits": Shape(402, {"error": {"code": 402, "message": SAID}}, "quota_exceeded", SAID, "402"),
    "OpenRouter, moderation": Shape(
        403, {"error": {"code": 403, "message": SAID, "metadata": {"reasons": ["violence"], "flagged_input": "a…"}}},
        "content_filter", SAID, "403"),
    "OpenRouter, its provider": Shape(
        502, {"error": {"code": 502, "message": SAID, "metadata": {"raw": "{}", "provider_name": "X"}}},
        "server_error", SAID, "502"),
    "Groq, tokens of a minute": Shape(
        413, {"error": {"message": SAID, "type": "tokens", "code": "rate_limit_exceeded"}},
        "input_too_large", SAID, "rate_limit_exceeded", "tokens"),
    "Groq, flex": Shape(
        498, {"error": {"message": SAID, "code": "capacity_exceeded"}}, "server_error", SAID, "capacity_exceeded"),
    "Groq, JSON": Shape(
        400, {"error": {"message": SAID, "type": "invalid_request_error", "code": "json_validate_failed",
                        "failed_generation": "Sure!"}},
        "invalid_json", SAID, "json_validate_failed", "invalid_request_error"),
    "Mistral, rate": Shape(
        429, {"object": "error", "message": SAID, "type": "rate_limited", "param": None, "code": "1300"},
        "rate_limited", SAID, "1300", "rate_limited"),
    "Mistral, model": Shape(
        400, {"object": "error", "message": SAID, "type": "invalid_model", "param": None, "code": "1500"},
        "model_not_found", SAID, "1500", "invalid_model"),
    "Mistral, validation": Shape(
        422, {"detail": [{"type": "string_type", "loc": ["body", "response_format", "type"], "msg": SAID}]},
        "invalid_schema", SAID, None, "string_type", "response_format.type"),
    "vLLM, model": Shape(
        404, {"object": "error", "message": SAID, "type": "NotFoundError", "param": None, "code": 404},
        "model_not_found", SAID, "404", "NotFoundError"),
    "vLLM, context": Shape(
        400, {"error": {"message": SAID, "type": "BadRequestError", "param": "input_tokens", "code": 400}},
        "input_too_large", SAID, "400", "BadRequestError", "input_tokens"),
    "llama.cpp, context": Shape(
        400, {"error": {"code": 400, "message": SAID, "type": "exceed_context_size_error", "n_ctx": 4096}},
        "input_too_large", SAID, "400", "exceed_context_size_error"),
    "Ollama": Shape(
        404, {"error": {"message": SAID, "type": "not_found_error", "param": None, "code": None}},
        "model_not_found", SAID, None, "not_found_error"),
    "Ollama, a text": Shape(404, {"error": SAID}, "model_not_found", SAID),
    "Ollama, its own fault": Shape(
        401, {"error": {"message": SAID, "type": "api_error"}}, "authentication", SAID, None, "api_error"),
    "xAI": Shape(400, {"code": "Some words", "error": SAID}, "bad_request", SAID, "Some words"),
    "LiteLLM, budget": Shape(
        400, {"error": {"message": SAID, "type": "budget_exceeded", "param": None, "code": "400"}},
        "quota_exceeded", SAID, "400", "budget_exceeded"),
    "Moonshot, credit": Shape(
        429, {"error": {"message": SAID, "type": "exceeded_current_quota_error"}},
        "quota_exceeded", SAID, None, "exceeded_current_quota_error"),
    "a list of errors": Shape(429, {"errors": [{"message": SAID, "code": 10000}]}, "rate_limited", SAID, "10000"),
    "an error that is a list": Shape(429, {"error": [{"message": SAID, "code": 7}]}, "rate_limited", SAID, "7"),
    "an error that is a list of texts": Shape(500, {"error": [SAID, "more"]}, "server_error", SAID),
    "the code is where the type belongs": Shape(
        429, {"error": {"message": SAID, "type": "insufficient_quota"}},
        "quota_exceeded", SAID, None, "insufficient_quota"),
    "a detail": Shape(404, {"detail": SAID}, "model_not_found", SAID),
    "nothing": Shape(429, {}, "rate_limited", None),
    "an error of no use": Shape(503, {"error": True}, "server_error", "True"),
    "a list of nothing": Shape(503, [[]], "server_error", None),
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_providers_shape_is_read(shape: Shape) -> None:
    error = error_in(shape.body)
    found = provider_error(shape.status, error)
    assert recognise(found).name == shape.error_type
    if shape.error_type != "content_filter" or shape.code != "403":  # the input that was flagged is the code then
        assert found == ProviderError(shape.status, shape.code, shape.type, shape.param)
    assert message_in(error) == shape.message


WITHIN: dict[str, tuple[Api, Any, str]] = {
    "a status in the code": ("chat", {"error": {"code": 429, "message": SAID}}, "rate_limited"),
    "the same as text": ("chat", {"error": {"code": "402", "message": SAID}}, "quota_exceeded"),
    "within the choice": (
        "chat",
        {"choices": [{"finish_reason": "error", "message": {"content": ""}, "error": {"code": 502, "message": SAID}}]},
        "server_error",
    ),
    "flat": ("chat", {"object": "error", "message": SAID, "type": "NotFoundError", "code": 404}, "model_not_found"),
    "flat, of the other API": ("responses", {"object": "error", "message": SAID, "code": 401}, "authentication"),
    "an envelope": (
        "responses",
        {"type": "error", "error": {"type": "billing_error", "message": SAID}},
        "quota_exceeded",
    ),
    "failed, quota": (
        "responses",
        {"status": "failed", "error": {"code": "insufficient_quota", "message": SAID}},
        "quota_exceeded",
    ),
    "failed, rate": (
        "responses",
        {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": SAID}},
        "rate_limited",
    ),
    "failed, a text": ("responses", {"status": "failed", "error": SAID}, "server_error"),
    "failed, policy": (
        "responses",
        {"status": "failed", "error": {"code": "bio_policy", "message": SAID}},
        "content_filter",
    ),
}


@pytest.mark.parametrize(("api", "body", "error_type"), WITHIN.values(), ids=WITHIN)
def test_an_error_in_the_place_of_an_answer_is_read_alike(api: Api, body: Any, error_type: str) -> None:
    failed = judge(Reply(1, 200, body=json.dumps(body).encode()), api, Skills, 300.0).failed
    assert failed is not None
    assert (failed.kind.name, failed.message) == (error_type, SAID)


@pytest.mark.parametrize(
    ("delay", "wait"),
    [("34.074824224s", 34_075), ("2s", 2_000), ("0s", 0), ("86401s", None), ("-1s", None), ("34", None), ("s", None),
     ("1m0s", None), (34, None), (None, None), ([], None)],
)  # fmt: skip
def test_a_wait_that_stands_in_the_body_is_kept_like_one_in_a_header(delay: Any, wait: int | None) -> None:
    details = [None, {"@type": GOOGLE + "Help"}, {"@type": GOOGLE + "RetryInfo", "retryDelay": delay}]
    body = json.dumps([{"error": {"code": 429, "message": SAID, "details": details}}]).encode()
    asked = judge(Reply(1, 429, body=body), "chat", Skills, 300.0).failed
    assert asked is not None
    assert asked.retry_after_ms == wait
    header = judge(Reply(1, 429, {"retry-after": "0"}, body), "chat", Skills, 300.0).failed
    assert header is not None
    assert header.retry_after_ms == 0  # the header is for this call


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["error", "errors", "detail", "details", "code", "type", "status", "param", "loc", "reason",
                         "message", "msg", "innererror", "metadata", "flagged_input",
                         "retryDelay"]), inner, max_size=5),
    max_leaves=15,
)  # fmt: skip


@given(values)
def test_any_value_is_read_without_complaint(value: Any) -> None:
    error = error_in(value)
    assert recognise(provider_error(400, error)) in ERROR_TYPES.values()
    assert isinstance(message_in(error), str | None)
