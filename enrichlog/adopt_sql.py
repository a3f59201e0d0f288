"""The SQL of an adoption for whoever may run it, and the SQL that takes it back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from enrichlog.adopt_changes import Changes, changes_of, index_name
from enrichlog.adopt_prepared import Adoption, prepare
from enrichlog.adopt_proposal import Wishes
from enrichlog.adopt_screen import found_wrong, wrong
from enrichlog.exceptions import NothingAdopted
from enrichlog.look import quoting
from enrichlog.place import database_of
from enrichlog.settings import Settings
from enrichlog.terminal import on_standard_error
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.inspection import Found
from eventlog.rights import APP_ROLE

ASIDE = (
    "The table is large, so nothing above makes the index that finds failures: it is made beside those who write,",
    "which no transaction may do. Run this by itself, in none, after all of the above:",
)


def printed(settings: Settings, wishes: Wishes, *, index: bool, rollback: bool) -> str:
    """The SQL that another role may run instead, or that takes it back.

    Raises `NothingAdopted` for faults, which keep nobody from taking back what the settings say was adopted.
    """
    try:
        adoption = prepare(settings, wishes, None, index=index, is_printed=True)
    except DatabaseUnavailable as error:
        if not (settings.source and settings.target):
            raise
        return f"-- {error}\n-- So this is for tables as they are before.\n\n" + _unseen(
            settings, index=index, rollback=rollback
        )
    changes = adoption.changes
    if adoption.findings.faults and not (rollback and settings.target):
        with on_standard_error():
            found_wrong(adoption.findings)
        raise NothingAdopted(count=wrong(adoption.findings))
    if rollback:
        return _back(adoption.database, changes) + _left(changes.doubtful)
    return _forth(adoption.database, changes) + "".join(f"{line}\n" for line in _for_workers(adoption))


def _unseen(settings: Settings, *, index: bool, rollback: bool) -> str:
    """The SQL for a database that nobody here can reach, as the settings have it; it looks for itself what is there."""
    database = database_of(settings)
    target = database.adopted.target
    found = Found(target.schema, target.table, {})
    name = index_name(found) if index else None
    changes = changes_of(target, found, database.dialect.inspection, quoting(database), index=name)
    keeping = changes._replace(back=())  # the column may have been there, with all its messages
    return (_back(database, keeping) if rollback else _forth(database, keeping)) + _left(changes.back)


def _back(database: Database, changes: Changes) -> str:
    return migration.rollback_sql(database, [f"{statement};" for statement in changes.back]).rstrip("\n") + "\n"


def _forth(database: Database, changes: Changes) -> str:
    before = [f"{statement};" for statement in (*database.dialect.inspection.patience, *changes.within)]
    text = migration.sql(database, before=before)
    did = [f"-- {statement};" for statement in changes.back]
    lines = ["", "-- And what this adoption did in your tables:", *did] if did else [""]
    if changes.aside:
        lines += ["", *(f"-- {line}" for line in ASIDE), f"-- {changes.aside};"]
    return text.rstrip("\n") + "\n" + "\n".join(lines) + "\n"


def _left(statements: Iterable[str]) -> str:
    """What becomes of a column and an index that are there, as a comment: nobody knows any more who added them."""
    told = "".join(f"-- {statement};\n" for statement in statements)
    return f"-- If adopt added these, and the messages may go, this is left to do:\n{told}" if told else ""


def _for_workers(adoption: Adoption) -> Iterator[str]:
    """What another role needs than the one that owns the tables."""
    if adoption.for_workers:
        yield f"\n-- A login that is a member of {APP_ROLE} only needs these too, on your tables, after all of this:"
        yield from (f"-- {grant}" for grant in adoption.for_workers)
