"""Our own table of postings, which imports write, and what looks new or changed in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    func,
    or_,
    select,
    update,
)

from enrichlog.exceptions import UnknownJob
from enrichlog.posting import Posting
from enrichlog.source import Source, posting_of
from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import Key, UtcDateTime, metadata
from projections.enrichment_status import enrichment_status

SYNC_PAGE = 500

job_postings = Table(
    "job_postings",
    metadata,
    Column("id", Key, primary_key=True),
    Column("title", Text, nullable=False),
    Column("company", Text),
    Column("location", Text),
    Column("description", Text, nullable=False),
    Column("url", Text),
    Column("language", Text),
    Column("input_hash", Text, nullable=False),
    Column("imported_at", UtcDateTime, nullable=False),
)


class OwnPostings(Source):
    """Postings that enrichlog stores itself, each with the hash of its input beside it."""

    notices_changes = True

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.table, self.key, self.job_id = job_postings, job_postings.c.id, job_postings.c.id
        self.texts = {name: job_postings.c[name] for name in Posting._fields if name != "id"}

    def require_own(self) -> None:
        """They are."""

    def is_of(self, job_id: ColumnElement[str]) -> ColumnElement[bool]:
        return self.key == job_id

    def is_among(self, parameter: str) -> ColumnElement[bool]:
        return self._dialect.among(self.key, parameter)

    def is_other_input(self, seen: ColumnElement[Any]) -> ColumnElement[bool]:
        return job_postings.c.input_hash != seen

    def unrequested(self, database: Database, enrichment: str) -> Iterator[Sequence[str]]:
        """What looks so by the stored hash: that is quick, and takes too many rather than too few.

        Text that SQL has edited without it is noticed only when something else looks at the posting.
        """
        query = self._unrequested(enrichment, self.key.label("key"))
        yield from ([row.key for row in page] for page in self.pages(database, query, SYNC_PAGE))

    def count_unrequested(self, database: Database, enrichment: str) -> Counter[str]:
        status = enrichment_status.c
        new = self._unrequested(enrichment, func.count()).where(status.stream_id.is_(None))
        counts, seen = Counter(new=database.count(new)), status.input_hash.label("seen")
        changed = self._unrequested(enrichment, self.key.label("key"), job_postings, seen)
        for page in self.pages(database, changed.where(status.stream_id.is_not(None)), SYNC_PAGE):
            counts["changed"] += sum(posting_of(row).input_hash != row.seen for row in page)
        return counts

    def hashes(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
        """Stored where an edit by SQL has left the old one: else it would look changed, and be paid for, for ever."""
        query = select(job_postings).where(job_postings.c.id.in_(job_ids)).order_by(job_postings.c.id)
        # key_share: a row of theirs that refers to a posting may be written meanwhile
        rows = connection.execute(query.with_for_update(key_share=True)).all()
        hashes = {row.id: posting_of(row).input_hash for row in rows}
        stale = [{"_id": row.id, "input_hash": hashes[row.id]} for row in rows if row.input_hash != hashes[row.id]]
        if stale:
            mend = update(job_postings).where(job_postings.c.id == bindparam("_id"))
            connection.execute(mend.values(input_hash=bindparam("input_hash")), stale)
        return hashes

    def unknown(self, job_id: str) -> UnknownJob:
        return UnknownJob(job_id=job_id)

    def _unrequested(self, enrichment: str, *columns: Any) -> Select[Any]:
        status = enrichment_status.c
        changed = and_(self.is_other_input(status.input_hash), status.rerun.is_(False))
        query: Select[Any] = select(*columns).select_from(job_postings)
        query = query.outerjoin(enrichment_status, self.status_of(enrichment))
        return query.where(or_(status.stream_id.is_(None), changed))


def upsert(connection: Connection, database: Database, postings: Sequence[Posting], now: datetime) -> None:
    """Store these postings, new or not."""
    if postings:
        in_order = sorted(postings)  # of their ids, for everybody: a row is a lock
        rows = [{**p._asdict(), "input_hash": p.input_hash, "imported_at": now} for p in in_order]
        insert = database.dialect.insert(job_postings)
        values = {name: insert.excluded[name] for name in rows[0] if name != "id"}
        connection.execute(insert.on_conflict_do_update(index_elements=[job_postings.c.id], set_=values), rows)
