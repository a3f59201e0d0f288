"""Tables that were there before us: their keys, constraints, triggers, views, locks, names, and who else writes there.

Whatever they refuse, the event stays; whatever they do by themselves, they go on doing.
"""

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from enrichlog.adopted import adopted_of
from enrichlog.postings import find_deleted
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Script, Simulator
from eventlog import migration
from eventlog.database import Database
from projections.drift import Drift
from projections.rebuild import reconcile_named
from projections.users_table import LOCKED, NOT_TAKEN
from tests.adopted import (
    a_result,
    add_postings,
    columns,
    job_id,
    row_of,
    set_row,
    settings_of,
)
from tests.builders import failed, requested, run, started, status, succeeded, tell
from tests.command_line import Command
from tests.conftest import Databases, lend_adopted
from tests.forks import wait_until
from tests.service import enrich, of_type, whole_log


def stream(number: int) -> str:
    return f"job-{job_id(number)}"


@pytest.fixture
def theirs(adopted: Database) -> Database:
    """An adopted database whose postings are asked for."""
    return begun(adopted)


@pytest.fixture
def theirs_on_postgresql(server_databases: Databases, bare: Path) -> Iterator[Database]:
    """The same where several programs write at once."""
    for database in lend_adopted(server_databases):
        yield begun(database)


def begun(database: Database) -> Database:
    """Three postings, each with an empty row, whose first attempts are in flight."""
    add_postings(database, range(1, 4))
    for number in range(1, 4):
        tell(database, stream(number), requested(), started())
    return database


def end_well(database: Database, number: int, **fields: Any) -> None:
    tell(database, stream(number), succeeded(result=a_result(**fields)))


def adopt_with(database: Database, **target: Any) -> Settings:
    """Adopt the database with other settings of the table."""
    settings = settings_of(database, **target)
    look_up(database, settings)
    return settings


def look_up(database: Database, settings: Settings) -> None:
    told = adopted_of(settings)
    assert told is not None
    with database.read() as connection:
        database.adopted = told.looked_up(database, connection)


def rebuild(database: Database) -> Drift:
    return reconcile_named(database, ["llm_enrichment"], write=True, gone=find_deleted)[0]


def differing(database: Database) -> int:
    """How many rows are not what the log adds up to, those of postings that are gone left out."""
    return sum(one.total for one in reconcile_named(database, write=False, gone=find_deleted))


def refused(database: Database, number: int) -> str | None:
    """Why the table does not show a posting."""
    reason = status(database, stream(number))["projection_error"]
    return None if reason is None else str(reason)


def on_sqlite(database: Database) -> bool:
    return database.dialect.name == "sqlite"


def trigger(database: Database, when: str, body: str, table: str = "llm_enrichment") -> None:
    """A trigger of theirs on PostgreSQL."""
    run(database, f"CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body} END$$")
    run(database, f"CREATE TRIGGER theirs {when} ON {table} FOR EACH ROW EXECUTE FUNCTION theirs()")


# -- postings that go -------------------------------------------------------------------------------------------------


def test_a_posting_that_is_deleted_while_it_is_enriched_ends_quietly(theirs: Database) -> None:
    run(theirs, f"DELETE FROM job_postings WHERE id = '{job_id(1)}'")  # and its row with it
    end_well(theirs, 1)
    end_well(theirs, 2)
    assert [one.stream_id for one in of_type(theirs, "EnrichmentSucceeded")] == [stream(1), stream(2)]
    assert run(theirs, f"SELECT id FROM llm_enrichment WHERE job_posting_id = '{job_id(1)}'") == []
    assert row_of(theirs, 2)["rol_titel"] == "rol_titel of it"
    drift = reconcile_named(theirs, ["llm_enrichment"], write=False, gone=find_deleted)[0]
    assert (drift.total, drift.gone) == (0, 1)
    rebuild(theirs)
    assert [refused(theirs, number) for number in (1, 2)] == [None, None]


def test_a_posting_that_is_deleted_while_its_call_is_open_is_paid_recorded_and_shown_nowhere(
    adopted: Database, service: Settings, simulator: Simulator
) -> None:
    add_postings(adopted, [1, 2])
    settings = adopt_with(adopted)
    simulator.play(Script(latency=0.2))
    with ThreadPoolExecutor(1) as aside:
        running = aside.submit(enrich, adopted, settings)
        wait_until(lambda: len(simulator.journal) == 2, "nobody called")
        run(adopted, f"DELETE FROM job_postings WHERE id = '{job_id(1)}'")
        done = running.result()
    assert (done.succeeded, done.failed, len(of_type(adopted, "EnrichmentSucceeded"))) == (2, 0, 2)
    assert len(run(adopted, "SELECT id FROM llm_enrichment")) == 1
    assert differing(adopted) == 0


