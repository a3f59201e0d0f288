"""The call: the real SDK over real HTTP, one request for one attempt, whatever breaks; no key is ever told."""

import asyncio
import gzip
import hashlib
import logging
import socket
import time
import zlib
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from enrichlog import llm
from enrichlog.body import BODY_CAP
from enrichlog.enrichment import enrichment_of, request_for
from enrichlog.llm import Client
from enrichlog.outcome import Outcome, judge
from enrichlog.reply import Api, Reply
from enrichlog.result import JobEnrichment
from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from tests.byte_server import answering, chunked, http
from tests.service import KEY, posting

APIS: tuple[Api, ...] = get_args(Api)
ENRICHMENT = enrichment_of(Settings.model_construct())
DEADLINE = 0.4
PROMPT = request_for(ENRICHMENT, posting()._asdict(), "h" * 64, 100_000, cut=False).body

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


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "ALL_PROXY"])
def test_a_proxy_is_used_for_other_machines_and_never_for_this_one(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with answering(http(b"{}", "content-length: 2")) as proxy:
        monkeypatch.setenv(variable, proxy.base_url.removesuffix("/v1"))
        ask(simulator.base_url)
        assert (len(simulator.journal), len(proxy.bodies)) == (1, 0)
        ask("http://elsewhere.invalid/v1")  # the control
        assert len(proxy.bodies) == 1


# -- a server of bytes ------------------------------------------------------------------------------------------------


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


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "GZIP": gzip.compress,
    "identity, gzip": gzip.compress,
    "identity": bytes,
    "": bytes,
}
OUT_OF_CREDIT = b'{"error": {"message": "No credit.", "code": "insufficient_quota"}}'


def packed(body: bytes, encoding: str, *, status: str = "200 OK") -> bytes:
    length = f"content-length: {len(body)}"
    return http(body, f"content-encoding: {encoding}", length, "x-request-id: req_1", status=status)


@pytest.mark.parametrize("encoding", PACKED)
def test_a_body_that_comes_packed_though_nobody_asked_is_unpacked(encoding: str) -> None:
    with answering(packed(PACKED[encoding](OUT_OF_CREDIT), encoding, status="429 Too Many Requests")) as asked:
        reply = ask(asked.base_url)
    assert why(reply) == ("quota_exceeded", "Error code: 429 - No credit.")
    assert judged(reply).raw_head == OUT_OF_CREDIT.decode()


def test_a_small_body_that_unpacks_beyond_the_cap_is_unpacked_no_further() -> None:
    fits, bomb = (gzip.compress(b" " * size) for size in (BODY_CAP, 100 * BODY_CAP))
    assert len(bomb) < BODY_CAP
    with answering(packed(fits, "gzip")) as asked:
        assert len(ask(asked.base_url, deadline=5.0).body) == BODY_CAP
    with answering(packed(bomb, "gzip")) as asked:
        reply = ask(asked.base_url, deadline=5.0)
    assert why(reply) == ("invalid_response_body", "The response is larger than 2 MiB")
    assert (reply.body, reply.status, judged(reply).request_id) == (b"", 200, "req_1")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip"])
def test_a_body_packed_in_a_way_nobody_asked_for_is_named_and_its_head_is_kept(encoding: str) -> None:
    with answering(packed(b"{}", encoding)) as asked:
        reply = ask(asked.base_url)
    message = f"The response body cannot be unpacked: its content-encoding is {encoding}"
    assert why(reply) == ("invalid_response_body", message)
    assert (judged(reply).http_status, judged(reply).request_id) == (200, "req_1")
    with answering(packed(b"{}", encoding, status="401 Unauthorized")) as asked:
        assert why(ask(asked.base_url)) == ("authentication", f"Error code: 401 - {message}")


def test_a_body_that_is_not_packed_as_it_says_cannot_be_unpacked() -> None:
    with answering(packed(b"{}", "gzip")) as asked:
        name, message = why(ask(asked.base_url))
    assert name == "invalid_response_body"
    assert message.startswith("The response body cannot be unpacked: it is not gzip: ")


# -- replies that break -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.DRIP, Fault.RESET, Fault.HUGE])
def test_the_status_and_the_request_id_of_a_reply_are_known_though_its_body_broke(
    simulator: Simulator, fault: Fault
) -> None:
    play(simulator, fault, drip=0.01)
    outcome = judged(ask(simulator.base_url))
    assert (outcome.http_status, outcome.request_id) == (200, f"req_{1:032x}")
    assert outcome.simulated


def test_an_error_whose_body_broke_goes_by_its_status() -> None:
    cut = http(b'{"error"', "content-length: 900", "retry-after: 7", status="429 Too Many Requests")
    with answering(cut) as asked:
        failed = judged(ask(asked.base_url, deadline=2.0)).failed
    assert failed is not None
    assert (failed.kind.name, failed.retry_after_ms) == ("rate_limited", 7_000)
    assert failed.message.startswith("Error code: 429 - ReadError: ")


@pytest.mark.parametrize("fault", Fault)
def test_how_long_a_call_took_is_recorded_however_it_ended(
    simulator: Simulator, fault: Fault, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((10.0, 11.5))
    monkeypatch.setattr(llm, "time", SimpleNamespace(monotonic=lambda: next(times)))
    play(simulator, fault, drip=0.01)
    assert judged(ask(simulator.base_url)).latency_ms == 1_500


def test_nothing_was_sent_where_no_connection_could_be_made(simulator: Simulator) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    tls = simulator.base_url.replace("http:", "https:")
    for url in (f"http://127.0.0.1:{port}/v1", "http://no-such-host.invalid/v1", tls, "no url", "ftp://x/v1"):
        reply = ask(url, deadline=5.0)
        assert (url, reply.broken, reply.sent, judged(reply).sent) == (url, "connection", False, False)


@pytest.mark.parametrize("fault", [Fault.OK, Fault.HANG, Fault.RESET, Fault.DRIP, Fault.QUOTA])
def test_what_was_sent_may_have_been_billed(simulator: Simulator, fault: Fault) -> None:
    play(simulator, fault, drip=0.01)
    reply = ask(simulator.base_url)
    assert (reply.sent, judged(reply).sent) == (True, True)


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
