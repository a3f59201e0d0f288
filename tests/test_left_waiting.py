"""What a batch's run leaves behind when it stops early, and what is not even requested when no call can go out."""

import pytest

from enrichlog.breakers import set_by_hand
from enrichlog.enrichment import enrichment_of
from enrichlog.retry_plan import plan_retry
from enrichlog.retry_screen import why_nothing
from enrichlog.selection import Allowance, Selection
from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from tests.builders import failed, requested, started, succeeded, tell
from tests.command_line import Command, contents
from tests.service import close_breaker, import_many, import_postings, of_type, posting

QUOTA = Script(rules=[Rule("Work number", (Fault.QUOTA,))])
OTHER = ("--model", "gpt-4.1-mini")


@pytest.fixture
def stopped(enrichlog: Command, database: Database, service: Settings, simulator: Simulator) -> Command:
    """Thirty postings that failed, in a place where the quota is used up again after the first of them."""
    import_many(database, 30)
    for number in range(30):
        tell(database, f"job-{number:03}", started(), failed(error_type="quota_exceeded", counts=False, wait_ms=0))
    simulator.play(QUOTA)
    return enrichlog


def batch_of(database: Database) -> str:
    return str(of_type(database, "EnrichmentRequested")[-1].facts["batch"])


def test_a_retry_that_stopped_early_says_what_still_waits_and_how_to_take_it_back(
    stopped: Command, database: Database
) -> None:
    said = stopped("retry", "--yes", "--concurrency", "1")
    batch = batch_of(database)
    assert said.code == 1
    assert said.out.splitlines()[-1] == (
        f"29 postings of batch {batch} still wait: the next enrichlog enrich takes them. "
        f"To take them back: enrichlog batch cancel {batch} --reason TEXT"
    )


def test_the_document_of_a_retry_says_how_many_are_still_requested(stopped: Command, database: Database) -> None:
    said = stopped("retry", "--yes", "--concurrency", "1", "--json")
    assert (said.document["still_requested"], said.document["batch"]) == (29, batch_of(database))


def test_a_retry_that_did_all_of_its_batch_leaves_nothing_waiting(
    stopped: Command, database: Database, simulator: Simulator
) -> None:
    simulator.play(Script())
    assert stopped.json("retry", "--yes")["still_requested"] == 0
    assert "still wait" not in stopped.done("enrich").out


def test_what_is_requested_already_is_no_part_of_a_plan_and_is_told(stopped: Command, database: Database) -> None:
    stopped("retry", "--yes", "--concurrency", "1", "--limit", "10")
    planned = stopped.done("retry", "--dry-run")
    assert "9 postings are requested already: the next enrichlog enrich takes them." in planned.out
    assert stopped.json("retry", "--dry-run")["requested_already"] == 9


def test_where_all_that_failed_is_requested_already_nobody_says_that_nothing_has_failed(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    tell(database, "job-1", started(), failed(), requested("retry", batch="b"))
    made = plan_retry(database, "job", Selection(), Allowance(None, 5))
    assert why_nothing(made) == "1 posting is requested already: the next enrichlog enrich takes it."
    others = plan_retry(database, "job", Selection(("quota_exceeded",)), Allowance(None, 5))
    assert why_nothing(others).startswith("No posting has failed like that.")


def test_a_renewal_that_stopped_early_says_so_and_its_results_are_requested_already(
    enrichlog: Command, database: Database, service: Settings, simulator: Simulator
) -> None:
    import_many(database, 3)
    enrichlog.done("enrich")
    simulator.play(QUOTA)
    said = enrichlog("enrich", "--outdated", "--yes", "--concurrency", "1", *OTHER)
    batch = batch_of(database)
    assert f"Batch {batch}: 3 postings requested." in said.out
    assert f"2 postings of batch {batch} still wait" in said.out
    again = enrichlog.done("enrich", "--outdated", "--dry-run", *OTHER).out
    assert again.splitlines()[0] == "2 outdated results are requested already: the next enrichlog enrich takes them."
    assert again.splitlines()[1].startswith("No other result is outdated")
    assert enrichlog.json("enrich", "--outdated", "--dry-run", *OTHER)["requested_already"] == 2


@pytest.mark.parametrize("words", [("retry",), ("enrich", "--outdated")], ids=" ".join)
def test_nothing_is_requested_while_no_call_can_go_out(
    enrichlog: Command, database: Database, service: Settings, words: tuple[str, ...]
) -> None:
    import_many(database, 2)
    tell(database, "job-000", started(), failed(error_type="quota_exceeded", counts=False, wait_ms=0))
    tell(database, "job-001", started(), succeeded(prompt_hash="another"))
    set_by_hand(database, "open", None, enrichment_of(service).called, "maintenance")
    before = contents(database)
    said = enrichlog(*words, "--yes")
    assert said.code == 1
    assert said.err.splitlines()[-1].startswith("Error: Nothing was requested: the breaker of ")
    assert "lets no call out until someone closes it" in said.err
    assert contents(database) == before
    close_breaker(database, service)
    assert enrichlog(*words, "--yes").code == 0  # the control


def test_a_short_wait_is_borne_and_so_the_requests_are_made(
    enrichlog: Command, database: Database, service: Settings
) -> None:
    import_many(database, 1)
    tell(database, "job-000", started(), failed(error_type="quota_exceeded", counts=False, wait_ms=0))
    set_by_hand(database, "open", None, enrichment_of(service).called, "a moment", 1)
    assert enrichlog("retry", "--yes").code == 0
