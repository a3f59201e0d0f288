"""The history of an adopted table, imported where it is adopted: or, before, what of it would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from enrichlog import history_import_screen
from enrichlog.history_import import count_history, import_history
from enrichlog.history_report import HistoryImport
from enrichlog.settings import Settings
from enrichlog.terminal import counted, counting, headline, paragraph
from eventlog.database import Database
from projections.catalogue import following
from projections.following import catch_up


def import_into(database: Database, settings: Settings, *, dry_run: bool, quiet: bool) -> HistoryImport:
    """Import it, or see what that would be."""
    with counting("Importing", count_history(database, settings), quiet=quiet) as notice:
        found = import_history(database, settings, dry_run=dry_run, progress=notice)
    if not dry_run and found.events:
        with counting("Following", found.events, quiet=quiet) as notice:
            follow(database, notice)
    return found


def follow(database: Database, notice: Callable[[int], None]) -> None:
    """Have what follows the log go on to its end: stats tell of an import at once."""
    for projection in following().values():
        catch_up(database, projection, progress=notice)


def told(found: HistoryImport) -> None:
    """What was imported, or would be."""
    headline("History")
    history_import_screen.show(found)


def told_left(count: int, flag: str) -> None:
    """That so many rows are history which the log does not know: else it would be paid for again without a word."""
    headline("History")
    rows = f"{counted(count, 'row')} with a result or an error that the log does not know"
    advice = "Have them imported before anything is enriched, or their postings are enriched again"
    paragraph(f"{rows}. {advice}: enrichlog adopt --import-history{flag}", indent=2)


def document(found: HistoryImport | None) -> dict[str, Any]:
    """It for scripts; nothing where none was asked for."""
    return {} if found is None else {"history": found.document()}
