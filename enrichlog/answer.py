"""The parts of a reply that matter, whichever API it came from: read from the raw body, so that usage is never lost."""

from __future__ import annotations

from typing import Any, NamedTuple

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
    if body.get("status") is None and "output" not in body and not body.get("error"):
        return None
    messages = [entry for entry in _list(body.get("output")) if entry.get("type") == "message"]
    parts = [part for entry in messages for part in _list(entry.get("content"))]
    usage, details = as_dict(body.get("usage")), as_dict(body.get("incomplete_details"))
    has_failed = body.get("error") or body.get("status") not in _ENDED
    return Answer(
        text="".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text"),
        refusal=next((str(part.get("refusal")) for part in parts if part.get("type") == "refusal"), None),
        finish_reason=as_fact(details.get("reason")) or as_fact(body.get("status")),
        error=provider_error(None, as_dict(body.get("error"))) if has_failed else None,
        error_text=_said(body, f"the response is {body.get('status') or 'an error'}") if has_failed else "",
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
    has_failed = bool(body.get("error"))
    if not choices and not has_failed:
        return None
    choice = choices[0] if choices else {}
    message, usage = as_dict(choice.get("message")), as_dict(body.get("usage"))
    content = message.get("content")
    return Answer(
        text=content if isinstance(content, str) else "".join(str(p.get("text") or "") for p in _list(content)),
        refusal=as_text(message.get("refusal")) or None,
        finish_reason=as_fact(choice.get("finish_reason")),
        error=provider_error(None, as_dict(body.get("error"))) if has_failed else None,
        error_text=_said(body, "the response has an error") if has_failed else "",
        response_id=as_fact(body.get("id")),
        model=as_fact(body.get("model")),
        usage=Usage(
            as_count(usage.get("prompt_tokens")),
            as_count(usage.get("completion_tokens")),
            as_count(as_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
            as_count(as_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        ),
    )


def _said(body: dict[str, Any], otherwise: str) -> str:
    """The message of a body's error, which some servers send in its place."""
    return as_text(as_dict(body.get("error")).get("message")) or as_text(body.get("error")) or otherwise


def provider_error(status: int | None, said: dict[str, Any]) -> ProviderError:
    """What went wrong, from the error object of a reply."""
    return ProviderError(status, as_fact(said.get("code")), as_fact(said.get("type")), as_fact(said.get("param")))


def _list(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
