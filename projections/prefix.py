"""What the first events of the log add up to, folded stream by stream: a read model as of a position."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TypeVar

from eventlog.log import Recorded
from projections.projection import Projection

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
