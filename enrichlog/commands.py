"""What the commands that act do, and the exit code each ends with."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path

from enrichlog import as_of_screen, screens, terminal
from enrichlog import export as exporting
from enrichlog.anew import count_anew, with_failures_anew
from enrichlog.as_of import AsOf
from enrichlog.as_of import as_of as find_as_of
from enrichlog.as_of_commands import proved
from enrichlog.asking import Confirm, ask, nobody
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.estimate import estimate
from enrichlog.exceptions import UsageError
from enrichlog.limits import require_price
from enrichlog.plan_screens import estimated
from enrichlog.ready import require_ready
from enrichlog.replacement import replacing
from enrichlog.scope import Scope, count_due
from enrichlog.settings import Settings
from enrichlog.sync import count_unrequested
from enrichlog.targets import Chosen, choose, every_posting, open_scope, scope_of
from enrichlog.terminal import counted
from enrichlog.told_run import DONE, run
from eventlog.database import Database


def enrich(
    settings: Settings, database: Database, *, job_ids: tuple[str, ...], limit: int | None, max_cost: float | None,
    dry_run: bool, force: bool, everything: bool, yes: bool, enrichment: str, fail_on_error: bool, as_json: bool,
    confirm: Confirm,
) -> int:  # fmt: skip
    """Enrich what is due, the postings that are named, or with force and `everything` all of them."""
    _require_meaning(job_ids, force=force, everything=everything)
    asked = enrichment_of(settings, enrichment)
    if dry_run:
        count, others = _count(settings, database, asked, job_ids, force=force, everything=everything)
        return _tell_count(database, asked, min(count, limit or count), others, as_json=as_json)
    _require_means(settings, database, asked, max_cost)
    left: dict[str, str] = {}
    if job_ids or everything:
        chosen = _chosen(settings, database, asked.name, job_ids, force=force)
        count = min(len(chosen.targets), limit or len(chosen.targets))
        if everything and count and not yes:
            _ask(database, asked, count, chosen, confirm, as_json=as_json)
        left = chosen.left
        scope = scope_of(database, asked.name, chosen.targets, force=force)
    else:
        scope = with_failures_anew(database, open_scope(database, asked.name), asked, settings.max_attempts)
    return run(settings, database, asked, scope, left, limit, max_cost, fail_on_error=fail_on_error, as_json=as_json)


def export(
    settings: Settings, database: Database, *, what: str, form: exporting.Format, output: Path | None, enrichment: str,
    as_json: bool, as_of: int | datetime | None = None,
) -> None:  # fmt: skip
    """Write results or events to standard output or a file, those of now or of an earlier position.

    The users' own table has results in columns of its own: they are written as the log has them.
    """
    if as_json and output is None:
        raise UsageError(reason="--json prints a summary, so the export itself needs a file: --output FILE")
    fields = () if what == "events" else enrichment_of(settings, enrichment).result_model.model_fields
    of_the_log = as_of is not None or (what == "results" and database.adopted is not None)
    at = _place(database, what, as_of, quiet=as_json) if of_the_log else None
    with replacing(output) if output else nullcontext(sys.stdout) as out:
        if what == "events":
            count = exporting.export_events(database, form, out, at)
        else:
            count = exporting.export_results(database, enrichment, fields, form, out, at)
    if as_json:
        moment = {} if at is None else {"as_of": at.document()}
        terminal.print_json({"exported": what, "count": count, "file": str(output)} | moment)
    else:
        moment_told = "" if at is None else f", {as_of_screen.told(at)}"
        terminal.note(counted(count, what.removesuffix("s")) + (f" in {output}" if output else "") + moment_told)


def _place(database: Database, what: str, asked: int | datetime | None, *, quiet: bool) -> AsOf:
    """The position asked for, or the head; the log is proved up to there for results, which are folded."""
    return find_as_of(database, asked) if what == "events" else proved(database, asked, quiet=quiet)


def _require_meaning(job_ids: tuple[str, ...], *, force: bool, everything: bool) -> None:
    """Raises `UsageError` for flags that mean nothing together."""
    if force and not job_ids and not everything:
        raise UsageError(reason="--force needs the ids of postings, or --all for every one of them.")
    if everything and not force:
        raise UsageError(reason="--all goes with --force; without it what is due is taken anyway.")


def _ask(database: Database, asked: Enrichment, count: int, chosen: Chosen, confirm: Confirm, *, as_json: bool) -> None:
    """Ask whether to take them; a script is never asked: the plan is its document."""
    if as_json:
        _tell_count(database, asked, count, chosen.left, as_json=True)
    ask(nobody if as_json else confirm, _price_tag(database, asked, count))


def _require_means(settings: Settings, database: Database, enrichment: Enrichment, max_cost: float | None) -> None:
    """Raises what would keep a run from asking anybody, before anything is appended for it."""
    require_ready(settings, database, enrichment)
    require_price(database, settings, enrichment, max_cost)


def _count(
    settings: Settings, database: Database, asked: Enrichment, job_ids: tuple[str, ...], *, force: bool,
    everything: bool,
) -> tuple[int, dict[str, str]]:  # fmt: skip
    """How many postings a run would take, and why it would leave others; nothing is appended."""
    if job_ids or everything:
        chosen = _chosen(settings, database, asked.name, job_ids, force=force)
        return len(chosen.targets), chosen.left
    scope = Scope(database.now())
    due = count_due(database, asked.name, scope, settings.max_attempts)
    anew = count_anew(database, scope, asked, settings.max_attempts)
    return due + count_unrequested(database, asked.name) + anew, {}


def _tell_count(database: Database, asked: Enrichment, count: int, left: dict[str, str], *, as_json: bool) -> int:
    if as_json:
        terminal.print_json({"dry_run": True, "would_take": count, "left": left})
        return DONE
    screens.named_left(left)
    nothing = "Nothing would be tried." if left else "Nothing is due."
    terminal.say(f"Would take {_price_tag(database, asked, count)}" if count else nothing)
    return DONE


def _chosen(settings: Settings, database: Database, name: str, job_ids: tuple[str, ...], *, force: bool) -> Chosen:
    if not job_ids:
        return Chosen(every_posting(database, name), {})
    return choose(database, name, job_ids, settings.max_attempts, force=force)


def _price_tag(database: Database, asked: Enrichment, count: int) -> str:
    """How many postings, and what they will take if they take what calls have taken, at the price of today's model."""
    return f"{counted(count, 'posting')}; {estimated(estimate(database, asked.name, asked.priced), count)}"
