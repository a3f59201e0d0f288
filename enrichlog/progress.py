"""How far a run has come: what has ended, how, and what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from enrichlog.attempt import End
from enrichlog.claims import Claim
from enrichlog.outcome import SIMULATOR
from eventlog.events import EnrichmentFailed


@dataclass
class Run:
    """What a run has done so far. `stopped` says why it ended early, `signal` that a person ended it.

    `hurried` when a second signal closed what ran at once. `missed` are the named postings that were not to be had,
    because another program was at them.
    """

    succeeded: int = 0
    failed: int = 0
    late: int = 0
    unrecorded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    simulated: bool = False
    stopped: str | None = None
    signal: int | None = None
    hurried: bool = False
    missed: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """How many attempts have ended."""
        return self.succeeded + self.failed

    def count(self, end: End) -> None:
        """Count the end of one attempt."""
        if isinstance(end, EnrichmentFailed):
            self.failed += 1
            self.errors[end.error_type] += 1
        else:
            self.succeeded += 1
        self.input_tokens += end.input_tokens or 0
        self.output_tokens += end.output_tokens or 0
        self.cost_microdollars += end.cost_microdollars or 0
        self.simulated = self.simulated or end.provider_name == SIMULATOR
        self.unpriced_calls += end.called and end.cost_microdollars is None


Notice = Callable[[Claim, End, Run], None]
