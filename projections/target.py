"""The users' own table of results: what its mapped columns show, and how its rows are read as they hold it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    MetaData,
    Table,
    TextClause,
    bindparam,
    cast,
    func,
    literal,
    or_,
    text,
)
from sqlalchemy.types import NullType

from eventlog.canonical import as_kept
from eventlog.column_types import Spelt
from eventlog.dialects import Dialect
from eventlog.events import moment
from eventlog.schema import Key
from eventlog.streams import join, split_stream, stream_of
from projections.adoption import Mapped, Target, escaped
from projections.enriched import KEPT, UNSET, Enriched, cut
from projections.projection import Row
from projections.shown import Shown

BLANKS = " \t\n\r\v\f"


def shown_in(target: Target) -> Shown:
    """How the users' table shows what is enriched."""
    table = table_of(target)
    key = table.c[target.id_column]
    return Shown(
        table=table,
        stream=join(literal(target.enrichment), cast(key, Key)),  # whatever their collation: it is compared with ours
        shows=or_(*_tells(target, table)),
        key=partial(_key, target),
        columns=partial(_known, target),
        load=partial(_load, target, table),
        error=target.of_kind("error"),
        after=_after(target),
        is_blank=partial(_is_blank, target),
    )


def table_of(target: Target, further: Sequence[str] = ()) -> Table:
    """Its key, its mapped columns and `further` ones; others are nobody's business here."""
    names = dict.fromkeys((target.id_column, *(one.column for one in target.columns), *further))
    types = target.types
    columns = [
        Column(name, Spelt(types[name]) if name in types else NullType(), primary_key=name == target.id_column)
        for name in names
    ]
    return Table(target.table, MetaData(), *columns, schema=target.schema)


def _tells(target: Target, table: Table) -> list[ColumnElement[bool]]:
    """When a row shows anything: it may have been made beforehand."""
    error, completed = target.of_kind("error"), target.of_kind("completed_at")
    conditions: list[ColumnElement[bool]] = (
        [] if error is None else [table.c[error].is_not(None) & (func.trim(table.c[error], BLANKS) != "")]
    )
    conditions += [] if completed is None else [table.c[completed].is_not(None)]
    if completed is None:
        conditions += [table.c[one.column].is_not(None) for one in target.columns if one.kind == "result"]
    return conditions


def _key(target: Target, stream_id: str) -> Row | None:
    enrichment, job_id = split_stream(stream_id)
    return {target.id_column: job_id} if enrichment == target.enrichment else None


def _known(target: Target, enriched: Enriched) -> Row:
    """The columns that are known: those that are compared and written."""
    values = ((one.column, _value(one, enriched)) for one in target.columns)
    return {name: value for name, value in values if value is not KEPT and value is not UNSET}


def _value(mapped: Mapped, enriched: Enriched) -> Any:
    match mapped.kind:
        case "error":
            return enriched.error
        case "completed_at":
            return enriched.completed_at
        case "model_version":
            return enriched.model_version
        case "constant":  # what an imported result had there is not known to be of it
            return UNSET if enriched.imported else _of_result(enriched.result, lambda _: mapped.constant)
    return _of_result(enriched.result, partial(at_path, mapped.path))


def _of_result(result: Any, read: Callable[[dict[str, Any]], Any]) -> Any:
    return result if result is KEPT or result is UNSET else read(result or {})


def at_path(path: Sequence[str], result: Any) -> Any:
    """What stands in a result at a path; None where there is nothing."""
    for name in path:
        result = result.get(name) if isinstance(result, dict) else None
    return result


def _load(
    target: Target, table: Table, connection: Connection, dialect: Dialect, streams: Sequence[str],
    lacking: Collection[str] = (),
) -> dict[str, Row]:  # fmt: skip
    """The rows of these streams, each value as JSON has it."""
    if lacking:
        target = replace(target, columns=tuple(one for one in target.columns if one.column not in lacking))
        table = table_of(target)
    keys = [key[target.id_column] for stream_id in streams if (key := _key(target, stream_id))]
    if not keys:
        return {}
    found = dialect.theirs.held(connection, table, dialect.among(table.c[target.id_column], "ids"), {"ids": keys})
    rows = {stream_of(target.enrichment, row[target.id_column]): as_shown(target, row) for row in found}
    return {stream_id: rows[stream_id] for stream_id in streams if stream_id in rows}


def as_shown(target: Target, row: Row) -> Row:
    """A row as it is compared: the error cut as we cut it, and the time of completion as a moment in UTC."""
    read: Mapping[str, Callable[[Any], Any]] = {"error": _error, "completed_at": _moment}
    return row | {one.column: read[one.kind](row[one.column]) for one in target.columns if one.kind in read}


def _is_blank(target: Target, row: Row) -> bool:
    """Whether a row, as it is compared, shows nothing."""
    telling = ("error", "completed_at") if target.of_kind("completed_at") else ("error", "result")
    return all(row.get(one.column) is None for one in target.columns if one.kind in telling)


def is_blank(error: str) -> bool:
    """Whether an error says nothing, and so is none."""
    return not error.strip(BLANKS)


def _error(held: Any) -> Any:
    """The error; one that was there before us may be longer than we show, and hold what the log does not."""
    if not isinstance(held, str):
        return held
    return None if is_blank(held) else cut(as_kept(held))


def _moment(held: Any) -> Any:
    """The moment; what is none comes as it is."""
    try:
        return in_utc(held)
    except (TypeError, ValueError):
        return held


def in_utc(held: str) -> datetime:
    """The moment of a text, in UTC where it names no time zone. Raises `ValueError`, and `TypeError` for no text."""
    told = moment(held)
    return told.replace(tzinfo=UTC) if told.tzinfo is None else told.astimezone(UTC)


def _after(target: Target) -> Callable[[Connection, Sequence[str]], None] | None:
    if target.after_success is None:
        return None
    statement = text(escaped(target.after_success, "id")).bindparams(bindparam("id", type_=NullType()))
    return partial(_run, statement)


def _run(statement: TextClause, connection: Connection, streams: Sequence[str]) -> None:
    connection.execute(statement, [{"id": split_stream(stream_id)[1]} for stream_id in streams])
