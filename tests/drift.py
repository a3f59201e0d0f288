"""Whether read models are what the log adds up to."""

from typing import Any

from eventlog.database import Database
from projections import enrichment_status, llm_enrichment
from projections.drift import Drift
from projections.rebuild import reconcile_named
from projections.reconcile import Walk, reconcile

STATUS, SHOWN = enrichment_status.projection, llm_enrichment.projection
PROJECTIONS = {one.name: one for one in (STATUS, SHOWN)}


def rebuild(database: Database, projection: Any = SHOWN, **options: Any) -> Drift:
    """Make one projection of streams equal to the log."""
    return reconcile(database, [projection.within(database.adopted)], Walk(write=True, **options))[0]


def verify(database: Database, projection: Any = SHOWN, **options: Any) -> Drift:
    """Compare one projection of streams with the log."""
    return reconcile(database, [projection.within(database.adopted)], Walk(write=False, **options))[0]


def drift_of(database: Database, *names: str) -> int:
    """How many rows of these projections, or without any name of all, are not what the log adds up to."""
    return sum(one.total for one in reconcile_named(database, names, write=False))


def verified(database: Database, name: str) -> Drift:
    """What comparing a projection with the log finds."""
    return reconcile_named(database, [name], write=False)[0]


def rebuilt(database: Database, name: str) -> Drift:
    """What making a projection equal to the log finds."""
    return reconcile_named(database, [name], write=True)[0]
