"""The call: the real SDK over real HTTP. Every fault of a server becomes a failure of one type; no key is ever told."""

import asyncio
import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, get_args

import pytest

from enrichlog.enrichment import enrichment_of, request_for
from enrichlog.llm import Client
from enrichlog.outcome import Outcome, judge
from enrichlog.reply import BODY_CAP, Api, Reply
from enrichlog.result import JobEnrichment
from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from tests.service import KEY, posting

APIS: tuple[Api, ...] = get_args(Api)
ENRICHMENT = enrichment_of(Settings.model_construct())
DEADLINE = 0.4
PROMPT = request_for(ENRICHMENT, posting()._asdict(), "h" * 64, 100_000, cut=False).body

EXTRACT = "Could not extract structured output from API response: "
# fault: (error type, how the message begins, HTTP status)
EXPECTED = {
    Fault.QUOTA: ("quota_exceeded", "Error code: 429 - You exceeded your current quota, please check your plan", 429),
    Fault.RATE_LIMIT: ("rate_limited", "Error code: 429 - Rate limit reached for gpt-4o-mini", 429),
    Fault.REQUEST_TOO_LARGE: ("input_too_large", "Error code: 429 - Request too large for gpt-4o-mini", 429),
    Fault.UNAUTHORIZED: ("authentication", "Error code: 401 - Incorrect API key provided: ", 401),
    Fault.MODEL_NOT_FOUND: ("model_not_found", "Error code: 404 - The model `gpt-4o-mini` does not exist", 404),
    Fault.BAD_REQUEST: ("bad_request", "Error code: 400 - Invalid request", 400),
    Fault.INVALID_SCHEMA: ("invalid_schema", "Error code: 400 - Invalid schema for response_format", 400),
    Fault.CONTEXT_LENGTH: ("input_too_large", "Error code: 400 - This model's maximum context length is", 400),
    Fault.SERVER_ERROR: ("server_error", "Error code: 500 - The server had an error", 500),
    Fault.BAD_GATEWAY: ("server_error", "Error code: 502", 502),
    Fault.OVERLOADED: ("server_error", "Error code: 503 - The engine is currently overloaded", 503),
    Fault.REDIRECT: ("model_not_found", "Error code: 307", 307),
    Fault.HANG: ("timeout", "Request timeout after 0.4 seconds", None),
    Fault.DRIP: ("timeout", "Request timeout after 0.4 seconds", None),
    Fault.RESET: ("connection", "ReadError: ", None),
    Fault.TRUNCATED_JSON: ("invalid_response_body", "The response body is not JSON: ", 200),
    Fault.HTML: ("invalid_response_body", "The response body is not JSON: ", 200),
    Fault.HUGE: ("invalid_response_body", "The response is larger than 2 MiB", None),
    Fault.FAILED: ("server_error", "The model failed to generate a response.", 200),
    Fault.WRONG_SCHEMA: ("schema_mismatch", EXTRACT + "title: Input should be a valid string", 200),
    Fault.INVALID_JSON: ("invalid_json", "JSONDecodeError: Expecting value: line 1 column 1 (char 0)", 200),
    Fault.REFUSAL: ("refusal", EXTRACT + "the model refused: I'm sorry, but I cannot assist with that request.", 200),
    Fault.INCOMPLETE: ("output_truncated", EXTRACT + "the output was cut off", 200),
    Fault.CONTENT_FILTER: ("content_filter", EXTRACT + "the content filter stopped it", 200),
    Fault.EMPTY: ("empty_output", EXTRACT + "no text", 200),
}
NO_FAULTS = {Fault.OK, Fault.FENCED_JSON}


def body_of(api: Api) -> dict[str, object]:
    asked = ENRICHMENT._replace(api=api)
    return request_for(asked, posting()._asdict(), "h" * 64, 100_000, cut=False).body


def ask(
    base_url: str, api: Api = "responses", *, key: str = KEY, deadline: float = DEADLINE, attempt_id: str = "attempt-1"
) -> Reply:
    """One call of a client of its own."""

    async def call() -> Reply:
        async with Client(base_url, key, deadline=deadline, connections=4) as client:
            return await client.ask(api, body_of(api), attempt_id)

    return asyncio.run(call())


def judged(reply: Reply, api: Api = "responses", deadline: float = DEADLINE) -> Outcome:
    return judge(reply, api, JobEnrichment, deadline)


def why(reply: Reply, api: Api = "responses") -> tuple[str, str]:
    failed = judged(reply, api).failed
    assert failed is not None
    return failed.kind.name, failed.message


def play(simulator: Simulator, *faults: str, **script: Any) -> None:
    simulator.play(Script(rules=[Rule("Engineer", faults)], **script))


# -- the simulator ----------------------------------------------------------------------------------------------------


def test_every_fault_of_the_simulator_is_expected_here() -> None:
    assert set(EXPECTED) | NO_FAULTS == set(Fault)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", EXPECTED)
