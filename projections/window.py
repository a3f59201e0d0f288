"""The tokens of the last minute, by the second in which their calls began. Pure: no clock, no table.

A second holds what its calls may take while they run, and what they took once they have ended. A minute touches 61
seconds at the most: while these together keep to the limit, the calls that begin in any minute do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import orjson

SECONDS = 61
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)


class Window(NamedTuple):
    """The seconds (since 1970) in order, each with its tokens; those without any are left out."""

    seconds: tuple[tuple[int, int], ...] = ()

    @property
    def empty_at(self) -> datetime | None:
        """When the last of it will have left."""
        return _leaves_at(self.seconds[-1][0]) if self.seconds else None

    def on(self, now: datetime) -> Window:
        """Without what has left; what is more than a minute ahead is of a clock that has been set back since."""
        ours = _second(now)
        return Window(tuple(one for one in self.seconds if abs(one[0] - ours) < SECONDS))

    def tokens(self, now: datetime) -> int:
        """The tokens of all seconds together."""
        return sum(tokens for _, tokens in self.on(now).seconds)

    def may_begin_at(self, now: datetime, need: int, per_minute: int) -> datetime:
        """From when on a need may begin: once there is room for it, or for one that never has room, once all is free.

        That is when enough seconds have left; calls that take less than they might make room earlier.
        """
        seconds, most = self.on(now).seconds, max(0, per_minute - need)
        taken, at = sum(tokens for _, tokens in seconds), now
        for second, tokens in seconds:
            if taken <= most:
                break
            taken, at = taken - tokens, _leaves_at(second)
        return at

    def begin(self, now: datetime, need: int, per_minute: int) -> Window | None:
        """The window after this need has begun now; None when it may not begin now."""
        if self.may_begin_at(now, need, per_minute) > now:
            return None
        tokens = dict(self.on(now).seconds)
        return _window(tokens | {_second(now): tokens.get(_second(now), 0) + need})

    def settled(self, now: datetime, began_at: datetime, change: int) -> Window:
        """The window once a call took so many more tokens, or less, than it has; one that has left is not touched."""
        tokens, second = dict(self.on(now).seconds), _second(began_at)
        return _window(tokens | {second: max(0, tokens[second] + change)}) if second in tokens else self

    def text(self) -> str | None:
        """The window as it is stored: a JSON list of pairs."""
        return orjson.dumps(self.seconds).decode() if self.seconds else None


def window_of(text: str | None) -> Window:
    """The window that a text tells."""
    return Window(tuple((second, tokens) for second, tokens in orjson.loads(text))) if text else Window()


def _window(tokens: dict[int, int]) -> Window:
    return Window(tuple(sorted((second, some) for second, some in tokens.items() if some)))


def _second(moment: datetime) -> int:
    return (moment - _EPOCH) // _SECOND


def _leaves_at(second: int) -> datetime:
    return _EPOCH + (second + SECONDS) * _SECOND
