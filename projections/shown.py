"""What a table of results shows of each posting, be it ours or one that was there before us: the users' projection."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from sqlalchemy import ColumnElement, Connection, Table

from eventlog.dialects import Dialect
from projections.adoption import Adopted
from projections.enriched import INITIAL, Enriched, fold
from projections.projection import Projection, Refusals, Row, Writing, is_never_blank
from projections.users_table import write_rows

NAME, VERSION = "llm_enrichment", 1


def place_of(adopted: Adopted | None) -> str:
    """The name of the table, for people; the projection is called the same whatever table it is in."""
    return NAME if adopted is None else adopted.target.place


class Load(Protocol):
    """Reads the rows of streams; columns that the table is `lacking` are left out."""

    def __call__(
        self, connection: Connection, dialect: Dialect, streams: Sequence[str], lacking: Collection[str] = ()
    ) -> dict[str, Row]: ...


class Shown(NamedTuple):
    """How one table shows what is enriched.

    `key` is how a stream's row is found, None for a stream that the table does not show; `columns` gives those that
    are known, which are compared and written; `error` names the one that has the error. `stream` is a row's stream
    within a query, and `shows` whether the row shows anything, of which `is_blank` asks the opposite of a row that was
    read. `after` is what else is to be done, in the same savepoint, with streams that have a new result.
    """

    table: Table
    stream: ColumnElement[str]
    shows: ColumnElement[bool]
    key: Callable[[str], Row | None]
    columns: Callable[[Enriched], Row]
    load: Load
    error: str | None
    after: Callable[[Connection, Sequence[str]], None] | None = None
    is_blank: Callable[[Row], bool] = is_never_blank

    def row(self, stream_id: str, enriched: Enriched) -> Row | None:
        """The row; none before the first attempt has ended."""
        key = self.key(stream_id)
        return None if key is None or enriched.ended_at is None else {**key, **self.columns(enriched)}

    def changes(self, stream_id: str, old: Enriched, new: Enriched) -> Row | None:
        """The columns to write, with the key; None when what is shown stays as it is."""
        key, columns = self.key(stream_id), self.columns(new)
        return None if key is None or columns == self.columns(old) else {**key, **columns}

    def store(self, connection: Connection, dialect: Dialect, rows: Mapping[str, Row], writing: Writing) -> Refusals:
        """Write the rows as far as the table takes them."""
        return write_rows(connection, dialect, self.table, rows, writing, self.after)

    def projection(self, of: Callable[[Any], Projection[Enriched]] | None = None) -> Projection[Enriched]:
        """What this table is a read model of; `of` gives that of an adopted database."""
        return Projection(
            name=NAME,
            version=VERSION,
            table=self.table,
            initial=INITIAL,
            fold=fold,
            row=self.row,
            load=self.load,
            store=self.store,
            stream=self.stream,
            shows=self.shows,
            is_blank=self.is_blank,
            reads_content=True,
            is_users=True,
            of=of,
        )
