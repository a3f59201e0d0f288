"""What a projection is: a pure fold per key, and the row that a state becomes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, true

from eventlog.dialects import Dialect

S = TypeVar("S")
Row = dict[str, Any]
Refusals = dict[str, str]
"""Stream -> the database's own reason for refusing its row."""


class Writing(NamedTuple):
    """What is known of rows to be written: of `parts` only some columns are, and `enriched` have a new result."""

    parts: Collection[str] = ()
    enriched: Collection[str] = ()


NOTHING_MORE = Writing()


class Foldable(Protocol):
    """What a fold may look at. Its position is not among it: live rows are written before the log is numbered."""

    @property
    def stream_id(self) -> str: ...
    @property
    def version(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def content(self) -> dict[str, Any] | None: ...


def is_never_blank(row: Row) -> bool:
    """A row that is there shows something."""
    return False


@dataclass(frozen=True)
class Projection(Generic[S]):
    """A read model with one row per stream.

    `fold` has no I/O, no clock and no other table in it; a change of what it gives raises `version`. `row` gives the
    columns that the fold explains, or None while there is nothing to show; other columns of the table are left alone.
    `load` and `store` read and write rows by stream; `store` is called with the streams' status rows locked, and with
    what is known of these. `stream` is a row's stream within a query, and `shows` whether the row shows anything, of
    which `is_blank` asks the opposite of a row that was read: one that was made beforehand is none. One that
    `reads_content` needs more than facts. A table that `is_users` may refuse rows, and its rows are never removed.
    `fold_story`, where it is given, is the same as to fold all events one by one, and quicker.

    Whoever raises the version of a users' table keeps what it was as `former`: what that made of a row's history was
    not corrected by hand, and is mended. `of` gives the projection as it is in an adopted database.
    """

    name: str
    version: int
    table: Table
    initial: S
    fold: Callable[[S, Foldable], S]
    row: Callable[[str, S], Row | None]
    load: Callable[[Connection, Dialect, Sequence[str]], dict[str, Row]]
    store: Callable[[Connection, Dialect, Mapping[str, Row], Writing], Refusals]
    stream: ColumnElement[str]
    shows: ColumnElement[bool] = field(default_factory=true)
    reads_content: bool = False
    is_users: bool = False
    fold_story: Callable[[Iterable[Foldable]], S] | None = None
    former: Projection[Any] | None = None
    of: Callable[[Any], Projection[S]] | None = None
    is_blank: Callable[[Row], bool] = is_never_blank

    def within(self, adopted: Any) -> Projection[S]:
        """The projection as it is in an adopted database."""
        return self if adopted is None or self.of is None else self.of(adopted)

    def seen(self, live: Row | None, folded: Row | None) -> Row | None:
        """A live row as it is compared: one that shows nothing is none, unless that is what it is to show."""
        if live is None or not self.is_blank(live):
            return live
        return live if folded is not None and self.is_blank(folded) else None

    def fold_all(self, story: Iterable[Foldable]) -> S:
        """The state that a stream's events, all of them and in their order, add up to."""
        return self.fold_story(story) if self.fold_story else reduce(self.fold, story, self.initial)
