"""Where everything stands, as `status` tells it: one document, or how it looks in a terminal."""

from __future__ import annotations

from enrichlog import breakers, limits_screen, plan_screens, reports, screens, worker_screen, workers
from enrichlog.outdated import counts_or_why
from enrichlog.reports import Document
from enrichlog.settings import Settings
from eventlog.database import Database
from projections.shown import place_of


def document(settings: Settings, database: Database, enrichment: str) -> Document:
    """All of it as JSON values."""
    there = workers.list_workers(database, enrichment)
    counts, outdated = reports.status(database, enrichment), counts_or_why(settings, database, enrichment)
    found, now = breakers.list_breakers(database)
    held = [one.document(now) for one in found if not one.breaker.is_free(now)]
    told = {"outdated": outdated, "held_by": held, "limits": limits_screen.document(database)}
    return counts | told | workers.document(there)


def show(settings: Settings, database: Database, enrichment: str) -> None:
    """All of it for people; breakers are told of by every command, and so not here."""
    there = workers.list_workers(database, enrichment)
    counts, outdated = reports.status(database, enrichment), counts_or_why(settings, database, enrichment)
    screens.status(counts, place_of(database.adopted))
    plan_screens.outdated_results(outdated)
    limits_screen.stand(database)
    worker_screen.show(there)
