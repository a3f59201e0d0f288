"""What a reply means: a result, or a failure with its type. A total function: every reply comes out as one of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
from pydantic import BaseModel

from enrichlog import output
from enrichlog.answer import Answer, Usage, read_answer
from enrichlog.body import BODY_CAP
from enrichlog.error_body import error_in, message_in, provider_error, wait_in
from enrichlog.errors import BROKEN, ERROR_TYPES, FINISHES, ErrorType, ProviderError, recognise
from enrichlog.fitting import DoesNotFit, fit, told
from enrichlog.foreign import as_count, as_fact, decoded
from enrichlog.reply import Api, Reply
from enrichlog.retry_after import retry_after_ms
from eventlog.redaction import redact

RAW_HEAD_CHARACTERS = 2_000
SIMULATOR = "enrichlog-simulator"
"""What the simulator says in its `server` header, so that its answers are never taken for a model's."""

STOPPED = {
    "refusal": "the model refused",
    "content_filter": "the content filter stopped it",
    "output_truncated": "the output was cut off ({reason})",
}
NOT_EXTRACTED = "Could not extract structured output from API response: {why}"


class Failed(NamedTuple):
    """Why there is no result: the error type, the message people read, and the facts it was recognised by.

    `error_class` is that of our exception; what the provider calls its error is in `error`. `wait_ms` is there where
    we know better than the backoff when to try again.
    """

    kind: ErrorType
    message: str
    error: ProviderError = ProviderError(None)
    error_class: str | None = None
    retry_after_ms: int | None = None
    wait_ms: int | None = None


class Outcome(NamedTuple):
    """How one call ended: `result` on success, else `failed`; usage and identifiers wherever they are known.

    Not `called`: nothing was tried. Not `sent`: no connection could be made. Neither can have been billed.
    """

    result: dict[str, Any] | None = None
    failed: Failed | None = None
    usage: Usage = Usage()
    http_status: int | None = None
    request_id: str | None = None
    response_id: str | None = None
    response_model: str | None = None
    finish_reason: str | None = None
    latency_ms: int | None = None
    raw_head: str | None = None
    called: bool = True
    sent: bool = True
    simulated: bool = False


def not_called(error_type: str, message: str) -> Outcome:
    """The outcome of an attempt that failed before anything left the machine."""
    return Outcome(failed=Failed(ERROR_TYPES[error_type], message), called=False, sent=False)


def defect(error: Exception) -> Outcome:
    """The outcome of an attempt that a defect of ours, or of a user's result model, kept from being judged."""
    return Outcome(failed=Failed(ERROR_TYPES["other"], redact(told(error)), error_class=type(error).__name__))


def judge(
    reply: Reply, api: Api, model: type[BaseModel], deadline: float, codes: Mapping[str, str] | None = None
) -> Outcome:
    """What a reply means. `model` is the result model, `deadline` the call's in seconds.

    The message of a failure is without secrets: it is also told where nothing is stored, as why a run stopped.
    """
    outcome = _judge(reply, api, model, deadline, codes)
    failed = outcome.failed and outcome.failed._replace(message=redact(outcome.failed.message))
    return outcome._replace(failed=failed, simulated=reply.headers.get("server") == SIMULATOR)


def _judge(reply: Reply, api: Api, model: type[BaseModel], deadline: float, codes: Mapping[str, str] | None) -> Outcome:
    request_id = as_fact(reply.headers.get("x-request-id") or reply.headers.get("request-id"))
    broken = _broken(reply, deadline) if reply.broken else None
    if broken or reply.status != 200:
        refused = None if reply.status in (None, 200) else _refused(reply, codes, broken)
        return Outcome(
            None, refused or broken, Usage(), reply.status, request_id, latency_ms=reply.latency_ms,
            raw_head=_head(reply), sent=reply.sent,
        )  # fmt: skip
    answer = _read(reply, api)
    result, failed = (None, answer) if isinstance(answer, Failed) else _understand(answer, model, codes)
    known = Answer() if isinstance(answer, Failed) else answer
    if failed and known.error is not None:  # a gateway passes its provider's wait on although its own status is 200
        failed = failed._replace(retry_after_ms=retry_after_ms(reply.headers))
    return Outcome(
        result, failed, known.usage, reply.status, request_id, known.response_id, known.model, known.finish_reason,
        reply.latency_ms, _head(reply) if failed else None,
    )  # fmt: skip


