"""A reconciliation in several processes: each takes the streams of its share of the parts, and waits for nobody."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection as Pipe
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any, NamedTuple

from eventlog.database import Database
from eventlog.errors import EnrichlogError, ProcessDied
from projections.catalogue import of_streams
from projections.drift import Drift
from projections.pages import Share
from projections.projection import Projection
from projections.reconcile import Gone, Walk
from projections.unfinished import go_on


class _Task(NamedTuple):
    """What one of the processes is told: nothing in it is of the process that tells it."""

    url: str
    schema: str | None
    names: tuple[str, ...]
    write: bool
    overwrites: bool
    share: Share
    gone: Gone
    begins_anew: bool


def reconcile_in_processes(
    database: Database, projections: Sequence[Projection[Any]], walk: Walk, jobs: int, *, begins_anew: bool
) -> list[Drift]:
    """Do a walk over all streams in so many processes. Raises what any of them raises, and stops the others."""
    names = tuple(one.name for one in projections)
    task = partial(_Task, database.url, database.dialect.schema, names, walk.write, walk.overwrites, gone=walk.gone)
    tasks = [task(Share(number, jobs), begins_anew=begins_anew) for number in range(jobs)]
    drifts, context = [Drift(name) for name in names], multiprocessing.get_context("spawn")
    started = [_start(context, one) for one in tasks]
    try:
        for found in _listen([pipe for _, pipe in started], walk.progress):
            for drift, more in zip(drifts, found, strict=True):
                drift.add(more)
    finally:
        for process, pipe in started:
            process.terminate()
            process.join()
            pipe.close()
    return drifts


def _start(context: SpawnContext, task: _Task) -> tuple[SpawnProcess, Pipe]:
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(task, theirs), daemon=True)
    process.start()
    theirs.close()  # ours of it: the pipe ends when that process does
    return process, mine


def _listen(pipes: list[Pipe], progress: Callable[[int], None]) -> Iterator[list[Drift]]:
    """What each process has found, as they end."""
    left = list(pipes)
    while left:
        ready = wait(left)
        for pipe in [one for one in left if one in ready]:
            try:
                told = pipe.recv()
            except EOFError:
                raise ProcessDied() from None
            if isinstance(told, int):
                progress(told)
                continue
            if isinstance(told, Exception):
                raise told
            yield told
            left.remove(pipe)


def _work(task: _Task, pipe: Pipe) -> None:
    """One of the processes, from its beginning to its end: it tells how far it is, and last what it has found."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the other process that is interrupted, and ends this one
    database = Database(task.url, task.schema or "enrichlog")
    walk = Walk(task.write, task.overwrites, share=task.share, gone=task.gone, progress=pipe.send)
    try:
        pipe.send(go_on(database, [of_streams()[name] for name in task.names], walk, begins_anew=task.begins_anew))
    except EnrichlogError as error:
        pipe.send(error)
    except BrokenPipeError:
        return  # whoever wanted to know has gone
    finally:
        database.close()
