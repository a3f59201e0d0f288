"""Noticing: what an enrichment has not seen like this is requested, once whoever else notices it too."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from eventlog.database import Database
from eventlog.events import EnrichmentRequested
from eventlog.log import Appended, Proposal, append
from eventlog.streams import stream_of
from projections.enrichment_status import enrichment_status
from projections.inline import InlineReadModels


def request_unseen(
    connection: Connection, database: Database, enrichments: Sequence[str], hashes: Mapping[str, str], actor: str
) -> int:
    """Append a request for each posting (id -> input hash) that an enrichment has not seen like this; returns how many.

    One append for all enrichments: a second one would wait for rows while it holds the log lock. A stream that moves
    on meanwhile is left to the next look; whoever notices the same change at the same time makes the same request.
    """
    streams = {stream_of(name, job_id): input_hash for name in enrichments for job_id, input_hash in hashes.items()}
    status = enrichment_status.c
    query = select(status.stream_id, status.version, status.input_hash).where(status.stream_id.in_(list(streams)))
    known = {row.stream_id: row for row in connection.execute(query)}
    proposals = []
    for stream_id, input_hash in streams.items():
        row = known.get(stream_id)
        if row is None:
            event = EnrichmentRequested(why="new", actor=actor, input_hash=input_hash)
            proposals.append(Proposal(stream_id, event, _event_id(stream_id, "new")))
        elif row.input_hash != input_hash:
            event = EnrichmentRequested(why="changed", actor=actor, input_hash=input_hash)
            event_id = _event_id(stream_id, f"{row.version} {input_hash}")
            proposals.append(Proposal(stream_id, event, event_id, row.version))
    if not proposals:
        return 0
    outcomes = append(connection, database.dialect, proposals, InlineReadModels(database))
    return sum(isinstance(outcome, Appended) for outcome in outcomes)


def _event_id(stream_id: str, what: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stream_id} {what}"))
