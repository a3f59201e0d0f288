"""What somebody has corrected by hand in the users' table is told, and stays until they say otherwise."""

from dataclasses import replace
from typing import Any

import pytest

from eventlog.database import Database
from projections import mending, reconcile
from projections.checkpoints import noted
from tests.builders import failed, requested, run, shown, started, succeeded, tell
from tests.command_line import Command
from tests.drift import SHOWN, rebuild, verify

WRONG, RIGHT = {"title": "Clrk"}, {"title": "Clerk"}


@pytest.fixture
def told(database: Database) -> Database:
    """A posting that failed and was then enriched twice, and one that failed."""
    tell(database, "job-1", requested(), started(), failed(message="first"), started(2), succeeded(2, result={"n": 1}))
    tell(database, "job-1", requested("force"), started(3), succeeded(3, result=WRONG))
    tell(database, "job-2", requested(), started(), failed(message="no description"))
    return database


def correct(database: Database) -> None:
    run(database, """UPDATE llm_enrichment SET result = '{"title": "Clerk"}' WHERE job_posting_id = '1'""")


def result(database: Database) -> object:
    row = shown(database, "job-1")
    assert row is not None
    return row["result"]


def test_a_correction_is_told_column_by_column_and_stays(told: Database) -> None:
    correct(told)
    for find in (verify, rebuild, rebuild):
        found = find(told)
        assert (found.counts["edited"], found.total, found.written) == (1, 1, 0)
        (example,) = found.examples
        assert (example.stream_id, example.kind, example.columns) == ("job-1", "edited", {"result": (RIGHT, WRONG)})
    assert result(told) == RIGHT


def test_a_correction_is_overwritten_once_that_is_wanted(told: Database) -> None:
    correct(told)
    assert verify(told, overwrites=True).counts["edited"] == 1
    assert result(told) == RIGHT
    found = rebuild(told, overwrites=True)
    assert (found.counts["edited"], found.written, result(told)) == (1, 1, WRONG)
    assert verify(told).total == 0


def test_beside_a_correction_the_other_columns_of_the_row_are_mended(told: Database) -> None:
    correct(told)
    run(told, "UPDATE llm_enrichment SET enrichment_completed_at = NULL WHERE job_posting_id = '1'")
    found = rebuild(told)
    assert (found.counts["edited"], found.written, result(told)) == (1, 1, RIGHT)
    assert list(verify(told).examples[0].columns) == ["result"]


@pytest.mark.parametrize(("column", "older"), [("result", """'{"n": 1}'"""), ("enrichment_error", "'first'")])
def test_what_the_row_was_at_an_earlier_time_is_stale_and_no_correction(
    told: Database, column: str, older: str
) -> None:
    run(told, f"UPDATE llm_enrichment SET {column} = {older} WHERE job_posting_id = '1'")  # as a backup brings it back
    found = rebuild(told)
    assert (found.counts["stale"], found.counts["edited"], found.written) == (1, 0, 1)
    assert verify(told).total == 0


@pytest.mark.parametrize("column", ["result", "enrichment_error", "enrichment_completed_at"])
def test_a_value_that_is_gone_is_brought_back(told: Database, column: str) -> None:
    run(told, f"UPDATE llm_enrichment SET {column} = NULL")
    assert verify(told).counts["edited"] == 0
    assert rebuild(told).written > 0
    assert verify(told).total == 0


def test_a_newer_result_replaces_a_correction_as_it_would_any_result(told: Database) -> None:
    correct(told)
    tell(told, "job-1", requested("force"), started(4), succeeded(4, result={"n": 4}))
    assert (verify(told).total, result(told)) == (0, {"n": 4})


