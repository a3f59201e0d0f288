"""Which columns of a users' row someone has corrected by hand: those whose value no event of its history gave it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from projections.drift import Difference, are_alike
from projections.projection import Foldable, Projection, Row


def find_edited(projection: Projection[Any], difference: Difference, story: Sequence[Foldable]) -> frozenset[str]:
    """The differing columns whose live values were never those of the row, at any time of the story, by any fold.

    A column without a value was not corrected: it is as it was before the first attempt, or before it was added.
    """
    edited = {name: live for name, (live, _) in difference.columns.items() if live is not None}
    by: Projection[Any] | None = projection
    while by is not None and edited:
        for row in _rows(by, difference.stream_id, story):
            edited = {name: live for name, live in edited.items() if name not in row or not are_alike(live, row[name])}
        by = by.former
    return frozenset(edited)


def _rows(projection: Projection[Any], stream_id: str, story: Sequence[Foldable]) -> Iterator[Row]:
    """What the row was after each event, from the first on that gave one."""
    state = projection.initial
    for event in story:
        state = projection.fold(state, event)
        row = projection.row(stream_id, state)
        if row is not None:
            yield row
