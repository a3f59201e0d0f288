"""The parts of a reply that matter, whichever API it came from: read from the raw body, so that usage is never lost."""

from __future__ import annotations

from typing import Any, NamedTuple

from enrichlog.errors import ProviderError
from enrichlog.reply import Api

_ENDED = (None, "completed", "incomplete")
"""The statuses of a response that has an answer; compatible servers may leave it out."""


class Usage(NamedTuple):
    """Tokens of one call; None where the server did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None


class Answer(NamedTuple):
    """The parts of a reply with status 200 that matter, whichever API it came from."""

    text: str = ""
    refusal: str | None = None
    finish_reason: str | None = None
    error: ProviderError | None = None
    error_text: str = ""
    response_id: str | None = None
    model: str | None = None
    usage: Usage = Usage()


def read_answer(body: Any, api: Api) -> Answer | None:
    """The answer in a decoded body; None when it has not the shape of this API's replies."""
    if not isinstance(body, dict):
        return None
    return _read_responses(body) if api == "responses" else _read_chat(body)


def _read_responses(body: dict[str, Any]) -> Answer | None:
    if body.get("status") is None and "output" not in body:
        return None
    messages = [entry for entry in _list(body.get("output")) if entry.get("type") == "message"]
    parts = [part for entry in messages for part in _list(entry.get("content"))]
    usage, details = as_dict(body.get("usage")), as_dict(body.get("incomplete_details"))
    failed = as_dict(body.get("error")) if body.get("status") not in _ENDED or body.get("error") else None
    return Answer(
        text="".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text"),
        refusal=next((str(part.get("refusal")) for part in parts if part.get("type") == "refusal"), None),
        finish_reason=as_text(details.get("reason")) or as_text(body.get("status")),
        error=None if failed is None else ProviderError(None, as_text(failed.get("code"))),
        error_text="" if failed is None else as_text(failed.get("message")) or f"the response is {body.get('status')}",
        response_id=as_text(body.get("id")),
        model=as_text(body.get("model")),
        usage=Usage(
            _count(usage.get("input_tokens")),
            _count(usage.get("output_tokens")),
            _count(as_dict(usage.get("input_tokens_details")).get("cached_tokens")),
            _count(as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")),
        ),
    )


def _read_chat(body: dict[str, Any]) -> Answer | None:
    choices = _list(body.get("choices"))
    failed = as_dict(body.get("error")) if body.get("error") else None
    if not choices and failed is None:
        return None
    choice = choices[0] if choices else {}
    message, usage = as_dict(choice.get("message")), as_dict(body.get("usage"))
    content = message.get("content")
    return Answer(
        text=content if isinstance(content, str) else "".join(str(p.get("text") or "") for p in _list(content)),
        refusal=as_text(message.get("refusal")) or None,
        finish_reason=as_text(choice.get("finish_reason")),
        error=None if failed is None else ProviderError(None, as_text(failed.get("code")), as_text(failed.get("type"))),
        error_text="" if failed is None else as_text(failed.get("message")) or "the response has an error",
        response_id=as_text(body.get("id")),
        model=as_text(body.get("model")),
        usage=Usage(
            _count(usage.get("prompt_tokens")),
            _count(usage.get("completion_tokens")),
            _count(as_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
            _count(as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        ),
    )


def as_dict(value: Any) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def as_text(value: Any) -> str | None:
    """The value as text, None for what is no scalar."""
    return None if value is None or isinstance(value, dict | list) else str(value)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None
