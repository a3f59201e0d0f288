"""What users import: each function in a script, in threads and in a running event loop; on both databases."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import enrichlog
from enrichlog import (
    attempt,
    batch_enrich_jobs,
    enrich_job_with_llm,
    get_unenriched_jobs,
    place,
    process_job_enrichment,
    save_enrichment_error_to_db,
    save_enrichment_to_db,
    single,
)
from enrichlog.exceptions import MissingApiKey, UnknownJob, UsageError
from enrichlog.outcome import not_called
from enrichlog.place import database_of
from enrichlog.progress import Run
from enrichlog.runs import perform
from enrichlog.settings import Settings, configure, reset
from enrichlog.settings import current as current_settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from eventlog.errors import Conflict, HeldBack, NotInitialised
from tests.builders import BOUND, erased, failed, requested, run, shown, started, status, tell
from tests.command_line import CLI, contents, environment
from tests.service import import_many, import_postings, of_type, posting, whole_log


@pytest.fixture(autouse=True)
def configured(service: Settings, database: Database) -> Iterator[None]:
    """The functions find the test's database, with three postings, as a user's would: in the settings."""
    settings = configure(database=database.url)
    import_many(database, 3)
    yield
    database_of(settings).close()


def play(simulator: Simulator, *faults: Fault) -> None:
    simulator.play(Script(rules=[Rule("Work number", faults)], retry_after=0.02))


def types(database: Database, job_id: str = "000") -> list[str]:
    return [event.type for event in whole_log(database) if event.stream_id == f"job-{job_id}"]


CALLED = ["EnrichmentRequested", "EnrichmentStarted", "EnrichmentSucceeded"]
CALLED_IN_VAIN = [*CALLED[:2], "EnrichmentFailed"]


# -- enrich_job_with_llm ----------------------------------------------------------------------------------------------


def test_a_call_gives_the_data_and_records_its_attempt(database: Database, simulator: Simulator) -> None:
    data, error = enrich_job_with_llm("000", "Work number 000.")
    assert error is None
    assert data is not None
    assert data["title"] == "Engineer 000"
    assert (types(database), len(simulator.journal)) == (CALLED, 1)


def test_a_call_in_vain_gives_the_error_and_records_it(database: Database, simulator: Simulator) -> None:
    play(simulator, Fault.QUOTA)
    data, error = enrich_job_with_llm("000", "Work number 000.")
    assert data is None
    assert error is not None
    assert error.startswith("Error code: 429 - You exceeded your current quota")
    assert types(database) == CALLED_IN_VAIN


def test_another_description_becomes_the_postings_own(database: Database) -> None:
    enrich_job_with_llm("000", "Something else.")
    kept = run(database, "SELECT description FROM job_postings WHERE id = '000'")
    assert kept == [{"description": "Something else."}]
    assert of_type(database, "EnrichmentRequested")[-1].facts["why"] in ("changed", "new")


@pytest.mark.parametrize("description", [None, "", " \n\t "], ids=["none", "empty", "blank"])
def test_a_call_without_a_description_is_a_recorded_failure_and_the_posting_keeps_its_own(
    database: Database, simulator: Simulator, description: str | None
) -> None:
    before = run(database, "SELECT * FROM job_postings ORDER BY id")
    assert enrich_job_with_llm("000", description) == (None, "No description found")
    assert (types(database), simulator.journal) == (CALLED_IN_VAIN, [])
    start, end = (event.facts for event in whole_log(database)[-2:])
    assert start["attempt_id"] == end["attempt_id"]
    assert (start["origin"], end["origin"], end["called"], end["error_type"]) == ("call", "call", False, "input_error")
    assert run(database, "SELECT * FROM job_postings ORDER BY id") == before
    assert "000" not in get_unenriched_jobs()
    assert enrich_job_with_llm("000", "Work number 000.")[1] is None


def test_a_call_while_another_attempt_is_in_flight_is_an_error_of_the_caller_and_changes_nothing(
    database: Database, simulator: Simulator
) -> None:
    tell(database, "job-000", started(input_hash=posting("000").input_hash))
    before = contents(database)
    for description in ("Something else.", None):
        with pytest.raises(Conflict, match="an attempt is in flight"):
            enrich_job_with_llm("000", description)
    assert (contents(database), simulator.journal) == (before, [])


def test_of_many_callers_at_once_each_gets_the_data_or_an_error_it_cannot_save(
    database: Database, simulator: Simulator
) -> None:
    def call_and_save(_: int) -> bool:
        try:
            data, error = enrich_job_with_llm("000", "Work number 000.")
        except Conflict:
            return False
        assert error is None
        return save_enrichment_to_db("000", data)

    with ThreadPoolExecutor(6) as threads:
        saved = sum(threads.map(call_and_save, range(6)))
    assert saved == len(simulator.journal) == types(database).count("EnrichmentSucceeded") >= 1
    assert "EnrichmentFailed" not in types(database)


def test_a_call_gives_what_its_own_attempt_ended_with(
    database: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def perform_and_be_followed(*arguments: Any, **options: Any) -> Run:
        done = perform(*arguments, **options)
        assert save_enrichment_to_db("000", {"title": "Found by another"})
        return done

    monkeypatch.setattr(single, "perform", perform_and_be_followed)
    data, _ = enrich_job_with_llm("000", "Work number 000.")
    assert (data or {})["title"] == "Engineer 000"
    assert (shown(database, "job-000") or {})["result"] == {"title": "Found by another"}


def test_a_result_that_the_users_table_refuses_is_given_all_the_same(database: Database, simulator: Simulator) -> None:
    run(database, "ALTER TABLE llm_enrichment RENAME COLUMN result TO ours")  # no row can be written any more
    data, error = enrich_job_with_llm("000", "Work number 000.")
    assert ((data or {})["title"], error) == ("Engineer 000", None)
    assert process_job_enrichment("001")["data"]["title"] == "Engineer 001"
    assert run(database, "SELECT * FROM llm_enrichment") == []
    assert len(simulator.journal) == 2


def test_a_call_asks_even_when_the_posting_is_enriched(database: Database, simulator: Simulator) -> None:
    for _ in range(2):
        assert enrich_job_with_llm("000", "Work number 000.")[0] is not None
    assert len(simulator.journal) == 2


# -- process_job_enrichment -------------------------------------------------------------------------------------------


def test_a_posting_is_enriched_once_and_then_skipped(database: Database, simulator: Simulator) -> None:
    first, second = process_job_enrichment("000"), process_job_enrichment("000")
    assert (first["success"], first["job_id"], "skipped" in first) == (True, "000", False)
    assert first["data"]["title"] == "Engineer 000"
    assert (second["success"], second["job_id"], second["skipped"]) == (True, "000", True)
    assert "Already enriched" in second.values()
    assert (types(database), len(simulator.journal)) == (CALLED, 1)


def test_force_enriches_again(database: Database, simulator: Simulator) -> None:
    process_job_enrichment("000")
    assert process_job_enrichment("000", force=True)["success"] is True
    assert (types(database), len(simulator.journal)) == (CALLED * 2, 2)


def test_a_failure_has_its_error_and_its_type(simulator: Simulator) -> None:
    play(simulator, Fault.INVALID_JSON)
    result = process_job_enrichment("000")
    assert result == {
        "success": False, "job_id": "000", "error_type": "invalid_json",
        "error": "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
    }  # fmt: skip


@pytest.mark.parametrize("description", ["", " \n\t "], ids=["empty", "blank"])
def test_without_a_description_the_failure_is_recorded_and_nobody_is_called(
    database: Database, simulator: Simulator, description: str
) -> None:
    import_postings(database, posting("empty", description=description))
    result = process_job_enrichment("empty")
    assert result == {
        "success": False, "job_id": "empty", "error": "No description found", "error_type": "input_error",
    }  # fmt: skip
    assert (types(database, "empty"), simulator.journal) == (CALLED_IN_VAIN, [])
    assert [end.facts["called"] for end in of_type(database, "EnrichmentFailed")] == [False]
    assert enrich_job_with_llm("empty", description) == (None, "No description found")


def test_what_failed_for_good_is_told_and_not_tried_again(simulator: Simulator) -> None:
    play(simulator, Fault.REFUSAL)
    first, second = process_job_enrichment("000"), process_job_enrichment("000")
    assert first["error_type"] == second["error_type"] == "refusal"
    assert (second["success"], second["skipped"], len(simulator.journal)) == (False, True, 1)
    process_job_enrichment("000", force=True)
    assert len(simulator.journal) == 2


def test_what_may_succeed_another_time_is_tried_again(simulator: Simulator) -> None:
    play(simulator, Fault.TRUNCATED_JSON, Fault.OK)
    assert [process_job_enrichment("000")["success"] for _ in range(2)] == [False, True]


def test_an_attempt_in_flight_is_left_alone(database: Database, simulator: Simulator) -> None:
    tell(database, "job-000", started())
    result = process_job_enrichment("000", force=True)
    assert (result["success"], simulator.journal) == (False, [])
    assert result["error"]


def test_an_unknown_posting_is_an_error_of_the_caller() -> None:
    with pytest.raises(UnknownJob, match="no posting with the id nobody"):
        process_job_enrichment("nobody")
    with pytest.raises(UnknownJob):
        enrich_job_with_llm("nobody", "text")


def test_without_a_key_and_a_server_nothing_is_recorded(database: Database, service: Settings) -> None:
    reset()
    configure(database=database.url)
    before = contents(database)
    with pytest.raises(MissingApiKey):
        process_job_enrichment("000")
    with pytest.raises(MissingApiKey):
        process_job_enrichment("001", force=True)
    assert contents(database) == before


def test_a_database_without_tables_says_what_to_type(empty_database: Database) -> None:
    settings = configure(database=empty_database.url)
    with pytest.raises(NotInitialised, match="Create it with: enrichlog init"):
        get_unenriched_jobs()
    database_of(settings).close()


# -- save_* -----------------------------------------------------------------------------------------------------------


def test_saving_what_the_call_has_recorded_stores_nothing_twice(database: Database, simulator: Simulator) -> None:
    data, _ = enrich_job_with_llm("000", "Work number 000.")
    assert data is not None
    play(simulator, Fault.REFUSAL)
    _, error = enrich_job_with_llm("001", "Work number 001.")
    assert error is not None
    before = contents(database)
    assert save_enrichment_to_db("000", data) is True
    assert save_enrichment_error_to_db("001", error) is True
    assert contents(database) == before


def test_a_result_from_elsewhere_is_an_external_pair(database: Database, simulator: Simulator) -> None:
    assert save_enrichment_to_db("000", {"title": "Found"}) is True
    assert types(database) == CALLED
    assert [event.facts["origin"] for event in whole_log(database) if "origin" in event.facts] == ["external"] * 2
    row = shown(database, "job-000")
    assert row is not None
    assert (row["result"], row["enrichment_error"], simulator.journal) == ({"title": "Found"}, None, [])
    assert process_job_enrichment("000")["skipped"] is True


def test_a_failure_from_elsewhere_is_an_external_pair_and_keeps_the_result(database: Database) -> None:
    save_enrichment_to_db("000", {"title": "Found"})
    assert save_enrichment_error_to_db("000", "it broke") is True
    row = shown(database, "job-000")
    assert row is not None
    assert (row["result"], row["enrichment_error"]) == ({"title": "Found"}, "it broke")
    assert row["enrichment_completed_at"] is not None
    assert types(database) == [*CALLED, *CALLED_IN_VAIN[1:]]
    assert status(database, "job-000")["error_type"] == "other"


def test_each_save_that_no_call_of_ours_went_before_is_an_attempt(database: Database) -> None:
    for _ in range(3):
        assert save_enrichment_error_to_db("000", "it broke") is True
        assert save_enrichment_to_db("001", {"title": "Found"}) is True
    assert types(database) == [*CALLED_IN_VAIN, *CALLED_IN_VAIN[1:] * 2]
    assert types(database, "001") == [*CALLED, *CALLED[1:] * 2]


def test_what_the_call_has_recorded_does_not_answer_what_was_requested_since(database: Database) -> None:
    data, _ = enrich_job_with_llm("000", "Work number 000.")
    import_postings(database, posting("000", description="Other work."))
    assert save_enrichment_to_db("000", data) is True
    assert (status(database, "job-000")["state"], types(database)) == ("pending", [*CALLED, "EnrichmentRequested"])
    assert save_enrichment_to_db("000", {"title": "Found elsewhere"}) is True  # the control
    assert status(database, "job-000")["state"] == "succeeded"


def test_what_was_erased_is_not_saved_again(database: Database) -> None:
    data, _ = enrich_job_with_llm("000", "Work number 000.")
    tell(database, "job-000", erased())
    run(database, "UPDATE {ours}events SET content = NULL, salt = NULL WHERE type = 'EnrichmentSucceeded'")
    assert save_enrichment_to_db("000", data) is True
    assert types(database) == [*CALLED, "ContentErased"]
    row = shown(database, "job-000")
    assert row is not None
    assert row["result"] is None


def test_what_the_call_has_recorded_is_saved_although_somebody_else_has_begun_since(database: Database) -> None:
    data, _ = enrich_job_with_llm("000", "Work number 000.")
    tell(database, "job-000", requested("force"), started(2))
    assert save_enrichment_to_db("000", data) is True
    assert save_enrichment_to_db("000", {"title": "Other"}) is False  # the control: an attempt is in flight
    assert types(database) == [*CALLED, "EnrichmentRequested", "EnrichmentStarted"]


def test_a_long_error_of_a_call_is_recognised_although_the_table_shows_less_of_it(
    database: Database, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "precheck", lambda *_: not_called("bad_request", "no " * 2_000))
    _, error = enrich_job_with_llm("000", "Work number 000.")
    assert error == "no " * 2_000
    assert save_enrichment_error_to_db("000", error) is True
    assert types(database) == CALLED_IN_VAIN


@pytest.mark.parametrize(("error", "message"), [(ValueError("it broke"), "it broke"), ("", "No message was given")])
def test_an_exception_is_saved_as_its_text(database: Database, error: str | Exception, message: str) -> None:
    assert save_enrichment_error_to_db("000", error) is True
    assert (shown(database, "job-000") or {})["enrichment_error"] == message


def test_what_cannot_be_saved_is_false_and_logged(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    tell(database, "job-000", started(input_hash=posting("000").input_hash))
    before = contents(database)
    assert save_enrichment_to_db("nobody", {"title": "x"}) is False
    assert save_enrichment_error_to_db("000", "it broke") is False
    assert contents(database) == before
    assert "There is no posting with the id nobody" in caplog.text
    assert "The enrichment of 000 was not saved" in caplog.text


# -- while the breaker is open ----------------------------------------------------------------------------------------


def test_while_the_breaker_is_open_a_call_says_why_and_a_batch_ends(database: Database, simulator: Simulator) -> None:
    play(simulator, Fault.QUOTA)
    assert process_job_enrichment("000")["error_type"] == "quota_exceeded"
    for call in (lambda: process_job_enrichment("001"), lambda: enrich_job_with_llm("001", "Work.")):
        with pytest.raises(HeldBack, match=r"The breaker has been open since .*quota_exceeded"):
            call()
    batch = batch_enrich_jobs(["001", "002"], delay_between_jobs=0.0)
    assert len(batch["results"]) == 1
    assert "The breaker has been open since" in batch["results"][0]["error"]
    assert len(simulator.journal) == 1
    data, error = enrich_job_with_llm("002", "")  # nobody would be asked
    assert (data, error) == (None, "No description found")


# -- get_unenriched_jobs ----------------------------------------------------------------------------------------------


def test_unenriched_are_the_new_ones_then_those_whose_wait_is_over(database: Database) -> None:
    import_postings(database, posting("wait"))
    for job_id, end in (("000", failed(wait_ms=0)), ("001", failed(retryable=False)), ("wait", failed())):
        basis = {"input_hash": posting(job_id).input_hash, "request_model": current_settings().model}
        tell(database, f"job-{job_id}", started(**basis), end)  # type: ignore[arg-type]
    assert get_unenriched_jobs() == ["002", "000"]
    assert get_unenriched_jobs(include_retries=False) == ["002"]
    assert get_unenriched_jobs(limit=1) == ["002"]
    assert get_unenriched_jobs(limit=0) == []


# -- batch_enrich_jobs ------------------------------------------------------------------------------------------------


def test_a_batch_counts_and_tells_each_posting(database: Database, simulator: Simulator) -> None:
    play(simulator, Fault.OK, Fault.REFUSAL, Fault.OK)
    done = batch_enrich_jobs(["000", "001", "nobody", "002"], batch_size=2, delay_between_jobs=0)
    results = done.pop("results")
    assert done == {"total": 4, "successful": 2, "failed": 2, "rate_limited": 0}
    assert [(one["job_id"], one["success"]) for one in results] == [
        ("000", True), ("001", False), ("nobody", False), ("002", True),
    ]  # fmt: skip


def test_a_rate_limit_is_counted_and_the_batch_goes_on(simulator: Simulator) -> None:
    play(simulator, Fault.RATE_LIMIT, Fault.OK)
    done = batch_enrich_jobs(["000", "001"], delay_between_jobs=0)
    assert (done["successful"], done["failed"], done["rate_limited"]) == (1, 1, 1)


def test_an_exhausted_quota_stops_a_batch(
    database: Database, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    play(simulator, Fault.OK, Fault.QUOTA)
    done = batch_enrich_jobs(["000", "001", "002"], delay_between_jobs=0)
    assert (done["total"], done["successful"], done["failed"], done["rate_limited"]) == (3, 1, 1, 1)
    assert done["results"][-1]["error"].startswith("Error code: 429")
    assert "The batch ended after 2 of 3 postings: Error code: 429" in caplog.text
    assert (len(simulator.journal), types(database, "002")) == (2, ["EnrichmentRequested"])


def test_a_batch_that_cannot_ask_anybody_stops_at_once(database: Database, service: Settings) -> None:
    reset()
    configure(database=database.url)
    done = batch_enrich_jobs(["000", "001", "002"])  # with a second between calls, were there any
    (result,) = done["results"]
    assert result["error"].startswith("There is no API key.")


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}, {"delay_between_jobs": -0.1}])
def test_a_batch_that_makes_no_sense_is_refused_before_anybody_is_asked(
    database: Database, simulator: Simulator, options: dict[str, Any]
) -> None:
    before = contents(database)
    with pytest.raises(UsageError, match="A batch needs a batch_size of 1 or more"):
        batch_enrich_jobs(["000"], **options)
    assert (contents(database), simulator.journal) == (before, [])


# -- where it is called -----------------------------------------------------------------------------------------------


def test_all_of_it_works_inside_a_running_event_loop(database: Database) -> None:
    async def notebook() -> None:
        assert process_job_enrichment("000")["success"]
        assert enrich_job_with_llm("001", "Work number 001.")[1] is None
        assert save_enrichment_to_db("002", {"title": "Found"})
        assert save_enrichment_error_to_db("002", "it broke")
        assert get_unenriched_jobs(include_retries=False) == []
        assert batch_enrich_jobs(["000"], delay_between_jobs=0)["successful"] == 1

    asyncio.run(notebook())


def test_threads_share_the_work_and_no_posting_is_asked_about_twice(database: Database, simulator: Simulator) -> None:
    ids = ["000", "001", "002"] * 2
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(process_job_enrichment, ids))
    assert {result["job_id"] for result in results if result["success"]} == set(ids)
    assert len(simulator.journal) == 3
    assert all(types(database, job_id) == CALLED for job_id in ids)


def test_a_plain_script_needs_nothing_but_its_environment(
    database: Database, simulator: Simulator, tmp_path: Path
) -> None:
    script = "import enrichlog\nfor job_id in enrichlog.get_unenriched_jobs(limit=2):\n"
    script += "    print(enrichlog.process_job_enrichment(job_id)['success'])\n"
    variables = {"DATABASE_URL": database.url, "OPENAI_BASE_URL": simulator.base_url, "PYTHONPATH": str(CLI.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(**variables), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("True\nTrue\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_after_a_fork_each_process_has_connections_of_its_own(
    database: Database, simulator: Simulator, tmp_path: Path
) -> None:
    script = """
