"""Noticing: what an enrichment has not seen like this is requested, once whoever else notices it too."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, select

from eventlog.database import Database
from eventlog.events import EnrichmentRequested
from eventlog.log import Appended, Proposal, append
from eventlog.streams import stream_of
from projections import enrichment_status
from projections.inline import InlineReadModels


def request_unseen(
    connection: Connection, database: Database, enrichments: Sequence[str], hashes: Mapping[str, str], actor: str
) -> Counter[str]:
    """Append a request for each posting (id -> input hash) that an enrichment has not seen like this.

    Returns how many of them are new and changed. A stream that never said what it has seen, because it was imported, is
    neither.

    One append for all enrichments: a second one would wait for rows while it holds the log lock. A stream that moves
    on meanwhile is left to the next look; whoever notices the same change at the same time makes the same request.
    """
    streams = {stream_of(name, job_id): input_hash for name in enrichments for job_id, input_hash in hashes.items()}
    status = enrichment_status.enrichment_status.c
    query = select(status.stream_id, status.version, status.input_hash).where(status.stream_id.in_(list(streams)))
    known = {row.stream_id: row for row in connection.execute(query)}
    proposals, whys = list[Proposal](), list[str]()
    for stream_id, input_hash in streams.items():
        row = known.get(stream_id)
        if row is None:
            whys.append("new")
            event = EnrichmentRequested(why="new", actor=actor, input_hash=input_hash)
            proposals.append(Proposal(stream_id, event, event_id_of(stream_id, "new")))
        elif row.input_hash not in (None, input_hash):
            whys.append("changed")
            event = EnrichmentRequested(why="changed", actor=actor, input_hash=input_hash)
            event_id = event_id_of(stream_id, f"{row.version} {input_hash}")
            proposals.append(Proposal(stream_id, event, event_id, row.version))
    if not proposals:
        return Counter()
    outcomes = append(connection, database.dialect, proposals, InlineReadModels(database))
    return Counter(why for why, outcome in zip(whys, outcomes, strict=True) if isinstance(outcome, Appended))


def hold_streams(connection: Connection, enrichments: Sequence[str], job_ids: Sequence[str]) -> None:
    """Lock the streams of these postings before the postings themselves, as whoever appends has to.

    A trigger of the users' on llm_enrichment may write to job_postings: the other order would deadlock with it.
    """
    enrichment_status.lock(connection, [stream_of(name, job_id) for name in enrichments for job_id in job_ids])


def event_id_of(stream_id: str, what: str) -> str:
    """The id of what is recorded of a stream once, whoever records it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{stream_id} {what}"))
