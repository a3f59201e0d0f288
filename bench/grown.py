"""A database as it is after a long time: rows and events put straight into the tables, which takes seconds.

The events hash nothing, so the log is none that `verify` would pass. The status rows are what the events fold to, but
for budgets and givings-up that would take more than three events.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, Connection, Integer, Select, Table, Text, cast, func, insert, literal, select

from bench.long_log import PRIME, SCRAMBLED
from enrichlog.errors import ERROR_TYPES
from enrichlog.own_postings import job_postings
from enrichlog.retry import judged
from eventlog.canonical import text
from eventlog.database import Database
from eventlog.events import EnrichmentFailed, EnrichmentRequested, EnrichmentStarted, EnrichmentSucceeded, Event
from eventlog.log import Decided
from eventlog.schema import OURS, PARTS, UtcDateTime, events, metadata
from projections.enrichment_status import enrichment_status, row
from projections.status import Status, fold

MOMENTS = 50
MOST_EVENTS = 3


class Kind(NamedTuple):
    """How postings of one kind ended: as an error type or, without, well, or not yet at all; and what the status has
    beside that.
    """

    error_type: str | None = None
    used: int = 0
    wait_ms: int = 0
    given_up: bool = False
    pending: bool = False


PENDING = Kind(pending=True)
SUCCEEDED = Kind()
FAILED = (
    Kind("quota_exceeded"),
    Kind("timeout", used=1),
    Kind("timeout", used=5),
    Kind("rate_limited", wait_ms=10**9),
    Kind("refusal", used=1),
    Kind("invalid_json", used=2),
    Kind("server_error", given_up=True),
    Kind("quota_exceeded"),
)
MIXED = (SUCCEEDED, SUCCEEDED, SUCCEEDED, SUCCEEDED, *FAILED)


def grow(database: Database, postings: int, kinds: Sequence[Kind]) -> None:
    """Fill an empty, migrated database: so many postings, of these kinds in turn, all with as many events each."""
    with database.write() as connection:
        patterns = _patterns(kinds)
        _store_patterns(connection, patterns)
        numbers = _numbers(postings)
        connection.execute(_insert_postings(numbers))
        connection.execute(_insert_statuses(numbers, len(patterns)))
        last = len(_events(kinds[0]))
        for version in range(1, last + 1):
            connection.execute(_insert_events(numbers, len(patterns), version, last))
        _pattern.drop(connection)


_pattern = Table(
    "bench_pattern",
    metadata,
    Column("number", Integer, primary_key=True),
    *(Column(column.name, column.type) for column in enrichment_status.c if column.name not in ("stream_id", "job_id")),
    *(Column(f"{half}_{version}", Text) for half in ("type", "facts") for version in range(1, MOST_EVENTS + 1)),
    schema=OURS,
)
metadata.remove(_pattern)  # it is no table of the log's


def _patterns(kinds: Sequence[Kind]) -> list[dict[str, Any]]:
    """The rows that all postings are copies of: each kind at each moment of the last days."""
    noon = datetime.now(UTC) - timedelta(days=1)
    moments = [noon - timedelta(minutes=7 * number) for number in range(MOMENTS)]
    return [_pattern_row(kind, at) for at in moments for kind in kinds]


def _pattern_row(kind: Kind, at: datetime) -> dict[str, Any]:
    status, told = Status(), dict[str, Any]()
    for version, event in enumerate(_events(kind), 1):
        facts = event.payload(at).facts
        decided = Decided("job-1", version, "", type(event).__name__, facts, None, None)  # type: ignore[arg-type]
        status = fold(status, decided)
        told |= {f"type_{version}": decided.type, f"facts_{version}": text(facts)}
    used = max(kind.used, status.budget_used)
    due_at = None if kind.given_up else status.due_at
    shown = {**row("job-1", status._replace(budget_used=used, due_at=due_at)), **told, "projection_error": None}
    return {name: value for name, value in shown.items() if name not in ("stream_id", "job_id")}


def _events(kind: Kind) -> list[Event]:
    attempt: dict[str, Any] = {
        "attempt_id": "attempt-1",
        "attempt": 1,
        "request_model": "gpt-4o-mini",
        "input_hash": "h",
    }
    usage = {"input_tokens": 600, "output_tokens": 120, "cost_microdollars": 162}
    requested = EnrichmentRequested(why="new", actor="bench", input_hash="h")
    if kind.pending:
        return [requested]
    begun: list[Event] = [requested, EnrichmentStarted(**attempt, worker="bench", lease_seconds=360)]
    if kind.error_type is None:
        return [*begun, EnrichmentSucceeded(**attempt, **usage, result=None)]
    told = ERROR_TYPES[kind.error_type]
    failed = EnrichmentFailed(**attempt, **judged(told), fault=told.fault, wait_ms=kind.wait_ms, message=None)
    return [*begun, failed]


def _store_patterns(connection: Connection, patterns: Sequence[dict[str, Any]]) -> None:
    _pattern.create(connection)
    connection.execute(insert(_pattern), [{"number": number, **one} for number, one in enumerate(patterns)])


def _numbers(postings: int) -> Any:
    if postings > PRIME:
        raise SystemExit(f"at most {PRIME:,} postings: there are no more ids")
    one = select(literal(1, BigInteger).label("n")).cte("numbers", recursive=True)
    return one.union_all(select(one.c.n + 1).where(one.c.n < postings))


def _job_id(n: Any) -> Any:
    return literal("posting-") + cast(PRIME + (n * SCRAMBLED) % PRIME, Text)


def _insert_postings(numbers: Any) -> Any:
    values = {
        "id": _job_id(numbers.c.n),
        "title": literal("Engineer"),
        "description": literal("Work."),
        "input_hash": literal("h"),
        "imported_at": literal(datetime.now(UTC), UtcDateTime),
    }
    return insert(job_postings).from_select(list(values), select(*values.values()))


def _insert_statuses(numbers: Any, patterns: int) -> Any:
    named = {"stream_id": literal("job-") + _job_id(numbers.c.n), "job_id": _job_id(numbers.c.n)}
    columns = [named.get(column.name, _pattern.c.get(column.name)) for column in enrichment_status.c]
    return insert(enrichment_status).from_select(enrichment_status.c.keys(), _joined(columns, numbers, patterns))


def _insert_events(numbers: Any, patterns: int, version: int, last: int) -> Any:
    position = (numbers.c.n - 1) * last + version
    values = {
        "position": position,
        "event_id": cast(position, Text),
        "stream_id": literal("job-") + _job_id(numbers.c.n),
        "version": literal(version, Integer),
        "part": numbers.c.n % PARTS,
        "type": _pattern.c[f"type_{version}"],
        "recorded_at": func.coalesce(_pattern.c.completed_at, _pattern.c.due_at),
        "facts": _pattern.c[f"facts_{version}"],
        "content_digest": literal(b"\0" * 32),
        "hash": literal(b"\0" * 32),
    }
    return insert(events).from_select(list(values), _joined(list(values.values()), numbers, patterns))


def _joined(columns: Sequence[Any], numbers: Any, patterns: int) -> Select[Any]:
    return select(*columns).join_from(numbers, _pattern, _pattern.c.number == numbers.c.n % patterns)
