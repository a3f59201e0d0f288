"""How the statistics of attempts look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from enrichlog.moments import told_time
from enrichlog.price import money
from enrichlog.retry_tax import Group, Sums, share
from enrichlog.stats import TIMES, Stats
from enrichlog.terminal import advise, counted, headline, note, one_line, paragraph, say, table
from eventlog.errors import FoldOutdated, FoldTooNew
from projections.histogram import mean, quantile

_NAMES = {
    "hour": "Hour", "day": "Day", "model": "Model", "prompt-version": "Prompt version", "error-type": "Error type",
}  # fmt: skip
_UNKNOWN = "?"
_MOST_TOLD = 9
"""So many attempts until success are told one by one, and those that took more together."""


def show(found: Stats) -> None:
    """The groups as a table, and what they come to together."""
    _say_behind(found)
    if not found.groups:
        say(advise(_nothing(found)))
        return
    by = " and ".join(_NAMES[name].lower() + (" (UTC)" if name in TIMES else "") for name in found.by)
    headline(f"Attempts of {found.enrichment} by {by}{_span(found)}")
    columns = [_NAMES[name] for name in found.by]
    tell, numbers = (_as_outcome, _OUTCOME) if "error-type" in found.by else (_as_whole, _WHOLE)
    rows = [[*_labels(found.by, one), *tell(one, found.total)] for one in found.groups]
    if len(rows) > 1:
        rows.append(["Total", *[""] * (len(columns) - 1), *tell(found.total, found.total)])
    table([*columns, *numbers], rows, numbers=numbers)
    say()
    _summary(found.total)


_WHOLE = ("Attempts", "Success", "Tries", "Tokens", "Cost", "p50", "p95", "Wasted")
_OUTCOME = ("Attempts", "Share", "Tokens", "Cost", "p50", "p95")


def _as_whole(group: Group, _total: Group) -> list[object]:
    tries, sums = mean(group.total.succeeded_at), group.total
    return [
        f"{sums.ends:,}", _percent(group.success_rate), "-" if tries is None else f"{tries:.2f}", *_taken(sums),
        _wasted(group),
    ]  # fmt: skip


def _as_outcome(group: Group, total: Group) -> list[object]:
    return [f"{group.total.ends:,}", _percent(share(group.total.ends, total.total.ends)), *_taken(group.total)]


def _taken(sums: Sums) -> list[object]:
    latencies = (_duration(quantile(sums.latency, part)) for part in (0.5, 0.95))
    return [f"{sums.tokens:,}", _cost(sums), *latencies]


def _labels(by: Sequence[str], group: Group) -> list[str]:
    return [_label(name, label) for name, label in zip(by, group.labels, strict=True)]


def _label(name: str, label: str) -> str:
    if name == "hour":
        return label[: len("2026-01-31T08:00")].replace("T", " ")
    empty = "(succeeded)" if name == "error-type" else "(unknown)"
    return one_line(label) or empty


def _summary(total: Group) -> None:
    sums = total.total
    failed = f"; {_error_types(total)}" if total.failed.ends else ""
    paragraph(f"{total.succeeded:,} of {counted(sums.ends, 'attempt')} succeeded{failed}.")
    if tries := mean(sums.succeeded_at):
        paragraph(f"Tries until success: {tries:.2f} on average; {_distribution(total)}.")
    if total.failed.ends or total.failed.late:
        paragraph(f"Retry tax: failures took {_waste(total)}.")
    if sums.late:
        paragraph(f"{counted(sums.late, 'result')} came late: no attempts of their own, but what they took counts.")
    if sums.unpriced_calls:
        paragraph(f"{_UNKNOWN}: of {counted(sums.unpriced_calls, 'call')} the price is unknown; no sum has it.")


def _error_types(total: Group) -> str:
    return ", ".join(f"{count:,} × {name}" for name, count in total.error_types.most_common() if count)


def _distribution(total: Group) -> str:
    numbers = total.total.succeeded_at
    told = [f"{numbers[one]:,} at attempt {one}" for one in sorted(numbers) if one <= _MOST_TOLD]
    later = sum(count for one, count in numbers.items() if one > _MOST_TOLD)
    return ", ".join([*told, f"{later:,} later"] if later else told)


def _waste(total: Group) -> str:
    failed = total.failed
    tokens = f"{counted(failed.tokens, 'token')}{_of('all', total.wasted_tokens)}"
    if failed.known_cost is None:
        return f"{tokens} and money that is not known"
    unknown = f" + {counted(failed.unpriced_calls, 'call')} of unknown price" if failed.unpriced_calls else ""
    whole = "all" if not total.total.unpriced_calls else "what is known"
    return f"{tokens} and {money(failed.known_cost)}{_of(whole, total.wasted_money)}{unknown}"


def _of(whole: str, part: float | None) -> str:
    return "" if part is None else f" ({_percent(part)} of {whole})"


def _wasted(group: Group) -> str:
    """The share of the money that failures took; where no price is known at all, of the tokens."""
    if not group.failed.ends and not group.failed.late:
        return "-"
    if group.total.known_cost is None:
        return "-" if group.wasted_tokens is None else f"{_percent(group.wasted_tokens)} of tokens"
    if group.failed.known_cost is None:
        return _UNKNOWN
    return _percent(group.wasted_money) + (f"+{_UNKNOWN}" if group.failed.unpriced_calls else "")


def _cost(sums: Sums) -> str:
    if sums.known_cost is None:
        return _UNKNOWN
    return money(sums.known_cost) + (f"+{_UNKNOWN}" if sums.unpriced_calls else "")


def _percent(part: float | None) -> str:
    return "-" if part is None else f"{100 * part:.1f} %"


def _duration(milliseconds: int | None) -> str:
    if milliseconds is None:
        return "-"
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    return f"{milliseconds / 1_000:.1f} s" if milliseconds < 100_000 else f"{milliseconds / 1_000:,.0f} s"


def _span(found: Stats) -> str:
    since = f", since {told_time(found.document()['since'])}" if found.since else ""
    until = f", until {told_time(found.document()['until'])}" if found.until else ""
    return since + until


def _nothing(found: Stats) -> str:
    if found.lacks_rows:
        return (
            f"Attempts of {found.enrichment} have ended, and enrichment_stats_hourly lacks their rows. Make it anew "
            "with: enrichlog rebuild enrichment_stats_hourly"
        )
    if found.since or found.until:
        return f"No attempt of {found.enrichment} ended in these hours{_span(found)}."
    return f"No attempt of {found.enrichment} has ended yet. Next: enrichlog enrich"


def _say_behind(found: Stats) -> None:
    """Say, beside what is shown, what is not in it and why."""
    if found.why_behind is None:
        return
    why = found.why_behind.told(advise)
    is_whole = isinstance(found.why_behind, FoldOutdated | FoldTooNew)
    cause = why if is_whole else f"They could not be moved on: {why}"
    note(f"These numbers are as of position {found.position:,}, {counted(found.behind, 'event')} behind. {cause}")
