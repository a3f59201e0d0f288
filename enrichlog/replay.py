"""The history of one posting told again, as it was or cut where another policy would have stopped. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from enrichlog.errors import ERROR_TYPES
from enrichlog.retry import allowance, verdict, wait_ms
from projections.decisions import late_success_is_used
from projections.projection import Foldable
from projections.status import Status, fold

Step = Literal["recovered", "final", "counted", "uncounted"]
"""What one more attempt after a failure came to: a success, a failure that is not retryable, one that counts or not."""

Standing = Literal["succeeded", "given_up", "open", "pending", "running", "dismissed"]
STANDINGS: tuple[Standing, ...] = ("succeeded", "given_up", "open", "pending", "running", "dismissed")
"""Where a posting stands; a failed one is `open` while it has attempts left, else it is `given_up`."""


class Policy(NamedTuple):
    """Another rule of how often and when: it overrides every request, default and cap.

    `max_attempts` is how many counted failures a posting may have; `base_seconds` is that of the waits, None for the
    waits that were recorded.
    """

    max_attempts: int
    base_seconds: float | None = None


@dataclass
class Replay:
    """What the history of one posting adds up to, under a policy or, without one, as it was.

    Under a policy an attempt is left out when the posting has used up its attempts by then, and with it all that came
    of it, as well as the requests for a retry that the policy would have refused. What people did besides (a change, a
    force, a grant, a dismissal) stays, and so do failures that do not count: both are no matter of the policy.

    `attempts` counts starts, `calls` the ends of attempts that called, `answered` the replies that told their tokens,
    `priced` those of them whose cost is known; `most_used` is the most counted failures after which it was tried again;
    `deaths` counts workers that died on it, which have a limit of their own; `waits` are those that another attempt
    followed, in milliseconds; `follow_ups` are what came of each attempt that followed a failure within one budget, by
    the type of that failure.
    """

    stream_id: str
    policy: Policy | None = None
    status: Status = field(default_factory=Status)
    attempts: int = 0
    calls: int = 0
    answered: int = 0
    priced: int = 0
    most_used: int = -1
    deaths: int = 0
    waits: list[int] = field(default_factory=list)
    error_types: set[str] = field(default_factory=set)
    follow_ups: list[tuple[str, Step]] = field(default_factory=list)
    _left_out: set[str] = field(default_factory=set)
    _failures: int = 0
    _wait: int | None = None
    _follows: str | None = None

    def tell(self, event: Foldable) -> None:
        """Go on by one event."""
        if self._is_left_out(event):
            return
        known = _as_it_would_be(event, self.status) if self._left_out else event
        before, self.status = self.status, fold(self.status, known)
        if self.policy is not None:
            self.status = self.status._replace(max_attempts=self.policy.max_attempts)
        if event.type == "EnrichmentStarted":
            self._begun(before)
        elif event.type in ("EnrichmentSucceeded", "EnrichmentFailed"):
            self._ended(event.type, event.facts)
            self._answered(event.facts)
        elif event.type == "EnrichmentLateResult":
            self._answered(event.facts)
        if self.status.error_type is not None:
            self.error_types.add(self.status.error_type)

    def standing(self, allowed: int) -> Standing:
        """Where the posting stands when it may have so many counted failures."""
        status = self.status
        if status.state != "failed":
            return status.state
        at, used = status.completed_at, status.budget_used - status.grants
        assert at is not None
        found = verdict(
            retryable=bool(status.retryable),
            budget_used=used,
            allowed=allowed,
            deaths=status.deaths,
            due_at=status.due_at,
            now=at,
        )
        return "given_up" if found in ("not_retryable", "exhausted") else "open"

    def attempts_left(self, allowed: int) -> int:
        """How many more counted failures the posting may have."""
        return allowed - self.status.budget_used + self.status.grants

    def own_allowance(self, default: int) -> int:
        """How many counted failures the posting may have by its request and error type; `default` without either."""
        return allowance(self.status.max_attempts, self.status.cap, default)

    def _is_left_out(self, event: Foldable) -> bool:
        attempt_id = event.facts.get("attempt_id")
        if attempt_id in self._left_out:
            return True
        used = _used_by(self.status, event)
        if used is None:
            return False
        self.most_used = max(self.most_used, used)
        if self.policy is None or used < self.policy.max_attempts:
            return False
        if attempt_id is not None:
            self._left_out.add(attempt_id)
        return True

    def _begun(self, before: Status) -> None:
        self.attempts += 1
        self._failures = before.failures
        self._follows = before.error_type if self.status.failures else None  # none: it began a new budget
        if self._wait is not None:
            self.waits.append(self._wait)
            self._wait = None

    def _ended(self, kind: str, facts: dict[str, Any]) -> None:
        self.calls += facts["called"]
        if self._follows is not None:
            self.follow_ups.append((self._follows, _step(kind, facts)))
            self._follows = None
        if kind == "EnrichmentFailed":
            self.deaths += facts["worker_died"]
            self._wait = self._waits(facts) if facts["retryable"] else None

    def _answered(self, facts: dict[str, Any]) -> None:
        is_answered = bool(facts.get("input_tokens") or facts.get("output_tokens"))
        self.answered += is_answered
        self.priced += is_answered and facts.get("cost_microdollars") is not None

    def is_the_same_under(self, policy: Policy) -> bool:
        """Whether the policy leaves this history as it was, so that there is no need to replay it once more."""
        return policy.base_seconds is None and self.most_used < policy.max_attempts and not self.deaths

    def _waits(self, facts: dict[str, Any]) -> int:
        recorded: int = facts.get("wait_ms") or 0
        kind = ERROR_TYPES.get(facts["error_type"])
        if kind is None or self.policy is None or self.policy.base_seconds is None:
            return recorded
        asked = facts.get("retry_after_ms")
        return wait_ms(kind, self.stream_id, self._failures + 1, asked, self.policy.base_seconds)


def replay(stream_id: str, events: Iterable[Foldable], policy: Policy | None = None) -> Replay:
    """The history that these events of one stream tell."""
    told = Replay(stream_id, policy)
    for event in events:
        told.tell(event)
    return told


class _Retold(NamedTuple):
    """An event with other facts than were recorded."""

    stream_id: str
    version: int
    type: str
    facts: dict[str, Any]
    content: dict[str, Any] | None


def _as_it_would_be(event: Foldable, status: Status) -> Foldable:
    """The event; a late success that was of no use is of use where the success before it was left out."""
    facts = event.facts
    if event.type != "EnrichmentLateResult" or facts["used"] or facts["outcome"] != "succeeded":
        return event
    used = late_success_is_used(facts["attempt"], status)
    return _Retold(event.stream_id, event.version, event.type, facts | {"used": used}, None)


def _used_by(status: Status, event: Foldable) -> int | None:
    """How many counted failures, less what was granted, the posting has when this event tries it; None for others.

    A start is looked at as folded, because one with another prompt, schema, model or input begins a new budget.
    """
    if event.type == "EnrichmentStarted":
        status = fold(status, event)
    elif event.type != "EnrichmentRequested" or event.facts["why"] != "retry":
        return None
    return status.budget_used - status.grants


def _step(kind: str, facts: dict[str, Any]) -> Step:
    if kind == "EnrichmentSucceeded":
        return "recovered"
    if not facts["retryable"]:
        return "final"
    return "counted" if facts["counts"] else "uncounted"
