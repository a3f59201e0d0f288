"""Rebuild and verify of projections that move with each append and span streams: compared under the log lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eventlog.database import Database
from eventlog.known_types import require_known
from projections import spanning
from projections.drift import Drift
from projections.spanning import Key, SpanningProjection, page_of
from projections.spanning_rows import fold_into, live_rows, make_equal, note_drift, with_keys


def reconcile_spanning(
    database: Database, projection: SpanningProjection[Any], *, write: bool,
    progress: Callable[[int], None] = lambda events: None,
) -> Drift:  # fmt: skip
    """Compare the rows with the log, and with `write` make them equal.

    The log is folded in pages; its tail, and the comparison, under the log lock: nothing can be appended meanwhile.
    Raises `UnknownEventType` and `Unfoldable`; then nothing is written.
    """
    states: dict[Key, Any] = {}
    drift, after = Drift(projection.name), 0
    while True:
        with database.read() as connection:
            page, last = page_of(connection, projection.types, after)
        told = with_keys(projection, page)
        fold_into(projection, states, told)
        drift.events += len(told)
        progress(last - after)
        if len(page) < spanning.PAGE:
            break
        after = last
    with database.write() as connection:
        database.dialect.lock_log(connection)
        require_known(connection)
        while page := page_of(connection, projection.types, last)[0]:
            told = with_keys(projection, page)
            fold_into(projection, states, told)
            drift.events += len(told)
            last = page[-1].position
        live = live_rows(connection, projection)
        drift.streams = len(states)
        note_drift(projection, states, live, drift)
        if write:
            drift.written += make_equal(connection, database.dialect, projection, states, live)
    return drift
