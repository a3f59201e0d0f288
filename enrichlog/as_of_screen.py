"""How reports of an earlier position of the log look in a terminal."""

from __future__ import annotations

from enrichlog import history_screen, screens
from enrichlog.as_of import AsOf
from enrichlog.moments import told_moment
from enrichlog.reports import Document, FailedPage
from enrichlog.terminal import say


def told(at: AsOf) -> str:
    """As of when, in words."""
    return f"as of position {at.position:,}, {told_moment(at.recorded_at)}"


def status(document: Document, at: AsOf) -> None:
    """Where everything stood."""
    say(f"Database: {document['database']}, {told(at)}")
    screens.standing(document)


def failed(page: FailedPage, at: AsOf, *, narrowed: bool) -> None:
    """The postings that had failed."""
    _head(at, "; titles and companies are those of today" if page.rows else "")
    screens.failed(page, narrowed=narrowed)


def errors(rows: list[Document], at: AsOf) -> None:
    """The error types with counts."""
    _head(at)
    screens.errors(rows)


def history(document: Document, at: AsOf) -> None:
    """What had happened to a posting."""
    _head(at)
    history_screen.show(document)


def _head(at: AsOf, more: str = "") -> None:
    words = told(at) + more
    say(words[0].upper() + words[1:])
