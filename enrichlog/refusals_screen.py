"""How it looks in a terminal what the users' table did not take."""

from __future__ import annotations

from collections.abc import Sequence

from enrichlog.moments import told_moment
from enrichlog.refusals import Reason, Refusal
from enrichlog.terminal import advise, counted, one_line, paragraph, say
from eventlog.errors import TableTrouble
from eventlog.streams import split_stream

_REMEDY = (
    "Every result is kept in the log. Mend the table, then: enrichlog rebuild llm_enrichment\n"
    "It writes what is missing; no model is asked and nothing is paid again."
)


def show(reasons: Sequence[Reason], trouble: TableTrouble | None, results: str) -> None:
    """Each reason with its postings, what is wrong with the table as such, if anything, and what to do.

    `results` is the name of the table.
    """
    if not reasons and trouble is None:
        say(f"{results} shows all that is in the log: no row was refused.")
        return
    for one in reasons:
        paragraph(f"{counted(one.postings, 'posting')}: {one.told}")
        for refusal in one.first:
            paragraph(_line(refusal), indent=2)
        if one.postings > len(one.first):
            paragraph(f"… and {one.postings - len(one.first):,} more", indent=2)
    if trouble is not None:
        paragraph(trouble.told(advise))
    for line in _REMEDY.splitlines() if reasons else ():
        paragraph(advise(line))


def _line(refusal: Refusal) -> str:
    enrichment, job_id = split_stream(refusal.stream_id)
    name = one_line(job_id if enrichment == "job" else f"{job_id} ({enrichment})")
    event = refusal.since
    if event is None:
        return f"{name} is shown by now, and still marked"
    return f"{name} since {told_moment(event.recorded_at)}, {event.type} at position {event.position:,}"
