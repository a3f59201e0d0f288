"""Rebuild and verify: what differs from the log is found, told and written; what no event explains is told too."""

from typing import Any

import pytest
from sqlalchemy import event, select

from eventlog.database import Database
from eventlog.events import BatchCancelled
from projections import enrichment_status, moments, reconcile
from projections.drift import EXAMPLES, Difference
from projections.reconcile import not_shown
from tests.builders import failed, follow, offer, proposal, requested, run, shown, started, status, succeeded, tell
from tests.drift import SHOWN, STATUS, rebuild, verify

NUMBERS = {"large": 1e22, "largest": 1.7976931348623157e308, "whole": 2**53, "list": [1e23, {"deep": 2.5e-300}]}


@pytest.fixture
def told(database: Database) -> Database:
    """A result, a failure, a posting that was not tried yet, and an operator's act."""
    tell(database, "job-1", requested(), started(), failed(), started(2), succeeded(2, result=NUMBERS))
    tell(database, "job-2", requested(), started(), failed())
    tell(database, "job-3", requested())
    offer(database, proposal("$batch-1", BatchCancelled(batch="1", actor="tests")))
    return database


def models(database: Database) -> list[list[dict[str, Any]]]:
    """All rows of both read models."""
    status = run(database, "SELECT * FROM {ours}enrichment_status ORDER BY stream_id")
    return [status, run(database, "SELECT * FROM llm_enrichment ORDER BY job_posting_id")]


def add_rows_of_theirs(database: Database, *ids: str) -> None:
    values = ", ".join(f"('{job_id}', 'theirs')" for job_id in ids)
    run(database, f"INSERT INTO llm_enrichment (job_posting_id, enrichment_error) VALUES {values}")


DAMAGE = {
    "one row of the users' is deleted": ["DELETE FROM llm_enrichment WHERE job_posting_id = '1'"],
    "all rows of the users' are deleted": ["DELETE FROM llm_enrichment"],
    "an error is changed": ["UPDATE llm_enrichment SET enrichment_error = 'no' WHERE job_posting_id = '2'"],
    "a result is changed": ["""UPDATE llm_enrichment SET result = '{"large": 1e23}' WHERE job_posting_id = '1'"""],
    "a status is lost": ["DELETE FROM {ours}enrichment_status WHERE job_id = '1'"],
    "all statuses are lost": ["DELETE FROM {ours}enrichment_status"],
    "an older fold made the statuses": ["UPDATE {ours}enrichment_status SET fold_version = 0, budget_used = 7"],
    "everything is lost": ["DELETE FROM {ours}enrichment_status", "DELETE FROM llm_enrichment"],
}


def test_what_was_appended_is_what_the_read_models_show_large_numbers_included(told: Database) -> None:
    for projection, shown_of_these in ((STATUS, 3), (SHOWN, 2)):
        found = verify(told, projection)
        assert (found.total, found.written, found.gone) == (0, 0, 0)
        assert (found.streams, found.events) == (3, 9)  # operators' streams have no row
        assert len(models(told)[projection is SHOWN]) == shown_of_these


