"""What a reply means: every reply, of either API, is a result or a failure of one type, and never loses its usage."""

import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, field_validator, model_serializer

from enrichlog import output
from enrichlog.answer import Answer, Usage, read_answer
from enrichlog.errors import ProviderError
from enrichlog.outcome import Outcome, judge, validate
from enrichlog.reply import Api, Reply
from tests.builders import NOON
from tests.service import KEY, Skills

APIS: tuple[Api, ...] = get_args(Api)
RESULT = {"title": "Data Engineer", "skills": ["SQL"]}
TEXT = json.dumps(RESULT)
SPENT = Usage(1_200, 80, 1_000, 16)
EXTRACT = "Could not extract structured output from API response: "


def response(text: str | None = TEXT, **fields: Any) -> dict[str, Any]:
    """A reply of the Responses API with one text, if any."""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [] if text is None else [part]}
    usage = {"input_tokens": 1_200, "input_tokens_details": {"cached_tokens": 1_000},
             "output_tokens": 80, "output_tokens_details": {"reasoning_tokens": 16}}  # fmt: skip
    reply = {"id": "resp_1", "object": "response", "status": "completed", "error": None, "model": "model-1-snapshot"}
    return {**reply, "output": [{"type": "reasoning", "summary": []}, message], "usage": usage, **fields}


def completion(text: str | None = TEXT, *, finish: str = "stop", refusal: str | None = None, **fields: Any) -> Any:
    """A reply of chat completions with one choice."""
    message = {"role": "assistant", "content": text, "refusal": refusal}
    usage = {"prompt_tokens": 1_200, "prompt_tokens_details": {"cached_tokens": 1_000},
             "completion_tokens": 80, "completion_tokens_details": {"reasoning_tokens": 16}}  # fmt: skip
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "resp_1", "model": "model-1-snapshot", "choices": [choice], "usage": usage, **fields}


def incomplete(reason: str) -> dict[str, Any]:
    return response(TEXT[:9], status="incomplete", incomplete_details={"reason": reason})


def refused_response() -> dict[str, Any]:
    content = [{"type": "refusal", "refusal": "I cannot."}]
    return response(output=[{"type": "message", "content": content}])


FAILURE = {"code": "server_error", "message": "The model failed to generate a response."}
# error type: (message, reply of the Responses API, reply of chat completions)
FAILED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "output_truncated": (
        EXTRACT + "the output was cut off",
        incomplete("max_output_tokens"),
        completion(TEXT[:9], finish="length"),
    ),
    "content_filter": (
        EXTRACT + "the content filter stopped it",
        incomplete("content_filter"),
        completion("", finish="content_filter"),
    ),
    "refusal": (
        EXTRACT + "the model refused: I cannot.",
        refused_response(),
        completion(None, refusal="I cannot."),
    ),
    "server_error": (
        "The model failed to generate a response.",
        response(None, status="failed", error=FAILURE, output=[]),
        completion(choices=[], error=FAILURE),
    ),
    "empty_output": (EXTRACT + "no text", response(None), completion(None)),
    "invalid_json": (
        "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        response("Sure! Here"),
        completion("Sure! Here"),
    ),
    "schema_mismatch": (
        EXTRACT + "title: Field required; skills: Input should be a valid array",
        response('{"skills": "SQL"}'),
        completion('{"skills": "SQL"}'),
    ),
}


def reply(
    body: Any = None, status: int = 200, *, raw: bytes | None = None, headers: Mapping[str, str] = MappingProxyType({})
) -> Reply:
    return Reply(120, status, headers, json.dumps(body).encode() if raw is None else raw)


def judged(answer: Reply, api: Api = "responses", model: type[BaseModel] = Skills, deadline: float = 300.0) -> Outcome:
    return judge(answer, api, model, deadline)


def why(outcome: Outcome) -> tuple[str, str]:
    """The error type and the message."""
    assert outcome.failed is not None
    return outcome.failed.kind.name, outcome.failed.message


