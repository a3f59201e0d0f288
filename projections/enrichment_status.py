"""The state of every posting: was it tried, how often, why did it fail, when is it due. One row per stream.

Workers claim from it, and its row is the lock of its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import orjson
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    RowMapping,
    SmallInteger,
    Table,
    Text,
    bindparam,
    delete,
    literal_column,
    select,
    text,
    update,
)

from eventlog import canonical
from eventlog.dialects import Dialect
from eventlog.events import iso, moment
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata, part_of
from eventlog.streams import split_stream
from projections.projection import Foldable, Projection, Refusals, Row

State = Literal["pending", "running", "succeeded", "failed", "dismissed"]
STATES: tuple[State, ...] = ("pending", "running", "succeeded", "failed", "dismissed")
BASIS = ("request_model", "prompt_hash", "schema_hash", "input_hash")
"""What an attempt rests on: when one of these is another than before, the posting has a new budget."""

INTERRUPTED = "interrupted"
"""The error type of an attempt that its own worker did not bring to an end."""


class Status(NamedTuple):
    """What the events of one stream add up to.

    Model and hashes are those of the last attempt, but of a posting that has succeeded those of its result.
    `attempts` counts every start and is never reset; `budget_used` counts the failures that count since the last
    success or change of input, prompt, schema or model. `due_at` is when the posting may be claimed: at once for
    pending, after its wait for failed, when the lease runs out for running; null when it is not to be tried by itself.
    `failures` counts all since the last success or new budget; `deferrals` those that were the provider's alone, since
    the last request too, and `deferred_since` is when they began; `deaths` the workers that died on it in a row: while
    there are any, it runs alone. `counted`: whether the failure it ended with is in the budget, `max_deferrals`:
    whether it is among the deferrals; `rerun`: requested again while an attempt runs; `awaiting`: failed, and the retry
    requested since has not ended.
    `erased_attempts` is how many attempts had begun when content was last erased: what comes of those is facts only.
    `before_batch` is what a cancelled batch gives back: canonical JSON of the fields that its request changed, while
    the posting awaits that request; null where it was pending or running already, and so is left as it is.
    """

    version: int = 0
    state: State = "pending"
    attempts: int = 0
    budget_used: int = 0
    grants: int = 0
    failures: int = 0
    deferrals: int = 0
    deferred_since: datetime | None = None
    deaths: int = 0
    successes: int = 0
    max_attempts: int | None = None
    attempt_id: str | None = None
    worker: str | None = None
    rerun: bool = False
    awaiting: bool = False
    error_type: str | None = None
    counted: bool | None = None
    retryable: bool | None = None
    cap: int | None = None
    max_deferrals: int | None = None
    due_at: datetime | None = None
    completed_at: datetime | None = None
    batch: str | None = None
    before_batch: str | None = None
    request_model: str | None = None
    prompt_hash: str | None = None
    schema_hash: str | None = None
    input_hash: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    reserved_microdollars: int = 0
    erased_attempts: int = 0


def fold(status: Status, event: Foldable) -> Status:
    """The status after one more event of its stream."""
    step = _STEPS.get(event.type)
    after = status if step is None else step(status, event.facts)
    return after._replace(version=event.version)


def _on_requested(status: Status, facts: dict[str, Any]) -> Status:
    new_budget = facts["why"] in ("new", "changed", "force")
    after = status._replace(
        grants=0 if new_budget else status.grants + facts["grant"],
        budget_used=0 if new_budget else status.budget_used,
        failures=0 if new_budget else status.failures,
        deferrals=0,
        deferred_since=None,
        deaths=0 if new_budget else status.deaths,
        max_attempts=facts.get("max_attempts"),
        batch=facts.get("batch"),
        before_batch=_kept(status) if "batch" in facts else None,
        input_hash=facts.get("input_hash") or status.input_hash,
    )
    if status.state == "running":
        return after._replace(rerun=True)
    awaiting = status.error_type is not None
    return after._replace(state="pending", due_at=moment(facts["occurred_at"]), awaiting=awaiting)


def _on_started(status: Status, facts: dict[str, Any]) -> Status:
    asked = {name: facts[name] for name in BASIS if name in facts}  # an external attempt does not say
    same = all(getattr(status, name) in (None, value) for name, value in asked.items())
    return status._replace(
        state="running",
        attempts=facts["attempt"],
        attempt_id=facts["attempt_id"],
        worker=facts["worker"],
        due_at=moment(facts["occurred_at"]) + timedelta(seconds=facts["lease_seconds"]),
        budget_used=status.budget_used if same else 0,
        failures=status.failures if same else 0,
        deferrals=status.deferrals if same else 0,
        deferred_since=status.deferred_since if same else None,
        deaths=status.deaths if same else 0,
        reserved_microdollars=facts.get("reserved_microdollars") or 0,
        before_batch=None,
        **asked,
    )


def _on_succeeded(status: Status, facts: dict[str, Any]) -> Status:
    return _again_if_wanted(status, _resting_on(_recovered(_ended(status, facts)), facts), facts)


def _on_failed(status: Status, facts: dict[str, Any]) -> Status:
    after = _ended(status, facts)._replace(
        failures=status.failures + 1, deaths=_deaths(status, facts), counted=None, max_deferrals=None
    )
    return _again_if_wanted(status, _failing(after, facts, moment(facts["occurred_at"])), facts)


def _on_late_result(status: Status, facts: dict[str, Any]) -> Status:
    after = _paid(status, facts)
    if not facts["used"]:
        return after
    recovered = _resting_on(_recovered(after._replace(completed_at=moment(facts["occurred_at"]))), facts)
    of_other_input = status.state == "pending" and facts.get("input_hash") not in (None, status.input_hash)
    if status.state == "running" or of_other_input:  # whoever holds the posting, or awaits its new input, goes on
        return recovered._replace(**{name: getattr(status, name) for name in ("state", "due_at", *BASIS)})
    return recovered


def _on_dismissed(status: Status, facts: dict[str, Any]) -> Status:
    return status._replace(state="dismissed", due_at=None, rerun=False, awaiting=False, before_batch=None)


def _on_cancelled(status: Status, facts: dict[str, Any]) -> Status:
    """What it was before the batch requested it, as far as it still awaits that."""
    if not awaits_batch(status, facts["batch"]):
        return status
    before = orjson.loads(status.before_batch or "")
    moments = {name: before[name] and moment(before[name]) for name in ("due_at", "deferred_since")}
    return status._replace(**before | moments, awaiting=False, before_batch=None)


def _on_reclassified(status: Status, facts: dict[str, Any]) -> Status:
    if status.state != "failed" or status.attempt_id != facts["attempt_id"] or status.completed_at is None:
        return status
    return _failing(status, facts, status.completed_at)


def _on_erased(status: Status, facts: dict[str, Any]) -> Status:
    return status._replace(erased_attempts=status.attempts)


_STEPS: dict[str, Callable[[Status, dict[str, Any]], Status]] = {
    "EnrichmentRequested": _on_requested,
    "EnrichmentStarted": _on_started,
    "EnrichmentSucceeded": _on_succeeded,
    "EnrichmentFailed": _on_failed,
    "EnrichmentLateResult": _on_late_result,
    "EnrichmentDismissed": _on_dismissed,
    "BatchCancelled": _on_cancelled,
    "FailureReclassified": _on_reclassified,
    "ContentErased": _on_erased,
}


def awaits_batch(status: Status, batch: str) -> bool:
    """Whether the posting is pending for no other reason than that this batch requested it."""
    return status.state == "pending" and status.batch == batch and status.before_batch is not None


_CHANGED_BY_REQUEST = (
    "state", "due_at", "budget_used", "grants", "failures", "deferrals", "deferred_since", "deaths", "max_attempts",
    "batch", "input_hash",
)  # fmt: skip


def _kept(status: Status) -> str | None:
    """The fields that a request changes, of a posting at rest."""
    if status.state in ("pending", "running"):
        return None
    values = {name: getattr(status, name) for name in _CHANGED_BY_REQUEST}
    return canonical.text({name: iso(one) if isinstance(one, datetime) else one for name, one in values.items()})


def _ended(status: Status, facts: dict[str, Any]) -> Status:
    return _paid(status, facts)._replace(
        completed_at=moment(facts["occurred_at"]),
        reserved_microdollars=0,
        worker=None,
        rerun=False,
        awaiting=status.rerun,
    )


def _paid(status: Status, facts: dict[str, Any]) -> Status:
    cost = facts.get("cost_microdollars")
    return status._replace(
        input_tokens=status.input_tokens + (facts.get("input_tokens") or 0),
        output_tokens=status.output_tokens + (facts.get("output_tokens") or 0),
        cost_microdollars=status.cost_microdollars + (cost or 0),
        unpriced_calls=status.unpriced_calls + (facts["called"] and cost is None),
    )


def _recovered(status: Status) -> Status:
    return status._replace(
        state="succeeded",
        successes=status.successes + 1,
        budget_used=0,
        grants=0,
        failures=0,
        deferrals=0,
        deferred_since=None,
        deaths=0,
        max_attempts=None,
        error_type=None,
        counted=None,
        retryable=None,
        cap=None,
        max_deferrals=None,
        due_at=None,
        awaiting=False,
        before_batch=None,
    )


def _resting_on(status: Status, facts: dict[str, Any]) -> Status:
    """Succeeded on what the end says, which need not be what the last attempt began with: the end may be a late one.

    One that was made elsewhere says neither prompt nor schema nor model: they are not known then.
    """
    basis = {name: facts.get(name) for name in BASIS}
    return status._replace(**basis | {"input_hash": basis["input_hash"] or status.input_hash})


def _deaths(status: Status, facts: dict[str, Any]) -> int:
    """How many workers in a row died on the posting: any end but that of a stopped run clears it."""
    if facts["worker_died"]:
        return status.deaths + 1
    return status.deaths if facts["error_type"] == INTERRUPTED else 0


def _failing(status: Status, facts: dict[str, Any], since: datetime) -> Status:
    """Failed as these facts say, which are those of the failure or of a later reading of it."""
    counts, most = facts["counts"], facts.get("max_deferrals")
    was_deferred, is_deferred = status.max_deferrals is not None, most is not None and not counts
    deferrals = status.deferrals + is_deferred - was_deferred
    after = status._replace(
        state="failed",
        budget_used=status.budget_used + counts - (status.counted is True),
        deferrals=deferrals,
        deferred_since=(status.deferred_since or since) if deferrals else None,
        counted=counts,
        max_deferrals=most if is_deferred else None,
        error_type=facts["error_type"],
        retryable=facts["retryable"],
        cap=facts.get("cap"),
    )
    wait = timedelta(milliseconds=facts.get("wait_ms") or 0)
    return after._replace(due_at=since + wait if after.retryable and not _is_given_up(after, facts, since) else None)


def _is_given_up(status: Status, facts: dict[str, Any], since: datetime) -> bool:
    """Whether too many workers died on the posting, or the provider has had too many tries at it or for too long."""
    if facts.get("worker_died"):
        most = status.max_attempts or status.cap  # what a person allows overrides the cap
        return most is not None and status.deaths >= most
    if status.max_deferrals is None or status.deferred_since is None:
        return False
    longest = facts.get("max_deferred_seconds")
    too_long = longest is not None and since - status.deferred_since >= timedelta(seconds=longest)
    return too_long or status.deferrals >= status.max_deferrals


def _again_if_wanted(before: Status, ended: Status, facts: dict[str, Any]) -> Status:
    """A posting that changed while an attempt ran is due again, as it is now, as soon as that attempt ends."""
    if not before.rerun:
        return ended
    return ended._replace(state="pending", due_at=moment(facts["occurred_at"]), input_hash=before.input_hash)


enrichment_status = Table(
    "enrichment_status",
    metadata,
    Column("stream_id", Key, primary_key=True),
    Column("enrichment", Key, nullable=False),
    Column("job_id", Key, nullable=False),
    Column("part", SmallInteger, nullable=False),
    Column("fold_version", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("budget_used", Integer, nullable=False),
    Column("grants", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("deferrals", Integer, nullable=False),
    Column("deferred_since", UtcDateTime),
    Column("deaths", Integer, nullable=False),
    Column("successes", Integer, nullable=False),
    Column("max_attempts", Integer),
    Column("attempt_id", Text),
    Column("worker", Text),
    Column("rerun", Boolean, nullable=False),
    Column("awaiting", Boolean, nullable=False),
    Column("error_type", Text),
    Column("counted", Boolean),
    Column("retryable", Boolean),
    Column("cap", Integer),
    Column("max_deferrals", Integer),
    Column("due_at", UtcDateTime),
    Column("completed_at", UtcDateTime),
    Column("batch", Text),
    Column("before_batch", Text),
    Column("request_model", Text),
    Column("prompt_hash", Text),
    Column("schema_hash", Text),
    Column("input_hash", Text),
    Column("input_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cost_microdollars", Number, nullable=False),
    Column("unpriced_calls", Integer, nullable=False),
    Column("reserved_microdollars", Number, nullable=False),
    Column("erased_attempts", Integer, nullable=False),
    Column("projection_error", Text),
    CheckConstraint(
        "state IN ('pending', 'running', 'succeeded', 'failed', 'dismissed')", name="enrichment_status_state"
    ),
    schema=OURS,
)
"""`projection_error` is the one column that no fold explains: it is the database's own reason for refusing a row."""

