"""Followers that are killed where it matters, and one that moves its checkpoint by itself, for a control."""

import os
import signal
from itertools import count
from typing import Any
from unittest.mock import patch

from eventlog.database import Database
from projections import following
from projections.enrichment_stats_hourly import projection


def kill(point: str) -> None:
    """Follow, and have this process killed: at the second page once the rows are stored, or after the first commit."""
    move, apply, times = following.move, following._apply, count(1)

    def moving(*arguments: Any) -> None:
        if next(times) == 2:
            die()
        move(*arguments)

    def applying(*arguments: Any) -> None:
        apply(*arguments)
        die()

    follow(**{"rows-stored": {"move": moving}, "committed": {"_apply": applying}}[point])


def commit_twice() -> None:
    """Follow the obvious way, in which rows are committed first and the checkpoint then, and be killed between."""

    def moving(connection: Any, *_: Any) -> None:
        connection.commit()
        die()

    follow(move=moving)


def follow(**changed: Any) -> None:
    with patch.multiple(following, PAGE=5, **changed):
        following.catch_up(Database(os.environ["DATABASE_URL"]), projection)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
