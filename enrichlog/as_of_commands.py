"""What the commands do that are asked as of an earlier position: find it, prove the log up to there, fold it, tell."""

from __future__ import annotations

from datetime import datetime

from enrichlog import as_of_reports, as_of_screen, differences_screen, terminal
from enrichlog.as_of import AsOf, as_of, span
from enrichlog.differences import differences
from enrichlog.selection import Selection
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.integrity import require_sound_until


def proved(database: Database, asked: int | datetime | None, *, quiet: bool) -> AsOf:
    """A position of the log, or its head; up to there it is what was appended. Raises `LogUnsound` and as `as_of`."""
    at = as_of(database, asked)
    _prove(database, at, quiet=quiet)
    return at


def _prove(database: Database, at: AsOf, *, quiet: bool) -> None:
    with terminal.counting("Log", at.position, quiet=quiet) as progress:
        require_sound_until(database, at.position, progress)


def status(database: Database, enrichment: str, asked: int | datetime, *, as_json: bool) -> None:
    """How many postings were in which state, and what had been spent."""
    at = proved(database, asked, quiet=as_json)
    with terminal.counting("Folding events", at.position, quiet=as_json) as progress:
        document = as_of_reports.status(database, enrichment, at, progress)
    terminal.print_json(document | {"as_of": at.document()}) if as_json else as_of_screen.status(document, at)


def errors(database: Database, enrichment: str, asked: int | datetime, *, as_json: bool) -> None:
    """How many postings had failed with each error type."""
    at = proved(database, asked, quiet=as_json)
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
    at, most = proved(database, asked, quiet=as_json), settings.max_attempts
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


def diff(
    database: Database, enrichment: str, start: int | datetime, end: int | datetime | None, *, as_json: bool
) -> None:
    """What changed between two positions."""
    first, last = span(database, start, end)
    _prove(database, last, quiet=as_json)
    if as_json:
        document = differences_screen.Document()
        document.print(differences(database, enrichment, first.position, last.position, document.add))
        return
    with terminal.counting("Folding events", last.position - first.position, quiet=False) as progress:
        found = differences(database, enrichment, first.position, last.position, progress=progress)
    differences_screen.show(found)
