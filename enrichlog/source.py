"""A source of postings: where they are read, as a table within queries, and by the ids of some."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, exists, func, literal, literal_column, select

from enrichlog.exceptions import UnknownJob, UnusableSource
from enrichlog.posting import Posting, Titled
from eventlog.canonical import storable
from eventlog.database import Database
from eventlog.streams import join, split_stream
from projections.enrichment_status import enrichment_status

IDS_PAGE = 50_000
"""Ids are read so many at a time, a few megabytes: the fewer pages, the less often a query is run that has no index."""

TWICE = "It brings the posting {job_id} more than once: a posting is to be one row, so see what it is joined with."


class Source(ABC):
    """Postings as a `table`, whose column `key` they are looked up by, and `job_id` is that as a text.

    `texts` are the other columns of a posting, by name.
    """

    table: FromClause
    key: ColumnElement[Any]
    job_id: ColumnElement[str]
    texts: Mapping[str, ColumnElement[Any]]

    notices_changes: bool
    """Whether a changed text is noticed without reading it."""

    @abstractmethod
    def is_of(self, job_id: ColumnElement[str]) -> ColumnElement[bool]:
        """Whether a row of the table is the posting of this id, by the index of its key."""

    @abstractmethod
    def is_among(self, parameter: str) -> ColumnElement[bool]:
        """Whether a row is one of the ids that the parameter of that name brings."""

    @abstractmethod
    def is_other_input(self, seen: ColumnElement[Any]) -> ColumnElement[bool]:
        """Whether a posting's text is another than the one of this hash, as far as that is told without reading it."""

    @abstractmethod
    def unrequested(self, database: Database, enrichment: str) -> Iterator[Sequence[str]]:
        """The ids of postings that look new or changed to an enrichment, in pages."""

    @abstractmethod
    def count_unrequested(self, database: Database, enrichment: str) -> Counter[str]:
        """How many of them are new and changed."""

    @abstractmethod
    def hashes(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
        """The input hashes of these postings, made from their texts, as far as they are there."""

    @abstractmethod
    def unknown(self, job_id: str) -> UnknownJob:
        """What is raised for an id that no posting has."""

    @abstractmethod
    def require_own(self) -> None:
        """Raises `PostingsOfOthers` where postings are written by other programs alone."""

    @property
    def has_posting(self) -> ColumnElement[bool]:
        """Whether there is a posting for a row of `enrichment_status`."""
        return exists(select(literal_column("1")).select_from(self.table).where(self.is_of(enrichment_status.c.job_id)))

    def status_of(self, enrichment: str) -> ColumnElement[bool]:
        """Whether a row of `enrichment_status` is that of a row of postings: by the one column that is indexed."""
        return enrichment_status.c.stream_id == join(literal(enrichment), self.job_id)

    def load(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, Posting]:
        """The postings of these ids, as far as they are there.

        Raises `UnusableSource` for one that is there twice: which of its texts would be paid for is anybody's guess.
        """
        rows = connection.execute(self._by_ids(*self.texts), {"ids": [*job_ids]}).all()
        if twice := [job_id for job_id, count in Counter(row.id for row in rows).items() if count > 1]:
            raise UnusableSource(faults=TWICE.format(job_id=twice[0]))
        return {row.id: posting_of(row) for row in rows}

    def load_titles(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, Titled]:
        """Title and company of these postings, as far as they are there."""
        found = connection.execute(self._by_ids(*Titled._fields), {"ids": [*job_ids]})
        return {row.id: Titled(row.title, row.company) for row in found}

    def find_there(self, connection: Connection, job_ids: Iterable[str]) -> set[str]:
        """Which of these ids are those of postings."""
        return set(connection.execute(self._by_ids(), {"ids": [*job_ids]}).scalars())

    def find_deleted(self, connection: Connection, streams: Iterable[str]) -> set[str]:
        """Which of these streams are of postings that are not there any more."""
        wanted = {stream_id: split_stream(stream_id)[1] for stream_id in streams}
        there = self.find_there(connection, set(wanted.values()))
        return {stream_id for stream_id, job_id in wanted.items() if job_id not in there}

    def ids(self, database: Database, *conditions: ColumnElement[bool]) -> Iterator[list[str]]:
        """The ids of all postings of which these are true, in order of their keys, in pages."""
        query = select(self.key.label("key"), self.job_id.label("id")).select_from(self.table).where(*conditions)
        yield from ([row.id for row in page] for page in self.pages(database, query, IDS_PAGE))

    def count(self, database: Database, *conditions: ColumnElement[bool]) -> int:
        """How many postings there are of which these are true."""
        return database.count(select(func.count()).select_from(self.table).where(*conditions))

    def pages(self, database: Database, query: Select[Any], size: int) -> Iterator[list[Any]]:
        """The rows of a query over postings that has their `key`, in order of it, in pages, each a short read.

        To look among all postings for the few that are new would keep an SQLite file from being written for seconds.
        """
        query, after = query.where(self.key.is_not(None)).order_by(self.key).limit(size), None
        for last in bounds_within(database, self.key, select(self.key.label("bound")).select_from(self.table)):
            within = query if last is None else query.where(self.key <= literal(last, self.key.type))
            while page := database.page(_after(within, self.key, after)):
                yield page
                after = page[-1].key
            after = last or after

    def _by_ids(self, *names: str) -> Select[Any]:
        columns = [self.texts[name].label(name) for name in names]
        return select(self.job_id.label("id"), *columns).select_from(self.table).where(self.is_among("ids"))


def bounds_within(database: Database, column: ColumnElement[Any], query: Select[Any]) -> Iterator[Any]:
    """The values of a column, `bound` of this query, up to which rows are looked at in one read; None for the end."""
    together, after = database.dialect.rows_together, None
    query = query.where(column.is_not(None)).order_by(column)
    while together and (found := database.page(_after(query, column, after).offset(together - 1).limit(1))):
        after = found[0].bound
        yield after
    yield None


def posting_of(row: Any) -> Posting:
    """The posting of a row; where a title or a description is missing it is empty."""
    texts = {name: _text(getattr(row, name)) for name in Posting._fields}
    return Posting(**{**texts, "title": texts["title"] or "", "description": texts["description"] or ""})  # type: ignore[arg-type]


def _text(value: str | None) -> str | None:
    return None if value is None else storable(value)


def _after(query: Select[Any], column: ColumnElement[Any], after: Any) -> Select[Any]:
    return query if after is None else query.where(column > literal(after, column.type))
