"""What is said of a table of results calls it by its owners' name for it; its projection has one name for all."""

import re
from pathlib import Path

import pytest

from eventlog.database import Database
from tests.adopted import a_result, job_id, look_up, settings_file
from tests.builders import requested, run, started, succeeded, tell
from tests.command_line import Command

THEIRS = "vacancy_enrichment"


@pytest.fixture
def renamed(adopted: Database, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """An adopted database whose table of results has a name of its own, and has refused a result."""
    run(adopted, f"ALTER TABLE llm_enrichment RENAME TO {THEIRS}")
    look_up(adopted, table=THEIRS)
    (bare / "enrichlog.toml").write_text(settings_file(table=THEIRS))
    monkeypatch.setenv("DATABASE_URL", adopted.url)
    run(adopted, f"INSERT INTO job_postings (id, title, title_classification) VALUES ('{job_id(1)}', 'One', 'Data')")
    tell(adopted, f"job-{job_id(1)}", requested(), started(), succeeded(result=a_result(sourcing_type="nonsense")))
    return adopted


def test_what_their_table_refused_is_told_by_its_name(user: Command, renamed: Database) -> None:
    not_in_it = f"1 result is in the log and not in {THEIRS}. See why"
    for words in (("status",), ("projections", "list")):
        assert not_in_it in user.done(*words).out
    told = user("verify")
    assert (told.code, f"{THEIRS} did not take 1 row, see why" in told.out) == (3, True), told.out
    assert "enrichlog rebuild llm_enrichment" in user.done("projections", "failed").out  # what a command takes

    run(renamed, "UPDATE {ours}enrichment_status SET projection_error = NULL")
    assert user.done("projections", "failed").out.startswith(f"{THEIRS} shows all that is in the log")


def test_a_run_tells_of_their_table_by_its_name(user: Command, renamed: Database) -> None:
    user.json("sync")
    said = user.done("enrich", "--force", job_id(1)).out
    assert re.search(rf"results? (is|are) in the log and not in {THEIRS}\. See why", said), said


def test_their_table_is_missed_by_its_name(user: Command, renamed: Database) -> None:
    run(renamed, f"ALTER TABLE {THEIRS} RENAME COLUMN sector TO branch")
    said = user("projections", "failed").out
    assert f"The table {THEIRS} lacks sector" in said
    assert "Add it again, or take it out of [target.columns]" in " ".join(said.split())
    run(renamed, f"DROP TABLE {THEIRS}")
    assert f"The table {THEIRS} is not there" in user("projections", "failed").out
