"""What is asked of a database about the users' tables and queries: how they are read, written and found by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Executable, Table
from sqlalchemy.exc import DBAPIError

Row = Mapping[str, Any]


class UsersTables(Protocol):
    """How the users' tables and queries are read and written."""

    def insert_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        """Insert rows of like columns; one that somebody else has inserted meanwhile is updated. Returns how many."""
        ...

    def update_rows(self, connection: Connection, table: Table, rows: Sequence[Row]) -> int:
        """Update rows of like columns, each found by the key in it; returns how many were there.

        Not an insert that becomes an update: constraints would look at a row of these columns alone, and refuse it.
        """
        ...

    def learns(self, connection: Connection, table: Table, error: DBAPIError) -> bool:
        """Whether rows were refused for what was not known of a table of the users', and is from now on."""
        ...

    def with_column(self, error: DBAPIError, table: Table, row: Row) -> str | None:
        """Why a row was refused, where the database does not say for which of its columns; None where it does."""
        ...

    def held(
        self, connection: Connection, table: Table, where: ColumnElement[bool], asked: Row
    ) -> list[dict[str, Any]]:
        """Rows of a table of the users' as it holds them: keys as texts, values as JSON has them, moments as texts.

        A value that cannot be read is `Unread`.
        """
        ...

    def enter(self, connection: Connection) -> None:
        """Have the locks of others be waited for hardly at all from now on."""
        ...

    def leave(self, connection: Connection) -> None:
        """Have the constraints of what was written be checked now, not as the transaction commits."""
        ...

    def columns_of(self, connection: Connection, schema: str | None, table: str) -> dict[str, str]:
        """The columns of a table or view of the users' with their types as spelt there; none when it is not there."""
        ...

    def columns_of_query(self, connection: Connection, query: Executable) -> dict[str, str]:
        """The columns of a query with their types; on SQLite, where a query has none, with empty ones."""
        ...

    def as_key(self, text: ColumnElement[str], kind: str) -> ColumnElement[Any]:
        """A text as a value of a column of this type, so that its index is used; null for what can be none."""
        ...

    def is_key(self, column: ColumnElement[Any], kind: str, parameter: str) -> ColumnElement[bool]:
        """Whether a column of this type is, as text, one of those that the parameter of that name brings."""
        ...

    def takes_key(self, kind: str) -> bool:
        """Whether columns of this type can be keys of postings."""
        ...

    def takes_text(self, kind: str) -> bool:
        """Whether columns of this type hold texts."""
        ...

    def reading_only(self, connection: Connection) -> AbstractContextManager[None]:
        """Have the rest of a transaction that begins refuse to write."""
        ...

    def lacking_grants(self, connection: Connection, sql: str) -> list[str]:
        """The statements that give this role the rights it lacks to read what a query of the users' names."""
        ...
