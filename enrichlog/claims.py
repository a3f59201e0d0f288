"""Claiming is appending: pick postings that are due, and append their starts in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, exists, func, or_, select

from enrichlog import attempt
from enrichlog.attempt import Started
from enrichlog.enrichment import Enrichment, Request, request_for
from enrichlog.errors import ERROR_TYPES
from enrichlog.outcome import Outcome
from enrichlog.postings import Posting, job_postings, load_postings
from enrichlog.retry import allowance, types_allowed_at
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentStarted
from eventlog.log import Proposal, append, recorded
from eventlog.schema import events
from projections.enrichment_status import Status, enrichment_status, status_of
from projections.inline import InlineReadModels

LEASE_MARGIN_SECONDS = 60
"""A lease outlives the call's own deadline, so that no heartbeat is needed."""

LEASE_RAN_OUT = "The worker {worker} did not come back before its lease ran out"


@dataclass(frozen=True)
class Scope:
    """Which postings a run takes: those due by `horizon`, or only what is requested of one batch, or of these ids.

    A run takes each posting at most once, because what fails or changes during it is due after its horizon.
    """

    horizon: datetime
    batch: str | None = None
    job_ids: tuple[str, ...] | None = None


class Claim(NamedTuple):
    """A posting that is ours until its lease runs out; `outcome` is there when no call is to be made."""

    posting: Posting
    started: Started
    request: Request
    outcome: Outcome | None

    def begun_at(self, position: int) -> Claim:
        """The claim, once its start stands there in the log."""
        return self._replace(started=self.started._replace(position=position))


class Claims(NamedTuple):
    """What one claim took; `unaffordable` when money was the reason that it took no more.

    `given_up` counts the postings that were picked and not begun: their workers died too often, or they are deleted.
    """

    taken: list[Claim]
    unaffordable: bool = False
    given_up: int = 0

    @property
    def found(self) -> bool:
        """Whether there was anything to do; then there may be more."""
        return bool(self.taken or self.given_up)


def claim(
    database: Database, settings: Settings, enrichment: Enrichment, scope: Scope, worker: str, limit: int,
    money: int | None = None,
) -> Claims:  # fmt: skip
    """Claim up to `limit` postings of the scope, in one transaction; fewer, or none, when no more are due.

    `money` (micro-dollars) is what their calls together may cost at the most. Orphans of postings that have been
    deleted are closed on the way.
    """
    with database.write() as connection:
        now = database.dialect.clock(connection)
        branches = scope_branches(enrichment.name, scope, now, settings.max_attempts)
        picked = _pick(connection, [*branches, _bereft(enrichment.name, now)], limit)
        postings = load_postings(connection, [row.job_id for row in picked])  # one may be deleted by now
        wanted = [row for row in picked if row.job_id in postings and _may_go_on(row, settings.max_attempts)]
        given_up = [row for row in picked if row not in wanted]
        prepared = [
            _prepare(settings, enrichment, row.stream_id, status_of(row._mapping), postings[row.job_id], worker)
            for row in wanted
        ]
        taken = _affordable(prepared, money)
        closed = [_close_orphan(connection, row) for row in given_up + wanted[: len(taken)] if row.state == "running"]
        positions = _append(connection, database, closed + [_start_proposal(one.started) for one in taken])
    begun = [one.begun_at(position) for one, position in zip(taken, positions[len(closed) :], strict=True)]
    return Claims(begun, unaffordable=len(taken) < len(prepared), given_up=len(given_up))


def count_due(database: Database, enrichment: str, scope: Scope, max_attempts: int) -> int:
    """How many postings a run over this scope would take now."""
    with database.read() as connection:
        now = database.dialect.clock(connection)
        branches = scope_branches(enrichment, scope, now, max_attempts)
        counts = [select(func.count()).select_from(enrichment_status).where(branch) for branch in branches]
        return sum(connection.execute(count).scalar_one() for count in counts)


def lease_seconds(settings: Settings) -> int:
    """How long a claim holds a posting."""
    return round(settings.deadline_seconds) + LEASE_MARGIN_SECONDS


def scope_branches(enrichment: str, scope: Scope, now: datetime, max_attempts: int) -> list[ColumnElement[bool]]:
    """The conditions of what a run takes, in the order it takes them; each is one range of the index of due rows.

    Never tried or requested first, then attempts whose lease ran out, then failures by the budget they have used:
    one branch for each value, so that no claim walks over postings that have used theirs up.
    """
    status = enrichment_status.c
    ours, pending = and_(status.enrichment == enrichment, _HAS_POSTING), status.state == "pending"
    due, orphaned = status.due_at <= scope.horizon, and_(status.state == "running", status.due_at <= now)
    if scope.job_ids is not None:
        named = and_(ours, status.job_id.in_(scope.job_ids))
        return [and_(named, pending, due), and_(named, orphaned)]
    if scope.batch is not None:
        return [and_(ours, pending, status.batch == scope.batch)]
    used = status.budget_used - status.grants
    failed = and_(ours, status.state == "failed", due, status.retryable)
    by_budget = [
        and_(failed, used == budget if budget else used <= 0, _may_use(budget, max_attempts))
        for budget in range(max_attempts)
    ]
    raised = and_(failed, used >= max_attempts, status.max_attempts > used)
    return [and_(ours, pending, due), and_(ours, orphaned), *by_budget, raised]


