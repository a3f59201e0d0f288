"""Failures that are tried anew because their prompt, schema or model is another by now."""

import pytest

from enrichlog import get_unenriched_jobs
from enrichlog.anew import count_anew, with_failures_anew
from enrichlog.claims import claim
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.place import database_of
from enrichlog.scope import Scope, count_due, is_any_due
from enrichlog.settings import Settings, configure
from eventlog.database import Database
from projections import bases
from tests.builders import dismissed, failed, follow, requested, run, sessions, started, status, tell
from tests.command_line import Command
from tests.service import import_many, of_type


@pytest.fixture
def settings(bare: object) -> Settings:
    return configure(base_url="http://127.0.0.1:1/v1", model="model-1")


def refused(database: Database, settings: Settings, job_id: str, **other: str) -> None:
    """A posting that failed for good, under these settings but for what is another."""
    asked = enrichment_of(settings)
    basis = {"request_model": asked.model, "prompt_hash": asked.prompt.hash, "schema_hash": asked.schema_hash, **other}
    final = {"error_type": "refusal", "retryable": False, "fault": "posting", "wait_ms": None}
    tell(database, f"job-{job_id}", started(**basis), failed(**final))  # type: ignore[arg-type]


def scope_of(database: Database, asked: Enrichment) -> Scope:
    return with_failures_anew(database, Scope(database.now()), asked, 5)


def taken(database: Database, settings: Settings, limit: int = 10) -> list[str]:
    asked = enrichment_of(settings)
    return [one.posting.id for one in claim(database, settings, asked, scope_of(database, asked), "w", limit).taken]


@pytest.mark.parametrize("name", ["request_model", "prompt_hash", "schema_hash"])
def test_what_failed_for_good_is_tried_with_a_new_budget_once_that_is_another(
    database: Database, settings: Settings, name: str
) -> None:
    import_many(database, 2)
    refused(database, settings, "000", **{name: "an older one"})
    refused(database, settings, "001")
    assert count_due(database, "job", scope_of(database, enrichment_of(settings)), 5) == 1
    assert taken(database, settings) == ["000"]
    found = status(database, "job-000")
    assert (found["state"], found["budget_used"], found["attempts"]) == ("running", 0, 2)
    assert status(database, "job-001")["state"] == "failed"


def test_once_it_has_failed_on_that_too_it_is_final_again(database: Database, settings: Settings) -> None:
    import_many(database, 1)
    refused(database, settings, "000", prompt_hash="old")
    assert taken(database, settings) == ["000"]
    attempt_id = of_type(database, "EnrichmentStarted")[-1].facts["attempt_id"]
    tell(database, "job-000", failed(2, attempt_id=attempt_id, retryable=False, wait_ms=None))
    assert taken(database, settings) == []


def test_a_model_that_comes_back_after_another_is_no_change(database: Database, settings: Settings) -> None:
    import_many(database, 1)
    refused(database, settings, "000", request_model="model-2")
    assert taken(database, configure(model="model-1")) == ["000"]
    attempt_id = of_type(database, "EnrichmentStarted")[-1].facts["attempt_id"]
    tell(database, "job-000", failed(2, attempt_id=attempt_id, retryable=False, wait_ms=None))
    assert taken(database, configure(model="model-2")) == []
    assert taken(database, configure(model="model-3")) == ["000"]  # the control


def test_what_was_tried_with_as_many_as_are_told_apart_is_left(database: Database, settings: Settings) -> None:
    import_many(database, 2)
    for job_id, tried in (("000", bases.MOST), ("001", bases.MOST - 1)):
        refused(database, settings, job_id, request_model="old")
        words = " ".join(f"{number:08}" for number in range(tried))
        run(database, f"UPDATE {{ours}}enrichment_status SET bases = '{words}' WHERE job_id = '{job_id}'")
    assert taken(database, settings) == ["001"]


def test_a_posting_that_was_deleted_is_not_among_them(database: Database, settings: Settings) -> None:
    import_many(database, 1)
    refused(database, settings, "000", request_model="old")
    asked = enrichment_of(settings)
    assert count_anew(database, Scope(database.now()), asked, 5) == 1  # the control
    run(database, "DELETE FROM job_postings")
    assert count_anew(database, Scope(database.now()), asked, 5) == 0
    assert scope_of(database, asked).basis is None


