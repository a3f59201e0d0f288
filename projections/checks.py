"""What a check of all rows of a projection has found, noted for those who ask later."""

from __future__ import annotations

from contextlib import suppress

from eventlog.database import Database
from eventlog.errors import DatabaseReadOnly, RightMissing
from projections.catalogue import is_users, version_of
from projections.checkpoints import note_check, note_version
from projections.drift import Drift


def note_drift(database: Database, drift: Drift, position: int, *, written: bool) -> None:
    """Note how many rows differ still, and, once all are `written`, by which fold; nothing where nobody may write."""
    with suppress(DatabaseReadOnly, RightMissing):
        note_check(database, drift.projection, position, _left(drift) if written else drift.total)
        if written and not drift.refused:
            note_version(database, drift.projection, version_of(drift.projection))


def _left(drift: Drift) -> int:
    """How many rows a rebuild has left as they were: those that were refused, and those of the users' own."""
    return len(drift.refused) + (drift.counts["unexplained"] if is_users(drift.projection) else 0)