_columns = enrichment_status.c
Index(  # one branch per value of the budget, so that a claim never walks rows that used theirs up
    "enrichment_status_due",
    _columns.enrichment,
    _columns.state,
    text("(budget_used - grants)"),
    _columns.due_at,
    sqlite_where=_columns.due_at.is_not(None),
    postgresql_where=_columns.due_at.is_not(None),
)
_runs_alone = (_columns.deaths > 0) & _columns.due_at.is_not(None)
Index(
    "enrichment_status_alone",
    _columns.enrichment,
    _columns.due_at,
    sqlite_where=_runs_alone,
    postgresql_where=_runs_alone,
)
IS_FAILED = _columns.state == literal_column("'failed'")  # spelt out: a parameter does not match a partial index
Index(
    "enrichment_status_failed",
    _columns.enrichment,
    _columns.completed_at,
    _columns.error_type,
    sqlite_where=IS_FAILED,
    postgresql_where=IS_FAILED,
)
Index(  # all that the plan of a retry counts, in the order of postings: these are looked up for each
    "enrichment_status_retry",
    _columns.enrichment,
    _columns.error_type,
    _columns.job_id,
    _columns.retryable,
    _columns.budget_used,
    _columns.grants,
    _columns.max_attempts,
    _columns.cap,
    _columns.deaths,
    _columns.due_at,
    _columns.completed_at,
    _columns.request_model,
    sqlite_where=IS_FAILED,
    postgresql_where=IS_FAILED,
)
Index(
    "enrichment_status_batch",
    _columns.batch,
    _columns.stream_id,
    sqlite_where=_columns.before_batch.is_not(None),
    postgresql_where=_columns.before_batch.is_not(None),
)
Index(
    "enrichment_status_not_shown",
    _columns.stream_id,
    sqlite_where=_columns.projection_error.is_not(None),
    postgresql_where=_columns.projection_error.is_not(None),
)


