"""What the commands do that are asked as of an earlier position: find it, fold up to there, tell."""

from __future__ import annotations

from datetime import datetime

from enrichlog import as_of_reports, as_of_screen, terminal
from enrichlog.as_of import as_of
from enrichlog.selection import Selection
from enrichlog.settings import Settings
from eventlog.database import Database


def status(database: Database, enrichment: str, asked: int | datetime, *, as_json: bool) -> None:
    """How many postings were in which state, and what had been spent."""
    at = as_of(database, asked)
    with terminal.counting("Folding events", at.position, quiet=as_json) as progress:
        document = as_of_reports.status(database, enrichment, at, progress)
    terminal.print_json(document | {"as_of": at.document()}) if as_json else as_of_screen.status(document, at)


def errors(database: Database, enrichment: str, asked: int | datetime, *, as_json: bool) -> None:
    """How many postings had failed with each error type."""
    at = as_of(database, asked)
    with terminal.counting("Folding events", at.position, quiet=as_json) as progress:
        rows = as_of_reports.errors(database, enrichment, at, progress)
    if as_json:
        advised = [row | {"advice": terminal.advise(row["advice"])} for row in rows]
        terminal.print_json({"as_of": at.document(), "errors": advised})
    else:
        as_of_screen.errors(rows, at)


def failed(
    settings: Settings, database: Database, enrichment: str, asked: int | datetime, selection: Selection, limit: int,
    *, as_json: bool,
) -> None:  # fmt: skip
    """The postings that had failed, newest first."""
    at, most = as_of(database, asked), settings.max_attempts
    with terminal.counting("Folding events", at.position, quiet=as_json) as progress:
        page = as_of_reports.failed(database, enrichment, selection, limit, most, at, progress)
    if as_json:
        told = {"as_of": at.document(), "of_today": as_of_reports.OF_TODAY, "total": page.total, "failed": page.rows}
        terminal.print_json(told)
    else:
        as_of_screen.failed(page, at, narrowed=bool(selection.told()))


def history(database: Database, enrichment: str, job_id: str, asked: int | datetime, *, as_json: bool) -> None:
    """What had happened to a posting."""
    at = as_of(database, asked)
    document = as_of_reports.history(database, enrichment, job_id, at)
    terminal.print_json(document | {"as_of": at.document()}) if as_json else as_of_screen.history(document, at)
