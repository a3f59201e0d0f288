"""The rows of a projection that spans streams: folded from events, compared with those that are there, made equal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Connection, delete, select, tuple_

from eventlog.dialects import Dialect
from eventlog.folding import FOLD_ERRORS, unfoldable
from eventlog.log import Recorded
from projections.drift import EXAMPLES, Difference, Drift, difference
from projections.spanning import Key, SpanningProjection, key_of, store

S = TypeVar("S")
KEYS_TOGETHER = 100


def with_keys(projection: SpanningProjection[Any], found: Iterable[Recorded]) -> list[tuple[Key, Recorded]]:
    """Those of these events that are about some row, each with its key. Raises `Unfoldable`."""
    told, event = [], None
    try:
        for event in found:
            if (key := projection.key(event)) is not None:
                told.append((key, event))
    except FOLD_ERRORS as error:
        raise unfoldable(event, error) from error
    return told


def fold_into(projection: SpanningProjection[S], states: dict[Key, S], told: Iterable[tuple[Key, Recorded]]) -> None:
    """Move states by events, each by those of its key. Raises `Unfoldable`."""
    event = None
    try:
        for key, event in told:
            states[key] = projection.fold(states.get(key, projection.initial), event)
    except FOLD_ERRORS as error:
        raise unfoldable(event, error) from error


def live_rows(connection: Connection, projection: SpanningProjection[Any]) -> dict[Key, Any]:
    """All rows that are there, by key."""
    return {key_of(projection, row): row for row in connection.execute(select(projection.table))}


def note_drift(
    projection: SpanningProjection[Any], states: Mapping[Key, Any], live: Mapping[Key, Any], drift: Drift
) -> None:
    """Count the rows that are not what these states say, and those of which no state says anything."""
    drift.note([found for _, found in _differing(projection, states, live)], gone=0)
    extra = sorted(_told(key) for key in live.keys() - states.keys())
    drift.note_extra(extra[:EXAMPLES], len(extra))


def make_equal(
    connection: Connection, dialect: Dialect, projection: SpanningProjection[Any], states: Mapping[Key, Any],
    live: Mapping[Key, Any],
) -> int:  # fmt: skip
    """Make the rows these; returns how many were written. Rows of which no state says anything are removed."""
    differing = {key: states[key] for key, _ in _differing(projection, states, live)}
    store(connection, dialect, projection, differing)
    for some in some_at_a_time(live.keys() - states.keys()):
        connection.execute(delete(projection.table).where(tuple_(*projection.table.primary_key).in_(some)))
    return len(differing)


def some_at_a_time(keys: Iterable[Key]) -> Iterator[list[Key]]:
    """As many keys as one statement looks up."""
    left = iter(keys)
    while some := list(islice(left, KEYS_TOGETHER)):
        yield some


def _differing(
    projection: SpanningProjection[Any], states: Mapping[Key, Any], live: Mapping[Key, Any]
) -> Iterator[tuple[Key, Difference]]:
    for key, state in states.items():
        folded = projection.row(state)
        shown = None if key not in live else {name: live[key]._mapping[name] for name in folded}
        if found := difference(_told(key), shown, folded):
            yield key, found


def _told(key: Key) -> str:
    return " ".join(str(part) for part in key)