# -- replies with an answer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("api", "body"), [("responses", response()), ("chat", completion())])
def test_an_answer_that_fits_is_a_result_with_all_that_is_known_of_the_call(api: Api, body: Any) -> None:
    outcome = judged(reply(body, headers={"x-request-id": "req_1"}), api)
    assert outcome == Outcome(
        result=RESULT,
        usage=SPENT,
        http_status=200,
        request_id="req_1",
        response_id="resp_1",
        response_model="model-1-snapshot",
        finish_reason={"responses": "completed", "chat": "stop"}[api],
        latency_ms=120,
    )


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", FAILED)
def test_each_way_to_bring_no_result_has_its_error_type_and_message(name: str, api: Api) -> None:
    message, *bodies = FAILED[name]
    found, said = why(judged(reply(bodies[APIS.index(api)]), api))
    assert found == name
    assert said.split(" (")[0] == message.split(" (")[0]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("name", FAILED)
def test_a_failure_keeps_its_usage_and_its_identifiers(name: str, api: Api) -> None:
    body = FAILED[name][1 + APIS.index(api)]
    outcome = judged(reply(body, headers={"x-request-id": "req_1"}), api)
    assert outcome.usage == SPENT
    assert (outcome.request_id, outcome.response_id, outcome.response_model) == ("req_1", "resp_1", "model-1-snapshot")
    assert outcome.raw_head == json.dumps(body)


