"""A reconciliation in several processes: each takes the streams of its share of the parts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from eventlog.database import Database, Place
from eventlog.side_by_side import Progress, do_all
from projections.catalogue import of_streams
from projections.drift import Drift
from projections.pages import Share
from projections.projection import Projection
from projections.reconcile import Walk, nothing
from projections.unfinished import go_on


def reconcile_in_processes(
    database: Database, projections: Sequence[Projection[Any]], walk: Walk, jobs: int, *, begins_anew: bool
) -> list[Drift]:
    """Do a walk over all streams in so many processes. Raises what any of them raises; then the others are stopped."""
    names = tuple(one.name for one in projections)
    sent = walk._replace(progress=nothing)  # the rest can be sent: nothing in it is of this process
    tasks = [
        partial(_reconcile, database.place, names, sent._replace(share=Share(number, jobs)), begins_anew)
        for number in range(jobs)
    ]
    drifts = [Drift(name) for name in names]
    for found in do_all(tasks, walk.progress):
        for drift, more in zip(drifts, found, strict=True):
            drift.add(more)
    return drifts


def _reconcile(place: Place, names: Sequence[str], walk: Walk, begins_anew: bool, progress: Progress) -> list[Drift]:
    database = Database(*place)
    try:
        projections = [of_streams(database.adopted)[name] for name in names]
        return go_on(database, projections, walk._replace(progress=progress), begins_anew=begins_anew)
    finally:
        database.close()
