"""How the plan of a retry looks, in a terminal and as a document."""

from __future__ import annotations

from typing import Any

from enrichlog import batch_screen
from enrichlog.errors import ERROR_TYPES
from enrichlog.moments import told_moment
from enrichlog.plan_screens import estimated, requested_already
from enrichlog.retry import VERDICTS, allowance
from enrichlog.retry_batch import RetryBatch
from enrichlog.retry_plan import RetryPlan
from enrichlog.terminal import advise, counted, say, table

MOST = 100
"""The largest maximum of attempts there is."""


def plan(made: RetryPlan) -> None:
    """What a retry would do."""
    names = ("Error type", "Will be tried", "Wait", "Used up", "Not retryable")
    rows = [(name, *(f"{counts[one]:,}" for one in VERDICTS)) for name, counts in made.by_error_type().items()]
    if rows:
        table(names, rows, numbers=names[1:])
    say(_allowed(made))
    if made.taken:
        told = estimated(made.estimate, made.taken)
        say(f"{counted(made.taken, 'posting')} would be tried, as of position {made.position}: {told}")
    else:
        say(advise(why_nothing(made)))
    if made.requested_already and made.counts:
        say(advise(requested_already(made.requested_already, "posting")))
    if made.left_for_later:
        are = "is" if made.left_for_later == 1 else "are"
        say(f"{made.left_for_later:,} more could be tried, and {are} left for later by --limit.")


def requested(made: RetryBatch, of: RetryPlan) -> None:
    """What became of the plan when it was confirmed."""
    batch_screen.requested(made.batch, made.requested)
    if made.moved_on:
        are = "is" if made.moved_on == 1 else "are"
        say(f"{made.moved_on:,} of {of.taken:,} moved on since the plan was made, and {are} left.")


def document(made: RetryPlan) -> dict[str, Any]:
    """The plan for scripts."""
    maximum, default = made.policy.max_attempts or made.policy.default, made.policy.default
    counts = {
        "will_try": made.taken,
        "left_for_later": made.left_for_later,
        "requested_already": made.requested_already,
        "by_error_type": made.by_error_type(),
    }
    attempts = {"max_attempts": maximum, "max_retries": maximum - 1, "default_max_attempts": default}
    why = None if made.taken else advise(why_nothing(made))
    pinned = {"position": made.position, "selection": made.selection.told()}
    return {**pinned, **attempts, **counts, "next_due": made.next_due, "estimate": _estimate(made), "why_nothing": why}


def why_nothing(made: RetryPlan) -> str:
    """Why there is nothing to try, and what to type instead."""
    waiting, exhausted, asked = made.total("waiting"), made.total("exhausted"), made.selection.told()
    by_force = "If you must: enrichlog enrich JOB_ID --force"
    if not made.counts and made.requested_already:
        return requested_already(made.requested_already, "posting")
    if not made.counts and not asked:
        return "Nothing has failed."
    if not made.counts:
        return "No posting has failed like that. See what has with: enrichlog errors"
    if waiting and made.next_due:
        wait = "waits until" if waiting == 1 else "wait until"
        return f"{counted(waiting, 'posting')} {wait} {told_moment(made.next_due)} or later; retry then."
    if exhausted:
        have = "has used up its" if exhausted == 1 else "have used up their"
        more = f"Allow one more with: {' '.join(filter(None, ('enrichlog retry', asked)))}"
        more += f" --max-attempts {made.most_used + 1}"
        return f"{counted(exhausted, 'posting')} {have} attempts. {more if made.most_used < MOST else by_force}"
    return f"Trying these again brings the same. {by_force}"


def _estimate(made: RetryPlan) -> dict[str, Any]:
    found = made.estimate
    expected = {"tokens": found.tokens_of(made.taken), "cost_microdollars": found.cost_of(made.taken)}
    return {**expected, "based_on_calls": found.calls, "of_unknown_price": found.unpriced}


def _allowed(made: RetryPlan) -> str:
    asked, default = made.policy.max_attempts, made.policy.default
    if asked is None:
        malformed = allowance(None, ERROR_TYPES["invalid_json"].cap, default)
        return f"{_at_most(default)}, {malformed} while answers are malformed; --max-attempts overrides."
    retries = "1 retry" if asked == 2 else f"{asked - 1} retries"
    return f"{_at_most(asked)}, the first included ({retries}); this overrides the usual {default} and all caps."


def _at_most(attempts: int) -> str:
    return f"At most {counted(attempts, 'attempt')} each that count{'s' if attempts == 1 else ''}"
