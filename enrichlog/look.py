"""A look at an adopted database: what every check of the users' table needs to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from sqlalchemy import Connection

from enrichlog.result_fields import Field, Path
from eventlog.database import Database
from eventlog.inspection import Found, Inspection
from projections.adoption import Adopted, Target


class Look(NamedTuple):
    """What is adopted, the table of results as it is found, and the fields of the result."""

    database: Database
    connection: Connection
    adopted: Adopted
    found: Found
    fields: Mapping[Path, Field]

    @property
    def target(self) -> Target:
        """How the table is written to."""
        return self.adopted.target

    @property
    def inspection(self) -> Inspection:
        """Whom to ask for more."""
        return self.database.dialect.inspection

    @property
    def role(self) -> str:
        """Who is connected, as SQL."""
        return self.inspection.role(self.connection)

    @property
    def sql(self) -> str:
        """The table, as SQL."""
        return place_of(self.found, self.quote)

    @property
    def quote(self) -> Callable[[str], str]:
        """A name as SQL, in quotes where it needs them."""
        return quoting(self.database)


def quoting(database: Database) -> Callable[[str], str]:
    """How a name is spelt in the SQL of a database: in quotes where it needs them."""
    return database.engine.dialect.identifier_preparer.quote


def place_of(table: Found, quote: Callable[[str], str]) -> str:
    """A table as SQL."""
    return f"{quote(table.schema)}.{quote(table.name)}" if table.schema else quote(table.name)