@pytest.mark.parametrize(
    ("reason", "name"),
    [("max_tokens", "output_truncated"), ("model_length", "output_truncated"), ("MAX_TOKENS", "output_truncated"),
     ("SAFETY", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"), ("refusal", "refusal")],
)  # fmt: skip
def test_the_words_of_other_providers_for_why_a_model_stopped_are_known(reason: str, name: str) -> None:
    outcome = judged(reply(completion(finish=reason)), "chat")
    assert why(outcome)[0] == name
    assert outcome.finish_reason == reason


def test_a_response_that_is_incomplete_for_no_reason_is_not_trusted() -> None:
    cut = response(status="incomplete", incomplete_details=None)
    assert why(judged(reply(cut))) == ("output_truncated", EXTRACT + "the output was cut off (incomplete)")


def test_what_was_cut_off_says_where_the_reason_came_from() -> None:
    assert why(judged(reply(incomplete("max_output_tokens"))))[1].endswith("the output was cut off (max_output_tokens)")
    assert why(judged(reply(completion(finish="length")), "chat"))[1].endswith("the output was cut off (length)")


@pytest.mark.parametrize("api", APIS)
def test_a_whole_answer_that_was_cut_off_is_not_trusted(api: Api) -> None:
    cut = response(status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    assert why(judged(reply(cut if api == "responses" else completion(finish="length")), api))[0] == "output_truncated"


def test_the_empty_refusal_of_a_compatible_server_is_none() -> None:
    assert judged(reply(completion(refusal="")), "chat").result == RESULT


@pytest.mark.parametrize("api", APIS)
def test_usage_that_the_server_does_not_tell_is_unknown_and_not_zero(api: Api) -> None:
    names = ("input_tokens", "output_tokens") if api == "responses" else ("prompt_tokens", "completion_tokens")
    build = response if api == "responses" else completion
    assert judged(reply(build(usage=None)), api).usage == Usage()
    assert judged(reply(build(usage=dict.fromkeys(names, 7))), api).usage == Usage(7, 7)
    for nonsense in (-1, 1.5, True, "7", 2**60, [7]):
        assert judged(reply(build(usage=dict.fromkeys(names, nonsense))), api).usage == Usage()


def test_the_text_of_all_parts_is_one_text() -> None:
    parts = [{"type": "output_text", "text": TEXT[:9]}, {"type": "output_text", "text": TEXT[9:]}]
    assert judged(reply(response(output=[{"type": "message", "content": parts}]))).result == RESULT
    assert judged(reply(completion(choices=[{"message": {"content": parts}}])), "chat").result == RESULT


def test_an_answer_within_a_fence_is_a_result() -> None:
    assert judged(reply(response(f"```json\n{TEXT}\n```"))).result == RESULT


@pytest.mark.parametrize("escape", ["\\u0000", "\\ud83d", "\\\\u0000", "\\\\ud83d"])
def test_characters_that_no_database_can_hold_do_not_cost_the_answer(escape: str) -> None:
    body = json.dumps(response(TEXT.replace("SQL", "SQL@"))).replace("@", escape)
    outcome = judged(reply(raw=body.encode()))
    if escape == "\\u0000":  # raw within a JSON text, where JSON itself forbids it
        assert why(outcome)[0] == "invalid_json"
    else:
        assert outcome.result is not None


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_a_response_that_failed_without_saying_why_is_the_providers_fault(status: str) -> None:
    outcome = judged(reply(response(None, status=status)))
    assert why(outcome) == ("server_error", f"the response is {status}")
    assert outcome.usage == SPENT


def test_an_error_within_a_reply_of_status_200_goes_by_its_code() -> None:
    slow = {"code": "rate_limit_exceeded", "message": "Slow down."}
    assert why(judged(reply(response(None, status="failed", error=slow)))) == ("rate_limited", "Slow down.")
    poor = {"type": "insufficient_quota", "message": "No credit.", "code": None}
    assert why(judged(reply({"error": poor}), "chat")) == ("quota_exceeded", "No credit.")


@pytest.mark.parametrize("api", APIS)
def test_a_body_that_is_only_an_error_goes_by_its_code_and_type(api: Api) -> None:
    poor = {"message": "No credit.", "type": "insufficient_quota", "code": "credit_balance_exhausted_too"}
    outcome = judged(reply({"error": poor}), api)
    assert why(outcome) == ("quota_exceeded", "No credit.")
    assert outcome.failed is not None
    assert outcome.failed.error == ProviderError(None, "credit_balance_exhausted_too", "insufficient_quota")
    assert why(judged(reply({"error": "no credit"}), api)) == ("server_error", "no credit")
    otherwise = {"responses": "the response is an error", "chat": "the response has an error"}[api]
    assert why(judged(reply({"error": {"code": 1}}), api)) == ("server_error", otherwise)


@pytest.mark.parametrize("body", [b"", b"<html>Sign in</html>", b'{"id": "resp_1", "outp', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("api", APIS)
def test_a_body_that_is_not_json_is_the_providers_fault(api: Api, body: bytes) -> None:
    name, message = why(judged(reply(raw=body), api))
    assert name == "invalid_response_body"
    assert message.startswith("The response body is not JSON: ")


@pytest.mark.parametrize("body", [{}, [], None, 1, "text", {"data": []}, {"object": "list"}])
@pytest.mark.parametrize("api", APIS)
def test_a_body_of_another_shape_is_the_providers_fault(api: Api, body: Any) -> None:
    shape = "The response body has another shape than the API's"
    assert why(judged(reply(body), api)) == ("invalid_response_body", shape)


def test_an_answer_of_the_other_api_is_not_taken() -> None:
    assert read_answer(completion(), "responses") is None
    assert read_answer(response(), "chat") is None


# -- results ----------------------------------------------------------------------------------------------------------


class Picky(BaseModel):
    """A user's model with a validator that raises what it likes."""

    day: Any

    @field_validator("day")
    @classmethod
    def look(cls, day: Any) -> Any:
        if day == "defect":
            raise RuntimeError("no such day")
        return NOON if day == "noon" else day


def test_a_result_is_what_the_result_model_makes_of_the_answer() -> None:
    assert validate({"day": "noon"}, Picky) == ({"day": "2024-01-01T12:00:00Z"}, None)


def test_a_validator_that_raises_anything_is_a_schema_mismatch() -> None:
    result, failed = validate({"day": "defect"}, Picky)
    assert result is None
    assert failed is not None
    assert (failed.kind.name, failed.message) == ("schema_mismatch", EXTRACT + "RuntimeError: no such day")
    assert failed.error_class == "RuntimeError"


class Colour(Enum):
    RED = "red"


class Strict(BaseModel):
    """A user's model that takes no value of another type."""

    model_config = ConfigDict(strict=True)

    colour: Colour
    since: date
    at: datetime
    pay: Decimal
    pair: tuple[int, str]
    tags: set[str]
    share: float


def test_a_strict_model_takes_from_json_what_json_has_no_type_for() -> None:
    value = {"colour": "red", "since": "2026-01-05", "at": "2026-01-05T09:00:00Z", "pay": "1.50", "pair": [1, "a"],
             "tags": ["a"], "share": 1}  # fmt: skip
    assert validate(value, Strict) == (value, None)
    _, failed = validate({**value, "share": "1"}, Strict)
    assert failed is not None
    assert failed.message == EXTRACT + "share: Input should be a valid number"


@pytest.mark.parametrize("value", [1e308, -(2**70), "\ud83d", "\0", '"\\'])
def test_a_value_reaches_the_result_model_as_it_was_parsed(value: Any) -> None:
    result, _ = validate({"day": value}, Picky)
    assert repr((result or {})["day"]) == repr("\ufffd" if value == "\ud83d" else value)


def test_an_answer_as_deep_as_can_be_parsed_can_be_validated() -> None:
    text = '{"day":' + "[" * (output.DEEPEST - 1) + "]" * (output.DEEPEST - 1) + "}"
    assert validate(output.parse(text), Picky)[0] == json.loads(text)


class Dumps(Picky):
    """A user's model that is dumped as its validator found the day."""

    @model_serializer
    def dump(self) -> Any:
        if self.day == "raise":
            raise KeyError("day")
        return self.day


class DumpsAnything(Picky):
    def model_dump(self, **_: Any) -> Any:
        return {"day": object()}


@pytest.mark.parametrize(
    ("day", "model", "why"),
    [
        ("raise", Dumps, "Error calling function `dump`: KeyError: 'day'"),
        ("text", Dumps, "Dumps makes no object of the answer"),
        ([1], Dumps, "Dumps makes no object of the answer"),
        (1, DumpsAnything, "Unable to serialize unknown type: <class 'object'>"),
        (1, RootModel[dict[str, list[int]]], "day: Input should be a valid array"),
        ([1], RootModel[dict[str, list[int]]], None),
    ],
)
def test_whatever_a_result_model_is_dumped_as_there_is_a_result_or_a_failure(
    day: Any, model: type[BaseModel], why: str | None
) -> None:
    result, failed = validate({"day": day}, model)
    if failed is None:
        assert (result, why) == ({"day": day}, None)
    else:
        assert (failed.kind.name, failed.message.endswith(why or "-")) == ("schema_mismatch", True), failed.message


def test_of_very_many_faults_only_the_number_is_told() -> None:
    _, failed = validate({"title": "a", "skills": [1] * 100_000}, Skills)
    assert failed is not None
    assert failed.message == EXTRACT + "the answer has 100000 faults"


@pytest.mark.parametrize("value", [None, [], "text", 3])
def test_what_is_not_an_object_misses_the_schema(value: Any) -> None:
    _, failed = validate(value, Skills)
    assert failed is not None
    assert failed.kind.name == "schema_mismatch"
    assert failed.message.startswith(EXTRACT + "the answer: Input should be ")


def test_only_the_first_three_faults_are_named() -> None:
    _, failed = validate({"title": 1, "skills": [1, 2, 3]}, Skills)
    assert failed is not None
    assert failed.message == EXTRACT + (
        "title: Input should be a valid string; skills.0: Input should be a valid string; "
        "skills.1: Input should be a valid string; and 1 more"
    )


# -- replies without an answer ----------------------------------------------------------------------------------------

QUOTA = {
    "message": "You exceeded your current quota, please check your plan and billing details.",
    "type": "insufficient_quota",
    "param": None,
    "code": "insufficient_quota",
}
RATE = {"message": "Rate limit reached.", "type": "tokens", "param": None, "code": "rate_limit_exceeded"}
SCHEMA = {"message": "Invalid schema.", "type": "invalid_request_error", "param": "text.format.schema", "code": None}


@pytest.mark.parametrize(
    ("status", "body", "name", "message"),
    [
        (429, {"error": QUOTA}, "quota_exceeded", f"Error code: 429 - {QUOTA['message']}"),
        (429, {"error": RATE}, "rate_limited", "Error code: 429 - Rate limit reached."),
        (400, {"error": SCHEMA}, "invalid_schema", "Error code: 400 - Invalid schema."),
        (500, {"error": {"message": "You exceeded your current quota"}}, "server_error",
         "Error code: 500 - You exceeded your current quota"),
        (502, "<html><h1>502 Bad Gateway</h1></html>", "server_error", "Error code: 502"),
        (404, {"detail": "Not Found"}, "model_not_found", "Error code: 404 - Not Found"),
        (404, {"error": "model 'x' not found"}, "model_not_found", "Error code: 404 - model 'x' not found"),
        (400, {"message": "No such field.", "code": 1}, "bad_request", "Error code: 400 - No such field."),
        (307, "", "model_not_found", "Error code: 307"),
        (202, {"id": "batch_1"}, "invalid_response_body", "Error code: 202"),
        (204, "", "invalid_response_body", "Error code: 204"),
        (429, [{"error": {"code": 429, "message": "Resource exhausted."}}], "rate_limited",
         "Error code: 429 - Resource exhausted."),
        (429, [], "rate_limited", "Error code: 429"),
        (429, '{"error": {"message": "No credit \\ud83d", "code": "insufficient_quota"}}', "quota_exceeded",
         "Error code: 429 - No credit \ud83d"),
        (503, {"error": {"message": {"deep": 1}}}, "server_error", "Error code: 503"),
    ],
)  # fmt: skip
def test_an_http_error_carries_the_providers_own_message(status: int, body: Any, name: str, message: str) -> None:
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    outcome = judged(reply(status=status, raw=raw, headers={"x-request-id": "req_1"}))
    assert why(outcome) == (name, message)
    assert (outcome.http_status, outcome.request_id) == (status, "req_1")
    assert outcome.raw_head == (raw.decode() or None)


def test_the_structure_of_an_http_error_is_kept() -> None:
    outcome = judged(reply({"error": SCHEMA}, 400))
    assert outcome.failed is not None
    assert outcome.failed.error == ProviderError(400, None, "invalid_request_error", "text.format.schema")


def test_a_rate_limit_says_how_long_to_wait() -> None:
    outcome = judged(reply({"error": RATE}, 429, headers={"retry-after-ms": "1500", "retry-after": "2"}))
    assert outcome.failed is not None
    assert outcome.failed.retry_after_ms == 1500


@pytest.mark.parametrize(
    ("limit", "remaining", "known"),
    [("30000", "12", (30_000, 12)), ("0", "0", (0, 0)), ("-1", "1.5", (None, None)), ("", "many", (None, None)),
     ("9" * 400, str(2**53), (None, None))],
)  # fmt: skip
def test_the_limit_of_tokens_is_kept_where_it_is_a_number(
    limit: str, remaining: str, known: tuple[int | None, int | None]
) -> None:
    told = {"x-ratelimit-limit-tokens": limit, "x-ratelimit-remaining-tokens": remaining}
    failed = judged(reply({"error": RATE}, 429, headers=told)).failed
    assert failed is not None
    assert (failed.error.limit_tokens, failed.error.remaining_tokens) == known


LONG = "x" * 189 + f" {KEY} " + "y" * 5_000


@pytest.mark.parametrize("api", APIS)
def test_names_and_codes_that_others_chose_are_kept_short_and_without_a_part_of_a_key(api: Api) -> None:
    said = {"code": LONG, "type": LONG, "param": LONG, "message": LONG}
    build = response if api == "responses" else completion
    within = judged(reply(build(id=LONG, model=LONG, error=said), headers={"x-request-id": LONG}), api)
    outside = judged(reply({"error": said}, 400, headers={"x-request-id": LONG}), api)
    unfinished = {"status": LONG} if api == "responses" else {"choices": [{"finish_reason": LONG}]}
    reason = judged(reply(build(**unfinished)), api).finish_reason
    kept = [within.request_id, within.response_id, within.response_model, outside.request_id, reason]
    for failed in (within.failed, outside.failed):
        assert failed is not None
        kept += [failed.error.code, failed.error.type, failed.error.param]
        assert failed.message.endswith(LONG.replace(KEY, "[redacted]"))  # the message is kept whole
    assert set(kept) == {"x" * 189 + " [redacted]"}


def test_a_request_beyond_the_whole_limit_of_tokens_is_too_large_for_ever() -> None:
    all_free = {"x-ratelimit-limit-tokens": "30000", "x-ratelimit-remaining-tokens": "30000"}
    assert why(judged(reply({"error": RATE}, 429, headers=all_free)))[0] == "input_too_large"
    some_used = {**all_free, "x-ratelimit-remaining-tokens": "12"}
    assert why(judged(reply({"error": RATE}, 429, headers=some_used)))[0] == "rate_limited"
    requests = {**RATE, "type": "requests"}
    assert why(judged(reply({"error": requests}, 429, headers=all_free)))[0] == "rate_limited"


@pytest.mark.parametrize(
    ("broken", "name", "message"),
    [
        (Reply(1, broken="timeout", error_class="TimeoutError"), "timeout", "Request timeout after 300 seconds"),
        (Reply(1, broken="too_large"), "invalid_response_body", "The response is larger than 2 MiB"),
        (Reply(1, broken="connection", error_class="ReadError", error_text="reset by peer"), "connection",
         "ReadError: reset by peer"),
        (Reply(1, broken="connection", error_class="ReadError"), "connection", "ReadError"),
    ],
)  # fmt: skip
def test_what_prevented_a_reply_is_named(broken: Reply, name: str, message: str) -> None:
    assert why(judged(broken)) == (name, message)


def test_a_deadline_of_half_a_second_is_told_as_such() -> None:
    assert why(judged(Reply(1, broken="timeout"), deadline=0.5))[1] == "Request timeout after 0.5 seconds"


def test_only_the_head_of_a_long_reply_is_kept() -> None:
    outcome = judged(reply(raw="é".encode() * 3_000, status=500))
    assert outcome.raw_head == "é" * 2_000


@pytest.mark.parametrize("before", range(1_970, 2_001, 5))
def test_no_part_of_a_key_is_kept_where_the_head_of_a_reply_ends(before: int) -> None:
    outcome = judged(reply(raw=b"." * before + KEY.encode() + b"x" * 9_000, status=401))
    assert outcome.raw_head is not None
    assert KEY[:4] not in outcome.raw_head
    assert outcome.raw_head.startswith("." * before)  # what stands before it is kept


# -- every shape ------------------------------------------------------------------------------------------------------


def words(value: Any) -> Iterator[str]:
    """Every key and every text within a value."""
    if isinstance(value, dict):
        yield from value
        yield from words(list(value.values()))
    elif isinstance(value, list):
        yield from (word for inner in value for word in words(inner))
    elif isinstance(value, str):
        yield value


WORDS = sorted({*words([body for row in FAILED.values() for body in row[1:]]), "tokens", "insufficient_quota", TEXT})
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS)
shapes = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=6),
    max_leaves=20,
)


@given(shapes, st.sampled_from(APIS))
def test_every_shape_is_read_or_not_taken_for_an_answer(shape: Any, api: Api) -> None:
    found: Answer | None = read_answer(shape, api)
    assert found is None or isinstance(shape, Mapping)
