"""The users' own postings, wherever their query finds them: only ever read, and never copied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Text, cast, exists, false, literal_column, null, select

from enrichlog.exceptions import PostingsOfOthers, UnknownJob, UnknownJobOfTheirs
from enrichlog.posting import Posting
from enrichlog.source import Source
from eventlog.database import Database
from eventlog.dialects import Dialect
from eventlog.schema import Key
from projections.adoption import Source as Query
from projections.enrichment_status import enrichment_status

TEXTS_PAGE = 500
"""So many texts are read together."""


class UsersPostings(Source):
    """Postings as a query of the users' brings them; columns that it does not have are empty."""

    notices_changes = False

    def __init__(self, dialect: Dialect, query: Query) -> None:
        self._dialect, self._kind = dialect, query.types.get("id", "")
        named = [name for name in Posting._fields if name in query.types]
        self.table = query.as_table(named)
        self.key = self.table.c.id
        self.job_id = cast(self.key, Key)  # whatever their collation: it is compared with ours
        self.texts = {
            name: cast(self.table.c[name] if name in named else null(), Text)
            for name in Posting._fields
            if name != "id"
        }

    def is_of(self, job_id: ColumnElement[str]) -> ColumnElement[bool]:
        return self.key == self._dialect.theirs.as_key(job_id, self._kind)

    def is_among(self, parameter: str) -> ColumnElement[bool]:
        return self._dialect.theirs.is_key(self.key, self._kind, parameter)

    def is_other_input(self, seen: ColumnElement[Any]) -> ColumnElement[bool]:
        return false()

    def unrequested(self, database: Database, enrichment: str) -> Iterator[Sequence[str]]:
        """New ones only, by their ids: no text of a posting is read for that."""
        for page in self.ids(database, self._is_new(enrichment)):
            yield from (page[start : start + TEXTS_PAGE] for start in range(0, len(page), TEXTS_PAGE))

    def count_unrequested(self, database: Database, enrichment: str) -> Counter[str]:
        return Counter(new=self.count(database, self.key.is_not(None), self._is_new(enrichment)))

    def hashes(self, connection: Connection, job_ids: Sequence[str]) -> dict[str, str]:
        return {job_id: posting.input_hash for job_id, posting in self.load(connection, job_ids).items()}

    def unknown(self, job_id: str) -> UnknownJob:
        return UnknownJobOfTheirs(job_id=job_id)

    def require_own(self) -> None:
        raise PostingsOfOthers

    def _is_new(self, enrichment: str) -> ColumnElement[bool]:
        one: Select[Any] = select(literal_column("1")).select_from(enrichment_status)
        return ~exists(one.where(self.status_of(enrichment)))
