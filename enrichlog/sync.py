"""Sync: which postings are new to an enrichment, which have changed, and whose are gone, by comparing with the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import and_, func, select

from enrichlog.noticing import hold_streams, request_unseen
from enrichlog.postings import source_of
from enrichlog.source import Source, bounds_within
from enrichlog.source_check import require_source
from eventlog.database import Database
from eventlog.streams import bounds, join
from projections.enrichment_status import enrichment_status

TEXTS_PAGE = 500
EXAMPLES = 5


@dataclass
class Synced:
    """How many postings were requested as new and as changed, and how many streams' postings are gone.

    `changed` is None where texts were not read, and nothing else tells a change. `gone` names the first of them.
    """

    enrichment: str
    new: int
    changed: int | None
    gone: int
    examples: list[str] = field(default_factory=list)
    dry_run: bool = False

    def document(self) -> dict[str, Any]:
        """What scripts read."""
        counts = {"new": self.new, "changed": self.changed, "gone": self.gone, "gone_examples": self.examples}
        return {"enrichment": self.enrichment, "dry_run": self.dry_run, **counts}


def sync(database: Database, enrichment: str, actor: str) -> int:
    """Request every posting that is new to this enrichment, or looks changed. Returns how many that were."""
    source = source_of(database)
    return _request(database, source, enrichment, source.unrequested(database, enrichment), actor).total()


def count_unrequested(database: Database, enrichment: str) -> int:
    """How many postings `sync` would request."""
    return source_of(database).count_unrequested(database, enrichment).total()


def refresh(database: Database, enrichment: str, actor: str) -> int:
    """Request every posting whose text has changed: all of them are read. Returns how many that were."""
    source = source_of(database)
    return _request(database, source, enrichment, _changed(database, source, enrichment), actor).total()


def synced(database: Database, enrichment: str, actor: str, *, reads: bool = False, dry_run: bool = False) -> Synced:
    """Do both, or with `dry_run` count, and find out whose postings are gone; `reads`: all texts, for changed ones.

    Raises `UnusableSource`, also for a posting that is there twice where it `reads`: each look would find the text of
    the other, and have it paid for.
    """
    require_source(database, whole=reads)
    source = source_of(database)
    if dry_run:
        counts = source.count_unrequested(database, enrichment)
        counts["changed"] = sum(map(len, _changed(database, source, enrichment))) if reads else counts["changed"]
    else:
        counts = _request(database, source, enrichment, source.unrequested(database, enrichment), actor)
        if reads:
            counts += _request(database, source, enrichment, _changed(database, source, enrichment), actor)
    changed = counts["changed"] if reads or source.notices_changes else None
    gone, examples = _find_gone(database, source, enrichment)
    return Synced(enrichment, counts["new"], changed, gone, examples, dry_run)


def _request(
    database: Database, source: Source, enrichment: str, pages: Iterator[Sequence[str]], actor: str
) -> Counter[str]:
    """Request the postings of these pages as far as they are new or changed still; how many for which of the two."""
    counts = Counter[str]()
    for page in pages:
        with database.write() as connection:
            hold_streams(connection, [enrichment], page)
            hashes = source.hashes(connection, page)
            counts += request_unseen(connection, database, [enrichment], hashes, actor)
    return counts


def _changed(database: Database, source: Source, enrichment: str) -> Iterator[list[str]]:
    """The ids of postings whose text is not the one last seen, in pages; one of which none was seen is not changed."""
    status = enrichment_status.c
    for ids in source.ids(database):
        for start in range(0, len(ids), TEXTS_PAGE):
            page = ids[start : start + TEXTS_PAGE]
            streams = [join(enrichment, job_id) for job_id in page]
            known = select(status.job_id, status.input_hash).where(status.stream_id.in_(streams))
            with database.read() as connection:
                seen = {row.job_id: row.input_hash for row in connection.execute(known) if row.input_hash}
                postings = source.load(connection, list(seen))
            if found := [job_id for job_id, posting in postings.items() if posting.input_hash != seen[job_id]]:
                yield found


def _find_gone(database: Database, source: Source, enrichment: str) -> tuple[int, list[str]]:
    """How many streams' postings are gone, and the first of them."""
    stream, count, examples = enrichment_status.c.stream_id, 0, list[Any]()
    after, end = bounds(enrichment)
    ours = select(stream.label("bound")).where(stream > after, stream < end)
    for last in bounds_within(database, stream, ours):
        is_gone = and_(stream > after, stream < end if last is None else stream <= last, ~source.has_posting)
        here = database.count(select(func.count()).select_from(enrichment_status).where(is_gone))
        if here and len(examples) < EXAMPLES:
            first = select(enrichment_status.c.job_id).where(is_gone).order_by(stream)
            examples += database.page(first.limit(EXAMPLES - len(examples)))
        count, after = count + here, last or after
    return count, [row.job_id for row in examples]
