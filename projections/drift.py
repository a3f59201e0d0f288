"""What comparing a projection with the log finds: rows that are not what their events add up to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

from eventlog.canonical import as_kept
from projections.projection import Refusals, Row

Kind = Literal["missing", "stale", "edited", "extra"]
EXAMPLES = 5
EXACT_IN_A_FLOAT = 2**53
_KEYS = {"job_posting_id", "enrichment", "stream_id"}


class Difference(NamedTuple):
    """A row that is not what its events add up to, as it is in the table and as they have it; None is no row.

    It is missing, or stale; edited, when somebody has corrected it by hand; or extra: no event explains it.
    """

    stream_id: str
    kind: Kind
    live: Row | None = None
    folded: Row | None = None

    @property
    def columns(self) -> dict[str, tuple[Any, Any]]:
        """For each column that differs (live value, folded value); an extra row has only those that are set."""
        if self.folded is None:
            return {name: (value, None) for name, value in (self.live or {}).items() if value is not None}
        if self.live is None:
            return {name: (None, value) for name, value in self.folded.items()}
        pairs = {name: (self.live[name], value) for name, value in self.folded.items()}
        return {name: pair for name, pair in pairs.items() if not are_alike(*pair)}


@dataclass
class Drift:
    """What comparing one projection with the log found, and what was written.

    `streams` counts the keys of the rows: those of postings are streams. `gone` counts the rows that were deleted
    together with their postings, which is no difference; `locked` those that another program had locked, so that the
    table could not be asked what it makes of them. What rows that follow the log have not followed yet is so many
    events `behind`, and no difference. A rebuild that `went_on_after` a stream tells of what came after it only.
    """

    projection: str
    events: int = 0
    streams: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(get_args(Kind), 0))
    gone: int = 0
    locked: int = 0
    examples: list[Difference] = field(default_factory=list)
    written: int = 0
    refused: Refusals = field(default_factory=dict)
    went_on_after: str | None = None
    behind: int = 0

    @property
    def total(self) -> int:
        """How many rows differ."""
        return sum(self.counts.values())

    def add(self, other: Drift) -> None:
        """Count what another process has found over other streams."""
        self.events += other.events
        self.streams += other.streams
        self.gone += other.gone
        self.locked += other.locked
        self.written += other.written
        self.refused |= other.refused
        self.counts = {kind: count + other.counts[kind] for kind, count in self.counts.items()}
        self.went_on_after = self.went_on_after or other.went_on_after
        self._keep(other.examples)

    def note(self, differences: Sequence[Difference], *, gone: int) -> None:
        """Count differences, and keep those that are among the first."""
        self.gone += gone
        for difference in differences:
            self.counts[difference.kind] += 1
        self._keep(differences)

    def note_extra(self, first: Sequence[str], count: int) -> None:
        """Count rows of streams that the log does not have; the first of them serve as examples."""
        self.counts["extra"] += count
        self._keep([Difference(stream_id, "extra") for stream_id in first])

    def _keep(self, differences: Sequence[Difference]) -> None:
        self.examples += differences[: EXAMPLES - len(self.examples)]


def difference(stream_id: str, live: Row | None, folded: Row | None) -> Difference | None:
    """How a live row differs from the one that its events add up to; None when it does not."""
    if live is None:
        return Difference(stream_id, "missing", None, folded) if folded is not None else None
    if folded is None:
        found = Difference(stream_id, "extra", live, None)
        return found if found.columns.keys() - _KEYS else None
    if folded.items() <= live.items():  # nearly always, and quick
        return None
    found = Difference(stream_id, "stale", live, folded)
    return found if found.columns else None


def are_alike(live: Any, folded: Any) -> bool:
    """Whether a value is the one that was written; SQLite keeps lists and objects as texts.

    One that was there before us may hold what the log does not, such as an API key within a text.
    """
    if isinstance(folded, list | dict) and isinstance(live, str):
        with suppress(ValueError):
            live = json.loads(live)
    return bool(comparable(live) == comparable(folded) or (as_kept(live) != live and as_kept(live) == folded))


def comparable(value: Any) -> Any:
    """A value as it is compared: jsonb gives large floats back as whole numbers, which are equal only as floats."""
    match value:
        case dict():
            return {key: comparable(entry) for key, entry in value.items()}
        case list():
            return [comparable(entry) for entry in value]
        case int() if abs(value) > EXACT_IN_A_FLOAT:
            return float(value)
    return value
