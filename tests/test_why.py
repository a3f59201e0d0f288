"""For each column of a posting's rows: its value, the event that set it, when, and what was edited since."""

from datetime import timedelta
from typing import Any

import pytest

from enrichlog.why import Column, Why, why
from eventlog.database import Database
from eventlog.events import iso
from projections import enrichment_status, llm_enrichment
from tests.builders import NOON, StoppedClock, erased, failed, requested, row_of, run, started, succeeded, tell
from tests.command_line import Command, contents
from tests.service import import_postings, posting, whole_log
from tests.test_as_of import live_on


@pytest.fixture
def told(timed: Database, clock: StoppedClock) -> Database:
    """A posting that failed, recovered an hour later, and failed when it was forced another hour later."""
    import_postings(timed, posting("1"), posting("7"))
    tell(timed, "job-1", started(), failed(input_tokens=5))
    clock.advance(hours=1)
    tell(timed, "job-1", started(2), succeeded(2, result={"note": "kept"}))
    clock.advance(hours=1)
    tell(timed, "job-1", requested("force"), started(3, request_model="model-2"), failed(3, message="Gone"))
    return timed


def columns(found: Why, table: str) -> dict[str, Column]:
    return {column.name: column for one in found.tables if one.name == table for column in one.columns}


def set_by(found: Why, table: str) -> dict[str, Any]:
    """The version of the event that set each column."""
    return {name: column.cause and column.cause.version for name, column in columns(found, table).items()}


def test_each_column_names_the_event_that_last_changed_it(told: Database) -> None:
    found = why(told, "job", "1")
    assert set_by(found, "llm_enrichment") == {
        "result": 5, "enrichment_model_version": 5, "enrichment_error": 8, "enrichment_completed_at": 8,
    }  # fmt: skip
    status = set_by(found, "enrichment_status")
    names = ("state", "attempts", "successes", "error_type", "request_model", "input_tokens", "grants", "budget_used")
    assert {name: status[name] for name in names} == {
        "state": 8, "attempts": 7, "successes": 5, "error_type": 8, "request_model": 7, "input_tokens": 3, "grants": 1,
        "budget_used": 8,
    }  # fmt: skip
    result = columns(found, "llm_enrichment")["result"]
    assert result.value == {"note": "kept"}
    assert result.cause is not None
    position = next(event.position for event in whole_log(told) if (event.stream_id, event.version) == ("job-1", 5))
    assert result.cause == (position, 5, "EnrichmentSucceeded", NOON + timedelta(hours=1), False)


def test_the_values_are_those_of_the_rows_whatever_the_history(timed: Database, clock: StoppedClock) -> None:
    assert list(live_on(timed, clock, acts=50))
    for job_id in ("1", "2", "10"):
        found = why(timed, "job", job_id)
        assert columns(found, "enrichment_status")["attempts"].value > 0
        for projection in (llm_enrichment.projection, enrichment_status.projection):
            row = row_of(timed, projection.table, f"job-{job_id}") or {}
            explained = columns(found, projection.name)
            assert {name: column.value for name, column in explained.items()} == {name: row[name] for name in explained}
            assert not any(column.differs for column in explained.values())


