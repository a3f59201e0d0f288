"""The settings that an adoption proposes, from what is in the database and what somebody has said already."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from enrichlog.adopt_names import find
from enrichlog.adopt_new_table import creation
from enrichlog.adopt_source import postings_of, query_of
from enrichlog.adopt_target import columns_of, id_column_of, target_of
from enrichlog.adoption_checks import fields_of_target
from enrichlog.exceptions import NothingToAdopt, UsageError
from enrichlog.findings import listed
from enrichlog.look import quoting
from enrichlog.read_columns import reads
from enrichlog.result_fields import Field, Path
from enrichlog.settings import Constant, Settings, SourceSettings, TargetSettings
from eventlog.database import Database
from eventlog.inspection import Found, Inspection

_CONSTANT = "constant:"


@dataclass
class Wishes:
    """What somebody has said about an adoption; None where nothing was said."""

    postings: str | None = None
    table: str | None = None
    id_column: str | None = None
    where: str | None = None
    query: str | None = None
    after_success: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)

    @property
    def are_any(self) -> bool:
        """Whether anything was said."""
        told = (self.postings, self.table, self.id_column, self.where, self.query, self.after_success)
        return bool(self.columns) or any(one is not None for one in told)


@dataclass
class Proposal:
    """Settings with both sections, and the tables that they are about, where these are there."""

    settings: Settings
    source: SourceSettings
    target: TargetSettings
    postings: Found | None
    lacking: list[str] = field(default_factory=list)
    is_new: bool = True


def read_columns(pairs: Sequence[str]) -> dict[str, Any]:
    """What is to go to which column, from texts `COLUMN=WHAT`; empty for nothing. Raises `UsageError`."""
    columns: dict[str, Any] = {}
    for pair in pairs:
        column, equals, told = pair.partition("=")
        if not column or not equals:
            raise UsageError(
                reason=f"--map {pair} is not COLUMN=WHAT. WHAT is a field of the result, @error, @completed_at, "
                "@model_version, constant:VALUE, or nothing for a column that is to be left alone."
            )
        columns[column] = _constant(told.removeprefix(_CONSTANT)) if told.startswith(_CONSTANT) else told
    return columns


def _constant(told: str) -> Constant:
    try:
        return Constant(constant=json.loads(told))
    except ValueError:
        return Constant(constant=told)


def propose(settings: Settings, tables: Sequence[Found], wishes: Wishes, database: Database) -> Proposal:
    """The settings; those that are there already stay as they are, unless something else was said.

    Raises `NothingToAdopt` where no table can be found that has postings or results, and `InvalidResultModel`.
    """
    if settings.source and settings.target and not wishes.are_any:
        return Proposal(settings, settings.source, settings.target, None, is_new=False)
    fields, quote, inspection = fields_of_target(settings), quoting(database), database.dialect.inspection
    target = _target(settings, tables, wishes, fields, database)
    postings = _postings(tables, wishes, target)
    lacking: list[str] = []
    query = wishes.query
    if query is None and settings.source and wishes.postings is None and wishes.where is None:
        query = settings.source.query
    if query is None and postings is None:
        raise NothingToAdopt(reason=_NO_POSTINGS.format(tables=_names(tables)))
    if query is None and postings is not None:
        query, lacking = query_of(tables, postings, wishes.where, quote)
    source = SourceSettings(query=query or "")
    told = _target_settings(settings, wishes, target, postings, fields, source, inspection)
    new = settings.model_copy(update={"source": source, "target": told})
    return Proposal(new, source, told, postings, lacking)


_NO_POSTINGS = (
    "No table of postings was found. Name it with --postings, or give --query: a SELECT of id, title and description. "
    "There are: {tables}."
)
_NO_TARGET = "No table of results was found. Name it with --table. There are: {tables}."
_TO_BE_MADE = "If there is none yet, make one, such as this, and run adopt again: {sql}"
_NO_ID = "If there is none yet, name the table of postings with --postings, and the SQL that makes one is shown."
_NO_ID_COLUMN = "Which column of {table} has the posting's id? Name it with --id-column. It has {columns}."


def to_be_made(tables: Sequence[Found], wishes: Wishes, fields: Mapping[Path, Field], database: Database) -> str | None:
    """What to do where no table can be found that has results; None where there is one."""
    if target_of(tables, fields) is not None:
        return None
    postings = find(tables, wishes.postings) if wishes.postings else postings_of(tables, None, None)
    if postings is None:
        return _NO_ID
    quote = quoting(database)
    return _TO_BE_MADE.format(sql=creation(wishes.table, postings, fields, database.dialect.inspection, quote))


def _target(
    settings: Settings, tables: Sequence[Found], wishes: Wishes, fields: Mapping[Path, Field], database: Database
) -> Found:
    told = wishes.table or (settings.target.table if settings.target else None)
    found = find(tables, told) if told else target_of(tables, fields)
    if found is None:
        names, remedy = _names(tables), to_be_made(tables, wishes, fields, database)
        reason = f"There is no table {told}. There are: {names}." if told else _NO_TARGET.format(tables=names)
        raise NothingToAdopt(reason=" ".join(filter(None, (reason, remedy))))
    return found


def _postings(tables: Sequence[Found], wishes: Wishes, target: Found) -> Found | None:
    if wishes.postings is None:
        only = tables[0] if len(tables) == 1 else None  # it has the postings too
        return postings_of(tables, target, wishes.id_column) or only
    found = find(tables, wishes.postings)
    if found is None:
        raise NothingToAdopt(reason=f"There is no table {wishes.postings}. There are: {_names(tables)}.")
    return found


def _target_settings(
    settings: Settings, wishes: Wishes, found: Found, postings: Found | None, fields: Mapping[Path, Field],
    source: SourceSettings, inspection: Inspection,
) -> TargetSettings:  # fmt: skip
    there = settings.target if settings.target and wishes.table in (None, settings.target.table) else None
    id_column = wishes.id_column or (there.id_column if there else id_column_of(found, postings))
    if id_column is None:
        raise NothingToAdopt(reason=_NO_ID_COLUMN.format(table=found.place, columns=listed(found.columns, 20)))
    free = {} if there else columns_of(_not_read(found, source), id_column, fields, inspection)
    columns = dict(there.columns if there else free) | wishes.columns
    after = wishes.after_success if wishes.after_success is not None else there.after_success if there else None
    return TargetSettings(
        table=found.place, id_column=id_column, enrichment=there.enrichment if there else "job",
        columns={name: told for name, told in columns.items() if told}, after_success=after or None,
    )  # fmt: skip


def _not_read(found: Found, source: SourceSettings) -> Found:
    """The table without the columns that postings are read from: a result there would be asked about the next time."""
    read = frozenset().union(*reads(source.query, found.name, found.columns))
    return replace(found, columns={name: column for name, column in found.columns.items() if name not in read})


def _names(tables: Sequence[Found]) -> str:
    return listed((one.place for one in tables), 20) or "none"
