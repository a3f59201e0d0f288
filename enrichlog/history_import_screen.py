"""How an import of history looks in a terminal, before it is done or after."""

from __future__ import annotations

from collections.abc import Iterator

from enrichlog.history_report import HistoryImport
from enrichlog.screens import shortened
from enrichlog.terminal import advise, counted, one_line, say, table

_SHOWN_MESSAGE = 90


def show(found: HistoryImport) -> None:
    """What the rows told, the failures by their type, and what was left out and why."""
    would_be, count = "would be " if found.dry_run else "", found.succeeded + found.failed
    say(f"{found.table}: {counted(found.rows, 'row')}")
    if not count:
        say("There is nothing to import.")
    else:
        events = f" as {counted(found.events, 'event')}" if found.events else ""
        say(f"{counted(found.succeeded, 'result')} and {counted(found.failed, 'failure')} {would_be}imported{events}.")
    if found.failures:
        _failures(found)
    for number, told in _others(found):
        if number:
            say(advise(f"{number:,} {told}"))
    for one in found.unreadable:
        say(f"  {one_line(one.job_id) or '(no id)'}: {one_line(one.reason)}")
    if found.skipped > len(found.unreadable):
        say(f"  … and {found.skipped - len(found.unreadable):,} more")
    if found.events:
        say(advise(" ".join((*_where_they_are(found), "Prove the import with: enrichlog verify"))))


def _where_they_are(found: HistoryImport) -> Iterator[str]:
    """What shows the failures: one whose retry is awaited is none that `errors` counts."""
    if found.failed > found.awaiting:
        yield "See them with: enrichlog errors."
    if found.awaiting:
        yield "See how many are due, with those that await their retry: enrichlog enrich --dry-run."


def _failures(found: HistoryImport) -> None:
    rows = [
        (one.error_type, one.group, f"{one.count:,}", "yes" if one.retryable else "no", _first(one.example))
        for one in found.failures
    ]
    table(("Error type", "Group", "Failures", "Retryable", "The first message"), rows, numbers=("Failures",))


def _first(message: str) -> str:
    return shortened(one_line(message), _SHOWN_MESSAGE)


def _others(found: HistoryImport) -> list[tuple[int, str]]:
    """What else there is to know, each behind the number of rows that it is about."""
    retryable = sum(one.count for one in found.failures if one.retryable)
    there = ", those of them that the source brings" if found.without_posting else ""
    return [
        (retryable, f"may be tried again: the next enrichlog enrich, or a worker, takes them{there}."),
        (found.awaiting, "await a retry that was requested: they have an error and no time of completion."),
        (found.without_posting, "have no posting that the source brings: these are kept, and not tried."),
        (found.at_odds, "differ in columns of one field: the log has the first, and verify tells of the other."),
        (found.untried, "have neither an error nor a time of completion: never tried."),
        (found.known, "left as they are: the log knows more of their postings than that they are there."),
        (found.skipped, "left out, and so never tried for all the log knows, because they cannot be read:"),
    ]
