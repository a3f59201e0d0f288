"""Whether the users' table of results can be written to: its key, its constraints, and what watches over it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from enrichlog.findings import Findings, listed
from enrichlog.look import Look
from enrichlog.read_columns import reads
from eventlog.inspection import Column, Watch
from projections.adoption import escaped

ANY_TEXT = "any other text"
_NULL_WHEN = {"error": "no error", "completed_at": "a retry to wait for", "model_version": "no result yet"}


def check_target(look: Look) -> Findings:
    """What is wrong with the table."""
    findings = Findings([*_key_faults(look)])
    if not look.found.is_table:
        findings.faults.append(f"{look.found.place} is a view: name the table beneath it with --table.")
        return findings
    findings.faults += [_ends(look, one) for one in look.inspection.ending_triggers(look.connection, look.found)]
    findings.faults += _not_filled(look)
    findings.add(_read_by_the_source(look))
    findings.warnings += _never_null(look)
    findings.warnings += _refused_values(look)
    findings.warnings += _misleading_views(look)
    findings.warnings += _long_index_rows(look)
    findings.warnings += _half_made(look)
    findings.warnings += _late_keys(look)
    return findings


def _half_made(look: Look) -> Iterator[str]:
    """Indexes that an end too soon has left behind."""
    error = look.target.of_kind("error")
    for one in look.found.indexes:
        if error in one.mentions and not one.is_valid:
            place = f"{look.quote(look.found.schema)}." if look.found.schema else ""
            drop = f"DROP INDEX CONCURRENTLY {place}{look.quote(one.name)};"
            yield f"The index {one.name} was left half made, costs each write and serves nobody: {drop}"


def _key_faults(look: Look) -> Iterator[str]:
    name, place = look.target.id_column, look.found.place
    column = look.found.columns.get(name)
    if column is None:
        named = f"name the one that has the posting's id with --id-column. It has {listed(look.found.columns)}."
        yield f"{place} has no column {name}: {named}"
        return
    if not look.inspection.is_key_type(column.type):
        yield f"{name} is {column.type}: ids are uuid, texts or whole numbers. Name another with --id-column."
    if column.is_generated:
        yield f"{name} is filled by the database itself, so no row can be made for a posting: name another."
    if name not in look.found.unique and look.found.is_table:
        alter = f"CREATE UNIQUE INDEX ON {look.sql} ({look.quote(name)});"
        yield f"{place}.{name} is not unique, and a posting has one row. Make it so: {alter}"
    told = look.adopted.source.types.get("id")
    if told and not look.inspection.is_same_type(told, column.type):
        remedy = f"have the query give CAST(… AS {column.type}) AS id"
        if not look.inspection.is_castable(told, column.type):
            remedy = "these cannot be the same ids. Name the column of the posting's id with --id-column, or have the "
            remedy += f"query give what is in {name} as id"
        yield f"The source's id is {told} and {place}.{name} is {column.type}: {remedy}."


def _read_by_the_source(look: Look) -> Findings:
    """Columns that results go to and postings come from: each result would change what is asked about."""
    found, findings = reads(look.adopted.source.query, look.found.name, look.found.columns), Findings()
    for mapped in look.target.columns:
        name, is_result = mapped.column, mapped.kind in ("result", "constant")
        remedy = f"map the result to another column, or to none with --map {name}="
        if name in found.surely and is_result:
            findings.faults.append(
                f"The source query reads {name} of {look.found.place}, and each result would be "
                f"written over it: {remedy}."
            )
        elif name in found.surely | found.perhaps:
            findings.warnings.append(
                f"The source query names {name}, which is written in {look.found.place}: see that "
                f"it is not what it reads there, as each write would change the postings; or {remedy}."
            )
    return findings


def _ends(look: Look, trigger: Watch) -> str:
    return (
        f"The trigger {trigger.name} on {look.found.place} rolls back the whole transaction, and the log with it: have "
        "it say RAISE(ABORT, …) instead, which refuses the row alone."
    )


def _refused_values(look: Look) -> Iterator[str]:
    """Which values that the result model allows a column would refuse."""
    for mapped in look.target.columns:
        column = look.found.columns.get(mapped.column)
        field = look.fields.get(mapped.path) if mapped.kind == "result" else None
        if column is None or mapped.kind not in ("result", "constant"):
            continue
        values = (mapped.constant,) if field is None else field.values or (field.items if _is_list(column) else None)
        if values is None and field and field.kinds == {"string"} and not field.has_form:
            values = (ANY_TEXT,)
        refused = look.inspection.refused(look.connection, look.found, column, values or ())
        if refused == [ANY_TEXT]:
            yield (
                f"{column.name} takes some texts only, and the result model allows any: a result with another is kept "
                "in the log and not shown. Make the field a Literal of those."
            )
        elif refused:
            yield (
                f"{column.name} refuses {listed(map(str, refused))}, which the result model allows: a result with it "
                "is kept in the log and not shown. Have the constraint allow it, or the model not."
            )


def _is_list(column: Column) -> bool:
    """Whether each value of it is a list by itself, and none in JSON."""
    return column.type.endswith("[]")


def _not_filled(look: Look) -> Iterator[str]:
    """Columns that must have a value, where some row is not there yet: a failure fills none but ours."""
    always = {look.target.id_column, look.target.of_kind("completed_at")}
    needed = [one.name for one in look.found.columns.values() if _must_be_told(one) and one.name not in always]
    if needed and not _are_made_before(look):
        yield (
            f"Not every posting has a row in {look.found.place}, and a new one would lack {listed(needed)}, which "
            "cannot be null: drop NOT NULL there or give a default, or make the rows beforehand."
        )


def _must_be_told(column: Column) -> bool:
    return not (column.is_nullable or column.has_default or column.is_generated)


def _are_made_before(look: Look) -> bool:
    """Whether each posting has its row already. What keeps it from being asked is told by other checks."""
    made = f"SELECT 1 FROM {look.sql} made WHERE made.{look.quote(look.target.id_column)} = source.id"
    query = f"SELECT 1 FROM (\n{look.adopted.source.query}\n) AS source WHERE NOT EXISTS ({made}) LIMIT 1"
    try:
        with look.connection.begin_nested():
            return look.connection.execute(text(escaped(query))).first() is None
    except DBAPIError:
        return True


def _never_null(look: Look) -> Iterator[str]:
    for mapped in look.target.columns:
        column = look.found.columns.get(mapped.column)
        field = look.fields.get(mapped.path) if mapped.kind == "result" else None
        if column is None or column.is_nullable:
            continue
        if mapped.kind in _NULL_WHEN or (field and field.is_nullable):
            when = _NULL_WHEN.get(mapped.kind, "nothing to say")
            yield (
                f"{column.name} cannot be null, and null is written there where there is {when}: the row would be "
                f"refused. Drop it: ALTER TABLE {look.sql} ALTER COLUMN {look.quote(column.name)} DROP NOT NULL;"
            )


def _misleading_views(look: Look) -> Iterator[str]:
    completed, error = look.target.of_kind("completed_at"), look.target.of_kind("error")
    if completed is None or error is None:
        return
    reads = re.compile(rf"(?<!\w){re.escape(completed)}\"?\)?\s+IS\s+NOT\s+NULL", re.IGNORECASE)
    minds = re.compile(
        rf"(?:\bWHERE\b.*)(?<!\w){re.escape(error)}(?!\w)|(?<!\w){re.escape(error)}\"?\)?\s+IS\s",
        re.IGNORECASE | re.DOTALL,
    )  # that it is one of the columns shown, as in SELECT *, is not enough
    for view in look.inspection.views(look.connection, look.found):
        if reads.search(view.text) and not minds.search(view.text):
            yield (
                f"The view {view.name} takes {completed} IS NOT NULL for enriched, which holds for failures too: "
                f"add AND {error} IS NULL to it."
            )


def _long_index_rows(look: Look) -> Iterator[str]:
    """Indexes of whole messages: what we write fits in by itself."""
    error = look.target.of_kind("error")
    for index in look.found.indexes:
        if error is not None and error in index.columns:
            yield (
                f"The index {index.name} holds {error} whole, and takes some 2,700 bytes at the most. enrichlog writes "
                "2,500 at the most; what else is in it, or writes there, has to stay below. Rather have: "
                f"CREATE INDEX ON {look.sql} (left({look.quote(error)}, 200));"
            )


def _late_keys(look: Look) -> Iterator[str]:
    """Keys of other tables that what a result sets off may break."""
    runs_more = look.target.after_success is not None
    if names := look.inspection.late_keys(look.connection, look.found, runs_more=runs_more):
        yield (
            f"{listed(names)}: a foreign key there is looked at as a transaction ends. Where a trigger on "
            f"{look.found.place}, or after_success, breaks it, nothing of the log is kept either, not even a result "
            "that is paid: declare it without DEFERRABLE INITIALLY DEFERRED."
        )
