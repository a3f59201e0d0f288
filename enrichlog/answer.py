"""The parts of a reply that matter, whichever API it came from: read from the raw body, so that usage is never lost."""

from __future__ import annotations

from typing import Any, NamedTuple

from enrichlog.error_body import error_in, message_in, provider_error, states_error
from enrichlog.errors import ProviderError
from enrichlog.foreign import as_count, as_dict, as_fact, as_text
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
    stated, status = error_in(body) if states_error(body) else None, body.get("status")
    if status is None and "output" not in body and stated is None:
        return None
    messages = [entry for entry in _list(body.get("output")) if entry.get("type") == "message"]
    parts = [part for entry in messages for part in _list(entry.get("content"))]
    usage, details = as_dict(body.get("usage")), as_dict(body.get("incomplete_details"))
    if stated is None and status not in _ENDED:
        stated = {}
    return Answer(
        text="".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text"),
        refusal=next((as_text(part.get("refusal")) or "" for part in parts if part.get("type") == "refusal"), None),
        finish_reason=as_fact(details.get("reason")) or as_fact(status),
        error=None if stated is None else provider_error(None, stated),
        error_text="" if stated is None else message_in(stated) or f"the response is {as_text(status) or 'an error'}",
        response_id=as_fact(body.get("id")),
        model=as_fact(body.get("model")),
        usage=Usage(
            as_count(usage.get("input_tokens")),
            as_count(usage.get("output_tokens")),
            as_count(as_dict(usage.get("input_tokens_details")).get("cached_tokens")),
            as_count(as_dict(usage.get("output_tokens_details")).get("reasoning_tokens")),
        ),
    )


def _read_chat(body: dict[str, Any]) -> Answer | None:
    choices = _list(body.get("choices"))
    choice = choices[0] if choices else {}
    failed = body if states_error(body) else choice if choice.get("error") else None  # in the choice: OpenRouter
    stated = None if failed is None else error_in(failed)
    if not choices and stated is None:
        return None
    message, usage = as_dict(choice.get("message")), as_dict(body.get("usage"))
    content = message.get("content")
    return Answer(
        text=content if isinstance(content, str) else "".join(str(p.get("text") or "") for p in _list(content)),
        refusal=as_text(message.get("refusal")) or None,
        finish_reason=as_fact(choice.get("finish_reason")),
        error=None if stated is None else provider_error(None, stated),
        error_text="" if stated is None else message_in(stated) or "the response has an error",
        response_id=as_fact(body.get("id")),
        model=as_fact(body.get("model")),
        usage=Usage(
            as_count(usage.get("prompt_tokens")),
            as_count(usage.get("completion_tokens")),
            as_count(as_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
            as_count(as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        ),
    )


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
