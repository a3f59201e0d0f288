"""Rebuild and verify while appends go on: nothing newer is overwritten, nothing that is right looks wrong."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from eventlog import dialects
from eventlog.database import Database
from eventlog.errors import DatabaseBusy
from eventlog.log import append
from projections import enrichment_status, moments, reconcile
from projections.inline import InlineReadModels
from tests.builders import (
    BOUND,
    failed,
    proposal,
    requested,
    run,
    shown,
    started,
    status,
    succeeded,
    tell,
    wait_for_a_waiter,
)
from tests.drift import PROJECTIONS, SHOWN, STATUS, rebuild, verify

pytestmark = pytest.mark.pooled

DAMAGE = {
    "enrichment_status": "UPDATE {ours}enrichment_status SET fold_version = 0",
    "llm_enrichment": "DELETE FROM llm_enrichment",
}


@pytest.fixture(params=PROJECTIONS)
def damaged(request: pytest.FixtureRequest) -> Any:
    """Each of the read models in turn, for a test that damages it."""
    return PROJECTIONS[request.param]


@pytest.fixture
def other(database: Database) -> Iterator[Database]:
    """The same database, as another program has it open."""
    other = Database(database.url)
    yield other
    other.close()


def fail_once(database: Database) -> None:
    tell(database, "job-1", requested(), started(), failed(message="old"))


def check_that_the_newer_row_stayed(database: Database) -> None:
    row = shown(database, "job-1")
    assert row is not None
    assert (row["result"], row["enrichment_error"]) == ({"attempt": 2}, None)
    assert (status(database, "job-1")["version"], status(database, "job-1")["state"]) == (5, "succeeded")
    assert [verify(database, one).total for one in (STATUS, SHOWN)] == [0, 0]


def test_an_append_between_comparing_and_mending_is_not_overwritten(
    database: Database, other: Database, damaged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mend(*arguments: Any) -> None:
        tell(other, "job-1", started(2), succeeded(2))
        mend_now(*arguments)

    mend_now: Callable[..., None] = reconcile._mend
    monkeypatch.setattr(reconcile, "_mend", mend)
    fail_once(database)
    run(database, DAMAGE[damaged.name])
    assert rebuild(database, damaged).written == 1
    check_that_the_newer_row_stayed(database)


def test_an_append_in_the_last_moment_before_the_lock_is_not_overwritten(
    postgresql: Database, damaged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(*arguments: Any) -> Any:
        monkeypatch.undo()
        tell(postgresql, "job-1", started(2), succeeded(2))
        return lock_now(*arguments)

    lock_now = enrichment_status.hold
    fail_once(postgresql)
    run(postgresql, DAMAGE[damaged.name])
    monkeypatch.setattr(enrichment_status, "hold", lock)
    assert rebuild(postgresql, damaged).written == 1
    check_that_the_newer_row_stayed(postgresql)


def test_an_append_that_a_mend_waits_for_is_not_overwritten(postgresql: Database, damaged: Any) -> None:
    fail_once(postgresql)
    run(postgresql, DAMAGE[damaged.name])
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as live:
            proposals = [proposal("job-1", started(2)), proposal("job-1", succeeded(2))]
            append(live, postgresql.dialect, proposals, InlineReadModels(postgresql))
            rebuilding = thread.submit(rebuild, postgresql, damaged)
            wait_for_a_waiter(postgresql)
        assert rebuilding.result(BOUND).written == 1
    check_that_the_newer_row_stayed(postgresql)


def test_an_update_that_is_guarded_by_the_version_overwrites_the_newer_row_it_waited_for(postgresql: Database) -> None:
    fail_once(postgresql)
    unmoved = "EXISTS (SELECT FROM {ours}enrichment_status WHERE stream_id = 'job-1' AND version <= 3)"
    obvious = f"UPDATE llm_enrichment SET enrichment_error = 'old', result = NULL WHERE {unmoved}"
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as live:
            proposals = [proposal("job-1", started(2)), proposal("job-1", succeeded(2))]
            append(live, postgresql.dialect, proposals, InlineReadModels(postgresql))
            overwriting = thread.submit(run, postgresql, obvious)
            wait_for_a_waiter(postgresql)
        overwriting.result(BOUND)
    row = shown(postgresql, "job-1")
    assert row is not None
    assert (status(postgresql, "job-1")["version"], row["enrichment_error"], row["result"]) == (5, "old", None)


def test_a_mend_holds_the_locks_of_its_streams_while_it_writes(
    database: Database, other: Database, damaged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_held(stream_id: str) -> bool:
        mine = select(STATUS.table).where(STATUS.table.c.stream_id == stream_id).with_for_update(nowait=True)
        try:
            with other.write() as connection:
                connection.execute(mine)
        except DatabaseBusy:
            return True
        return False

    def store(*arguments: Any) -> Any:
        held.append(is_held("job-1"))
        return damaged.store(*arguments)

    held: list[bool] = []
    monkeypatch.setattr(dialects, "BUSY_PATIENCE_SECONDS", 0.0)
    if database.dialect.name == "sqlite":
        with other.engine.connect() as connection:  # not to wait inside SQLite either
            connection.exec_driver_sql("PRAGMA busy_timeout=0")
    fail_once(database)
    run(database, DAMAGE[damaged.name])
    assert not is_held("job-1")  # the control
    rebuild(database, replace(damaged, store=store))
    assert held == [True]
    assert not is_held("job-1")


def test_an_append_in_the_middle_of_a_comparison_is_no_difference(postgresql: Database, damaged: Any) -> None:
    def load(*arguments: Any) -> Any:  # on SQLite whoever reads a file sees it as it was when the reading began
        tell(postgresql, "job-1", started(2), succeeded(2))
        return damaged.load(*arguments)

    fail_once(postgresql)
    found = verify(postgresql, replace(damaged, load=load))
    assert (found.events, found.total) == (3, 0)
    check_that_the_newer_row_stayed(postgresql)


def test_a_row_that_an_append_is_about_to_explain_is_not_removed(postgresql: Database) -> None:
    with postgresql.write() as connection:
        enrichment_status.insert_missing(connection, postgresql.dialect, ["job-1"])
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as live:
            append(live, postgresql.dialect, [proposal("job-1", requested())], InlineReadModels(postgresql))
            rebuilding = thread.submit(rebuild, postgresql, STATUS)
            wait_for_a_waiter(postgresql)
        rebuilding.result(BOUND)
    assert status(postgresql, "job-1")["version"] == 1


def test_pages_are_small_while_others_append_to_a_file_that_one_writes_at_a_time(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def progress(events: int) -> None:
        seen.append(events)
        if 2 <= len(seen) <= 3:
            tell(other, f"job-1-{len(seen)}", requested())  # its stream is behind those that were read already

    seen: list[int] = []
    monkeypatch.setattr(moments, "EVENTS_PER_PAGE", 8)
    monkeypatch.setattr(database.dialect, "events_together", database.dialect.events_together and 4)
    for number in range(12):
        tell(database, f"job-2-{number:02}", requested(), started())
    verify(database, progress=progress)
    if database.dialect.events_together:
        assert seen == [6, 6, 6, 2, 2, 2]
    else:
        assert seen == [6, 6, 6, 6]


def test_a_status_that_a_mend_makes_anew_is_that_of_the_head(
    database: Database, other: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mend(*arguments: Any) -> None:
        tell(other, "job-1", started(2), succeeded(2))
        run(other, "DELETE FROM {ours}enrichment_status")
        mend_now(*arguments)

    mend_now: Callable[..., None] = reconcile._mend
    monkeypatch.setattr(reconcile, "_mend", mend)
    fail_once(database)
    run(database, DAMAGE["llm_enrichment"])
    assert rebuild(database, SHOWN).written == 1
    check_that_the_newer_row_stayed(database)


def test_a_mend_takes_its_locks_in_the_order_of_names_like_everybody(postgresql: Database) -> None:
    def hold() -> None:
        with postgresql.write() as connection:
            enrichment_status.hold(connection, postgresql.dialect, ["job-1", "job-2", "job-3"], dict)

    row = select(STATUS.table.c.stream_id)
    for name in ("job-3", "job-2", "job-1"):  # the order in which they lie there
        tell(postgresql, name, requested())
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as first:
            first.execute(row.where(STATUS.table.c.stream_id == "job-1").with_for_update())
            holding = thread.submit(hold)
            wait_for_a_waiter(postgresql)
            assert len(first.execute(row.with_for_update(nowait=True)).all()) == 3
        holding.result(BOUND)


def test_a_single_append_between_comparing_and_mending_is_not_overwritten(
    database: Database, other: Database, damaged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mend(*arguments: Any) -> None:
        tell(other, "job-1", requested("retry"))
        mend_now(*arguments)

    mend_now: Callable[..., None] = reconcile._mend
    monkeypatch.setattr(reconcile, "_mend", mend)
    fail_once(database)
    run(database, DAMAGE[damaged.name])
    assert rebuild(database, damaged).written == 1
    row = shown(database, "job-1")
    assert row is not None
    assert (row["enrichment_error"], row["enrichment_completed_at"]) == ("old", None)
    assert (status(database, "job-1")["version"], status(database, "job-1")["state"]) == (4, "pending")
    assert [verify(database, one).total for one in (STATUS, SHOWN)] == [0, 0]
