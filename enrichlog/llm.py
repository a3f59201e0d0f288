"""The call: one HTTP request to an OpenAI-compatible server. The one place that imports the SDK."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType

import httpx2  # the SDK's own HTTP library
import openai
import orjson

from enrichlog.reply import BODY_CAP, Api, Reply

PATHS: dict[Api, str] = {"responses": "/responses", "chat": "/chat/completions"}
CONNECT_SECONDS = 30.0


class BodyTooLarge(Exception):
    """The reply is longer than the cap."""


class Client:
    """A client of one server, for one event loop; use it as an asynchronous context manager.

    `deadline` is the total time of a call in seconds: the SDK's own timeout is per read, and a server that drips
    would never meet it.
    """

    def __init__(self, base_url: str, api_key: str, *, deadline: float, connections: int) -> None:
        self._deadline = deadline
        self._openai = openai.AsyncOpenAI(
            api_key=api_key,
            base_url=base_url,
            max_retries=0,  # the log does the retrying
            http_client=openai.DefaultAioHttpClient(
                follow_redirects=False,  # a 307 would send the posting to another host
                timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
                limits=httpx2.Limits(max_connections=connections, max_keepalive_connections=connections),
                event_hooks={"response": [_cap_body]},
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
            async with asyncio.timeout(self._deadline):
                response = await self._post(api, body, attempt_id)
        except openai.APIStatusError as error:
            response = error.response
        except (TimeoutError, openai.APITimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):  # so the transport calls every failure to connect
                return _not_connected(started, error.__cause__.__cause__ or error.__cause__)
            return Reply(_since(started), broken="timeout", error_class=type(error).__name__)
        except BodyTooLarge as error:
            return Reply(_since(started), broken="too_large", error_class=type(error).__name__)
        except Exception as error:  # a total function: what cannot be sent or read is a broken connection
            return _not_connected(started, error.__cause__ or error)
        return Reply(_since(started), response.status_code, response.headers, response.content)

    async def _post(self, api: Api, body: dict[str, object], attempt_id: str) -> httpx2.Response:
        # Bytes and the low-level `post`: the typed methods walk the whole request, a third of their time.
        return await self._openai.post(
            PATHS[api],
            cast_to=httpx2.Response,
            content=orjson.dumps(body),
            options={"headers": {"X-Client-Request-Id": attempt_id, "Accept-Encoding": "identity"}},
        )


async def _cap_body(response: httpx2.Response) -> None:
    """Have the body read only up to the cap; compressed ones, which we do not ask for, could unpack to any size."""
    if int(response.headers.get("content-length") or 0) > BODY_CAP or "content-encoding" in response.headers:
        raise BodyTooLarge
    response.stream = _Capped(response.stream)


class _Capped(httpx2.AsyncByteStream):
    def __init__(self, stream: object) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._stream:  # type: ignore[attr-defined]
            size += len(chunk)
            if size > BODY_CAP:
                raise BodyTooLarge
            yield chunk

    async def aclose(self) -> None:
        await self._stream.aclose()  # type: ignore[attr-defined]


def _not_connected(started: float, cause: BaseException) -> Reply:
    return Reply(_since(started), broken="connection", error_class=type(cause).__name__, error_text=str(cause))


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)
