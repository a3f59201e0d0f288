"""What came back of one call, raw: nothing here has been judged yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Api = Literal["responses", "chat"]
BODY_CAP = 2 * 1024 * 1024
"""The most bytes of a reply that are read; a longer one is no answer of a model."""


class Reply(NamedTuple):
    """An HTTP reply, or what prevented it.

    `broken` says why there is no reply: our deadline or a read timeout, a connection that failed, a body over the cap.
    `error_class` and `error_text` are those of the exception then.
    """

    latency_ms: int
    status: int | None = None
    headers: Mapping[str, str] = {}
    body: bytes = b""
    broken: Literal["timeout", "connection", "too_large"] | None = None
    error_class: str | None = None
    error_text: str | None = None
