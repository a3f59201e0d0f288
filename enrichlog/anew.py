"""Failures that are tried anew: the prompt, the schema or the model is by now one that they were not tried with."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import func, select

from enrichlog.enrichment import Enrichment
from enrichlog.scope import Scope, is_any_anew, tried_anew
from eventlog.database import Database
from projections.bases import basis
from projections.enrichment_status import enrichment_status


def with_failures_anew(database: Database, scope: Scope, enrichment: Enrichment, max_attempts: int) -> Scope:
    """The scope with those failures in it that nothing else would take, if there are any.

    Nothing is requested: what the run does not come to stays as it was, failed on what it rested on.
    """
    with_basis = replace(scope, basis=_basis(enrichment))
    with database.read() as connection:
        return with_basis if is_any_anew(connection, database, enrichment.name, with_basis, max_attempts) else scope


def count_anew(database: Database, scope: Scope, enrichment: Enrichment, max_attempts: int) -> int:
    """How many such failures there are."""
    conditions = tried_anew(database, enrichment.name, _basis(enrichment), scope.horizon, max_attempts)
    return database.count(select(func.count()).select_from(enrichment_status).where(*conditions))


def _basis(enrichment: Enrichment) -> str:
    return basis(enrichment.model, enrichment.prompt.hash, enrichment.schema_hash)
