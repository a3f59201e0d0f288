"""Postings in: what is new or changed is noticed and requested, once for each enrichment."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from enrichlog import noticing
from enrichlog.exceptions import UnknownJob
from enrichlog.own_postings import job_postings
from enrichlog.posting import Posting
from enrichlog.postings import (
    compare_postings,
    find_posting,
    load_postings,
    notice_posting,
    store_postings,
)
from enrichlog.sync import count_unrequested, sync
from eventlog.database import Database
from eventlog.log import append
from projections import enrichment_status
from tests.builders import BOUND, NOON, run, started, status, succeeded, tell, wait_for_a_waiter
from tests.service import import_many, import_postings, of_type, posting, whole_log


def insert_row(database: Database, one: Posting) -> None:
    """A row that another program wrote."""
    with database.write() as connection:
        values = {**one._asdict(), "input_hash": one.input_hash, "imported_at": NOON}
        connection.execute(insert(job_postings).values(values))


def change_row(database: Database, one: Posting) -> None:
    values = {"description": one.description, "input_hash": one.input_hash}
    with database.write() as connection:
        connection.execute(update(job_postings).where(job_postings.c.id == one.id).values(values))


def why(database: Database) -> list[tuple[str, str]]:
    requests = of_type(database, "EnrichmentRequested")
    return [(one.stream_id, one.facts["why"]) for one in requests]


def test_a_posting_comes_back_as_it_was_stored(database: Database) -> None:
    one = posting("ä/1 🦀", company="Acme & Zonen", location="Gent", url="https://example.com/?a=1", language="nl")
    import_postings(database, one)
    assert find_posting(database, one.id) == one
    with database.read() as connection:
        assert load_postings(connection, database, [one.id, "none such"]) == {one.id: one}


def test_an_unknown_id_is_refused(database: Database) -> None:
    with pytest.raises(UnknownJob, match="There is no posting with the id 99"):
        find_posting(database, "99")


def test_storing_says_what_became_of_each_posting(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    offered = [posting("3"), posting("2", title="Other"), posting("1")]
    assert compare_postings(database, offered) == ["added", "changed", "unchanged"]
    assert store_postings(database, offered, ["job"], "tests") == ["added", "changed", "unchanged"]
    assert why(database) == [("job-1", "new"), ("job-2", "new"), ("job-3", "new"), ("job-2", "changed")]


def test_a_posting_is_pending_as_soon_as_it_is_stored(database: Database) -> None:
    import_postings(database, posting())
    row = status(database, "job-1")
    assert (row["state"], row["attempts"], row["input_hash"]) == ("pending", 0, posting().input_hash)
    assert row["due_at"] is not None


def test_postings_and_their_requests_are_stored_together_or_not_at_all(database: Database) -> None:
    with pytest.raises(Exception, match="is no name for an enrichment"):
        store_postings(database, [posting()], ["not a name"], "tests")
    with pytest.raises(UnknownJob):
        find_posting(database, "1")
    assert whole_log(database) == []


def test_a_posting_that_changes_while_an_attempt_runs_is_due_again_when_that_ends(database: Database) -> None:
    import_postings(database, posting())
    tell(database, "job-1", started())
    import_postings(database, posting(description="Other work."))
    assert (status(database, "job-1")["state"], status(database, "job-1")["rerun"]) == ("running", True)
    tell(database, "job-1", succeeded())
    assert status(database, "job-1")["state"] == "pending"


def test_sync_requests_what_another_program_wrote(database: Database) -> None:
    import_postings(database, posting("1"))
    insert_row(database, posting("2"))
    assert count_unrequested(database, "job") == 1
    assert sync(database, "job", "tests") == 1
    assert why(database) == [("job-1", "new"), ("job-2", "new")]
    change_row(database, posting("1", description="Other work."))
    assert sync(database, "job", "tests") == 1
    assert why(database)[-1] == ("job-1", "changed")


@pytest.mark.parametrize("together", [1, 2, 3, 5, None])
def test_sync_finds_all_that_is_new_however_few_postings_it_looks_at_together(
    database: Database, monkeypatch: pytest.MonkeyPatch, together: int | None
) -> None:
    monkeypatch.setattr(database.dialect, "rows_together", together)
    import_postings(database, posting("2"))
    for job_id in "13456":
        insert_row(database, posting(job_id))
    assert (sync(database, "job", "tests"), count_unrequested(database, "job")) == (5, 0)


def test_sync_again_requests_nothing(database: Database) -> None:
    insert_row(database, posting("1"))
    assert (sync(database, "job", "tests"), sync(database, "job", "tests")) == (1, 0)
    assert count_unrequested(database, "job") == 0


def test_sync_requests_a_posting_that_changed_during_an_attempt_only_once(database: Database) -> None:
    import_postings(database, posting())
    tell(database, "job-1", started())
    change_row(database, posting(description="Other work."))
    assert (sync(database, "job", "tests"), sync(database, "job", "tests")) == (1, 0)


def test_text_that_sql_has_edited_is_requested_once_and_its_hash_mended(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    run(database, "UPDATE job_postings SET description = 'Edited.' WHERE id = '1'")
    edited = find_posting(database, "1").input_hash
    tell(database, "job-1", started(input_hash=edited), succeeded())  # claimed with the text as it is now
    assert count_unrequested(database, "job") == 0
    assert (sync(database, "job", "tests"), sync(database, "job", "tests")) == (0, 0)
    assert run(database, "SELECT input_hash FROM job_postings WHERE id = '1'") == [{"input_hash": edited}]
    run(database, "UPDATE job_postings SET description = 'Edited twice.', input_hash = 'x' WHERE id = '1'")
    assert (count_unrequested(database, "job"), sync(database, "job", "tests")) == (1, 1)
    assert status(database, "job-1")["input_hash"] == find_posting(database, "1").input_hash
    assert why(database)[2:] == [("job-1", "changed")]


def test_a_new_posting_is_requested_with_the_hash_of_its_text_whatever_its_row_says(database: Database) -> None:
    insert_row(database, posting("1"))
    run(database, "UPDATE job_postings SET input_hash = 'made up'")
    assert (sync(database, "job", "tests"), sync(database, "job", "tests")) == (1, 0)
    assert status(database, "job-1")["input_hash"] == posting("1").input_hash


@pytest.mark.parametrize("other", ["notices it too", "has taken it", "is not there"])
def test_a_change_is_requested_once_though_two_notice_it_at_the_same_time(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    import_postings(postgresql, posting())
    change_row(postgresql, posting(description="Other work."))
    changed = find_posting(postgresql, "1").input_hash

    def append_later(*arguments: Any) -> Any:
        monkeypatch.undo()
        if other == "notices it too":
            notice_posting(postgresql, "1", "job", "another")
        if other == "has taken it":
            tell(postgresql, "job-1", started(input_hash=changed))
        return append(*arguments)

    monkeypatch.setattr(noticing, "append", append_later)
    notice_posting(postgresql, "1", "job", "tests")
    assert why(postgresql)[1:] == ([] if other == "has taken it" else [("job-1", "changed")])
    assert status(postgresql, "job-1")["rerun"] is False
    assert sync(postgresql, "job", "tests") == 0


def test_each_enrichment_sees_postings_for_itself(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    assert count_unrequested(database, "pay") == 2
    assert sync(database, "pay", "tests") == 2
    assert status(database, "pay-1")["enrichment"] == "pay"
    assert sync(database, "job", "tests") == 0


def test_more_postings_than_a_page_are_synced(database: Database) -> None:
    import_many(database, 3)
    with database.write() as connection:
        rows = [
            {**one._asdict(), "input_hash": one.input_hash, "imported_at": NOON}
            for one in (posting(f"late-{n:04}") for n in range(1_203))
        ]
        connection.execute(insert(job_postings), rows)
    assert sync(database, "job", "tests") == 1_203
    assert count_unrequested(database, "job") == 0


def test_a_posting_that_was_deleted_and_comes_back_is_not_requested_twice(database: Database) -> None:
    import_postings(database, posting())
    with database.write() as connection:
        connection.execute(delete(job_postings))
    assert store_postings(database, [posting()], ["job"], "tests") == ["added"]
    assert why(database) == [("job-1", "new")]


def test_the_hash_of_the_input_stays_what_it_is_or_everything_would_be_asked_again() -> None:
    one = Posting("1", "t", "d", company="c", location="l")
    text = '{"company":"c","description":"d","location":"l","title":"t"}'
    assert one.input_hash == hashlib.sha256(text.encode()).hexdigest()


def test_an_import_waits_for_a_stream_before_it_holds_the_posting_that_a_users_trigger_writes_to(
    postgresql: Database,
) -> None:
    import_postings(postgresql, posting("1"))
    tell(postgresql, "job-1", started())
    with ThreadPoolExecutor(1) as other, postgresql.write() as connection:
        enrichment_status.lock(connection, ["job-1"])  # as an append begins
        importing = other.submit(import_postings, postgresql, posting("1", description="Other."))
        wait_for_a_waiter(postgresql)
        connection.exec_driver_sql("SET LOCAL lock_timeout = '5s'")
        connection.exec_driver_sql("SELECT FROM job_postings WHERE id = '1' FOR UPDATE")  # as the trigger goes on
    importing.result(BOUND)
