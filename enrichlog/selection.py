"""Which failed postings are meant, and what a retry does with each: as conditions on the indexes of failures."""

from __future__ import annotations

import shlex
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, and_, case, func, or_

from enrichlog.exceptions import UsageError
from enrichlog.moments import told_exactly
from enrichlog.retry import Verdict, allowance, verdict
from eventlog.events import iso
from projections.enrichment_status import IS_FAILED, enrichment_status
from projections.status import Status

_status = enrichment_status.c


class Selection(NamedTuple):
    """Failed postings by error type (none given: any), by when they failed, and by the model that was asked."""

    error_types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    model: str | None = None

    def told(self) -> str:
        """The options that mean the same; empty when nothing is left out."""
        options = [f"--error-type {name}" for name in self.error_types]
        options += [f"--since {iso(self.since)}"] if self.since else []
        options += [f"--until {iso(self.until)}"] if self.until else []
        options += [f"--model {shlex.quote(self.model)}"] if self.model else []
        return " ".join(options)

    def conditions(
        self,
        enrichment: str,
        state: ColumnElement[bool] = IS_FAILED,
        failed_at: ColumnElement[Any] = _status.completed_at,
    ) -> list[ColumnElement[bool]]:
        """The rows of `enrichment_status` that are meant; `failed_at` is the time as the query has it.

        `state` is the one they are in by now, where that is not that they have failed.
        """
        found = [_status.enrichment == enrichment, state]
        found += [_status.error_type.in_(self.error_types)] if self.error_types else []
        found += [failed_at >= self.since] if self.since else []
        found += [failed_at < self.until] if self.until else []
        found += [_status.request_model == self.model] if self.model else []
        return found

    def has(self, status: Status) -> bool:
        """Whether a posting of this status is meant: the same rule for one that is at hand."""
        at = status.completed_at
        return (
            status.state == "failed"
            and at is not None
            and (not self.error_types or status.error_type in self.error_types)
            and (self.since is None or at >= self.since)
            and (self.until is None or at < self.until)
            and (self.model is None or status.request_model == self.model)
        )


def selection_of(
    error_types: tuple[str, ...], since: datetime | None, until: datetime | None, model: str | None = None
) -> Selection:
    """The selection of these options. Raises `UsageError` for times that leave nothing between them."""
    require_span(since, until)
    return Selection(error_types, since, until, model)


def require_span(since: datetime | None, until: datetime | None) -> None:
    """Raises `UsageError` for times that leave nothing between them."""
    if since and until and since >= until:
        times = f"--since {told_exactly(since)} is not before --until {told_exactly(until)}"
        raise UsageError(reason=f"{times}: nothing lies between them.")


def asked_maximum(max_attempts: int | None, max_retries: int | None) -> int | None:
    """The maximum of attempts that was asked for, in either way. Raises `UsageError` for both at once."""
    if max_attempts is not None and max_retries is not None:
        raise UsageError(reason="Give --max-attempts or --max-retries, not both: N retries are N + 1 attempts.")
    return max_attempts if max_retries is None else max_retries + 1


class Allowance(NamedTuple):
    """How often a posting may fail: `max_attempts` was asked for and overrides all caps, `default` is the usual."""

    max_attempts: int | None
    default: int

    def verdicts(self, now: datetime) -> dict[Verdict, ColumnElement[bool]]:
        """What a retry does with a failed posting, as `enrichlog.retry.verdict` has it."""
        died = _status.deaths > 0
        if self.max_attempts:
            used_up = case((died, _own_or_deaths()), else_=_used()) >= self.max_attempts
        else:
            used_up = or_(_status.due_at.is_(None), and_(~died, _used() >= self._usually_allowed()))
        may_be, waits = and_(_status.retryable, ~used_up), _status.due_at > now
        return {
            "will_try": and_(may_be, or_(_status.due_at.is_(None), ~waits)),
            "waiting": and_(may_be, _status.due_at.is_not(None), waits),
            "exhausted": and_(_status.retryable, used_up),
            "not_retryable": ~_status.retryable,
        }

    def verdict(self, status: Status, now: datetime) -> Verdict:
        """The same of one status that is at hand."""
        return verdict(
            retryable=bool(status.retryable),
            budget_used=status.budget_used - status.grants,
            allowed=self.max_attempts or allowance(status.max_attempts, status.cap, self.default),
            deaths=status.deaths,
            due_at=status.due_at,
            now=now,
            explicit=self.max_attempts is not None,
        )

    def _usually_allowed(self) -> ColumnElement[int]:
        capped = case((_status.cap < self.default, _status.cap), else_=self.default)
        return func.coalesce(_status.max_attempts, capped)


def _own_or_deaths() -> ColumnElement[int]:
    """The failures of a posting on which workers died: its own, or the deaths if these are more."""
    own = _used() - _status.deaths
    return case((_status.deaths > own, _status.deaths), else_=own)


def most_used() -> ColumnElement[int]:
    """The most counted failures of any posting, less what was granted."""
    return func.max(_used())


def _used() -> ColumnElement[int]:
    return _status.budget_used - _status.grants
