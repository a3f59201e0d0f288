"""What migrations leave to projections: tables that no migration makes, and which fold made the rows of each.

So a projection in a file of its own needs no migration: `init` makes its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlalchemy import Connection, Executable, Inspector, Table, delete, inspect
from sqlalchemy.schema import CreateIndex, CreateTable

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.errors import ColumnMissing, TableMissing, TableTrouble
from eventlog.further import Step
from eventlog.schema import OURS
from projections import catalogue
from projections.checkpoints import checkpoints, first_note, rebuilds
from projections.shown import place_of


def further(dialect: Dialect) -> list[Step]:
    """What is to be done once the migrations are, for all projections that there are."""
    return [*_tables(), *_first_notes(dialect)]


def _tables() -> Iterator[Step]:
    for table in (checkpoints, rebuilds):
        yield Step(_making(table), table.name)
    for name in catalogue.names():
        if not catalogue.is_users(name):
            table = catalogue.table_of(name)  # what is noted is of rows that went with their table
            yield Step((*_making(table), delete(checkpoints).where(checkpoints.c.projection == name)), table.name)


def _first_notes(dialect: Dialect) -> Iterator[Step]:
    for name in catalogue.names():
        note = first_note(dialect, name, catalogue.version_of(name), is_following=name in catalogue.following())
        yield Step((note,))


def find_trouble(database: Database, names: Iterable[str]) -> dict[str, TableTrouble]:
    """Those of these projections whose table somebody has dropped or altered, each with what to do."""
    with database.read() as connection:
        there = inspect(connection)
        found = {name: _trouble(database, there, name) for name in names}
    return {name: trouble for name, trouble in found.items() if trouble is not None}


def _trouble(database: Database, there: Inspector, name: str) -> TableTrouble | None:
    table, adopted = catalogue.table_of(name, database.adopted), database.adopted
    place = place_of(adopted) if catalogue.is_users(name) else table.name
    found = _columns(database, there, table)
    if found is None:
        remedy = _BY_INIT if not catalogue.is_users(name) else _OF_THEM if adopted else _BY_HAND
        return TableMissing(table=place, remedy=remedy, projection=name)
    lacking = [column.name for column in table.columns if column.name not in found]
    if not lacking:
        return None
    remedy = _ADD_THEIRS if catalogue.is_users(name) and database.adopted else _ADD_OURS
    return ColumnMissing(table=place, columns=" and ".join(lacking), remedy=remedy, projection=name)


def columns_there(connection: Connection, database: Database, table: Table) -> set[str] | None:
    """The names of the columns of a table; None where it is not there: nobody keeps its owner from dropping it."""
    return _columns(database, inspect(connection), table)


def _columns(database: Database, there: Inspector, table: Table) -> set[str] | None:
    schema = database.dialect.schema if table.schema == OURS else table.schema  # None: the search is the database's
    if not there.has_table(table.name, schema):
        return None
    return {column["name"] for column in there.get_columns(table.name, schema)}


_ADD_OURS = "Add it as enrichlog init --sql prints it"
_ADD_THEIRS = "Add it again, or take it out of [target.columns] in enrichlog.toml"
_BY_INIT = "Make it again with: enrichlog init"
_OF_THEM = "It is yours: make it again, or name another under [target] in enrichlog.toml"
_BY_HAND = "It is yours: make it again as enrichlog init --sql prints it"


def _making(table: Table) -> tuple[Executable, ...]:
    return CreateTable(table), *map(CreateIndex, sorted(table.indexes, key=lambda index: str(index.name)))
