"""Recording while the database is away for a while, and whether all that was acknowledged is there, once."""

import logging
import queue
from collections.abc import Callable
from logging.handlers import QueueHandler
from typing import Any
from unittest.mock import patch

import eventlog.recorder
from eventlog.database import Database
from eventlog.integrity import verify_log
from eventlog.log import Appended
from eventlog.recorder import Recorder
from projections.inline import InlineReadModels
from tests.builders import BOUND, follow, proposal, requested
from tests.drift import drift_of

BEFORE, MEANWHILE = 20, 500
"""How many events are recorded while the database is there, and how many more are offered while it is away."""


def record_while_away(
    database: Database, leave: Callable[[], Any], come_back: Callable[[], Any]
) -> tuple[list[Appended], str]:
    """Record while the database is away, until that is told: the acknowledgements, and what was told."""
    told: queue.SimpleQueue[logging.LogRecord] = queue.SimpleQueue()
    listening, logger = QueueHandler(told), logging.getLogger("eventlog.recorder")
    logger.addHandler(listening)
    with (
        patch.object(eventlog.recorder, "LONGEST_PAUSE_SECONDS", 0.1),
        Recorder(database, InlineReadModels(database)) as recorder,
    ):
        acknowledged = [recorder.append(proposal(f"job-{number}", requested())) for number in range(BEFORE)]
        leave()
        waiting = [recorder.submit(proposal(f"job-later-{number}", requested())) for number in range(MEANWHILE)]
        message = told.get(timeout=BOUND).getMessage()
        come_back()
        acknowledged += [future.result(BOUND) for future in waiting]
    logger.removeHandler(listening)
    return acknowledged, message


def check_that_all_is_there_once(database: Database, acknowledged: int) -> None:
    assert follow(database) == list(range(1, acknowledged + 1)) == list(range(1, BEFORE + MEANWHILE + 1))
    assert verify_log(database).faults == []
    assert drift_of(database) == 0
