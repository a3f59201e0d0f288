"""The read models that move in the append's own transaction: always current, or marked as not shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from types import MappingProxyType

from sqlalchemy import Connection, RowMapping, select

from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.errors import Conflict, Unfoldable, UnknownEventType
from eventlog.events import EnrichmentRequested, Event
from eventlog.folding import fold_all
from eventlog.log import Appended, Decided, Outcome, Proposal, Recorded, append, recorded
from eventlog.schema import events
from eventlog.streams import is_operational
from projections import catalogue, outage
from projections import enrichment_status as status_model
from projections.decisions import decide
from projections.enriched import INITIAL, Enriched, before, has_result, is_part
from projections.enriched import fold as fold_shown
from projections.llm_enrichment import shown
from projections.outage import Outage
from projections.projection import Row, Writing
from projections.settlement import settle
from projections.shown import Shown
from projections.spanning import advance
from projections.status import Status
from projections.status import fold as fold_status

NO_ROWS: Mapping[str, RowMapping] = MappingProxyType({})


class InlineReadModels:
    """`enrichment_status`, whose rows are the locks of their streams, `llm_enrichment`, and what spans streams."""

    def __init__(self, database: Database, locked: Mapping[str, RowMapping] = NO_ROWS, *, shows: bool = True) -> None:
        """`locked`: status rows by stream that the caller's transaction has locked and read already. One that `shows`
        nothing leaves the users' table alone.
        """
        self._dialect, self._locked = database.dialect, locked
        self._table = shown(database.adopted) if shows else None

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> HeldStreams:
        """Lock the status rows of all streams concerned, in one order for everybody; begin those that are new."""
        streams = {proposal.stream_id for proposal in proposals if not is_operational(proposal.stream_id)}
        free = streams - self._locked.keys()
        begun = {p.stream_id for p in proposals if isinstance(p.event, EnrichmentRequested)} & free
        status_model.insert_missing(connection, self._dialect, begun)
        rows = {**self._locked, **status_model.lock(connection, free)}
        statuses = {stream_id: status_model.status_of(row) for stream_id, row in rows.items()}
        marked = {stream_id for stream_id, row in rows.items() if row["projection_error"] is not None}
        untold = {stream_id for stream_id, row in rows.items() if row["untold_result"]}
        folds = {stream_id: row["fold_version"] for stream_id, row in rows.items()}
        unshown, trouble = _fold_from_log(connection, marked), outage.before(connection, proposals)
        return HeldStreams(self._dialect, self._table, statuses, folds, streams, unshown, untold, trouble)


def append_together(database: Database, proposals: Sequence[Proposal]) -> list[Outcome]:
    """Append in a transaction of their own, with the read models: each has its outcome, a `Conflict` among them."""
    with database.write() as connection:
        return append(connection, database.dialect, proposals, InlineReadModels(database))


def append_all(
    connection: Connection, database: Database, proposals: Sequence[Proposal],
    locked: Mapping[str, RowMapping] = NO_ROWS, *, shows: bool = True,
) -> list[Appended]:  # fmt: skip
    """Append all of them, with the read models, or none. Raises the first `Conflict`: the caller's transaction ends."""
    acknowledged = []
    for outcome in append(connection, database.dialect, proposals, InlineReadModels(database, locked, shows=shows)):
        if isinstance(outcome, Conflict):
            raise outcome
        acknowledged.append(outcome)
    return acknowledged


def _fold_from_log(connection: Connection, streams: set[str]) -> dict[str, Enriched | None]:
    """What the users' table should show of streams that it did not take: it is then written whole.

    None for one whose history this code cannot fold: what comes now is recorded all the same, and the table waits.
    """
    query = select(events).where(events.c.stream_id.in_(sorted(streams))).order_by(events.c.stream_id, events.c.version)
    shown: dict[str, Enriched | None] = {}
    for stream_id, rows in groupby(connection.execute(query) if streams else (), lambda row: str(row.stream_id)):
        try:
            history = (recorded(row._mapping) for row in rows)
            shown[stream_id] = fold_all(fold_shown, INITIAL, history)
        except (UnknownEventType, Unfoldable):
            shown[stream_id] = None
    return shown


