"""Judging a reply, beside reading the same body with the SDK's own types or as bare JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median
from typing import Any, NamedTuple

import httpx2
import openai
import orjson
from openai.types.responses import Response

from bench.rounds import Side, Target, compare
from enrichlog.outcome import judge
from enrichlog.reply import Reply
from enrichlog.result import JobEnrichment

PASSES = 200
JUDGED, SDK, BARE = "judge(), median reply", "the SDK's error or type", "orjson.loads"
TARGET_MICROSECONDS = 20
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


def _refused(status: int, error_type: str, **error: str | None) -> Case:
    return Case(error_type, status, orjson.dumps({"error": {"message": "Said. " * 20, "param": None, **error}}))


def _answered(error_type: str, text: str, kind: str = "output_text") -> Case:
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


WHOLE = _answered("", json.dumps({"summary": "Builds pipelines. " * 12}))
CASES = (
    _refused(429, "quota_exceeded", type="insufficient_quota", code="insufficient_quota"),
    _refused(429, "rate_limited", type="requests", code="rate_limit_exceeded"),
    Case("server_error", 500, PAGE),
    Case("invalid_response_body", 200, WHOLE.body[: len(WHOLE.body) // 2]),
    _answered("invalid_json", "Sure! Here is what the posting says: " + "it builds pipelines. " * 10),
    _answered("schema_mismatch", json.dumps({"title": ["Data Engineer"], "skills": {"must": "SQL"}})),
    _answered("refusal", "I cannot assist with that.", "refusal"),
)


def main() -> None:
    """Measure all cases together, and tell what each costs."""
    sides: dict[str, Side] = {JUDGED: _side(_judge), SDK: _side(_as_the_sdk), BARE: _side(_bare)}
    target = Target(JUDGED, SDK, 1.0, at_most=True)
    compare("classify", "µs, the median of seven replies", sides, [target], rounds=9)
    figures = {case.error_type: _microseconds(case, _judge) for case in CASES}
    for name, figure in figures.items():
        print(f"  {name:<44}{figure:>12,.1f}")
    verdict = "met" if median(figures.values()) <= TARGET_MICROSECONDS else "MISSED"
    print(f"  {JUDGED:<44}{median(figures.values()):>12,.1f}   target ≤ {TARGET_MICROSECONDS} µs   {verdict}")


def _side(read: Callable[[Case], None]) -> Side:
    return lambda: median(_microseconds(case, read) for case in CASES)


def _microseconds(case: Case, read: Callable[[Case], None]) -> float:
    """The median of one reading of one reply."""
    times = []
    for _ in range(PASSES):
        started = time.perf_counter()
        read(case)
        times.append(time.perf_counter() - started)
    return 1e6 * median(times)


def _judge(case: Case) -> None:
    reply = Reply(1, case.status, HEADERS, case.body)
    failed = judge(reply, "responses", JobEnrichment, 300.0, {}).failed
    if failed is None or failed.kind.name != case.error_type:
        raise SystemExit(f"not {case.error_type}: {failed}")


CLIENT = openai.OpenAI(api_key="sk-bench", base_url="http://127.0.0.1:9/v1")
REQUEST = httpx2.Request("POST", "http://127.0.0.1:9/v1/responses")


def _as_the_sdk(case: Case) -> None:
    """Its exception for a status of an error; else its type for the answer, from the same bytes."""
    if case.status != 200:
        response = httpx2.Response(case.status, headers=HEADERS, content=case.body, request=REQUEST)
        CLIENT._make_status_error_from_response(response)
        return
    with suppress(ValueError):
        Response.model_validate_json(case.body)


def _bare(case: Case) -> None:
    with suppress(orjson.JSONDecodeError):
        orjson.loads(case.body)


if __name__ == "__main__":
    main()
