"""What an adoption changes in the users' tables: a column for errors, and an index that finds them."""

from __future__ import annotations

from typing import NamedTuple

from enrichlog.adopt_source import Quote
from enrichlog.look import place_of
from eventlog.inspection import Found, Inspection
from projections.adoption import Target

MANY_ROWS = 100_000
"""From here on an index is made beside those who write, which takes longer and is no part of the transaction."""


class Changes(NamedTuple):
    """Statements within the transaction, and the one after it that runs in none; `back` has those that undo them.

    `adds` is the column that is made.
    """

    within: tuple[str, ...] = ()
    aside: str | None = None
    back: tuple[str, ...] = ()
    adds: str | None = None

    @property
    def statements(self) -> tuple[str, ...]:
        """All of them in order."""
        return (*self.within, self.aside) if self.aside else self.within


def changes_of(target: Target, found: Found, inspection: Inspection, quote: Quote, *, index: bool) -> Changes:
    """What is missing in the table; nothing where it has all. Whoever drops the column drops its index with it."""
    error = target.of_kind("error")
    if error is None or not found.is_table:
        return Changes()
    place = place_of(found, quote)
    is_lacking = error not in found.columns
    column = inspection.add_text(place, quote(error)) if is_lacking else None
    making = _making(target, found, error, place, quote) if index and not _is_indexed(found, error) else None
    aside = inspection.aside(making) if making and found.rows >= MANY_ROWS else None
    within = [statement for statement in (column, None if aside else making) if statement]
    schema = f"{quote(found.schema)}." if found.schema else ""
    back = [f"DROP INDEX IF EXISTS {schema}{quote(index_name(found))}"]
    back += [inspection.drop_column(place, quote(error))] if is_lacking else []
    return Changes(tuple(within), aside, tuple(back), error if is_lacking else None)


def index_name(found: Found) -> str:
    """How the index is called."""
    return f"{found.name[:50]}_failed"


def _making(target: Target, found: Found, error: str, place: str, quote: Quote) -> str:
    """Failed rows only, by when they failed: both usual queries read it, and no message is too long for it."""
    by = target.of_kind("completed_at") or target.id_column
    name = quote(index_name(found))
    return f"CREATE INDEX IF NOT EXISTS {name} ON {place} ({quote(by)}) WHERE {quote(error)} IS NOT NULL"


def _is_indexed(found: Found, error: str) -> bool:
    return any(error in one.columns or error in one.text or one.name == index_name(found) for one in found.indexes)
