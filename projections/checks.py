"""Which rows can be checked, and what a check of all rows of a projection has found, noted for those who ask later."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from eventlog.database import Database
from eventlog.errors import DatabaseReadOnly, FoldTooNew, RightMissing
from projections.catalogue import is_users, names, version_of
from projections.checkpoints import note_check, note_version, noted
from projections.drift import Drift
from projections.rebuild import Options


def too_new(database: Database, asked: Sequence[str] = ()) -> dict[str, FoldTooNew]:
    """Which of these projections, or without any of all, have rows of a newer fold than this code's, and what to raise.

    What this code folds is no measure for them: it would write older rows over newer ones.
    """
    made_by = {name: note.fold_version for name, note in noted(database).items()}
    return {
        name: FoldTooNew(projection=name, found=made_by[name], needed=version_of(name))
        for name in asked or names()
        if made_by.get(name, 0) > version_of(name)
    }


def note_drift(database: Database, drift: Drift, position: int, options: Options) -> None:
    """Note how many rows differ still, and, once all are written, by which fold; nothing where nobody may write."""
    with suppress(DatabaseReadOnly, RightMissing):
        if drift.went_on_after is None:  # else not all rows were compared
            note_check(database, drift.projection, position, _left(drift, options))
        if options.write and not drift.refused:
            note_version(database, drift.projection, version_of(drift.projection))


def _left(drift: Drift, options: Options) -> int:
    """How many rows differ still: after a rebuild those that were refused, and those that are the users' own."""
    if not options.write:
        return drift.total
    theirs = drift.counts["extra"] + (0 if options.overwrites else drift.counts["edited"])
    return len(drift.refused) + (theirs if is_users(drift.projection) else 0)
