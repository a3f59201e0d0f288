"""A row that was there before us as the events of the attempt that it came of, marked as imported."""

from __future__ import annotations

from typing import Any, NamedTuple

from enrichlog.attempt import End, Started, end_proposal, start_proposal
from enrichlog.errors import ErrorType
from enrichlog.noticing import event_id_of
from enrichlog.past_rows import PastRow
from enrichlog.retry import judged, wait_ms
from eventlog.events import EnrichmentFailed, EnrichmentRequested, EnrichmentStarted, EnrichmentSucceeded
from eventlog.log import Proposal
from projections.outage import NOT_COUNTED


class PastAttempt(NamedTuple):
    """What a row tells, of one stream.

    `kind` is that of its failure, None for a success; `is_awaiting` whether a retry of it was requested; `input_hash`
    that of the posting as it is now, None where the source does not have it.
    """

    stream_id: str
    row: PastRow
    kind: ErrorType | None
    is_awaiting: bool
    input_hash: str | None


def proposals(past: PastAttempt, actor: str, base_seconds: float) -> list[Proposal]:
    """The events of an attempt, the first of them that the posting was noticed.

    Their ids follow from the stream: offered again they are stored once.
    """
    stream_id, at = past.stream_id, past.row.happened_at
    noticed = EnrichmentRequested(why="new", actor=actor, input_hash=past.input_hash, occurred_at=at)
    start = EnrichmentStarted(
        attempt_id=event_id_of(stream_id, "imported"), attempt=1, origin="imported", worker=actor, lease_seconds=0,
        occurred_at=at,
    )  # fmt: skip
    started = Started(stream_id, start)
    told = [Proposal(stream_id, noticed, event_id_of(stream_id, "new"))]
    told += [start_proposal(started), end_proposal(started, _end(past, start, base_seconds))]
    if past.is_awaiting:
        requested = EnrichmentRequested(why="retry", actor=actor, occurred_at=at)
        told.append(Proposal(stream_id, requested, event_id_of(stream_id, "imported retry")))
    return told


def _end(past: PastAttempt, start: EnrichmentStarted, base_seconds: float) -> End:
    row, kind = past.row, past.kind
    known: dict[str, Any] = {
        "attempt_id": start.attempt_id, "attempt": start.attempt, "origin": start.origin, "called": False,
        "occurred_at": start.occurred_at,
    }  # fmt: skip
    if kind is None:  # which model was asked is not known by the one that answered: it may be a snapshot of that
        return EnrichmentSucceeded(**known, response_model=row.model_version, result=row.result)
    wait = wait_ms(kind, past.stream_id, 1, base=base_seconds) if kind.retryable else None
    return EnrichmentFailed(**known, **_verdict(kind), fault=kind.fault, wait_ms=wait, message=row.error)


def _verdict(kind: ErrorType) -> dict[str, Any]:
    """What a failure of this type means, but that it puts nothing off.

    The longest time that a posting may be put off would else be over, for one that failed long ago, as it fails again.
    """
    verdict = judged(kind)
    return verdict | (NOT_COUNTED if verdict["max_deferred_seconds"] is not None else {})
