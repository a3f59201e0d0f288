"""The state of every posting: was it tried, how often, why did it fail, when is it due. One row per stream.

Workers claim from it, and its row is the lock of its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    RowMapping,
    SmallInteger,
    Table,
    Text,
    delete,
    literal_column,
    select,
    text,
    update,
)

from eventlog.dialects import Dialect
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata, part_of
from eventlog.streams import split_stream
from projections.projection import NOTHING_MORE, Projection, Refusals, Row, Writing
from projections.status import Status, fold, fold_all

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
    Column("bases", Text),
    Column("input_tokens", Number, nullable=False),
    Column("output_tokens", Number, nullable=False),
    Column("cost_microdollars", Number, nullable=False),
    Column("unpriced_calls", Integer, nullable=False),
    Column("reserved_microdollars", Number, nullable=False),
    Column("erased_attempts", Integer, nullable=False),
    Column("projection_error", Text),
    Column("untold_result", Boolean),
    CheckConstraint(
        "state IN ('pending', 'running', 'succeeded', 'failed', 'dismissed')", name="enrichment_status_state"
    ),
    schema=OURS,
)
MARKS = ("projection_error", "untold_result")
"""The columns that no fold explains: the database's own reason for refusing a row of the users', and whether a result
went with it, so that what is to be done once it is shown has not been done."""

_columns = enrichment_status.c
# Spelt out, because a parameter does not match a partial index.
IS_PENDING, IS_RUNNING, IS_FAILED = (
    _columns.state == literal_column(f"'{n}'") for n in ("pending", "running", "failed")
)


def _partial(name: str, where: ColumnElement[bool], *columns: Any) -> None:
    Index(f"enrichment_status_{name}", *columns, sqlite_where=where, postgresql_where=where)


_is_due, _used = _columns.due_at.is_not(None), text("(budget_used - grants)")
# What a claim takes is found in the order it takes it, and no claim walks over what it does not take.
_partial("pending", IS_PENDING, _columns.enrichment, _columns.due_at)
_partial("awaiting", IS_PENDING & _columns.batch.is_not(None), _columns.batch, _columns.due_at)
_partial("running", IS_RUNNING, _columns.enrichment, _columns.due_at)
_partial("due", IS_FAILED & _is_due, _columns.enrichment, _used, _columns.due_at)
_partial("raised", IS_FAILED & _is_due & _columns.max_attempts.is_not(None), _columns.enrichment, _columns.due_at)
_partial("alone", (_columns.deaths > 0) & _is_due, _columns.enrichment, _columns.due_at)
# What people ask for.
_partial("failed", IS_FAILED, _columns.enrichment, _columns.completed_at, _columns.error_type)
_partial(  # all that the plan of a retry counts, in the order of postings: these are looked up for each
    "retry",
    IS_FAILED,
    *(
        _columns[name]
        for name in (
            "enrichment", "error_type", "job_id", "retryable", "budget_used", "grants", "max_attempts", "cap", "deaths",
            "due_at", "completed_at", "request_model",
        )
    ),
)  # fmt: skip
_partial("batch", _columns.before_batch.is_not(None), _columns.batch, _columns.stream_id)
_partial("not_shown", _columns.projection_error.is_not(None), _columns.stream_id)


def row(stream_id: str, status: Status) -> Row:
    """The row that a status becomes."""
    enrichment, job_id = split_stream(stream_id)
    place = {"stream_id": stream_id, "enrichment": enrichment, "job_id": job_id, "part": part_of(stream_id)}
    return {**place, "fold_version": projection.version, **dict(zip(Status._fields, status, strict=True))}


def status_of(row: RowMapping) -> Status:
    """The status that a row was made of."""
    return Status(*(row[name] for name in Status._fields))


def insert_missing(connection: Connection, dialect: Dialect, streams: Iterable[str]) -> None:
    """Make the rows of streams that have none yet; in one order for everybody, because a row is a lock."""
    dialect.insert_new(connection, enrichment_status, [row(stream_id, Status()) for stream_id in sorted(streams)])


def hold(
    connection: Connection, dialect: Dialect, streams: Sequence[str], rows: Callable[[], Mapping[str, Row | None]]
) -> set[str]:
    """Lock the rows of these streams, whose names are in order; those that are missing are made of `rows`.

    Returns which were made.
    """
    asked = {"streams": list(streams)}
    there = set(connection.execute(select(_columns.stream_id).where(_is_among(dialect)), asked).scalars())
    missing = [stream_id for stream_id in streams if stream_id not in there]
    made = [row for one in missing if (row := rows()[one]) is not None]
    new = dialect.insert_new(connection, enrichment_status, made)
    locking = select(_columns.stream_id).where(_is_among(dialect)).order_by(_columns.stream_id).with_for_update()
    if left := [stream_id for stream_id in streams if stream_id not in new]:
        connection.execute(locking, {"streams": left})
    return new


def _is_among(dialect: Dialect) -> ColumnElement[bool]:
    """Whether a row is of one of the streams that the parameter brings."""
    return dialect.among(_columns.stream_id, "streams")


def lock(connection: Connection, streams: Collection[str]) -> dict[str, RowMapping]:
    """The rows of these streams, locked in the order of their names."""
    query = select(enrichment_status).where(_columns.stream_id.in_(sorted(streams)))
    query = query.order_by(_columns.stream_id).with_for_update()
    return {row.stream_id: row._mapping for row in connection.execute(query)} if streams else {}


def marked(connection: Connection, dialect: Dialect, streams: Sequence[str]) -> set[str]:
    """Which of these streams the users' table does not show."""
    hidden = select(_columns.stream_id).where(_is_among(dialect), _columns.projection_error.is_not(None))
    return set(connection.execute(hidden, {"streams": list(streams)}).scalars())


