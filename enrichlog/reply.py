"""What came back of one call, raw: nothing here has been judged yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Api = Literal["responses", "chat"]


class Reply(NamedTuple):
    """An HTTP reply, or what prevented it.

    `broken` says why there is no body: our deadline or a read timeout, a connection that failed, a body over the cap,
    or one packed in a way we cannot undo; status and headers are those that came before it broke, `error_class` and
    `error_text` those of the exception. Not `sent`: no connection could be made, so nothing can have been billed.
    `requested_tokens` is our estimate of what went out.
    """

    latency_ms: int
    status: int | None = None
    headers: Mapping[str, str] = {}
    body: bytes = b""
    broken: Literal["timeout", "connection", "too_large", "packed"] | None = None
    error_class: str | None = None
    error_text: str | None = None
    sent: bool = True
    requested_tokens: int | None = None