def test_what_a_run_does_not_come_to_stays_as_it_was(database: Database, settings: Settings) -> None:
    import_many(database, 3)
    for job_id in ("000", "001", "002"):
        refused(database, settings, job_id, request_model="old")
    before = follow(database)
    scope = scope_of(database, enrichment_of(settings))
    assert follow(database) == before  # to look appends nothing
    assert len(claim(database, settings, enrichment_of(settings), scope, "w", 1).taken) == 1
    assert sorted(status(database, f"job-00{n}")["state"] for n in range(3)) == ["failed", "failed", "running"]


def test_what_used_up_its_attempts_is_too_and_what_is_tried_again_by_itself_only_once(
    database: Database, settings: Settings
) -> None:
    import_many(database, 2)
    old = {"request_model": "old", "prompt_hash": "p", "schema_hash": "s"}
    for job_id, times in (("000", 5), ("001", 2)):
        for attempt in range(1, times + 1):
            tell(database, f"job-{job_id}", started(attempt, **old), failed(attempt, wait_ms=0))
    assert taken(database, settings) == ["001", "000"]


def test_a_failure_made_elsewhere_does_not_say_what_it_rested_on_and_is_left(
    database: Database, settings: Settings
) -> None:
    import_many(database, 1)
    tell(database, "job-000", started(origin="external", request_model=None), failed(retryable=False, wait_ms=None))
    assert taken(database, settings) == []


def test_what_is_requested_dismissed_or_killed_its_workers_is_no_part_of_it(
    database: Database, settings: Settings
) -> None:
    import_many(database, 3)
    for job_id in ("000", "001", "002"):
        refused(database, settings, job_id, request_model="old")
    assert scope_of(database, enrichment_of(settings)).basis is not None  # the control
    tell(database, "job-000", requested("retry"))
    tell(database, "job-001", dismissed())
    for attempt in (2, 3, 4):
        death = failed(attempt, error_type="interrupted", fault="ours", cap=3, worker_died=True, wait_ms=0)
        tell(database, "job-002", started(attempt, request_model="old"), death)
    assert scope_of(database, enrichment_of(settings)).basis is None


def test_a_run_takes_them_says_so_before_and_begins_no_more_than_its_limit(
    enrichlog: Command, database: Database
) -> None:
    import_many(database, 3)
    for job_id in ("000", "001", "002"):
        refused(database, configure(model="gpt-4o-mini"), job_id, prompt_hash="old")
    assert enrichlog.json("enrich", "--dry-run")["would_take"] == 3
    assert enrichlog.json("enrich", "--limit", "1")["succeeded"] == 1
    assert enrichlog.json("status")["postings"]["failed"] == 2
    assert enrichlog.json("enrich")["succeeded"] == 2


def test_they_are_among_what_is_due(service: Settings, database: Database) -> None:
    settings = configure(database=database.url)
    import_many(database, 1)
    refused(database, settings, "000", request_model="old")
    before = follow(database)
    assert get_unenriched_jobs() == ["000"]
    assert follow(database) == before
    database_of(settings).close()


def test_those_for_which_the_money_is_not_enough_at_once_are_not_forgotten(
    database: Database, settings: Settings
) -> None:
    import_many(database, 3)
    settings = configure(base_url="http://127.0.0.1:1/v1", model="gpt-4o-mini", prices_of="openai")
    for job_id in ("000", "001", "002"):
        refused(database, settings, job_id, request_model="old")
    asked = enrichment_of(settings)
    scope = scope_of(database, asked)
    first = claim(database, settings, asked, scope, "w", 1)
    price = first.taken[0].started.event.reserved_microdollars or 0
    dear = claim(database, settings, asked, first.rest, "w", 10, price)
    assert (len(dear.taken), dear.unaffordable, dear.rest.basis is not None) == (1, True, True)
    rest = claim(database, settings, asked, dear.rest, "w", 10)
    assert (len(rest.taken), rest.rest.basis) == (1, None)  # now none is left


def test_those_that_another_program_holds_just_then_are_not_forgotten(postgresql: Database, settings: Settings) -> None:
    import_many(postgresql, 2)
    for job_id in ("000", "001"):
        refused(postgresql, settings, job_id, request_model="old")
    asked = enrichment_of(settings)
    with sessions(postgresql, 1) as (holder,):
        holder.execute("SELECT FROM enrichlog.enrichment_status WHERE job_id = '000' FOR UPDATE")
        found = claim(postgresql, settings, asked, scope_of(postgresql, asked), "w", 10)
        assert [one.posting.id for one in found.taken] == ["001"]
        with postgresql.read() as connection:
            assert is_any_due(connection, postgresql, "job", found.rest, found.rest.horizon, 5)
        holder.rollback()
        assert [one.posting.id for one in claim(postgresql, settings, asked, found.rest, "w", 10).taken] == ["000"]
