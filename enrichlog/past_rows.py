"""The rows of the users' table as they were before us: what each says of the attempt that it came of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Text, cast, func, select

from enrichlog.field_types import as_typed, types_at
from eventlog import canonical
from eventlog.database import Database
from eventlog.held import Unread
from projections.adoption import Target
from projections.target import at_path, in_utc, is_blank, table_of

PAGE = 300
"""How many rows are read, and their events appended, together: whoever appends meanwhile waits for no more."""

OTHER_TIMES = ("updated_at", "modified_at", "last_updated", "created_at", "inserted_at")
"""The columns that tell, where the time of completion does not, when a row was written last; the first that does."""

Path = tuple[str, ...]


class PastRow(NamedTuple):
    """A row that tells of an attempt: the error it ended with, or its result and who gave it.

    `completed_at` is the time that the table has; `happened_at` the best that is known, None where nothing is.
    `is_at_odds` says that columns of one field differ: the result has the first of those that are not null.
    """

    job_id: str
    error: str | None
    completed_at: datetime | None
    happened_at: datetime | None
    model_version: str | None
    result: dict[str, Any] | None
    is_at_odds: bool = False


class Unreadable(NamedTuple):
    """A row that cannot be read, and why."""

    job_id: str
    reason: str


class PastPage(NamedTuple):
    """Some rows: those that tell of an attempt, those that cannot be read, and how many tell of nothing."""

    rows: list[PastRow]
    unreadable: list[Unreadable]
    untried: int

    @property
    def size(self) -> int:
        """How many rows it is of."""
        return len(self.rows) + len(self.unreadable) + self.untried


class PastRows:
    """The rows of an adopted table, read in pages by its key: nothing of theirs is locked, and memory holds a page.

    `schema` is that of the result model. A mapped column that is still to be added tells nothing.
    """

    def __init__(self, database: Database, target: Target, schema: dict[str, Any]) -> None:
        there = tuple(one for one in target.columns if one.column in target.types)
        self._database, self._target = database, (target := replace(target, columns=there))
        self._times = [name for name in OTHER_TIMES if name in target.types]
        self._table = table_of(target, self._times)
        results = [one for one in target.columns if one.kind == "result"]
        self._results = [(one, types_at(schema, one.path)) for one in sorted(results, key=lambda one: len(one.path))]
        self._has_completion = target.of_kind("completed_at") is not None

    def count(self) -> int:
        """How many rows there are."""
        return self._database.count(select(func.count()).select_from(self._table))

    def pages(self) -> Iterator[PastPage]:
        """All rows in the order of their key."""
        key = self._table.c[self._target.id_column]
        query = select(key, cast(key, Text)).where(key.is_not(None)).order_by(key).limit(PAGE)
        found = self._database.page(query)
        while found:
            yield self._page([told for _, told in found])
            last = found[-1][0]  # as the driver has it: the order of texts is another
            found = self._database.page(query.where(key > last)) if len(found) == PAGE else []

    def _page(self, job_ids: Sequence[str]) -> PastPage:
        dialect, key = self._database.dialect, self._table.c[self._target.id_column]
        with self._database.read() as connection:
            held = dialect.theirs.held(connection, self._table, dialect.among(key, "ids"), {"ids": list(job_ids)})
        page = PastPage([], [], len(job_ids) - len(held))  # what was deleted meanwhile tells of nothing
        for row in held:
            try:
                read = self._read(row)
            except ValueError as error:
                page.unreadable.append(Unreadable(row[self._target.id_column], str(error)))
                continue
            if read is None:
                page = page._replace(untried=page.untried + 1)
            else:
                page.rows.append(read)
        return page

    def _read(self, row: Mapping[str, Any]) -> PastRow | None:
        """What a row tells; None where it tells of no attempt. Raises `ValueError` for what cannot be read."""
        job_id, told = row[self._target.id_column], partial(self._told, row)
        if not job_id:
            raise ValueError("its id is empty")
        _require_read(row)
        error, completed_at = _text(told("error"), "the error"), _time(told("completed_at"), "the time of completion")
        happened_at = completed_at or self._other_time(row)
        if error is not None and not is_blank(error):
            return PastRow(job_id, error, completed_at, happened_at, None, None)
        if completed_at is None and (self._has_completion or not self._has_result(row)):
            return None
        version = _text(told("model_version"), "the version of the model")
        result, is_at_odds = self._result(row)
        return PastRow(job_id, None, completed_at, happened_at, version, result, is_at_odds)

    def _told(self, row: Mapping[str, Any], kind: Any) -> Any:
        name = self._target.of_kind(kind)
        return None if name is None else row[name]

    def _other_time(self, row: Mapping[str, Any]) -> datetime | None:
        for name in self._times:
            try:
                found = _time(row[name], name)
            except ValueError:
                continue  # it is a guess: another may do
            if found is not None:
                return found
        return None

    def _has_result(self, row: Mapping[str, Any]) -> bool:
        """Whether a column of the result has what is no usual default."""
        return any(row[one.column] not in (None, "", False, 0, [], {}, "[]", "{}") for one, _ in self._results)

    def _result(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
        """The columns in the shape of the result model, and whether one of them has something else than is there then.

        What stands within something else comes after that.
        """
        result: dict[str, Any] = {}
        values: list[tuple[Path, Any]] = []
        for one, types in self._results:
            try:
                values.append((one.path, as_typed(row[one.column], types)))
            except ValueError as error:
                raise ValueError(f"{one.column}: {error}") from None
        wholes = {path for path, _ in values}
        for path, value in values:
            _put(result, path, value, wholes)
        return result, any(at_path(path, result) != value for path, value in values)


def _require_read(row: Mapping[str, Any]) -> None:
    """Raises `ValueError` for a row of which a column cannot be read."""
    for name, value in row.items():
        if isinstance(value, Unread):
            raise ValueError(f"{name}: {value}")


def _put(result: dict[str, Any], path: Path, value: Any, wholes: Set[Path]) -> None:
    """Set a value at its path where nothing is yet, as far as that leads through objects.

    No null is put into an object of which a column has the `wholes`: it would be another one.
    """
    place: Any = result
    for step in path[:-1]:
        within = place.setdefault(step, {})
        if not isinstance(within, dict):
            return
        place[step] = {**within}  # a column's own stays as it is
        place = place[step]
    is_part = any(path[:length] in wholes for length in range(1, len(path)))
    if place.get(path[-1]) is None and not (is_part and value is None):
        place[path[-1]] = value


def _text(held: Any, name: str) -> str | None:
    """A text, whatever a column holds. Raises `ValueError` for bytes, which are none."""
    if isinstance(held, bytes):
        raise ValueError(f"{name} is bytes, which are no text")
    return held if held is None or isinstance(held, str) else canonical.text(held)


def _time(held: Any, name: str) -> datetime | None:
    """The moment that a column holds. Raises `ValueError`."""
    if held is None:
        return None
    try:
        return in_utc(held)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {held!r}, which is no time") from None
