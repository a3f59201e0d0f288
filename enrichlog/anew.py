"""Failures that are tried anew: what they rested on, the prompt, the schema or the model, is another by now."""

from __future__ import annotations

import uuid

from sqlalchemy import ColumnElement, and_, func, or_, select

from enrichlog.actor import actor
from enrichlog.enrichment import Enrichment
from enrichlog.scope import HAS_POSTING
from enrichlog.selection import Policy, Selection
from enrichlog.targets import PAGE
from eventlog.database import Database
from eventlog.events import EnrichmentRequested
from eventlog.log import Appended, Proposal, append
from projections.enrichment_status import enrichment_status
from projections.inline import InlineReadModels


def request_anew(database: Database, enrichment: Enrichment, max_attempts: int) -> int:
    """Request the failures that nothing else would take, with a new budget; returns how many.

    Whoever notices the same change at the same time makes the same request; one that has moved on is left alone.
    """
    status, requested, after = enrichment_status.c, 0, ""
    query = select(status.stream_id, status.version, status.job_id).where(_anew(database, enrichment, max_attempts))
    event = EnrichmentRequested(why="changed", actor=actor())
    while page := database.page(query.where(status.job_id > after).order_by(status.job_id).limit(PAGE)):
        proposals = [
            Proposal(row.stream_id, event, _event_id(enrichment, row.stream_id, row.version), row.version)
            for row in page
        ]
        with database.write() as connection:
            outcomes = append(connection, database.dialect, proposals, InlineReadModels(database.dialect))
        requested += sum(isinstance(outcome, Appended) for outcome in outcomes)
        after = page[-1].job_id
    return requested


def count_anew(database: Database, enrichment: Enrichment, max_attempts: int) -> int:
    """How many failures that would be."""
    query = select(func.count()).select_from(enrichment_status).where(_anew(database, enrichment, max_attempts))
    count: int = database.page(query)[0][0]
    return count


def _anew(database: Database, enrichment: Enrichment, max_attempts: int) -> ColumnElement[bool]:
    status = enrichment_status.c
    verdicts = Policy(None, max_attempts).verdicts(database.now())
    is_final = or_(verdicts["exhausted"], verdicts["not_retryable"])
    rests_on_another = or_(
        status.prompt_hash != enrichment.prompt.hash,
        status.schema_hash != enrichment.schema_hash,
        status.request_model != enrichment.model,
    )
    return and_(*Selection().conditions(enrichment.name), is_final, rests_on_another, HAS_POSTING)


def _event_id(enrichment: Enrichment, stream_id: str, version: int) -> str:
    basis = f"{enrichment.prompt.hash} {enrichment.schema_hash} {enrichment.model}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stream_id} {version} {basis}"))
