"""What is recorded for an event as its stream stands: the rule of the open attempt."""

from __future__ import annotations

from eventlog.errors import Conflict
from eventlog.events import (
    BatchCancelled,
    ContentErased,
    EnrichmentDismissed,
    EnrichmentFailed,
    EnrichmentLateResult,
    EnrichmentRequested,
    EnrichmentStarted,
    EnrichmentSucceeded,
    Event,
)
from projections.status import Status, awaits_batch


def decide(stream_id: str, status: Status, event: Event) -> Event:
    """The event itself, or the late result that it has become. Raises `Conflict` when it must not be recorded.

    An end belongs to its attempt while that is the open one, whatever else was appended meanwhile.
    """
    running = status.state == "running"
    match event:
        case EnrichmentRequested(why="new") if status.version > 0:
            raise Conflict(stream_id=stream_id, reason="it is known already")
        case EnrichmentRequested(why="new" | "changed"):
            return event
        case _ if status.version == 0:
            raise Conflict(stream_id=stream_id, reason="nobody has requested it yet; import the posting first")
        case EnrichmentSucceeded() | EnrichmentFailed():
            open_ = running and event.attempt_id == status.attempt_id
            useful = isinstance(event, EnrichmentSucceeded) and late_success_is_used(event.attempt, status)
            end = event if open_ else _late(event, used=useful)
            return _without_content(end) if event.attempt <= status.erased_attempts else end
        case EnrichmentStarted() | EnrichmentRequested() | EnrichmentDismissed() if running:
            raise Conflict(stream_id=stream_id, reason="an attempt is in flight; wait until it has ended")
        case EnrichmentStarted(attempt=number) if number != status.attempts + 1:
            raise Conflict(stream_id=stream_id, reason=f"attempt {status.attempts + 1} is next, not {number}")
        case BatchCancelled(batch=batch) if not awaits_batch(status, batch):
            raise Conflict(stream_id=stream_id, reason="it does not wait for this batch, or not for it alone")
        case ContentErased() | _:
            return event


def late_success_is_used(attempt: int, status: Status) -> bool:
    """Whether a success that comes late is used: when nothing else has succeeded, and when it may keep its result."""
    return not status.successes and attempt > status.erased_attempts


def _late(event: EnrichmentSucceeded | EnrichmentFailed, *, used: bool) -> EnrichmentLateResult:
    known = EnrichmentLateResult.model_fields
    values = {name: value for name, value in event if name in known}
    outcome = "succeeded" if isinstance(event, EnrichmentSucceeded) else "failed"
    return EnrichmentLateResult.model_validate(values | {"outcome": outcome, "used": used})


def _without_content(event: Event) -> Event:
    """What came after an erasure is stored as facts only."""
    return event.model_copy(update=dict.fromkeys(event.content_fields))
