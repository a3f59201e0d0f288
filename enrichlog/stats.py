"""What attempts came to, by time, model, prompt version or error type: success, cost, latency, and the retry tax."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import case, select, tuple_

from enrichlog.exceptions import UsageError
from enrichlog.retry_tax import Group
from enrichlog.selection import require_span
from eventlog.database import Database
from eventlog.errors import (
    DatabaseBusy,
    DatabaseReadOnly,
    EnrichlogError,
    FoldOutdated,
    FoldTooNew,
    LogUnsound,
    RightMissing,
    Unfoldable,
    UnknownEventType,
)
from eventlog.events import iso
from projections.enrichment_stats_hourly import enrichment_stats_hourly, projection, state_of
from projections.enrichment_status import enrichment_status
from projections.following import catch_up, standing

Document = dict[str, Any]

GROUPINGS: dict[str, Callable[[Any], str]] = {
    "hour": lambda row: iso(row.hour),
    "day": lambda row: f"{row.hour:%Y-%m-%d}",
    "model": lambda row: row.request_model,
    "prompt-version": lambda row: row.prompt_version,
    "error-type": lambda row: row.error_type,
}
"""What each word after --by makes of a row; empty where it is not known, of error types for success."""

USUAL = ("day",)
TIMES = ("hour", "day")
_ROWS_TOGETHER = 5_000
_NOT_CAUGHT_UP = (
    DatabaseReadOnly, RightMissing, DatabaseBusy, FoldOutdated, FoldTooNew, LogUnsound, UnknownEventType, Unfoldable,
)  # fmt: skip


class Stats(NamedTuple):
    """The groups and all together, as of a position; `behind` events are not in them, and why not.

    `lacks_rows`: attempts have ended, and their rows are not in the table, which somebody must have emptied.
    """

    enrichment: str
    by: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    position: int
    behind: int
    why_behind: EnrichlogError | None
    groups: list[Group]
    total: Group
    lacks_rows: bool = False

    def document(self) -> Document:
        """The same for scripts."""
        times = {"since": self.since and iso(self.since), "until": self.until and iso(self.until)}
        why = None if self.why_behind is None else str(self.why_behind)
        place = {"position": self.position, "behind": self.behind, "why_behind": why, "lacks_rows": self.lacks_rows}
        groups = [_labelled(self.by, one) | one.document() for one in self.groups]
        return {
            "enrichment": self.enrichment, "by": list(self.by), **times, **place, "groups": groups,
            "total": self.total.document(),
        }  # fmt: skip


def groupings(words: Sequence[str]) -> tuple[str, ...]:
    """What to group by, each once; days without a word. Words may be lists with commas. Raises `UsageError`."""
    named = [name.strip() for word in words for name in word.split(",")] if words else USUAL
    for name in named:
        if name not in GROUPINGS:
            raise UsageError(reason=f"There is no grouping {name!r}. Known to --by are: {', '.join(GROUPINGS)}.")
    return tuple(dict.fromkeys(named))


def behind(database: Database) -> int:
    """How many events the rows have to follow."""
    return standing(database, projection).behind


def stats(
    database: Database, enrichment: str, by: Sequence[str], since: datetime | None, until: datetime | None,
    progress: Callable[[int], None] = lambda events: None,
) -> Stats:  # fmt: skip
    """Add up the hours from that of `since` to that of `until`, once the rows have followed the log to its end.

    Where they cannot be moved on, they are taken as they are. Raises `UsageError`.
    """
    first, behind_last = whole_hours(since, until)
    why = _follow(database, progress)
    found = standing(database, projection)
    groups: dict[tuple[str, ...], Group] = {}
    for row in _rows(database, enrichment, first, behind_last):
        labels = tuple(GROUPINGS[name](row) for name in by)
        groups.setdefault(labels, Group(labels)).add(row.error_type, state_of(row))
    total = Group()
    for group in groups.values():
        total.include(group)
    ordered = sorted(groups.values(), key=lambda group: _place(by, group))
    why = why if found.behind else None
    lacks_rows = not groups and not found.behind and _lacks_rows(database, enrichment)
    return Stats(
        enrichment, tuple(by), first, behind_last, found.position, found.behind, why, ordered, total, lacks_rows
    )  # fmt: skip


def whole_hours(since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
    """The beginning of the hour of `since`, and the end of the last hour that begins before `until`.

    Raises `UsageError` for times that leave nothing between them.
    """
    require_span(since, until)
    last = _hour(until - timedelta(microseconds=1)) + timedelta(hours=1) if until else None
    return _hour(since) if since else None, last


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _follow(database: Database, progress: Callable[[int], None]) -> EnrichlogError | None:
    """Have the rows follow the log; why they could not."""
    try:
        catch_up(database, projection, progress=progress)
    except _NOT_CAUGHT_UP as error:
        return error
    return None


def _rows(database: Database, enrichment: str, first: datetime | None, behind_last: datetime | None) -> Iterator[Any]:
    table = enrichment_stats_hourly.c
    query = select(enrichment_stats_hourly).where(table.enrichment == enrichment)
    query = query if first is None else query.where(table.hour >= first)
    query = query if behind_last is None else query.where(table.hour < behind_last)
    key = [table[column.name] for column in enrichment_stats_hourly.primary_key]
    query, place = query.order_by(*key).limit(_ROWS_TOGETHER), tuple_(*key)
    found = database.page(query)
    while found:
        yield from found
        after = tuple(found[-1]._mapping[column.name] for column in key)
        found = database.page(query.where(place > after)) if len(found) == _ROWS_TOGETHER else []


def _lacks_rows(database: Database, enrichment: str) -> bool:
    """Whether the table has no row at all, though by their statuses attempts have ended."""
    table, status = enrichment_stats_hourly.c, enrichment_status.c
    ended = status.attempts > case((status.attempt_id.is_not(None), 1), else_=0)  # all but the one that is open
    has_ended = select(status.stream_id).where(status.enrichment == enrichment, ended).limit(1)
    has_row = select(table.hour).where(table.enrichment == enrichment).limit(1)
    return not database.page(has_row) and bool(database.page(has_ended))


def _place(by: Sequence[str], group: Group) -> tuple[Any, ...]:
    """By time first, then the groups with most attempts."""
    times = [label for name, label in zip(by, group.labels, strict=True) if name in TIMES]
    return *times, -group.total.ends, *group.labels


def _labelled(by: Sequence[str], group: Group) -> Document:
    return {name.replace("-", "_"): label or None for name, label in zip(by, group.labels, strict=True)}
