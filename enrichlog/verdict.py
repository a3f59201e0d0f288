"""What a check of the log and its read models comes to, in one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from enrichlog.terminal import counted
from eventlog.errors import EnrichlogError
from eventlog.integrity import LogReport
from projections import catalogue
from projections.drift import Drift
from projections.open_attempts import REMEDY, Abandoned
from projections.shown import NAME

SOUND = "Sound."


class Checked(NamedTuple):
    """All that a check has found; of a log that is not sound nothing but that.

    `obstacles` kept some projections from being compared; `refused` is how many rows the users' table did
    not take, which is called `results`.
    """

    report: LogReport
    abandoned: Abandoned | None
    drifts: Sequence[Drift]
    obstacles: Sequence[EnrichlogError]
    refused: int
    results: str = NAME

    @property
    def verdict(self) -> str:
        """Sound, or what is not and what to do about it."""
        if self.report.faults:
            return "Not sound."
        if self.obstacles:
            return " ".join(("Not sound. The log is.", *(f"{str(one).removesuffix('.')}." for one in self.obstacles)))
        told = list(_remedies(self))
        return f"Not sound. The log is; {'; '.join(told)}" if told else SOUND


def _remedies(checked: Checked) -> Iterator[str]:
    """What to do about each kind of thing that is not as the log has it, in the order in which to do it."""
    found = {(one.projection, kind) for one in checked.drifts for kind, count in one.counts.items() if count}
    mended = {(name, kind) for name, kind in found if _is_mended(name, kind)}
    left, is_any_abandoned = {kind for _, kind in found - mended}, checked.abandoned and checked.abandoned.total > 0
    if checked.refused and any(catalogue.is_users(name) for name, _ in mended):
        rows = counted(checked.refused, "row")
        yield f"{checked.results} did not take {rows}, see why and mend that first: enrichlog projections failed"
    if mended:
        yield "make the rest equal to it with: enrichlog rebuild"
    if "edited" in left:
        yield "to overwrite what was edited by hand: enrichlog rebuild --overwrite-edits"
    if "extra" in left:
        end = "" if is_any_abandoned else "."
        yield f"rows that no event explains are left as they are, for you to keep or to delete{end}"
    if is_any_abandoned:
        yield f"some attempts were begun and never ended. {REMEDY}"


def _is_mended(name: str, kind: str) -> bool:
    """Whether a rebuild mends what differs like this: rows of the users' it leaves where they did it themselves."""
    return not catalogue.is_users(name) or kind in ("missing", "stale")
