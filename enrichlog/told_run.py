"""A run as it is told on the command line: its progress, its summary, and the exit code it ends with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from enrichlog import batch_screen, breaker_screen, reports, screens, terminal
from enrichlog.attempt import End
from enrichlog.batches import count_waiting, why_cancelled
from enrichlog.claims import Claim
from enrichlog.enrichment import Enrichment
from enrichlog.price import MICRODOLLARS
from enrichlog.progress import Run
from enrichlog.reservation import why_none_fits
from enrichlog.runs import perform
from enrichlog.scope import Scope, count_due
from enrichlog.settings import Settings
from enrichlog.targets import ENRICHED
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.redaction import redact
from projections.shown import place_of

DONE, STOPPED, FOUND = 0, 1, 3
MISSED = "another program holds it, or has enriched or deleted it meanwhile"


def run(
    settings: Settings, database: Database, enrichment: Enrichment, scope: Scope, left: Mapping[str, str],
    limit: int | None = None, max_cost: float | None = None, *, fail_on_error: bool, as_json: bool,
    more: Mapping[str, Any] = MappingProxyType({}),
) -> int:  # fmt: skip
    """Work through a scope, tell what was done, and return the exit code; `max_cost` is in dollars.

    `more` is what the document says beside what was done.

    What the database raises is raised again, after what was done until then, if anything, is told.
    """
    started = time.monotonic()
    budget = None if max_cost is None else round(max_cost * MICRODOLLARS)
    so_far, failure = _watched(settings, database, enrichment, scope, limit, budget, quiet=as_json)
    seconds, results = time.monotonic() - started, place_of(database.adopted)
    if failure is not None:
        so_far.stopped = so_far.stopped or redact(str(failure))
        if so_far.done:
            _tell(so_far, seconds, left, None, more, results=results, as_json=as_json)
        raise failure
    left = {**left, **dict.fromkeys(so_far.missed, MISSED)}
    batch = scope.batch if scope.job_ids is None else None  # the named are requested when their turn comes
    waiting = count_waiting(database, batch) if batch else 0
    more = {**more, "still_requested": waiting} if batch else more
    standing, may_retry = reports.status(database, enrichment.name), reports.is_any_retryable(database, enrichment.name)
    _tell(so_far, seconds, left, standing, more, results=results, as_json=as_json, may_retry=may_retry)
    if batch and waiting and not as_json:
        batch_screen.still_waiting(batch, waiting)
    if so_far.stopped and so_far.done and not as_json:  # where no call was made, it is as it was told before
        breaker_screen.warn(database, settings)
    if scope.job_ids is not None and _is_refused(so_far, left):
        return STOPPED
    return _exit_code(so_far, fail_on_error=fail_on_error)


def _watched(
    settings: Settings, database: Database, enrichment: Enrichment, scope: Scope, limit: int | None,
    budget: int | None, *, quiet: bool,
) -> tuple[Run, EnrichlogError | None]:  # fmt: skip
    """Work through a scope under a live bar; what was done, and what ended it early if that was an error."""
    due, so_far = count_due(database, enrichment.name, scope, settings.max_attempts), Run()
    with terminal.progress(min(due, limit or due), quiet=quiet or not due) as notice:

        def watch(claim: Claim, end: End, run: Run) -> None:
            nonlocal so_far
            so_far = run
            notice(claim, end, run)

        try:
            so_far = perform(
                database, settings, enrichment, scope, limit=limit, max_cost=budget, notice=watch, signals=True,
                patient=scope.job_ids is None,  # whoever names postings is there, and can close it
            )  # fmt: skip
            so_far.stopped = so_far.stopped or why_cancelled(database, scope.batch)
            if budget is not None and so_far.stopped and not so_far.done:
                too_dear = why_none_fits(database, settings, enrichment, scope, budget)
                so_far.stopped = " ".join(filter(None, (so_far.stopped, too_dear)))
        except EnrichlogError as error:
            return so_far, error
    return so_far, None


def _tell(
    run: Run, seconds: float, left: Mapping[str, str], standing: reports.Document | None, more: Mapping[str, Any], *,
    results: str, as_json: bool, may_retry: bool = False,
) -> None:  # fmt: skip
    if as_json:
        done = {name: value for name, value in vars(run).items() if name != "missed"}  # they are among the left
        summary: dict[str, Any] = {**done, "done": run.done, "seconds": round(seconds, 3), "left": left}
        terminal.print_json({**more, **summary} | {"projection_failed": standing and standing["projection_failed"]})
    else:
        screens.enriched(run, seconds, left, standing, results=results, may_retry=may_retry)


def _is_refused(run: Run, left: Mapping[str, str]) -> bool:
    """Whether nothing at all was tried of what was named, and not because it is done already."""
    return not run.done and run.signal is None and any(reason != ENRICHED for reason in left.values())


def _exit_code(run: Run, *, fail_on_error: bool) -> int:
    if run.signal is not None:
        return 128 + run.signal
    if run.stopped:
        return STOPPED
    return FOUND if fail_on_error and run.failed else DONE
