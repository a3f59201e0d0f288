"""Bulk retry as a command: the plan, the question, the batch, and its run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from enrichlog import retry_screen, terminal
from enrichlog.asking import Confirm, ask, nobody
from enrichlog.enrichment import enrichment_of
from enrichlog.errors import find_error_types
from enrichlog.limits import require_price
from enrichlog.patience import require_calls
from enrichlog.ready import require_ready
from enrichlog.retry_batch import NAMED, RetryBatch, request_plan
from enrichlog.retry_plan import RetryPlan, plan_retry
from enrichlog.selection import Allowance, asked_maximum, selection_of
from enrichlog.settings import Settings
from enrichlog.targets import MOVED_ON, batch_scope
from enrichlog.terminal import counted
from enrichlog.told_run import DONE, run
from eventlog.database import Database


def retry(
    settings: Settings, database: Database, *, error_types: tuple[str, ...] = (), since: datetime | None = None,
    until: datetime | None = None, failed_model: str | None = None, limit: int | None = None,
    reason: str | None = None, max_attempts: int | None = None, max_retries: int | None = None,
    dry_run: bool = False, yes: bool = False, enrichment: str = "job", fail_on_error: bool = False,
    as_json: bool = False, confirm: Confirm = nobody,
) -> int:  # fmt: skip
    """Plan a retry of what failed, show the plan, and run it; returns the exit code."""
    allowed = asked_maximum(max_attempts, max_retries)
    selection, policy = (
        selection_of(find_error_types(error_types), since, until, failed_model),
        Allowance(allowed, settings.max_attempts),
    )
    asked = enrichment_of(settings, enrichment)
    plan = plan_retry(database, asked.name, selection, policy, limit, asked.priced)
    document = retry_screen.document(plan)
    if not as_json:
        retry_screen.plan(plan)
    if dry_run or not plan.taken:
        if as_json:
            terminal.print_json(document)
        return DONE
    require_ready(settings, database, asked)
    require_calls(database, asked.called)
    require_price(database, settings, asked, None)
    if not yes:
        if as_json:  # a script is never asked: the plan is its document
            terminal.print_json(document)
        ask(nobody if as_json else confirm, f"{counted(plan.taken, 'posting')} will be tried.")
    with terminal.counting("Requesting", plan.taken, quiet=as_json) as progress:
        made = request_plan(database, plan, reason, progress)
    if not as_json:
        retry_screen.requested(made, plan)
    scope, left = batch_scope(database, made.batch), dict.fromkeys(made.moved[:NAMED], MOVED_ON)
    told = _batch_document(made, plan) if as_json else {}
    return run(settings, database, asked, scope, left, fail_on_error=fail_on_error, as_json=as_json, more=told)


def _batch_document(made: RetryBatch, plan: RetryPlan) -> dict[str, Any]:
    return {
        "batch": made.batch,
        "position": plan.position,
        "requested": made.requested,
        "moved_on": made.moved_on,
        "left_for_later": plan.left_for_later,
    }
