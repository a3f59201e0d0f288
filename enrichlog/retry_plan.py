"""A bulk retry is a plan first: which failed postings it would take, and why it leaves the others.

The counts are those of one position of the log, in SQL over an index that has all they need.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, and_, case, func, select

from enrichlog.estimate import AnsweredCalls, estimate
from enrichlog.postings import source_of
from enrichlog.price import PricedModel
from enrichlog.retry import VERDICTS, Verdict
from enrichlog.selection import Allowance, Selection, most_used
from enrichlog.targets import PAGE, Target
from eventlog.database import Database
from eventlog.log import head_position
from eventlog.schema import events
from projections.enrichment_status import IS_PENDING, enrichment_status

# No range of the index by time: in that order it takes twice as long to look up whether each posting is still there.
_UNORDERED_TIME = func.coalesce(enrichment_status.c.completed_at, enrichment_status.c.completed_at)


@dataclass
class RetryPlan:
    """What a retry would do with the postings that are selected, as they stood at a position of the log.

    `counts` is by (error type, verdict); `next_due` is when the first of the waiting ones may be tried; `most_used` is
    the most counted failures of any of them. At most `limit` are taken. `estimate` is of what calls have taken.
    `requested_already` counts those that were selected and await another request: they are no part of the plan.
    """

    enrichment: str
    selection: Selection
    policy: Allowance
    position: int
    now: datetime
    limit: int | None = None
    counts: Counter[tuple[str, Verdict]] = field(default_factory=Counter)
    next_due: datetime | None = None
    most_used: int = 0
    estimate: AnsweredCalls = field(default_factory=AnsweredCalls)
    requested_already: int = 0

    @property
    def taken(self) -> int:
        """How many postings it takes."""
        may_be = self.total("will_try")
        return may_be if self.limit is None else min(may_be, self.limit)

    @property
    def left_for_later(self) -> int:
        """How many more it would take if there were no limit."""
        return self.total("will_try") - self.taken

    def total(self, wanted: Verdict) -> int:
        """How many postings have this verdict."""
        return sum(count for (_, found), count in self.counts.items() if found == wanted)

    def by_error_type(self) -> dict[str, dict[str, int]]:
        """The counts of each error type, most postings first."""
        totals: Counter[str] = Counter()
        for (name, _), count in sorted(self.counts.items()):
            totals[name] += count
        return {name: {one: self.counts[name, one] for one in VERDICTS} for name, _ in totals.most_common()}

    def told(self) -> str:
        """The options that mean the same, and the position they were read at."""
        options = [self.selection.told()]
        options += [f"--max-attempts {self.policy.max_attempts}"] if self.policy.max_attempts else []
        options += [f"--limit {self.limit}"] if self.limit else []
        return " ".join(filter(None, [*options, f"at position {self.position}"]))


def plan_retry(
    database: Database, enrichment: str, selection: Selection, policy: Allowance, limit: int | None = None,
    priced: PricedModel | None = None,
) -> RetryPlan:  # fmt: skip
    """Plan a retry of what is selected; deleted postings are no part of it, and no row of a posting is fetched.

    `priced` is the model to be asked, whose price the estimate goes by.
    """
    with database.read() as connection:
        database.dialect.see_one_moment(connection)
        now, position = database.dialect.clock(connection), head_position(connection)
        plan = RetryPlan(enrichment, selection, policy, position, now, limit)
        _count(connection, database, plan)
        plan.requested_already = connection.execute(_requested(database, plan)).scalar_one()
    plan.estimate = estimate(database, enrichment, priced)
    return plan


def counting(database: Database, plan: RetryPlan) -> Select[Any]:
    """The query that counts: one row for each error type."""
    status, verdicts = enrichment_status.c, plan.policy.verdicts(plan.now)
    sums = [func.sum(case((verdicts[name], 1), else_=0)).label(name) for name in VERDICTS]
    next_due = func.min(case((verdicts["waiting"], status.due_at))).label("next_due")
    query = select(status.error_type, *sums, next_due, most_used().label("most_used"))
    selected = plan.selection.conditions(plan.enrichment, failed_at=_UNORDERED_TIME)
    return query.where(*selected, source_of(database).has_posting).group_by(status.error_type)


def targets_of(database: Database, plan: RetryPlan) -> Iterator[list[Target]]:
    """The postings that the plan takes, in pages, as far as their streams stand where they stood at its position."""
    left = plan.taken
    for error_type in sorted(name for name, found in plan.counts if found == "will_try"):
        after = ""
        while left and (page := database.page(_targets(database, plan, error_type, after).limit(min(left, PAGE)))):
            yield [Target(row.job_id, row.version) for row in page]
            after, left = page[-1].job_id, left - len(page)


def _count(connection: Connection, database: Database, plan: RetryPlan) -> None:
    for row in connection.execute(counting(database, plan)):
        counts = {(row.error_type, name): int(getattr(row, name)) for name in VERDICTS}
        plan.counts.update({key: count for key, count in counts.items() if count})
        plan.most_used = max(plan.most_used, row.most_used)
        plan.next_due = min(filter(None, (plan.next_due, row.next_due)), default=None)


def _requested(database: Database, plan: RetryPlan) -> Select[Any]:
    """How many of the selected postings are pending, because somebody has requested them since they failed."""
    status = enrichment_status.c
    failed_before = plan.selection.conditions(plan.enrichment, IS_PENDING)
    query = select(func.count()).select_from(enrichment_status)
    return query.where(*failed_before, status.error_type.is_not(None), source_of(database).has_posting)


def _targets(database: Database, plan: RetryPlan, error_type: str, after: str) -> Select[Any]:
    status = enrichment_status.c
    newest = and_(events.c.stream_id == status.stream_id, events.c.version == status.version)
    query = select(status.job_id, status.version).join(events, newest).where(events.c.position <= plan.position)
    selected = plan.selection._replace(error_types=(error_type,)).conditions(plan.enrichment)
    will_be = plan.policy.verdicts(plan.now)["will_try"]
    wanted = (*selected, will_be, source_of(database).has_posting)
    return query.where(*wanted, status.job_id > after).order_by(status.job_id)
