"""Replies of a provider, one for each kind of failure that is told by what it says."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import orjson

HEADERS = {
    "x-request-id": "req_0123456789abcdef",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "12",
    "retry-after": "2",
}
PAGE = b"<html><head><title>500 Internal Server Error</title></head><body><hr>nginx</body></html>"


class Case(NamedTuple):
    """One reply, and what it is to be taken for."""

    error_type: str
    status: int
    body: bytes


def refused(status: int, error_type: str, **error: str | None) -> Case:
    """A reply in which the provider says no."""
    return Case(error_type, status, orjson.dumps({"error": {"message": "Said. " * 20, "param": None, **error}}))


def answered(error_type: str, text: str, kind: str = "output_text") -> Case:
    """A whole response of the API, in which the model says this."""
    part: dict[str, Any] = {"type": kind, "annotations": [], kind.removeprefix("output_"): text}
    response = {
        "id": "resp_1", "object": "response", "created_at": 1_760_000_000, "status": "completed", "error": None,
        "incomplete_details": None, "instructions": None, "metadata": {}, "model": "gpt-4o-mini-2024-07-18",
        "output": [
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        ],
        "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
        "usage": {
            "input_tokens": 900, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 180,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1_080,
        },
    }  # fmt: skip
    return Case(error_type, 200, orjson.dumps(response))


WHOLE = answered("", json.dumps({"summary": "Builds pipelines. " * 12}))
CASES = (
    refused(429, "quota_exceeded", type="insufficient_quota", code="insufficient_quota"),
    refused(429, "rate_limited", type="requests", code="rate_limit_exceeded"),
    Case("server_error", 500, PAGE),
    Case("invalid_response_body", 200, WHOLE.body[: len(WHOLE.body) // 2]),
    answered("invalid_json", "Sure! Here is what the posting says: " + "it builds pipelines. " * 10),
    answered("schema_mismatch", json.dumps({"title": ["Data Engineer"], "skills": {"must": "SQL"}})),
    answered("refusal", "I cannot assist with that.", "refusal"),
)
