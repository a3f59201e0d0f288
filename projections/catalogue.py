"""All projections by name: how each is made equal to the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventlog.database import Database
from projections import batches, breaker
from projections.drift import Drift
from projections.reconcile import PROJECTIONS, Gone, none_gone, reconcile
from projections.spanning import SpanningProjection, reconcile_spanning

SPANNING: dict[str, SpanningProjection[Any]] = {
    projection.name: projection for projection in (breaker.projection, batches.projection)
}
NAMES = (*PROJECTIONS, *SPANNING)


def is_users(name: str) -> bool:
    """Whether the table of this projection is the users' own, of which no row is ever removed."""
    return name in PROJECTIONS and PROJECTIONS[name].is_users


def reconcile_named(
    database: Database, name: str, *, write: bool, gone: Gone = none_gone,
    progress: Callable[[int], None] = lambda events: None,
) -> Drift:  # fmt: skip
    """Compare a projection with the log, and with `write` make its rows equal. Raises `KeyError` for another name."""
    if name in SPANNING:
        return reconcile_spanning(database, SPANNING[name], write=write, progress=progress)
    return reconcile(database, PROJECTIONS[name], write=write, gone=gone, progress=progress)
