"""The query of postings that is proposed: their table, joined with those that have the company and the description."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from enrichlog.adopt_names import (
    COMPANIES,
    COMPANY_NAMES,
    COMPANY_TABLES,
    DESCRIPTIONS,
    FURTHER,
    POSTINGS,
    TITLES,
    first_of,
)
from enrichlog.look import place_of
from eventlog.inspection import Column, Found, Reference

Quote = Callable[[str], str]
_TEXTS = re.compile(r"text|char|^$|clob|json|enum|name|string")


class Joined(NamedTuple):
    """A column of ours with the SQL that has it, and the join that it needs."""

    name: str
    sql: str
    join: str = ""


def postings_of(tables: Sequence[Found], target: Found | None, id_column: str | None) -> Found | None:
    """The table that has the postings: that which the results refer to, else one with a usual name."""
    referred = [one for one in (target.references if target else ()) if id_column in (None, one.column)]
    for reference in referred:
        for table in tables:
            if (table.schema, table.name) == (reference.schema, reference.table) and first_of(TITLES, table.columns):
                return table
    named = {table.name: table for table in tables if table is not target}
    name = first_of(POSTINGS, named)
    return named[name] if name else None


def key_of(table: Found) -> str:
    """The column that has the ids of a table."""
    return "id" if "id" in table.columns else next(iter(sorted(table.unique)), "id")


def query_of(tables: Sequence[Found], postings: Found, where: str | None, quote: Quote) -> tuple[str, list[str]]:
    """The query, and which columns that it should have were not to be found."""
    key = key_of(postings)
    company, description = _company(tables, postings, quote), _description(tables, postings, key, quote)
    title = first_of(TITLES, postings.columns)
    found = [
        None if title is None else Joined("title", _text(postings.columns[title], "posting", quote)),
        company, description, *_further(postings, quote),
    ]  # fmt: skip
    columns = [_named(f"posting.{quote(key)}", "id"), *(_named(one.sql, one.name) for one in found if one)]
    joins = [one.join for one in found if one and one.join]
    lines = [f"SELECT {', '.join(columns)}", f"FROM {place_of(postings, quote)} posting", *joins]
    if where:
        lines.append(f"WHERE {where}")
    there = {one.name for one in found if one}
    return "\n".join(lines), [name for name in ("title", "description") if name not in there]


def _company(tables: Sequence[Found], postings: Found, quote: Quote) -> Joined | None:
    if own := first_of(COMPANIES, _texts(postings)):
        return Joined("company", _text(postings.columns[own], "posting", quote))
    for reference in postings.references:
        told = f"{reference.table} {reference.column}".casefold()
        table = _referred(tables, reference)
        name = (
            first_of(COMPANY_NAMES, table.columns) if table and any(word in told for word in COMPANY_TABLES) else None
        )
        if table and name:
            on = f"company.{quote(reference.referred)} = posting.{quote(reference.column)}"
            join = f"LEFT JOIN {place_of(table, quote)} company ON {on}"
            return Joined("company", _text(table.columns[name], "company", quote), join)
    return None


def _description(tables: Sequence[Found], postings: Found, key: str, quote: Quote) -> Joined | None:
    if own := first_of(DESCRIPTIONS, _texts(postings)):
        return Joined("description", _text(postings.columns[own], "posting", quote))
    for table, reference in sorted(_referring(tables, postings), key=lambda one: one[1].column not in one[0].unique):
        name = first_of(DESCRIPTIONS, _texts(table))
        if name is not None:
            on = f"described.{quote(reference.column)} = posting.{quote(key)}"
            join = f"LEFT JOIN {place_of(table, quote)} described ON {on}"
            return Joined("description", _text(table.columns[name], "described", quote), join)
    return None


def _further(postings: Found, quote: Quote) -> Iterator[Joined]:
    for ours, known in FURTHER.items():
        if (name := first_of(known, _texts(postings))) is not None:
            yield Joined(ours, _text(postings.columns[name], "posting", quote))


def _texts(table: Found) -> list[str]:
    return [name for name, column in table.columns.items() if _TEXTS.search(column.type) or column.labels]


def _text(column: Column, table: str, quote: Quote) -> str:
    told = f"{table}.{quote(column.name)}"
    is_text = re.match(r"text|char|varchar|citext|$", column.type)
    return told if is_text else f"CAST({told} AS text)"


def _named(told: str, name: str) -> str:
    return told if told.endswith(f".{name}") else f"{told} AS {name}"


def _referred(tables: Iterable[Found], reference: Reference) -> Found | None:
    place = (reference.schema, reference.table)
    return next((table for table in tables if (table.schema, table.name) == place), None)


def _referring(tables: Iterable[Found], postings: Found) -> Iterator[tuple[Found, Reference]]:
    for table in tables:
        for reference in table.references:
            if (reference.schema, reference.table) == (postings.schema, postings.name):
                yield table, reference
