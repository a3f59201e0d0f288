"""What scripts read: with --json each command prints one document on standard output, with these keys, and no more."""

from pathlib import Path
from typing import Any

import pytest

from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from projections.catalogue import names
from tests.builders import failed, run, started, tell
from tests.command_line import Command
from tests.service import import_postings, posting

RUN = {
    "succeeded", "failed", "late", "errors", "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls",
    "simulated", "stopped", "signal", "hurried", "unrecorded", "done", "seconds", "left", "projection_failed",
}  # fmt: skip
PLAN = {
    "position", "selection", "max_attempts", "max_retries", "default_max_attempts", "will_try", "left_for_later",
    "requested_already", "by_error_type", "next_due", "estimate", "why_nothing",
}  # fmt: skip
DRIFT = {
    "projection",
    "events",
    "streams",
    "counts",
    "gone",
    "examples",
    "written",
    "refused",
    "locked",
    "went_on_after",
    "behind",
    "total",
}
EVENT = {"position", "version", "type", "recorded_at", "payload"}


@pytest.fixture
def scripted(enrichlog: Command, database: Database, simulator: Simulator) -> Command:
    """One posting enriched, one refused, one that met an exhausted quota."""
    import_postings(database, posting("1"), posting("2", company="Acme Corp"), posting("3"))
    rules = [Rule("Work number 2", (Fault.REFUSAL,)), Rule("Work number 3", (Fault.QUOTA, Fault.OK))]
    simulator.play(Script(rules=rules))
    document = enrichlog.json("enrich", "1", "2")
    assert (set(document), document["errors"], document["stopped"]) == (RUN, {"refusal": 1}, None)
    said = enrichlog("enrich", "--json")
    assert (said.code, said.err) == (1, "")
    assert said.document["stopped"].startswith("Quota Exceeded: Error code: 429 - ")
    return enrichlog


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["job_id"]: row for row in rows}


def test_failed_is_a_list_of_postings(scripted: Command) -> None:
    rows = by_id(scripted.json("failed"))
    failed_at = rows["2"].pop("failed_at")
    assert failed_at.startswith("20")
    assert failed_at.endswith("Z")
    assert rows["2"].pop("error").startswith("Could not extract structured output from API response: the model refused")
    assert rows["2"] == {
        "job_id": "2", "title": "Engineer 2", "company": "Acme Corp", "error_type": "refusal", "attempts": 1,
        "retryable": False, "retry_at": None,
    }  # fmt: skip
    assert (rows["3"]["retryable"], rows["3"]["error_type"], rows["3"]["company"]) == (True, "quota_exceeded", None)
    assert rows["3"]["retry_at"].startswith("20")


def test_failed_is_an_empty_list_when_nothing_has(enrichlog: Command) -> None:
    assert enrichlog.json("failed") == []
    assert enrichlog.json("errors") == []


def test_errors_is_a_list_of_counts(scripted: Command) -> None:
    rows = scripted.json("errors")
    assert [row.pop("advice").split()[0] for row in rows] == ["Wait", "Trying"]
    assert rows == [
        {"error_type": "quota_exceeded", "group": "Quota Exceeded", "count": 1},
        {"error_type": "refusal", "group": "Rejected", "count": 1},
    ]


def test_a_time_has_one_form_in_all_documents(enrichlog: Command, database: Database) -> None:
    import_postings(database, posting("1"))
    tell(database, "job-1", started(), failed())
    told = (enrichlog.json("retry", "--dry-run")["next_due"], enrichlog.json("failed")[0]["retry_at"])
    assert told[0] == told[1]
    assert told[0].endswith("Z")


def test_history_is_a_posting_and_its_events(scripted: Command) -> None:
    document = scripted.json("history", "2")
    assert set(document) == {"job_id", "events"}
    assert document["job_id"] == "2"
    assert [set(event) for event in document["events"]] == [EVENT] * 3
    assert [event["version"] for event in document["events"]] == [1, 2, 3]
    assert document["events"][2]["payload"]["error_type"] == "refusal"


