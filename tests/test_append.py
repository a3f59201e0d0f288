"""Appending: positions and versions without gaps, each event once, each conflict to its own caller."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from eventlog.database import Database
from eventlog.errors import Conflict, DatabaseRefused, NotAppended
from eventlog.events import BatchCancelled, Event
from eventlog.log import Appended, Decided, LogAlone, Proposal, Recorded, append, head_position, read_log, read_stream
from tests.builders import (
    BOUND,
    NOON,
    StoppedClock,
    appended,
    failed,
    offer,
    proposal,
    requested,
    run,
    started,
    succeeded,
    tell,
)

pytestmark = pytest.mark.pooled

CANCELLED = BatchCancelled(batch="1", actor="tests")


def positions(database: Database) -> list[int]:
    return [recorded.position for page in read_log(database) for recorded in page]


def test_positions_count_the_log_and_versions_count_each_stream(database: Database) -> None:
    tell(database, "job-a", requested(), started())
    outcomes = appended(
        offer(
            database,
            proposal("job-b", requested()),
            proposal("job-a", failed()),
            proposal("$batch-1", CANCELLED),
            proposal("job-b", started()),
        )
    )
    assert [(one.stream_id, one.version) for one in outcomes] == [
        ("job-b", 1), ("job-a", 3), ("$batch-1", 1), ("job-b", 2)
    ]  # fmt: skip
    assert positions(database) == [1, 2, 3, 4, 5, 6]
    assert sorted(one.position for one in outcomes) == [3, 4, 5, 6]
    assert [one.version for one in read_stream(database, "job-a")] == [1, 2, 3]


def test_an_acknowledgement_says_what_the_log_holds(database: Database) -> None:
    (acknowledged,) = appended(tell(database, "job-a", requested()))
    (recorded,) = read_stream(database, "job-a")
    assert acknowledged == Appended("job-a", recorded.position, recorded.version, recorded.type, recorded.recorded_at)
    assert recorded.recorded_at.utcoffset() == timedelta(0)


def test_what_is_read_is_what_was_offered(database: Database) -> None:
    result = {"title": "Größer \ud83d\ude00 als\0", "count": 2**70, "share": 0.25, "list": [None, True]}
    tell(database, "job-a", requested(), started(), succeeded(result=result))
    stored = read_stream(database, "job-a")[-1]
    expected = {"title": "Größer \U0001f600 als\ufffd", "count": str(2**70), "share": 0.25, "list": [None, True]}
    assert stored.content == {"result": expected}
    assert stored.facts["attempt_id"] == "attempt-1"


def test_an_event_offered_again_is_acknowledged_and_not_stored_again(database: Database) -> None:
    offered = proposal("job-a", requested())
    first = offer(database, offered)
    assert offer(database, offered) == first
    assert offer(database, proposal("job-b", requested()), offered)[1] == first[0]
    assert positions(database) == [1, 2]


def test_an_event_offered_twice_in_one_batch_is_stored_once(database: Database) -> None:
    offered = proposal("job-a", requested())
    first, again, other = appended(offer(database, offered, offered, proposal("job-b", requested())))
    assert first == again
    assert [first.position, other.position] == [1, 2]


def test_an_event_offered_again_after_its_stream_moved_on_is_no_conflict(database: Database) -> None:
    offered = proposal("job-a", requested(), expected_version=0)
    first = offer(database, offered)
    tell(database, "job-a", started())
    assert offer(database, offered) == first


@pytest.mark.parametrize("stream_id", ["job-a", "$batch-a"])
def test_the_expected_version_must_be_the_streams(database: Database, stream_id: str) -> None:
    def expecting(version: int) -> object:
        event = requested("changed") if stream_id == "job-a" else CANCELLED
        return offer(database, proposal(stream_id, event, expected_version=version))[0]

    assert isinstance(expecting(0), Appended)
    stale = expecting(0)
    assert isinstance(stale, Conflict)
    assert str(stale) == f"The stream {stream_id} has moved on: it is at version 1, expected 0."
    assert isinstance(expecting(2), Conflict)
    assert isinstance(expecting(1), Appended)


def test_a_version_is_expected_behind_what_the_same_batch_appends(database: Database) -> None:
    first = proposal("job-a", requested(), expected_version=0)
    second = proposal("job-a", started(), expected_version=1)
    stale = proposal("job-a", failed(), expected_version=1)
    outcomes = offer(database, first, second, stale)
    assert [type(outcome) for outcome in outcomes] == [Appended, Appended, Conflict]


def test_a_conflict_is_a_value_and_the_rest_of_the_batch_is_appended(database: Database) -> None:
    tell(database, "job-a", requested())
    batch = [proposal(f"job-{letter}", requested()) for letter in "xay"]
    outcomes = offer(database, *batch)
    assert [type(outcome) for outcome in outcomes] == [Appended, Conflict, Appended]
    assert positions(database) == [1, 2, 3]


class _WithFloat(Event):
    share: float


def test_a_float_among_the_facts_is_refused_and_nothing_is_written(database: Database) -> None:
    with pytest.raises(NotAppended, match="share is a float"):
        offer(database, proposal("job-a", requested()), proposal("job-a", _WithFloat(share=0.5)))
    assert positions(database) == []


def test_a_transaction_that_fails_later_leaves_nothing_behind(database: Database) -> None:
    def append_and_fail() -> None:
        with database.write() as connection:
            append(connection, database.dialect, [proposal("job-a", requested())], LogAlone())
            connection.execute(text("SELECT no_such_function()"))

    with pytest.raises(DatabaseRefused):
        append_and_fail()
    assert positions(database) == []
    assert appended(tell(database, "job-a", requested()))[0].position == 1


class _Watched:
    """A dialect, or streams, that note the verbs called on them in one list, and else do what they did before."""

    def __init__(self, watched: Any, verbs: list[str], names: Sequence[str]) -> None:
        self._watched, self._verbs, self._names = watched, verbs, names

    def __contains__(self, stream_id: str) -> bool:
        return not stream_id.startswith("$")

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._watched, name)
        return self._noted(name, found) if name in self._names else found

    def _noted(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any) -> Any:
            self._verbs.append(name)
            return call(*arguments)

        return noted


class _Streams:
    """Held streams that hold nothing."""

    def version(self, stream_id: str) -> int:
        return 0

    def decide(self, stream_id: str, event: Event) -> Event:
        return event

    def fold(self, decided: Decided) -> None: ...

    def write(self, connection: Connection) -> None: ...

    def settle(self, connection: Connection, recorded: Sequence[Recorded]) -> None: ...


class _Inline:
    def __init__(self, verbs: list[str]) -> None:
        self._verbs = verbs

    def hold(self, connection: Connection, proposals: Sequence[Proposal]) -> Any:
        self._verbs.append("hold")
        return _Watched(_Streams(), self._verbs, ("version", "decide", "fold", "write", "settle"))


def test_an_append_goes_through_its_verbs_in_this_order(database: Database) -> None:
    verbs: list[str] = []
    dialect: Any = _Watched(database.dialect, verbs, ("lock_log", "insert_events"))
    event.listen(database.engine, "before_cursor_execute", lambda *call: _note_reads(verbs, call[2]))
    batch = [proposal("$batch-1", CANCELLED), proposal("job-a", requested())]
    with database.write() as connection:
        append(connection, dialect, batch, _Inline(verbs))
    assert [verb for verb in verbs if verb != "version"] == [
        "hold", "known?", "decide", "fold", "write",
        "lock_log", "versions?", "known?", "insert_events", "settle",
    ]  # fmt: skip


def _note_reads(verbs: list[str], statement: str) -> None:
    if "max(" in statement:
        verbs.append("versions?")
    elif ".event_id IN" in statement or ".event_id = ANY" in statement:
        verbs.append("known?")


def test_an_operators_stream_takes_appends_of_many_at_once_one_behind_the_other(database: Database) -> None:
    def cancel(number: int) -> int:
        (outcome,) = appended(offer(database, proposal("$batch-1", CANCELLED)))
        return outcome.version

    with ThreadPoolExecutor(4) as threads:
        versions = list(threads.map(cancel, range(12), timeout=BOUND))
    assert sorted(versions) == list(range(1, 13))


def test_a_transaction_that_began_earlier_does_not_record_an_earlier_time(postgresql: Database) -> None:
    with postgresql.write() as early:
        began = early.execute(text("SELECT now()")).scalar_one()
        (other,) = appended(offer(postgresql, proposal("job-a", requested())))
        (mine,) = appended(append(early, postgresql.dialect, [proposal("job-b", requested())], LogAlone()))
        assert early.execute(text("SELECT now()")).scalar_one() == began  # the obvious clock: the control
    assert began < other.recorded_at  # it would have run backwards from position 1 to position 2
    assert (other.position, mine.position) == (1, 2)
    assert other.recorded_at < mine.recorded_at


def test_times_are_those_of_the_databases_clock_and_never_run_backwards(database: Database) -> None:
    def append_ten(worker: int) -> None:
        for number in range(10):
            offer(database, proposal(f"job-{worker}-{number}", requested()))

    before = datetime.now(UTC)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(append_ten, range(4), timeout=BOUND))
    log = [recorded for page in read_log(database) for recorded in page]
    times = [recorded.recorded_at for recorded in log]
    assert times == sorted(times)
    assert all(abs(time - before) < timedelta(minutes=5) for time in times)
    assert all(datetime.fromisoformat(one.facts["occurred_at"]) <= one.recorded_at for one in log)


def test_an_event_happened_when_it_is_appended_unless_it_says_when(timed: Database, clock: StoppedClock) -> None:
    tell(timed, "job-a", requested(occurred_at=NOON - timedelta(days=400)))
    clock.advance(hours=1)
    tell(timed, "job-a", started())
    imported, live = read_stream(timed, "job-a")
    assert (imported.facts["occurred_at"], imported.recorded_at) == ("2022-11-27T12:00:00.000000Z", NOON)
    assert (live.facts["occurred_at"], live.recorded_at) == ("2024-01-01T13:00:00.000000Z", clock.now)


def test_the_head_is_the_position_of_the_newest_event(database: Database) -> None:
    for expected in (0, 1):
        with database.read() as connection:
            assert head_position(connection) == expected
        tell(database, "job-a", requested())


def test_the_log_is_read_in_pages_and_from_any_position(database: Database) -> None:
    offer(database, *(proposal(f"job-{n}", requested()) for n in range(7)))
    assert [[one.position for one in page] for page in read_log(database, after=1, page=3)] == [[2, 3, 4], [5, 6, 7]]
    assert read_stream(database, "job-nobody") == []


def test_the_sequence_of_a_batch_is_the_order_it_was_offered_in(database: Database) -> None:
    offer(database, *(proposal(f"job-{n}", requested()) for n in (3, 1, 2)))
    assert [row["stream_id"] for row in run(database, "SELECT stream_id FROM {ours}events ORDER BY position")] == [
        "job-3", "job-1", "job-2"
    ]  # fmt: skip
