"""Failures that are tried anew because their prompt, schema or model is another by now."""

import pytest

from enrichlog import get_unenriched_jobs
from enrichlog.anew import count_anew, request_anew
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.place import database_of
from enrichlog.settings import Settings, configure
from eventlog.database import Database
from tests.builders import failed, requested, started, status, tell
from tests.command_line import Command
from tests.service import import_many, of_type


@pytest.fixture
def asked(bare: object) -> Enrichment:
    return enrichment_of(configure(base_url="http://127.0.0.1:1/v1", model="model-1"))


def refused(database: Database, asked: Enrichment, job_id: str, **other: str) -> None:
    """A posting that failed for good, under this enrichment but for what is another."""
    basis = {"request_model": asked.model, "prompt_hash": asked.prompt.hash, "schema_hash": asked.schema_hash, **other}
    final = {"error_type": "refusal", "retryable": False, "fault": "posting", "wait_ms": None}
    tell(database, f"job-{job_id}", started(**basis), failed(**final))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["request_model", "prompt_hash", "schema_hash"])
def test_what_failed_for_good_is_requested_with_a_new_budget_once_that_is_another(
    database: Database, asked: Enrichment, name: str
) -> None:
    import_many(database, 3)
    refused(database, asked, "000", **{name: "an older one"})
    refused(database, asked, "001")
    assert count_anew(database, asked, 5) == 1
    assert (request_anew(database, asked, 5), request_anew(database, asked, 5)) == (1, 0)
    (request,) = [one for one in of_type(database, "EnrichmentRequested") if one.facts["why"] == "changed"]
    assert request.stream_id == "job-000"
    found = status(database, "job-000")
    assert (found["state"], found["budget_used"]) == ("pending", 0)
    assert status(database, "job-001")["state"] == "failed"


def test_what_used_up_its_attempts_is_too_and_what_is_tried_again_by_itself_is_not(
    database: Database, asked: Enrichment
) -> None:
    import_many(database, 2)
    for job_id, times in (("000", 5), ("001", 2)):
        for attempt in range(1, times + 1):
            tell(database, f"job-{job_id}", started(attempt, request_model="old"), failed(attempt, wait_ms=0))
    assert request_anew(database, asked, 5) == 1
    assert [status(database, f"job-{n}")["state"] for n in ("000", "001")] == ["pending", "failed"]


def test_a_failure_made_elsewhere_does_not_say_what_it_rested_on_and_is_left(
    database: Database, asked: Enrichment
) -> None:
    import_many(database, 1)
    tell(database, "job-000", started(origin="external", request_model=None), failed(retryable=False, wait_ms=None))
    assert count_anew(database, asked, 5) == 0


def test_one_that_is_requested_already_is_left(database: Database, asked: Enrichment) -> None:
    import_many(database, 1)
    refused(database, asked, "000", request_model="old")
    tell(database, "job-000", requested("retry"))
    assert request_anew(database, asked, 5) == 0


def test_a_run_takes_them_and_says_so_before(enrichlog: Command, database: Database, bare: object) -> None:
    import_many(database, 1)
    asked = enrichment_of(configure(model="gpt-4o-mini"))
    refused(database, asked, "000", prompt_hash="old")
    assert enrichlog.json("enrich", "--dry-run")["would_take"] == 1
    assert enrichlog.json("enrich")["succeeded"] == 1


def test_they_are_among_what_is_due(service: Settings, database: Database) -> None:
    settings = configure(database=database.url)
    import_many(database, 1)
    refused(database, enrichment_of(settings), "000", request_model="old")
    assert get_unenriched_jobs() == ["000"]
    database_of(settings).close()