def row(stream_id: str, status: Status) -> Row:
    """The row that a status becomes."""
    enrichment, job_id = split_stream(stream_id)
    place = {"stream_id": stream_id, "enrichment": enrichment, "job_id": job_id, "part": part_of(stream_id)}
    return {**place, "fold_version": projection.version, **status._asdict()}


def status_of(row: RowMapping) -> Status:
    """The status that a row was made of."""
    return Status(*(row[name] for name in Status._fields))


def insert_missing(connection: Connection, dialect: Dialect, streams: Iterable[str]) -> None:
    """Make the rows of streams that have none yet; in one order for everybody, because a row is a lock."""
    rows = [row(stream_id, Status()) for stream_id in sorted(streams)]
    if rows:
        connection.execute(dialect.insert(enrichment_status).on_conflict_do_nothing(), rows)


def lock(connection: Connection, streams: Iterable[str]) -> dict[str, Status]:
    """The statuses of these streams, their rows locked in the order of their names."""
    query = select(enrichment_status).where(_columns.stream_id.in_(sorted(streams)))
    found = connection.execute(query.order_by(_columns.stream_id).with_for_update())
    return {row.stream_id: status_of(row._mapping) for row in found}


def marked(connection: Connection, streams: Iterable[str]) -> set[str]:
    """Which of these streams the users' table does not show."""
    hidden = _columns.stream_id.in_(list(streams)) & _columns.projection_error.is_not(None)
    return set(connection.execute(select(_columns.stream_id).where(hidden)).scalars())


