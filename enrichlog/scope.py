"""Scopes: which postings a run takes, as conditions on the index of what is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, true

from enrichlog.postings import source_of
from enrichlog.retry import types_allowed_at
from enrichlog.selection import Allowance, Selection
from eventlog.database import Database
from projections import bases
from projections.enrichment_status import IS_FAILED, IS_PENDING, IS_RUNNING, enrichment_status


@dataclass(frozen=True)
class Scope:
    """Which postings a run takes: those due by `horizon`, only what one batch requested, or those of `job_ids`.

    A run takes each posting at most once: what fails or changes during it is due after its horizon, and the named ones
    have their turn one after the other, of which `turned` counts those that had it. A named one that is not pending is
    requested in the claim itself, with `why` and `batch`: a run that ends early leaves no request behind. Those that
    somebody holds just then, and those on which a worker died, have a second turn behind all others (`second` is where
    these begin), in which they are waited for and taken one by one; `missed` were not to be had even then. With a
    `basis`, failures that nothing else would take are tried anew where they have not been tried with that one. `heads`
    has, by the place of a branch, when the first was due that the last claim took of it: no claim walks again over
    thousands whose postings are gone, which stay due for ever.
    """

    horizon: datetime
    batch: str | None = None
    job_ids: tuple[str, ...] | None = None
    why: Literal["retry", "force"] = "retry"
    turned: int = 0
    second: int | None = None
    missed: tuple[str, ...] = ()
    basis: str | None = None
    heads: tuple[tuple[int, datetime], ...] = ()

    def turn(self, limit: int) -> tuple[str, ...]:
        """The named postings whose turn a claim of up to `limit` is; none when no names are given."""
        names, second = self.job_ids or (), self.is_second_round
        end = self.turned + 1 if second else min(self.turned + limit, self._second)
        return names[self.turned : end]

    def rest(self, turned: int, missed: tuple[str, ...] = ()) -> Scope:
        """What is left once so many more of those that are named have had their turn, some of them in vain."""
        if self.job_ids is None:
            return self
        again, lost = ((), missed) if self.is_second_round else (missed, ())
        names, turned = self.job_ids + again, self.turned + turned
        return replace(self, job_ids=names, second=self._second, turned=turned, missed=self.missed + lost)

    @property
    def is_second_round(self) -> bool:
        """Whether all that are named have had their first turn."""
        return self.job_ids is not None and self.turned >= self._second

    @property
    def is_exhausted(self) -> bool:
        """Whether all that are named have had their turn."""
        return self.job_ids is not None and self.turned >= len(self.job_ids)

    @property
    def _second(self) -> int:
        return len(self.job_ids or ()) if self.second is None else self.second


def scope_branches(
    database: Database, enrichment: str, scope: Scope, now: datetime, max_attempts: int, names: tuple[str, ...] = (), *,
    alone: bool = False,
) -> Iterator[ColumnElement[bool]]:  # fmt: skip
    """The conditions of what a run takes, in the order it takes them; each is one range of an index of due rows,
    but for the last: failures tried anew. Made one by one: mostly the first is enough.

    `names` are the named postings whose turn it is. `alone`: only those on which a worker died, else only the others;
    in their second round the named ones are taken one by one anyway.

    Never tried or requested first, then failures by the budget they have used: one branch for each value, so that no
    claim walks over postings that have used theirs up.
    """
    status = enrichment_status.c
    pending, due = IS_PENDING, status.due_at <= scope.horizon
    ours = and_(status.enrichment == enrichment, source_of(database).has_posting)
    if scope.job_ids is not None:
        yield and_(ours, status.job_id.in_(names), *_may_be_named(scope))
        return
    ours = and_(ours, status.deaths > 0 if alone else status.deaths == 0)
    if scope.batch is not None:
        yield and_(ours, pending, status.batch == scope.batch)
        return
    yield and_(ours, pending, due)
    failed = and_(ours, IS_FAILED, status.retryable)
    if alone:  # their own end cannot have come before this run's horizon: it is this run that closed them
        yield and_(failed, status.due_at <= now)
        return
    used = status.budget_used - status.grants
    yield and_(failed, due, used < 0, _may_use(0, max_attempts))
    for budget in range(max_attempts):
        yield and_(failed, due, used == budget, _may_use(budget, max_attempts))
    yield and_(failed, due, used >= max_attempts, status.max_attempts.is_not(None), status.max_attempts > used)
    if scope.basis is not None:
        yield and_(*tried_anew(database, enrichment, scope.basis, scope.horizon, max_attempts))


def tried_anew(
    database: Database, enrichment: str, basis: str, horizon: datetime, max_attempts: int
) -> tuple[ColumnElement[bool], ...]:
    """Failures that are final, and never were of this basis; no index knows these, so the claims ask for them last.

    That is `projections.bases.is_new` of each. One on which workers died too often is left to a person.
    """
    status, verdicts = enrichment_status.c, Allowance(None, max_attempts).verdicts(horizon)
    final = or_(verdicts["exhausted"], verdicts["not_retryable"])
    is_new = and_(func.length(status.bases) < bases.FULL_LENGTH, ~status.bases.contains(basis))
    ended = and_(status.deaths == 0, status.completed_at <= horizon)
    return (*Selection().conditions(enrichment), final, is_new, ended, source_of(database).has_posting)


def count_due(database: Database, enrichment: str, scope: Scope, max_attempts: int) -> int:
    """How many postings a run over this scope would take now, those whose worker died among them."""
    if scope.job_ids is not None:
        return len(scope.job_ids) - scope.turned
    with database.read() as connection:
        now = database.dialect.clock(connection)
        branches = [*scope_branches(database, enrichment, scope, now, max_attempts)]
        branches += scope_branches(database, enrichment, scope, now, max_attempts, alone=True)
        branches += [] if scope.batch else [and_(orphaned(enrichment, now), source_of(database).has_posting)]
        counts = [select(func.count()).select_from(enrichment_status).where(branch) for branch in branches]
        return sum(connection.execute(count).scalar_one() for count in counts)


def is_any_due(
    connection: Connection, database: Database, enrichment: str, scope: Scope, now: datetime, max_attempts: int
) -> bool:
    """Whether there is anything for a run over this scope to take."""
    if scope.job_ids is not None:
        return not scope.is_exhausted
    branches = scope_branches(database, enrichment, scope, now, max_attempts)
    return _is_any(connection, branches) or is_any_suspect(connection, database, enrichment, scope, now, max_attempts)


def is_any_suspect(
    connection: Connection, database: Database, enrichment: str, scope: Scope, now: datetime, max_attempts: int
) -> bool:
    """Whether a posting on which a worker died is due in this scope, which names none."""
    return _is_any(connection, scope_branches(database, enrichment, scope, now, max_attempts, alone=True))


def _is_any(connection: Connection, branches: Iterable[ColumnElement[bool]]) -> bool:
    queries = (select(enrichment_status.c.stream_id).where(branch).limit(1) for branch in branches)
    return any(connection.execute(query).first() for query in queries)


def is_any_anew(connection: Connection, database: Database, enrichment: str, scope: Scope, max_attempts: int) -> bool:
    """Whether there is any failure that the scope tries anew, be it one that somebody else holds just then."""
    if scope.basis is None:
        return False
    conditions = tried_anew(database, enrichment, scope.basis, scope.horizon, max_attempts)
    return connection.execute(select(enrichment_status.c.stream_id).where(*conditions).limit(1)).first() is not None


def orphaned(enrichment: str, now: datetime, names: tuple[str, ...] | None = None) -> ColumnElement[bool]:
    """Attempts whose lease ran out, of these postings or of all, also of deleted ones."""
    status = enrichment_status.c
    named = true() if names is None else status.job_id.in_(names)
    return and_(status.enrichment == enrichment, IS_RUNNING, status.due_at <= now, named)


def _may_be_named(scope: Scope) -> tuple[ColumnElement[bool], ...]:
    """Which of the postings that are named are taken in this round."""
    status = enrichment_status.c
    free = status.state != "running" if scope.why == "force" else or_(IS_PENDING, _may_be_retried())
    return free, true() if scope.is_second_round else status.deaths == 0


def _may_be_retried() -> ColumnElement[bool]:
    """Failed still: somebody else may have succeeded since the posting was named."""
    return and_(enrichment_status.c.state == "failed", enrichment_status.c.retryable)


def _may_use(budget: int, max_attempts: int) -> ColumnElement[bool]:
    status = enrichment_status.c
    by_policy = and_(status.max_attempts.is_(None), status.error_type.in_(types_allowed_at(budget, max_attempts)))
    return or_(status.max_attempts > budget, by_policy)