def test_each_fault_becomes_a_failure_of_its_type_after_one_request(
    simulator: Simulator, fault: Fault, api: Api
) -> None:
    play(simulator, fault, drip=0.01)
    reply = ask(simulator.base_url, api)
    name, beginning, http_status = EXPECTED[fault]
    found, message = why(reply, api)
    assert (found, message[: len(beginning)]) == (name, beginning)
    assert judged(reply, api).http_status == http_status
    assert [(call.fault, call.path.rsplit("/v1/")[1]) for call in simulator.journal] == [
        (fault, {"responses": "responses", "chat": "chat/completions"}[api])
    ]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", sorted(NO_FAULTS))
def test_an_answer_becomes_a_result_with_its_usage_and_identifiers(
    simulator: Simulator, fault: Fault, api: Api
) -> None:
    play(simulator, fault)
    outcome = judged(ask(simulator.base_url, api), api)
    (call,) = simulator.journal
    assert outcome.failed is None
    assert (outcome.result or {})["title"] == "Engineer 1"
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (call.input_tokens, call.output_tokens)
    assert outcome.request_id == f"req_{call.number:032x}"
    assert (outcome.response_id or "").endswith(f"{call.number:032x}")
    assert (outcome.response_model, outcome.http_status) == ("gpt-4o-mini", 200)


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", [Fault.REFUSAL, Fault.INCOMPLETE, Fault.WRONG_SCHEMA, Fault.INVALID_JSON])
def test_what_was_paid_for_is_known_though_it_failed(simulator: Simulator, fault: Fault, api: Api) -> None:
    play(simulator, fault)
    outcome = judged(ask(simulator.base_url, api), api)
    (call,) = simulator.journal
    assert (outcome.usage.input_tokens, outcome.usage.output_tokens) == (call.input_tokens, call.output_tokens)
    assert (outcome.usage.input_tokens or 0) > 0
    assert outcome.request_id is not None
    assert outcome.raw_head


def test_a_rate_limit_carries_the_wait_that_the_server_asks_for(simulator: Simulator) -> None:
    play(simulator, Fault.RATE_LIMIT, retry_after=2.5)
    failed = judged(ask(simulator.base_url)).failed
    assert failed is not None
    assert failed.retry_after_ms == 2_500


@pytest.mark.parametrize("fault", [Fault.RATE_LIMIT, Fault.SERVER_ERROR, Fault.RESET, Fault.OVERLOADED])
def test_the_sdk_tries_nothing_again(simulator: Simulator, fault: Fault) -> None:
    play(simulator, fault, Fault.OK)
    assert judged(ask(simulator.base_url)).failed is not None
    assert len(simulator.journal) == 1
    assert judged(ask(simulator.base_url)).failed is None
    assert len(simulator.journal) == 2


def test_the_deadline_is_of_the_whole_call_though_every_byte_comes_in_time(simulator: Simulator) -> None:
    play(simulator, Fault.DRIP, drip=0.02)  # a minute and a half for the whole answer
    began = time.monotonic()
    reply = ask(simulator.base_url)
    assert DEADLINE <= time.monotonic() - began < 5 * DEADLINE
    assert (reply.broken, simulator.journal[0].completed) == ("timeout", False)
    assert DEADLINE * 1_000 <= reply.latency_ms < 5 * DEADLINE * 1_000


def test_a_redirect_sends_nothing_to_the_other_place(simulator: Simulator) -> None:
    play(simulator, Fault.REDIRECT)
    reply = ask(simulator.base_url)
    assert reply.status == 307
    assert [call.path for call in simulator.journal] == ["/v1/responses"]


def test_the_server_can_tell_the_attempts_apart(simulator: Simulator) -> None:
    ask(simulator.base_url, attempt_id="attempt-7")
    ask(simulator.base_url, attempt_id="attempt-8")
    assert [call.client_request_id for call in simulator.journal] == ["attempt-7", "attempt-8"]
    assert {call.key_sha256 for call in simulator.journal} == {hashlib.sha256(KEY.encode()).hexdigest()}


def test_a_call_that_is_cancelled_is_cancelled(simulator: Simulator) -> None:
    play(simulator, Fault.HANG)

    async def call() -> None:
        async with Client(simulator.base_url, KEY, deadline=60.0, connections=1) as client:
            async with asyncio.timeout(0.2):
                await client.ask("responses", PROMPT, "attempt-1")

    with pytest.raises(TimeoutError):
        asyncio.run(call())


def test_one_client_makes_many_calls_at_once(simulator: Simulator) -> None:
    simulator.play(Script(latency=0.3))

    async def calls() -> list[Reply]:
        async with Client(simulator.base_url, KEY, deadline=5.0, connections=20) as client:
            return await asyncio.gather(*(client.ask("responses", PROMPT, str(number)) for number in range(20)))

    began = time.monotonic()
    assert {reply.status for reply in asyncio.run(calls())} == {200}
    assert time.monotonic() - began < 3.0  # six, one after the other


