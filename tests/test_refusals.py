"""Re-project, never re-pay: what the users' table refuses is kept, listed with the reason, and written once mended."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from enrichlog.refusals import first_line
from enrichlog.simulator import Simulator
from eventlog.database import Database
from tests.builders import failed, proposal, requested, run, shown, started, status, succeeded, tell
from tests.builders import offer as offer_all
from tests.command_line import Command
from tests.service import import_many, import_postings, posting, whole_log

SHOWN = "SELECT job_posting_id, result FROM llm_enrichment WHERE enrichment_error IS NULL ORDER BY 1"
ENUM = "CHECK (result ->> 'role_type' IN ('astronaut'))"
SHORT = "CHECK (length(enrichment_model_version) <= 3)"
REFUSALS: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "a check of an enum": {
        "sqlite": (f"ADD COLUMN theirs text CONSTRAINT known_roles {ENUM}", "DROP COLUMN theirs", "known_roles"),
        "postgresql": (f"ADD CONSTRAINT known_roles {ENUM}", "DROP CONSTRAINT known_roles", "known_roles"),
    },
    "a column that is too short": {
        "sqlite": (f"ADD COLUMN theirs text CONSTRAINT is_short {SHORT}", "DROP COLUMN theirs", "is_short"),
        "postgresql": (
            "ALTER COLUMN enrichment_model_version TYPE varchar(3)",
            "ALTER COLUMN enrichment_model_version TYPE text",
            "value too long for type character varying(3)",
        ),
    },
    "a missing column": dict.fromkeys(
        ("sqlite", "postgresql"), ("RENAME COLUMN result TO gone", "RENAME COLUMN gone TO result", "result")
    ),
}
"""What is done to the table, what mends it, and what the database says of it, each by the name of the database."""


@pytest.mark.parametrize("case", REFUSALS)
def test_what_is_refused_is_kept_listed_and_shown_by_a_rebuild_and_nobody_is_called_again(
    enrichlog: Command, database: Database, simulator: Simulator, case: str
) -> None:
    damage, repair, reason = REFUSALS[case][database.dialect.name]
    import_many(database, 3)
    run(database, f"ALTER TABLE llm_enrichment {damage}")
    assert enrichlog.json("enrich")["projection_failed"] == 3
    told, calls = whole_log(database), len(simulator.journal)

    listed = enrichlog.json("projections", "failed")
    assert (listed["total"], [one["postings"] for one in listed["reasons"]]) == (3, [3])
    assert [one["job_id"] for one in listed["postings"]] == ["000", "001", "002"]
    assert all(reason in one["reason"] for one in (*listed["reasons"], *listed["postings"]))
    assert {one["since"]["type"] for one in listed["postings"]} == {"EnrichmentSucceeded"}
    said = enrichlog.done("projections", "failed").out
    assert said.startswith("3 postings: ")
    assert reason in said.splitlines()[0]
    assert "Mend the table, then: enrichlog rebuild llm_enrichment\n" in said
    assert "3 results are in the log and not in llm_enrichment" in enrichlog.done("projections", "list").out

    run(database, f"ALTER TABLE llm_enrichment {repair}")
    assert "3 rows written" in enrichlog.done("rebuild", "llm_enrichment").out
    results = {event.stream_id: (event.content or {})["result"] for event in told if "result" in (event.content or {})}
    assert {f"job-{row['job_posting_id']}": _read(row["result"]) for row in run(database, SHOWN)} == results
    assert enrichlog.json("projections", "failed") == {"trouble": None, "total": 0, "reasons": [], "postings": []}
    assert enrichlog.done("projections", "failed").out.startswith("llm_enrichment shows all that is in the log")
    assert (calls, len(simulator.journal), whole_log(database)) == (3, 3, told)


def _read(result: Any) -> Any:
    return json.loads(result) if isinstance(result, str) else result


def refuse_models(database: Database, *models: str) -> None:
    """Their table takes one row of each of these models, and then no more."""
    given = ", ".join(f"'{model}'" for model in models)
    where = f"WHERE enrichment_model_version IN ({given})"
    run(database, f"CREATE UNIQUE INDEX one_each ON llm_enrichment (enrichment_model_version) {where}")


def test_since_when_is_the_first_event_that_the_table_does_not_show(enrichlog: Command, database: Database) -> None:
    tell(database, "job-1", requested(), started(), succeeded(response_model="b"))
    tell(database, "job-2", requested(), started(), succeeded(response_model="a"))
    refuse_models(database, "b")
    tell(database, "job-2", requested("force"), started(2), succeeded(2, response_model="b"))
    tell(database, "job-2", requested("force"), started(3), failed(3))
    row = shown(database, "job-2")
    assert row is not None
    (one,) = enrichlog.json("projections", "failed")["postings"]
    assert (one["job_id"], one["since"]["position"], one["since"]["type"]) == ("2", 9, "EnrichmentSucceeded")
    assert row["enrichment_model_version"] == "a"


def test_a_reason_names_as_many_postings_as_were_asked_for_and_counts_them_all(
    enrichlog: Command, database: Database
) -> None:
    names = [f"job-{number}" for number in range(5)]
    for event in (requested(), started()):
        offer_all(database, *(proposal(name, event) for name in names))
    refuse_models(database, "b")
    for name in names:
        tell(database, name, succeeded(response_model="b"))
    said = enrichlog.done("projections", "failed", "--limit", "2").out.splitlines()
    assert said[0].startswith("4 postings: ")
    assert [line.split()[0] for line in said[1:4]] == ["1", "2", "…"]
    found = enrichlog.json("projections", "failed", "--limit", "1")
    assert (found["total"], len(found["postings"])) == (4, 1)


def test_a_posting_that_is_shown_by_now_is_said_to_be(enrichlog: Command, database: Database) -> None:
    tell(database, "job-1", requested(), started(), succeeded())
    assert status(database, "job-1")["projection_error"] is None
    run(database, "UPDATE {ours}enrichment_status SET projection_error = 'it was locked'")
    assert "1 is shown by now, and still marked" in enrichlog.done("projections", "failed").out
    enrichlog.done("rebuild", "llm_enrichment")
    assert enrichlog.json("projections", "failed")["total"] == 0


def test_a_table_that_is_gone_shows_nothing(enrichlog: Command, database: Database) -> None:
    tell(database, "job-1", requested(), started())
    run(database, "ALTER TABLE llm_enrichment RENAME TO elsewhere")
    tell(database, "job-1", succeeded())
    (one,) = enrichlog.json("projections", "failed")["postings"]
    assert one["since"]["position"] == 3
    said = enrichlog.done("projections", "list").out
    assert "llm_enrichment has no table any more. Make it again as it was, then: enrichlog rebuild" in said


def test_while_the_table_is_gone_nobody_says_that_it_shows_everything(enrichlog: Command, database: Database) -> None:
    tell(database, "job-1", requested(), started(), failed())
    run(database, "ALTER TABLE llm_enrichment RENAME TO elsewhere")
    said = enrichlog.done("projections", "failed").out
    assert said.startswith("The table llm_enrichment is not there: ")
    assert (said.count("\n"), said.endswith("enrichlog rebuild llm_enrichment\n")) == (1, True)
    assert "is not there" in enrichlog.json("projections", "failed")["trouble"]


def test_every_screen_tells_a_reason_in_its_first_line_without_the_row(enrichlog: Command, database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    refuse_models(database, "b")
    for name in ("job-1", "job-2"):
        tell(database, name, started(), succeeded(response_model="b"))
    (refused,) = enrichlog.json("projections", "failed")["postings"]
    told = first_line(refused["reason"])
    assert told in enrichlog.done("projections", "failed").out
    assert f"The table does not show it: {told}.\n" in enrichlog.done("why", refused["job_id"]).out
    assert f"was refused by the table: {told}\n" in enrichlog("rebuild").out


def test_a_reason_of_several_lines_with_a_full_stop_is_told_without_either() -> None:
    assert first_line("null value in column.\nDETAIL:  Failing row contains (1).") == "null value in column"


def test_a_limit_of_nothing_is_refused(enrichlog: Command) -> None:
    said = enrichlog("projections", "failed", "--limit", "0")
    assert (said.code, "--limit" in said.error) == (2, True)
