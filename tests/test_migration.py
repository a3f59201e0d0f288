"""Migrations: several at once succeed, and what they make is what the table definitions say."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import enrichlog.postings
import enrichlog.workers
import projections.checkpoints
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import AdoptedElsewhere, NotInitialised, SchemaOutdated, SchemaTooNew, TablesOfOthers
from eventlog.revisions import VERSION_TABLE, newest
from eventlog.schema import OURS, metadata
from projections import catalogue
from tests.builders import BOUND, requested, run, status, tell, wait_for_a_waiter
from tests.conftest import ServerDatabases
from tests.dumps import dump
from tests.postgres import GivenServer

assert enrichlog.postings
assert enrichlog.workers
assert projections.checkpoints
assert catalogue.names()  # imported so that all tables are registered

MIGRATES_WHEN_TOLD = """
import sys
from eventlog import migration
from eventlog.database import Database
from alembic import command
for url in map(str.strip, sys.stdin):
    print(migration.migrate(Database(url)), flush=True)
"""


@pytest.fixture(scope="module")
def six_processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that migrate the database they are told, with everything imported already."""
    start = [sys.executable, "-c", MIGRATES_WHEN_TOLD]
    pipe, checkout = subprocess.PIPE, Path(__file__).parent.parent
    processes = [
        subprocess.Popen(start, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=checkout) for _ in range(6)
    ]
    yield processes
    assert [process.communicate()[1] for process in processes] == [""] * 6


@pytest.mark.pooled
def test_six_processes_that_migrate_at_once_all_succeed(
    empty_database: Database, six_processes: list[subprocess.Popen[str]]
) -> None:
    for process in six_processes:
        assert process.stdin
        process.stdin.write(empty_database.url + "\n")
        process.stdin.flush()
    done = [process.stdout.readline() if process.stdout else "" for process in six_processes]
    assert done == [f"{newest()}\n"] * 6
    migration.check(empty_database)
    assert [row["n"] for row in run(empty_database, f"SELECT count(*) AS n FROM {{ours}}{VERSION_TABLE}")] == [1]


def test_a_migration_waits_for_the_one_that_is_under_way(server_databases: ServerDatabases) -> None:
    with closing(Database(server_databases.empty())) as database, ThreadPoolExecutor(1) as thread:
        with database.write() as under_way:
            database.dialect.lock_migrations(under_way)
            waiting = thread.submit(migration.migrate, database)
            wait_for_a_waiter(database)
        assert waiting.result(BOUND) == newest()
        server_databases.drop(database.url)


def tables_and_indexes(statements: list[str]) -> list[str]:
    """Those statements that a table definition accounts for; triggers, views and rights stand in migrations alone."""
    made = re.compile(r"CREATE TABLE|CREATE (UNIQUE )?INDEX|ALTER TABLE ONLY .* ADD CONSTRAINT")
    return [statement for statement in statements if made.match(statement) and VERSION_TABLE not in statement]


def test_the_migrated_tables_are_those_of_the_definitions(
    database: Database, empty_database: Database, server: GivenServer
) -> None:
    if empty_database.dialect.schema:
        run(empty_database, f"CREATE SCHEMA {OURS}")
    with empty_database.write() as connection:
        metadata.create_all(connection)
    migrated, defined = tables_and_indexes(dump(database, server)), tables_and_indexes(dump(empty_database, server))
    assert len(defined) >= 10
    assert migrated == defined


def test_migrating_again_changes_nothing(database: Database, server: GivenServer) -> None:
    before = dump(database, server)
    tell(database, "job-1", requested())
    assert migration.migrate(database) == newest()
    assert dump(database, server) == before
    assert status(database, "job-1")["version"] == 1


def test_a_database_that_was_never_migrated_is_named_and_not_made(empty_database: Database) -> None:
    with pytest.raises(NotInitialised, match=r"There is no enrichlog in .* enrichlog init") as error:
        migration.check(empty_database)
    assert empty_database.dialect.where() in str(error.value)
    if empty_database.dialect.name == "sqlite":
        assert not Path(empty_database.dialect.where()).exists()


@pytest.mark.parametrize(("revision", "error"), [("0000", SchemaOutdated), ("9999", SchemaTooNew)])
def test_a_database_of_another_version_is_refused(database: Database, revision: str, error: type[Exception]) -> None:
    migration.check(database)
    run(database, f"UPDATE {{ours}}{VERSION_TABLE} SET version_num = '{revision}'")
    with pytest.raises(error, match=revision):
        migration.check(database)


def test_a_newer_database_is_not_migrated(database: Database, server: GivenServer) -> None:
    run(database, f"UPDATE {{ours}}{VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaTooNew, match="9999"):
        migration.migrate(database)
    assert run(database, f"SELECT version_num FROM {{ours}}{VERSION_TABLE}") == [{"version_num": "9999"}]


@pytest.mark.parametrize("table", ["job_postings", "llm_enrichment"])
def test_tables_of_others_are_left_alone(empty_database: Database, server: GivenServer, table: str) -> None:
    empty_database.dialect.create_place()
    run(empty_database, f"CREATE TABLE {table} (theirs int)")
    before = dump(empty_database, server)
    with pytest.raises(TablesOfOthers, match=f"already has a table {table}"):
        migration.migrate(empty_database)
    assert dump(empty_database, server) == before
    with pytest.raises(NotInitialised):
        migration.check(empty_database)


def test_a_migration_that_fails_leaves_nothing_behind(empty_database: Database, server: GivenServer) -> None:
    empty_database.dialect.create_place()
    run(empty_database, "CREATE VIEW jobs_needing_retry AS SELECT 1 AS theirs")  # stands in the way near the end
    before = dump(empty_database, server)
    with pytest.raises(Exception, match="jobs_needing_retry"):
        migration.migrate(empty_database)
    assert dump(empty_database, server) == before


@pytest.mark.parametrize("name", ["other", 'Odd "name"'])
def test_our_tables_can_live_in_a_schema_of_another_name(server_databases: ServerDatabases, name: str) -> None:
    url = server_databases.empty()
    database = Database(url, schema=name)
    migration.migrate(database)
    migration.check(database)
    tell(database, "job-1", requested())
    assert status(database, "job-1")["state"] == "pending"
    assert run(database, "SELECT count(*) AS n FROM {ours}events") == [{"n": 1}]
    assert run(database, "SELECT * FROM jobs_needing_retry") == []
    run(database, "SELECT {ours}is_erased('job-1', 1)")
    with pytest.raises(NotInitialised), closing(Database(url)) as other:
        migration.check(other)
    database.close()
    server_databases.drop(url)


def test_a_new_file_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "new.db"))
    mask = os.umask(0)
    try:
        migration.migrate(database)
        with database.write() as connection:
            connection.exec_driver_sql("INSERT INTO llm_enrichment (job_posting_id) VALUES ('1')")
            rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(mask)
    database.close()
    assert len(rights) >= 2  # the journal too
    assert set(rights.values()) == {0o600}


def test_a_database_with_tables_of_others_is_not_worked_with_by_whoever_does_not_know_of_them(
    adopted: Database,
) -> None:
    stranger = Database(adopted.url)
    for command in (migration.check, migration.migrate):
        with pytest.raises(AdoptedElsewhere, match="enrichlog adopt"):
            command(stranger)
    migration.check(adopted)
    assert migration.migrate(adopted) == newest()
    stranger.close()
