"""What the first events of the log add up to, folded stream by stream: a read model as of a position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from eventlog.log import Recorded
from projections.projection import Projection, Row

S = TypeVar("S")


def states(projection: Projection[S], events: Iterable[Recorded]) -> Iterator[tuple[str, S]]:
    """Each stream and what these events, which come stream by stream, add up to."""
    for stream_id, told in groupby(events, lambda event: event.stream_id):
        state = projection.initial
        for event in told:
            state = projection.fold(state, event)
        yield stream_id, state


def moves(projection: Projection[S], events: Iterable[Recorded], after: int) -> Iterator[tuple[str, S | None, S]]:
    """Each stream, what its events up to a position add up to (None where it has none), and what all of them do."""
    for stream_id, told in groupby(events, lambda event: event.stream_id):
        before, state = None, projection.initial
        for event in told:
            state = projection.fold(state, event)
            if event.position <= after:
                before = state
        yield stream_id, before, state


class Cause(NamedTuple):
    """The event that gave a column the value it has, and whether that was imported."""

    position: int
    version: int
    type: str
    recorded_at: datetime
    imported: bool = False


class Explained(NamedTuple):
    """The row that the events of one stream add up to, None for none yet, and for each of its columns the cause."""

    row: Row | None
    causes: dict[str, Cause]


def explain(projection: Projection[Any], stream_id: str, events: Iterable[Recorded]) -> Explained:
    """Fold the events of one stream one by one, and note at which of them each column last changed."""
    state, causes = projection.initial, dict[str, Cause]()
    row: Row | None = None
    for event in events:
        state = projection.fold(state, event)
        before, row = row or {}, projection.row(stream_id, state)
        cause = Cause(
            event.position, event.version, event.type, event.recorded_at, event.facts.get("origin") == "imported"
        )
        causes |= {name: cause for name, value in (row or {}).items() if name not in before or before[name] != value}
    return Explained(row, causes)