def _broken(reply: Reply, deadline: float) -> Failed:
    said = ": ".join(filter(None, (reply.error_class, reply.error_text))) or "no connection"
    message = {
        "timeout": f"Request timeout after {deadline:g} seconds",
        "too_large": f"The response is larger than {BODY_CAP // 2**20} MiB",
        "packed": f"The response body cannot be unpacked: {reply.error_text}",
    }.get(reply.broken or "", said)
    return Failed(BROKEN[reply.broken or "connection"], message, error_class=reply.error_class)


def _refused(reply: Reply, codes: Mapping[str, str] | None, broken: Failed | None) -> Failed:
    """An HTTP status other than 200, which says enough where the body broke; the message is the provider's own."""
    stated = _error_in(reply.body)
    limit, remaining = (_tokens(reply.headers, name) for name in ("limit", "remaining"))
    error = provider_error(reply.status, stated)._replace(
        limit_tokens=limit, remaining_tokens=remaining, requested_tokens=reply.requested_tokens
    )
    said = broken.message if broken else message_in(stated)
    message = f"Error code: {reply.status} - {said}" if said else f"Error code: {reply.status}"
    asked = retry_after_ms(reply.headers)
    wait = wait_in(stated) if asked is None else asked
    return Failed(recognise(error, codes), message, error, broken and broken.error_class, wait)


def _tokens(headers: Mapping[str, str], name: str) -> int | None:
    text = headers.get(f"x-ratelimit-{name}-tokens", "")
    return as_count(int(text)) if text.isdecimal() and len(text) < 20 else None


def _read(reply: Reply, api: Api) -> Answer | Failed:
    try:
        body = decoded(reply.body)
    except orjson.JSONDecodeError as error:
        message = f"The response body is not JSON: {error}"
        return Failed(ERROR_TYPES["invalid_response_body"], message, error_class="JSONDecodeError")
    shape = "The response body has another shape than the API's"
    return read_answer(body, api) or Failed(ERROR_TYPES["invalid_response_body"], shape)


def _understand(
    answer: Answer, model: type[BaseModel], codes: Mapping[str, str] | None
) -> tuple[dict[str, Any] | None, Failed | None]:
    """The result in an answer, or why there is none."""
    if answer.error is not None:
        return None, Failed(recognise(answer.error, codes), answer.error_text, answer.error)
    if answer.refusal is not None:
        return None, _failed("refusal", f"the model refused: {answer.refusal}")
    if answer.finish_reason in FINISHES:
        return None, _failed(name := FINISHES[answer.finish_reason], STOPPED[name].format(reason=answer.finish_reason))
    try:
        value = output.parse(answer.text)
    except output.EmptyOutput as error:
        return None, _failed("empty_output", str(error))
    except json.JSONDecodeError as error:
        return None, Failed(ERROR_TYPES["invalid_json"], f"JSONDecodeError: {error}", error_class="JSONDecodeError")
    return validate(value, model)


def validate(value: Any, model: type[BaseModel]) -> tuple[dict[str, Any] | None, Failed | None]:
    """The value as the result model holds it, or the failure `schema_mismatch` with the first faults named."""
    try:
        return fit(value, model), None
    except DoesNotFit as error:
        return None, _failed("schema_mismatch", str(error), error.error_class)


def _failed(error_type: str, why: str, error_class: str | None = None) -> Failed:
    return Failed(ERROR_TYPES[error_type], NOT_EXTRACTED.format(why=why), error_class=error_class)


def _head(reply: Reply) -> str | None:
    """The first characters of the body. Secrets are taken out first: half a key would not be known as one."""
    return redact(reply.body.decode("utf-8", "replace"))[:RAW_HEAD_CHARACTERS] or None


def _error_in(body: bytes) -> dict[str, Any]:
    """The error object in the body of a refusal, empty when there is none."""
    try:
        return error_in(decoded(body))
    except orjson.JSONDecodeError:
        return {}
