"""One attempt as events: how it starts, and how its outcome becomes its end. Pure: no I/O, no clock."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, NamedTuple

from enrichlog.enrichment import BOUNDED_OUTPUT_TOKENS, Enrichment, Request
from enrichlog.errors import ERROR_TYPES
from enrichlog.outcome import SIMULATOR, Outcome, not_called
from enrichlog.price import cost
from enrichlog.retry import BACKOFF_BASE_SECONDS, judged, wait_ms
from eventlog.events import Attempt, Counted, EnrichmentFailed, EnrichmentStarted, EnrichmentSucceeded
from eventlog.log import Proposal

End = EnrichmentSucceeded | EnrichmentFailed
RESERVED_INPUT_FACTOR = 2
"""The estimate of the input may be half of what the provider counts."""


REFUSED = range(300, 500)
"""The statuses of calls that the server did not take: it generated nothing, and charges nothing."""

_ATTEMPT_FIELDS = set(Attempt.model_fields) - {"occurred_at"} | set(Counted.model_fields)


class Started(NamedTuple):
    """An attempt that has been claimed: its stream, its start event and how many failures came before in a row.

    `position` is where the start stands in the log, once it does, and `at` when it was recorded.
    """

    stream_id: str
    event: EnrichmentStarted
    failures: int = 0
    position: int | None = None
    at: datetime | None = None


def start(
    enrichment: Enrichment, request: Request, *, number: int, input_hash: str, worker: str, lease_seconds: int,
    probe: bool = False,
) -> EnrichmentStarted:  # fmt: skip
    """The start event of attempt `number`."""
    return EnrichmentStarted(
        attempt_id=str(uuid.uuid4()),
        attempt=number,
        input_hash=input_hash,
        worker=worker,
        lease_seconds=lease_seconds,
        probe=probe,
        reserved_microdollars=reserve(enrichment, request),
        reserved_tokens=request.input_tokens + (enrichment.output_cap or BOUNDED_OUTPUT_TOKENS),
        input_characters=request.characters,
        input_kept_characters=request.kept_characters,
        **enrichment.facts(),
    )


def reserve(enrichment: Enrichment, request: Request) -> int | None:
    """What the call may cost at the most, in micro-dollars; None when the price is unknown.

    Without a cap on the answer it is a guess; where money is limited there always is one.
    """
    output = enrichment.output_cap or BOUNDED_OUTPUT_TOKENS
    return cost(enrichment.priced, RESERVED_INPUT_FACTOR * request.input_tokens, output)


def end(enrichment: Enrichment, started: Started, outcome: Outcome, base_seconds: float = BACKOFF_BASE_SECONDS) -> End:
    """The end event of an attempt."""
    common = _begun(started) | _known(enrichment, outcome)
    if outcome.failed is None:
        return EnrichmentSucceeded(**common, result=outcome.result)
    failed, kind = outcome.failed, outcome.failed.kind
    wait = failed.wait_ms
    if wait is None:
        wait = wait_ms(kind, started.stream_id, started.failures + 1, failed.retry_after_ms, base_seconds)
    return EnrichmentFailed(
        **common,
        **judged(kind),
        fault=kind.fault,
        wait_ms=wait if kind.retryable else None,
        error_code=failed.error.code,
        error_param=failed.error.param,
        provider_error_type=failed.error.type,
        error_class=failed.error_class,
        retry_after_ms=failed.retry_after_ms,
        limit_tokens=failed.error.limit_tokens,
        remaining_tokens=failed.error.remaining_tokens,
        requested_tokens=failed.error.requested_tokens,
        message=failed.message,
        raw_head=outcome.raw_head,
    )


def interrupted(started: Started, message: str, *, worker_died: bool = False, called: bool = True) -> EnrichmentFailed:
    """The end of an attempt that nobody can finish: its worker died (that counts) or was shut down (that does not)."""
    kind = ERROR_TYPES["interrupted"]
    facts = judged(kind) | {"counts": worker_died}
    return EnrichmentFailed(
        **_begun(started), **facts, called=called, worker_died=worker_died, fault=kind.fault, wait_ms=0, message=message
    )


def start_proposal(started: Started) -> Proposal:
    """The proposal of an attempt's start; its event id follows from the attempt."""
    return Proposal(started.stream_id, started.event, str(uuid.uuid5(uuid.UUID(started.event.attempt_id), "start")))


def end_proposal(started: Started, event: End) -> Proposal:
    """The proposal of an attempt's end. Its event id follows from the attempt: offered again it is stored once."""
    return Proposal(started.stream_id, event, str(uuid.uuid5(uuid.UUID(started.event.attempt_id), "end")))


def precheck(description: str, request: Request, limit: int) -> Outcome | None:
    """The outcome of an attempt that must not leave the machine; None when it may."""
    if not description.strip():
        return not_called("input_error", "No description found")
    if request.input_tokens > limit:
        return not_called("input_too_large", f"The input is about {request.input_tokens} tokens, the limit is {limit}")
    return None


def _begun(started: Started) -> dict[str, Any]:
    return {
        **started.event.model_dump(include=_ATTEMPT_FIELDS),
        "started_position": started.position,
        "started_at": started.at,
    }


def _known(enrichment: Enrichment, outcome: Outcome) -> dict[str, Any]:
    simulated = {"provider_name": SIMULATOR} if outcome.simulated else {}
    return {
        **simulated,
        "called": outcome.called,
        "response_model": outcome.response_model,
        "response_id": outcome.response_id,
        "request_id": outcome.request_id,
        "finish_reason": outcome.finish_reason,
        "http_status": outcome.http_status,
        "latency_ms": outcome.latency_ms,
        "cost_microdollars": _spent(enrichment, outcome),
        **outcome.usage._asdict(),
    }


def _spent(enrichment: Enrichment, outcome: Outcome) -> int | None:
    """What the call cost, in micro-dollars: nothing when it was refused; None when price or tokens are not known."""
    usage = outcome.usage
    if outcome.http_status in REFUSED or (outcome.called and not outcome.sent):
        return 0
    if not outcome.called or usage.input_tokens is None or usage.output_tokens is None:
        return None
    tokens = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens or 0)
    answered = enrichment.priced._replace(model=outcome.response_model or enrichment.model)
    spent = cost(answered, *tokens)
    return cost(enrichment.priced, *tokens) if spent is None else spent
