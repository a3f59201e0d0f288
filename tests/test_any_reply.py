"""A total function: whatever comes back of a call, or prevents it, becomes exactly one end that can be recorded."""

import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Literal, get_args

import orjson
import pytest

from enrichlog import attempt, error_body, outcome
from enrichlog.enrichment import enrichment_of, request_for
from enrichlog.errors import CODES, ERROR_TYPES, FINISHES, PARAMS
from enrichlog.outcome import Outcome, defect, judge
from enrichlog.reply import Api, Reply
from enrichlog.settings import Settings
from eventlog import canonical
from eventlog.events import EnrichmentFailed, EnrichmentSucceeded
from tests.builders import NOON
from tests.service import KEY, Skills, posting, small

REPLIES = 100_000
RESULT = '{"title": "Data Engineer", "skills": ["SQL"]}'

# -- what comes back ------------------------------------------------------------------------------------------------

ERROR = {"message": "Said.", "type": "invalid_request_error", "param": "input", "code": "a_code",
         "innererror": {"code": "x"}, "details": [{"reason": "y"}], "metadata": {"flagged_input": "z"}}  # fmt: skip
PART = {"type": "output_text", "text": RESULT, "refusal": "No."}
USAGE = {"input_tokens": 9, "output_tokens": 9, "prompt_tokens": 9, "completion_tokens": 9,
         "input_tokens_details": {"cached_tokens": 1}, "prompt_tokens_details": {"cached_tokens": 1},
         "output_tokens_details": {"reasoning_tokens": 1}}  # fmt: skip
RESPONSE = {"id": "resp_1", "object": "response", "status": "completed", "error": None, "model": "m", "usage": USAGE,
            "incomplete_details": {"reason": None}, "output": [{"type": "message", "content": [PART]}]}  # fmt: skip
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": RESULT, "refusal": None}}
COMPLETION = {"id": "c_1", "object": "chat.completion", "model": "m", "usage": USAGE, "choices": [CHOICE]}
SHAPES = [
    RESPONSE,
    COMPLETION,
    {**RESPONSE, "status": "failed", "error": ERROR},
    {**COMPLETION, "choices": [{**CHOICE, "error": ERROR}]},
    {"error": ERROR},
    [{"error": ERROR}],
    {"object": "error", **ERROR},
    {"detail": [{"type": "missing", "loc": ["body", "input"], "msg": "Required."}]},
    {"errors": [ERROR]},
]


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The path of every field and entry within a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, entry in inner:
        yield (step,)
        yield from ((step, *further) for further in places(entry))


DOCUMENTS = [(json.dumps(shape).encode(), list(places(shape))) for shape in SHAPES]
TEXTS = [RESULT, f"```json\n{RESULT}\n```", "", " ", "Sure!", "{", "[" * 300, '{"title": 1}', "NaN", "\ufeff", KEY,
         f"{KEY}*", '"\\ud83d"', "\0", "9" * 400, RESULT[:20], f"two {RESULT} {RESULT}", "é" * 3_000]  # fmt: skip
WORDS = [*CODES, *PARAMS, *FINISHES, "completed", "incomplete", "failed", "cancelled", "error", "refusal", "429", "502"]
ODD: list[Any] = [
    None, True, False, 0, -1, 429, 2**53, 2**63, 1.5, -0.0, [], {}, [[]], [None], {"error": 1}, [{"code": []}],
    ["text"], {"message": {"deep": []}}, *TEXTS,
]  # fmt: skip
ODD_TEXTS = [orjson.dumps(odd) for odd in ODD]  # so that each place gets a value of its own
STATUSES = [*range(100, 1_000, 7), 400, 401, 402, 403, 404, 408, 409, 413, 422, 429, 429, 500, 502, 503, 529]
HEADERS = ["retry-after", "retry-after-ms", "date", "x-request-id", "request-id", "server",
           "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"]  # fmt: skip
SAID = ["2", "-2", "1e400", "nan", "", KEY, "Wed, 25 Nov 2026 08:00:00 GMT", "30000", "9" * 30, "\0", "²", "x" * 999]
Reason = Literal["timeout", "connection", "too_large", "packed"]
REASONS: tuple[Reason, ...] = get_args(Reason)
PAGES = [b"", b"<html><body>502 Bad Gateway</body></html>", b"\xff\xfe\x00", b"null", b"{}", b"[" * 2_000, b"NaN",
         b'{"error": "\\ud83d"}', b'{"a": 1' + b"0" * 5_000 + b"}", KEY.encode()]  # fmt: skip


class Untold(Exception):  # it has no text
    def __str__(self) -> str:
        raise ValueError("no text")


RAISED = [ValueError(KEY), KeyError("day"), RecursionError(), Untold(), UnicodeDecodeError("utf-8", b"x", 0, 1, "no"),
          ExceptionGroup(KEY, [ValueError()]), ValueError("\0\ud83d")]  # fmt: skip


