"""The users' table is theirs: whatever it refuses, no event is lost, and every other row is written."""

import gc
import logging
from collections.abc import Callable

import psycopg
import pytest

from eventlog.database import Database
from eventlog.errors import DatabaseRefused
from eventlog.events import Event
from eventlog.log import Proposal, read_log
from projections.users_table import NOT_TAKEN
from tests.builders import appended, failed, offer, proposal, requested, run, shown, started, status, succeeded, tell
from tests.drift import rebuild

REFUSED, OTHERS = "job-refused", [f"job-{n}" for n in range(49)]


@pytest.fixture
def running(database: Database) -> Database:
    """Fifty postings whose first attempt is in flight."""
    for event in (requested(), started()):
        offer(database, *(proposal(name, event) for name in [*OTHERS, REFUSED]))
    return database


def ends(unlike: Proposal) -> list[Proposal]:
    """Fifty ends of one batch, of which one is unlike the others."""
    whole = [proposal(name, failed(message="alike")) for name in OTHERS]
    return [*whole[:20], unlike, *whole[20:]]


def unlike(message: str = "unlike") -> Proposal:
    return proposal(REFUSED, failed(message=message))


def check_that_one_row_was_refused(database: Database, batch: list[Proposal], reason: str) -> None:
    """All events stay, 49 rows are written, and the one stream is marked with the database's reason."""
    appended(offer(database, *batch))
    assert sum(len(page) for page in read_log(database)) == 150
    assert [shown(database, name) is not None for name in OTHERS] == [True] * 49
    assert shown(database, REFUSED) is None
    row = status(database, REFUSED)
    assert row["version"] == 3
    assert row["state"] != "running"
    assert reason in row["projection_error"]
    assert [status(database, name)["projection_error"] for name in OTHERS[:3]] == [None] * 3


def on_sqlite(database: Database) -> bool:
    return database.dialect.name == "sqlite"


def refuse_by_a_check(database: Database) -> None:
    """Their own rule for a column; SQLite takes one only with a new column."""
    rule = "CONSTRAINT no_unlike CHECK (enrichment_error <> 'unlike')"
    run(database, f"ALTER TABLE llm_enrichment ADD {'COLUMN theirs text' if on_sqlite(database) else ''} {rule}")


def test_a_check_refuses_one_row(running: Database) -> None:
    refuse_by_a_check(running)
    check_that_one_row_was_refused(running, ends(unlike()), "no_unlike")


def test_a_refusal_that_is_dealt_with_is_not_told_by_the_driver_as_a_warning(
    running: Database, caplog: pytest.LogCaptureFixture
) -> None:
    refuse_by_a_check(running)
    offer(running, *(proposal(name, failed(message="unlike")) for name in OTHERS))
    logging.getLogger("psycopg").warning("something else")
    assert [record.getMessage() for record in caplog.records] == ["something else"]


def test_a_check_would_refuse_the_whole_batch_of_whoever_writes_all_rows_at_once(running: Database) -> None:
    refuse_by_a_check(running)
    rows = ", ".join(f"('{n}', '{'unlike' if n == 20 else 'alike'}')" for n in range(50))
    with pytest.raises(Exception, match="no_unlike"):
        run(running, f"INSERT INTO llm_enrichment (job_posting_id, enrichment_error) VALUES {rows}")
    assert run(running, "SELECT * FROM llm_enrichment") == []


def refuse_by_a_trigger(database: Database, action: str = "ABORT") -> None:
    """A trigger of theirs that raises."""
    if on_sqlite(database):
        body = f"SELECT RAISE({action}, 'they do not want this')"
        when = "BEFORE INSERT ON llm_enrichment WHEN NEW.enrichment_error = 'unlike'"
        run(database, f"CREATE TRIGGER theirs {when} BEGIN {body}; END")
        return
    raising = "BEGIN RAISE EXCEPTION 'they do not want this'; END"
    run(
        database,
        f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS '{raising.replace(chr(39), chr(39) * 2)}'",
    )
    when = "BEFORE INSERT ON llm_enrichment FOR EACH ROW WHEN (NEW.enrichment_error = 'unlike')"
    run(database, f"CREATE TRIGGER theirs {when} EXECUTE FUNCTION theirs()")


