"""What people ask of the read models: which failed and why, how often, what ever happened to a posting."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select

from enrichlog.errors import advice_of, group_of
from enrichlog.exceptions import UnknownJob
from enrichlog.posting import Titled
from enrichlog.postings import find_posting, find_titles
from enrichlog.retry import Verdict
from enrichlog.selection import Allowance, Selection
from eventlog.database import Database
from eventlog.events import iso, moment
from eventlog.log import Recorded, head_position, read_stream
from eventlog.streams import stream_of
from projections.enrichment_status import enrichment_status, status_of
from projections.llm_enrichment import errors_shown
from projections.status import STATES

Document = dict[str, Any]
PAGE = 500


class FailedPage(NamedTuple):
    """The newest failures, and how many there are in all."""

    total: int
    rows: list[Document]


def failed(database: Database, enrichment: str, selection: Selection, limit: int, default: int) -> FailedPage:
    """The failed postings, newest first; `default` is the maximum of attempts without a cap or request."""
    policy, rows = Allowance(None, default), list[Document]()
    with database.read() as connection:
        now = database.dialect.clock(connection)
        found = connection.execute(newest_failures(enrichment, selection).limit(limit)).all()
        total = connection.execute(failure_count(enrichment, selection)).scalar_one()
        for start in range(0, len(found), PAGE):
            page = found[start : start + PAGE]
            titles = find_titles(connection, database, [row.job_id for row in page])
            errors = errors_shown(connection, database, [row.stream_id for row in page])
            for row in page:
                verdict = policy.verdict(status_of(row._mapping), now)
                rows.append(failure(row, titles[row.job_id], errors.get(row.stream_id), verdict))
    return FailedPage(total, rows)


def newest_failures(enrichment: str, selection: Selection) -> Select[Any]:
    """The status rows of what failed, newest first."""
    status = enrichment_status.c
    query = select(enrichment_status).where(*selection.conditions(enrichment))
    return query.order_by(status.completed_at.desc(), status.stream_id)


def failure_count(enrichment: str, selection: Selection) -> Select[Any]:
    """How many have failed."""
    return select(func.count()).select_from(enrichment_status).where(*selection.conditions(enrichment))


def failure(row: Any, titled: Titled, error: str | None, found: Verdict) -> Document:
    """One failed posting, of what its status, the posting and the users' table say."""
    return {
        "job_id": row.job_id,
        "title": titled.title,
        "company": titled.company,
        "error_type": row.error_type,
        "error": error,
        "failed_at": row.completed_at and iso(row.completed_at),
        "attempts": row.attempts,
        "retryable": found in ("will_try", "waiting"),
        "retry_at": row.due_at and iso(row.due_at),
    }


def errors(database: Database, enrichment: str) -> list[Document]:
    """How many postings failed with each error type, most first, and what to do about each."""
    return told_errors({row.error_type: row.count for row in database.page(failures_by_type(enrichment))})


def told_errors(counts: Mapping[str, int]) -> list[Document]:
    """Error types with how many postings failed with each, most first, and what to do about each."""
    told = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [{"error_type": name, "group": group_of(name), "count": n, "advice": advice_of(name)} for name, n in told]


def failures_by_type(enrichment: str) -> Select[Any]:
    """How many have failed with each error type."""
    status, count = enrichment_status.c, func.count().label("count")
    query = select(status.error_type, count).where(*Selection().conditions(enrichment))
    return query.group_by(status.error_type)


def is_any_retryable(database: Database, enrichment: str) -> bool:
    """Whether anything has failed that may be tried again."""
    failures = select(enrichment_status.c.job_id).where(*Selection().conditions(enrichment))
    return bool(database.page(failures.where(enrichment_status.c.retryable).limit(1)))


def history(database: Database, enrichment: str, job_id: str) -> Document:
    """Every event of a posting, oldest first. Raises `UnknownJob` when there is neither posting nor event."""
    events = read_stream(database, stream_of(enrichment, job_id))
    if not events:
        find_posting(database, job_id)
    return told_history(job_id, events)


def told_history(job_id: str, events: Iterable[Recorded]) -> Document:
    """These events of a posting."""
    told = [
        {
            "position": event.position,
            "version": event.version,
            "type": event.type,
            "recorded_at": iso(event.recorded_at),
            "payload": event.facts | (event.content or {}),
        }
        | _retry_at(event.facts)
        for event in events
    ]
    return {"job_id": job_id, "events": told}


def _retry_at(facts: dict[str, Any]) -> Document:
    """When a failed posting may be tried again; nothing for other events, and for what is not to be tried again."""
    if not facts.get("retryable") or facts.get("wait_ms") is None:
        return {}
    return {"retry_at": iso(moment(facts["occurred_at"]) + timedelta(milliseconds=facts["wait_ms"]))}


def status(database: Database, enrichment: str) -> Document:
    """How many postings are in which state, what was spent, and where the log ends."""
    table = enrichment_status.c
    sums = [func.coalesce(func.sum(getattr(table, name)), 0).label(name) for name in SUMMED]
    query = select(table.state, func.count().label("count"), *sums).where(table.enrichment == enrichment)
    with database.read() as connection:
        rows = connection.execute(query.group_by(table.state)).all()
        hidden = select(func.count()).select_from(enrichment_status).where(table.projection_error.is_not(None))
        not_shown, position = connection.execute(hidden).scalar_one(), head_position(connection)
    states = dict.fromkeys(STATES, 0) | {row.state: row.count for row in rows}
    spent = {name: int(sum(getattr(row, name) for row in rows)) for name in SUMMED}
    place = {"database": database.dialect.where(), "enrichment": enrichment}
    return {**place, "postings": states, **spent, "projection_failed": not_shown, "position": position}


SUMMED = ("attempts", "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls")
"""What was spent: of each status, and of all together."""


def error_shown(database: Database, enrichment: str, job_id: str) -> str | None:
    """The error that the users' table shows of a posting."""
    stream_id = stream_of(enrichment, job_id)
    with database.read() as connection:
        return errors_shown(connection, database, [stream_id]).get(stream_id)


def current(database: Database, enrichment: str, job_id: str) -> Any:
    """The status row of a posting. Raises `UnknownJob` when it was never requested."""
    rows = database.page(
        select(enrichment_status).where(enrichment_status.c.stream_id == stream_of(enrichment, job_id))
    )
    if not rows:
        raise UnknownJob(job_id=job_id)
    return rows[0]
