"""Claiming is appending: pick postings that are due, and append their starts in the same transaction."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, select
from sqlalchemy.exc import DBAPIError

from enrichlog import attempt
from enrichlog.actor import actor
from enrichlog.attempt import Started, start_proposal
from enrichlog.enrichment import Enrichment, Request, request_for
from enrichlog.errors import ERROR_TYPES
from enrichlog.outcome import Outcome
from enrichlog.postings import Posting, load_postings
from enrichlog.retry import allowance
from enrichlog.scope import Scope, bereft, scope_branches
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.errors import Conflict
from eventlog.events import EnrichmentRequested, EnrichmentStarted
from eventlog.log import Proposal, append, recorded
from eventlog.schema import events
from projections.enrichment_status import enrichment_status
from projections.inline import InlineReadModels

LEASE_MARGIN_SECONDS = 60
"""A lease outlives the call's own deadline, so that no heartbeat is needed."""

LEASE_RAN_OUT = "The worker {worker} did not come back before its lease ran out"


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
    """What one claim took, and the scope of the next; `unaffordable` when it took no more for want of money.

    `given_up` counts the postings that were picked and not begun: their workers died too often, or they are deleted.
    """

    taken: list[Claim]
    rest: Scope
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
    names = scope.turn(limit)
    with database.write() as connection:
        now = database.dialect.clock(connection)
        branches = scope_branches(enrichment.name, scope, now, settings.max_attempts, names)
        if scope.is_second_round:
            picked = _pick_patiently(connection, database.dialect, branches[0])
        else:
            picked = _pick(connection, [*branches, bereft(enrichment.name, now)], limit)
        picked = _in_turn(picked, names)
        postings = load_postings(connection, [row.job_id for row in picked])  # one may be deleted by now
        wanted = [row for row in picked if row.job_id in postings and _may_go_on(scope, row, settings.max_attempts)]
        prepared = [_prepare(settings, enrichment, scope, row, postings[row.job_id], worker) for row in wanted]
        taken = _affordable(prepared, money)
        begun, too_dear = wanted[: len(taken)], wanted[len(taken) :]
        reached = picked[: picked.index(too_dear[0])] if too_dear else picked  # the others have not had their turn
        closed = [_close_orphan(connection, row) for row in reached if row.state == "running"]
        starts = [event for row, one in zip(begun, taken, strict=True) for event in _begin(scope, row, one.started)]
        positions = _append(connection, database, closed + starts)
    placed = [one.begun_at(position) for one, position in zip(taken, positions, strict=True)]
    rest = _rest(scope, names, reached, too_dear)
    return Claims(placed, rest, unaffordable=bool(too_dear), given_up=len(reached) - len(begun))


def lease_seconds(settings: Settings) -> int:
    """How long a claim holds a posting."""
    return round(settings.deadline_seconds) + LEASE_MARGIN_SECONDS


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


def _pick_patiently(connection: Connection, dialect: Dialect, named: ColumnElement[bool]) -> list[Row[Any]]:
    """Lock named rows in the order of all streams, waiting a while for those that others hold."""
    query = select(enrichment_status).where(named).order_by(enrichment_status.c.stream_id)
    try:
        with connection.begin_nested():
            dialect.wait_briefly(connection)
            return list(connection.execute(query.with_for_update()))
    except DBAPIError as error:
        if not dialect.is_locked(error):
            raise
    return list(connection.execute(query.with_for_update(skip_locked=True)))


def _rest(scope: Scope, names: tuple[str, ...], reached: Sequence[Row[Any]], too_dear: Sequence[Row[Any]]) -> Scope:
    """The scope of the next claim: the first that was too dear, and all named behind it, have their turn yet."""
    turned = names[: names.index(too_dear[0].job_id)] if names and too_dear else names
    met = {row.job_id for row in reached}
    return scope.rest(len(turned), tuple(job_id for job_id in turned if job_id not in met))


def _in_turn(picked: Sequence[Row[Any]], names: Sequence[str]) -> list[Row[Any]]:
    """Those that are named in the order of their names."""
    places = {job_id: place for place, job_id in enumerate(names)}
    return sorted(picked, key=lambda row: places.get(row.job_id, len(places)))


def _prepare(
    settings: Settings, enrichment: Enrichment, scope: Scope, row: Row[Any], posting: Posting, worker: str
) -> Claim:
    limit, input_hash = settings.max_input_tokens, posting.input_hash
    request = request_for(enrichment, posting._asdict(), input_hash, limit, cut=settings.cut_input)
    number, lease = row.attempts + 1, lease_seconds(settings)
    event = attempt.start(enrichment, request, number=number, input_hash=input_hash, worker=worker, lease_seconds=lease)
    new_budget = _is_forced(scope) and _is_requested_here(scope, row)
    failures = 0 if new_budget else row.failures
    started = Started(row.stream_id, event, failures)
    return Claim(posting, started, request, attempt.precheck(posting.description, request, limit))


def _is_forced(scope: Scope) -> bool:
    return scope.job_ids is not None and scope.why == "force"


def _is_requested_here(scope: Scope, row: Row[Any]) -> bool:
    """Whether the posting is named and nothing else makes it due."""
    dead = row.state == "running"
    return scope.job_ids is not None and row.state != "pending" and (not dead or _is_forced(scope))


def _affordable(prepared: Sequence[Claim], money: int | None) -> list[Claim]:
    """The first of them whose reservations fit; all when there is no limit."""
    costs = accumulate(one.started.event.reserved_microdollars or 0 for one in prepared)
    return [one for one, total in zip(prepared, costs, strict=True) if money is None or total <= money]


def _begin(scope: Scope, row: Row[Any], started: Started) -> list[Proposal]:
    """The start of an attempt, behind the request for it where there is none yet."""
    if not _is_requested_here(scope, row):
        return [start_proposal(started)]
    event = EnrichmentRequested(why=scope.why, actor=actor(), batch=scope.batch)
    event_id = uuid.uuid5(uuid.UUID(started.event.attempt_id), "request")
    return [Proposal(started.stream_id, event, str(event_id)), start_proposal(started)]


def _may_go_on(scope: Scope, row: Row[Any], max_attempts: int) -> bool:
    """Whether a posting may be tried, if need be after the death of its worker, which counts."""
    if row.state != "running" or _is_forced(scope):
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
    closed = attempt.interrupted(Started(row.stream_id, event, position=found.position), message, worker_died=True)
    return Proposal(row.stream_id, closed, str(uuid.uuid5(uuid.UUID(event.attempt_id), "lease ran out")))


def _append(connection: Connection, database: Database, proposals: Sequence[Proposal]) -> list[int]:
    """Append under the locks that picking took, and return the positions of starts; a conflict would be a defect."""
    if not proposals:
        return []
    positions = []
    outcomes = append(connection, database.dialect, proposals, InlineReadModels(database.dialect))
    for proposal, outcome in zip(proposals, outcomes, strict=True):
        if isinstance(outcome, Conflict):
            raise outcome
        if isinstance(proposal.event, EnrichmentStarted):
            positions.append(outcome.position)
    return positions
