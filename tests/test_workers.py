"""The table of workers: who is there, what each does, and when a name can be taken over."""

from typing import Any

import pytest

from enrichlog.exceptions import NameElsewhere
from enrichlog.workers import Seen, beat, differing, leave, list_workers, register
from eventlog.database import Database
from tests.builders import NOON, StoppedClock, follow
from tests.service import worker


def only(database: Database) -> Seen:
    (one,) = list_workers(database)
    return one


def rows(database: Database) -> dict[str, dict[str, Any]]:
    return {one.row.name: one.document() for one in list_workers(database)}


def test_a_worker_is_listed_with_what_it_is_and_does(timed: Database, clock: StoppedClock) -> None:
    since = register(timed, worker()).since
    clock.advance(seconds=10)
    beat(timed, worker(), since, "working", 3)
    told = only(timed).document()
    assert told == {
        "name": "host-worker-1", "host": "host", "pid": 7, "enrichment": "job", "request_model": "model-1",
        "prompt_hash": "p", "schema_hash": "s", "concurrency": 8, "state": "working", "in_flight": 3,
        "since": "2024-01-01T12:00:00.000000Z", "last_seen": "2024-01-01T12:00:10.000000Z",
        "live": True, "ready": True,
    }  # fmt: skip
    assert follow(timed) == []  # it is no story of a posting


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ("starting", "it has not claimed anything yet"),
        ("idle", None),
        ("working", None),
        ("waiting", None),
        ("away", "it does not reach the database"),
        ("draining", "it is ending"),
    ],
)
def test_a_worker_is_ready_while_it_claims_or_would_if_it_could(
    timed: Database, clock: StoppedClock, state: str, why: str | None
) -> None:
    beat(timed, worker(), NOON, state, 0)
    assert only(timed).why_unready == why
    clock.advance(seconds=31)
    assert only(timed).why_unready == "it was last seen 2024-01-01 12:00:00 UTC"


def test_one_that_ends_well_leaves_no_row_and_one_that_was_killed_stays_for_days(
    timed: Database, clock: StoppedClock
) -> None:
    register(timed, worker("a"))
    register(timed, worker("b"))
    leave(timed, worker("a"))
    clock.advance(days=7)
    register(timed, worker("c"))
    assert {name: told["live"] for name, told in rows(timed).items()} == {"b": False, "c": True}
    clock.advance(seconds=1)
    register(timed, worker("d"))
    assert rows(timed).keys() == {"c", "d"}


def test_one_that_comes_back_to_its_place_says_so_and_begins_anew(timed: Database, clock: StoppedClock) -> None:
    assert not register(timed, worker()).came_back
    clock.advance(seconds=5)
    assert register(timed, worker(pid=8)).came_back
    told = only(timed).document()
    assert (told["pid"], told["since"]) == (8, "2024-01-01T12:00:05.000000Z")


@pytest.mark.parametrize("elsewhere", [{"place": "place-2"}, {"host": "another"}], ids=["place", "host"])
def test_a_name_that_may_be_alive_elsewhere_is_refused_and_later_taken_over(
    timed: Database, clock: StoppedClock, elsewhere: dict[str, str]
) -> None:
    since = register(timed, worker()).since
    clock.advance(seconds=60)
    with pytest.raises(
        NameElsewhere, match=r"A worker host-worker-1 is alive on host, last seen 2024-01-01 12:00:00 UTC\. End it fi"
    ):
        register(timed, worker(**elsewhere))
    clock.advance(seconds=1)
    assert not register(timed, worker(**elsewhere)).came_back  # nobody knows whether it is dead: its leases tell
    with pytest.raises(NameElsewhere):  # should the first one wake up, it learns so
        beat(timed, worker(), since, "idle", 0)
    leave(timed, worker())
    assert only(timed).row.since == clock.now


def test_workers_are_listed_for_one_enrichment_or_for_all(timed: Database) -> None:
    register(timed, worker("a"))
    register(timed, worker("b", enrichment="summary"))
    assert [one.row.name for one in list_workers(timed)] == ["a", "b"]
    assert [one.row.name for one in list_workers(timed, "summary")] == ["b"]


def test_in_what_live_workers_differ_is_told_by_value(timed: Database, clock: StoppedClock) -> None:
    register(timed, worker("dead", request_model="old"))
    clock.advance(seconds=31)
    register(timed, worker("a"))
    register(timed, worker("b"))
    assert differing(list_workers(timed)) == {}
    register(timed, worker("c", prompt_hash="q"))
    assert differing(list_workers(timed)) == {"prompt_hash": {"p": ["a", "b"], "q": ["c"]}}