def test_status_counts_every_state(scripted: Command, database: Database) -> None:
    document = scripted.json("status")
    assert document["postings"] == {"pending": 0, "running": 0, "succeeded": 1, "failed": 2, "dismissed": 0}
    assert (document["database"], document["enrichment"]) == (database.dialect.where(), "job")
    assert (document["attempts"], document["position"], document["projection_failed"]) == (3, 9, 0)
    assert {"input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls"} < set(document)


def test_a_plan_counts_by_error_type(scripted: Command) -> None:
    document = scripted.json("retry", "--dry-run", "--max-retries", "2")
    assert set(document) == PLAN
    assert (document["max_attempts"], document["max_retries"], document["will_try"]) == (3, 2, 1)
    assert document["why_nothing"] is None
    assert document["by_error_type"]["refusal"] == {"will_try": 0, "waiting": 0, "exhausted": 0, "not_retryable": 1}


def test_a_plan_for_nothing_says_why(scripted: Command) -> None:
    document = scripted.json("retry", "--error-type", "timeout")
    assert (document["will_try"], document["by_error_type"]) == (0, {})
    assert document["why_nothing"].startswith("No posting has failed like that.")


def test_a_retry_is_a_run(scripted: Command) -> None:
    scripted.done("breaker", "close", "--reason", "mended")
    document = scripted.json("retry", "--yes")
    assert set(document) == RUN | {"batch", "position", "requested", "moved_on", "left_for_later", "still_requested"}
    assert (document["succeeded"], document["failed"], document["simulated"]) == (1, 0, True)


def test_a_run_names_what_it_left_and_a_dry_run_what_it_would_take(scripted: Command) -> None:
    assert scripted.json("enrich", "1")["left"] == {"1": "already enriched"}
    assert scripted.json("enrich", "1", "3", "--dry-run") == {
        "dry_run": True, "would_take": 1, "left": {"1": "already enriched"},
    }  # fmt: skip


def test_an_import_lists_every_rejected_line(enrichlog: Command, bare: Path) -> None:
    (bare / "jobs.jsonl").write_text('{"id": 1, "title": "Clerk", "description": "File."}\nno\n{"id": 2}\n')
    document = enrichlog.json("import", "jobs.jsonl")
    assert [line["line"] for line in document.pop("rejected")] == [2, 3]
    assert document == {
        "file": "jobs.jsonl", "dry_run": False, "added": 1, "unchanged": 0, "changed": 0, "unit": "line",
    }  # fmt: skip


def test_rebuild_and_verify_tell_of_each_projection(scripted: Command, database: Database) -> None:
    sound = scripted.json("verify")
    assert set(sound) == {
        "sound", "verdict", "events", "anchor", "faults", "more", "abandoned", "projections",
    }  # fmt: skip
    assert (sound["sound"], sound["events"], sound["faults"]) == (True, 9, [])
    assert set(sound["anchor"]) == {"position", "hash"}
    run(database, "UPDATE llm_enrichment SET enrichment_error = NULL")
    found = scripted("rebuild", "--dry-run", "--json")
    assert (found.code, found.err) == (3, "")
    assert [set(one) for one in found.document["projections"]] == [DRIFT] * len(names())
    assert found.document["projections"][1]["counts"] == {"missing": 0, "stale": 2, "edited": 0, "extra": 0}
    assert scripted.json("rebuild")["projections"][1]["written"] == 2


def test_init_says_where_and_which_migration(user: Command, empty_database: Database) -> None:
    document = user.json("init", "--database", empty_database.url)
    assert document == {"database": empty_database.dialect.where(), "migration": "0001", "lacking_role": None}
    assert "CREATE TABLE" in user.json("init", "--sql", "--database", empty_database.url)["sql"]


def test_an_export_into_a_file_is_summed_up(scripted: Command, bare: Path) -> None:
    document = scripted.json("export", "events", "--output", "log.jsonl")
    assert document == {"exported": "events", "count": 9, "file": "log.jsonl"}
    assert len((bare / "log.jsonl").read_text().splitlines()) == 9


def test_config_is_a_list_of_settings(enrichlog: Command) -> None:
    rows = enrichlog.json("config")
    assert [set(row) for row in rows] == [{"name", "value", "source"}] * len(Settings.model_fields)