def test_a_trigger_that_raises_refuses_one_row(running: Database) -> None:
    refuse_by_a_trigger(running)
    check_that_one_row_was_refused(running, ends(unlike()), "they do not want this")


def test_a_trigger_that_keeps_what_its_statement_did_so_far_refuses_one_row(sqlite: Database) -> None:
    refuse_by_a_trigger(sqlite, "FAIL")
    for event in (requested(), started()):
        offer(sqlite, *(proposal(name, event) for name in [*OTHERS, REFUSED]))
    check_that_one_row_was_refused(sqlite, ends(unlike()), "they do not want this")


def pass_over_by_a_trigger(database: Database, verb: str) -> None:
    """A trigger of theirs that has the database skip a row, and says nothing."""
    when = f"BEFORE {verb} ON llm_enrichment FOR EACH ROW WHEN (NEW.enrichment_error = 'unlike')"
    if on_sqlite(database):
        run(database, f"CREATE TRIGGER theirs {when} BEGIN SELECT RAISE(IGNORE); END")
        return
    run(database, "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    run(database, f"CREATE TRIGGER theirs {when} EXECUTE FUNCTION theirs()")


def test_a_row_that_a_trigger_passes_over_in_silence_is_noticed(running: Database) -> None:
    pass_over_by_a_trigger(running, "INSERT")
    check_that_one_row_was_refused(running, ends(unlike()), "a trigger passed over it")


def test_a_change_that_a_trigger_passes_over_in_silence_is_noticed(database: Database) -> None:
    pass_over_by_a_trigger(database, "UPDATE")
    for name in ("job-0", REFUSED):
        tell(database, name, requested(), started(), failed(message="before"), started(2))
    appended(
        offer(
            database, *(proposal(name, failed(2, message="unlike")) for name in [REFUSED]), proposal("job-0", failed(2))
        )
    )
    assert status(database, REFUSED)["projection_error"] == NOT_TAKEN
    assert status(database, "job-0")["projection_error"] is None


def test_a_rule_that_the_old_row_and_the_new_one_keep_refuses_no_change_of_some_columns(database: Database) -> None:
    rule = "CONSTRAINT something CHECK (result IS NOT NULL OR enrichment_error IS NOT NULL)"
    run(database, f"ALTER TABLE llm_enrichment ADD {'COLUMN theirs text' if on_sqlite(database) else ''} {rule}")
    tell(database, "job-0", requested(), started(), failed())
    with pytest.raises(DatabaseRefused, match="something"):  # what only would become an update is looked at whole
        run(database, "INSERT INTO llm_enrichment (job_posting_id, enrichment) VALUES ('0', 'job') "
            "ON CONFLICT (job_posting_id, enrichment) DO UPDATE SET enrichment_completed_at = NULL")  # fmt: skip
    tell(database, "job-0", requested("retry"))
    row = shown(database, "job-0")
    assert row is not None
    assert row["enrichment_completed_at"] is None
    assert status(database, "job-0")["projection_error"] is None


def test_a_trigger_that_rolls_everything_back_leaves_nothing_half_written(sqlite: Database) -> None:
    refuse_by_a_trigger(sqlite, "ROLLBACK")
    tell(sqlite, REFUSED, requested(), started())
    tell(sqlite, "job-0", requested(), started())
    before = run(sqlite, "SELECT * FROM events"), run(sqlite, "SELECT * FROM enrichment_status")
    with pytest.raises(DatabaseRefused):
        offer(sqlite, proposal("job-0", failed(message="alike")), unlike())
    assert (run(sqlite, "SELECT * FROM events"), run(sqlite, "SELECT * FROM enrichment_status")) == before


DEFERRED = "FOREIGN KEY (job_posting_id) REFERENCES theirs (id) DEFERRABLE INITIALLY DEFERRED"


def refer_to_a_table_of_theirs(database: Database) -> None:
    """All but the one posting are in it."""
    known = ", ".join(f"('{name.removeprefix('job-')}')" for name in OTHERS)
    run(database, 'CREATE TABLE theirs (id text COLLATE "C" PRIMARY KEY)')
    run(database, f"INSERT INTO theirs VALUES {known}")
    run(database, f"ALTER TABLE llm_enrichment ADD CONSTRAINT known_to_them {DEFERRED}")


def test_a_deferred_constraint_refuses_one_row_and_not_the_commit(postgresql: Database) -> None:
    refer_to_a_table_of_theirs(postgresql)
    for event in (requested(), started()):
        offer(postgresql, *(proposal(name, event) for name in [*OTHERS, REFUSED]))
    check_that_one_row_was_refused(postgresql, ends(unlike()), "known_to_them")


def test_a_deferred_constraint_would_refuse_the_commit_whatever_savepoints_there_are(postgresql: Database) -> None:
    refer_to_a_table_of_theirs(postgresql)
    with psycopg.connect(postgresql.url) as obvious:
        obvious.execute("SELECT 1")
        for posting in ("refused", "1"):
            with obvious.transaction():  # a savepoint, which takes both rows
                obvious.execute("INSERT INTO llm_enrichment (job_posting_id) VALUES (%s)", [posting])
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            obvious.commit()
    assert run(postgresql, "SELECT * FROM llm_enrichment") == []


def test_a_dropped_column_refuses_the_rows_that_set_it(running: Database) -> None:
    for event in (failed(), started(2)):
        offer(running, *(proposal(name, event) for name in OTHERS))
    run(running, "ALTER TABLE llm_enrichment DROP COLUMN result")
    again = [proposal(name, failed(2, message="again")) for name in OTHERS]  # a result stays what it was
    appended(offer(running, *again[:20], proposal(REFUSED, succeeded()), *again[20:]))
    assert sum(len(page) for page in read_log(running)) == 49 * 5 + 3
    assert len(run(running, "SELECT job_posting_id FROM llm_enrichment WHERE enrichment_error = 'again'")) == 49
    assert "result" in status(running, REFUSED)["projection_error"]
    assert status(running, OTHERS[0])["projection_error"] is None


@pytest.mark.parametrize("missing", ["TABLE llm_enrichment", "COLUMN enrichment"])
def test_a_table_that_cannot_be_written_at_all_loses_no_event(running: Database, missing: str) -> None:
    if missing.startswith("TABLE"):
        run(running, "ALTER TABLE llm_enrichment RENAME TO llm_enrichment_of_last_year")
    else:
        run(running, "ALTER TABLE llm_enrichment RENAME COLUMN enrichment TO kind")
    appended(offer(running, *ends(unlike())))
    assert sum(len(page) for page in read_log(running)) == 150
    assert {status(running, name)["state"] for name in [*OTHERS, REFUSED]} == {"failed"}
    assert "enrichment" in status(running, REFUSED)["projection_error"]


def test_the_mark_goes_when_the_row_can_be_written_again(running: Database) -> None:
    refuse_by_a_trigger(running)
    offer(running, unlike())
    assert status(running, REFUSED)["projection_error"]
    tell(running, REFUSED, started(2))
    assert status(running, REFUSED)["projection_error"]  # nothing was shown meanwhile
    tell(running, REFUSED, succeeded(2))
    assert status(running, REFUSED)["projection_error"] is None
    assert shown(running, REFUSED) is not None


@pytest.mark.parametrize("before", [(succeeded(),), (failed(),)], ids=["succeeded", "failed"])
def test_a_success_is_written_whole_although_the_row_before_it_was_deleted(
    database: Database, before: tuple[Event, ...]
) -> None:
    tell(database, "job-1", requested(), started(), *before, requested("force"), started(2))
    run(database, "DELETE FROM llm_enrichment")
    tell(database, "job-1", succeeded(2))
    row = shown(database, "job-1")
    assert row is not None
    assert (row["result"], status(database, "job-1")["projection_error"]) == ({"attempt": 2}, None)


def test_a_row_that_was_deleted_is_never_made_anew_of_a_part_of_it(database: Database) -> None:
    tell(database, "job-1", requested(), started(), succeeded(), requested("force"), started(2))
    run(database, "DELETE FROM llm_enrichment")
    tell(database, "job-1", failed(2))
    assert shown(database, "job-1") is None
    assert status(database, "job-1")["projection_error"] == "its row was deleted from the table"
    rebuild(database)
    row = shown(database, "job-1")
    assert row is not None
    assert (row["result"], row["enrichment_error"]) == ({"attempt": 1}, "Request timeout after 300 seconds")
    assert status(database, "job-1")["projection_error"] is None


def test_a_column_of_theirs_whose_domain_knows_no_null_is_left_to_its_default(postgresql: Database) -> None:
    run(postgresql, "CREATE DOMAIN told AS text NOT NULL CHECK (VALUE <> '')")
    run(postgresql, "ALTER TABLE llm_enrichment ADD COLUMN theirs told DEFAULT 'theirs'")
    tell(postgresql, "job-1", requested(), started(), failed(), started(2), succeeded(2))  # inserted, then updated
    row = shown(postgresql, "job-1")
    assert row is not None
    assert (row["enrichment_error"], row["result"]) == (None, {"attempt": 2})
    assert run(postgresql, "SELECT theirs FROM llm_enrichment") == [{"theirs": "theirs"}]


def test_a_column_of_theirs_may_be_of_an_enum_and_take_what_that_knows(postgresql: Database) -> None:
    tell(postgresql, "job-1", requested(), started(), failed())
    run(postgresql, "CREATE TYPE models AS ENUM ('one', 'another')")
    change = (
        "ALTER TABLE llm_enrichment ALTER enrichment_model_version TYPE {0} USING enrichment_model_version::text::{0}"
    )
    run(postgresql, change.format("models"))
    for name in ("job-1", "job-2"):  # the first is updated, the second inserted
        tell(postgresql, name, requested(), started(2), succeeded(2, response_model="one"))
    tell(postgresql, "job-3", requested(), started(), succeeded(response_model="unknown"))
    shown_models = "SELECT enrichment_model_version::text model FROM llm_enrichment ORDER BY job_posting_id"
    assert [row["model"] for row in run(postgresql, shown_models)] == ["one", "one"]
    assert "invalid input value for enum" in (status(postgresql, "job-3")["projection_error"] or "")
    run(postgresql, change.format("text"))
    run(postgresql, "DROP TYPE models")
    assert rebuild(postgresql).written == 1
    assert [row["model"] for row in run(postgresql, shown_models)] == ["one", "one", "unknown"]


@pytest.mark.parametrize("refuse", [refuse_by_a_check, lambda database: pass_over_by_a_trigger(database, "INSERT")])
def test_what_is_refused_leaves_nothing_that_only_the_collector_of_cycles_could_free(
    database: Database, refuse: Callable[[Database], None]
) -> None:
    """A walk holds it off: what every refused row left behind would be gigabytes."""
    rows = [(proposal(f"job-{one}", event)) for one in range(64) for event in (requested(), started(), unlike_end())]
    appended(offer(database, *rows))
    run(database, "DELETE FROM llm_enrichment")
    refuse(database)
    assert len(rebuild(database).refused) == 64  # with what is made once
    gc.collect()
    gc.disable()
    try:
        assert len(rebuild(database).refused) == 64
        assert gc.collect() < 5 * 64
    finally:
        gc.enable()


def unlike_end() -> Event:
    return failed(message="unlike")
