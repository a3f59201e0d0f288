"""How the differences between read models and the log look, in a terminal and as a document."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from enrichlog.moments import told_moment
from enrichlog.refusals import first_line
from enrichlog.screens import shortened
from enrichlog.terminal import advise, counted, one_line, say
from enrichlog.verdict import SOUND, Checked
from eventlog.integrity import LogReport
from projections import catalogue
from projections.drift import Difference, Drift
from projections.open_attempts import REMEDY, Abandoned
from projections.rebuild import Options

_SHOWN_REFUSALS = 10


def show(found: Drift, options: Options) -> None:
    """What comparing a projection with the log found, and what was written."""
    say(f"{found.projection}: {_walked(found)}, {_counts(found)}{_lag(found, options)}{_done(found, options)}")
    for difference in found.examples:
        _show_example(difference)
    if found.total > len(found.examples) > 0:
        say(f"  … and {found.total - len(found.examples):,} more")
    for stream_id, reason in list(found.refused.items())[:_SHOWN_REFUSALS]:
        say(f"  {stream_id} was refused by the table: {first_line(reason)}")
    if found.refused:
        say(advise("  See all that it refused, and what to do: enrichlog projections failed"))


def _walked(found: Drift) -> str:
    key = "stream" if found.projection in catalogue.of_streams() else "row"
    resumed = f" after {found.went_on_after}, to where an earlier run had come" if found.went_on_after else ""
    return f"{counted(found.events, 'event')} of {counted(found.streams, key)}{resumed}"


def _counts(found: Drift) -> str:
    counts = ", ".join(f"{count:,} {kind}" for kind, count in found.counts.items() if count) or "no difference"
    gone = f"; {counted(found.gone, 'row')} gone with the posting" if found.gone else ""
    locked = f"; {counted(found.locked, 'row')} locked by another program, and not compared" if found.locked else ""
    return counts + gone + locked


def _lag(found: Drift, options: Options) -> str:
    """What a table that follows the log lacks by that, or lacked until it was written."""
    return f"; {'was ' if options.write else ''}{counted(found.behind, 'event')} behind" if found.behind else ""


def _done(found: Drift, options: Options) -> str:
    if not options.write or not (found.total or found.written):
        return ""
    left = found.counts["edited"] and not options.overwrites
    kept = "; what was edited by hand stays, unless --overwrite-edits is given" if left else ""
    return f"; {counted(found.written, 'row')} written{kept}"


def _show_example(difference: Difference) -> None:
    say(f"  {difference.stream_id} is {difference.kind}")
    for name, (live, folded) in difference.columns.items():
        if difference.kind in ("stale", "edited"):
            say(f"    {name}: {_value(live)} → {_value(folded)}")
        elif difference.kind == "missing" and folded is not None:
            say(f"    {name}: {_value(folded)}")


def _value(value: Any) -> str:
    return shortened(one_line(str(value)))


def document(found: Drift) -> dict[str, Any]:
    """What was found, for scripts; the examples column by column, each with the live and the folded value."""
    told = {field.name: getattr(found, field.name) for field in fields(found)}
    examples = [{"stream_id": d.stream_id, "kind": d.kind, "columns": d.columns} for d in found.examples]
    return told | {"examples": examples, "total": found.total}


def verified(checked: Checked) -> dict[str, Any]:
    """What a check of everything has found, for scripts."""
    report, abandoned, verdict = checked.report, checked.abandoned, checked.verdict
    examples = [one._asdict() for one in abandoned.examples] if abandoned else []
    told = {"total": abandoned.total if abandoned else None, "examples": examples}
    anchor = None if report.faults else report.anchor._asdict()  # of a log that is not sound it would prove nothing
    log = {**report._asdict(), "anchor": anchor, "abandoned": told}
    projections = [document(one) for one in checked.drifts]
    return {"sound": verdict == SOUND, "verdict": verdict, **log, "projections": projections}


def show_all(checked: Checked, options: Options) -> None:
    """What a check of everything has found."""
    log(checked.report, checked.abandoned)
    for one in checked.drifts:
        show(one, options)
    say(advise(checked.verdict))


def log(report: LogReport, abandoned: Abandoned | None) -> None:
    """What checking the log found."""
    if not report.faults:
        say(f"Log: {counted(report.events, 'event')}, positions without gaps, chain unbroken")
        say(f"Anchor to keep elsewhere: {report.anchor.position}:{report.anchor.hash}")
    for position, reason in report.faults:
        say(f"Log: position {position}: {reason}")
    if abandoned and abandoned.total:
        say(f"Log: {counted(abandoned.total, 'attempt')} begun and never ended, whose leases have run out. {REMEDY}")
    for one in abandoned.examples if abandoned else ():
        until = told_moment(one.leased_until)
        say(f"  {one.stream_id}: position {one.position}, by {one.worker}, leased until {until}")
    if report.more:
        say(f"Log: and {counted(report.more, 'more event')} at which something is wrong")
