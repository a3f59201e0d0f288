"""Moments as people read them; documents for scripts have them to the microsecond."""

from __future__ import annotations

from datetime import datetime

from eventlog.events import moment


def told_moment(at: datetime | None) -> str:
    """A moment in UTC, to the second; a dash where there is none."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "-"


def told_time(text: str | None) -> str:
    """The same of a time that is text in a document."""
    return told_moment(moment(text) if text else None)