def _may_use(budget: int, max_attempts: int) -> ColumnElement[bool]:
    status = enrichment_status.c
    by_policy = and_(status.max_attempts.is_(None), status.error_type.in_(types_allowed_at(budget, max_attempts)))
    return or_(status.max_attempts > budget, by_policy)


def _bereft(enrichment: str, now: datetime) -> ColumnElement[bool]:
    """Attempts whose lease ran out and whose posting has been deleted: nobody takes those again."""
    status = enrichment_status.c
    return and_(status.enrichment == enrichment, ~_HAS_POSTING, status.state == "running", status.due_at <= now)


_HAS_POSTING = exists(select(job_postings.c.id).where(job_postings.c.id == enrichment_status.c.job_id))


def _pick(connection: Connection, branches: Sequence[ColumnElement[bool]], limit: int) -> list[Row[Any]]:
    """Lock due rows, never waiting for those that others hold."""
    picked: list[Row[Any]] = []
    for branch in branches:
        query = select(enrichment_status).where(branch).order_by(enrichment_status.c.due_at)
        query = query.limit(limit - len(picked)).with_for_update(skip_locked=True)
        picked += connection.execute(query)
        if len(picked) >= limit:
            break
    return picked


def _prepare(
    settings: Settings, enrichment: Enrichment, stream_id: str, status: Status, posting: Posting, worker: str
) -> Claim:
    limit, input_hash = settings.max_input_tokens, posting.input_hash
    request = request_for(enrichment, posting._asdict(), input_hash, limit, cut=settings.cut_input)
    number, lease = status.attempts + 1, lease_seconds(settings)
    event = attempt.start(enrichment, request, number=number, input_hash=input_hash, worker=worker, lease_seconds=lease)
    started = Started(stream_id, event, failures=status.budget_used + status.deferrals)
    return Claim(posting, started, request, attempt.precheck(posting.description, request, limit))


def _affordable(prepared: Sequence[Claim], money: int | None) -> list[Claim]:
    """The first of them whose reservations fit; all when there is no limit."""
    costs = accumulate(one.started.event.reserved_microdollars or 0 for one in prepared)
    return [one for one, total in zip(prepared, costs, strict=True) if money is None or total <= money]


def _start_proposal(started: Started) -> Proposal:
    return Proposal(started.stream_id, started.event, str(uuid.uuid5(uuid.UUID(started.event.attempt_id), "start")))


def _may_go_on(row: Row[Any], max_attempts: int) -> bool:
    """Whether a posting may be tried, if need be after the death of its worker, which counts."""
    if row.state != "running":
        return True
    used: int = row.budget_used - row.grants + 1
    return used < allowance(row.max_attempts, ERROR_TYPES["interrupted"].cap, max_attempts)


def _close_orphan(connection: Connection, row: Row[Any]) -> Proposal:
    """The end of an attempt whose worker did not come back; should its own still come, that will be a late result."""
    starts = and_(events.c.stream_id == row.stream_id, events.c.type == EnrichmentStarted.__name__)
    found = connection.execute(select(events).where(starts).order_by(events.c.version.desc()).limit(1)).one()
    facts = recorded(found._mapping).facts
    known = EnrichmentStarted.model_fields.keys() - {"occurred_at"}  # the attempt is closed now, not when it began
    event = EnrichmentStarted.model_validate({name: facts[name] for name in known & facts.keys()})
    message = LEASE_RAN_OUT.format(worker=row.worker)
    closed = attempt.interrupted(Started(row.stream_id, event, position=found.position), message, counts=True)
    return Proposal(row.stream_id, closed, str(uuid.uuid5(uuid.UUID(event.attempt_id), "lease ran out")))


def _append(connection: Connection, database: Database, proposals: Sequence[Proposal]) -> list[int]:
    """Append under the locks that picking took, and return the positions; a conflict would be a defect."""
    if not proposals:
        return []
    positions = []
    for outcome in append(connection, database.dialect, proposals, InlineReadModels(database.dialect)):
        if isinstance(outcome, Conflict):
            raise outcome
        positions.append(outcome.position)
    return positions
