"""How what would be done looks in a terminal, before it is done or beside what was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enrichlog.estimate import AnsweredCalls
from enrichlog.outdated import CAUSES, OutdatedPlan
from enrichlog.price import money
from enrichlog.reclassify import Difference, Reclassification
from enrichlog.terminal import advise, counted, one_line, say, table

_SHOWN_IDS = 3
_WORDS: dict[Any, str] = {None: "none", True: "yes", False: "no"}


def reclassified(found: Reclassification) -> None:
    """Which failures are read differently today, and what that changes."""
    rows = [
        (one.previous_error_type, one.error_type, f"{one.count:,}", _changes(one), _first(one))
        for one in found.differences
    ]
    if rows:
        table(("Error type", "Today", "Postings", "What changes", "Job ids"), rows, numbers=("Postings",))
    for job_id in found.moved_on:
        say(f"{one_line(job_id)} was left: it has moved on meanwhile")
    say(advise(f"{counted(found.examined, 'failed posting')}: {_told(found)}"))


def _told(found: Reclassification) -> str:
    if not found.count:
        return "today's rules read them all the same."
    are = "is" if found.count == 1 else "are"
    if found.dry_run:
        return f"{found.count:,} {are} read differently today. Nothing was recorded; that does: enrichlog reclassify"
    return f"{found.count:,} {are} read differently now. See: enrichlog errors"


def _changes(one: Difference) -> str:
    words = (f"{name} {_word(before)} → {_word(after)}" for name, (before, after) in one.changes.items())
    return ", ".join(words) or "-"


def _word(value: Any) -> str:
    return _WORDS[value] if value is None or isinstance(value, bool) else str(value)


def _first(one: Difference) -> str:
    shown = ", ".join(one_line(job_id) for job_id in one.job_ids[:_SHOWN_IDS])
    return f"{shown}, …" if one.count > _SHOWN_IDS else shown


def estimated(found: AnsweredCalls, count: int) -> str:
    """What so many calls will take, and what that goes by."""
    tokens, cost = found.tokens_of(count), found.cost_of(count)
    if tokens is None:
        return "what they cost is not known before a call has been answered."
    basis = f"going by the last {counted(found.calls, 'answered call')}"
    price = "at a price that is not known" if cost is None else money(cost)
    unknown = f", {found.unpriced:,} of unknown price" if cost is not None and found.unpriced else ""
    return f"about {tokens:,} tokens, {price} ({basis}{unknown})."


def outdated(plan: OutdatedPlan) -> None:
    """Which results are outdated, why, and what enriching them again would cost."""
    if plan.requested_already:
        say(advise(requested_already(plan.requested_already, "outdated result")))
    if not plan.total.postings:
        other = " other" if plan.requested_already else ""
        known = "prompt, schema, model and input" if plan.compares_input else "prompt, schema and model"
        say(f"No{other} result is outdated: {known} are those of today.")
        if not plan.compares_input:
            say(advise("Changed texts were not looked for. To read them all: enrichlog sync --refresh"))
        return
    shares = [(cause, plan.by_cause[cause]) for cause in CAUSES if plan.by_cause[cause].postings]
    rows = [(name, *_estimated(share.estimate(plan.enrichment))) for name, share in (*shares, ("in all", plan.total))]
    table(("What has changed", "Results", "Tokens", "Cost, about"), rows, numbers=("Results", "Tokens", "Cost, about"))
    if any(share.postings != plan.total.postings for _, share in shares) and len(shares) > 1:
        say("A result with several causes stands beside each of them, and is counted once in all.")
    if plan.left_for_later:
        are = "is" if plan.left_for_later == 1 else "are"
        say(f"{would_take(plan)} {plan.left_for_later:,} more {are} left for later by --limit.")


def requested_already(count: int, noun: str) -> str:
    """That so many are due already, and what takes them."""
    are, them = ("is", "it") if count == 1 else ("are", "them")
    return f"{counted(count, noun)} {are} requested already: the next enrichlog enrich takes {them}."


def would_take(plan: OutdatedPlan) -> str:
    """How many would be enriched again, and what that will cost about."""
    count, price = counted(len(plan.targets), "posting"), plan.taken.estimate(plan.enrichment)["cost_microdollars"]
    about = "at a price that is not known" if price is None else f"for about {money(price)}"
    return f"{count} will be enriched again, {about}."


def outdated_results(counts: Mapping[str, Any]) -> None:
    """How many results are outdated, when any are, or why nobody knows."""
    if counts["why_unknown"]:
        say(f"Outdated: not known. {counts['why_unknown']}")
    if not counts["total"]:
        return
    causes = ", ".join(f"{count:,} {cause}" for cause, count in counts["by_cause"].items() if count)
    say(
        advise(f"Outdated: {counted(counts['total'], 'result')} ({causes}). See: enrichlog enrich --outdated --dry-run")
    )


def _estimated(estimate: Mapping[str, int | None]) -> tuple[str, str, str]:
    taken, price = (estimate["input_tokens"], estimate["output_tokens"]), estimate["cost_microdollars"]
    tokens = "not known" if None in taken else f"{sum(filter(None, taken)):,}"
    return f"{estimate['postings']:,}", tokens, "not known" if price is None else money(price)
