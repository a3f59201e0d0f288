"""Moments as people read them; documents for scripts have them to the microsecond."""

from __future__ import annotations

from datetime import datetime

from eventlog.events import moment

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60))


def told_moment(at: datetime | None) -> str:
    """A moment in UTC, to the second; a dash where there is none."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "-"


def told_exactly(at: datetime) -> str:
    """The same with what it has of a second beside: where two moments of one second are told apart."""
    return told_moment(at) if not at.microsecond else f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"


def told_age(at: datetime, now: datetime) -> str:
    """How long ago a moment was, in the largest unit that fits: 45 s ago, 12 m ago, 5 h ago, 3 d ago."""
    seconds = max(0, round((now - at).total_seconds()))
    unit, length = next(((unit, length) for unit, length in _UNITS if seconds >= length), ("s", 1))
    return f"{seconds // length:,} {unit} ago"


def told_time(text: str | None) -> str:
    """The same of a time that is text in a document."""
    return told_moment(moment(text) if text else None)
