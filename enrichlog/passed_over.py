"""Rows of the users' table that were passed over because another program held them: shown once it lets go."""

from __future__ import annotations

from enrichlog.postings import find_deleted
from eventlog.database import Database
from projections import llm_enrichment
from projections.reconcile import Walk, not_shown, reconcile
from projections.users_table import DELETED, LOCKED


def show_what_was_locked(database: Database) -> None:
    """Write the rows that were skipped because another program had locked or deleted them."""
    streams = [stream_id for stream_id, reason in not_shown(database).items() if reason in (LOCKED, DELETED)]
    if streams:
        shown = llm_enrichment.projection_of(database.adopted)
        reconcile(database, [shown], Walk(write=True, streams=streams, gone=find_deleted))
