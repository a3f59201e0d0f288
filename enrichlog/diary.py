"""What a worker tells while it works: that a wait is over, and what was done in each minute in which something was."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from enrichlog.progress import Run
from enrichlog.screens import SIMULATED
from enrichlog.terminal import counted, spent

MINUTE_SECONDS = 60.0
TOLD_FROM_SECONDS = 10.0
"""That a shorter wait is over is not worth a line."""

WAITS = ("waiting", "away")


class Diary:
    """Compares how a worker is with how it was when it last told something; `count_due` is how many postings wait.

    That a wait begins is told by whoever waits, with its reason.
    """

    def __init__(self, count_due: Callable[[], int | None], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._count_due, self._monotonic = count_due, monotonic
        self._told, self._told_at = Run(), monotonic()
        self._waits_since: float | None = None

    def look(self, state: str, run: Run) -> list[str]:
        """What there is to tell now."""
        now = self._monotonic()
        return [*self._wait_over(state, now), *self._simulated(run), *self._minute(run, now)]

    def _wait_over(self, state: str, now: float) -> list[str]:
        if state in WAITS:
            self._waits_since = now if self._waits_since is None else self._waits_since
            return []
        since, self._waits_since = self._waits_since, None
        if since is None or now - since < TOLD_FROM_SECONDS or state == "draining":
            return []
        return [f"Going on, after a wait of {now - since:.0f} s."]

    def _simulated(self, run: Run) -> list[str]:
        return [SIMULATED] if run.simulated and not self._told.simulated and run.done else []

    def _minute(self, run: Run, now: float) -> list[str]:
        """The line of the minute that is over; also remembers that the simulator was told of."""
        self._told.simulated = self._told.simulated or (run.simulated and run.done > 0)
        if now - self._told_at < MINUTE_SECONDS:
            return []
        span, before = now - self._told_at, self._told
        self._told_at = now
        self._told = after = replace(run, errors=Counter(dict(run.errors)))  # whoever counts is another thread
        if after.done == before.done:
            return []
        due = self._count_due()
        left = "" if due is None else f"; {counted(due, 'posting')} due"
        return [f"{told_attempts(since(after, before), span)}{left}."]


def since(after: Run, before: Run) -> Run:
    """What was done between two moments of a run."""
    sums = ("succeeded", "failed", "late", "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls")
    return Run(errors=after.errors - before.errors, **{n: getattr(after, n) - getattr(before, n) for n in sums})


def told_attempts(run: Run, seconds: float) -> str:
    """How many attempts in that time, how they ended, and what they cost."""
    types = ", ".join(f"{count:,} {name}" for name, count in run.errors.most_common())
    failed = f"{run.failed:,} failed ({types})" if types else f"{run.failed:,} failed"
    told = spent(run.input_tokens + run.output_tokens, run.cost_microdollars, run.unpriced_calls)
    return f"{counted(run.done, 'attempt')} in {seconds:,.0f} s: {run.succeeded:,} succeeded, {failed}; {told}"
