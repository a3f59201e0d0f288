"""How each report looks in a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enrichlog.errors import advice_of
from enrichlog.moments import told_time
from enrichlog.posting_files import ImportReport
from enrichlog.progress import Run
from enrichlog.reports import Document, FailedPage
from enrichlog.targets import is_for_force
from enrichlog.terminal import advise, counted, one_line, say, spent, table

SIMULATED = "These answers came from the simulator, not from a model; costs are what a real one would have charged."
_EMPTY = "There is no posting yet. Postings come in with: enrichlog import FILE, or from your tables: enrichlog sync"
_BY_FORCE = " To take them all the same: enrichlog enrich JOB_ID --force"
_SHOWN_REJECTS = 10
_WHY_NOT_SHOWN = "enrichlog projections failed"


def imported(report: ImportReport) -> None:
    """What an import did."""
    would = "Would be: " if report.dry_run else ""
    counts = ", ".join(f"{report.counts[change]:,} {change}" for change in ("added", "unchanged", "changed"))
    say(f"{report.path}: {would}{counts}, {len(report.rejected):,} rejected")
    for line, reason in report.rejected[:_SHOWN_REJECTS]:
        say(f"  {report.unit} {line}: {reason}")
    if len(report.rejected) > _SHOWN_REJECTS:
        say(f"  … and {len(report.rejected) - _SHOWN_REJECTS:,} more; --json lists all")
    if not report.dry_run and (report.counts["added"] or report.counts["changed"]):
        say(advise("Next: enrichlog enrich"))


def enriched(
    run: Run, seconds: float, left: Mapping[str, str], standing: Document | None, *, results: str,
    may_retry: bool = False,
) -> None:  # fmt: skip
    """What a run did, why it ended early, and, where the database can tell, what is still to do.

    `results` is the name of their table.
    """
    named_left(left)
    if not run.done and not run.stopped:
        say(advise(_left_all(left) if left else _nothing_due(standing["postings"] if standing else {}, may_retry)))
        return
    told = spent(run.input_tokens + run.output_tokens, run.cost_microdollars, run.unpriced_calls)
    done = counted(run.done, "attempt")
    say(f"{done} in {seconds:.1f} s: {run.succeeded:,} succeeded, {run.failed:,} failed; {told}")
    if run.simulated:
        say(SIMULATED if run.cost_microdollars else SIMULATED.partition(";")[0] + ".")
    for error_type, count in run.errors.most_common():
        say(f"  {count:,} × {error_type}: {advise(advice_of(error_type))}")
    if run.stopped:
        say(f"Stopped early. {run.stopped[:1].upper()}{run.stopped[1:]}")
    if standing and standing["projection_failed"]:
        say(advise(not_shown(standing["projection_failed"], results)))


def named_left(left: Mapping[str, str]) -> None:
    """Which postings are not tried, and why."""
    for job_id, reason in left.items():
        say(f"{one_line(job_id)} was left: {advise(reason)}")


def _left_all(left: Mapping[str, str]) -> str:
    return "Nothing was tried." + (_BY_FORCE if any(map(is_for_force, left.values())) else "")


def _nothing_due(postings: Mapping[str, int], may_retry: bool) -> str:
    if not any(postings.values()):
        return _EMPTY
    again = " What has failed may be tried again with: enrichlog retry" if may_retry else ""
    return f"Nothing is due.{again}"


def not_shown(count: int, results: str) -> str:
    """That the users' table of results did not take so many results, and what tells why."""
    are = "result is" if count == 1 else "results are"
    return f"{count:,} {are} in the log and not in {results}. See why, and what to do: {_WHY_NOT_SHOWN}"


def failed(page: FailedPage, *, narrowed: bool = False) -> None:
    """The failed postings, numbered; `narrowed` when not all of them were asked for."""
    for number, row in enumerate(page.rows, 1):
        say(f"{number}. {one_line(row['title'] or '(posting deleted)')}")
        say(f"   Company:   {one_line(row['company'] or '-')}")
        say(f"   Failed at: {told_time(row['failed_at'])}")
        say(f"   Error:     {one_line(row['error'] or row['error_type'])}")
        say(f"   Job id:    {one_line(row['job_id'])} ({row['error_type']}, attempt {row['attempts']}, {_next(row)})")
    nothing = "Nothing has failed like that." if narrowed else "Nothing has failed."
    say(f"{len(page.rows):,} of {page.total:,}" if page.total else nothing)


def errors(rows: list[Document]) -> None:
    """The error types with counts, and what to do."""
    if not rows:
        say("Nothing has failed.")
        return
    lines = [(row["error_type"], row["group"], f"{row['count']:,}", advise(row["advice"])) for row in rows]
    table(("Error type", "Group", "Postings", "What to do"), lines, numbers=("Postings",))


def status(document: Document, results: str) -> None:
    """Where everything stands; `results` is the name of their table."""
    say(f"Database: {document['database']}, {counted(document['position'], 'event')}")
    standing(document)
    if not any(document["postings"].values()):
        say(advise(_EMPTY))
    if document["projection_failed"]:
        say(advise(not_shown(document["projection_failed"], results)))


def standing(document: Document) -> None:
    """How many postings are in which state, and what was spent."""
    say("Postings: " + ", ".join(f"{count:,} {state}" for state, count in document["postings"].items()))
    tokens = document["input_tokens"] + document["output_tokens"]
    told = spent(tokens, document["cost_microdollars"], document["unpriced_calls"])
    say(f"Attempts: {document['attempts']:,}; {told}")


def config(rows: list[Document]) -> None:
    """The settings, and where each came from."""
    lines = [(row["name"], _set(row["value"]), row["source"]) for row in rows]
    table(("Setting", "Value", "From"), lines, folded="Value")


def _set(value: Any) -> Any:
    return "-" if value is None else value


def _next(row: Document) -> str:
    if not row["retryable"]:
        return "not tried again by itself"
    return f"may be tried from {told_time(row['retry_at'])}"


def shortened(value: Any, longest: int = 40) -> str:
    """A value, cut where it is long."""
    text = str(value)
    return text if len(text) <= longest else text[: longest - 1] + "…"
