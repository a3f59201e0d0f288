"""How batches look, in a terminal and as documents."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from enrichlog.batches import FATES, Cancelled, Fate, ToldBatch
from enrichlog.moments import told_moment
from enrichlog.terminal import advise, counted, one_line, say, table
from eventlog.events import iso

_NAMED = 5
_WORDS: dict[Fate, str] = {
    "recovered": "recovered",
    "failed_the_same_way": "failed the same way",
    "failed_differently": "failed differently",
    "not_yet": "not yet",
    "withdrawn": "withdrawn",
}


def document(told: ToldBatch) -> dict[str, Any]:
    """One batch for scripts."""
    row = told.row
    return {
        "batch": row.batch,
        "state": told.state,
        "enrichment": row.enrichment,
        "why": row.why,
        "actor": row.actor,
        "requested_at": row.requested_at and iso(row.requested_at),
        "reason": told.reason,
        "selection": told.selection,
        "requested": row.requested,
        "freed": row.freed,
        "cancelled_at": row.cancelled_at and iso(row.cancelled_at),
        "cancelled_by": row.cancelled_by,
    }


def fate_document(found: Iterable[tuple[str, Fate]]) -> dict[str, Any]:
    """The ids of all postings of a batch, by what became of them, with their counts."""
    ids: dict[Fate, list[str]] = {fate: [] for fate in FATES}
    for job_id, fate in found:
        ids[fate].append(job_id)
    return {"counts": {fate: len(ids[fate]) for fate in FATES}, "job_ids": ids}


def listed(total: int, found: list[ToldBatch]) -> None:
    """The newest batches."""
    if not found:
        say("There is no batch yet: a retry makes one.")
        return
    names = ("Batch", "Requested", "State", "Why", "By", "Postings", "Reason")
    rows = [
        (one.row.batch, told_moment(one.row.requested_at), one.state, one.row.why or "-", one.row.actor or "-",
         f"{one.row.requested:,}", one_line(one.reason or one.selection or "-"))
        for one in found
    ]  # fmt: skip
    table(names, rows, numbers=("Postings",))
    say(f"{len(found):,} of {total:,}")


def shown(told: ToldBatch, fates: dict[str, Any]) -> None:
    """One batch, and what became of its postings."""
    row = told.row
    say(f"Batch {row.batch}, {told.state}: {counted(row.requested, 'posting')} of {row.enrichment or '-'}")
    say(f"Requested: {told_moment(row.requested_at)}, {row.why or '-'}, by {row.actor or '-'}")
    for label, text in (("Selection", told.selection), ("Reason", told.reason)):
        if text:
            say(f"{label}: {one_line(text)}")
    if row.cancelled_at is not None:
        why = f": {one_line(told.cancelled_for)}" if told.cancelled_for else ""
        say(f"Cancelled: {told_moment(row.cancelled_at)}, by {row.cancelled_by}{why}")
    for fate in FATES:
        if ids := fates["job_ids"][fate]:
            more = ", …" if len(ids) > _NAMED else ""
            say(f"  {len(ids):,} {_WORDS[fate]}: {', '.join(map(one_line, ids[:_NAMED]))}{more}")
    if told.is_open:
        takes = "What still waits is taken by the next enrichlog enrich. To take it back: enrichlog batch cancel"
        say(advise(f"{takes} {row.batch} --reason TEXT", [row.enrichment]))


def requested(batch: str, count: int) -> None:
    """That a batch was requested, and under which id it can be shown and cancelled."""
    say(f"Batch {batch}: {counted(count, 'posting')} requested.")


def still_waiting(batch: str, count: int) -> None:
    """That a run has left postings of its batch behind, who takes them, and how to take them back."""
    wait, them = ("waits", "it") if count == 1 else ("wait", "them")
    say(
        advise(
            f"{counted(count, 'posting')} of batch {batch} still {wait}: the next enrichlog enrich takes {them}. "
            f"To take {them} back: enrichlog batch cancel {batch} --reason TEXT"
        )
    )


def cancelled(done: Cancelled) -> None:
    """What cancelling did."""
    running = f"; {counted(done.running, 'attempt')} that ran already will end" if done.running else ""
    say(f"Batch {done.batch} is cancelled: {counted(done.freed, 'posting')} given back{running}.")