import enrichlog, os
ids = enrichlog.get_unenriched_jobs()
children = []
for job_id in ids:
    if not (child := os.fork()):
        os._exit(not enrichlog.process_job_enrichment(job_id)["success"])
    children.append(child)
print(ids, [os.waitpid(child, 0)[1] for child in children], enrichlog.get_unenriched_jobs())
"""
    variables = {"DATABASE_URL": database.url, "OPENAI_BASE_URL": simulator.base_url, "PYTHONPATH": str(CLI.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment(**variables), capture_output=True, text=True,
        check=False, timeout=BOUND,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("['000', '001', '002'] [0, 0, 0] []\n", "")


def test_every_public_name_is_there_and_no_other() -> None:
    assert all(getattr(enrichlog, name) is not None for name in enrichlog.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = enrichlog.nothing


def test_a_number_is_taken_for_the_id_it_is_written_as(database: Database) -> None:
    import_postings(database, posting("26"))
    assert process_job_enrichment(26)["job_id"] == "26"  # type: ignore[arg-type]
    assert save_enrichment_to_db(26, {"title": "Found"}) is True  # type: ignore[arg-type]
    assert enrich_job_with_llm(26, "Work.")[1] is None  # type: ignore[arg-type]


def test_one_text_is_no_list_of_ids(database: Database) -> None:
    with pytest.raises(UsageError, match="a list of ids"):
        batch_enrich_jobs("26")


def test_of_many_databases_the_ones_that_were_opened_first_are_let_go(bare: Path) -> None:
    def opened(number: int) -> Database:
        return database_of(configure(database=f"{number}.db"))

    first = [opened(number) for number in range(place.MOST_OPEN)]
    assert [opened(number) is one for number, one in enumerate(first)] == [True] * place.MOST_OPEN
    opened(place.MOST_OPEN)
    assert opened(1) is first[1]
    assert opened(0) is not first[0]