# -- constraints ------------------------------------------------------------------------------------------------------


def test_a_constraint_that_would_fail_at_the_commit_refuses_its_own_row(theirs: Database) -> None:
    run(theirs, "CREATE TABLE roles (name text PRIMARY KEY)")
    run(theirs, "INSERT INTO roles VALUES ('known')")
    refers = "REFERENCES roles DEFERRABLE INITIALLY DEFERRED"
    run(theirs, f"ALTER TABLE llm_enrichment ADD COLUMN role text CONSTRAINT of_roles {refers}")
    adopt_with(theirs, columns={**columns(), "role": "rol_titel"})
    end_well(theirs, 1, rol_titel="known")
    end_well(theirs, 2, rol_titel="unknown")
    assert (row_of(theirs, 1)["role"], row_of(theirs, 2)["role"]) == ("known", None)
    assert refused(theirs, 1) is None
    assert ("role refers to roles" if on_sqlite(theirs) else "of_roles") in (refused(theirs, 2) or "")
    run(theirs, "INSERT INTO roles VALUES ('unknown')")
    assert rebuild(theirs).written == 1
    assert row_of(theirs, 2)["role"] == "unknown"


def test_what_a_check_refuses_is_told_with_its_name_and_written_without_a_call_once_it_is_mended(
    adopted: Database, adopter: Command, simulator: Simulator
) -> None:
    add_postings(adopted, [1, 2])
    rule = "CONSTRAINT no_roles_yet CHECK (type_datarol IS NULL)"
    run(adopted, f"ALTER TABLE llm_enrichment ADD {'COLUMN extra text' if on_sqlite(adopted) else ''} {rule}")
    adopter.done("enrich")
    assert len(simulator.journal) == 2
    assert "no_roles_yet" in adopter.done("projections", "failed").out
    assert row_of(adopted, 1)["enrichment_completed_at"] is None  # all of a row or nothing
    mended = "DROP COLUMN extra" if on_sqlite(adopted) else "DROP CONSTRAINT no_roles_yet"
    run(adopted, f"ALTER TABLE llm_enrichment {mended}")
    log = whole_log(adopted)
    assert "2 rows written" in adopter.done("rebuild", "llm_enrichment").out
    assert row_of(adopted, 1)["type_datarol"] is not None
    assert (len(simulator.journal), whole_log(adopted)) == (2, log)
    adopter.done("verify")


def test_an_index_on_the_errors_refuses_no_long_message(adopted: Database) -> None:
    database = adopted
    run(database, "CREATE INDEX llm_enrichment_error ON llm_enrichment (enrichment_error)")
    add_postings(database, [1, 2])
    drawn = random.Random(1)  # what repeats itself would be compressed
    long = "".join(chr(drawn.randrange(0x10000, 0x110000)) for _ in range(20_000))
    for number, message in ((1, long), (2, "short")):
        tell(database, stream(number), requested(), started(), failed(message=message))
    assert row_of(database, 2)["enrichment_error"] == "short"
    shown = row_of(database, 1)["enrichment_error"]
    assert (long.startswith(shown), len(shown) > 500, refused(database, 1)) == (True, True, None)
    (event,) = [one for one in of_type(database, "EnrichmentFailed") if one.stream_id == stream(1)]
    assert event.content is not None
    assert event.content["message"] == long


# -- triggers and views -----------------------------------------------------------------------------------------------


def test_a_trigger_that_raises_refuses_its_own_row(theirs: Database) -> None:
    if on_sqlite(theirs):
        when = "BEFORE UPDATE ON llm_enrichment WHEN NEW.rol_titel = 'unwanted'"
        run(theirs, f"CREATE TRIGGER theirs {when} BEGIN SELECT RAISE(ABORT, 'they do not want this'); END")
    else:
        raised = "IF NEW.rol_titel = 'unwanted' THEN RAISE EXCEPTION 'they do not want this'; END IF; RETURN NEW;"
        trigger(theirs, "BEFORE UPDATE", raised)
    end_well(theirs, 1, rol_titel="unwanted")
    end_well(theirs, 2)
    assert "they do not want this" in (refused(theirs, 1) or "")
    assert (row_of(theirs, 1)["rol_titel"], row_of(theirs, 2)["rol_titel"]) == (None, "rol_titel of it")