def replies(seed: int = 20_260_105) -> Iterator[tuple[Reply | Exception, Api]]:
    """Replies without end, the same for the same seed: near the APIs' shapes, far from them, broken, and exceptions."""
    dice = random.Random(seed)
    choose, chance = dice.choice, dice.random
    while True:
        api: Api = "responses" if chance() < 0.5 else "chat"
        kind = chance()
        if kind < 0.01:
            yield choose(RAISED), api
        headers = {choose(HEADERS): choose(SAID) for _ in range(dice.randrange(4))}
        status = 200 if chance() < 0.6 else choose(STATUSES)
        body = changed(dice) if kind < 0.75 else choose(PAGES) if kind < 0.9 else dice.randbytes(dice.randrange(40))
        if chance() < 0.08:
            body = body[: dice.randrange(len(body) + 1)]
        reply = Reply(7, status, headers, body)
        if kind > 0.95:
            names, texts = ["ReadError", KEY, "", None], ["reset by peer", KEY, "", None]
            reason = choose(REASONS)
            reply = reply._replace(broken=reason, error_class=choose(names), error_text=choose(texts),
                                   status=choose([None, status]), sent=chance() < 0.5)  # fmt: skip
        yield reply, api


def changed(dice: random.Random) -> bytes:
    """One of the documents with up to three of its fields gone or replaced."""
    raw, paths = dice.choice(DOCUMENTS)
    document = orjson.loads(raw)
    for _ in range(dice.randrange(4)):
        *way, last = dice.choice(paths)
        holder = document
        try:
            for step in way:
                holder = holder[step]
            if dice.random() < 0.3:
                del holder[last]
            else:
                holder[last] = dice.choice(WORDS) if dice.random() < 0.4 else orjson.loads(dice.choice(ODD_TEXTS))
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took the place away
    try:
        return orjson.dumps(document)
    except TypeError:  # a whole number beyond 64 bits
        return json.dumps(document).encode()


# -- what becomes of it ---------------------------------------------------------------------------------------------

ENRICHMENT = small(enrichment_of(Settings.model_construct(base_url="http://127.0.0.1:9/v1")))
REQUEST = request_for(ENRICHMENT, posting()._asdict(), "h" * 64, 100_000, cut=False)
BEGUN = attempt.start(ENRICHMENT, REQUEST, number=1, input_hash="h" * 64, worker="w", lease_seconds=360)
STARTED = attempt.Started("job-1", BEGUN, 0)


def outcome_of(came: Reply | Exception, api: Api) -> Outcome:
    return defect(came) if isinstance(came, Exception) else judge(came, api, Skills, 300.0)


def recorded(came: Reply | Exception, api: Api) -> str:
    """Judge what came, make its end and write it as the log does; returns the error type, empty for a success."""
    found = outcome_of(came, api)
    end = attempt.end(ENRICHMENT, STARTED, found)
    payload = end.payload(NOON)
    written = canonical.facts_text(payload.facts), canonical.text(payload.content)
    assert KEY not in written[0]
    assert KEY not in written[1]
    if isinstance(end, EnrichmentSucceeded):
        assert found.failed is None
        assert isinstance(came, Reply)
        assert (came.status, came.broken) == (200, None)
        assert Skills.model_validate(end.result)
        return ""
    assert isinstance(end, EnrichmentFailed)
    assert found.result is None
    assert found.failed is not None
    assert KEY not in found.failed.message  # it is also told where nothing is stored
    assert end.message
    kind = ERROR_TYPES[end.error_type]
    verdict = (end.fault, end.retryable, end.counts, end.cap, end.max_deferrals)
    assert verdict == (kind.fault, kind.retryable, kind.counts, kind.cap, kind.max_deferrals)
    assert (end.wait_ms is None) is not kind.retryable
    assert (end.wait_ms or 0) >= (end.retry_after_ms or 0) or not kind.retryable
    return end.error_type


def record(count: int) -> set[str]:
    """What so many replies come out as."""
    return {recorded(came, api) for came, api in islice(replies(), count)}


def test_any_reply_and_any_exception_becomes_exactly_one_end_that_can_be_recorded() -> None:
    found = record(REPLIES)
    never = {
        "interrupted",
        "input_error",
        "budget_exceeded",
        "storage_error",
    }  # nothing that comes back
    assert found == {"", *ERROR_TYPES} - never


def test_what_is_written_reads_back_as_what_was_written() -> None:
    for came, api in islice(replies(seed=1), 2_000):
        payload = attempt.end(ENRICHMENT, STARTED, outcome_of(came, api)).payload(NOON)
        for half in (payload.facts, payload.content):
            written = canonical.text(half)
            assert canonical.text(orjson.loads(written)) == written
            assert "\0" not in written


Sabotage = tuple[object, str, Callable[..., Any]]
SABOTAGE: dict[str, Sabotage] = {
    "a secret is kept": (outcome, "redact", str),
    "a message may be missing": (outcome, "message_in", lambda error: error["message"]),
    "a code is a text": (error_body, "as_fact", lambda value: value and value.lower()),
    "a verdict of its own": (
        attempt,
        "judged",
        lambda kind: {"error_type": kind.name, "retryable": True, "counts": True},
    ),
    "a result is not looked at": (outcome, "validate", lambda value, model: (None, None)),
    "the wait of the provider is no floor": (attempt, "wait_ms", lambda *_: 0),
}


@pytest.mark.parametrize("sabotage", SABOTAGE)
def test_a_mistake_in_any_of_it_is_noticed(sabotage: str, monkeypatch: pytest.MonkeyPatch) -> None:  # the control
    monkeypatch.setattr(*SABOTAGE[sabotage])
    with pytest.raises((AssertionError, LookupError, AttributeError, TypeError, ValueError)):
        record(3_000)
