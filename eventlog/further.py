"""What is to be done each time, once the migrations are: tables that none of them makes, and the rights to all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Executable

from eventlog.database import Database
from eventlog.revisions import tables_made

USERS_TABLES = ("job_postings", "llm_enrichment")
RETRY_VIEW, TITLE = "jobs_needing_retry", "title"
"""The view of what a retry would take, and the column that it has only where the postings are ours."""


class Step(NamedTuple):
    """Statements; `unless_there` is the table of ours that they make, where it is not there."""

    statements: Sequence[Executable]
    unless_there: str | None = None


Further = Sequence[Step]


def tables_of_ours(database: Database, further: Further) -> list[str]:
    """The names of all tables of ours, whoever makes them."""
    made = [step.unless_there for step in further if step.unless_there]
    return list(dict.fromkeys([*tables_made(database.dialect), *made]))


def owners_rows(database: Database, further: Further) -> Iterator[str]:
    """The SQL that lets the owner of the tables that are there see their rows: first of all, or it would begin anew."""
    theirs = USERS_TABLES if database.adopted is None else ()
    return database.dialect.owners_rows(tables_of_ours(database, further), theirs)


def rights(database: Database, further: Further) -> Iterator[str]:
    """The SQL that gives each table its rights, those that we made for the users included."""
    yield from owners_rows(database, further)  # of those that were made meanwhile
    ours = tables_of_ours(database, further)
    if database.adopted is not None:
        yield from database.dialect.rights([*ours, RETRY_VIEW], [])
    else:
        yield from database.dialect.rights(ours, [*USERS_TABLES, RETRY_VIEW])
