"""What an outage costs a posting: nothing. A failure of the provider while its breaker is not closed is not counted."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from eventlog.events import EnrichmentFailed, Event, moment
from eventlog.log import Decided, Proposal, Recorded
from projections import breaker as breaker_model
from projections.breaker import Breaker
from projections.spanning import load

UNNUMBERED = 2**62
"""Stands for a position to come: greater than that of any start."""

NOT_COUNTED = {"counts": False, "max_deferrals": None, "max_deferred_seconds": None}


class Outage:
    """The breakers as they stand before an append, moved along as its events are decided.

    The breaker itself moves only under the log lock; until then this is what is known, and good enough to tell whether
    a failure is one more of a streak: what the event says of it is what every fold reads.
    """

    def __init__(self, breakers: dict[tuple[str, ...], Breaker]) -> None:
        self._breakers = breakers

    def judged(self, event: Event) -> Event:
        """The event, without a claim on the posting's budget when its failure is part of an outage."""
        if not isinstance(event, EnrichmentFailed) or event.fault != "provider" or event.origin != "call":
            return event
        breaker = self._breakers.get((event.endpoint or "", event.request_model or "", event.credential or ""))
        is_part = breaker is not None and (breaker.state != "closed" or breaker.is_stale(event.started_position))
        return event.model_copy(update=NOT_COUNTED) if is_part else event

    def fold(self, decided: Decided) -> None:
        """Move the breaker that an event is about."""
        at = moment(decided.facts["occurred_at"])
        event = Recorded(UNNUMBERED, decided.event_id, *decided[:2], decided.type, at, decided.facts, None)
        key = breaker_model.key(event) if event.type in breaker_model.projection.types else None
        if key is not None:
            self._breakers[key] = breaker_model.fold(self._breakers.get(key, Breaker()), event)


def before(connection: Connection, proposals: Sequence[Proposal]) -> Outage | None:
    """The breakers of these proposals; None when no failure of a provider is among them."""
    ends = [p.event for p in proposals if isinstance(p.event, EnrichmentFailed) and p.event.origin == "call"]
    keys = {(e.endpoint, e.request_model, e.credential) for e in ends if e.fault == "provider"}
    named = {key for key in keys if None not in key}
    return Outage(load(connection, breaker_model.projection, named)) if named else None
