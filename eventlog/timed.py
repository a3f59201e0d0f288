"""A question to the database whose answer brings the database's time along: one round trip less."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, literal_column, select

from eventlog.dialects import Dialect


def timed(dialect: Dialect, columns: Sequence[Column[Any]], where: ColumnElement[bool]) -> Select[Any]:
    """The time as `now`, beside these columns of each row that is found; when there is none, beside one of nulls."""
    one = select(literal_column("1").label("one")).subquery("one")
    return select(dialect.now.label("now"), *columns).select_from(one.outerjoin(columns[0].table, where))
