"""The users' table: the result of each posting, or the error that it ended with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import JSON, Column, ColumnElement, Connection, Index, Table, Text, select, text
from sqlalchemy.dialects.postgresql import JSONB

from eventlog.dialects import Dialect
from eventlog.events import moment
from eventlog.schema import Key, UtcDateTime, metadata
from eventlog.streams import join, split_stream
from projections import users_table
from projections.projection import Foldable, Projection, Refusals, Row
from projections.status import Status

ERROR_CHARACTERS = 2_000
"""How much of a message the table shows; an indexed text column refuses more. The event keeps all of it."""

UNSET: Any = type("Unset", (), {"__repr__": lambda self: "UNSET"})()
"""Stands for a value that no event has set: what the table has there is somebody else's."""

KEPT: Any = type("Kept", (), {"__repr__": lambda self: "KEPT"})()
"""Stands for a value that is in the table already and was not looked at."""


class Enriched(NamedTuple):
    """What the table shows of one posting.

    A result stays until a newer success replaces it, a success clears the error. While a failed posting waits for a
    requested retry, its time of completion is withheld: `ended_at` keeps it. `running` and `rerun` (requested again
    while an attempt runs) are not shown.
    """

    result: dict[str, Any] | None = UNSET
    model_version: str | None = UNSET
    error: str | None = None
    ended_at: datetime | None = None
    withheld: bool = False
    running: bool = False
    rerun: bool = False

    @property
    def completed_at(self) -> datetime | None:
        """When the last attempt ended; null for a failed posting from a requested retry until that ends."""
        return None if self.withheld else self.ended_at


INITIAL = Enriched()


def fold(enriched: Enriched, event: Foldable) -> Enriched:
    """What the table shows after one more event."""
    facts, content = event.facts, event.content or {}
    match event.type:
        case "EnrichmentStarted":
            return enriched._replace(running=True)
        case "EnrichmentSucceeded":
            return _with_result(facts, content)
        case "EnrichmentLateResult" if facts["used"]:
            return _with_result(facts, content)._replace(running=enriched.running, rerun=enriched.rerun)
        case "EnrichmentFailed":
            message = (content.get("message") or facts["error_type"])[:ERROR_CHARACTERS]
            ended_at, withheld = moment(facts["occurred_at"]), enriched.rerun
            return Enriched(enriched.result, enriched.model_version, message, ended_at, withheld)
        case "EnrichmentRequested" if enriched.running:
            return enriched._replace(rerun=True)
        case "EnrichmentRequested":
            return enriched._replace(withheld=enriched.error is not None)
        case "EnrichmentDismissed" | "BatchCancelled":
            return enriched._replace(withheld=False)
        case "ContentErased":
            result = UNSET if enriched.result is UNSET else None
            return enriched._replace(result=result, error=enriched.error and "content erased")
    return enriched


def _with_result(facts: dict[str, Any], content: dict[str, Any]) -> Enriched:
    model = facts.get("response_model") or facts.get("request_model")
    return Enriched(content.get("result"), model, None, moment(facts["occurred_at"]))


llm_enrichment = Table(
    "llm_enrichment",
    metadata,
    Column("job_posting_id", Key, primary_key=True),
    Column("enrichment", Key, primary_key=True, server_default=text("'job'")),
    Column("result", JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")),
    Column("enrichment_error", Text),
    Column("enrichment_completed_at", UtcDateTime),
    Column("enrichment_model_version", Text),
)

_columns = llm_enrichment.c
_failed = _columns.enrichment_error.is_not(None)
_awaiting = _failed & _columns.enrichment_completed_at.is_(None)
Index(
    "llm_enrichment_failed",
    _columns.enrichment_completed_at.desc(),
    sqlite_where=_failed,
    postgresql_where=_failed,
)
Index("llm_enrichment_awaiting", _columns.job_posting_id, sqlite_where=_awaiting, postgresql_where=_awaiting)


def key(stream_id: str) -> dict[str, Any]:
    """The primary key of a stream's row."""
    enrichment, job_id = split_stream(stream_id)
    return {"job_posting_id": job_id, "enrichment": enrichment}


def row(stream_id: str, enriched: Enriched) -> Row | None:
    """The row; none before the first attempt has ended."""
    if enriched.ended_at is None:
        return None
    return {**key(stream_id), **_set(enriched)}


def before(status: Status) -> Enriched:
    """What a stream's row is known to be from its status alone, so that live appends need not read the row."""
    running = status.state == "running"
    if status.completed_at is None:  # no attempt has ended: there is no row
        return INITIAL._replace(running=running, rerun=status.rerun)
    error = None if status.error_type is None else KEPT
    found = KEPT if status.successes else UNSET
    return Enriched(found, found, error, status.completed_at, status.awaiting, running, status.rerun)


def changes(stream_id: str, old: Enriched, new: Enriched) -> Row | None:
    """The columns to write, with the key; None when what is shown stays as it is."""
    return None if _set(new) == _set(old) else {**key(stream_id), **_set(new)}


def is_part(enriched: Enriched) -> bool:
    """Whether some of what is shown was not looked at: written alone, the rest would make a row of its own."""
    return any(value is KEPT for value in enriched)


def _set(enriched: Enriched) -> dict[str, Any]:
    """The columns that are known: those that are compared and written."""
    values = {
        "result": enriched.result,
        "enrichment_error": enriched.error,
        "enrichment_completed_at": enriched.completed_at,
        "enrichment_model_version": enriched.model_version,
    }
    return {name: value for name, value in values.items() if value is not KEPT and value is not UNSET}


def load(connection: Connection, dialect: Dialect, streams: Sequence[str]) -> dict[str, Row]:
    """The rows of these streams."""
    keys = [split_stream(stream_id) for stream_id in streams]
    asked = {"ids": [job_id for _, job_id in keys], "enrichments": list({enrichment for enrichment, _ in keys})}
    query = select(llm_enrichment).where(*_are_among(dialect))
    try:
        found = [dict(zip(_columns.keys(), row, strict=True)) for row in connection.execute(query, asked)]
    except users_table.READ_ERRORS:  # somebody has written there what is no value of the column
        found = users_table.read_as_it_is(connection, llm_enrichment, _are_among(dialect), asked)
    rows = {join(row["enrichment"], row["job_posting_id"]): row for row in found}
    return {stream_id: rows[stream_id] for stream_id in streams if stream_id in rows}


def _are_among(dialect: Dialect) -> tuple[ColumnElement[bool], ...]:
    """Whether a row has one of these ids, and is of one of these enrichments."""
    return dialect.among(_columns.job_posting_id, "ids"), dialect.among(_columns.enrichment, "enrichments")


def store(connection: Connection, dialect: Dialect, rows: Mapping[str, Row], parts: Collection[str] = ()) -> Refusals:
    """Write the rows, of `parts` only the columns that are known, as far as the table takes them."""
    return users_table.write_rows(connection, dialect, llm_enrichment, rows, parts)


projection: Projection[Enriched] = Projection(
    name="llm_enrichment",
    version=1,
    table=llm_enrichment,
    initial=INITIAL,
    fold=fold,
    row=row,
    load=load,
    store=store,
    stream=join(_columns.enrichment, _columns.job_posting_id),
    reads_content=True,
    is_users=True,
)
