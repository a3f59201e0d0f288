"""What the replays of many postings add up to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from enrichlog.replay import STANDINGS, Replay, Standing


@dataclass
class Waits:
    """Waits before further attempts, in milliseconds; kept by the second, which is all that a median needs."""

    count: int = 0
    total_ms: int = 0
    _by_second: Counter[int] = field(default_factory=Counter)

    def add(self, milliseconds: int) -> None:
        """Count one wait."""
        self.count += 1
        self.total_ms += milliseconds
        self._by_second[round(milliseconds / 1_000)] += 1

    @property
    def median_seconds(self) -> int | None:
        """The wait that half of them do not exceed, to the second; None when there is none."""
        passed = 0
        for second, count in sorted(self._by_second.items()):
            passed += count
            if 2 * passed >= self.count:
                return second
        return None


@dataclass
class Tally:
    """Sums over postings. `recovered` counts those that succeeded after a failure, tokens are those in and out.

    `answered` counts the replies that told their tokens, `priced` those of them whose cost is known: a refused call
    costs nothing, and says nothing about what an answered one costs.
    """

    postings: int = 0
    attempts: int = 0
    calls: int = 0
    answered: int = 0
    priced: int = 0
    tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    recovered: int = 0
    standings: Counter[Standing] = field(default_factory=Counter)
    waits: Waits = field(default_factory=Waits)

    def add(self, told: Replay, standing: Standing) -> None:
        """Count one posting."""
        status = told.status
        self.postings += 1
        self.attempts += told.attempts
        self.calls += told.calls
        self.answered += told.answered
        self.priced += told.priced
        self.tokens += status.input_tokens + status.output_tokens
        self.cost_microdollars += status.cost_microdollars
        self.unpriced_calls += status.unpriced_calls
        self.recovered += standing == "succeeded" and bool(told.error_types)
        self.standings[standing] += 1
        for wait in told.waits:
            self.waits.add(wait)

    @property
    def cost(self) -> int | None:
        """What it cost in all, in micro-dollars; None where replies told their tokens and the cost of none is known."""
        return None if self.answered and not self.priced else self.cost_microdollars

    def document(self) -> dict[str, Any]:
        """The sums by name."""
        sums = {name: getattr(self, name) for name in SUMS} | {"cost_microdollars": self.cost}
        standings = {name: self.standings[name] for name in STANDINGS}
        waits = {"count": self.waits.count, "total_ms": self.waits.total_ms, "median_s": self.waits.median_seconds}
        return sums | standings | {"waits": waits}


SUMS = ("postings", "attempts", "calls", "tokens", "cost_microdollars", "unpriced_calls", "recovered")
