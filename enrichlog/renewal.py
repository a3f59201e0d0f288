"""A renewal: what is outdated is planned, told, and once somebody has said yes enriched again as one batch."""

from __future__ import annotations

from enrichlog import batch_screen, plan_screens, terminal
from enrichlog.asking import Confirm, ask, nobody
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import UsageError
from enrichlog.limits import require_price
from enrichlog.outdated import plan_outdated
from enrichlog.patience import require_calls
from enrichlog.ready import require_ready
from enrichlog.settings import Settings
from enrichlog.targets import MOVED_ON, request
from enrichlog.told_run import DONE, run
from eventlog.database import Database


def renew(
    settings: Settings, database: Database, *, job_ids: tuple[str, ...], limit: int | None, max_cost: float | None,
    dry_run: bool, force: bool, everything: bool, yes: bool, enrichment: str, fail_on_error: bool, as_json: bool,
    confirm: Confirm,
) -> int:  # fmt: skip
    """Plan to enrich what is outdated, show the plan, and run it. Results stay until newer ones replace them."""
    if job_ids or force or everything:
        raise UsageError(reason="--outdated finds the postings itself: leave out their ids, --force and --all.")
    asked = enrichment_of(settings, enrichment)
    plan = plan_outdated(database, asked, limit)
    if not as_json:
        plan_screens.outdated(plan)
    ends_here = dry_run or not plan.targets
    if as_json and (ends_here or not yes):  # a script is never asked: the plan is its document
        terminal.print_json({"dry_run": dry_run, **plan.document()})
    if ends_here:
        return DONE
    require_ready(settings, database, asked)
    require_calls(database, asked.called)
    require_price(database, settings, asked, max_cost)
    if not yes:
        ask(nobody if as_json else confirm, plan_screens.would_take(plan))
    requested = request(database, asked.name, plan.targets, "outdated")
    left, scope = dict.fromkeys(requested.moved_on, MOVED_ON), requested.scope
    count = len(plan.targets) - len(left)
    if not as_json:
        batch_screen.requested(str(scope.batch), count)
    made = {"batch": scope.batch, "requested": count}
    return run(
        settings, database, asked, scope, left, None, max_cost, fail_on_error=fail_on_error, as_json=as_json, more=made
    )