def discard_empty(connection: Connection, streams: Iterable[str]) -> None:
    """Remove rows that were made for these streams and got no event."""
    names = list(streams)
    if names:
        connection.execute(delete(enrichment_status).where(_columns.stream_id.in_(names), _columns.version == 0))


def load(connection: Connection, streams: Iterable[str]) -> dict[str, Row]:
    """The rows of these streams, without the column that no fold explains."""
    columns = [column for column in _columns if column.name != "projection_error"]
    found = connection.execute(select(*columns).where(_columns.stream_id.in_(list(streams))))
    return {row.stream_id: dict(row._mapping) for row in found}


def store(connection: Connection, dialect: Dialect, rows: Mapping[str, Row]) -> Refusals:
    """Write the rows; those that are there already are locked."""
    if rows:
        insert_missing(connection, dialect, rows)
        write(connection, rows.values())
    return {}


def write(connection: Connection, rows: Iterable[Row]) -> None:
    """Write rows that are there already, and locked."""
    names = ("fold_version", *Status._fields)
    statement = update(enrichment_status).where(_columns.stream_id == bindparam("_stream_id"))
    statement = statement.values({name: bindparam(name) for name in names})
    values = [{"_stream_id": row["stream_id"], **{name: row[name] for name in names}} for row in rows]
    if values:
        connection.execute(statement, values)


def mark(connection: Connection, reasons: Mapping[str, str | None]) -> None:
    """Note why the users' table does not show these streams; None where it does."""
    statement = update(enrichment_status).where(_columns.stream_id == bindparam("_stream_id"))
    changed = _columns.projection_error.is_distinct_from(bindparam("reason"))  # most are shown, and were
    rows = [{"_stream_id": stream_id, "reason": reason} for stream_id, reason in reasons.items()]
    if rows:
        connection.execute(statement.where(changed).values(projection_error=bindparam("reason")), rows)


projection: Projection[Status] = Projection(
    name="enrichment_status",
    version=1,
    table=enrichment_status,
    initial=Status(),
    fold=fold,
    row=row,
    load=load,
    store=store,
    stream=_columns.stream_id,
)
