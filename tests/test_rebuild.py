"""Rebuild and verify as people meet them: what was refused is shown later, and no model is asked again for it."""

from typing import Any, LiteralString

import psycopg
import pytest

from enrichlog.enrichment import enrichment_of
from enrichlog.runs import perform
from enrichlog.settings import Settings
from enrichlog.simulator import Simulator
from enrichlog.targets import every_posting, request
from eventlog.database import Database
from projections.catalogue import names
from projections.reconcile import not_shown
from projections.users_table import LOCKED
from tests.builders import drop_triggers, run, shown
from tests.command_line import Command
from tests.service import enrich, import_many, whole_log

pytestmark = pytest.mark.pooled

AWAY = "ALTER TABLE llm_enrichment RENAME COLUMN result TO result_of_last_year"
BACK = "ALTER TABLE llm_enrichment RENAME COLUMN result_of_last_year TO result"
TITLES = "CREATE UNIQUE INDEX one_of_each_model ON llm_enrichment (enrichment_model_version)"


def test_results_that_the_table_refused_are_written_by_a_rebuild_and_no_model_is_asked_again(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    run(database, AWAY)
    enrichlog.done("enrich")
    said = enrichlog.done("status").out
    assert "3 results are in the log and not in llm_enrichment. See why, and what to do: enrichlog projections" in said
    assert run(database, "SELECT * FROM llm_enrichment") == []
    run(database, BACK)
    told = whole_log(database)
    assert "3 rows written" in enrichlog.done("rebuild").out
    assert (len(simulator.journal), whole_log(database)) == (3, told)
    assert "llm_enrichment" not in enrichlog.done("status").out
    enrichlog.done("verify")


def test_a_rebuild_of_which_the_table_refuses_a_row_says_so_and_exits_1(enrichlog: Command, database: Database) -> None:
    import_many(database, 2)
    run(database, TITLES)  # both are of one model
    enrichlog.done("enrich", "--concurrency", "1")
    said = enrichlog("rebuild")
    assert said.code == 1
    assert "1 missing; 0 rows written\n" in said.out
    assert "  job-001 was refused by the table: " in said.out
    assert "  See all that it refused, and what to do: enrichlog projections failed\n" in said.out
    verified = enrichlog("verify").out.splitlines()[-1]
    assert verified == (
        "Not sound. The log is; llm_enrichment did not take 1 row, see why and mend that first: enrichlog projections "
        "failed; make the rest equal to it with: enrichlog rebuild"
    )
    run(database, "DELETE FROM {ours}breaker")
    assert "did not take" not in enrichlog("verify", "breaker", "enrichment_status").out  # not what was asked for
    (drift,) = enrichlog("rebuild", "llm_enrichment", "--json").document["projections"]
    assert (drift["written"], list(drift["refused"])) == (0, ["job-001"])


def test_what_was_tampered_with_is_never_folded(enrichlog: Command, database: Database) -> None:
    import_many(database, 1)
    assert len(enrichlog.json("verify")["projections"]) == len(names())  # the control
    drop_triggers(database)
    run(database, "UPDATE {ours}events SET facts = REPLACE(facts, 'new', 'old') WHERE position = 1")
    found = enrichlog("verify", "--json")
    assert (found.code, found.document["projections"], len(found.document["faults"])) == (3, [], 1)
    assert found.document["anchor"] is None  # it would prove nothing


@pytest.fixture
def enriched(postgresql: Database, service: Settings) -> Database:
    """Two postings with results."""
    import_many(postgresql, 2)
    enrich(postgresql, service)
    return postgresql


def enrich_again_while_a_row_is_locked(database: Database, settings: Settings, in_the_end: LiteralString) -> None:
    """Another program has the row of the first posting, and ends as soon as both postings have been asked about."""
    marks: list[dict[str, str]] = []

    def notice(claim: object, end: object, so_far: object) -> None:
        marks.append(not_shown(database))
        if len(marks) == 2:
            somebody.execute(in_the_end)
            somebody.commit()

    scope = request(database, "job", every_posting(database, "job"), "outdated").scope
    with psycopg.connect(database.url) as somebody:
        somebody.execute("SELECT * FROM llm_enrichment WHERE job_posting_id = '000' FOR UPDATE")
        perform(database, settings, enrichment_of(settings), scope, notice=notice)
    assert marks[-1] == {"job-000": LOCKED}


def completed_at(database: Database) -> list[Any]:
    rows = run(database, "SELECT enrichment_completed_at FROM llm_enrichment ORDER BY job_posting_id")
    return [row["enrichment_completed_at"] for row in rows]


def test_a_row_that_was_passed_over_because_it_was_locked_is_written_at_the_end_of_the_run(
    enriched: Database, service: Settings
) -> None:
    before = completed_at(enriched)
    enrich_again_while_a_row_is_locked(enriched, service, "SELECT 1")
    assert not_shown(enriched) == {}
    assert all(now > then for now, then in zip(completed_at(enriched), before, strict=True))


def test_a_row_that_was_locked_to_be_deleted_with_its_posting_is_not_written_back(
    enriched: Database, service: Settings
) -> None:
    deleting: LiteralString = "DELETE FROM llm_enrichment WHERE job_posting_id = '000'"
    enrich_again_while_a_row_is_locked(enriched, service, deleting + "; DELETE FROM job_postings WHERE id = '000'")
    assert (shown(enriched, "job-000"), not_shown(enriched)) == (None, {})
