"""An adopted database: whose postings and table of results were there before us, and how these are read and written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Connection, Subquery, TextClause, column, text

from eventlog.database import Database

Kind = Literal["error", "completed_at", "model_version", "result", "constant"]


def escaped(sql: str, *parameters: str) -> str:
    """SQL of the users' for `sqlalchemy.text`: nothing that a colon stands before is a parameter but these."""
    named = "|".join(rf"{re.escape(name)}\b" for name in parameters) or "(?!)"
    return re.sub(rf"(?<!:):(?!(?:{named}))|(?<=:):", r"\\:", sql)


@dataclass(frozen=True)
class Source:
    """The users' query over their postings, as it is in the settings.

    `typed` has its columns, each with its type in the database's words (on SQLite: none); empty until looked up.
    """

    query: str
    typed: tuple[tuple[str, str], ...] = ()

    @property
    def types(self) -> Mapping[str, str]:
        """The type of each column."""
        return dict(self.typed)

    @property
    def of_no_rows(self) -> TextClause:
        """The query as a table of another, of which nothing is read: it stands on lines of its own, since its last may
        end with a comment.
        """
        return text(f"SELECT * FROM ({self._lines}) AS source LIMIT 0")

    def as_table(self, names: Iterable[str]) -> Subquery:
        """The query as a table of these of its columns, for queries of ours."""
        return text(self._lines).columns(*map(column, names)).subquery("source")

    @property
    def _lines(self) -> str:
        return f"\n{escaped(self.query)}\n"


@dataclass(frozen=True)
class Mapped:
    """A column of the users' table, and what is written there: a field of the result by its path, a constant, or what
    the log knows of the last attempt.
    """

    column: str
    kind: Kind
    path: tuple[str, ...] = ()
    constant: Any = field(default=None, hash=False)


@dataclass(frozen=True)
class Target:
    """The users' table of results, which has one row for each posting; only its mapped columns are ever written.

    `schema` is None where the table is found by the search path. `after_success` is SQL of theirs, in which `:id` is
    the posting's id. `typed` has the table's columns with their types in the database's words; empty until looked up.
    """

    schema: str | None
    table: str
    id_column: str
    enrichment: str
    columns: tuple[Mapped, ...]
    after_success: str | None = None
    typed: tuple[tuple[str, str], ...] = ()

    @property
    def types(self) -> Mapping[str, str]:
        """The type of each column."""
        return dict(self.typed)

    @property
    def place(self) -> str:
        """The name of the table, for people."""
        return f"{self.schema}.{self.table}" if self.schema else self.table

    def of_kind(self, kind: Kind) -> str | None:
        """The first column of this kind."""
        return next((one.column for one in self.columns if one.kind == kind), None)


@dataclass(frozen=True)
class Adopted:
    """What the settings say of a database that was there before us."""

    source: Source
    target: Target

    @property
    def is_looked_up(self) -> bool:
        """Whether the types are known."""
        return bool(self.source.typed)

    def looked_up(self, database: Database, connection: Connection) -> Adopted:
        """The same with the types of all columns, as far as query and table can be had."""
        dialect = database.dialect
        of_source = dialect.theirs.columns_of_query(connection, self.source.of_no_rows)
        of_target = dialect.theirs.columns_of(connection, self.target.schema, self.target.table)
        return Adopted(
            replace(self.source, typed=tuple(of_source.items())), replace(self.target, typed=tuple(of_target.items()))
        )
