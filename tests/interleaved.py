"""A log in which every type of event stands, of many streams, and its streams put together in other orders."""

from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, TypeVar

from eventlog.database import Database
from eventlog.events import BatchCancelled, BreakerSet, Event
from tests.builders import (
    cancelled,
    dismissed,
    erased,
    failed,
    offer,
    proposal,
    reclassified,
    requested,
    started,
    succeeded,
)

T = TypeVar("T")
OF: dict[str, Any] = {"endpoint": "https://api.example/v1", "credential": "c0ffee", "request_model": "model-1"}
TOOK: dict[str, Any] = {
    "input_tokens": 700,
    "output_tokens": 90,
    "cost_microdollars": 150,
    "latency_ms": 1_200,
    "http_status": 200,
}
BATCH = "nightly"


def begun(attempt: int = 1) -> Event:
    """A start that no breaker holds back: it is without a lease."""
    return started(attempt, **OF, lease_seconds=0, worker=f"worker-{attempt}")


def _of_provider(attempt: int = 1) -> Event:
    return failed(attempt, **OF, error_type="server_error", counts=False, http_status=503)


def stories() -> dict[str, list[Event]]:
    """What happens to each stream, oldest first."""
    postings: list[list[Event]] = [
        [requested(), begun(), succeeded(**OF, **TOOK)],
        [requested(batch=BATCH), begun(), _of_provider(), begun(2), succeeded(2, **OF, **TOOK)],
        [requested(), begun(), _of_provider(), begun(2), _of_provider(2), begun(3), _of_provider(3)],
        [requested(), begun(), failed(**OF, fault="posting"), requested("retry", batch=BATCH), cancelled(BATCH)],
        [requested(), begun(), failed(**OF, worker_died=True), begun(2), succeeded(**OF, **TOOK), dismissed()],
        [requested(), begun(), failed(**OF, fault="setup"), reclassified(), requested("force"), begun(2)],
        [requested(), begun(), succeeded(**OF, **TOOK), erased(), requested("changed", input_hash="new")],
    ]
    told = {f"{name}-{n}": list(story) for name in ("job", "summary") for n, story in enumerate(postings)}
    told |= {f"$breaker-{state}": [BreakerSet(**OF, state=state, actor="tests")] for state in ("closed", "open")}
    return told | {"$batch-1": [BatchCancelled(batch="of last year", actor="tests")]}


def live_through(database: Database, seed: int = 7) -> None:
    """Append all of them, some together, in one of the orders in which they can happen."""
    told = [(stream_id, event) for stream_id, event in interleaved(stories(), Random(seed))]
    while told:
        together, told = told[:3], told[3:]
        streams = {stream_id for stream_id, _ in together}
        for some in [together] if len(streams) == len(together) else [[one] for one in together]:
            offer(database, *(proposal(stream_id, event) for stream_id, event in some))


def interleaved(streams: dict[str, list[T]], random: Random) -> Iterator[tuple[str, T]]:
    """Everything of all streams, each in its own order, the streams among each other in any."""
    left = {name: iter(some) for name, some in streams.items()}
    order = [name for name, some in streams.items() for _ in some]
    random.shuffle(order)
    yield from ((name, next(left[name])) for name in order)


def by_stream(events: Sequence[Any]) -> dict[str, list[Any]]:
    """Events of a log, stream by stream."""
    found: dict[str, list[Any]] = {}
    for event in events:
        found.setdefault(event.stream_id, []).append(event)
    return found
