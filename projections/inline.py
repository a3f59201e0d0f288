"""The read models that move in the append's own transaction: always current, or marked as not shown."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from eventlog.dialects import Dialect
from eventlog.events import EnrichmentRequested, Event
from eventlog.log import Decided, Proposal, Recorded
from eventlog.streams import is_operational
from projections import enrichment_status as status_model
from projections import llm_enrichment as shown_model
from projections.decisions import decide
from projections.enrichment_status import Status
from projections.llm_enrichment import Enriched
from projections.projection import Row


class InlineReadModels:
    """`enrichment_status`, whose rows are the locks of their streams, and `llm_enrichment`."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> HeldStreams:
        """Lock the status rows of all streams concerned, in one order for everybody; begin those that are new."""
        streams = {proposal.stream_id for proposal in proposals if not is_operational(proposal.stream_id)}
        begun = {p.stream_id for p in proposals if isinstance(p.event, EnrichmentRequested)} & streams
        status_model.insert_missing(connection, self._dialect, begun)
        return HeldStreams(self._dialect, status_model.lock(connection, streams), streams)


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
        refusals = shown_model.store(connection, self._dialect, rows)
        status_model.write(connection, [status_model.row(one, self._status[one]) for one in self._shown])
        status_model.mark(connection, {stream_id: refusals.get(stream_id) for stream_id in rows})

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None:
        """No read model of these spans streams."""

    def _changes(self, stream_id: str) -> Row | None:
        return shown_model.changes(stream_id, shown_model.before(self._before[stream_id]), self._shown[stream_id])
