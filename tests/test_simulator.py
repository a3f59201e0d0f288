"""The simulator as its clients see it: over real HTTP, by OpenAI's own library where that is what users have."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from enum import Enum
from http.client import HTTPConnection
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import aiohttp
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, DefaultHttpxClient, OpenAI
from openai.lib._pydantic import to_strict_json_schema
from pydantic import AnyUrl, AwareDatetime, BaseModel, Field, StringConstraints, TypeAdapter, ValidationError

from enrichlog import simulator as module
from enrichlog.simulator import (
    Fault,
    Rule,
    Script,
    Simulator,
    Unanswerable,
    fill,
    main,
    not_strict,
    read_posting,
)

POSTING = """Title: Senior Data Scientist
Company: Acme Corp

We use Python, PostgreSQL and AWS. You speak English and German. The job is remote. Pay: €60,000 to €75,000."""
KEY = "sk-simulated-0123456789"
Api = Literal["responses", "chat"]
both_apis = pytest.mark.parametrize("api", ["responses", "chat"])


class Salary(BaseModel):
    minimum: float
    maximum: float
    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]


class Job(BaseModel):
    title: str
    company: str | None = None
    seniority: Literal["junior", "senior", "unknown"] = "unknown"
    skills: list[str] = []
    languages: list[str] = []
    is_remote: bool = False
    salary: Salary | None = None
    short_summary: str = ""


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def play(simulator: Simulator, *faults: str, **settings: Any) -> None:
    simulator.play(Script(rules=[Rule("", faults)], **settings))


def ask(simulator: Simulator, api: Api, text: str = POSTING, result: Any = Job, **options: Any) -> Any:
    """The reply to one request, `result` a pydantic model or a schema; Any, because a fault may make it of any type."""
    schema: Any = {"name": "job", "schema": result if isinstance(result, dict) else to_strict_json_schema(result)}
    http = {} if "http_client" in options else {"http_client": DefaultHttpxClient(verify=False)}  # no TLS to prepare
    settings = {"api_key": KEY, "timeout": 5, "max_retries": 0, **http, **options}
    with OpenAI(base_url=simulator.base_url, **settings) as client:
        if api == "responses":
            form: Any = {"format": {"type": "json_schema", **schema}}
            return client.responses.create(model="gpt-4o-mini", input=text, text=form, max_output_tokens=77)
        return client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "system", "content": "Extract."}, {"role": "user", "content": text}],
            response_format={"type": "json_schema", "json_schema": schema},
            max_completion_tokens=77,
        )


def text_of(reply: Any) -> Any:
    return reply.output_text if hasattr(reply, "output_text") else reply.choices[0].message.content


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def request(
    simulator: Simulator, method: str, path: str, body: bytes | None = None, key: str | None = KEY
) -> tuple[int, Any]:
    """The status and the JSON of a request that the library would not send."""
    connection = HTTPConnection(simulator.host, simulator.port, timeout=5)
    try:
        connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


# -- answers ----------------------------------------------------------------------------------------------------------


@both_apis
def test_an_answer_fits_the_schema_and_has_the_postings_own_words(simulator: Simulator, api: Api) -> None:
    job = Job.model_validate_json(text_of(ask(simulator, api)))
    assert job.title == "Senior Data Scientist"
    assert (job.company, job.seniority, job.is_remote) == ("Acme Corp", "senior", True)
    assert job.skills[:2] == ["PostgreSQL", "AWS"]
    assert job.languages == ["English", "German"]
    assert job.salary == Salary(minimum=60_000, maximum=75_000, currency="EUR")
    assert job.short_summary == "We use Python, PostgreSQL and AWS."


@both_apis
def test_the_same_text_gets_the_same_answer(simulator: Simulator, api: Api) -> None:
    assert text_of(ask(simulator, api)) == text_of(ask(simulator, api))
    assert text_of(ask(simulator, api)) != text_of(ask(simulator, api, text="Title: Nurse\n\nA hospital in Ghent."))


def test_without_a_schema_the_answer_is_a_plain_json_object(simulator: Simulator) -> None:
    with OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as client:
        reply = client.responses.create(model="any", input="A nurse. For a hospital. In Ghent.")
    assert json.loads(reply.output_text) == {"answer": "A nurse. For a hospital."}


def test_a_response_has_the_shape_of_the_responses_api(simulator: Simulator) -> None:
    reply = ask(simulator, "responses")
    assert reply.id.startswith("resp_")
    assert (reply.object, reply.status, reply.model) == ("response", "completed", "gpt-4o-mini")
    assert abs(reply.created_at - time.time()) < 60
    assert reply.usage.input_tokens == len(POSTING) // 4 + 1
    assert reply.usage.output_tokens == len(reply.output_text) // 4 + 1
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens
    assert reply.usage.input_tokens_details.cached_tokens == reply.usage.output_tokens_details.reasoning_tokens == 0
    type(reply).model_validate(reply.model_dump(warnings=False))


def test_a_completion_has_the_shape_of_chat_completions(simulator: Simulator) -> None:
    reply = ask(simulator, "chat")
    assert reply.id.startswith("chatcmpl-")
    assert (reply.object, reply.model, reply.choices[0].finish_reason) == ("chat.completion", "gpt-4o-mini", "stop")
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    type(reply).model_validate(reply.model_dump(warnings=False))


def test_every_reply_has_the_headers_of_the_provider(simulator: Simulator) -> None:
    with OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as client:
        headers = client.responses.with_raw_response.create(model="any", input="A nurse.").headers
    assert headers["x-request-id"].startswith("req_")
    assert int(headers["openai-processing-ms"]) >= 0
    for kind in ("limit", "remaining", "reset"):
        assert {f"x-ratelimit-{kind}-requests", f"x-ratelimit-{kind}-tokens"} <= set(headers)


def test_the_last_user_message_is_the_posting_in_whatever_form_it_comes(simulator: Simulator) -> None:
    parts: Any = [{"type": "input_text", "text": "Title: Nurse"}, {"type": "input_text", "text": "A hospital."}]
    messages: Any = [{"role": "user", "content": "Title: Baker"}, {"role": "user", "content": parts}]
    schema: Any = {"format": {"type": "json_schema", "name": "job", "schema": to_strict_json_schema(Job)}}
    with OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as client:
        reply = client.responses.create(model="any", input=messages, text=schema)
    assert Job.model_validate_json(reply.output_text).title == "Nurse"


# -- any user's schema ------------------------------------------------------------------------------------------------


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class Skill(BaseModel):
    name: Annotated[str, Field(min_length=3, max_length=12)]
    level: Level | None
    years: Annotated[int, Field(ge=1, le=40)]


class Tree(BaseModel):
    name: str
    parent: "Tree | None" = None
    children: list["Tree"] = []


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: int


class Sum(BaseModel):
    kind: Literal["sum"]
    left: "Sum | Leaf"
    right: "Sum | Leaf"


class Numbers(BaseModel):
    share: Annotated[float, Field(gt=0, lt=1)]
    small: Annotated[float, Field(gt=0, lt=0.001)]
    below: Annotated[int, Field(lt=-5)]
    tens: Annotated[int, Field(ge=7, multiple_of=10)]
    quarter: Annotated[float, Field(ge=0.3, le=0.9, multiple_of=0.25)]
    salary: Annotated[int, Field(ge=10, le=20)]
    price: Decimal


class Texts(BaseModel):
    id: UUID
    at: AwareDatetime
    email: Annotated[str, Field(json_schema_extra={"format": "email"})]
    homepage: AnyUrl
    on: date
    exactly: Annotated[str, StringConstraints(min_length=40, max_length=40)]
    anything: Any


class Lists(BaseModel):
    skills: Annotated[list[Skill], Field(min_length=2, max_length=3)]
    levels: set[Level]
    tags: Annotated[set[str], Field(min_length=9)]
    flags: Annotated[list[bool], Field(min_length=4)]
    perhaps: Annotated[list[int | None], Field(min_length=2)]
    none: None
    matrix: list[list[list[str]]]
    languages: Annotated[list[str], Field(min_length=3)]


class OwnTypes(BaseModel):
    """A schema as pydantic makes it without the strict rules: defaults, dictionaries, names of many forms."""

    normalisedTitle: str = "none"  # noqa: N815  # users have such names
    notes: dict[str, str] = {}
    choice: int | str | list[int] = 3


PATTERNED = {"type": "object", "properties": {"code": {"type": "string", "pattern": r"^[A-Z]{2}\d+$"}}}
SCHEMAS: list[tuple[Any, Any]] = [
    *((model, to_strict_json_schema(model)) for model in (Job, Skill, Tree, Sum, Numbers, Texts, Lists)),
    (OwnTypes, OwnTypes.model_json_schema()),
    (list[Job], TypeAdapter(list[Job]).json_schema()),
]
postings = st.one_of(
    st.text(max_size=300),
    st.text(alphabet="aB1 \n<>&:=\"'{}[]€$\x00\ud800é職", max_size=200),
    st.lists(st.sampled_from([*POSTING.split(), "\n", "<b>", "€50k", "German"]), max_size=60).map(" ".join),
)


@pytest.mark.parametrize(("model", "schema"), SCHEMAS, ids=lambda value: getattr(value, "__name__", ""))
@given(text=postings)
def test_whatever_the_posting_the_answer_is_valid(model: Any, schema: Any, text: str) -> None:
    answer = json.dumps(fill(schema, read_posting(text)), ensure_ascii=False).encode()
    TypeAdapter(model).validate_json(answer)


@both_apis
@pytest.mark.parametrize("result", [Skill, Tree, Numbers, Texts, Lists])
def test_an_answer_is_valid_for_other_peoples_models_too(simulator: Simulator, api: Api, result: Any) -> None:
    result.model_validate_json(text_of(ask(simulator, api, result=result)))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/$defs/Gone"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}},
        {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
        {"anyOf": [{"$ref": "#"}]},
        {"type": "wish"},
        {"type": "string", "pattern": "("},
        {"type": "string", "pattern": "(?=b)a"},
        {"type": "object", "properties": ["a"]},
        {"type": "string", "minLength": "3"},
        {"type": "array", "items": False, "minItems": 1},
    ],
)
def test_a_schema_that_no_answer_fits_is_refused(schema: Any) -> None:
    with pytest.raises(Unanswerable):
        fill(schema, read_posting(POSTING))


NUMBER = {"type": "integer"}
NOT_STRICT = [
    {"type": "object", "properties": {"pay": {"oneOf": [NUMBER, {"type": "null"}]}}},
    {"type": "object", "properties": {"pay": {"$ref": "#/$defs/Pay"}}, "$defs": {"Pay": {"oneOf": [NUMBER]}}},
    {"type": "object", "properties": {"pays": {"type": "object", "additionalProperties": NUMBER}}},
    {"type": "object", "properties": {"pays": {"anyOf": [{"type": "object", "additionalProperties": True}]}}},
]


@both_apis
@pytest.mark.parametrize("schema", NOT_STRICT)
def test_a_schema_that_strict_mode_does_not_take_is_refused_as_providers_do(
    simulator: Simulator, api: Api, schema: dict[str, Any]
) -> None:
    form = {"name": "job", "schema": schema}
    for strict, expected in ((True, 400), (False, 200)):
        asked: dict[str, Any] = {"type": "json_schema", **form, "strict": strict}
        body: dict[str, Any] = {"model": "m", "input": POSTING, "text": {"format": asked}}
        if api == "chat":
            asked = {"type": "json_schema", "json_schema": {**form, "strict": strict}}
            body = {"model": "m", "messages": [{"role": "user", "content": POSTING}], "response_format": asked}
        path = {"responses": "/v1/responses", "chat": "/v1/chat/completions"}[api]
        status, reply = request(simulator, "POST", path, json.dumps(body).encode())
        assert status == expected
        if strict:
            param = {"responses": "text.format.schema", "chat": "response_format"}[api]
            assert (reply["error"]["code"], reply["error"]["param"]) == ("invalid_json_schema", param)
            assert reply["error"]["message"].startswith("Invalid schema for response_format 'job': '")


def test_fields_with_the_names_of_keywords_are_fields_in_strict_mode_too() -> None:
    names = {"oneOf": NUMBER, "additionalProperties": NUMBER, "type": NUMBER}
    assert not_strict({"type": "object", "properties": names, "additionalProperties": False}) is None
    assert not_strict(to_strict_json_schema(Job)) is None


@both_apis
@pytest.mark.parametrize(("schema", "cause"), [({"$ref": "#/$defs/Gone"}, "Gone"), (PATTERNED, r"^[A-Z]{2}\\d+$")])
def test_such_a_schema_gets_the_providers_400(simulator: Simulator, api: Api, schema: Any, cause: str) -> None:
    simulator.play(Script(quota=1))
    for _ in range(2):  # what is refused uses up no quota
        with pytest.raises(openai.BadRequestError) as caught:
            ask(simulator, api, result=schema)
        assert caught.value.param == ("text.format.schema" if api == "responses" else "response_format")
        assert cause in caught.value.message
    assert [(call.status, call.fault) for call in simulator.journal] == [(400, None)] * 2


@both_apis
def test_a_string_with_a_pattern_is_a_word_of_the_text_that_fits(simulator: Simulator, api: Api) -> None:
    assert (
        text_of(ask(simulator, api, text="Title: Nurse\n\nWard AB12 is open.", result=PATTERNED)) == '{"code": "AB12"}'
    )


# -- faults -----------------------------------------------------------------------------------------------------------

QUOTA = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
    "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
)
NAMED = "invalid_request_error"
ERRORS: dict[str, tuple[type[openai.APIStatusError], int, str | None, str | None, str]] = {
    "quota": (openai.RateLimitError, 429, "insufficient_quota", "insufficient_quota", QUOTA),
    "rate_limit": (openai.RateLimitError, 429, "requests", "rate_limit_exceeded", "Rate limit reached for gpt-4o-mini"),
    "request_too_large": (openai.RateLimitError, 429, "tokens", "rate_limit_exceeded", "Limit 30000, Requested 31538"),
    "unauthorized": (openai.AuthenticationError, 401, NAMED, "invalid_api_key", "API key provided: sk-si***89."),
    "model_not_found": (openai.NotFoundError, 404, NAMED, "model_not_found", "The model `gpt-4o-mini` does not exist"),
    "bad_request": (openai.BadRequestError, 400, NAMED, None, "Invalid request"),
    "invalid_schema": (openai.BadRequestError, 400, NAMED, None, "Invalid schema for response_format"),
    "context_length": (
        openai.BadRequestError,
        400,
        NAMED,
        "context_length_exceeded",
        "maximum context length is 128000",
    ),
    "server_error": (openai.InternalServerError, 500, "server_error", None, "The server had an error processing"),
    "overloaded": (openai.InternalServerError, 503, "server_error", None, "overloaded"),
    "overloaded_error": (openai.InternalServerError, 529, "overloaded_error", None, "Overloaded"),
    "payment_required": (openai.APIStatusError, 402, None, "402", "Insufficient credits"),
    "permission": (
        openai.PermissionDeniedError,
        403,
        "request_forbidden",
        "unsupported_country_region_territory",
        "not supported",
    ),
    "prompt_not_found": (openai.NotFoundError, 404, NAMED, "prompt_not_found", "stored prompt"),
    "request_timeout": (openai.APIStatusError, 408, None, None, "timed out"),
    "conflict": (openai.ConflictError, 409, "conflict_error", None, "being changed"),
    "unsupported_parameter": (openai.BadRequestError, 400, NAMED, "unsupported_parameter", "'temperature'"),
    "content_policy": (openai.BadRequestError, 400, None, "content_filter", "filtered"),
}
PARAMS = {
    **{("unsupported_parameter", api): "temperature" for api in ("responses", "chat")},
    **{("content_policy", api): "prompt" for api in ("responses", "chat")},
    ("invalid_schema", "responses"): "text.format.schema",
    ("invalid_schema", "chat"): "response_format",
    ("context_length", "responses"): "input",
    ("context_length", "chat"): "messages",
}


@both_apis
@pytest.mark.parametrize("fault", ERRORS)
def test_an_error_has_the_providers_status_and_body(simulator: Simulator, api: Api, fault: str) -> None:
    kind, status, type_, code, message = ERRORS[fault]
    play(simulator, fault)
    with pytest.raises(kind) as caught:
        ask(simulator, api)
    error = caught.value
    assert (error.status_code, error.type, error.code) == (status, type_, code)
    assert error.param == PARAMS.get((fault, api))
    assert message in error.message
    assert str(error.request_id).startswith("req_")


@both_apis
def test_a_rate_limit_says_when_to_come_back(simulator: Simulator, api: Api) -> None:
    play(simulator, "rate_limit", retry_after=2.5)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(simulator, api)
    headers = caught.value.response.headers
    assert (headers["retry-after"], headers["retry-after-ms"]) == ("3", "2500")
    assert (headers["x-ratelimit-remaining-requests"], headers["x-ratelimit-reset-requests"]) == ("0", "2.5s")
    assert "Please try again in 2.5s." in caught.value.message


@both_apis
def test_a_bad_gateway_is_an_html_page(simulator: Simulator, api: Api) -> None:
    play(simulator, "bad_gateway")
    with pytest.raises(openai.InternalServerError) as caught:
        ask(simulator, api)
    assert (caught.value.status_code, caught.value.response.headers["content-type"]) == (502, "text/html")


@both_apis
def test_an_html_page_in_200_reaches_the_client_as_text(simulator: Simulator, api: Api) -> None:
    play(simulator, "html")
    assert "<title>" in ask(simulator, api)


@both_apis
def test_truncated_json_is_complete_as_http(simulator: Simulator, api: Api) -> None:
    play(simulator, "truncated_json")
    with pytest.raises(json.JSONDecodeError):
        ask(simulator, api)
    assert simulator.journal[0].completed


@both_apis
def test_a_reset_ends_the_connection_within_the_body(simulator: Simulator, api: Api) -> None:
    play(simulator, "reset")
    with pytest.raises(openai.APIConnectionError) as caught:
        ask(simulator, api)
    assert not isinstance(caught.value, openai.APITimeoutError)
    assert not simulator.journal[0].completed


@both_apis
def test_a_hanging_call_lasts_until_the_client_leaves(simulator: Simulator, api: Api) -> None:
    play(simulator, "hang")
    with pytest.raises(openai.APITimeoutError):
        ask(simulator, api, timeout=0.2)
    call = simulator.journal[0]
    assert (call.fault, call.status, call.completed) == ("hang", None, False)


@both_apis
@pytest.mark.parametrize(("fault", "least"), [("drip", 1), ("huge", 10_000_000)])
def test_an_answer_in_pieces_arrives_whole_in_the_end(simulator: Simulator, api: Api, fault: str, least: int) -> None:
    play(simulator, fault, drip=0.0)
    text = text_of(ask(simulator, api))
    assert len(text) > least
    assert Job.model_validate_json(text).title == "Senior Data Scientist"
    assert simulator.journal[0].completed


@both_apis
def test_a_dripping_answer_outlives_a_deadline_per_read(simulator: Simulator, api: Api) -> None:
    play(simulator, "drip", drip=0.05)
    path = "/responses" if api == "responses" else "/chat/completions"
    received = asyncio.run(_read_for(simulator.base_url + path, 0.4, {"model": "m", "input": "x", "messages": "x"}))
    assert 2 <= len(received) <= 20
    assert not simulator.journal[0].completed


async def _read_for(url: str, seconds: float, body: Any) -> bytes:
    """What arrives within so many seconds, no read lasting longer than half of them."""
    received = b""
    timeout = aiohttp.ClientTimeout(sock_read=seconds / 2)
    async with (
        asyncio.timeout(5),
        aiohttp.ClientSession(timeout=timeout, headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post(url, json=body) as reply,
    ):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            received += await reply.content.readany()
    return received


@both_apis
def test_a_redirect_leads_elsewhere_on_loopback(simulator: Simulator, api: Api) -> None:
    play(simulator, "redirect")
    assert Job.model_validate_json(text_of(ask(simulator, api))).title == "Senior Data Scientist"
    first, second = simulator.journal
    assert (first.status, second.status, second.path) == (307, 200, f"/redirected{first.path}")


@both_apis
def test_a_client_that_follows_no_redirect_sees_307(simulator: Simulator, api: Api) -> None:
    play(simulator, "redirect")
    with pytest.raises(openai.APIStatusError) as caught:
        ask(simulator, api, http_client=DefaultHttpxClient(follow_redirects=False))
    assert caught.value.status_code == 307
    assert len(simulator.journal) == 1


@both_apis
def test_a_wrong_schema_is_json_that_the_model_refuses(simulator: Simulator, api: Api) -> None:
    play(simulator, "wrong_schema")
    text = text_of(ask(simulator, api))
    assert isinstance(json.loads(text), dict)
    with pytest.raises(ValidationError):
        Job.model_validate_json(text)


@both_apis
def test_invalid_json_is_prose_without_an_object_in_it(simulator: Simulator, api: Api) -> None:
    play(simulator, "invalid_json")
    text = text_of(ask(simulator, api, text='{"title": "x"} ```json {} ``` Nurse'))
    assert text.startswith("Sure!")
    assert not set("{}[]`") & set(text)


@both_apis
def test_fenced_json_is_a_valid_answer_within_one_fence(simulator: Simulator, api: Api) -> None:
    play(simulator, "fenced_json")
    fence, body, end = text_of(ask(simulator, api)).split("\n")
    assert (fence, end) == ("```json", "```")
    assert Job.model_validate_json(body).title == "Senior Data Scientist"


def test_a_refusal_is_a_part_of_its_own_in_a_response(simulator: Simulator) -> None:
    play(simulator, "refusal")
    reply = ask(simulator, "responses")
    assert (reply.status, reply.output_text) == ("completed", "")
    assert reply.output[0].content[0].type == "refusal"
    assert "cannot assist" in reply.output[0].content[0].refusal
    assert reply.usage.output_tokens > 0


def test_a_refusal_stands_in_the_message_of_a_completion(simulator: Simulator) -> None:
    play(simulator, "refusal")
    choice = ask(simulator, "chat").choices[0]
    assert (choice.message.content, choice.finish_reason) == (None, "stop")
    assert "cannot assist" in choice.message.refusal


def test_an_incomplete_response_has_cut_text_and_its_usage(simulator: Simulator) -> None:
    play(simulator, "incomplete")
    reply = ask(simulator, "responses")
    assert (reply.status, reply.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert reply.usage.output_tokens == reply.max_output_tokens == 77
    assert reply.output_text.startswith('{"title"')
    assert not is_json(reply.output_text)


def test_an_incomplete_completion_has_cut_text_and_its_usage(simulator: Simulator) -> None:
    play(simulator, "incomplete")
    reply = ask(simulator, "chat")
    assert (reply.choices[0].finish_reason, reply.usage.completion_tokens) == ("length", 77)
    assert not is_json(reply.choices[0].message.content)


def test_a_content_filter_withholds_the_text_of_a_response(simulator: Simulator) -> None:
    play(simulator, "content_filter")
    reply = ask(simulator, "responses")
    assert (reply.status, reply.incomplete_details.reason, reply.output_text) == ("incomplete", "content_filter", "")
    assert reply.usage.input_tokens > 0


def test_a_content_filter_withholds_the_text_of_a_completion(simulator: Simulator) -> None:
    play(simulator, "content_filter")
    choice = ask(simulator, "chat").choices[0]
    assert (choice.finish_reason, choice.message.content) == ("content_filter", "")


def test_a_failed_response_is_200_with_an_error(simulator: Simulator) -> None:
    play(simulator, "failed")
    reply = ask(simulator, "responses")
    assert (reply.status, reply.error.code, reply.usage) == ("failed", "server_error", None)
    assert simulator.journal[0].status == 200


def test_a_failed_completion_is_200_with_an_error_beside_no_choices(simulator: Simulator) -> None:
    play(simulator, "failed")
    reply = ask(simulator, "chat")
    assert (reply.choices, reply.error["code"]) == ([], "server_error")


@both_apis
def test_an_empty_answer_is_complete_and_has_no_text(simulator: Simulator, api: Api) -> None:
    play(simulator, "empty")
    reply = ask(simulator, api)
    assert text_of(reply) == ""
    assert api == "chat" or reply.status == "completed"


def test_every_fault_is_named_in_these_tests() -> None:
    text = Path(__file__).read_text("utf-8")
    assert [fault for fault in Fault if f'"{fault}"' not in text] == []


# -- requests that are wrong ------------------------------------------------------------------------------------------

WRONG = {
    "not JSON": (b"{", None, "could not parse the JSON"),
    "not an object": (b"[1]", None, "could not parse the JSON"),
    "no model": (b'{"input": "x", "messages": "x"}', "model", "Missing required parameter: 'model'."),
    "numbers for texts": (b'{"model": "m", "input": [3], "messages": [3]}', "texts", "Invalid type for"),
    "no input": (b'{"model": "m"}', "texts", "Missing required parameter"),
    "streaming": (b'{"model": "m", "input": "x", "messages": "x", "stream": true}', "stream", "does not stream"),
}


@both_apis
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_request_gets_the_providers_400(simulator: Simulator, api: Api, wrong: str) -> None:
    body, param, message = WRONG[wrong]
    texts, path = ("input", "/v1/responses") if api == "responses" else ("messages", "/v1/chat/completions")
    status, reply = request(simulator, "POST", path, body)
    assert (status, reply["error"]["type"]) == (400, "invalid_request_error")
    assert reply["error"]["param"] == (texts if param == "texts" else param)
    assert message in reply["error"]["message"]
    assert (simulator.journal[0].status, simulator.journal[0].fault) == (400, None)


def test_a_request_without_a_key_gets_401(simulator: Simulator) -> None:
    status, reply = request(simulator, "POST", "/v1/responses", b"{}", key=None)
    assert (status, reply["error"]["type"]) == (401, "invalid_request_error")
    assert "You didn't provide an API key." in reply["error"]["message"]
    assert simulator.journal[0].key_sha256 is None


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/embeddings"), ("GET", "/v1/responses"), ("GET", "/")])
def test_an_unknown_path_gets_404_in_json(simulator: Simulator, method: str, path: str) -> None:
    status, reply = request(simulator, method, path)
    assert (status, reply["error"]["message"]) == (404, f"Invalid URL ({method} {path})")


def test_the_models_can_be_listed(simulator: Simulator) -> None:
    with OpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as client:
        assert [model.id for model in client.models.list()] == ["simulator"]


# -- the script -------------------------------------------------------------------------------------------------------


def test_a_rule_plays_its_faults_in_order_and_keeps_the_last(simulator: Simulator) -> None:
    simulator.play(Script(rules=[Rule("Data", ("server_error", "refusal", "ok")), Rule("Senior", ("empty",))]))
    with pytest.raises(openai.InternalServerError):
        ask(simulator, "responses")
    for _ in range(3):
        ask(simulator, "chat")
    ask(simulator, "chat", text="A Senior Nurse")
    ask(simulator, "chat", text="A Nurse")
    assert [call.fault for call in simulator.journal] == ["server_error", "refusal", "ok", "ok", "empty", "ok"]


def test_after_its_quota_every_call_gets_the_quota_fault_until_restored(simulator: Simulator) -> None:
    simulator.play(Script(rules=[Rule("Nurse", ("empty",))], quota=1))
    ask(simulator, "chat", text="A Nurse")  # no successful answer: it does not count
    ask(simulator, "chat")
    for text in (POSTING, "A Nurse"):
        with pytest.raises(openai.RateLimitError, match="exceeded your current quota"):
            ask(simulator, "chat", text=text)
    simulator.restore_quota(1)
    ask(simulator, "responses")
    with pytest.raises(openai.RateLimitError):
        ask(simulator, "responses")
    simulator.restore_quota()
    ask(simulator, "responses")
    ask(simulator, "responses")


def test_a_quota_is_exact_under_concurrent_calls(simulator: Simulator) -> None:
    async def ask_often() -> list[Any]:
        async with AsyncOpenAI(base_url=simulator.base_url, api_key=KEY, max_retries=0) as client:
            calls = (client.responses.create(model="m", input=f"Nurse {n}") for n in range(40))
            return await asyncio.gather(*calls, return_exceptions=True)

    simulator.play(Script(quota=7, latency=(0.0, 0.02)))
    replies = asyncio.run(ask_often())
    assert sum(not isinstance(reply, Exception) for reply in replies) == 7
    assert sorted(call.number for call in simulator.journal) == list(range(1, 41))


def test_an_answer_waits_for_its_latency(simulator: Simulator) -> None:
    simulator.play(Script(latency=0.15))
    started = time.monotonic()
    ask(simulator, "responses")
    assert time.monotonic() - started >= 0.15


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "not a script"),
        ({"rule": []}, "not a script: an object with rules, quota, latency, retry_after, drip; each rule one with"),
        ({"rules": [{"match": "x"}]}, "not a script"),
        ({"rules": [{"match": "x", "faults": "ok"}]}, "a list of faults"),
        ({"rules": [{"match": "x", "faults": []}]}, "a list of faults"),
        ({"rules": [{"match": "x", "faults": ["explode"]}]}, "unknown fault 'explode'; known are ok, quota"),
        ({"quota": -1}, "0 or more"),
        ({"latency": [2, 1]}, "0 or more"),
        ({"latency": "slow"}, "0 or more"),
        ({"quota": "many"}, "0 or more"),
    ],
)
def test_a_wrong_script_is_refused_with_the_reason(simulator: Simulator, document: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Script.parse(document)
    status, reply = request(simulator, "POST", "/simulator/script", json.dumps(document).encode())
    assert status == 400
    assert message in reply["error"]["message"]


def test_script_and_quota_can_be_set_over_http(simulator: Simulator) -> None:
    rules = [{"match": "Nurse", "faults": ["overloaded"]}]
    document = {"rules": rules, "quota": 0, "latency": [0, 0.01], "retry_after": 2}
    assert request(simulator, "POST", "/simulator/script", json.dumps(document).encode()) == (200, {"remaining": 0})
    with pytest.raises(openai.RateLimitError):
        ask(simulator, "chat", text="A Nurse")
    assert request(simulator, "POST", "/simulator/quota", b'{"remaining": null}') == (200, {"remaining": None})
    with pytest.raises(openai.InternalServerError):
        ask(simulator, "chat", text="A Nurse")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"remaining": "many"}', b'{"remaining": -1}', b"[]"])
def test_a_wrong_quota_is_refused(simulator: Simulator, body: bytes) -> None:
    assert request(simulator, "POST", "/simulator/quota", body)[0] == 400
    assert request(simulator, "GET", "/simulator/nothing")[0] == 404


# -- the journal ------------------------------------------------------------------------------------------------------


def test_the_journal_holds_every_call(simulator: Simulator) -> None:
    simulator.play(Script(rules=[Rule("Nurse", ("quota",))]))
    reply = ask(simulator, "responses", default_headers={"X-Client-Request-Id": "attempt-1"})
    with pytest.raises(openai.RateLimitError):
        ask(simulator, "chat", text="A Nurse")
    request(simulator, "POST", "/v1/responses", b"{")
    first, second, third = simulator.journal
    assert (first.number, first.path, first.model) == (1, "/v1/responses", "gpt-4o-mini")
    assert (first.client_request_id, first.fault, first.status) == ("attempt-1", "ok", 200)
    assert (first.input_tokens, first.output_tokens) == (reply.usage.input_tokens, reply.usage.output_tokens)
    assert (second.path, second.fault, second.status) == ("/v1/chat/completions", "quota", 429)
    assert (second.input_tokens, second.output_tokens, second.client_request_id) == (0, 0, None)
    assert (third.model, third.input_sha256, third.fault, third.status) == (None, None, None, 400)
    assert 0 <= first.received_ms <= second.received_ms <= third.received_ms
    assert first.input_sha256 != second.input_sha256
    assert all(call.completed for call in simulator.journal)


def test_the_journal_knows_a_key_only_by_its_fingerprint(simulator: Simulator) -> None:
    ask(simulator, "responses")
    ask(simulator, "chat", api_key="sk-another-0123456789")
    first, second = simulator.journal
    assert first.key_sha256 != second.key_sha256
    assert "sk-" not in str(simulator.journal)


def test_the_journal_is_readable_over_http(simulator: Simulator) -> None:
    ask(simulator, "responses")
    assert request(simulator, "GET", "/simulator/journal", key=None) == (200, [simulator.journal[0]._asdict()])


def test_the_journal_can_be_switched_off() -> None:
    with Simulator(keeps_journal=False) as simulator:
        play(simulator, "ok", "drip", drip=0.0)
        assert text_of(ask(simulator, "responses")) == text_of(ask(simulator, "responses"))
        assert simulator.journal == []


# -- starting and stopping --------------------------------------------------------------------------------------------


def test_stopping_does_not_wait_for_hanging_clients() -> None:
    with Simulator(Script(rules=[Rule("", ("hang", "drip"))], drip=60)) as simulator:
        body = b'{"model": "m", "input": "x"}'
        head = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: %d\r\n\r\n"
        clients = [socket.create_connection((simulator.host, simulator.port), timeout=5) for _ in range(3)]
        for client in clients[:2]:  # the third stays idle
            client.sendall(head % len(body) + body)
        _wait_for(lambda: len(simulator.journal) == 2)
        started = time.monotonic()
    assert time.monotonic() - started < 3
    assert not any(call.completed for call in simulator.journal)
    assert "simulator" not in [thread.name for thread in threading.enumerate()]
    for client in clients:
        client.close()


def _wait_for(is_so: Any) -> None:
    end = time.monotonic() + 5
    while not is_so():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.com"])
def test_it_listens_on_loopback_only(host: str) -> None:
    with pytest.raises(ValueError, match=r"loopback only|does not appear to be"):
        Simulator(host=host)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fault", "Data Scientist=explode"], "unknown fault 'explode'; known are ok, quota"),
        (["--script", "nowhere.json"], "simulator: nowhere.json: No such file or directory\n"),
        (["--script", __file__], "test_simulator.py: "),
        (["--host", "0.0.0.0"], "loopback only"),
        (["--latency", "slow"], "argument --latency: 'slow' is no latency: write 0.5, or 0.1-0.4 for a range"),
        (["--quota", "-1"], "0 or more"),
        (["--port", "70000"], "port"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in one_line_of(arguments, capsys)


def test_a_taken_port_is_one_line_and_exit_2(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    told = one_line_of(["--port", str(simulator.port)], capsys)
    assert f"port {simulator.port} is in use: choose another with --port; 0 lets the system choose" in told


def one_line_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("simulator: ")
    assert error.count("\n") == 1
    return error


def _status_of(url: str, text: str) -> int:
    """The status of a reply to a text; of the errors the library makes the status too."""
    try:
        with OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
            return client.responses.with_raw_response.create(model="m", input=text).status_code
    except openai.APIStatusError as error:
        return error.status_code


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal there")
def test_by_hand_it_prints_its_url_and_stops_quietly_at_ctrl_c(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"match": "Nurse", "faults": ["refusal"]}], "quota": 1}')
    options = ["--port", "0", "--fault", "Data=server_error,ok", "--latency", "0-0.01", "--script", str(script)]
    command = [sys.executable, str(Path(module.__file__)), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            url, notice = process.stdout.readline().strip(), process.stdout.readline()
            assert "no model" in notice
            assert f"OPENAI_BASE_URL={url} " in notice
            assert [_status_of(url, text) for text in ("Data", "Data", "A Nurse")] == [500, 200, 429]
            process.send_signal(signal.SIGINT)
            assert process.wait(5) == 130
            assert process.stderr is not None
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_with_json_it_prints_one_document_and_says_what_it_is_on_standard_error(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(module.__file__)), "--port", "0", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            document = json.loads(process.stdout.readline())
            assert document["simulated"]
            assert _status_of(document["base_url"], "Data") == 200
            assert "no model" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == ""
        finally:
            process.kill()
