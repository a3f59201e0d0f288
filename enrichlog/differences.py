"""What changed between two positions of the log: of each posting touched in between, its status at both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from enrichlog.as_of import AsOf, span
from enrichlog.as_of_reports import Notice, no_notice
from enrichlog.reports import SUMMED
from eventlog.category import touched, walk_streams
from eventlog.database import Database
from eventlog.streams import split_stream
from projections import enrichment_status
from projections.prefix import moves
from projections.status import Status

EXAMPLES = 5
STREAMS_PER_PAGE = 500


class Change(NamedTuple):
    """A posting that differs: its state and the type of its error, as they were and as they are.

    The state is None where the posting was new; the type of the error where it had or has none. A failed posting that
    awaits a retry has its error still.
    """

    job_id: str
    before: str | None
    after: str
    error_before: str | None
    error_after: str | None


@dataclass
class Differences:
    """What changed from one position to another; `examples` are the first postings that did.

    `touched` counts the postings with events in between, `transitions` those of each pair of states, and of these
    `appeared`, `disappeared` and `changed` what became of errors.
    """

    enrichment: str
    start: AsOf
    end: AsOf
    touched: int = 0
    transitions: Counter[tuple[str | None, str]] = field(default_factory=Counter)
    appeared: Counter[str] = field(default_factory=Counter)
    disappeared: Counter[str] = field(default_factory=Counter)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    spent: Counter[str] = field(default_factory=Counter)
    examples: list[Change] = field(default_factory=list)

    @property
    def new(self) -> int:
        """How many postings had no event before."""
        return sum(count for (before, _), count in self.transitions.items() if before is None)

    def add(self, job_id: str, before: Status | None, after: Status) -> Change | None:
        """Count one posting that was touched; returns what changed, if anything that is told of single postings."""
        was = before or Status()
        change = Change(job_id, before and before.state, after.state, was.error_type, after.error_type)
        self.touched += 1
        self.transitions[change.before, change.after] += 1
        self._count_error(change.error_before, change.error_after)
        for name in SUMMED:
            self.spent[name] += getattr(after, name) - getattr(was, name)
        if (change.before, change.error_before) == (change.after, change.error_after):
            return None
        if len(self.examples) < EXAMPLES:
            self.examples.append(change)
        return change

    def _count_error(self, before: str | None, after: str | None) -> None:
        if before == after:
            return
        if before is not None and after is not None:
            self.changed[before, after] += 1
        elif after is not None:
            self.appeared[after] += 1
        elif before is not None:
            self.disappeared[before] += 1

    def document(self) -> dict[str, Any]:
        """As a script reads it, but for the single postings."""
        return {
            "from": self.start.document(),
            "to": self.end.document(),
            "enrichment": self.enrichment,
            "touched": self.touched,
            "new": self.new,
            "transitions": [_pair(*pair, count) for pair, count in self.transitions.most_common()],
            "errors": {
                "appeared": dict(self.appeared.most_common()),
                "disappeared": dict(self.disappeared.most_common()),
                "changed": [_pair(*pair, count) for pair, count in self.changed.most_common()],
            },
            "spent": {name: self.spent[name] for name in SUMMED},
        }


def _pair(before: str | None, after: str, count: int) -> dict[str, Any]:
    return {"before": before, "after": after, "count": count}


def differences(
    database: Database, enrichment: str, start: int | datetime, end: int | datetime | None,
    tell: Callable[[Change], None] = lambda change: None, progress: Notice = no_notice,
) -> Differences:  # fmt: skip
    """What changed behind the one position or time up to the other; without `end` up to the head.

    Only postings with events in between are folded, and memory holds a page of them; `tell` is called with each change.
    `progress` is called with the number of positions that were gone through. Raises what `span` raises.
    """
    found = Differences(enrichment, *span(database, start, end))
    for stream_id, before, after in _moves(database, found, progress):
        change = found.add(split_stream(stream_id)[1], before, after)
        if change is not None:
            tell(change)
    return found


def _moves(database: Database, found: Differences, progress: Notice) -> Iterator[tuple[str, Status | None, Status]]:
    """Each posting touched in between, as it was and as it is; in the order of the log."""
    after, until = found.start.position, found.end.position
    for page in touched(database, found.enrichment, after, until, STREAMS_PER_PAGE, progress):
        told = moves(enrichment_status.projection, walk_streams(database, page, until), after)
        both = {stream_id: (before, state) for stream_id, before, state in told}
        yield from ((stream_id, *both[stream_id]) for stream_id in page)