def test_a_column_that_was_edited_by_hand_says_so_and_the_others_do_not(told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'looked into' WHERE job_posting_id = '1'")
    run(told, "UPDATE {ours}enrichment_status SET attempts = 9 WHERE job_id = '1'")
    found = why(told, "job", "1")
    edited = {c.name: (c.value, c.live) for one in found.tables for c in one.columns if c.differs}
    assert edited == {"enrichment_error": ("Gone", "looked into"), "attempts": (3, 9)}


def test_a_column_that_no_event_has_set_is_told_when_the_row_has_a_value(timed: Database) -> None:
    tell(timed, "job-1", requested(), started(), failed())
    assert "result" not in columns(why(timed, "job", "1"), "llm_enrichment")
    run(timed, "UPDATE llm_enrichment SET enrichment_model_version = 'mine'")
    column = columns(why(timed, "job", "1"), "llm_enrichment")["enrichment_model_version"]
    assert column == Column("enrichment_model_version", None, None, "mine", differs=True)


def test_a_row_that_only_its_owner_knows_is_told_as_theirs(database: Database) -> None:
    run(database, "INSERT INTO llm_enrichment (job_posting_id, enrichment_error) VALUES ('9', 'old')")
    found = why(database, "job", "9")
    assert found.events == 0
    assert columns(found, "llm_enrichment") == {
        "enrichment_error": Column("enrichment_error", None, None, "old", differs=True)
    }


def test_a_row_that_was_deleted_is_told_as_missing(told: Database) -> None:
    run(told, "DELETE FROM llm_enrichment")
    found = why(told, "job", "1")
    assert [(one.name, one.is_there) for one in found.tables] == [
        ("llm_enrichment", False),
        ("enrichment_status", True),
    ]
    assert columns(found, "llm_enrichment")["enrichment_error"].value == "Gone"


def test_as_of_an_earlier_position_the_columns_are_what_they_were(told: Database) -> None:
    found = why(told, "job", "1", NOON + timedelta(hours=1))
    assert found.at is not None
    assert (found.at.position, found.events, found.not_shown) == (6, 5, None)
    assert set_by(found, "llm_enrichment") == {
        "result": 5, "enrichment_model_version": 5, "enrichment_error": 5, "enrichment_completed_at": 5,
    }  # fmt: skip
    assert columns(found, "enrichment_status")["state"].value == "succeeded"
    assert not any(column.differs for one in found.tables for column in one.columns)
    assert why(told, "job", "1", 1).tables[0].columns == []


def test_an_erasure_is_the_cause_of_what_is_gone(told: Database) -> None:
    tell(told, "job-1", erased())
    found = columns(why(told, "job", "1"), "llm_enrichment")
    assert {name: (one.value, one.cause and one.cause.type) for name, one in found.items() if name in ("result",)} == {
        "result": (None, "ContentErased")
    }
    assert found["enrichment_error"].value == "content erased"


# -- the command line -------------------------------------------------------------------------------------------------


def test_the_document_has_each_column_with_its_cause(enrichlog: Command, told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'looked into' WHERE job_posting_id = '1'")
    before = contents(told)
    document = enrichlog.json("why", "1")
    assert set(document) == {"job_id", "enrichment", "events", "tables", "not_shown"}
    assert [(one["table"], one["there"]) for one in document["tables"]] == [
        ("llm_enrichment", True), ("enrichment_status", True),
    ]  # fmt: skip
    found = {one["column"]: one for one in document["tables"][0]["columns"]}
    at, last = iso(NOON + timedelta(hours=2)), whole_log(told)[-1].position
    cause = {"position": last, "version": 8, "type": "EnrichmentFailed", "recorded_at": at, "imported": False}
    assert found["enrichment_error"] == {
        "column": "enrichment_error", "value": "Gone", "set_by": cause, "differs": True, "live": "looked into",
    }  # fmt: skip
    assert (found["enrichment_completed_at"]["value"], found["enrichment_completed_at"]["differs"]) == (at, False)
    assert enrichlog.json("why", "1", "--as-of", "4")["as_of"]["position"] == 4
    assert contents(told) == before


def test_people_see_a_table_for_each_row(enrichlog: Command, told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'looked\ninto' WHERE job_posting_id = '1'")
    said = [" ".join(line.split()) for line in enrichlog.done("why", "1").out.splitlines()]
    assert said[:3] == ["1: 8 events", "llm_enrichment", "Column Set by Position When Value"]
    edited = "looked into (edited by hand: the events say Gone)"
    assert f"enrichment_error 8. EnrichmentFailed 9 2024-01-01 14:00:00 UTC {edited}" in said
    assert "attempts 7. EnrichmentStarted 8 2024-01-01 14:00:00 UTC 3" in said
    assert said[-1] == "See all rows that are not what their events say with: enrichlog verify"
    then = enrichlog.done("why", "1", "--as-of", "2024-01-01T13:00").out
    assert then.startswith("1: 5 events, as of position 6, 2024-01-01 13:00:00 UTC\n")
    assert "enrichlog verify" not in then


def test_a_result_that_the_table_refused_is_told_with_the_reason_and_is_no_edit(
    enrichlog: Command, told: Database
) -> None:
    run(told, "CREATE UNIQUE INDEX theirs ON llm_enrichment (enrichment_error)")
    tell(told, "job-7", started(), failed(message="Gone"))
    said = enrichlog.done("why", "7").out
    assert "The table does not show it: " in said
    assert "enrichlog rebuild" in said
    assert "llm_enrichment: the row is not in the table; the events say" in said
    assert "edited by hand" not in said
    tell(told, "job-7", started(2), failed(2, message="Other"))
    assert enrichlog.json("why", "7")["not_shown"] is None


def test_a_posting_without_events_has_no_rows_and_an_unknown_one_is_unknown(enrichlog: Command, told: Database) -> None:
    run(told, "INSERT INTO job_postings (id, title, description, input_hash, imported_at) VALUES ('8', 't', 'd', 'h', "
        "'2024-01-01T12:00:00.000000Z')")  # fmt: skip
    said = enrichlog.done("why", "8").out.splitlines()
    assert said == ["8: 0 events", "llm_enrichment: no row yet", "enrichment_status: no row yet"]
    for words in (["nobody"], ["nobody", "--as-of", "2"], ["1", "--enrichment", "pay"], ["1", "--as-of", "0"], []):
        unknown = enrichlog("why", *words)
        assert (unknown.code, unknown.out) == (2, "")
    assert "There is no posting with the id nobody." in enrichlog("why", "nobody").error
