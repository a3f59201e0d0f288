"""A bulk retry is a plan first: which failed postings it would take, and why it leaves the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from enrichlog.errors import ERROR_TYPES
from enrichlog.retry import VERDICTS, Verdict, allowance, verdict
from enrichlog.targets import Target
from eventlog.database import Database
from projections.enrichment_status import enrichment_status

PAGE = 2_000


@dataclass
class RetryPlan:
    """What a retry would do: the postings it takes, at the version they were looked at, and the counts of all.

    `counts` is by (error type, verdict); `next_due` is when the first of the waiting ones may be tried.
    """

    max_attempts: int | None
    targets: list[Target] = field(default_factory=list)
    counts: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    next_due: datetime | None = None

    def total(self, wanted: Verdict) -> int:
        """How many postings have this verdict."""
        return sum(count for (_, found), count in self.counts.items() if found == wanted)

    def by_error_type(self) -> dict[str, dict[str, int]]:
        """The counts of each error type."""
        names = dict.fromkeys(name for name, _ in self.counts)
        return {name: {one: self.counts[name, one] for one in VERDICTS} for name in names}

    def why_nothing(self) -> str:
        """Why there is nothing to try, and what to type instead."""
        if not self.counts:
            return "No posting has failed like that. See what has with: enrichlog errors"
        if self.total("waiting") and self.next_due:
            return f"{self.total('waiting')} wait until {self.next_due:%Y-%m-%d %H:%M:%S} UTC or later; retry then."
        if self.total("exhausted"):
            more = "Allow more with: enrichlog retry --max-attempts 10"
            return f"{self.total('exhausted')} have used up their attempts. {more}"
        return "Trying these again brings the same. If you must: enrichlog enrich JOB_ID --force"


def plan_retry(
    database: Database, enrichment: str, error_types: Sequence[str], max_attempts: int | None, default: int
) -> RetryPlan:
    """Plan a retry of what failed with one of these error types (none given: any).

    An explicit maximum overrides both the default and the caps of the error types.
    """
    plan = RetryPlan(max_attempts)
    with database.read() as connection:
        now = database.dialect.clock(connection)
    for row in _failed(database, enrichment, error_types):
        allowed = max_attempts or allowance(row.max_attempts, row.cap, default)
        used = row.budget_used - row.grants
        found = verdict(retryable=bool(row.retryable), budget_used=used, allowed=allowed, due_at=row.due_at, now=now)
        plan.counts[row.error_type, found] += 1
        if found == "will_try":
            plan.targets.append(Target(row.job_id, row.version))
        if found == "waiting":
            plan.next_due = min(filter(None, (plan.next_due, row.due_at)))
    return plan


def advice(error_type: str) -> str:
    """What a person can do about an error type."""
    return ERROR_TYPES[error_type].advice if error_type in ERROR_TYPES else ""


def _failed(database: Database, enrichment: str, error_types: Sequence[str]) -> Iterator[Any]:
    status, after = enrichment_status.c, ""
    query = select(
        status.stream_id, status.job_id, status.version, status.error_type, status.retryable, status.cap,
        status.budget_used, status.grants, status.max_attempts, status.due_at,
    ).where(status.enrichment == enrichment, status.state == "failed")  # fmt: skip
    if error_types:
        query = query.where(status.error_type.in_(error_types))
    while page := database.page(query.where(status.stream_id > after).order_by(status.stream_id).limit(PAGE)):
        yield from page
        after = page[-1].stream_id
