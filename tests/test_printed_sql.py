"""`init --sql`: what is printed does what `init` does, as often as it is run, and its rollback takes it all back."""

import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg
import pytest

from eventlog import migration
from eventlog.database import Database
from eventlog.errors import DatabaseRefused, NotInitialised
from eventlog.revisions import scripts
from tests.builders import BOUND, failed, requested, run, started, tell, wait_for_a_waiter
from tests.command_line import Command
from tests.conftest import ServerDatabases
from tests.dumps import dump
from tests.postgres import GivenServer
from tests.service import import_postings, posting

THEIRS = """
CREATE TABLE job_postings (id uuid PRIMARY KEY, title text);
CREATE TABLE llm_enrichment (id int PRIMARY KEY, job_posting_id uuid UNIQUE REFERENCES job_postings ON DELETE CASCADE);
CREATE VIEW jobs_needing_retry AS SELECT title FROM job_postings;
INSERT INTO job_postings VALUES ('00000000-0000-0000-0000-000000000001', 'Theirs')
"""

A_ROW = "INSERT INTO {ours}rebuilds VALUES ('one', 'share', 'stream', now())"


def paste(database: Database, script: str) -> None:
    """Run a whole text at once, as an SQL editor does: without parameters, nothing but what SQL itself can say."""
    if database.dialect.schema is None:
        with closing(sqlite3.connect(database.dialect.where())) as file:
            file.executescript(script)
        return
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(script.encode())


@pytest.fixture(params=["not adopted", "adopted"])
def fresh(request: pytest.FixtureRequest, server_databases: ServerDatabases) -> Iterator[Database]:
    """A database without enrichlog: an empty one, and one in which the users have their tables."""
    adopted = True if request.param == "adopted" else None
    with closing(Database(server_databases.empty(), adopted=adopted)) as database:
        if adopted:
            run(database, THEIRS)
        yield database
        server_databases.drop(database.url)


@pytest.fixture(scope="module")
def migrated(server: GivenServer, server_databases: ServerDatabases) -> dict[bool, list[str]]:
    """What `init` makes, of a database that is adopted and of one that is not."""
    found = {}
    for adopted in (None, True):
        with closing(Database(server_databases.empty(), adopted=adopted)) as database:
            if adopted:
                run(database, THEIRS)
            migration.migrate(database)
            found[database.adopted is not None] = dump(database, server)
            server_databases.drop(database.url)
    return found


def kept(database: Database) -> list[list[dict[str, Any]]]:
    """The rows of some tables of ours."""
    return [run(database, f"SELECT * FROM {{ours}}{name}") for name in ("rebuilds", "checkpoints", "alembic_version")]


def is_adopted(database: Database) -> bool:
    return database.adopted is not None


def test_what_is_printed_for_sqlite_makes_what_migrating_makes(sqlite: Database, server: GivenServer) -> None:
    with closing(Database(f"{sqlite.url}.printed")) as printed:
        paste(printed, migration.sql(printed))
        assert dump(printed, server) == dump(sqlite, server)
        migration.check(printed)
        paste(printed, migration.rollback_sql(printed))
        left = run(printed, "SELECT name FROM sqlite_master WHERE type <> 'index'")
        assert {row["name"] for row in left} == {"job_postings", "llm_enrichment"}  # theirs to drop


def test_what_is_printed_makes_what_migrating_makes_as_often_as_it_is_run(
    fresh: Database, server: GivenServer, migrated: dict[bool, list[str]]
) -> None:
    script = migration.sql(fresh)
    paste(fresh, script)
    assert dump(fresh, server) == migrated[is_adopted(fresh)]  # before any migrate, which would mend what is lacking
    migration.check(fresh)
    run(fresh, A_ROW)
    rows = kept(fresh)
    paste(fresh, script)
    paste(fresh, script)
    migration.migrate(fresh)
    assert dump(fresh, server) == migrated[is_adopted(fresh)]
    assert any("GRANT SELECT,INSERT ON TABLE enrichlog.events TO enrichlog_app" in one for one in dump(fresh, server))
    assert kept(fresh) == rows


def test_what_is_printed_changes_nothing_of_what_init_has_made(
    postgresql: Database, server: GivenServer, migrated: dict[bool, list[str]]
) -> None:
    tell(postgresql, "job-1", requested())
    paste(postgresql, migration.sql(postgresql))
    assert dump(postgresql, server) == migrated[False]
    assert len(run(postgresql, "SELECT * FROM {ours}events")) == 1


def test_the_rollback_leaves_the_database_as_it_was_before(fresh: Database, server: GivenServer) -> None:
    before = dump(fresh, server)
    migration.migrate(fresh)
    run(fresh, A_ROW)
    for _ in range(2):
        paste(fresh, migration.rollback_sql(fresh))
        assert dump(fresh, server) == before
    if is_adopted(fresh):
        assert run(fresh, "SELECT title FROM job_postings") == [{"title": "Theirs"}]
    with pytest.raises(NotInitialised):
        migration.check(fresh)


def test_the_rollback_drops_no_table_of_theirs_when_it_is_not_told_of_them(
    fresh: Database, server: GivenServer
) -> None:
    migration.migrate(fresh)
    before = dump(fresh, server)
    other = Database(fresh.url, adopted=None if is_adopted(fresh) else True)
    with pytest.raises(psycopg.errors.DependentObjectsStillExist, match=r"view .*jobs_needing_retry"):
        paste(fresh, migration.rollback_sql(other))
    assert dump(fresh, server) == before


