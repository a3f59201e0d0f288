"""The recorder: what concurrent producers submit is committed together, and each gets its own answer."""

import math
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event

import eventlog.recorder
from eventlog.database import Database
from eventlog.errors import Conflict, DatabaseRefused, DatabaseUnavailable, NotAppended
from eventlog.events import EnrichmentDismissed
from eventlog.log import Appended, Proposal, Streams, append, read_log
from eventlog.recorder import Recorder
from projections.inline import InlineReadModels
from tests.builders import BOUND, failed, proposal, requested, run, started, succeeded, tell, wait_for_a_waiter

pytestmark = pytest.mark.pooled


@pytest.fixture
def recorder(database: Database) -> Recorder:
    """Not running yet: what is submitted before `with recorder` is one batch."""
    return Recorder(database, InlineReadModels(database))


def streams(database: Database) -> list[str]:
    return [recorded.stream_id for page in read_log(database) for recorded in page]


def requests(count: int) -> list[Proposal]:
    return [proposal(f"job-{n}", requested()) for n in range(count)]


def count_commits(database: Database) -> list[object]:
    commits: list[object] = []
    event.listen(database.engine, "commit", commits.append)
    return commits


def test_each_of_many_producers_gets_the_acknowledgement_of_its_own_event(
    database: Database, recorder: Recorder
) -> None:
    def produce(producer: int) -> list[tuple[str, int, Appended]]:
        names = [f"job-{producer}-{n}" for n in range(5)]
        wanted = [(name, version) for name in names for version in (1, 2)]
        events = [requested() if version == 1 else started() for _, version in wanted]
        return [
            (name, version, recorder.append(proposal(name, told)))
            for (name, version), told in zip(wanted, events, strict=True)
        ]

    with recorder, ThreadPoolExecutor(32) as threads:
        answers = [answer for each in threads.map(produce, range(32), timeout=BOUND) for answer in each]
    assert all((got.stream_id, got.version) == (name, version) for name, version, got in answers)
    stored = {recorded.position: recorded for page in read_log(database) for recorded in page}
    assert sorted(stored) == sorted(got.position for *_, got in answers) == list(range(1, 321))
    assert all(stored[got.position].stream_id == name for name, _, got in answers)


def test_what_waits_together_is_committed_together(database: Database, recorder: Recorder) -> None:
    waiting = [recorder.submit(one) for one in requests(500)]
    commits = count_commits(database)
    with recorder:
        assert [future.result(BOUND).position for future in waiting] == list(range(1, 501))
    assert len(commits) == 1


def test_no_more_than_a_batch_is_committed_together(
    database: Database, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eventlog.recorder, "BATCH", 10)
    waiting = [recorder.submit(one) for one in requests(25)]
    commits = count_commits(database)
    with recorder:
        assert [future.result(BOUND).position for future in waiting] == list(range(1, 26))
    assert len(commits) == 3


def test_a_conflict_reaches_only_its_own_producer(database: Database, recorder: Recorder) -> None:
    tell(database, "job-1", requested())
    waiting = [recorder.submit(one) for one in requests(3)]
    commits = count_commits(database)
    with recorder:
        assert isinstance(waiting[1].exception(BOUND), Conflict)
        assert [waiting[n].result(BOUND).stream_id for n in (0, 2)] == ["job-0", "job-2"]
    assert len(commits) == 1  # one transaction, in which the conflict wrote nothing


def test_a_refusal_by_the_database_reaches_only_its_own_producer(database: Database, recorder: Recorder) -> None:
    tell(database, "job-3", requested(), started())
    run(database, "UPDATE {ours}enrichment_status SET version = 1, state = 'pending', attempts = 0")  # tampered with
    waiting = [recorder.submit(one) for one in [*requests(3), proposal("job-3", started()), *requests(6)[4:]]]
    with recorder:
        refused = waiting.pop(3).exception(BOUND)
        assert [future.result(BOUND).version for future in waiting] == [1] * 5
    assert isinstance(refused, DatabaseRefused)
    assert "version" in str(refused)
    assert streams(database) == ["job-3", "job-3", "job-0", "job-1", "job-2", "job-4", "job-5"]


