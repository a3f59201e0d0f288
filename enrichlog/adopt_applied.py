"""An adoption as it is done: the database in one transaction, then the file."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError

from enrichlog.adopt_prepared import Adoption
from enrichlog.exceptions import IndexNotMade, TableInUse
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import DatabaseBusy, EnrichlogError


def is_done(adoption: Adoption) -> bool:
    """Whether there is nothing left to do."""
    if adoption.changes.statements or (adoption.plan and adoption.plan.changes):
        return False
    return is_migrated(adoption.database)


def is_migrated(database: Database) -> bool:
    """Whether what is ours is there."""
    try:
        migration.check(database)
    except EnrichlogError:
        return False
    return True


def apply(adoption: Adoption) -> None:
    """Change the database in one transaction, make the index that is made by itself, and write the file."""
    database, changes = adoption.database, adoption.changes
    if is_done(adoption):
        return
    patience = database.dialect.inspection.patience if changes.within else ()
    try:
        migration.migrate(database, before=[f"{statement};" for statement in (*patience, *changes.within)])
    except DatabaseBusy as error:
        if not changes.within:
            raise
        raise TableInUse(table=database.adopted.target.place, seconds=5) from error
    with database.read() as connection:
        database.adopted = database.adopted.looked_up(database, connection)
    if adoption.plan is not None:
        adoption.plan.write()
    if changes.aside:
        try:
            database.dialect.inspection.run_aside(database.engine, changes.aside)
        except DBAPIError as error:
            reason = database.dialect.translate(error).facts["reason"]
            raise IndexNotMade(name=changes.makes, reason=reason) from error
