"""The streams of a category come whole and one after the other, however the pages fall."""

import pytest

from eventlog.category import walk, walk_streams
from eventlog.database import Database
from tests.builders import failed, requested, started, succeeded, tell

EVERYTHING = 10**9


def told(database: Database, category: str, until: int = EVERYTHING, page: int = 1_000) -> list[tuple[str, list[int]]]:
    return [(name, [event.version for event in events]) for name, events in walk(database, category, until, page)]


@pytest.fixture
def several(database: Database) -> Database:
    """Streams of three categories whose names sort closely, appended in another order than that of their names."""
    for name in ("job-2", "job_x-1", "jobs-1", "job-1", "job-10", "job-é"):
        tell(database, name, requested(), started(), failed())
    tell(database, "job-1", started(2), succeeded(2))
    return database


@pytest.mark.parametrize("page", [1, 2, 3, 5, 1_000])
def test_each_stream_comes_once_and_whole_whatever_the_page(several: Database, page: int) -> None:
    assert told(several, "job", page=page) == [
        ("job-1", [1, 2, 3, 4, 5]), ("job-10", [1, 2, 3]), ("job-2", [1, 2, 3]), ("job-é", [1, 2, 3]),
    ]  # fmt: skip


def test_a_category_is_not_the_one_whose_name_begins_alike(several: Database) -> None:
    assert told(several, "jobs") == [("jobs-1", [1, 2, 3])]
    assert told(several, "job_x") == [("job_x-1", [1, 2, 3])]
    assert told(several, "jo") == []


def test_what_came_after_the_position_is_left_out(several: Database) -> None:
    assert told(several, "job", until=19) == [
        ("job-1", [1, 2, 3, 4]), ("job-10", [1, 2, 3]), ("job-2", [1, 2, 3]), ("job-é", [1, 2, 3]),
    ]  # fmt: skip
    assert told(several, "job", until=2) == [("job-2", [1, 2])]


def test_content_is_not_read(several: Database) -> None:
    events = [event for _, events in walk(several, "job", EVERYTHING) for event in events]
    assert {event.content for event in events} == {None}
    assert all(event.facts for event in events)


@pytest.mark.parametrize("page", [1, 2, 3, 5, 1_000])
def test_streams_that_are_named_come_whole_and_in_order_and_no_others(several: Database, page: int) -> None:
    names = ["job-é", "job-1", "jobs-1", "job-none"]
    events = list(walk_streams(several, names, 19, content=True, page=page))
    assert [(event.stream_id, event.version) for event in events] == [
        *(("job-1", version) for version in (1, 2, 3, 4)),
        *(("job-é", version) for version in (1, 2, 3)),
        *(("jobs-1", version) for version in (1, 2, 3)),
    ]
    assert events[2].content == {"message": "Request timeout after 300 seconds"}
    assert list(walk_streams(several, [], 19, page=page)) == []
