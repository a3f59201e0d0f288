"""Rows of ended attempts added up, and what share of it failures took: the retry tax."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from projections.enrichment_stats_hourly import SUCCESS, Hour
from projections.histogram import mean, quantile


@dataclass
class Sums:
    """Rows, added up: what each of them counts is told by `Hour`."""

    ends: int = 0
    calls: int = 0
    late: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    latency: Counter[int] = field(default_factory=Counter)
    succeeded_at: Counter[int] = field(default_factory=Counter)

    def add(self, more: Hour | Sums) -> None:
        """Add one row, or what others have come to."""
        self.ends += more.ends
        self.calls += more.calls
        self.late += more.late
        self.input_tokens += more.input_tokens
        self.output_tokens += more.output_tokens
        self.cost_microdollars += more.cost_microdollars
        self.unpriced_calls += more.unpriced_calls
        self.latency.update(more.latency)
        self.succeeded_at.update(more.succeeded_at)

    @property
    def tokens(self) -> int:
        """Tokens, in and out."""
        return self.input_tokens + self.output_tokens

    @property
    def known_cost(self) -> int | None:
        """Micro-dollars as far as prices are known; None when not one is, which is never the same as nothing."""
        return self.cost_microdollars if self.cost_microdollars or not self.unpriced_calls else None


@dataclass
class Group:
    """What succeeded and what failed of one group; what the latter took is the retry tax."""

    labels: tuple[str, ...] = ()
    won: Sums = field(default_factory=Sums)
    failed: Sums = field(default_factory=Sums)
    error_types: Counter[str] = field(default_factory=Counter)

    def add(self, error_type: str, hour: Hour) -> None:
        """Add one row."""
        if error_type == SUCCESS:
            self.won.add(hour)
        else:
            self.failed.add(hour)
            self.error_types[error_type] += hour.ends

    def include(self, other: Group) -> None:
        """Add all of another group."""
        self.won.add(other.won)
        self.failed.add(other.failed)
        self.error_types.update(other.error_types)

    @cached_property
    def total(self) -> Sums:
        """Both together, once nothing is added any more."""
        total = Sums()
        total.add(self.won)
        total.add(self.failed)
        return total

    @property
    def succeeded(self) -> int:
        """How many attempts ended with a result."""
        return self.won.ends

    @property
    def success_rate(self) -> float | None:
        """The share of attempts that ended with a result."""
        return share(self.succeeded, self.total.ends)

    @property
    def wasted_tokens(self) -> float | None:
        """The share of tokens that failed attempts took."""
        return share(self.failed.tokens, self.total.tokens)

    @property
    def wasted_money(self) -> float | None:
        """The share of the money of known price that failed attempts took; None where none is known of either."""
        spent, wasted = self.total.known_cost, self.failed.known_cost
        return None if spent is None or wasted is None else share(wasted, spent)

    def document(self) -> dict[str, Any]:
        """The same for scripts."""
        total, failed = self.total, self.failed
        return {
            "attempts": total.ends,
            "succeeded": self.succeeded,
            "failed": failed.ends,
            "success_rate": self.success_rate,
            "error_types": dict(self.error_types.most_common()),
            "attempts_until_success": {
                "mean": mean(total.succeeded_at),
                "distribution": {str(number): count for number, count in sorted(total.succeeded_at.items())},
            },
            **_taken(total),
            "late_results": total.late,
            "latency_ms": {"p50": quantile(total.latency, 0.5), "p95": quantile(total.latency, 0.95)},
            "retry_tax": {
                "attempts": failed.ends,
                **_taken(failed),
                "share_of_tokens": self.wasted_tokens,
                "share_of_money": self.wasted_money,
            },
        }


def share(part: int, whole: int) -> float | None:
    """The part of a whole; None when there is no whole."""
    return part / whole if whole else None


def _taken(sums: Sums) -> dict[str, Any]:
    return {
        "calls": sums.calls,
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "cost_microdollars": sums.known_cost,
        "unpriced_calls": sums.unpriced_calls,
    }
