"""What an import of history has found, or in a dry run would import, for people and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from enrichlog.past_attempts import PastAttempt
from enrichlog.past_rows import Unreadable

EXAMPLES = 20
"""How many rows that were left out are named."""


@dataclass
class Failures:
    """The failures of one error type: how many, and the message of the first."""

    error_type: str
    group: str
    retryable: bool
    example: str
    count: int = 0


@dataclass
class HistoryImport:
    """What the rows of the table told, and, unless it was a dry run, what was recorded of it.

    `known` are postings of which the log knows more than that they were noticed, `untried` rows that tell of no
    attempt. `awaiting` are those failures whose retry had been requested; `without_posting` those attempts whose
    posting the source does not have; `at_odds` results of whose fields columns differ. `skipped` rows were left out,
    of which the first are `unreadable`.
    """

    dry_run: bool
    table: str
    rows: int = 0
    succeeded: int = 0
    known: int = 0
    untried: int = 0
    awaiting: int = 0
    without_posting: int = 0
    at_odds: int = 0
    skipped: int = 0
    events: int = 0
    unreadable: list[Unreadable] = field(default_factory=list)
    _failures: dict[str, Failures] = field(default_factory=dict)

    @property
    def failures(self) -> list[Failures]:
        """The failures by error type, most first."""
        return sorted(self._failures.values(), key=lambda one: (-one.count, one.error_type))

    @property
    def failed(self) -> int:
        """How many failures there are."""
        return sum(one.count for one in self._failures.values())

    def note(self, past: PastAttempt) -> None:
        """Count an attempt that is imported."""
        self.without_posting += past.input_hash is None
        self.at_odds += past.row.is_at_odds
        if past.kind is None:
            self.succeeded += 1
            return
        kind = past.kind
        first = Failures(kind.name, kind.group, kind.retryable, past.row.error or "")
        self._failures.setdefault(kind.name, first).count += 1
        self.awaiting += past.is_awaiting

    def leave_out(self, unreadable: Sequence[Unreadable]) -> None:
        """Count rows that are left out."""
        self.skipped += len(unreadable)
        self.unreadable += unreadable[: EXAMPLES - len(self.unreadable)]

    def document(self) -> dict[str, Any]:
        """What scripts read."""
        names = ("rows", "succeeded", "failed", "awaiting", "known", "untried", "without_posting", "at_odds")
        counts = {name: getattr(self, name) for name in (*names, "skipped", "events")}
        failures, unreadable = [vars(one) for one in self.failures], [one._asdict() for one in self.unreadable]
        told = {"failures": failures, "unreadable": unreadable}
        return {"dry_run": self.dry_run, "table": self.table, **counts, **told}