# -- a server of bytes ------------------------------------------------------------------------------------------------


class Asked:
    """What a server of bytes was sent."""

    def __init__(self) -> None:
        self.base_url = ""
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []


@contextmanager
def answering(reply: bytes) -> Iterator[Asked]:
    """A server that sends these bytes, head and body, to whoever asks."""
    asked = Asked()

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library's name
            body = self.rfile.read(int(self.headers["content-length"]))
            asked.headers.append({name.lower(): value for name, value in self.headers.items()})
            asked.bodies.append(json.loads(body))
            self.close_connection = True
            try:
                self.wfile.write(reply)
            except OSError:
                return  # the client had enough

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the library's name
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    asked.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def http(body: bytes, *head: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", *head]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(size: int) -> bytes:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return http(piece * (size // 0x10000 + 1) + b"0\r\n\r\n", "transfer-encoding: chunked")


def test_what_is_sent_is_the_request_and_asks_not_to_be_stored() -> None:
    with answering(http(b"{}", "content-length: 2")) as asked:
        ask(asked.base_url)
        ask(asked.base_url, "chat")
    assert asked.bodies == [body_of("responses"), body_of("chat")]
    assert [body.get("store") for body in asked.bodies] == [False, None]
    assert {head["content-type"] for head in asked.headers} == {"application/json"}
    assert {head["authorization"] for head in asked.headers} == {f"Bearer {KEY}"}
    assert {head["accept-encoding"] for head in asked.headers} == {"identity"}


def test_a_body_without_a_length_is_read_up_to_the_cap() -> None:
    with answering(chunked(BODY_CAP + 1)) as asked:
        assert why(ask(asked.base_url, deadline=5.0)) == ("invalid_response_body", "The response is larger than 2 MiB")
    with answering(chunked(BODY_CAP // 2)) as asked:
        assert len(ask(asked.base_url, deadline=5.0).body) > BODY_CAP // 2


def test_a_body_that_says_it_is_too_long_is_not_read() -> None:
    with answering(http(b"{", f"content-length: {BODY_CAP + 1}")) as asked:
        assert ask(asked.base_url, deadline=5.0).broken == "too_large"


def test_a_compressed_body_which_could_unpack_to_any_size_is_not_unpacked() -> None:
    with answering(http(b"\x1f\x8b", "content-encoding: gzip", "content-length: 2")) as asked:
        name, _ = why(ask(asked.base_url))
    assert name == "invalid_response_body"


@pytest.mark.parametrize(
    "reply",
    [b"", b"\x00\x01\x02", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
     http(b"{}", "content-length: 9"), http(b"{}", "content-length: x"), http(b"z\r\n", "transfer-encoding: chunked")],
)  # fmt: skip
def test_what_is_no_http_is_a_connection_that_failed(reply: bytes) -> None:
    with answering(reply) as asked:
        name, message = why(ask(asked.base_url, deadline=2.0))
    assert name == "connection"
    assert message


def test_a_server_that_is_not_there_is_a_connection_that_failed_and_no_timeout() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    name, message = why(ask(f"http://127.0.0.1:{port}/v1", deadline=5.0))
    assert name == "connection"
    assert message.startswith(f"ClientConnectorError: Cannot connect to host 127.0.0.1:{port}")
    assert "timeout" not in message.lower()  # people count errors by that word


@pytest.mark.parametrize(
    "base_url", ["http://no-such-host.invalid/v1", "http://127.0.0.1:0/v1", "no url", "ftp://x/v1"]
)
def test_an_address_that_cannot_be_asked_is_a_connection_that_failed(base_url: str) -> None:
    assert why(ask(base_url, deadline=5.0))[0] == "connection"


# -- the key ----------------------------------------------------------------------------------------------------------

ODD_KEYS = {
    "trailing newline": f"{KEY}\n",
    "two lines": f"{KEY}\nab12cd34ef56",
    "carriage return": f"{KEY}\r",
    "not ASCII": f"{KEY}é",
    "no usual prefix": "0f4e8b2c9a7d4e11\n",
}


@pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
def test_a_key_that_cannot_be_sent_is_not_told(
    simulator: Simulator, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reply = ask(simulator.base_url, key=key)
    told = f"{reply} {judged(reply)} {caplog.text}"
    assert not [part for part in key.split() if part.rstrip("é") in told]
    assert reply.broken == "connection"
    assert simulator.journal == []


def test_a_key_that_the_server_echoes_is_shown_as_the_server_masks_it(simulator: Simulator) -> None:
    play(simulator, Fault.UNAUTHORIZED)
    name, message = why(ask(simulator.base_url))
    assert name == "authentication"
    assert KEY not in message


def test_even_the_sdks_own_debugging_output_is_without_the_key(
    simulator: Simulator, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("openai", "httpx2", "aiohttp", "asyncio"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
        caplog.set_level(logging.DEBUG, name)
    ask(simulator.base_url)
    assert "/responses" in caplog.text
    assert KEY not in caplog.text
