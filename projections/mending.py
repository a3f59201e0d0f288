"""Rows of streams are written anew under their locks, folded up to their heads: no newer row is overwritten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection

from eventlog.database import Database
from eventlog.dialects import Dialect
from projections import enrichment_status
from projections.pages import Page, find_moved, read_streams, reads_content
from projections.projection import Projection, Refusals, Row, Writing


@dataclass(frozen=True)
class Wanted:
    """The rows of one projection that are to be written: by stream, each with the columns to leave as they are."""

    projection: Projection[Any]
    kept: Mapping[str, frozenset[str]]


class _Current(NamedTuple):
    """Streams up to their heads: those of a page, and newer than there those that have moved since.

    The rows of `gone` postings are not to be written, and the statuses of those `made` here are.
    """

    page: Page
    newer: Page
    gone: set[str]
    made: set[str]

    def rows(self, projection: Projection[Any], names: Iterable[str]) -> dict[str, Row]:
        """The rows that a projection has of these streams, in the order of their names."""
        folded = self.page.rows(projection) | self.newer.rows(projection)
        left = self.gone if projection.is_users else frozenset[str]()
        return {one: row for one in sorted(names) if one not in left and (row := folded[one]) is not None}


def mend(database: Database, page: Page, wanted: Sequence[Wanted], gone: set[str]) -> list[tuple[int, Refusals]]:
    """Write these rows in one transaction; of each projection how many were written, and what was refused.

    Of `gone` postings users have no row: only the mark that theirs was refused goes.
    """
    names = sorted({stream_id for one in wanted for stream_id in one.kept})
    with database.write() as connection:
        dialect = database.dialect
        made = enrichment_status.hold(connection, dialect, names, lambda: page.rows(enrichment_status.projection))
        with_content = reads_content(one.projection for one in wanted)
        newer = _read_newer(connection, dialect, page, names, with_content=with_content)
        current = _Current(page, newer, gone, made)
        return [_store(connection, dialect, one, current) for one in wanted]


def _read_newer(
    connection: Connection, dialect: Dialect, page: Page, names: Sequence[str], *, with_content: bool
) -> Page:
    """The streams that have moved since the page was read, up to their heads, which the locks keep where they are."""
    moved = sorted(find_moved(connection, dialect, page.head, names))  # a new statement: it sees what came before
    newer = Page(page.head, read_streams(connection, moved, with_content=with_content) if moved else {})
    statuses = newer.rows(enrichment_status.projection).values()
    enrichment_status.write(connection, dialect, [row for row in statuses if row is not None])
    return newer


def _store(connection: Connection, dialect: Dialect, wanted: Wanted, current: _Current) -> tuple[int, Refusals]:
    """Write the rows of one projection."""
    projection, kept = wanted.projection, wanted.kept
    rows = current.rows(projection, kept)
    parts = {one for one in rows if kept[one]}
    rows |= {one: {name: rows[one][name] for name in rows[one] if name not in kept[one]} for one in parts}
    rows = {one: row for one, row in rows.items() if row}
    left = rows if projection.is_users else {one: row for one, row in rows.items() if one not in current.made}
    enriched = enrichment_status.find_untold(connection, dialect, left) if projection.is_users else set()
    refused = projection.store(connection, dialect, left, Writing(parts, enriched))
    if projection.is_users:
        enrichment_status.mark(connection, dialect, {stream_id: refused.get(stream_id) for stream_id in kept})
    return len(rows) - len(refused), refused
