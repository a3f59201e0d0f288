"""The types of columns by their names in a database: of ours, and as those of the users' are spelt."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column
from sqlalchemy.types import UserDefinedType

KINDS = {
    "BIGINT": "bigint",
    "INTEGER": "int",
    "SMALLINT": "smallint",
    "TEXT": "text",
    "BLOB": "bytea",
    "BOOLEAN": "bool",
    "JSON": "jsonb",
}
"""The types of our columns, by what SQLAlchemy calls them; others are moments."""


class Spelt(UserDefinedType[Any]):
    """The type of a column of the users', by its name in their database."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_: Any) -> str:
        return self.name


def kind_of(column: Column[Any]) -> str:
    """The name of a column's type in PostgreSQL."""
    return column.type.name if isinstance(column.type, Spelt) else KINDS.get(str(column.type), "timestamptz")