def test_a_row_that_a_trigger_passes_over_in_silence_is_told(theirs: Database) -> None:
    if on_sqlite(theirs):
        when = "BEFORE UPDATE ON llm_enrichment WHEN NEW.rol_titel = 'unwanted'"
        run(theirs, f"CREATE TRIGGER theirs {when} BEGIN SELECT RAISE(IGNORE); END")
    else:
        trigger(theirs, "BEFORE UPDATE", "IF NEW.rol_titel = 'unwanted' THEN RETURN NULL; END IF; RETURN NEW;")
    end_well(theirs, 1, rol_titel="unwanted")
    end_well(theirs, 2)
    assert (refused(theirs, 1), refused(theirs, 2)) == (NOT_TAKEN, None)


def test_what_a_trigger_makes_of_a_value_is_no_difference(theirs: Database) -> None:
    if on_sqlite(theirs):
        upper = "UPDATE llm_enrichment SET rol_titel = upper(NEW.rol_titel) WHERE id = NEW.id"
        run(theirs, f"CREATE TRIGGER theirs AFTER UPDATE OF rol_titel ON llm_enrichment BEGIN {upper}; END")
    else:
        trigger(theirs, "BEFORE UPDATE", "NEW.rol_titel = upper(NEW.rol_titel); RETURN NEW;")
    end_well(theirs, 1)
    assert row_of(theirs, 1)["rol_titel"] == "ROL_TITEL OF IT"
    assert differing(theirs) == 0
    assert rebuild(theirs).written == 0
    assert row_of(theirs, 1)["rol_titel"] == "ROL_TITEL OF IT"


def test_a_trigger_may_write_to_the_postings(theirs: Database) -> None:
    if on_sqlite(theirs):
        ranks = "UPDATE job_postings SET needs_ranking = true WHERE id = NEW.job_posting_id"
        run(theirs, f"CREATE TRIGGER theirs AFTER UPDATE ON llm_enrichment BEGIN {ranks}; END")
    else:
        ranks = "UPDATE job_postings SET needs_ranking = true WHERE id = NEW.job_posting_id; RETURN NEW;"
        trigger(theirs, "AFTER UPDATE", ranks)
    end_well(theirs, 1)
    found = run(theirs, "SELECT id FROM job_postings WHERE needs_ranking")
    assert [str(row["id"]) for row in found] == [job_id(1)]


def test_a_view_over_their_table_goes_on_working(theirs: Database) -> None:
    enriched = "enrichment_completed_at IS NOT NULL AND enrichment_error IS NULL"
    run(theirs, f"CREATE VIEW enriched AS SELECT job_posting_id, rol_titel FROM llm_enrichment WHERE {enriched}")
    end_well(theirs, 1)
    tell(theirs, stream(2), failed())
    assert [str(row["job_posting_id"]) for row in run(theirs, "SELECT * FROM enriched")] == [job_id(1)]
    assert rebuild(theirs).written == 0
    run(theirs, "DROP VIEW enriched")


# -- others who write there -------------------------------------------------------------------------------------------


def test_what_others_write_into_columns_that_are_not_mapped_stays(theirs: Database) -> None:
    set_row(theirs, 1, note="theirs")
    end_well(theirs, 1)
    set_row(theirs, 1, note="theirs, later")
    tell(theirs, stream(1), requested("force"), started(2), failed(2))
    row = row_of(theirs, 1)
    assert (row["note"], row["rol_titel"], row["enrichment_error"] is None) == (
        "theirs, later", "rol_titel of it", False,
    )  # fmt: skip
    assert differing(theirs) == 0


def test_a_row_that_another_program_is_writing_is_passed_over_and_written_later(
    theirs_on_postgresql: Database,
) -> None:
    theirs = theirs_on_postgresql  # SQLite has one who writes
    with psycopg.connect(theirs.url) as another:
        another.execute("UPDATE llm_enrichment SET note = 'theirs' WHERE job_posting_id = %s", [job_id(1)])
        end_well(theirs, 1)
        end_well(theirs, 2)
        assert (refused(theirs, 1), refused(theirs, 2)) == (LOCKED, None)
    assert rebuild(theirs).written == 1
    row = row_of(theirs, 1)
    assert (row["note"], row["rol_titel"], refused(theirs, 1)) == ("theirs", "rol_titel of it", None)


