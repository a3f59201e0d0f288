"""What the users' table shows of one posting: the result of its last success, or the error it ended with."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from eventlog.events import moment
from projections.projection import Foldable
from projections.status import Status

ERROR_CHARACTERS = 2_000
ERROR_BYTES = 2_500
"""How much of a message the table shows; an indexed text column refuses more. The event keeps all of it.

A B-tree of PostgreSQL's takes 2,704 bytes in a row of an index, its header included, and a character has up to four.
"""

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Stands for a value that no event has set: what the table has there is somebody else's."""

KEPT: Any = type("Kept", (), {"__repr__": lambda self: "KEPT"})()
"""Stands for a value that is in the table already and was not looked at."""


class Enriched(NamedTuple):
    """What the table shows of one posting.

    A result stays until a newer success replaces it, a success clears the error. While a failed posting waits for a
    requested retry, its time of completion is withheld: `ended_at` keeps it. `running` and `rerun` (requested again
    while an attempt runs) are not shown. A result that was `imported` is what the table had before us.
    """

    result: dict[str, Any] | None = UNSET
    model_version: str | None = UNSET
    error: str | None = None
    ended_at: datetime | None = None
    withheld: bool = False
    running: bool = False
    rerun: bool = False
    imported: bool = False

    @property
    def completed_at(self) -> datetime | None:
        """When the last attempt ended; null for a failed posting from a requested retry until that ends."""
        return None if self.withheld else self.ended_at


INITIAL = Enriched()


def fold(enriched: Enriched, event: Foldable) -> Enriched:
    """What the table shows after one more event."""
    facts, content = event.facts, event.content or {}
    match event.type:
        case "EnrichmentStarted":
            return enriched._replace(running=True)
        case "EnrichmentSucceeded":
            return _with_result(facts, content)
        case "EnrichmentLateResult" if facts["used"]:
            return _with_result(facts, content)._replace(running=enriched.running, rerun=enriched.rerun)
        case "EnrichmentFailed":
            return enriched._replace(
                error=cut(content.get("message") or facts["error_type"]), ended_at=moment(facts["occurred_at"]),
                withheld=enriched.rerun, running=False, rerun=False,
            )  # fmt: skip
        case "EnrichmentRequested" if enriched.running:
            return enriched._replace(rerun=True)
        case "EnrichmentRequested":
            return enriched._replace(withheld=enriched.error is not None)
        case "EnrichmentDismissed" | "BatchCancelled":
            return enriched._replace(withheld=False)
        case "ContentErased":
            result = UNSET if enriched.result is UNSET else None
            return enriched._replace(result=result, error=enriched.error and "content erased")
    return enriched


def has_result(event: Foldable) -> bool:
    """Whether an event brings a result that is shown from then on."""
    return event.type == "EnrichmentSucceeded" or (event.type == "EnrichmentLateResult" and event.facts["used"])


def _with_result(facts: dict[str, Any], content: dict[str, Any]) -> Enriched:
    model = facts["response_model"] if "response_model" in facts else facts.get("request_model")
    is_imported = facts["origin"] == "imported"
    return Enriched(content.get("result"), model, None, moment(facts["occurred_at"]), imported=is_imported)


def cut(message: str) -> str:
    """As much of a message as is shown."""
    short = message[:ERROR_CHARACTERS]
    if len(short) * 4 <= ERROR_BYTES:  # nearly always
        return short
    return short.encode("utf-8", "replace")[:ERROR_BYTES].decode("utf-8", "ignore")


def before(status: Status) -> Enriched:
    """What a stream's row is known to be from its status alone, so that live appends need not read the row."""
    running = status.state == "running"
    if status.completed_at is None:  # no attempt has ended: there is no row
        return INITIAL._replace(running=running, rerun=status.rerun)
    error = None if status.error_type is None else KEPT
    found = KEPT if status.successes else UNSET
    return Enriched(found, found, error, status.completed_at, status.awaiting, running, status.rerun)


def is_part(enriched: Enriched) -> bool:
    """Whether some of what is shown was not looked at: written alone, the rest would make a row of its own."""
    return any(value is KEPT for value in enriched)
