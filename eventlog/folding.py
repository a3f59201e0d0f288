"""Folding what the log holds: an event that a fold cannot take stops it with the event's position, and as our error."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

from eventlog.errors import Unfoldable


class Placed(Protocol):
    """What is told of an event that stops a fold."""

    @property
    def position(self) -> int: ...
    @property
    def type(self) -> str: ...


S = TypeVar("S")
E = TypeVar("E", bound=Placed)
FOLD_ERRORS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError)
"""What pure code raises for an event with other facts than it was written for."""


def fold_all(fold: Callable[[S, E], S], state: S, events: Iterable[E]) -> S:
    """The state after these events. Raises `Unfoldable` for the first that the fold cannot take."""
    event = None
    try:
        for event in events:
            state = fold(state, event)
    except FOLD_ERRORS as error:
        raise unfoldable(event, error) from error
    return state


def unfoldable(event: Placed | None, error: Exception) -> Exception:
    """What to raise in the place of one of `FOLD_ERRORS`, which the fold of this event has raised.

    Where there is no event yet it is no matter of a fold, and the error itself.
    """
    return error if event is None else Unfoldable(type=event.type, position=event.position, reason=reason_of(error))


def reason_of(error: Exception) -> str:
    """One of `FOLD_ERRORS` in words."""
    return f"it has no {error.args[0]}" if isinstance(error, KeyError) and error.args else str(error)