def discard_empty(connection: Connection, streams: Iterable[str]) -> None:
    """Remove rows that were made for these streams and got no event."""
    names = list(streams)
    if names:
        connection.execute(delete(enrichment_status).where(_columns.stream_id.in_(names), _columns.version == 0))


def load(connection: Connection, dialect: Dialect, streams: Sequence[str]) -> dict[str, Row]:
    """The rows of these streams, without the columns that no fold explains."""
    columns = [column for column in _columns if column.name not in MARKS]
    names = [column.name for column in columns]
    found = connection.execute(select(*columns).where(_is_among(dialect)), {"streams": list(streams)}).all()
    return {row[0]: dict(zip(names, row, strict=True)) for row in found}


def store(
    connection: Connection, dialect: Dialect, rows: Mapping[str, Row], writing: Writing = NOTHING_MORE
) -> Refusals:
    """Write the rows, which are there already, and locked."""
    write(connection, dialect, list(rows.values()), ("enrichment", "job_id", "part", *Status._fields))
    return {}


def write(connection: Connection, dialect: Dialect, rows: Sequence[Row], names: Sequence[str] = Status._fields) -> None:
    """Write these columns of rows that are there already, and locked."""
    if rows:
        dialect.update(connection, enrichment_status, ("fold_version", *names), rows)


def moved(statuses: Iterable[tuple[Status, Status]]) -> list[str]:
    """The columns in which any of these statuses, each as it was and as it is, has moved."""
    places = {place for pair in statuses for place, (old, new) in enumerate(zip(*pair, strict=True)) if old != new}
    return [Status._fields[place] for place in sorted(places)]


def find_untold(connection: Connection, dialect: Dialect, streams: Iterable[str]) -> set[str]:
    """Which of these streams have a result that the users' table has not shown yet."""
    is_marked = _columns.projection_error.is_not(None)  # all of these are, and few others: there is an index of them
    untold = select(_columns.stream_id).where(_is_among(dialect), is_marked, _columns.untold_result.is_(True))
    return set(connection.execute(untold, {"streams": list(streams)}).scalars())


def mark(
    connection: Connection, dialect: Dialect, reasons: Mapping[str, str | None], enriched: Collection[str] = ()
) -> None:
    """Note why the users' table does not show these streams; None where it does. `enriched` have a new result."""
    names = {"streams": [stream_id for stream_id, reason in reasons.items() if reason is None]}
    if names["streams"]:
        shown = update(enrichment_status).where(_is_among(dialect), _columns.projection_error.is_not(None))
        connection.execute(shown.values(dict.fromkeys(MARKS)), names)
    refused = [{"stream_id": one, "projection_error": reason} for one, reason in reasons.items() if reason is not None]
    if refused:
        dialect.update(connection, enrichment_status, ("projection_error",), refused)
    untold = [{"stream_id": one["stream_id"], "untold_result": True} for one in refused if one["stream_id"] in enriched]
    if untold:
        dialect.update(connection, enrichment_status, ("untold_result",), untold)


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
    fold_story=fold_all,
)