@pytest.mark.parametrize("company", [0, 3])
def test_an_event_that_another_process_appends_at_the_same_time_is_recognised(
    postgresql: Database, company: int
) -> None:
    other, rollbacks = Database(postgresql.url), list[object]()
    event.listen(postgresql.engine, "rollback", rollbacks.append)
    recorder = Recorder(postgresql, InlineReadModels(postgresql))
    same = recorder.submit(proposal("job-b", requested(), event_id="same"))
    waiting = [recorder.submit(one) for one in requests(company)]
    with ExitStack() as running:
        with other.write() as connection:
            append(connection, other.dialect, [proposal("job-a", requested(), event_id="same")])
            running.enter_context(recorder)
            wait_for_a_waiter(postgresql)  # looked for before the other one is committed, inserted after
        assert same.result(BOUND).stream_id == "job-a"
        assert [future.result(BOUND).version for future in waiting] == [1] * company
    other.close()
    assert len(rollbacks) == 1  # the UNIQUE constraint fired: the control


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"deeper": value}
    return value


class _Defect(EnrichmentDismissed):
    """An event that cannot be written down, by a defect of our own."""

    def payload(self, occurred_at: object) -> Any:
        raise ZeroDivisionError


@pytest.mark.parametrize("place", [0, 3])
def test_a_defect_in_one_event_reaches_only_its_own_producer(
    database: Database, recorder: Recorder, place: int
) -> None:
    tell(database, "job-9", requested())
    offered = requests(3)
    offered.insert(place, proposal("job-9", _Defect(actor="tests")))
    waiting = [recorder.submit(one) for one in offered]
    defective = waiting.pop(place)
    with recorder:
        assert isinstance(defective.exception(BOUND), ZeroDivisionError)
        assert [future.result(BOUND).version for future in waiting] == [1] * 3


def test_a_result_nested_beyond_reason_is_refused_alone(database: Database, recorder: Recorder) -> None:
    for name in ("job-0", "job-1"):
        tell(database, name, requested(), started())
    deep = recorder.submit(proposal("job-0", succeeded(result=nested(400))))
    flat = recorder.submit(proposal("job-1", succeeded()))
    with recorder:
        assert isinstance(deep.exception(BOUND), NotAppended)
        assert flat.result(BOUND).version == 3


def test_a_producer_that_no_longer_waits_does_not_stop_the_others(database: Database, recorder: Recorder) -> None:
    first, given_up, last = (recorder.submit(one) for one in requests(3))
    assert given_up.cancel()
    with recorder:
        assert first.result(BOUND)
        assert last.result(BOUND)
        assert recorder.submit(proposal("job-later", requested())).result(BOUND)
    assert set(streams(database)) >= {"job-0", "job-2", "job-later"}


def test_leaving_the_recorder_waits_for_all_that_was_submitted(database: Database, recorder: Recorder) -> None:
    with recorder:
        waiting = [recorder.submit(one) for one in requests(300)]
    assert all(future.done() for future in waiting)
    assert len(streams(database)) == 300