class HeldStreams:
    """The streams of one append with their states: what is folded here is written at once, by `write`."""

    def __init__(
        self, dialect: Dialect, table: Shown | None, statuses: dict[str, Status], folds: dict[str, int],
        streams: set[str], unshown: dict[str, Enriched | None], untold: set[str], trouble: Outage | None,
    ) -> None:  # fmt: skip
        self._dialect, self._table, self._outage = dialect, table, trouble
        self._streams, self._before, self._folds, self._unshown = streams, statuses, folds, unshown
        self._status = dict(statuses)
        self._moved: dict[str, None] = {}
        self._shown: dict[str, Enriched] = {}
        self._enriched = untold  # and those that get a result here
        self._marks: dict[str, str | None] = {}

    def __contains__(self, stream_id: str) -> bool:
        return stream_id in self._streams

    def version(self, stream_id: str) -> int:
        """The version the stream is at, with what this append has folded so far."""
        return self._status.get(stream_id, Status()).version

    def decide(self, stream_id: str, event: Event) -> Event:
        """The event as it is to be recorded. Raises `Conflict`."""
        judged = self._outage.judged(event) if self._outage else event
        return decide(stream_id, self._status.get(stream_id, Status()), judged)

    def fold(self, decided: Decided) -> None:
        """Move both read models of the stream by one event."""
        stream_id = decided.stream_id
        if self._outage:
            self._outage.fold(decided)
        if self._table is not None:
            was = self._shown.get(stream_id) or self._shown_before(stream_id)
            self._shown[stream_id] = fold_shown(was, decided)
            if has_result(decided):
                self._enriched.add(stream_id)
        self._moved[stream_id] = None
        self._status[stream_id] = fold_status(self._status[stream_id], decided)

    def write(self, connection: Connection) -> None:
        """The users' table first, so that a status row can say what was refused there."""
        if self._table is not None:
            self._show(connection, self._table)
        moved = status_model.moved((self._before[one], self._status[one]) for one in self._moved)
        rows_of = [self._status_row(one) for one in self._moved]
        status_model.write(connection, self._dialect, rows_of, moved)
        status_model.mark(connection, self._dialect, self._marks, self._enriched)
        status_model.discard_empty(connection, self._before.keys() - self._moved.keys())

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None:
        """Write the rows that span streams; raises `HeldBack` for a start that the breaker or a limit holds back."""
        for projection in catalogue.spanning().values():
            advance(connection, self._dialect, projection, recorded)
        settle(connection, self._dialect, recorded)

    def _status_row(self, stream_id: str) -> Row:
        """The row is of the oldest fold that had a part in it: it is stale until a rebuild has folded it anew."""
        row = status_model.row(stream_id, self._status[stream_id])
        return row | {"fold_version": min(row["fold_version"], self._folds[stream_id])}

    def _shown_before(self, stream_id: str) -> Enriched:
        return self._unshown.get(stream_id) or before(self._before[stream_id])

    def _show(self, connection: Connection, table: Shown) -> None:
        """Write to the users' table what it shows otherwise now, and remember what it refused."""
        rows = {stream_id: row for stream_id in self._shown if (row := self._changes(table, stream_id)) is not None}
        parts = [stream_id for stream_id in rows if is_part(self._shown[stream_id])]
        refusals = table.store(connection, self._dialect, rows, Writing(parts, self._enriched))
        self._marks = {stream_id: refusals.get(stream_id) for stream_id in rows}

    def _changes(self, table: Shown, stream_id: str) -> Row | None:
        if stream_id in self._unshown:
            return self._unshown[stream_id] and table.row(stream_id, self._shown[stream_id])
        return table.changes(stream_id, self._shown_before(stream_id), self._shown[stream_id])
