"""Folding what the log holds: an event that a fold cannot take stops it with the event's position, and as our error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from eventlog.errors import Unfoldable

if TYPE_CHECKING:
    from eventlog.log import Recorded

S = TypeVar("S")
FOLD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What pure code raises for an event with other facts than it was written for."""


def fold_all(fold: Callable[[S, Recorded], S], state: S, events: Iterable[Recorded]) -> S:
    """The state after these events. Raises `Unfoldable` for the first that the fold cannot take."""
    event = None
    try:
        for event in events:
            state = fold(state, event)
    except FOLD_ERRORS as error:
        if event is None:  # it was not the fold
            raise
        raise unfoldable(event.type, event.position, error) from error
    return state


def unfoldable(kind: str, position: int, error: Exception) -> Unfoldable:
    """What to raise for an event of this type, in the place of one of `FOLD_ERRORS`."""
    missing = isinstance(error, KeyError) and error.args
    return Unfoldable(type=kind, position=position, reason=f"it has no {error.args[0]}" if missing else error)