def test_a_corrected_row_that_is_deleted_meanwhile_is_not_made_of_some_of_its_columns(
    told: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete_first(*arguments: object) -> object:
        monkeypatch.undo()
        run(told, "DELETE FROM llm_enrichment WHERE job_posting_id = '1'")
        return mend(*arguments)  # type: ignore[arg-type]

    mend = mending.mend
    correct(told)
    run(told, "UPDATE llm_enrichment SET enrichment_completed_at = NULL WHERE job_posting_id = '1'")
    monkeypatch.setattr(reconcile, "mend", delete_first)
    assert list(rebuild(told).refused) == ["job-1"]
    assert shown(told, "job-1") is None
    assert rebuild(told).counts["missing"] == 1
    assert (verify(told).total, result(told)) == (0, WRONG)


def test_what_an_earlier_fold_has_made_is_stale_and_a_correction_beside_it_stays(told: Database) -> None:
    def shortened(stream_id: str, enriched: Any) -> Any:
        row = SHOWN.row(stream_id, enriched)
        return row and row | {"enrichment_error": row["enrichment_error"] and row["enrichment_error"][:5]}

    raised = replace(SHOWN, version=2, row=shortened, former=SHOWN)
    correct(told)
    assert verify(told, replace(raised, former=None)).counts["edited"] == 2  # nobody can tell: the control
    found = rebuild(told, raised)
    assert (found.counts["stale"], found.counts["edited"], found.written, result(told)) == (1, 1, 1, RIGHT)
    assert (shown(told, "job-2") or {})["enrichment_error"] == "no de"


def test_a_row_that_was_refused_and_then_made_by_hand_stays(database: Database) -> None:
    run(database, "ALTER TABLE llm_enrichment RENAME COLUMN result TO result_of_last_year")
    tell(database, "job-1", requested(), started(), succeeded(result=WRONG))
    run(database, "ALTER TABLE llm_enrichment RENAME COLUMN result_of_last_year TO result")
    columns = "job_posting_id, enrichment, result, enrichment_error, enrichment_completed_at, enrichment_model_version"
    values = """'1', 'job', '{"title": "Clerk"}', 'none', '2020-01-01T00:00:00+00:00', 'by hand'"""
    run(database, f"INSERT INTO llm_enrichment ({columns}) VALUES ({values})")
    assert reconcile.not_shown(database).keys() == {"job-1"}
    found = rebuild(database)
    assert (found.counts["edited"], found.written, result(database)) == (1, 0, RIGHT)
    assert reconcile.not_shown(database) == {}
    assert rebuild(database, overwrites=True).written == 1
    assert result(database) == WRONG


def test_what_is_no_value_of_its_column_is_an_edit_as_any_other(told: Database) -> None:
    if told.dialect.name == "sqlite":
        run(told, "UPDATE llm_enrichment SET result = 'not json' WHERE job_posting_id = '1'")
        run(told, "UPDATE llm_enrichment SET enrichment_completed_at = 42 WHERE job_posting_id = '2'")
    else:  # what the database knows, and no datetime
        run(told, "UPDATE llm_enrichment SET enrichment_completed_at = 'infinity' WHERE job_posting_id = '1'")
        run(told, "UPDATE llm_enrichment SET enrichment_completed_at = '0044-03-15 BC' WHERE job_posting_id = '2'")
    found = verify(told)
    assert (found.counts["edited"], found.total) == (2, 2)
    assert rebuild(told).written == 0
    assert rebuild(told, overwrites=True).written == 2
    assert verify(told).total == 0


def test_a_column_of_another_type_that_holds_the_same_is_no_edit(postgresql: Database) -> None:
    run(postgresql, "DROP VIEW jobs_needing_retry")
    run(postgresql, "ALTER TABLE llm_enrichment ALTER COLUMN enrichment_completed_at TYPE text")
    tell(postgresql, "job-1", requested(), started(), succeeded())
    assert verify(postgresql).total == 0
    run(postgresql, "UPDATE llm_enrichment SET enrichment_completed_at = 'yesterday'")
    assert verify(postgresql).counts["edited"] == 1


def test_what_was_corrected_and_stays_is_noted_as_differing_still(enrichlog: Command, told: Database) -> None:
    correct(told)
    enrichlog.done("rebuild")
    assert noted(told)["llm_enrichment"].drift == 1
    enrichlog.done("rebuild", "--overwrite-edits")
    assert noted(told)["llm_enrichment"].drift == 0