# -- shapes of tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("well", [True, False], ids=["succeeded", "failed"])
def test_a_row_that_is_not_there_yet_is_made(theirs: Database, *, well: bool) -> None:
    run(theirs, "DELETE FROM llm_enrichment")
    tell(theirs, stream(1), succeeded(result=a_result()) if well else failed())
    row = row_of(theirs, 1)
    assert (row["rol_titel"], row["enrichment_error"]) == (
        ("rol_titel of it", None) if well else (None, "Request timeout after 300 seconds")
    )
    assert row["labels"] == (a_result()["labels"] if well else {})  # their default
    assert differing(theirs) == 0


class Shape:
    """A pair of tables of another make: their names and columns as SQL, and the mapping."""

    def __init__(self, key: str, postings: str, results: str, mapped: Mapping[str, Any], ids: tuple[str, ...]) -> None:
        self.key, self.postings, self.results, self.mapped, self.ids = key, postings, results, mapped, ids

    def make(self, database: Database, *before: str) -> Settings:
        """Make the tables and adopt them."""
        texts = ", ".join(f"{_quoted(name)} text" for name in self.mapped if name != "made_at")
        for statement in (
            *before,
            f"CREATE TABLE {self.postings} (id {self.key} PRIMARY KEY, title text, description text)",
            f"CREATE TABLE {self.results} (posting {self.key} PRIMARY KEY, made_at "
            f"{'text' if on_sqlite(database) else 'timestamptz'}, {texts})",
        ):
            run(database, statement)
        for one in self.ids:
            run(database, f"INSERT INTO {self.postings} VALUES ({_text(one)}, 'Engineer', 'Ten % more.')")
        source = {"query": f"SELECT id, title, description FROM {self.postings} WHERE title LIKE 'Eng%' -- all: %s"}
        target = {"table": self.results.replace('"', ""), "id_column": "posting", "columns": dict(self.mapped)}
        settings = configure(database=database.url, source=source, target=target, result_model="tests.service:Skills")
        look_up(database, settings)
        migration.migrate(database)
        return settings


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


PLAIN = {"title": "title", "error": "@error", "made_at": "@completed_at", "model": "@model_version"}
ODD = {
    "order": "title", 'so "called"': "@error", "made_at": "@completed_at", "Model :of %s": "@model_version",
    "user": {"constant": "enrichlog"},
}  # fmt: skip
SHAPES = {
    "bigint": Shape("bigint", "postings", "results", PLAIN, ("1", "-7", "9223372036854775807")),
    "varchar": Shape("varchar(40)", "postings", "results", PLAIN, ("a-b", "O'Hara %s", "ü 1")),
    "odd names": Shape("varchar(40)", '"Our Postings"', '"Our Results"', ODD, ("a", "b")),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_keys_and_names_of_any_kind(
    empty_database: Database, service: Settings, simulator: Simulator, shape: str
) -> None:
    database, made = empty_database, SHAPES[shape]
    settings = made.make(database)
    assert enrich(database, settings).succeeded == len(made.ids)
    rows = {str(row["posting"]): row for row in run(database, f"SELECT * FROM {made.results}")}
    assert rows.keys() == set(made.ids)
    titles = {row[next(name for name, what in made.mapped.items() if what == "title")] for row in rows.values()}
    assert titles == {"Engineer"}
    if "user" in made.mapped:
        assert {row["user"] for row in rows.values()} == {"enrichlog"}
    assert differing(database) == 0
    enrich(database, settings)  # nothing is left
    assert len(simulator.journal) == len(made.ids)


def test_a_table_in_a_schema_of_its_own(empty_postgresql: Database, service: Settings) -> None:
    database = empty_postgresql  # SQLite has no schemas
    shape = Shape("uuid", "crm.postings", "crm.results", PLAIN, (job_id(1),))
    settings = shape.make(database, "CREATE SCHEMA crm")
    assert enrich(database, settings).succeeded == 1
    assert [row["title"] for row in run(database, "SELECT title FROM crm.results")] == ["Engineer"]
    assert differing(database) == 0
