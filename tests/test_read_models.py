"""How projections stand, as people see it: listed, and warned of while their rows are not of this code's fold."""

from dataclasses import replace

import pytest

from eventlog.database import Database
from projections import breaker, catalogue
from projections.catalogue import names
from projections.checkpoints import note_check, note_version, noted
from tests.builders import failed, requested, run, started, succeeded, tell
from tests.command_line import Command, contents

KEYS = {
    "name", "kind", "fold", "fold_version", "rows_fold_version", "rows", "position", "lag", "drift", "checked_at",
    "checked_position", "failed_streams",
}  # fmt: skip
REBUILD = "until: enrichlog rebuild breaker\n"


@pytest.fixture
def told(database: Database) -> Database:
    """One posting enriched, one failed, one not tried yet."""
    tell(database, "job-1", requested(), started(), succeeded())
    tell(database, "job-2", requested(), started(), failed())
    tell(database, "job-3", requested())
    return database


@pytest.fixture
def raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fold of the breaker has changed: this code has a later version of it."""
    found = catalogue._catalogue()
    later = {**found.spanning, "breaker": replace(breaker.projection, version=2)}
    changed = found._replace(spanning=later)
    monkeypatch.setattr(catalogue, "_catalogue", lambda: changed)


def test_every_projection_is_listed_with_its_rows_and_how_far_it_is(enrichlog: Command, told: Database) -> None:
    document = enrichlog.json("projections", "list")
    assert (document["position"], [one["name"] for one in document["projections"]]) == (7, list(names()))
    found = {one.pop("name"): one for one in document["projections"]}
    assert all(set(one) == KEYS - {"name"} for one in found.values())
    assert found["llm_enrichment"] == {
        "kind": "per stream", "fold": "current", "fold_version": 1, "rows_fold_version": 1, "rows": 2, "position": 7,
        "lag": 0, "drift": None, "checked_at": None, "checked_position": None, "failed_streams": 0,
    }  # fmt: skip
    assert (found["enrichment_status"]["rows"], found["enrichment_status"]["failed_streams"]) == (3, None)
    assert found["breaker"]["kind"] == "spanning"


def test_the_last_check_is_told(enrichlog: Command, told: Database) -> None:
    assert enrichlog.done("projections", "list").out.count("never checked") == len(names())
    note_check(told, "batches", 5, 0)
    note_check(told, "llm_enrichment", 7, 2)
    said = enrichlog.done("projections", "list").out
    assert " 0 at 5, " in said
    assert " 2 at 7, " in said
    assert "at its last check. To see how: enrichlog rebuild llm_enrichment --dry-run" in said
    (one,) = [one for one in enrichlog.json("projections", "list")["projections"] if one["name"] == "llm_enrichment"]
    assert (one["drift"], one["checked_position"], one["checked_at"][-1]) == (2, 7, "Z")


def test_an_empty_log_has_projections_without_rows(enrichlog: Command, database: Database) -> None:
    assert enrichlog.done("projections", "list").out.startswith("There is no event yet.")
    assert {one["rows"] for one in enrichlog.json("projections", "list")["projections"]} == {0}


def test_rows_that_are_as_this_codes_folds_make_them_are_warned_of_nowhere(enrichlog: Command, told: Database) -> None:
    assert enrichlog.done("status").err == ""
    assert enrichlog.done("failed", "--json").err == ""


def test_rows_of_an_earlier_fold_are_served_and_told_of_in_one_line_until_they_are_rebuilt(
    enrichlog: Command, told: Database, raised: None
) -> None:
    for said in (enrichlog.done("status"), enrichlog.done("errors", "--json"), enrichlog.done("failed")):
        assert said.err.startswith("An earlier version of enrichlog has made the rows of breaker.")
        assert said.err.endswith(REBUILD)
        assert said.err.count("\n") == 1
    assert enrichlog("errors", "--json").document[0]["error_type"] == "timeout"
    listed = enrichlog.done("projections", "list")
    assert "1, code 2" in listed.out
    assert (REBUILD in listed.out, listed.err) == (True, "")
    note_version(told, "breaker", 2)
    assert enrichlog.done("status").err == ""


@pytest.mark.parametrize(
    ("version", "told_of"),
    [("9", "Upgrade enrichlog, then: enrichlog rebuild batches"), ("0", "Add it with: enrichlog rebuild batches")],
)
def test_rows_of_a_later_fold_and_of_none_are_told_of_too(
    enrichlog: Command, told: Database, version: str, told_of: str
) -> None:
    run(told, f"UPDATE {{ours}}checkpoints SET fold_version = {version} WHERE projection = 'batches'")
    assert enrichlog.done("status").err.rstrip().endswith(told_of)


@pytest.mark.parametrize("name", ["enrichment_status", "breaker", "enrichment_stats_hourly"])
def test_rows_of_a_later_fold_are_neither_written_over_nor_said_to_be_wrong(
    enrichlog: Command, told: Database, name: str
) -> None:
    enrichlog.done("rebuild")
    run(told, f"UPDATE {{ours}}checkpoints SET fold_version = 9 WHERE projection = '{name}'")
    run(told, "UPDATE {ours}enrichment_status SET attempts = 9 WHERE job_id = '1'")
    before = contents(told)
    for words in (["rebuild"], ["rebuild", name], ["rebuild", name, "--dry-run"]):
        refused = enrichlog(*words)
        assert (refused.code, refused.out) == (1, "")
        assert f"The rows of {name} are those of version 9 of its fold, this is version 1. " in refused.error
        assert "upgrade enrichlog" in refused.error
    assert contents(told) == before
    found = enrichlog("verify", name)
    assert found.code == 3
    assert f"\nNot sound. The log is. The rows of {name} are those of version 9 of its fold, this is" in found.out
    assert found.out.endswith("to carry them on, upgrade enrichlog.\n")
    assert "enrichlog rebuild" not in found.out
    document = enrichlog("verify", "--json").document
    assert not document["sound"]
    assert [one["projection"] for one in document["projections"]] == [one for one in names() if one != name]
    assert noted(told)[name].drift == 0  # as it was found before
    assert enrichlog("rebuild", "llm_enrichment").code == 0  # others are none the worse for it


def test_a_projection_that_the_database_was_not_made_ready_for_is_told_of_until_init_has_been_run(
    enrichlog: Command, database: Database
) -> None:
    run(database, "DELETE FROM {ours}checkpoints WHERE projection = 'batches'")
    assert enrichlog.done("status").err == "This database has no batches yet. Have it made by: enrichlog init\n"
    enrichlog.done("init")
    assert enrichlog.done("status").err == ""
    assert noted(database).keys() == set(names())


def test_several_are_told_of_together(enrichlog: Command, told: Database) -> None:
    run(told, "UPDATE {ours}checkpoints SET fold_version = 0 WHERE projection IN ('batches', 'breaker')")
    (line,) = enrichlog.done("status").err.splitlines()
    assert line.startswith("The rows of batches, breaker lack what was in the log before them.")
    assert line.endswith("enrichlog rebuild batches breaker")


def test_a_verify_and_a_rebuild_note_what_they_found_and_a_dry_run_no_version(
    enrichlog: Command, told: Database, raised: None
) -> None:
    run(told, "UPDATE {ours}enrichment_status SET attempts = 9 WHERE job_id = '1'")
    assert enrichlog("verify").code == 3
    assert [noted(told)[name].drift for name in ("enrichment_status", "llm_enrichment")] == [1, 0]
    assert noted(told)["enrichment_status"].checked_position == 7
    enrichlog("rebuild", "--dry-run")
    assert (noted(told)["enrichment_status"].drift, noted(told)["breaker"].fold_version) == (1, 1)
    enrichlog.done("rebuild")
    assert (noted(told)["enrichment_status"].drift, noted(told)["breaker"].fold_version) == (0, 2)


def test_rows_that_a_rebuild_leaves_as_they_were_still_differ(enrichlog: Command, told: Database) -> None:
    run(told, "INSERT INTO llm_enrichment (job_posting_id, enrichment_error) VALUES ('ghost', 'theirs')")
    enrichlog.done("rebuild")
    assert noted(told)["llm_enrichment"].drift == 1


def test_who_may_not_write_can_verify_and_list_all_the_same(user: Command, postgresql: Database) -> None:
    name = postgresql.url.rpartition("/")[2]
    run(postgresql, f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    user.done("verify", "--database", postgresql.url)
    user.done("projections", "list", "--database", postgresql.url)
    assert all(one.checked_at is None for one in noted(postgresql).values())
