"""A posting that the users' query brings twice: it is told, and neither of its rows is paid for."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from enrichlog import patience
from enrichlog.claims import claim
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import UnusableSource
from enrichlog.postings import find_posting, notice_posting
from enrichlog.scope import Scope
from enrichlog.settings import FILE, Settings, current
from enrichlog.simulator import Simulator
from enrichlog.sync import sync
from eventlog.database import Database
from tests.adopted import QUERY, add_postings, job_id, look_up, settings_file
from tests.builders import NOON, requested, run, status, tell
from tests.command_line import Command
from tests.daemon import Daemon
from tests.service import of_type, whole_log

FAR = NOON + timedelta(days=3_650)


@pytest.fixture
def joined(adopted: Database) -> Database:
    """A source that brings the posting 2 as often as `twice` has rows: now once."""
    add_postings(adopted, range(1, 4))
    run(adopted, "CREATE TABLE twice (number integer)")
    run(adopted, "INSERT INTO twice VALUES (1)")
    one = f"JOIN twice ON twice.number = 1 OR posting.id = '{job_id(2)}' WHERE"
    return look_up(adopted, QUERY.replace("WHERE", one))


def double(database: Database) -> None:
    run(database, "INSERT INTO twice VALUES (2)")


def make_trigger(database: Database) -> None:
    """Have the result of the posting 1 make the posting 2 be there twice."""
    if database.dialect.name == "sqlite":
        when = f"WHEN NEW.job_posting_id = '{job_id(1)}' BEGIN INSERT INTO twice VALUES (2); END"
        run(database, f"CREATE TRIGGER doubles AFTER UPDATE ON llm_enrichment {when}")
        return
    body = "BEGIN INSERT INTO public.twice VALUES (2); RETURN NULL; END"
    run(database, f"CREATE FUNCTION double() RETURNS trigger LANGUAGE plpgsql AS '{body}'")
    run(database, "CREATE TRIGGER doubles AFTER UPDATE ON llm_enrichment FOR EACH ROW EXECUTE FUNCTION double()")


def test_neither_row_of_a_posting_that_is_there_twice_is_taken_for_it(joined: Database) -> None:
    sync(joined, "job", "tests")
    assert find_posting(joined, job_id(2)).title == "Data engineer 2"  # the control
    double(joined)
    settings, before = current(), whole_log(joined)
    for act in (
        lambda: find_posting(joined, job_id(2)),
        lambda: notice_posting(joined, job_id(2), "job", "tests"),
        lambda: claim(joined, settings, enrichment_of(settings), Scope(FAR), "w", 10),
        lambda: sync(joined, "other", "tests"),
    ):
        with pytest.raises(UnusableSource, match=f"It brings the posting {job_id(2)} more than once"):
            act()
    assert whole_log(joined) == before


def test_a_run_that_meets_a_posting_twice_records_what_it_had_begun_and_ends_with_its_id(
    joined: Database, adopter: Command, simulator: Simulator, bare: Path
) -> None:
    source = settings_file().replace(json.dumps(QUERY), json.dumps(joined.adopted.source.query))
    (bare / FILE).write_text(source)
    sync(joined, "job", "tests")
    make_trigger(joined)
    said = adopter("enrich", "--concurrency", "1")
    assert (said.code, f"the posting {job_id(2)} more than once" in said.err) == (2, True), said.err
    assert (len(simulator.journal), status(joined, f"job-{job_id(1)}")["state"]) == (1, "succeeded")
    assert status(joined, f"job-{job_id(2)}")["attempts"] == 0
    run(joined, "DELETE FROM twice WHERE number = 2")
    run(joined, "DROP TRIGGER doubles" + (" ON llm_enrichment" if joined.dialect.name == "postgresql" else ""))
    adopter.done("enrich")
    assert len(simulator.journal) == 3


def test_a_worker_waits_until_a_posting_is_there_once(
    joined: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.01)
    sync(joined, "job", "tests")
    double(joined)
    with Daemon(joined, service.model_copy(update={"result_model": "tests.adopted:DataJob"})) as daemon:
        daemon.until(daemon.is_waiting)
        assert daemon.worker is not None
        assert f"the posting {job_id(2)} more than once" in str(daemon.worker.standing.why)
        run(joined, "DELETE FROM twice WHERE number = 2")
        daemon.until(lambda: len(of_type(joined, "EnrichmentSucceeded")) == 3)
    assert len(simulator.journal) == 3


def test_a_worker_takes_what_is_known_though_a_new_posting_is_there_twice(
    joined: Database, simulator: Simulator, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "LOOK_SECONDS", 0.01)
    double(joined)
    tell(joined, f"job-{job_id(3)}", requested())
    with Daemon(joined, service.model_copy(update={"result_model": "tests.adopted:DataJob"})) as daemon:
        daemon.until(lambda: len(of_type(joined, "EnrichmentSucceeded")) == 1)
        assert {one.stream_id for one in whole_log(joined)} == {f"job-{job_id(3)}"}
        run(joined, "DELETE FROM twice WHERE number = 2")
        daemon.until(lambda: len(of_type(joined, "EnrichmentSucceeded")) == 3)
