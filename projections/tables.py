"""What migrations leave to projections: tables that no migration makes, and which fold made the rows of each.

So a projection in a file of its own needs no migration: `init` makes its table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlalchemy import Executable, Table, delete
from sqlalchemy.schema import CreateIndex, CreateTable

from eventlog.dialects import Dialect
from eventlog.migration import Further
from projections import catalogue
from projections.checkpoints import checkpoints, first_note


def further(dialect: Dialect) -> Further:
    """What is to be done once the migrations are, for all projections that there are."""

    def statements(is_there: Callable[[str], bool]) -> Iterator[Executable]:
        lost = [name for name in catalogue.names() if not catalogue.is_users(name) and not is_there(_table(name))]
        for table in catalogue.tables_of_ours():
            if not is_there(table.name):
                yield from _making(dialect, table)
        for name in lost:  # what is noted is of rows that went with their table
            yield delete(checkpoints).where(checkpoints.c.projection == name)
        for name in catalogue.names():
            yield first_note(dialect, name, catalogue.version_of(name), is_following=name in catalogue.following())

    return statements


def _table(name: str) -> str:
    return catalogue.table_of(name).name


def _making(dialect: Dialect, table: Table) -> Iterator[Executable]:
    yield CreateTable(table)
    yield from (CreateIndex(index) for index in sorted(table.indexes, key=lambda index: str(index.name)))
    yield from dialect.closing(table)
