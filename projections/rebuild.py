"""Any projection by name, made equal to the log or compared with it."""

from __future__ import annotations

from collections.abc import Callable

from eventlog.database import Database
from projections.catalogue import of_streams, spanning
from projections.drift import Drift
from projections.reconcile import Gone, none_gone, reconcile
from projections.spanning import reconcile_spanning


def reconcile_named(
    database: Database, name: str, *, write: bool, gone: Gone = none_gone,
    progress: Callable[[int], None] = lambda events: None,
) -> Drift:  # fmt: skip
    """Compare a projection with the log, and with `write` make its rows equal. Raises `KeyError` for another name."""
    if name in spanning():
        return reconcile_spanning(database, spanning()[name], write=write, progress=progress)
    return reconcile(database, of_streams()[name], write=write, gone=gone, progress=progress)
