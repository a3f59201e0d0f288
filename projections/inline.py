"""The read models that move in the append's own transaction: always current, or marked as not shown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, select, update

from eventlog.dialects import Dialect
from eventlog.events import EnrichmentRequested, Event
from eventlog.log import Decided, Proposal, Recorded
from eventlog.streams import is_operational
from projections import enrichment_status as status_model
from projections import llm_enrichment as shown_model
from projections import users_table
from projections.decisions import decide
from projections.enrichment_status import Status, enrichment_status
from projections.llm_enrichment import Enriched


class InlineReadModels:
    """`enrichment_status`, whose rows are the locks of their streams, and `llm_enrichment`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> HeldStreams:
        """Lock the status rows of all streams concerned, in one order for everybody; begin those that are new."""
        streams = {proposal.stream_id for proposal in proposals if not is_operational(proposal.stream_id)}
        begun = {p.stream_id for p in proposals if isinstance(p.event, EnrichmentRequested)} & streams
        _insert_missing(connection, self._dialect, begun)
        return HeldStreams(self._dialect, lock_rows(connection, streams), streams)


class HeldStreams:
    """The streams of one append with their states: what is folded here is written at once, by `write`."""

    def __init__(self, dialect: Dialect, rows: dict[str, Status], streams: set[str]) -> None:
        self._dialect = dialect
        self._streams, self._before = streams, rows
        self._status = dict(rows)
        self._shown: dict[str, Enriched] = {}

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._streams

    def version(self, stream_id: str) -> int:
        """The version the stream is at, with what this append has folded so far."""
        return self._status.get(stream_id, Status()).version

    def decide(self, stream_id: str, event: Event) -> Event:
        """The event as it is to be recorded. Raises `Conflict`."""
        return decide(stream_id, self._status.get(stream_id, Status()), event)

    def fold(self, decided: Decided) -> None:
        """Move both read models of the stream by one event."""
        stream_id = decided.stream_id
        shown = self._shown.get(stream_id) or shown_model.before(self._before[stream_id])
        self._shown[stream_id] = shown_model.fold(shown, decided)
        self._status[stream_id] = status_model.fold(self._status[stream_id], decided)

    def write(self, connection: Connection) -> None:
        """The users' table first, so that a status row can say what was refused there."""
        rows = {stream_id: row for stream_id in self._shown if (row := self._changes(stream_id)) is not None}
        refusals = users_table.write_rows(connection, self._dialect, rows)
        write_statuses(connection, {stream_id: self._status[stream_id] for stream_id in self._shown})
        mark(connection, {stream_id: refusals.get(stream_id) for stream_id in rows})

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None:
        """No read model of these spans streams."""

    def _changes(self, stream_id: str) -> dict[str, Any] | None:
        return shown_model.changes(stream_id, shown_model.before(self._before[stream_id]), self._shown[stream_id])


def lock_rows(connection: Connection, streams: Iterable[str]) -> dict[str, Status]:
    """The statuses of these streams, their rows locked in the order of their names."""
    query = select(enrichment_status).where(enrichment_status.c.stream_id.in_(sorted(streams)))
    found = connection.execute(query.order_by(enrichment_status.c.stream_id).with_for_update())
    return {row.stream_id: status_model.status_of(row._mapping) for row in found}


def write_statuses(connection: Connection, statuses: dict[str, Status]) -> None:
    """Write the rows of these streams; they exist and are locked."""
    table = enrichment_status
    if statuses:
        statement = update(table).where(table.c.stream_id == bindparam("_stream_id"))
        rows = [status_model.row(stream_id, status) for stream_id, status in statuses.items()]
        names = [name for name in rows[0] if name not in ("stream_id", "enrichment", "job_id", "part")]
        statement = statement.values({name: bindparam(name) for name in names})
        connection.execute(statement, [{"_stream_id": row["stream_id"], **{n: row[n] for n in names}} for row in rows])


def mark(connection: Connection, reasons: dict[str, str | None]) -> None:
    """Note why the users' table does not show these streams, or that it does."""
    table = enrichment_status
    for shown in (True, False):
        chosen = {stream_id: reason for stream_id, reason in reasons.items() if (reason is None) is shown}
        if chosen:
            statement = update(table).where(table.c.stream_id == bindparam("_stream_id"))
            if shown:  # most rows were never marked: leave those as they are
                statement = statement.where(table.c.projection_error.is_not(None))
            rows = [{"_stream_id": stream_id, "reason": reason} for stream_id, reason in chosen.items()]
            connection.execute(statement.values(projection_error=bindparam("reason")), rows)


def _insert_missing(connection: Connection, dialect: Dialect, streams: Iterable[str]) -> None:
    rows = [status_model.row(stream_id, Status()) for stream_id in sorted(streams)]
    if rows:
        connection.execute(dialect.insert(enrichment_status).on_conflict_do_nothing(), rows)
