"""Why a posting's rows are as they are: for each column its value, the event that set it, and when."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection, select

from enrichlog.as_of import AsOf, as_of
from enrichlog.postings import find_posting
from enrichlog.reports import Document
from eventlog.database import Database
from eventlog.events import iso
from eventlog.log import Recorded, recorded
from eventlog.schema import events
from eventlog.stream_faults import require_stream_sound, require_whole
from eventlog.streams import stream_of
from projections import enrichment_status, llm_enrichment
from projections.drift import difference
from projections.prefix import Cause, explain
from projections.projection import Projection, Row

SHOWN = {
    "llm_enrichment": None,
    "enrichment_status": (
        "state", "attempts", "successes", "budget_used", "grants", "deferrals", "deaths", "max_attempts", "error_type",
        "retryable", "due_at", "completed_at", "batch", "request_model", "prompt_hash", "schema_hash", "input_hash",
        "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls",
    ),
}  # fmt: skip
"""The columns that are explained of each table; None for all of them."""


def _projections(database: Database) -> tuple[Projection[Any], ...]:
    return llm_enrichment.projection_of(database.adopted), enrichment_status.projection


class Column(NamedTuple):
    """A column: what the events say it is, and by which of them (None where no event has set it).

    `live` is what the row has where that is something else; `differs` says whether it is.
    """

    name: str
    value: Any
    cause: Cause | None
    live: Any = None
    differs: bool = False

    def document(self) -> Document:
        """As a script reads it."""
        cause = None if self.cause is None else self.cause._asdict() | {"recorded_at": iso(self.cause.recorded_at)}
        told = {"column": self.name, "value": self.value, "set_by": cause, "differs": self.differs}
        return told | ({"live": self.live} if self.differs else {})


class Table(NamedTuple):
    """The row of a posting in one table: its columns, none where the events make no row yet.

    `is_there` says whether the table has the row, None where that was not looked at because it is of today.
    """

    name: str
    columns: list[Column]
    is_there: bool | None


class Why(NamedTuple):
    """Both rows of a posting explained; `not_shown` is the database's reason for refusing the users' row."""

    job_id: str
    enrichment: str
    at: AsOf | None
    events: int
    tables: list[Table]
    not_shown: str | None

    def document(self) -> Document:
        """As a script reads it."""
        tables = [
            {"table": one.name, "there": one.is_there, "columns": [column.document() for column in one.columns]}
            for one in self.tables
        ]
        told = {"job_id": self.job_id, "enrichment": self.enrichment, "events": self.events, "tables": tables}
        return told | ({"not_shown": self.not_shown} if self.at is None else {"as_of": self.at.document()})


def why(database: Database, enrichment: str, job_id: str, asked: int | datetime | None = None) -> Why:
    """Explain the rows of a posting, as they are or as of an earlier position.

    Its stream is proved before it is folded: what is missing from it, or was changed, is no edit of the rows. Raises
    `UnknownJob` when there is neither posting nor event, `LogUnsound`, and what `as_of` raises.
    """
    stream_id = stream_of(enrichment, job_id)
    at = None if asked is None else as_of(database, asked)
    with database.read() as connection:
        database.dialect.see_one_moment(connection)  # else an append in between would look like an edit
        require_stream_sound(database.within(connection), stream_id, None if at is None else at.position)
        told = _events(connection, stream_id)
        rows = {
            one.name: one.load(connection, database.dialect, [stream_id]).get(stream_id)
            for one in _projections(database)
        }
        not_shown = _not_shown(connection, stream_id)
        known = rows[enrichment_status.projection.name] or {}
        last = told[-1].version if told else 0
        require_whole(database.within(connection), stream_id, last, known.get("version", 0), at and at.position)
    if not told and not any(rows.values()):
        find_posting(database, job_id)
    if at is None:
        tables = [_compared(one, stream_id, told, rows[one.name]) for one in _projections(database)]
        return Why(job_id, enrichment, None, len(told), tables, not_shown)
    told = [event for event in told if event.position <= at.position]
    tables = [Table(one.name, _explained(one, stream_id, told), None) for one in _projections(database)]
    return Why(job_id, enrichment, at, len(told), tables, None)


def _events(connection: Connection, stream_id: str) -> list[Recorded]:
    query = select(events).where(events.c.stream_id == stream_id).order_by(events.c.version)
    return [recorded(row._mapping) for row in connection.execute(query)]


def _not_shown(connection: Connection, stream_id: str) -> str | None:
    table = enrichment_status.enrichment_status.c
    return connection.execute(select(table.projection_error).where(table.stream_id == stream_id)).scalar()


def _explained(projection: Projection[Any], stream_id: str, told: list[Recorded]) -> list[Column]:
    """The columns as the events have them."""
    found = explain(projection, stream_id, told)
    return [Column(name, value, found.causes[name]) for name, value in _shown(projection, found.row or {}).items()]


def _compared(projection: Projection[Any], stream_id: str, told: list[Recorded], live: Row | None) -> Table:
    """The same beside the row as it is; a column that no event has set is there when the row has a value for it."""
    columns = _explained(projection, stream_id, told)
    live = projection.seen(live, {column.name: column.value for column in columns} or None)
    if live is None:
        return Table(projection.name, columns, is_there=False)
    differing = _differing(stream_id, live, {column.name: column.value for column in columns})
    compared = [
        column._replace(live=live[column.name], differs=True) if column.name in differing else column
        for column in columns
    ]
    known = {column.name for column in columns}
    unset = {name: value for name, value in _shown(projection, live).items() if name not in known}
    compared += [Column(name, None, None, value, differs=True) for name, value in unset.items() if value is not None]
    return Table(projection.name, compared, is_there=True)


def _differing(stream_id: str, live: Row, folded: Row) -> set[str]:
    """The columns in which the row is not what the events say."""
    found = difference(stream_id, live, folded)
    return set(found.columns) if found else set()


def _shown(projection: Projection[Any], row: Mapping[str, Any]) -> Row:
    """The columns of a row that are explained: not those of its key, nor what serves us alone."""
    keys = {column.name for column in projection.table.primary_key}
    names = SHOWN[projection.name]
    return {name: value for name, value in row.items() if name not in keys and (names is None or name in names)}
