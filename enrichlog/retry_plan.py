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
from enrichlog.scope import HAS_POSTING
from enrichlog.targets import Target
from enrichlog.terminal import counted
from eventlog.database import Database
from projections.enrichment_status import enrichment_status

PAGE = 2_000
MOST = 100
"""The largest maximum of attempts there is."""


@dataclass
class RetryPlan:
    """What a retry would do: the postings it takes, at the version they were looked at, and the counts of all.

    `counts` is by (error type, verdict); `next_due` is when the first of the waiting ones may be tried; `most_used` is
    the most counted failures of one that has used up its attempts. `error_types` is what was asked.
    """

    max_attempts: int | None
    error_types: Sequence[str] = ()
    targets: list[Target] = field(default_factory=list)
    counts: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    next_due: datetime | None = None
    most_used: int = 0

    def total(self, wanted: Verdict) -> int:
        """How many postings have this verdict."""
        return sum(count for (_, found), count in self.counts.items() if found == wanted)

    def by_error_type(self) -> dict[str, dict[str, int]]:
        """The counts of each error type, most postings first."""
        totals: Counter[str] = Counter()
        for (name, _), count in sorted(self.counts.items()):
            totals[name] += count
        return {name: {one: self.counts[name, one] for one in VERDICTS} for name, _ in totals.most_common()}

    def why_nothing(self) -> str:
        """Why there is nothing to try, and what to type instead."""
        waiting, exhausted = self.total("waiting"), self.total("exhausted")
        by_force = "If you must: enrichlog enrich JOB_ID --force"
        if not self.counts and not self.error_types:
            return "Nothing has failed."
        if not self.counts:
            return "No posting has failed like that. See what has with: enrichlog errors"
        if waiting and self.next_due:
            wait = "waits until" if waiting == 1 else "wait until"
            return f"{counted(waiting, 'posting')} {wait} {self.next_due:%Y-%m-%d %H:%M:%S} UTC or later; retry then."
        if exhausted:
            have = "has used up its" if exhausted == 1 else "have used up their"
            asked = "".join(f" --error-type {name}" for name in self.error_types)
            more = f"Allow one more with: enrichlog retry{asked} --max-attempts {self.most_used + 1}"
            return f"{counted(exhausted, 'posting')} {have} attempts. {more if self.most_used < MOST else by_force}"
        return f"Trying these again brings the same. {by_force}"


def plan_retry(
    database: Database, enrichment: str, error_types: Sequence[str], max_attempts: int | None, default: int
) -> RetryPlan:
    """Plan a retry of what failed with one of these error types (none given: any); deleted postings are no part of it.

    An explicit maximum overrides both the default and the caps of the error types.
    """
    plan = RetryPlan(max_attempts, error_types)
    with database.read() as connection:
        now = database.dialect.clock(connection)
    for row in _failed(database, enrichment, error_types):
        allowed = max_attempts or allowance(row.max_attempts, row.cap, default)
        used = row.budget_used - row.grants
        found = verdict(
            retryable=bool(row.retryable),
            budget_used=used,
            allowed=allowed,
            deaths=row.deaths,
            due_at=row.due_at,
            now=now,
        )
        plan.counts[row.error_type, found] += 1
        if found == "will_try":
            plan.targets.append(Target(row.job_id, row.version))
        if found == "exhausted":
            plan.most_used = max(plan.most_used, used)
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
        status.budget_used, status.grants, status.max_attempts, status.due_at, status.deaths,
    ).where(status.enrichment == enrichment, status.state == "failed", HAS_POSTING)  # fmt: skip
    if error_types:
        query = query.where(status.error_type.in_(error_types))
    while page := database.page(query.where(status.stream_id > after).order_by(status.stream_id).limit(PAGE)):
        yield from page
        after = page[-1].stream_id
