"""Any projections by name, made equal to the log or compared with it: those of streams in one pass over the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

from eventlog.database import Database
from projections.catalogue import following, of_streams, spanning
from projections.catalogue import names as all_names
from projections.drift import Drift
from projections.projection import Projection
from projections.reconcile import Gone, Walk, none_gone, nothing
from projections.reconcile_following import reconcile_following
from projections.reconcile_spanning import reconcile_spanning
from projections.shares import reconcile_in_processes
from projections.unfinished import forget_all, go_on

Progress = Callable[[int], None]


class Pass(NamedTuple):
    """One pass over the log: the projections it is for, and what to call with a progress to have it done."""

    names: tuple[str, ...]
    run: Callable[[Progress], list[Drift]]


class Options(NamedTuple):
    """What a rebuild, or without `write` a check, is to do.

    Columns of users' rows that somebody has corrected by hand are written only if it `overwrites` them. With several
    `jobs` so many processes share a pass over streams. `begins_anew`: not to go on where a run was stopped. The log was
    `proved` up to a position.
    """

    write: bool
    overwrites: bool = False
    jobs: int = 1
    begins_anew: bool = False
    gone: Gone = none_gone
    proved: int = 0


def passes(database: Database, names: Sequence[str], options: Options) -> Iterator[Pass]:
    """The passes that these projections, or without any all, take. Raises `KeyError` for a name that is none."""
    wanted = names or all_names()
    known = of_streams(database.adopted)
    streams = [known[name] for name in wanted if name in known]
    if streams:
        yield Pass(tuple(one.name for one in streams), partial(_reconcile_streams, database, streams, options))
    for name in wanted:
        if name not in known:
            yield Pass((name,), partial(_reconcile_spanning, database, name, options))


def reconcile_named(database: Database, names: Sequence[str] = (), *, write: bool, **options: Any) -> list[Drift]:
    """Compare these projections, or without any name all, with the log, and with `write` make their rows equal."""
    told = Options(write, **options)
    return [drift for one in passes(database, names, told) for drift in one.run(nothing)]


def _reconcile_spanning(database: Database, name: str, options: Options, progress: Progress) -> list[Drift]:
    if name in following():
        one, proved = following()[name], options.proved
        return [reconcile_following(database, one, write=options.write, proved=proved, progress=progress)]
    return [reconcile_spanning(database, spanning()[name], write=options.write, progress=progress)]


def _reconcile_streams(
    database: Database, projections: Sequence[Projection[Any]], options: Options, progress: Progress
) -> list[Drift]:
    walk = Walk(options.write, options.overwrites, gone=options.gone, progress=progress)
    if options.jobs > 1:
        drifts = reconcile_in_processes(database, projections, walk, options.jobs, begins_anew=options.begins_anew)
    else:
        drifts = go_on(database, projections, walk, begins_anew=options.begins_anew)
    if options.write:
        forget_all(database)
    return drifts
