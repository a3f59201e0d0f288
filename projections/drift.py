"""What comparing a projection with the log finds: rows that are not what their events add up to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from projections.projection import Refusals, Row

Kind = Literal["missing", "stale", "unexplained"]
EXAMPLES = 5
EXACT_IN_A_FLOAT = 2**53


@dataclass(frozen=True)
class Difference:
    """A row that is not what its events add up to; for each column that differs (live value, folded value)."""

    stream_id: str
    kind: Kind
    columns: dict[str, tuple[Any, Any]]


@dataclass
class Drift:
    """What comparing one projection with the log found, and what was written.

    `streams` counts the keys of the rows: those of postings are streams. `gone` counts the rows that were deleted
    together with their postings, which is no difference.
    """

    projection: str
    events: int = 0
    streams: int = 0
    counts: dict[str, int] = field(default_factory=lambda: {"missing": 0, "stale": 0, "unexplained": 0})
    gone: int = 0
    examples: list[Difference] = field(default_factory=list)
    written: int = 0
    refused: Refusals = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many rows differ."""
        return sum(self.counts.values())

    def note(self, differences: Sequence[Difference], *, gone: int) -> None:
        """Count differences, and keep those that are among the first."""
        self.gone += gone
        for difference in differences:
            self.counts[difference.kind] += 1
        self._keep(differences)

    def note_unexplained(self, first: Sequence[str], count: int) -> None:
        """Count rows of streams that the log does not have; the first of them serve as examples."""
        self.counts["unexplained"] += count
        self._keep([Difference(stream_id, "unexplained", {}) for stream_id in first])

    def _keep(self, differences: Sequence[Difference]) -> None:
        self.examples += differences[: EXAMPLES - len(self.examples)]


def difference(stream_id: str, live: Row | None, folded: Row | None) -> Difference | None:
    """How a live row differs from the one that its events add up to; None when it does not."""
    if folded is None:
        shown = {name: (value, None) for name, value in (live or {}).items() if value is not None}
        keys = {"job_posting_id", "enrichment", "stream_id"}
        return Difference(stream_id, "unexplained", shown) if shown.keys() - keys else None
    if live is None:
        return Difference(stream_id, "missing", {name: (None, value) for name, value in folded.items()})
    columns = {
        name: (live[name], value) for name, value in folded.items() if _comparable(live[name]) != _comparable(value)
    }
    return Difference(stream_id, "stale", columns) if columns else None


def _comparable(value: Any) -> Any:
    """A value as it is compared: jsonb gives large floats back as whole numbers, which are equal only as floats."""
    match value:
        case dict():
            return {key: _comparable(entry) for key, entry in value.items()}
        case list():
            return [_comparable(entry) for entry in value]
        case int() if abs(value) > EXACT_IN_A_FLOAT:
            return float(value)
    return value
