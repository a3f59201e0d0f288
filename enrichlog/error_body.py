"""The error that a body states, whichever shape its server gives it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from enrichlog.errors import CODES, ProviderError
from enrichlog.foreign import as_dict, as_fact, as_text
from enrichlog.retry_after import duration_ms


def error_in(body: Any) -> dict[str, Any]:
    """The error object of a decoded body, empty when there is none; one that is a text stands as its `message`.

    `{"error": {…}}` and `{"error": "…"}`, either within a list; `{"errors": [{…}]}`; `{"detail": …}`; all flat.
    """
    body = as_dict(_first(body))
    error = _first(body.get("error") or body.get("errors") or body.get("detail"))
    if isinstance(error, dict):
        return error
    flat = {**body, "status": None}  # which is of the response
    return {**flat, "message": error} if isinstance(error, str) else flat


def states_error(body: dict[str, Any]) -> bool:
    """Whether a body of status 200 is an error instead of an answer."""
    return bool(body.get("error")) or body.get("object") == "error"


def message_in(error: dict[str, Any]) -> str | None:
    """What an error object says to people; None when it says nothing."""
    return next((text for name in ("message", "msg", "error") if (text := as_text(error.get(name)))), None)


def wait_in(error: dict[str, Any]) -> int | None:
    """How long an error object asks to wait, in milliseconds; Gemini says it there and in no header."""
    return next(
        (wait for detail in _details(error) if (wait := duration_ms(detail.get("retryDelay"))) is not None), None
    )


def provider_error(status: int | None, error: dict[str, Any]) -> ProviderError:
    """What went wrong, from an error object."""
    kind, named = error.get("type"), error.get("status")  # `"status": "INVALID_ARGUMENT"` is Google's word for it
    return ProviderError(
        status, _code(error), as_fact(named if kind is None and isinstance(named, str) else kind), _param(error)
    )


def _code(error: dict[str, Any]) -> str | None:
    """The code of an error, or one that stands deeper and tells more."""
    code = as_fact(error.get("code"))
    if code is not None and code in CODES:
        return code
    return next((inner for inner in _inner_codes(error) if code is None or inner in CODES), code)


def _inner_codes(error: dict[str, Any]) -> Iterator[str]:
    found = [as_dict(error.get("innererror")).get("code")]  # Azure
    found += [detail.get("reason") for detail in _details(error)]  # Gemini
    found += ["flagged_input"] if "flagged_input" in as_dict(error.get("metadata")) else []  # OpenRouter's moderation
    yield from (code for value in found if (code := as_fact(value)))


def _details(error: dict[str, Any]) -> list[dict[str, Any]]:
    details = error.get("details")
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _param(error: dict[str, Any]) -> str | None:
    place = error.get("loc")  # of a server that validates with pydantic: ["body", "messages", 0, "content"]
    return as_fact(".".join(map(str, place[1:]))) if isinstance(place, list) else as_fact(error.get("param"))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value
