"""A table of the users' as it is found: its columns, keys and indexes; and what is asked of a database about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from sqlalchemy import Connection, Engine

from eventlog.schema import OURS, metadata

Hidden = Literal["none", "some", "all"]
"""Which rows of a table row-level security keeps from the role that is connected."""


class Column(NamedTuple):
    """A column; `labels` are those of its enum, `is_generated` says that it cannot be written."""

    name: str
    type: str
    is_nullable: bool
    has_default: bool
    is_generated: bool
    labels: tuple[str, ...] = ()


class Reference(NamedTuple):
    """A foreign key of one column; `schema` is None where the table is found by the search path."""

    column: str
    schema: str | None
    table: str
    referred: str


class TableIndex(NamedTuple):
    """An index: the columns that it holds as they are, if it can be searched in order, and all that it mentions.

    One that was left half made is not valid: it is kept up, and serves nobody.
    """

    name: str
    columns: tuple[str, ...]
    mentions: frozenset[str]
    is_valid: bool = True


class Watch(NamedTuple):
    """A view over a table, or a trigger on it, with its SQL."""

    name: str
    text: str


@dataclass(frozen=True)
class Found:
    """A table or view; `schema` is None where it is found by the search path, `rows` is an estimate."""

    schema: str | None
    name: str
    columns: Mapping[str, Column]
    unique: frozenset[str] = frozenset()
    references: tuple[Reference, ...] = ()
    indexes: tuple[TableIndex, ...] = ()
    rows: int = 0
    is_table: bool = True
    key: Any = field(default=None, compare=False)

    @property
    def place(self) -> str:
        """Its name, for people."""
        return f"{self.schema}.{self.name}" if self.schema else self.name


class Inspection(Protocol):
    """What a database tells of the users' tables."""

    patience: Sequence[str]
    """Statements with which a transaction that alters a table of theirs begins, so that it waits briefly only."""

    def tables(self, connection: Connection) -> list[Found]:
        """The tables and views on the search path that are not ours."""
        ...

    def table(self, connection: Connection, schema: str | None, name: str) -> Found | None:
        """One table or view."""
        ...

    def is_taken(self, connection: Connection, schema: str | None, name: str) -> bool:
        """Whether a table, a view, an index or the like has this name."""
        ...

    def fits(self, kind: str, column: Column) -> bool:
        """Whether a column holds values of a kind as they are.

        Kinds are those of JSON, `array of string` and the like, `any`, and `moment`.
        """
        ...

    def takes_any_text(self, column: Column) -> bool:
        """Whether a column of texts takes them whatever their form, as one of times does not."""
        ...

    def longest(self, column: Column) -> int | None:
        """The most characters that the type of a column takes; None for any number."""
        ...

    def refused(self, connection: Connection, table: Found, column: Column, values: Sequence[Any]) -> list[Any]:
        """Those values that a column would refuse by its type, or by a check of it alone."""
        ...

    def views(self, connection: Connection, table: Found) -> list[Watch]:
        """The views over a table."""
        ...

    def ending_triggers(self, connection: Connection, table: Found) -> list[Watch]:
        """The triggers on a table that can end our transaction."""
        ...

    def invoking_triggers(self, connection: Connection, table: Found) -> list[str]:
        """The triggers on a table that look at or write to others, by the rights of whoever writes to it."""
        ...

    def late_keys(self, connection: Connection, table: Found, *, runs_more: bool) -> list[str]:
        """The other tables with foreign keys that refuse a whole commit, no row being refused for them before.

        None where nothing else is written with a row: it has no trigger, and `runs_more` says nothing else does.
        """
        ...

    def missing_grants(
        self, connection: Connection, table: Found, needs: Mapping[str, Sequence[str] | None], role: str | None = None
    ) -> list[str]:
        """The statements that give a role what it lacks; `needs` has the columns for each verb, None for all.

        It is the role that is connected, where none is named; one that is not there lacks what not everybody has.
        """
        ...

    def missing_policies(self, connection: Connection, table: Found, role: str, *, writes: bool) -> list[str]:
        """The statements that let a role see, and write, rows that row-level security hides from it altogether."""
        ...

    def missing_to_make(self, connection: Connection) -> list[str]:
        """The statements that let this role make what is ours, or use it where it is made."""
        ...

    def owner(self, connection: Connection, table: Found) -> str | None:
        """Who may alter a table, unless this role may."""
        ...

    def hidden(self, connection: Connection, table: Found) -> Hidden: ...

    def role(self, connection: Connection) -> str:
        """The name of the role that is connected, as SQL."""
        ...

    def is_same_type(self, one: str, other: str) -> bool:
        """Whether keys of these types compare without a cast."""
        ...

    def is_castable(self, one: str, other: str) -> bool:
        """Whether values of a type can be cast to another."""
        ...

    def is_key_type(self, spelt: str) -> bool:
        """Whether ids may have this type."""
        ...

    def add_text(self, place: str, column: str) -> str:
        """The statement that adds a column of texts; as often as wanted, where the database knows how."""
        ...

    def drop_column(self, place: str, column: str) -> str:
        """The statement that takes a column away, likewise."""
        ...

    def aside(self, statement: str) -> str | None:
        """A CREATE INDEX that lets others write meanwhile, in no transaction; None where there is no such."""
        ...

    def run_aside(self, engine: Engine, statement: str) -> None:
        """Run a statement in no transaction."""
        ...


def our_names() -> set[str]:
    """The names of the tables that are ours, and lie among theirs where there are no schemas."""
    return {table.name for table in metadata.tables.values() if table.schema == OURS} | {"alembic_version"}


def quoted(name: str) -> str:
    """An SQL identifier in quotes."""
    return '"' + name.replace('"', '""') + '"'