class _Gate(InlineReadModels):
    """Read models that stop the recorder inside its first transaction, until the test lets it go on."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.inside, self.go_on = threading.Event(), threading.Event()

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> Any:
        held: Streams = super().hold(connection, proposals)
        self.inside.set()
        assert self.go_on.wait(BOUND)
        return held


def test_what_was_under_way_when_the_connections_were_cut_is_written_once(postgresql: Database) -> None:
    gate = _Gate(postgresql)
    with Recorder(postgresql, gate) as recorder:
        waiting = [recorder.submit(one) for one in requests(20)]
        assert gate.inside.wait(BOUND)
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        assert run(postgresql, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")
        gate.go_on.set()
        assert [future.result(BOUND).version for future in waiting] == [1] * 20
    assert sorted(streams(postgresql)) == sorted(f"job-{n}" for n in range(20))


class _LosesOneAnswer(Database):
    """A database whose connection breaks right after it has committed, once."""

    lost = 0

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with super().write() as connection:
            yield connection
        self.lost += 1
        if self.lost == 1:
            raise DatabaseUnavailable(where=self.dialect.where(), reason="the connection broke")


def test_what_was_committed_before_the_connection_broke_is_recognised(database: Database) -> None:
    losing = _LosesOneAnswer(database.url)
    recorder = Recorder(losing, InlineReadModels(losing))
    waiting = [
        recorder.submit(one) for one in [*requests(5), proposal("job-0", started()), proposal("job-0", failed())]
    ]
    with recorder:
        positions = [future.result(BOUND).position for future in waiting]
    losing.close()
    assert (losing.lost, positions) == (2, list(range(1, 8)))
    assert len(streams(database)) == 7


class _Away(Database):
    """A database that cannot be reached, and counts who tries."""

    tried = 0

    def write(self) -> Any:
        self.tried += 1
        raise DatabaseUnavailable(where="nowhere", reason="connection refused")


def test_a_database_that_stays_away_is_reported_to_all_after_one_patience(database: Database) -> None:
    away = _Away(database.url)
    recorder = Recorder(away, patience=0.0)
    waiting: list[Future[Appended]] = [recorder.submit(one) for one in requests(50)]
    with recorder:
        assert {type(future.exception(BOUND)) for future in waiting} == {DatabaseUnavailable}
    assert away.tried == 1  # not one patience for each of the fifty


class _Hours:
    """A clock that only waiting moves on."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


class _RefusesOnce(_Away):
    """A database that is away, comes back to refuse a batch, and stays away."""

    def __init__(self, url: str, back_at: int) -> None:
        super().__init__(url)
        self.back_at = back_at

    def write(self) -> Any:
        if self.tried == self.back_at:
            self.tried += 1
            raise DatabaseRefused(where="nowhere", reason="one of them")
        return super().write()


@pytest.mark.parametrize("back_at", [0, 5, 12])
def test_a_batch_that_is_tried_one_by_one_has_no_other_patience(
    database: Database, monkeypatch: pytest.MonkeyPatch, back_at: int
) -> None:
    hours = _Hours()
    monkeypatch.setattr(eventlog.recorder, "time", hours)
    monkeypatch.setattr(Recorder, "_wait", lambda _, seconds: hours.wait(seconds))
    away = _RefusesOnce(database.url, back_at)
    recorder = Recorder(away, patience=60.0)
    waiting = [recorder.submit(one) for one in requests(50)]
    with recorder:
        assert {type(future.exception(BOUND)) for future in waiting} == {DatabaseUnavailable}
    assert 50.0 < hours.now <= 60.0
    assert away.tried < 50  # and once it has run out the rest are not tried


class _HurriesItself(_Away):
    """A database that is away; the one that is to record there is told to hurry at some try."""

    recorder: Recorder
    hours: _Hours
    hurried_at = 0.0

    def write(self) -> Any:
        if self.tried == 30:
            self.hurried_at = self.hours.now
            self.recorder.hurry(7.0)
            self.recorder.hurry(70.0)  # no longer than it was told first
        return super().write()


@pytest.mark.parametrize("patience", [math.inf, 200.0])
def test_who_is_to_hurry_bears_a_database_that_is_away_for_so_long_from_then_on(
    database: Database, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    hours = _Hours()
    monkeypatch.setattr(eventlog.recorder, "time", hours)
    monkeypatch.setattr(Recorder, "_wait", lambda _, seconds: hours.wait(seconds))
    away = _HurriesItself(database.url)
    away.hours = hours
    away.recorder = Recorder(away, patience=patience)
    waiting = [away.recorder.submit(one) for one in requests(3)]
    with away.recorder:
        assert {type(future.exception(BOUND)) for future in waiting} == {DatabaseUnavailable}
    assert away.hurried_at > 60.0
    assert hours.now == pytest.approx(away.hurried_at + 7.0)


def test_what_is_submitted_after_the_recorder_has_ended_is_refused(recorder: Recorder) -> None:
    with recorder:
        pass
    with pytest.raises(NotAppended, match="the recorder has ended"):
        recorder.submit(proposal("job-1", requested()))
