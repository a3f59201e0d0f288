"""How the history of a posting looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enrichlog.batches import SHORTEST_ID
from enrichlog.moments import told_time
from enrichlog.price import money
from enrichlog.reports import Document
from enrichlog.screens import shortened
from enrichlog.terminal import counted, one_line, say

IMPORTED = "imported"
_SHOWN_REPLY = 1_000


def show(document: Document) -> None:
    """Everything that happened to a posting."""
    say(f"{one_line(document['job_id'])}: {counted(len(document['events']), 'event')}")
    for event in document["events"]:
        told = one_line(_told(event))
        say(f"{event['version']:>3}. {told_time(event['recorded_at'])}  {event['type']:<21} {told}".rstrip())
        if reply := event["payload"].get("raw_head"):
            say(f"     The reply began: {shortened(one_line(reply), _SHOWN_REPLY)}")


def _told(event: Document) -> str:
    """An event's story in a few words."""
    facts = event["payload"]
    match event["type"]:
        case "EnrichmentRequested":
            batch = f", batch {facts['batch'][:SHORTEST_ID]}" if facts.get("batch") else ""
            return f"{facts['why']}{batch}, {_by(facts)}"
        case "EnrichmentStarted":
            by = "imported by" if facts["origin"] == IMPORTED else f"{facts.get('request_model', facts['origin'])}, by"
            return f"attempt {facts['attempt']}, {by} {facts['worker']}"
        case "EnrichmentSucceeded":
            return f"attempt {facts['attempt']}{_spent(facts)}"
        case "EnrichmentFailed" | "EnrichmentLateResult":
            message = facts.get("message") or facts.get("outcome") or "(erased)"
            return f"attempt {facts['attempt']}, {facts.get('error_type', 'late')}: {message}{_spent(facts)}"
        case "FailureReclassified":
            return f"{facts['previous_error_type']} → {facts['error_type']}, {_by(facts)}"
        case "BatchCancelled":
            return f"batch {facts['batch'][:SHORTEST_ID]}, {_by(facts)}"
    return _by(facts) if facts.get("actor") else ""


def _by(facts: Mapping[str, Any]) -> str:
    """Who did it and, where they have said it, why."""
    return f"by {facts['actor']}" + (f": {facts['reason']}" if facts.get("reason") else "")


def _spent(facts: Mapping[str, Any]) -> str:
    tokens = (facts.get("input_tokens") or 0) + (facts.get("output_tokens") or 0)
    parts = _imported(facts) if facts["origin"] == IMPORTED else []
    parts += [f"{tokens:,} tokens"] if tokens else []
    parts += [money(facts["cost_microdollars"])] if "cost_microdollars" in facts else []
    parts += [f"{facts['latency_ms']:,} ms"] if "latency_ms" in facts else []
    return f" ({', '.join(parts)})" if parts else ""


def _imported(facts: Mapping[str, Any]) -> list[str]:
    """Of an attempt that was there before us: when it ended, and which model answered."""
    model = [facts["response_model"]] if facts.get("response_model") else []
    return [f"imported, of {told_time(facts['occurred_at'])}", *model]
