"""The users' tables that a statement of theirs names, and which rights it takes on each, as far as its text tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection

from enrichlog.read_columns import without_texts
from eventlog.inspection import Found, Inspection

Rights = Mapping[str, Sequence[str] | None]
"""For each verb the columns; None for all of them."""

_PLACED = re.compile(
    r'\b(?:FROM|JOIN|UPDATE|INTO)\s+(?:ONLY\s+)?("[^"]+"|\w+)\s*\.\s*("[^"]+"|\w+)', re.IGNORECASE
)  # fmt: skip


def named_tables(
    inspection: Inspection, connection: Connection, sql: str, tables: Sequence[Found]
) -> Iterator[Found]:  # fmt: skip
    """Those of these tables that are named, and those that are named with a schema."""
    bare = without_texts(sql)
    yield from (table for table in tables if _is_named(bare, table.name))
    known = {(table.schema, table.name) for table in tables}
    for schema, name in sorted({(_plain(found[1]), _plain(found[2])) for found in _PLACED.finditer(bare)}):
        table = inspection.table(connection, schema, name)
        if table is not None and (table.schema, table.name) not in known:
            yield table


def rights_of(sql: str, table: Found) -> Rights:
    """What a statement needs that reads the table or changes its rows."""
    bare, place = without_texts(sql), rf'(?:ONLY\s+)?(?:(?:"[^"]+"|\w+)\s*\.\s*)?"?{re.escape(table.name)}"?(?!\w)'
    rights: dict[str, Sequence[str] | None] = {"SELECT": None}
    if re.search(rf"\bINTO\s+{place}", bare, re.IGNORECASE):
        rights["INSERT"] = None
    if found := re.search(rf"\bUPDATE\s+{place}.*?\bSET\b(.*?)(?:\bWHERE\b|$)", bare, re.IGNORECASE | re.DOTALL):
        told = re.findall(r'(?:^|,)\s*("[^"]+"|\w+)\s*=', found[1])
        rights["UPDATE"] = [name for name in map(_plain, told) if name in table.columns] or None
    if re.search(rf"\bDELETE\s+FROM\s+{place}", bare, re.IGNORECASE):
        rights["DELETE"] = None
    return rights


def is_read_from(sql: str, table: Found) -> bool:
    """Whether a statement surely reads the table: its name can be that of a column as well."""
    place = rf'(?:(?:"[^"]+"|\w+)\s*\.\s*)?"?{re.escape(table.name)}"?(?![\w(])'
    return re.search(rf"\b(?:FROM|JOIN)\b[\s(]*(?:ONLY\b[\s(]*)?{place}", without_texts(sql), re.IGNORECASE) is not None


def _is_named(sql: str, name: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql) is not None


def _plain(told: str) -> str:
    return told.strip('"') if told.startswith('"') else told.casefold()
