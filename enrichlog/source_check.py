"""Checks of the users' query over their postings: all that is wrong with it at once, each with what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

from sqlalchemy import Connection, func, or_, select

from enrichlog.exceptions import UnusableSource
from enrichlog.posting import Posting
from enrichlog.read_columns import without_texts
from enrichlog.users_postings import UsersPostings
from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.errors import DatabaseReadOnly, DatabaseRefused, EnrichlogError, RightMissing
from projections.adoption import Source as Query

NEEDED = ("id", "title", "description")
EXAMPLES = 5
WRITES = "It writes, or locks rows, and postings are only ever read: leave out FOR UPDATE, and what changes anything."
NO_ROW = (
    "It brings no row: see what its WHERE leaves out and, where a table has row-level security, whether a policy lets "
    "this role read it."
)
ONE_SELECT = " It is to be one SELECT that only reads."
_THEN_A_COMMENT = re.compile(r";(?:\s|--[^\n]*(?:\n|\Z)|/\*(?:[^*]|\*(?!/))*\*/)*\Z")
_READS = re.compile(r"(?:\s|\(|'')*(?:SELECT|WITH|VALUES|TABLE)\b", re.IGNORECASE)
"""How one begins; a comment is '' by then."""
_CHANGES = re.compile(r"\b(?:INSERT\s+INTO|UPDATE\s+[^()]+?\bSET|DELETE\s+FROM|MERGE\s+INTO)\b", re.IGNORECASE)

Check = Callable[[Connection, Dialect, Query], Iterator[str]]


def look_up(database: Database) -> None:
    """Have it be known what the columns of an adopted database are. Raises `UnusableSource`."""
    if faults := _found(database, _columns):
        raise UnusableSource(faults=" ".join(faults))
    with database.read() as connection:
        database.adopted = database.adopted.looked_up(database, connection)


def require_source(database: Database, *, whole: bool = False) -> None:
    """Raises `UnusableSource` where no posting can be read, or, of the `whole`, where not all are told apart.

    Nothing where postings are our own.
    """
    if database.adopted is None:
        return
    faults = _found(database, _columns) or _found(database, _first) or (_found(database, _ids) if whole else [])
    if faults:
        raise UnusableSource(faults=" ".join(faults))


def check_source(database: Database, *, quick: bool = False) -> list[str]:
    """What is wrong with the query of an adopted database; nothing where postings are our own.

    `quick`: only what is known without walking over all rows. What it brings is looked up anew, and nothing is written,
    whatever the query does.
    """
    if database.adopted is None:
        return []
    found = _found(database, _columns) or _found(database, _first)
    return found if found or quick else _found(database, _rows)


def _found(database: Database, check: Check) -> list[str]:
    """What a check finds, or what keeps it from looking; in a transaction of its own that refuses to write."""
    dialect, query = database.dialect, database.adopted.source
    try:
        with database.read() as connection:
            dialect.see_one_moment(connection)
            with dialect.theirs.reading_only(connection):
                return list(check(connection, dialect, query))
    except (DatabaseReadOnly, DatabaseRefused, RightMissing) as refused:
        return [_refusal(database, query, refused)]


def _refusal(database: Database, query: Query, refused: EnrichlogError) -> str:
    """Why the database does not run the query, and what to do."""
    if isinstance(refused, DatabaseReadOnly):
        return WRITES
    reason = str(refused.facts["reason"]).rstrip(".")
    if isinstance(refused, RightMissing):
        with database.read() as connection:
            grants = database.dialect.theirs.lacking_grants(connection, query.query)
        return f"This role may not read all that it names ({reason}). Have their owner run: {'; '.join(grants)};"
    return f"The database does not run it: {reason}.{_of_form(query.query)}"


def _of_form(sql: str) -> str:
    """What to do about a query that is not run, as far as its text tells: its semicolons, and what it changes."""
    if _THEN_A_COMMENT.search(sql):
        return " Take the semicolon out that stands before the comment at its end."
    if ";" in sql:
        return " It is to be one statement, with no semicolon in it."
    return "" if _READS.match(bare := without_texts(sql)) and not _CHANGES.search(bare) else ONE_SELECT


def _columns(connection: Connection, dialect: Dialect, query: Query) -> Iterator[str]:
    """Its columns and their types."""
    types = dialect.theirs.columns_of_query(connection, query.of_no_rows)
    for name in NEEDED:
        if name not in types:
            yield f"It has no column {name} but {', '.join(types)}: have it say … AS {name}."
    for name, kind in types.items():
        if name == "id" and not dialect.theirs.takes_key(kind):
            yield f"Its id is of type {kind}: it is to be a uuid, a whole number or a text, as a column has it."
        if name != "id" and name in Posting._fields and not dialect.theirs.takes_text(kind):
            yield f"Its {name} is of type {kind}: say …::text AS {name}."


def _first(connection: Connection, dialect: Dialect, query: Query) -> Iterator[str]:
    """Whether a posting is found by its id."""
    source = _source(connection, dialect, query)
    first = select(source.job_id.label("id")).select_from(source.table).where(source.key.is_not(None)).limit(1)
    ids = list(connection.execute(first).scalars())
    if ids and ids != list(source.find_there(connection, ids)):
        yield f"The posting {ids[0]} is not found by its id: select the column itself, or CAST(… AS text) AS id."


def _rows(connection: Connection, dialect: Dialect, query: Query) -> Iterator[str]:
    """What can be wrong with its rows."""
    source = _source(connection, dialect, query)
    title = source.texts["title"]
    nothing, counted = func.trim(title) == "", func.count
    values = [counted(), counted().filter(or_(title.is_(None), nothing)), *map(counted, source.texts.values())]
    total, blank, *_ = connection.execute(select(*values).select_from(source.table)).one()
    if not total:
        yield NO_ROW
    yield from _ids(connection, dialect, query)
    if blank:
        untitled = select(source.job_id).select_from(source.table).where(or_(title.is_(None), nothing))
        told = ", ".join(map(str, connection.execute(untitled.limit(EXAMPLES)).scalars()))
        yield f"{blank:,} of its rows have no title, such as those of {told}: leave them out, or give them one."


def _ids(connection: Connection, dialect: Dialect, query: Query) -> Iterator[str]:
    """Whether each of its rows is a posting of its own."""
    source = _source(connection, dialect, query)
    of_key = (func.count() - func.count(source.key), func.count(source.key), func.count(source.key.distinct()))
    without, total, different = connection.execute(select(*of_key).select_from(source.table)).one()
    if without:
        yield f"{without:,} of its rows have no id: leave them out."
    if different < total:
        twice = select(source.job_id).select_from(source.table).where(source.key.is_not(None)).group_by(source.key)
        found = connection.execute(twice.having(func.count() > 1).order_by(source.key).limit(EXAMPLES)).scalars()
        yield (
            f"{total - different:,} of its rows have the id of another, such as {', '.join(found)}: a posting is to be "
            "one row, so see what it is joined with."
        )


def _source(connection: Connection, dialect: Dialect, query: Query) -> UsersPostings:
    types = dialect.theirs.columns_of_query(connection, query.of_no_rows)
    return UsersPostings(dialect, replace(query, typed=tuple(types.items())))
