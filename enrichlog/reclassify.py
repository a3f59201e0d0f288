"""Reclassify: the failures that postings ended with are read by today's rules, and what has changed is recorded."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import func, null, select

from enrichlog.actor import actor
from enrichlog.reading import COMPARED, Facts, Failure, read_again
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import Conflict
from eventlog.events import EnrichmentFailed, FailureReclassified
from eventlog.log import Proposal, read_page
from eventlog.schema import events
from eventlog.streams import bounds
from projections.enrichment_status import enrichment_status
from projections.inline import append_together

PAGE = 1_000
EXAMPLES = 5
"""How many ids are kept of postings that are read differently in the same way, unless all are asked for."""

_READINGS = (EnrichmentFailed.__name__, FailureReclassified.__name__)


class Reread(NamedTuple):
    """A failed posting whose failure is read differently today, and the version at which it was looked at."""

    job_id: str
    version: int
    failure: Failure
    verdict: dict[str, Any]

    @property
    def previous(self) -> str:
        """The error type it had."""
        return str(self.failure.verdict["error_type"])

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """What else changes: name -> before, after."""
        pairs = {name: (self.failure.verdict.get(name), self.verdict[name]) for name in COMPARED[1:]}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@dataclass
class Difference:
    """Postings whose failures change in the same way; `job_ids` are the first of them, or all."""

    previous_error_type: str
    error_type: str
    changes: dict[str, tuple[Any, Any]]
    count: int = 0
    job_ids: list[str] = field(default_factory=list)


@dataclass
class Reclassification:
    """What reading all failures again has found, and, unless it was a dry run, recorded.

    `moved_on` are the postings that something else has happened to meanwhile: their failures stay as they were read.
    """

    dry_run: bool
    examined: int = 0
    moved_on: list[str] = field(default_factory=list)
    _differences: dict[tuple[Any, ...], Difference] = field(default_factory=dict)

    @property
    def differences(self) -> list[Difference]:
        """The differences, those of most postings first."""
        return sorted(self._differences.values(), key=lambda one: (-one.count, one.previous_error_type, one.error_type))

    @property
    def count(self) -> int:
        """How many postings are read differently."""
        return sum(one.count for one in self._differences.values())

    def note(self, reread: Reread, examples: int | None) -> None:
        """Count a posting among those that change in the same way; None keeps the ids of all."""
        kind, changes = reread.verdict["error_type"], reread.changes
        key = (reread.previous, kind, *changes.items())
        found = self._differences.setdefault(key, Difference(reread.previous, kind, changes))
        found.count += 1
        if examples is None or found.count <= examples:
            found.job_ids.append(reread.job_id)

    def document(self) -> dict[str, Any]:
        """What scripts read."""
        differences = [vars(one) for one in self.differences]
        counts = {"examined": self.examined, "count": self.count}
        return {"dry_run": self.dry_run, **counts, "differences": differences, "moved_on": self.moved_on}


def count_failed(database: Database, enrichment: str) -> int:
    """How many postings ended with a failure."""
    status = enrichment_status.c
    failed = (status.enrichment == enrichment) & (status.state == "failed")
    return database.count(select(func.count()).select_from(enrichment_status).where(failed))


def reclassify(
    database: Database, settings: Settings, enrichment: str, *,
    dry_run: bool, examples: int | None = EXAMPLES, progress: Callable[[int], object] = lambda count: None,
) -> Reclassification:  # fmt: skip
    """Read the failure that each failed posting ended with by today's rules, and append what has changed.

    Only that one failure is judged anew, not earlier ones that the budget holds too; nobody is called, and no breaker
    moves. What `read_again` cannot tell stays as it is. Done twice, it changes nothing the second time.
    """
    found = Reclassification(dry_run)
    for page in _failed(database, enrichment):
        reread = [one for row, failure in _failures(database, page) if (one := _reread(settings, row, failure))]
        moved_on = set() if dry_run else _append(database, reread)
        for one in reread:
            if one.failure.stream_id in moved_on:
                found.moved_on.append(one.job_id)
            else:
                found.note(one, examples)
        found.examined += len(page)
        progress(len(page))
    return found


def _failed(database: Database, enrichment: str) -> Iterator[list[Any]]:
    status, (after, end) = enrichment_status.c, bounds(enrichment)  # by its name, SQLite would sort all for each page
    query = select(status.stream_id, status.job_id, status.version, status.attempt_id, status.failures)
    query = query.where(status.stream_id < end, status.state == "failed").order_by(status.stream_id)
    while page := database.page(query.where(status.stream_id > after).limit(PAGE)):
        yield page
        after = page[-1].stream_id


def _failures(database: Database, page: Sequence[Any]) -> Iterator[tuple[Any, Failure]]:
    """Each posting with the failure it ended with, and the last reading of that."""
    rows, failures = {row.stream_id: row for row in page}, dict[str, Failure]()
    facts = [*(column for column in events.c if column.name != "content"), null().label("content")]
    wanted = events.c.stream_id.in_(list(rows)) & events.c.type.in_(_READINGS)
    for event in read_page(database, select(*facts).where(wanted).order_by(events.c.stream_id, events.c.version)):
        row, said = rows[event.stream_id], event.facts
        if said["attempt_id"] != row.attempt_id:
            continue
        known = failures.get(event.stream_id)
        failures[event.stream_id] = _read(row, said) if known is None else known._replace(verdict=said)
    for stream_id, failure in failures.items():
        yield rows[stream_id], failure


def _read(row: Any, facts: Facts) -> Failure:
    return Failure(row.stream_id, facts, facts, row.failures)


def _reread(settings: Settings, row: Any, failure: Failure) -> Reread | None:
    verdict = read_again(failure, settings.error_codes, settings.backoff_base_seconds)
    return None if verdict is None else Reread(row.job_id, row.version, failure, verdict)


def _append(database: Database, reread: Sequence[Reread]) -> set[str]:
    """Record these readings, and return the streams that had moved on."""
    who = actor()
    proposals = [
        Proposal(
            one.failure.stream_id,
            FailureReclassified(
                attempt_id=one.failure.facts["attempt_id"], actor=who, previous_error_type=one.previous, **one.verdict
            ),
            str(uuid.uuid4()),
            one.version,
        )
        for one in reread
    ]
    if not proposals:
        return set()
    outcomes = append_together(database, proposals)
    return {p.stream_id for p, outcome in zip(proposals, outcomes, strict=True) if isinstance(outcome, Conflict)}
