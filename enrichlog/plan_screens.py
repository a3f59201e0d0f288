"""How what would be done looks in a terminal, before it is done or beside what was."""

from __future__ import annotations

from typing import Any

from enrichlog.reclassify import Difference, Reclassification
from enrichlog.terminal import advise, counted, one_line, say, table

_SHOWN_IDS = 3
_WORDS: dict[Any, str] = {None: "none", True: "yes", False: "no"}


def reclassified(found: Reclassification) -> None:
    """Which failures are read differently today, and what that changes."""
    rows = [
        (one.previous_error_type, one.error_type, f"{one.count:,}", _changes(one), _first(one))
        for one in found.differences
    ]
    if rows:
        table(("Error type", "Today", "Postings", "What changes", "Job ids"), rows, numbers=("Postings",))
    for job_id in found.moved_on:
        say(f"{one_line(job_id)} was left: it has moved on meanwhile")
    say(advise(f"{counted(found.examined, 'failed posting')}: {_told(found)}"))


def _told(found: Reclassification) -> str:
    if not found.count:
        return "today's rules read them all the same."
    are = "is" if found.count == 1 else "are"
    if found.dry_run:
        return f"{found.count:,} {are} read differently today. Nothing was recorded; that does: enrichlog reclassify"
    return f"{found.count:,} {are} read differently now. See: enrichlog errors"


def _changes(one: Difference) -> str:
    words = (f"{name} {_word(before)} → {_word(after)}" for name, (before, after) in one.changes.items())
    return ", ".join(words) or "-"


def _word(value: Any) -> str:
    return _WORDS[value] if value is None or isinstance(value, bool) else str(value)


def _first(one: Difference) -> str:
    shown = ", ".join(one_line(job_id) for job_id in one.job_ids[:_SHOWN_IDS])
    return f"{shown}, …" if one.count > _SHOWN_IDS else shown
