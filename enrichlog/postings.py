"""Postings by their ids, wherever they are kept: looked up, imported, and noticed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal

from sqlalchemy import Connection

from enrichlog.noticing import hold_streams, request_unseen
from enrichlog.own_postings import OwnPostings, upsert
from enrichlog.posting import Posting, Titled
from enrichlog.source import Source
from enrichlog.users_postings import UsersPostings
from eventlog.database import Database
from eventlog.dialects import Dialect
from projections.adoption import Source as Query

Change = Literal["added", "changed", "unchanged"]
CHANGES: tuple[Change, ...] = ("added", "unchanged", "changed")


def source_of(database: Database) -> Source:
    """Where the postings of a database are: our table, or what the query of an adopted one brings."""
    adopted = database.adopted
    return _source(database.dialect, adopted and adopted.source)


@lru_cache(maxsize=16)
def _source(dialect: Dialect, query: Query | None) -> Source:
    return OwnPostings(dialect) if query is None else UsersPostings(dialect, query)


def find_posting(database: Database, job_id: str) -> Posting:
    """One posting. Raises `UnknownJob`."""
    with database.read() as connection:
        found = load_postings(connection, database, [job_id]).get(job_id)
    if found is None:
        raise source_of(database).unknown(job_id)
    return found


def load_postings(connection: Connection, database: Database, job_ids: Sequence[str]) -> dict[str, Posting]:
    """The postings of these ids, as far as they are there."""
    return source_of(database).load(connection, job_ids)


def find_titles(connection: Connection, database: Database, job_ids: Sequence[str]) -> dict[str, Titled]:
    """What these postings are known by today; nothing where they are not there any more."""
    found = source_of(database).load_titles(connection, job_ids)
    return {job_id: found.get(job_id, Titled()) for job_id in job_ids}


def find_deleted(connection: Connection, database: Database, streams: Iterable[str]) -> set[str]:
    """Which of these streams are of postings that are not there any more."""
    return source_of(database).find_deleted(connection, streams)


def store_postings(
    database: Database, postings: Sequence[Posting], enrichments: Sequence[str], actor: str
) -> list[Change]:
    """Store postings and request what is new or changed, in one transaction. Returns what became of each.

    Raises `PostingsOfOthers` where other programs write them.
    """
    source_of(database).require_own()
    hashes = {posting.id: posting.input_hash for posting in postings}
    with database.write() as connection:
        changes = _changes(connection, database, postings)
        differing = [p for p, change in zip(postings, changes, strict=True) if change != "unchanged"]
        hold_streams(connection, enrichments, [posting.id for posting in differing])
        now = database.dialect.clock(connection)
        upsert(connection, database, differing, now)
        request_unseen(connection, database, enrichments, hashes, actor)
    return changes


def notice_posting(database: Database, job_id: str, enrichment: str, actor: str) -> Posting:
    """A posting, requested if this enrichment has not seen it like this. Raises `UnknownJob`."""
    with database.write() as connection:
        posting = load_postings(connection, database, [job_id]).get(job_id)
        if posting is None:
            raise source_of(database).unknown(job_id)
        request_unseen(connection, database, [enrichment], {job_id: posting.input_hash}, actor)
    return posting


def compare_postings(database: Database, postings: Sequence[Posting]) -> list[Change]:
    """What storing these would change. Raises `PostingsOfOthers` where other programs write them."""
    source_of(database).require_own()
    with database.read() as connection:
        return _changes(connection, database, postings)


def _changes(connection: Connection, database: Database, postings: Sequence[Posting]) -> list[Change]:
    known = load_postings(connection, database, [posting.id for posting in postings])

    def change(posting: Posting) -> Change:
        if posting.id not in known:
            return "added"
        return "unchanged" if known[posting.id] == posting else "changed"

    return [change(posting) for posting in postings]
