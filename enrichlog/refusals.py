"""What the users' table did not take: which postings, for what reason, and since which event."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from sqlalchemy import func, select

from eventlog.database import Database
from eventlog.errors import TableTrouble
from eventlog.events import iso
from eventlog.log import Recorded, read_stream
from eventlog.streams import split_stream
from projections.enrichment_status import enrichment_status
from projections.llm_enrichment import projection_of, shown
from projections.projection import Projection, Row
from projections.reconcile import marks
from projections.shown import NAME
from projections.tables import columns_there, find_trouble

Document = dict[str, Any]


class Refusal(NamedTuple):
    """A posting whose row was refused, why, and the first event that the table does not show; None where it does."""

    stream_id: str
    reason: str
    since: Recorded | None

    def document(self) -> Document:
        """For scripts."""
        enrichment, job_id = split_stream(self.stream_id)
        event = self.since
        since = event and {"position": event.position, "type": event.type, "recorded_at": iso(event.recorded_at)}
        return {"job_id": job_id, "enrichment": enrichment, "reason": self.reason, "since": since}


class Reason(NamedTuple):
    """One reason of the database's, in its first line: how many postings it has kept out, and the first of them."""

    told: str
    postings: int
    first: list[Refusal]


def list_refusals(database: Database, limit: int) -> list[Reason]:
    """Every reason, that of most postings first, with at most so many of its postings in the order of streams."""
    counts: dict[str, int] = {}
    first: dict[str, list[tuple[str, str]]] = {}
    for stream_id, reason in marks(database):
        told = first_line(reason)
        counts[told] = counts.get(told, 0) + 1
        if counts[told] <= limit:
            first.setdefault(told, []).append((stream_id, reason))
    lacking = _lacking(database)
    ordered = sorted(counts, key=lambda told: (-counts[told], told))
    return [Reason(told, counts[told], [_refusal(database, *one, lacking) for one in first[told]]) for told in ordered]


def document(reasons: list[Reason], trouble: TableTrouble | None) -> Document:
    """For scripts: how many, by reason, and those that are named, each with the whole of its reason.

    `trouble` is what is wrong with the table as such.
    """
    return {
        "trouble": trouble and str(trouble),
        "total": sum(one.postings for one in reasons),
        "reasons": [{"reason": one.told, "postings": one.postings} for one in reasons],
        "postings": [refusal.document() for one in reasons for refusal in one.first],
    }


def first_line(reason: str) -> str:
    """How every screen tells a reason: what it says of the rule.

    The lines that may follow it say which row broke it; documents for scripts have them all.
    """
    return " ".join(reason.split("\n", 1)[0].split()).removesuffix(".")


def count_refusals(database: Database) -> int:
    """How many postings the users' table did not take."""
    marked = enrichment_status.c.projection_error.is_not(None)
    return database.count(select(func.count()).select_from(enrichment_status).where(marked))


def find_table_trouble(database: Database) -> TableTrouble | None:
    """What is wrong with the users' table as such, when somebody has dropped or altered it."""
    return find_trouble(database, [NAME]).get(NAME)


def _refusal(database: Database, stream_id: str, reason: str, lacking: Collection[str] | None) -> Refusal:
    live = None if lacking is None else _live(database, stream_id, lacking)
    return Refusal(stream_id, reason, _first_not_shown(projection_of(database.adopted), stream_id, live, database))


def _lacking(database: Database) -> Collection[str] | None:
    """The columns that the users' table lacks, which may be why it refuses rows; None when it has no key either."""
    table = projection_of(database.adopted).table
    with database.read() as connection:
        there = columns_there(connection, database, table) or set()
    lacking = {column.name for column in table.columns} - there
    return None if lacking & set(table.primary_key.columns.keys()) else lacking


def _live(database: Database, stream_id: str, lacking: Collection[str]) -> Row | None:
    """What the table shows of a posting, of the columns that are there."""
    with database.read() as connection:
        found = shown(database.adopted).load(connection, database.dialect, [stream_id], lacking)
    return found.get(stream_id)


def _first_not_shown(
    projection: Projection[Any], stream_id: str, live: Row | None, database: Database
) -> Recorded | None:
    """The event that changed what is to be shown first, after all that the table shows."""
    state, since, before = projection.initial, None, None
    for event in read_stream(database, stream_id):
        state = projection.fold(state, event)
        row = projection.row(stream_id, state)
        if _shows(projection.seen(live, row), row):
            since = None
        elif since is None and row != before:
            since = event
        before = row
    return since


def _shows(live: Row | None, row: Mapping[str, Any] | None) -> bool:
    if live is None or row is None:
        return live is None and row is None
    return all(live[name] == value for name, value in row.items() if name in live)
