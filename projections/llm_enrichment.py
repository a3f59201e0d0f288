"""The table of results that we make where there is none, and how it, or the users' own, is to be found."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache

from sqlalchemy import JSON, Column, ColumnElement, Connection, Index, Table, Text, select, text, true
from sqlalchemy.dialects.postgresql import JSONB

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import Key, UtcDateTime, metadata
from eventlog.streams import join, split_stream
from projections import users_table
from projections.adoption import Adopted
from projections.enriched import KEPT, UNSET, Enriched
from projections.projection import Projection, Row
from projections.shown import Shown
from projections.target import shown_in

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


def _key(stream_id: str) -> Row:
    enrichment, job_id = split_stream(stream_id)
    return {"job_posting_id": job_id, "enrichment": enrichment}


def _known(enriched: Enriched) -> Row:
    values = {
        "result": enriched.result,
        "enrichment_error": enriched.error,
        "enrichment_completed_at": enriched.completed_at,
        "enrichment_model_version": enriched.model_version,
    }
    return {name: value for name, value in values.items() if value is not KEPT and value is not UNSET}


def _load(
    connection: Connection, dialect: Dialect, streams: Sequence[str], lacking: Collection[str] = ()
) -> dict[str, Row]:
    keys = [split_stream(stream_id) for stream_id in streams]
    asked = {"ids": [job_id for _, job_id in keys], "enrichments": list({enrichment for enrichment, _ in keys})}
    names = [name for name in _columns.keys() if name not in lacking]  # noqa: SIM118 - a collection of columns
    query = select(*(_columns[name] for name in names)).where(*_are_among(dialect))
    try:
        found = [dict(zip(names, row, strict=True)) for row in connection.execute(query, asked)]
    except users_table.READ_ERRORS:  # somebody has written there what is no value of the column
        found = users_table.read_as_it_is(connection, llm_enrichment, _are_among(dialect), asked)
    rows = {join(row["enrichment"], row["job_posting_id"]): row for row in found}
    return {stream_id: rows[stream_id] for stream_id in streams if stream_id in rows}


def _are_among(dialect: Dialect) -> tuple[ColumnElement[bool], ...]:
    """Whether a row has one of these ids, and is of one of these enrichments."""
    return dialect.among(_columns.job_posting_id, "ids"), dialect.among(_columns.enrichment, "enrichments")


_OURS = Shown(
    table=llm_enrichment, stream=join(_columns.enrichment, _columns.job_posting_id), shows=true(), key=_key,
    columns=_known, load=_load, error=_columns.enrichment_error.name,
)  # fmt: skip


@lru_cache(maxsize=16)
def shown(adopted: Adopted | None) -> Shown:
    """The table of results: that of an adopted database is the users' own."""
    return _OURS if adopted is None else shown_in(adopted.target)


@lru_cache(maxsize=16)
def projection_of(adopted: Adopted | None) -> Projection[Enriched]:
    """The projection on the table of results."""
    return shown(adopted).projection(projection_of)


projection: Projection[Enriched] = projection_of(None)


def errors_shown(connection: Connection, database: Database, streams: Iterable[str]) -> dict[str, str | None]:
    """The error that the table shows of each of these streams, as far as it has a row for them."""
    table = shown(database.adopted)
    rows = table.load(connection, database.dialect, list(streams))
    return {stream_id: row[table.error] if table.error else None for stream_id, row in rows.items()}
