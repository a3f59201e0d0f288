"""What a projection is: a pure fold per key, and the row that a state becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Table

from eventlog.dialects import Dialect

S = TypeVar("S")
Row = dict[str, Any]
Refusals = dict[str, str]
"""Stream -> the database's own reason for refusing its row."""


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


@dataclass(frozen=True)
class Projection(Generic[S]):
    """A read model with one row per stream.

    `fold` has no I/O, no clock and no other table in it; a change of what it gives raises `version`. `row` gives the
    columns that the fold explains, or None while there is nothing to show; other columns of the table are left alone.
    `load` and `store` read and write rows by stream; `store` is called with the streams' status rows locked. `stream`
    is a row's stream within a query. A table that `is_users` may refuse rows, and its rows are never removed.
    """

    name: str
    version: int
    table: Table
    initial: S
    fold: Callable[[S, Foldable], S]
    row: Callable[[str, S], Row | None]
    load: Callable[[Connection, Iterable[str]], dict[str, Row]]
    store: Callable[[Connection, Dialect, Mapping[str, Row]], Refusals]
    stream: ColumnElement[str]
    is_users: bool = False
