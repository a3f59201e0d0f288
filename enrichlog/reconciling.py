"""Read models against the log: `rebuild` makes them equal, `verify` proves that they are, which is the same walk."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from enrichlog import drift_screen, terminal
from enrichlog.exceptions import UnknownProjection, UsageError
from enrichlog.postings import find_deleted
from enrichlog.refusals import count_refusals
from enrichlog.told_run import DONE, FOUND, STOPPED
from enrichlog.verdict import SOUND, Checked
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.integrity import Anchor, LogReport, compare, head, require_sound, verify_log
from projections import catalogue, enrichment_status
from projections.checks import note_drift, too_new
from projections.drift import Drift
from projections.open_attempts import Abandoned, find_abandoned
from projections.rebuild import Options, passes
from projections.shown import place_of
from projections.tables import find_trouble

_ANCHOR = re.compile(r"[0-9]{1,18}:[0-9a-f]{64}")


def rebuild(
    database: Database, names: Sequence[str] = (), *, dry_run: bool = False, overwrite_edits: bool = False,
    jobs: int = 1, anew: bool = False, as_json: bool = False,
) -> int:  # fmt: skip
    """Reconcile projections with the log, once that is proved to be what was appended.

    Raises `TableTrouble`, and `FoldTooNew` for rows that older ones would be written over.
    """
    wanted = _wanted(names)
    for trouble in find_trouble(database, [enrichment_status.projection.name, *wanted]).values():
        raise trouble
    for newer in too_new(database, wanted).values():
        raise newer
    with _counting(database, "Log", quiet=as_json) as progress:
        proved = require_sound(database, progress, jobs).position
    options = Options(not dry_run, overwrite_edits, jobs, begins_anew=anew, gone=find_deleted, proved=proved)
    drifts = _reconcile(database, wanted, options, quiet=as_json)
    if as_json:
        terminal.print_json({"dry_run": dry_run, "projections": [drift_screen.document(one) for one in drifts]})
    else:
        for one in drifts:
            drift_screen.show(one, options)
    if any(one.refused for one in drifts):
        return STOPPED
    return FOUND if dry_run and any(one.total or one.behind for one in drifts) else DONE


def verify(
    database: Database, names: Sequence[str] = (), anchors: Sequence[str] = (), *, jobs: int = 1, as_json: bool = False
) -> int:
    """Check the log, anchors, and the read models against it."""
    wanted = _wanted(names)
    kept = [_read_anchor(anchor) for anchor in anchors]
    with _counting(database, "Log", quiet=as_json) as progress:
        report = verify_log(database, progress, jobs)
    report.faults.extend(fault for anchor in kept if (fault := compare(database, anchor)) is not None)
    options = Options(write=False, jobs=jobs, gone=find_deleted, proved=report.anchor.position)
    checked = _checked(database, wanted, report, options, quiet=as_json)
    if as_json:
        terminal.print_json(drift_screen.verified(checked))
    else:
        drift_screen.show_all(checked, options)
    return DONE if checked.verdict == SOUND else FOUND


def _checked(database: Database, wanted: Sequence[str], report: LogReport, options: Options, *, quiet: bool) -> Checked:
    """Compare what can be compared; what was tampered with is never folded."""
    if report.faults:
        return Checked(report, None, (), (), 0)
    abandoned = _find_abandoned(database, quiet=quiet)
    trouble = find_trouble(database, [*wanted, enrichment_status.projection.name])
    obstacles: dict[str, EnrichlogError] = {**too_new(database, wanted), **trouble}
    left = [name for name in wanted if name not in obstacles and not _lacks_locks(name, trouble)]
    drifts = _reconcile(database, left, options, quiet=quiet) if left else []
    refused, results = 0 if trouble else count_refusals(database), place_of(database.adopted)
    return Checked(report, abandoned, drifts, list(obstacles.values()), refused, results)


def _lacks_locks(name: str, trouble: Collection[str]) -> bool:
    """Whether a projection cannot be compared because the table is not there whose rows are the locks of streams."""
    return name in catalogue.of_streams() and enrichment_status.projection.name in trouble


def _wanted(names: Sequence[str]) -> list[str]:
    """These projections, each once, or without any name all. Raises `UnknownProjection`."""
    for name in names:
        if name not in catalogue.names():
            raise UnknownProjection(name=name, known=", ".join(catalogue.names()))
    return list(dict.fromkeys(names or catalogue.names()))


def _find_abandoned(database: Database, *, quiet: bool) -> Abandoned:
    with _counting(database, "Attempts", quiet=quiet) as progress:
        return find_abandoned(database, progress)


def _reconcile(database: Database, names: Sequence[str], options: Options, *, quiet: bool) -> list[Drift]:
    drifts = []
    for one in passes(database, names, options):
        position = head(database).position
        with _counting(database, ", ".join(one.names), quiet=quiet) as progress:
            found = one.run(progress)
        for drift in found:
            note_drift(database, drift, position, options)
        drifts += found
    return drifts


def _counting(database: Database, what: str, *, quiet: bool) -> AbstractContextManager[Callable[[int], None]]:
    """A bar over all events that the log holds by now."""
    return terminal.counting(what, head(database).position, quiet=quiet)


def _read_anchor(text: str) -> Anchor:
    if not _ANCHOR.fullmatch(text.lower()):
        raise UsageError(reason=f"{text!r} is no anchor: it is POSITION:HASH as verify prints it.")
    position, _, digest = text.lower().partition(":")
    return Anchor(int(position), digest)
