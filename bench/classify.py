"""Judging a reply, beside reading the same body with the SDK's own types or as bare JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from statistics import median

import httpx2
import openai
import orjson
from openai.types.responses import Response

from bench.replies import CASES, HEADERS, Case
from bench.rounds import Side, Target, compare
from enrichlog.outcome import judge
from enrichlog.reply import Reply
from enrichlog.result import JobEnrichment

PASSES = 200
JUDGED, SDK, BARE = "judge(), median reply", "the SDK's error or type", "orjson.loads"
TARGET_MICROSECONDS = 20


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