def test_the_rollback_keeps_what_others_have_put_into_our_schema(postgresql: Database) -> None:
    run(postgresql, "CREATE TABLE {ours}theirs (id int)")
    paste(postgresql, migration.rollback_sql(postgresql))
    kept = "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace('enrichlog') AND relkind = 'r'"
    assert run(postgresql, kept) == [{"relname": "theirs"}]


def test_the_rollback_is_printed_behind_the_rest_as_a_comment(enrichlog: Command, database: Database) -> None:
    rollback = enrichlog.done("init", "--sql", "--rollback").out
    whole = enrichlog.done("init", "--sql").out
    lines = rollback.splitlines()
    assert whole.splitlines()[-len(lines) :] == [f"-- {line}".rstrip() for line in lines]
    assert "the log of all that was enriched included" in lines[0]
    assert any("job_postings" in line for line in lines)
    assert enrichlog.json("init", "--sql", "--rollback") == {"sql": rollback}
    said = enrichlog("init", "--rollback")
    assert (said.code, "--rollback goes with --sql" in said.err) == (2, True)


@pytest.mark.parametrize("table", ["job_postings", "llm_enrichment"])
def test_what_is_printed_leaves_tables_of_others_alone(
    server_databases: ServerDatabases, server: GivenServer, table: str
) -> None:
    with closing(Database(server_databases.empty())) as database:
        run(database, f"CREATE TABLE {table} (theirs int)")
        before = dump(database, server)
        with pytest.raises(psycopg.errors.RaiseException, match=f"already has a table {table} .* enrichlog adopt"):
            paste(database, migration.sql(database))
        assert dump(database, server) == before
        server_databases.drop(database.url)


def test_what_is_printed_leaves_a_later_version_alone(postgresql: Database) -> None:
    run(postgresql, "UPDATE {ours}alembic_version SET version_num = '9999'")
    with pytest.raises(psycopg.errors.RaiseException, match="Upgrade enrichlog"):
        paste(postgresql, migration.sql(postgresql))


def test_what_is_printed_waits_for_a_migration_that_is_under_way(postgresql: Database) -> None:
    script = migration.sql(postgresql)
    with ThreadPoolExecutor(1) as thread:
        with postgresql.write() as under_way:
            postgresql.dialect.lock_migrations(under_way)
            waiting = thread.submit(paste, postgresql, script)
            wait_for_a_waiter(postgresql)
        waiting.result(BOUND)


MAKES = ["CREATE TABLE first (id int)", "CREATE INDEX first_id ON first (id); INSERT INTO first VALUES (1)"]
COUNTS = "INSERT INTO first SELECT count(*) FROM enrichlog.events"
WRONG = "SELECT 1 / 0"


@pytest.mark.parametrize("refused", [([*MAKES, WRONG], []), (MAKES, [COUNTS, WRONG])])
def test_what_others_print_with_it_happens_with_it_or_not_at_all(
    fresh: Database, server: GivenServer, refused: tuple[list[str], list[str]]
) -> None:
    start = dump(fresh, server)
    with pytest.raises(psycopg.errors.DivisionByZero):
        paste(fresh, migration.sql(fresh, *refused))
    assert dump(fresh, server) == start
    paste(fresh, migration.sql(fresh, MAKES, [COUNTS]))
    assert run(fresh, "SELECT id FROM first ORDER BY id") == [{"id": 0}, {"id": 1}]
    paste(fresh, migration.rollback_sql(fresh, ["DROP TABLE first"]))
    assert dump(fresh, server) == start


def test_what_others_do_first_happens_with_the_migration_or_not_at_all(fresh: Database, server: GivenServer) -> None:
    start = dump(fresh, server)
    with pytest.raises(DatabaseRefused, match="division by zero"):
        migration.migrate(fresh, [*MAKES, WRONG])
    assert dump(fresh, server) == start
    migration.migrate(fresh, MAKES)
    assert run(fresh, "SELECT id FROM first") == [{"id": 1}]


def test_beside_adopted_tables_nothing_of_ours_is_made_and_our_view_depends_on_none_of_theirs(
    empty_database: Database,
) -> None:
    empty_database.dialect.create_place()
    run(empty_database, "CREATE TABLE job_postings (id int, title text)")
    with closing(Database(empty_database.url, adopted=True)) as adopted:
        migration.migrate(adopted)
        assert run(adopted, "SELECT * FROM {ours}jobs_needing_retry") == []
        run(adopted, "ALTER TABLE job_postings DROP COLUMN title")
        run(adopted, "DROP TABLE job_postings")
        with pytest.raises(DatabaseRefused, match="llm_enrichment"):
            run(adopted, "SELECT * FROM llm_enrichment")


def test_the_view_of_an_adopted_database_lists_what_a_retry_would_take(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"))
    tell(database, "job-1", started(), failed(wait_ms=0))
    (theirs,) = run(database, "SELECT * FROM jobs_needing_retry")
    run(database, "DROP VIEW jobs_needing_retry")
    run(database, (scripts() / "versions" / f"0001_{database.dialect.name}_adopted.sql").read_text())
    assert run(database, "SELECT * FROM {ours}jobs_needing_retry") == [
        {name: value for name, value in theirs.items() if name not in ("title", "company", "enrichment_error")}
    ]
