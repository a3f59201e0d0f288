"""The call: one HTTP request to an OpenAI-compatible server. The one place that imports the SDK."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from urllib.parse import urlsplit

import aiohttp
import httpx2  # the SDK's own HTTP library
import openai
import orjson

from enrichlog.body import BodyTooLarge, CannotUnpack, check_head, read_body
from enrichlog.reply import Api, Reply

PATHS: dict[Api, str] = {"responses": "/responses", "chat": "/chat/completions"}
CONNECT_SECONDS = 30.0
ATTEMPT_HEADER = "X-Client-Request-Id"
NEVER_SENT = (
    aiohttp.ClientConnectorError,  # refused, an unknown host, TLS, a proxy
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
    httpx2.InvalidURL,
)


class Client:
    """A client of one server, for one event loop; use it as an asynchronous context manager.

    `deadline` is the total time of a call in seconds: the SDK's own timeout is per read, and a server that drips
    would never meet it.
    """

    def __init__(self, base_url: str, api_key: str, *, deadline: float, connections: int) -> None:
        self._deadline = deadline
        self._heads: dict[str, httpx2.Response] = {}
        self._openai = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,  # the log does the retrying
            http_client=openai.DefaultAioHttpClient(
                follow_redirects=False,  # a 307 would send the posting to another host
                trust_env=not _is_loopback(base_url),  # a proxy cannot reach a server of this machine
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
                event_hooks={"response": [self._receive]},
            ),
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._openai.close()

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        """Send one request. Whatever happens becomes a reply; only cancellation is raised."""
        started = time.monotonic()
        try:
            reply = await self._reply(api, body, attempt_id)
        finally:
            head = self._heads.pop(attempt_id, None)
        if head is not None:  # also of a reply whose body broke: the request was received, and has an id
            reply = reply._replace(status=head.status_code, headers=head.headers)
        return reply._replace(latency_ms=round((time.monotonic() - started) * 1000))

    async def _reply(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        """The body of the reply, or what prevented it."""
        try:
            async with asyncio.timeout(self._deadline):
                response = await self._post(api, body, attempt_id)
        except openai.APIStatusError as error:
            return Reply(0, body=error.response.content)
        except (TimeoutError, openai.APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):  # so the transport calls every failure to connect
                return _not_connected(error.__cause__.__cause__ or error.__cause__)
            return Reply(0, broken="timeout", error_class=type(error).__name__)
        except BodyTooLarge as error:
            return Reply(0, broken="too_large", error_class=type(error).__name__)
        except CannotUnpack as error:
            return Reply(0, broken="packed", error_class=type(error).__name__, error_text=str(error))
        except Exception as error:  # a total function: what cannot be sent or read is a broken connection
            return _not_connected(error.__cause__ or error)
        return Reply(0, body=response.content)

    async def _post(self, api: Api, body: dict[str, object], attempt_id: str) -> httpx2.Response:
        # Bytes and the low-level `post`: the typed methods walk the whole request, a third of their time.
        return await self._openai.post(
            PATHS[api],
            cast_to=httpx2.Response,
            content=orjson.dumps(body),
            options={"headers": {ATTEMPT_HEADER: attempt_id, "Accept-Encoding": "identity"}},
        )

    async def _receive(self, response: httpx2.Response) -> None:
        """Keep the head of a reply, and have its body read by us."""
        self._heads[response.request.headers[ATTEMPT_HEADER]] = response
        headers = dict(response.headers.items())
        check_head(headers)
        response.stream = _Body(response.stream, headers)
        response.headers.pop("content-encoding", None)  # or the library would unpack it, to any size


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: object, headers: Mapping[str, str]) -> None:
        self._stream, self._headers = stream, headers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return read_body(self._stream, self._headers)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _not_connected(cause: BaseException) -> Reply:
    return Reply(
        0, broken="connection", error_class=type(cause).__name__, error_text=str(cause),
        sent=not isinstance(cause, NEVER_SENT),
    )  # fmt: skip