@pytest.mark.parametrize("order", [[STATUS, SHOWN], [SHOWN, STATUS]], ids=["status first", "status last"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_without_a_write_and_mended_once(told: Database, damage: str, order: list[Any]) -> None:
    whole = models(told)
    for statement in DAMAGE[damage]:
        run(told, statement)
    damaged = models(told)
    found = [verify(told, projection).total for projection in order]
    assert (sum(found) > 0, models(told)) == (True, damaged)
    mended = [rebuild(told, projection, overwrites=True) for projection in order]
    assert [one.written > 0 for one in mended] == [total > 0 for total in found]
    assert models(told) == whole
    again = [rebuild(told, projection) for projection in order]
    assert [(one.total, one.written) for one in again] == [(0, 0), (0, 0)]
    assert models(told) == whole


def test_a_difference_says_what_is_there_and_what_the_events_say(told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_model_version = 'other' WHERE job_posting_id = '1'")
    run(told, "DELETE FROM llm_enrichment WHERE job_posting_id = '2'")
    found = verify(told)
    assert found.counts == {"missing": 1, "stale": 0, "edited": 1, "extra": 0}
    changed = {"enrichment_model_version": ("other", "model-1-snapshot")}
    assert (found.examples[0].stream_id, found.examples[0].kind, found.examples[0].columns) == (
        "job-1",
        "edited",
        changed,
    )
    assert (found.examples[1].stream_id, found.examples[1].kind) == ("job-2", "missing")


def test_a_status_that_was_lost_comes_back_with_the_row_of_the_users(told: Database) -> None:
    before = status(told, "job-2")
    for statement in DAMAGE["everything is lost"]:
        run(told, statement)
    rebuild(told, SHOWN)
    assert status(told, "job-2") == before


def test_streams_are_read_in_pages_in_any_order_and_no_others_than_those_named(
    told: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, seen = models(told), list[int]()
    monkeypatch.setattr(moments, "EVENTS_PER_PAGE", 2)
    run(told, "DELETE FROM llm_enrichment")
    assert rebuild(told, streams=["job-2"]).written == 1
    assert shown(told, "job-1") is None
    run(told, "DELETE FROM llm_enrichment")
    assert rebuild(told, streams=["job-3", "job-2", "job-1"]).written == 2
    assert models(told) == whole
    run(told, "DELETE FROM llm_enrichment")
    assert rebuild(told, progress=seen.append).written == 2
    assert (models(told), seen) == (whole, [5, 3, 1])


def test_readers_never_see_fewer_rows_than_before(told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'no'")
    run(told, "UPDATE {ours}enrichment_status SET fold_version = 0")
    reader, counts = Database(told.url), list[tuple[int, ...]]()

    def look(*_: object) -> None:
        counts.append(tuple(len(reader.page(select(projection.table))) for projection in (STATUS, SHOWN)))

    event.listen(told.engine, "after_cursor_execute", look)
    written = [rebuild(told, projection, overwrites=True).written for projection in (STATUS, SHOWN)]
    reader.close()
    assert written == [3, 2]
    assert len(counts) > 10
    assert set(counts) == {(3, 2)}


# Rows that no event explains.


def test_a_row_of_ours_that_no_event_explains_is_reported_and_removed(told: Database) -> None:
    whole = models(told)
    with told.write() as connection:
        enrichment_status.insert_missing(connection, told.dialect, ["job-ghost"])
    found = verify(told, STATUS)
    assert (found.counts["extra"], found.examples) == (1, [Difference("job-ghost", "extra")])
    assert status(told, "job-ghost")["version"] == 0
    assert rebuild(told, STATUS).counts["extra"] == 1
    assert models(told) == whole


def test_rows_of_the_users_that_no_event_explains_are_reported_and_never_removed(told: Database) -> None:
    ghosts = [f"ghost-{number}" for number in range(EXAMPLES + 2)]
    add_rows_of_theirs(told, *ghosts, "3")  # the last is of a posting that was not tried yet
    before = models(told)
    for find in (verify, rebuild, rebuild):
        found = find(told)
        assert (found.counts["extra"], found.total, found.written) == (len(ghosts) + 1,) * 2 + (0,)
        assert len(found.examples) == EXAMPLES
        assert (found.examples[0].stream_id, found.examples[0].kind) == ("job-3", "extra")
        theirs = {"job_posting_id": ("3", None), "enrichment": ("job", None), "enrichment_error": ("theirs", None)}
        assert found.examples[0].columns == theirs
        assert found.examples[1] == Difference("job-ghost-0", "extra")
    assert models(told) == before


def test_a_row_of_the_users_in_which_nothing_is_set_differs_in_nothing(told: Database) -> None:
    run(told, "INSERT INTO llm_enrichment (job_posting_id) VALUES ('3')")
    assert verify(told).total == 0


# Rows that the users' table did not take.


def test_rows_that_were_refused_are_not_counted_as_written_and_come_once_the_table_is_mended(told: Database) -> None:
    whole = models(told)
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'no'")
    run(told, "UPDATE llm_enrichment SET job_posting_id = 'ghost' WHERE job_posting_id = '2'")
    rule = "Request timeout after 300 seconds"
    run(told, f"UPDATE llm_enrichment SET enrichment_error = '{rule}' WHERE job_posting_id = 'ghost'")
    run(told, "CREATE UNIQUE INDEX one_of_each ON llm_enrichment (enrichment_error)")  # job-2 now has no place
    found = rebuild(told, overwrites=True)
    assert (found.total, found.written, list(found.refused)) == (3, 1, ["job-2"])
    assert not_shown(told) == found.refused
    assert verify(told).total == 2
    run(told, "DROP INDEX one_of_each")
    run(told, "DELETE FROM llm_enrichment WHERE job_posting_id = 'ghost'")
    last = follow(told)
    assert (rebuild(told).written, not_shown(told), models(told)) == (1, {}, whole)
    assert follow(told) == last  # projected anew, from the events there are


def test_a_mark_goes_although_the_row_is_as_it_should_be_and_stays_while_nothing_is_written(told: Database) -> None:
    whole = models(told)
    with told.write() as connection:
        enrichment_status.mark(connection, told.dialect, {"job-1": "it was refused"})
    assert (verify(told).total, not_shown(told)) == (0, {"job-1": "it was refused"})
    assert (rebuild(told).total, not_shown(told), models(told)) == (0, {}, whole)


# Rows whose postings were deleted.


def test_a_row_that_is_gone_with_its_posting_is_no_difference_and_is_not_written_back(told: Database) -> None:
    def gone(connection: object, database: object, streams: Any) -> set[str]:
        asked.append(list(streams))
        return {"job-2"} & set(streams)

    asked: list[list[str]] = []
    run(told, "DELETE FROM llm_enrichment")
    with told.write() as connection:
        enrichment_status.mark(connection, told.dialect, {"job-2": "it was refused"})
    assert [(one.counts["missing"], one.gone) for one in [verify(told, gone=gone)]] == [(1, 1)]
    assert asked == [["job-1", "job-2"]]  # of those that are shown no one need ask
    found = rebuild(told, gone=gone)
    assert (found.total, found.gone, found.written, not_shown(told)) == (1, 1, 1, {})
    assert (shown(told, "job-1") is not None, shown(told, "job-2")) == (True, None)
    assert rebuild(told, STATUS, gone=gone).total == 0


def test_the_status_of_a_posting_that_was_deleted_is_ours_and_comes_back(told: Database) -> None:
    before = status(told, "job-2")
    run(told, "DELETE FROM {ours}enrichment_status WHERE job_id = '2'")
    assert rebuild(told, STATUS, gone=lambda _, __, streams: set(streams)).counts["missing"] == 1
    assert status(told, "job-2") == before


def test_the_status_of_a_posting_that_was_deleted_is_mended_in_one_pass_with_rows_that_are_not(told: Database) -> None:
    before = status(told, "job-2")
    run(told, "UPDATE {ours}enrichment_status SET attempts = 9")
    run(told, "DELETE FROM llm_enrichment")
    walk = reconcile.Walk(write=True, gone=lambda _, __, streams: {"job-2"} & set(streams))
    found = reconcile.reconcile(told, [STATUS, SHOWN], walk)
    assert [(one.total, one.written, one.gone) for one in found] == [(3, 3, 0), (1, 1, 1)]
    assert (status(told, "job-2"), shown(told, "job-2")) == (before, None)


def test_a_walk_over_named_streams_looks_for_no_rows_that_no_event_explains(told: Database) -> None:
    run(told, "UPDATE {ours}enrichment_status SET stream_id = 'job-ghost' WHERE stream_id = 'job-3'")
    assert rebuild(told, STATUS, streams=["job-1", "job-2"]).total == 0
    assert len(run(told, "SELECT * FROM {ours}enrichment_status")) == 3
