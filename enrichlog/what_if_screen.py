"""How a policy beside history looks in a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from enrichlog.odds import LEVEL, Estimate, chance
from enrichlog.price import money
from enrichlog.terminal import advise, counted, say, table
from enrichlog.what_if import SAME_OUTCOMES, Addition, WhatIf

_NOTHING = "There is no posting yet. Postings come in with: enrichlog import FILE, or from your tables: enrichlog sync"
_NOTHING_LIKE_THAT = "No posting has ever failed like that. See what has with: enrichlog errors"
_ROWS = {
    "postings": "Postings",
    "attempts": "Attempts",
    "calls": "Calls",
    "tokens": "Tokens",
    "cost_microdollars": "Cost",
    "unpriced_calls": "Calls of unknown price",
    "succeeded": "Succeeded",
    "recovered": "… after a failure",
    "given_up": "Given up",
    "open": "Failed, attempts left",
    "pending": "Pending",
    "running": "In flight",
    "dismissed": "Dismissed",
}
_ALWAYS = ("postings", "attempts", "calls", "tokens", "cost_microdollars", "succeeded", "recovered", "given_up")

Shown = Callable[[int], str]


def show(found: WhatIf) -> None:
    """The answer for people: history, what the policy leaves of it, and what further attempts would add."""
    if not found.history.postings:
        say(advise(_NOTHING_LIKE_THAT if found.error_types else _NOTHING))
        return
    most = found.policy.max_attempts
    say(f"At most {counted(most, 'attempt')} each that count{'s' if most == 1 else ''}, the first included,")
    say(f"replayed over the log up to position {found.position:,}. Nothing is called, nothing is appended.")
    addition = found.addition()
    columns = ("", "History", "Under the policy", "Difference", "Further attempts add")
    rows, shown = _rows(found, addition), len(columns) if addition else len(columns) - 1
    table(columns[:shown], (row[:shown] for row in rows), numbers=columns[1:4], least=14)
    for sentence in _sentences(found, addition):
        say(advise(sentence))
    if addition:
        _show_chances(found)


def _rows(found: WhatIf, addition: Addition | None) -> Iterable[Sequence[str]]:
    was, would_be = found.history.document(), found.replayed.document()
    more = addition._asdict() if addition else {}
    more["succeeded"] = more.get("recovered")
    for name, title in _ROWS.items():
        if name not in _ALWAYS and not was[name] and not would_be[name]:
            continue
        shown: Shown = money if name == "cost_microdollars" else "{:,}".format
        before, after = was[name], would_be[name]
        told = "not known" if addition and name in more and more[name] is None else _told(more.get(name), shown)
        if before is None or after is None:
            yield title, *("not known" if one is None else shown(one) for one in (before, after)), "", told
        else:
            yield title, shown(before), f"exact: {shown(after)}", _less(after - before, shown), told
    waits = (found.history.waits, found.replayed.waits)
    yield ("Waits, in all", *(_lasting(round(one.total_ms / 1_000)) for one in waits), "", "")
    yield ("Waits, median", *(_lasting(one.median_seconds) for one in waits), "", "")


def _told(estimate: Any, shown: Shown) -> str:
    if not isinstance(estimate, Estimate):
        return ""
    if estimate.low == estimate.high:
        return f"estimate: {shown(estimate.low)}"
    return f"estimate: {shown(estimate.low)} to {shown(estimate.high)}"


def _less(difference: int, shown: Shown) -> str:
    sign = "−" if difference < 0 else "+"
    return f"{sign}{shown(abs(difference))}" if difference else "="


def _lasting(seconds: int | None) -> str:
    """A span of time in hours, minutes and seconds."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


def _sentences(found: WhatIf, addition: Addition | None) -> Iterable[str]:
    if addition is None:
        yield "All of it is exact: no posting has attempts left under this policy."
    else:
        given_up = f" ({found.given_up_before:,} of them had been given up)" if found.given_up_before else ""
        left = counted(addition.postings, "failed posting")
        yield f"Exact is what was recorded. {left} would be tried further{given_up}."
        yield f"What that adds is an estimate; {LEVEL:.0%} of such intervals hold what comes to pass."
        if addition.recovered.expected is None:
            yield "No failed posting has been tried again yet, so the chance of recovery is not known."
    standings = found.replayed.standings
    if waiting := standings["pending"] + standings["running"]:
        yield f"{counted(waiting, 'posting')} in flight or pending: what becomes of them is not guessed."
    if found.deleted:
        yield f"{counted(found.deleted, 'failed posting')} deleted since: not tried further."
    if found.policy.base_seconds is not None:
        yield f"Waits are those of a base of {found.policy.base_seconds:g} seconds. {SAME_OUTCOMES}"


def _show_chances(found: WhatIf) -> None:
    rows = []
    for name, count in found.open_by_type():
        known = chance(found.follow_ups, name)
        basis = "all error types" if known.pooled else name
        rows.append((name, f"{count:,}", f"{known.followed:,}", f"{known.recovered:,}", basis))
    columns = ("Failed with", "Postings", "Attempts after it", "Recovered", "Counted over")
    table(columns, rows, numbers=columns[1:4])
