"""Beside its work a worker has the statistics follow the log: now and then, for a twentieth of its time at the most."""

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from enrichlog import keeping_up
from enrichlog.keeping_up import KeepingUp
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from projections import following
from projections.enrichment_stats_hourly import projection
from projections.following import standing
from tests.builders import StoppedClock
from tests.test_following import end_more


@pytest.fixture
def keeping(database: Database, clock: StoppedClock) -> KeepingUp:
    return KeepingUp(database, lambda: clock.now.timestamp())


def after(seconds: float, keeping: KeepingUp, clock: StoppedClock, database: Database) -> int:
    """How many events are behind after a look so much later."""
    clock.advance(seconds=seconds)
    keeping.look()
    return standing(database, projection).behind


def instead(patch: pytest.MonkeyPatch, catch_up: Callable[..., Any]) -> None:
    patch.setattr(keeping_up, "catch_up", catch_up)


def test_the_log_is_followed_every_half_minute_and_not_at_each_look(
    keeping: KeepingUp, clock: StoppedClock, database: Database
) -> None:
    end_more(database, 1)
    assert after(0, keeping, clock, database) == 0
    end_more(database, 1)
    assert after(29, keeping, clock, database) == 3
    assert after(1, keeping, clock, database) == 0


def test_while_much_is_left_a_look_is_followed_by_nineteen_times_its_own_length_of_rest(
    keeping: KeepingUp, clock: StoppedClock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(*arguments: Any, pages: int) -> bool:
        clock.advance(seconds=0.1)
        return following.catch_up(*arguments, pages=1)

    monkeypatch.setattr(following, "PAGE", 3)
    instead(monkeypatch, slowly)
    end_more(database, 4)
    assert after(0, keeping, clock, database) == 9
    assert after(1.8, keeping, clock, database) == 9
    assert after(0.15, keeping, clock, database) == 6


def test_what_it_takes_a_person_to_mend_is_told_once_and_the_worker_goes_on(
    keeping: KeepingUp, clock: StoppedClock, database: Database, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    end_more(database, 1)
    changed = {projection.name: replace(projection, version=2)}
    assert after(0, keeping, clock, database) == 0
    end_more(database, 1)
    monkeypatch.setattr(keeping_up, "following", lambda: changed)
    assert [after(30, keeping, clock, database) for _ in range(2)] == [3, 3]
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warning.endswith(f"enrichlog rebuild {projection.name}")


def test_a_database_that_is_away_is_asked_again_half_a_minute_later(
    keeping: KeepingUp, clock: StoppedClock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> bool:
        raise DatabaseUnavailable(where="there", reason="it is away")

    end_more(database, 1)
    with monkeypatch.context() as patch:
        instead(patch, away)
        assert after(0, keeping, clock, database) == 3
    assert after(29, keeping, clock, database) == 3
    assert after(1, keeping, clock, database) == 0
