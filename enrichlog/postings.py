"""Postings in: the table of what is to be enriched, and looking through it for what is new or changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import (
    Column,
    Connection,
    RowMapping,
    Select,
    Table,
    Text,
    and_,
    bindparam,
    func,
    literal,
    or_,
    select,
    update,
)

from enrichlog.exceptions import UnknownJob
from enrichlog.noticing import request_unseen
from eventlog import canonical
from eventlog.database import Database
from eventlog.schema import Key, UtcDateTime, metadata
from eventlog.streams import join, split_stream, stream_of
from projections import enrichment_status

Change = Literal["added", "changed", "unchanged"]
CHANGES: tuple[Change, ...] = ("added", "unchanged", "changed")
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


class Posting(NamedTuple):
    """A job posting; an empty description is stored, and fails when it is to be enriched."""

    id: str
    title: str
    description: str
    company: str | None = None
    location: str | None = None
    url: str | None = None
    language: str | None = None

    @property
    def input_hash(self) -> str:
        """SHA-256 of what counts as input: when it changes, the posting is to be enriched again.

        A prompt may send the id, the URL and the language too; a change of those alone is no reason to pay again.
        """
        read = {name: getattr(self, name) for name in ("title", "company", "location", "description")}
        return hashlib.sha256(canonical.text(read).encode()).hexdigest()


_BY_IDS = select(job_postings).where(job_postings.c.id.in_(bindparam("ids", expanding=True)))


def posting_of(row: RowMapping) -> Posting:
    """The posting of a row."""
    return Posting(*(row[name] for name in Posting._fields))


def find_posting(database: Database, job_id: str) -> Posting:
    """One posting. Raises `UnknownJob`."""
    rows = database.page(select(job_postings).where(job_postings.c.id == job_id))
    if not rows:
        raise UnknownJob(job_id=job_id)
    return posting_of(rows[0]._mapping)


def load_postings(connection: Connection, job_ids: Sequence[str]) -> dict[str, Posting]:
    """The postings of these ids, as far as they are there."""
    found = connection.execute(_BY_IDS, {"ids": job_ids})
    return {row.id: posting_of(row._mapping) for row in found}


def find_deleted(connection: Connection, streams: Iterable[str]) -> set[str]:
    """Which of these streams are of postings that are not there any more."""
    wanted = {stream_id: split_stream(stream_id)[1] for stream_id in streams}
    query = select(job_postings.c.id).where(job_postings.c.id.in_(set(wanted.values())))
    there = set(connection.execute(query).scalars())
    return {stream_id for stream_id, job_id in wanted.items() if job_id not in there}


def store_postings(
    database: Database, postings: Sequence[Posting], enrichments: Sequence[str], actor: str
) -> list[Change]:
    """Store postings and request what is new or changed, in one transaction. Returns what became of each."""
    hashes = {posting.id: posting.input_hash for posting in postings}
    with database.write() as connection:
        changes = _changes(connection, postings)
        differing = [p for p, change in zip(postings, changes, strict=True) if change != "unchanged"]
        _hold_streams(connection, enrichments, [posting.id for posting in differing])
        now = database.dialect.clock(connection)
        _upsert(connection, database, differing, now)
        request_unseen(connection, database, enrichments, hashes, actor)
    return changes


def notice_posting(database: Database, job_id: str, enrichment: str, actor: str) -> Posting:
    """A posting, requested if this enrichment has not seen it like this. Raises `UnknownJob`."""
    with database.write() as connection:
        posting = load_postings(connection, [job_id]).get(job_id)
        if posting is None:
            raise UnknownJob(job_id=job_id)
        request_unseen(connection, database, [enrichment], {job_id: posting.input_hash}, actor)
    return posting


def compare_postings(database: Database, postings: Sequence[Posting]) -> list[Change]:
    """What storing these would change."""
    with database.read() as connection:
        return _changes(connection, postings)


def sync(database: Database, enrichment: str, actor: str) -> int:
    """Request every posting that is new to this enrichment or has changed since. Returns how many that were.

    Changed is one whose column `input_hash` is not what was last seen: text that SQL has edited without it is noticed
    only when something else looks at the posting.
    """
    requested = 0
    for page in _pages(database, _unrequested(enrichment, job_postings.c.id)):
        with database.write() as connection:
            _hold_streams(connection, [enrichment], [row.id for row in page])
            hashes = _mend_hashes(connection, [row.id for row in page])
            requested += request_unseen(connection, database, [enrichment], hashes, actor)
    return requested


def count_unrequested(database: Database, enrichment: str) -> int:
    """How many postings `sync` would request."""
    status = enrichment_status.enrichment_status.c
    new = _unrequested(enrichment, func.count()).where(status.stream_id.is_(None))
    count = database.count(new)
    seen = status.input_hash.label("seen")
    changed = _unrequested(enrichment, job_postings, seen).where(status.stream_id.is_not(None))
    for page in _pages(database, changed):
        count += sum(posting_of(row._mapping).input_hash != row.seen for row in page)
    return count


def _unrequested(enrichment: str, *columns: Any) -> Select[Any]:
    """What looks new or changed by the stored hash: that is quick, and takes too many rather than too few."""
    status = enrichment_status.enrichment_status
    stream = status.c.stream_id == join(literal(enrichment), job_postings.c.id)  # the one column that is indexed
    changed = and_(status.c.input_hash.is_distinct_from(job_postings.c.input_hash), status.c.rerun.is_(False))
    query: Select[Any] = select(*columns).select_from(job_postings).outerjoin(status, stream)
    return query.where(or_(status.c.stream_id.is_(None), changed))


def _pages(database: Database, query: Select[Any]) -> Iterator[list[Any]]:
    """The rows of a query over postings in order of their ids, in pages, of which each is a short read.

    To look among all postings for the few that are new would keep an SQLite file from being written for seconds.
    """
    query, after = query.order_by(job_postings.c.id).limit(SYNC_PAGE), ""
    for last in _bounds(database):
        within = query if last is None else query.where(job_postings.c.id <= last)
        while page := database.page(within.where(job_postings.c.id > after)):
            yield page
            after = page[-1].id
        after = last or after


def _bounds(database: Database) -> Iterator[str | None]:
    """The ids up to which postings are looked at in one read, one after the other; None for the end."""
    ids, together, after = select(job_postings.c.id).order_by(job_postings.c.id), database.dialect.rows_together, ""
    while together and (found := database.page(ids.where(job_postings.c.id > after).offset(together - 1).limit(1))):
        after = found[0].id
        yield after
    yield None


def _hold_streams(connection: Connection, enrichments: Sequence[str], job_ids: Sequence[str]) -> None:
    """Lock the streams of these postings before the postings themselves, as whoever appends has to.

    A trigger of the users' on llm_enrichment may write to job_postings: the other order would deadlock with it.
    """
    streams = [stream_of(name, job_id) for name in enrichments for job_id in job_ids]
    enrichment_status.lock(connection, streams)


def _mend_hashes(connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
    """The input hash of each posting, made from its text, and stored where an edit by SQL has left the old one.

    Else such a posting would look changed for ever, and be paid for at each run.
    """
    query = select(job_postings).where(job_postings.c.id.in_(job_ids)).order_by(job_postings.c.id)
    # key_share: a row of theirs that refers to a posting may be written meanwhile
    rows = connection.execute(query.with_for_update(key_share=True)).all()
    hashes = {row.id: posting_of(row._mapping).input_hash for row in rows}
    stale = [{"_id": row.id, "input_hash": hashes[row.id]} for row in rows if row.input_hash != hashes[row.id]]
    if stale:
        mend = update(job_postings).where(job_postings.c.id == bindparam("_id"))
        connection.execute(mend.values(input_hash=bindparam("input_hash")), stale)
    return hashes


def _changes(connection: Connection, postings: Sequence[Posting]) -> list[Change]:
    known = load_postings(connection, [posting.id for posting in postings])

    def change(posting: Posting) -> Change:
        if posting.id not in known:
            return "added"
        return "unchanged" if known[posting.id] == posting else "changed"

    return [change(posting) for posting in postings]


def _upsert(connection: Connection, database: Database, postings: Sequence[Posting], now: datetime) -> None:
    if postings:
        in_order = sorted(postings)  # of their ids, for everybody: a row is a lock
        rows = [{**p._asdict(), "input_hash": p.input_hash, "imported_at": now} for p in in_order]
        insert = database.dialect.insert(job_postings)
        values = {name: insert.excluded[name] for name in rows[0] if name != "id"}
        connection.execute(insert.on_conflict_do_update(index_elements=[job_postings.c.id], set_=values), rows)
