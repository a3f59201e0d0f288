"""What an adoption changes in the users' tables: a column for errors, and an index that finds them."""

from __future__ import annotations

import re
from itertools import count
from typing import NamedTuple

from sqlalchemy import Connection

from enrichlog.adopt_source import Quote
from enrichlog.look import place_of
from eventlog.inspection import Found, Inspection
from projections.adoption import Target

MANY_ROWS = 100_000
"""From here on an index is made beside those who write, which takes longer and is no part of the transaction."""


class Changes(NamedTuple):
    """Statements within the transaction, and the one after it that runs in none; `back` has those that undo them.

    `adds` is the column that is made, `makes` the name of the index as SQL. `doubtful` would undo what is there
    already: it may be of an earlier adoption, or theirs.
    """

    within: tuple[str, ...] = ()
    aside: str | None = None
    back: tuple[str, ...] = ()
    adds: str | None = None
    makes: str | None = None
    doubtful: tuple[str, ...] = ()

    @property
    def statements(self) -> tuple[str, ...]:
        """All of them in order."""
        return (*self.within, self.aside) if self.aside else self.within


def changes_of(target: Target, found: Found, inspection: Inspection, quote: Quote, *, index: str | None) -> Changes:
    """What is missing in the table, with an index of this name, if any; nothing where it has all.

    Whoever drops the column drops its index with it.
    """
    error = target.of_kind("error")
    if error is None or not found.is_table:
        return Changes()
    place = place_of(found, quote)
    is_lacking = error not in found.columns
    name = _placed(found, index, quote) if index is not None and not _is_indexed(found, error) else None
    column = inspection.add_text(place, quote(error)) if is_lacking else None
    making = _making(target, quote(index), error, place, quote) if index is not None and name else None
    aside = inspection.aside(making) if making and found.rows >= MANY_ROWS else None
    within = tuple(statement for statement in (column, None if aside else making) if statement)
    dropping = inspection.drop_column(place, quote(error))
    back = (*([_dropping(name)] if name else []), *([dropping] if is_lacking else []))
    there = [_dropping(_placed(found, one, quote)) for one in _like_ours(found, error)]
    doubtful = (*there, *([] if is_lacking else [dropping]))
    return Changes(within, aside, back, error if is_lacking else None, name, doubtful)


def index_name(found: Found) -> str:
    """How the index is called, unless another thing has that name."""
    return f"{found.name.encode()[:50].decode(errors='ignore')}_failed"


def free_index_name(connection: Connection, inspection: Inspection, found: Found) -> str:
    """How the index is called where that name may be taken."""
    first = index_name(found)
    names = (first if number == 1 else f"{first}_{number}" for number in count(1))
    return next(name for name in names if not inspection.is_taken(connection, found.schema, name))


def _making(target: Target, name: str, error: str, place: str, quote: Quote) -> str:
    """Failed rows only, by when they failed: both usual queries read it, and no message is too long for it."""
    by = target.of_kind("completed_at") or target.id_column
    return f"CREATE INDEX IF NOT EXISTS {name} ON {place} ({quote(by)}) WHERE {quote(error)} IS NOT NULL"


def _dropping(name: str) -> str:
    return f"DROP INDEX IF EXISTS {name}"


def _placed(found: Found, index: str, quote: Quote) -> str:
    """An index of the table as SQL: it lies in the schema of its table."""
    return f"{quote(found.schema)}.{quote(index)}" if found.schema else quote(index)


def _is_indexed(found: Found, error: str) -> bool:
    return any(one.is_valid and error in one.mentions for one in found.indexes)


def _like_ours(found: Found, error: str) -> list[str]:
    """The indexes of the column that are called as ours would be."""
    ours = re.compile(rf"{re.escape(index_name(found))}(_\d+)?")
    return [one.name for one in found.indexes if ours.fullmatch(one.name) and error in one.mentions]
