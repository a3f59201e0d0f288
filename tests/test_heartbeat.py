"""The heartbeat of a worker: its row says every ten seconds how it is, and at once when it becomes ready or unready."""

from datetime import timedelta
from typing import Any

import pytest

from enrichlog.heartbeat import Heartbeat
from enrichlog.workers import list_workers, register
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from tests.builders import NOON, StoppedClock
from tests.service import worker


class Beating:
    """A worker that is registered, with its heartbeat; its steady clock is the database's."""

    def __init__(self, database: Database, clock: StoppedClock) -> None:
        self._database, self._clock = database, clock
        self.lost: list[str] = []
        since = register(database, worker()).since
        self._heartbeat = Heartbeat(database, worker(), since, self.lost.append, lambda: clock.now.timestamp())

    def seen(self, state: str, in_flight: int = 0, after: float = 1) -> tuple[str, int, timedelta]:
        """What the row says, and since when, after a look so many seconds later."""
        self._clock.advance(seconds=after)
        self.look(state, in_flight)
        (row,) = self.rows().values()
        return row.state, row.in_flight, self._clock.now - row.last_seen

    def look(self, state: str, in_flight: int = 0) -> None:
        self._heartbeat.look(state, in_flight)

    def rows(self) -> dict[str, Any]:
        return {one.row.name: one.row for one in list_workers(self._database)}


@pytest.fixture
def beating(timed: Database, clock: StoppedClock) -> Beating:
    return Beating(timed, clock)


def test_the_row_is_written_every_ten_seconds_and_not_at_each_look(beating: Beating) -> None:
    now = timedelta()
    assert beating.seen("working", 3) == ("working", 3, now)
    assert beating.seen("working", 5, after=9) == ("working", 3, timedelta(seconds=9))
    assert beating.seen("idle", 0, after=1) == ("idle", 0, now)


def test_the_row_is_written_at_once_when_a_worker_becomes_ready_or_unready(beating: Beating) -> None:
    assert beating.seen("working")[0] == "working"
    assert beating.seen("away")[0] == "away"
    assert beating.seen("waiting")[0] == "waiting"
    assert beating.seen("idle")[0] == "waiting"  # as ready as before
    assert beating.seen("draining")[0] == "draining"


def test_a_database_that_is_away_is_borne_and_the_next_beat_is_tried_as_usual(
    beating: Beating, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise DatabaseUnavailable(where="here", reason="it is gone")

    beating.seen("working")
    with monkeypatch.context() as patch:
        patch.setattr("enrichlog.heartbeat.beat", away)
        assert beating.seen("working", after=10)[2] == timedelta(seconds=10)
    assert beating.seen("working", after=10)[2] == timedelta()
    assert beating.lost == []


def test_a_worker_learns_that_another_machine_has_taken_its_name(
    beating: Beating, timed: Database, clock: StoppedClock
) -> None:
    beating.seen("working")
    clock.advance(seconds=61)
    register(timed, worker(host="another", place="place-2"))
    beating.look("working")
    (why,) = beating.lost
    assert why.startswith("A worker host-worker-1 is alive on another, last seen 2024-01-01 12:01:02 UTC.")
    assert beating.rows()["host-worker-1"].host == "another"


def test_a_row_that_was_removed_meanwhile_is_written_again_with_its_beginning(
    beating: Beating, timed: Database, clock: StoppedClock
) -> None:
    beating.seen("working")
    clock.advance(days=8)
    register(timed, worker("another"))  # which removes the rows of those that nobody has seen for days
    assert beating.rows().keys() == {"another"}
    beating.look("idle")
    assert beating.rows()["host-worker-1"].since == NOON
