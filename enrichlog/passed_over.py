"""Rows of the users' table that were passed over because of what other programs did: shown or forgotten afterwards."""

from __future__ import annotations

from enrichlog.postings import find_deleted
from eventlog.database import Database
from projections import llm_enrichment
from projections.reconcile import Walk, not_shown, reconcile
from projections.users_table import DELETED, LOCKED

_OF_OTHERS = (LOCKED, DELETED)


def show_what_was_passed_over(database: Database) -> None:
    """Write the rows that another program had locked or deleted; of those that went with their posting nothing is kept.

    A row whose posting was deleted while it was asked for is refused in whatever words its constraints have.
    """
    unshown = not_shown(database)
    streams = [stream_id for stream_id, reason in unshown.items() if reason in _OF_OTHERS]
    with database.read() as connection:
        streams += find_deleted(connection, database, unshown.keys() - set(streams)) if unshown else ()
    if streams:
        shown = llm_enrichment.projection_of(database.adopted)
        reconcile(database, [shown], Walk(write=True, streams=sorted(streams), gone=find_deleted))
