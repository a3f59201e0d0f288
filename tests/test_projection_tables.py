"""A projection in a file of its own needs no migration: `init` makes its table, closed as all are, and notes it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import psycopg
import pytest
from sqlalchemy import Column, Index, Integer, Table, inspect

from eventlog import migration
from eventlog.database import Database
from eventlog.schema import OURS, Key, metadata
from projections import batches, catalogue
from projections.checkpoints import note_check, note_version, noted
from tests.builders import NOON, StoppedClock, failed, requested, run, started, tell
from tests.command_line import Command

NAME = "ours_of_this_test"


@pytest.fixture
def table() -> Iterator[Table]:
    made = Table(NAME, metadata, Column("name", Key, primary_key=True), Column("count", Integer), schema=OURS)
    Index(f"{NAME}_count", made.c.count)
    yield made
    metadata.remove(made)


@pytest.fixture(params=["spanning", "following"])
def further(request: pytest.FixtureRequest, table: Table, monkeypatch: pytest.MonkeyPatch) -> str:
    """One more projection in the catalogue; the kind it is of."""
    kind: str = request.param
    one: Any = replace(batches.projection, name=NAME, table=table, version=3, is_following=kind == "following")
    known = catalogue._catalogue()
    found = known._replace(**{kind: MappingProxyType({**getattr(known, kind), NAME: one})})
    monkeypatch.setattr(catalogue, "_catalogue", lambda: found)
    return kind


def test_a_database_that_is_made_ready_has_its_table_with_its_index(database: Database, further: str) -> None:
    migration.migrate(database)
    assert run(database, f"SELECT * FROM {{ours}}{NAME}") == []
    with database.read() as connection:
        indexes = inspect(connection).get_indexes(NAME, schema=database.dialect.schema)
    assert [index["name"] for index in indexes] == [f"{NAME}_count"]
    run(database, f"INSERT INTO {{ours}}{NAME} VALUES ('kept', 1)")
    migration.migrate(database)
    assert len(run(database, f"SELECT * FROM {{ours}}{NAME}")) == 1


def test_what_is_noted_first_is_the_fold_that_made_the_rows(database: Database, further: str) -> None:
    migration.migrate(database)
    assert (noted(database)[NAME].fold_version, noted(database)["batches"].fold_version) == (3, 1)
    assert noted(database)[NAME].position == (0 if further == "following" else None)


def test_no_fold_has_made_the_rows_of_one_that_comes_to_a_log_unless_it_follows(
    database: Database, further: str
) -> None:
    tell(database, "job-1", requested())
    migration.migrate(database)
    assert noted(database)[NAME].fold_version == (3 if further == "following" else 0)
    note_version(database, NAME, 3)
    migration.migrate(database)
    assert noted(database)[NAME].fold_version == 3


def test_a_check_is_noted_beside_the_version_and_a_version_beside_the_check(
    timed: Database, clock: StoppedClock
) -> None:
    note_check(timed, "breaker", 7, 2)
    note_version(timed, "breaker", 9)
    assert noted(timed)["breaker"] == ("breaker", 9, None, NOON, 7, 2)
    note_check(timed, "breaker", 8, 0)
    assert noted(timed)["breaker"] == ("breaker", 9, None, clock.now, 8, 0)


@pytest.mark.parametrize("further", ["spanning"], indirect=True)
def test_its_table_is_closed_to_all_who_were_not_granted_it(postgresql: Database, further: str) -> None:
    run(postgresql, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    run(postgresql, "CREATE TABLE theirs (id int)")
    migration.migrate(postgresql)
    granted = "SELECT table_name FROM information_schema.role_table_grants WHERE grantee = 'PUBLIC' AND table_name"
    assert run(postgresql, f"{granted} IN ('{NAME}', 'theirs') GROUP BY 1") == [{"table_name": "theirs"}]
    (row,) = run(postgresql, f"SELECT relrowsecurity FROM pg_class WHERE relname = '{NAME}'")
    assert row["relrowsecurity"]


def test_the_sql_that_is_printed_makes_it_too(empty_database: Database, further: str) -> None:
    script = migration.sql(empty_database)
    if empty_database.dialect.schema:
        with psycopg.connect(empty_database.url, autocommit=True) as connection:
            connection.execute(script.encode())
    else:
        with closing(sqlite3.connect(empty_database.dialect.where())) as file:
            file.executescript(script)
    made: list[Any] = [noted(empty_database), run(empty_database, f"SELECT * FROM {{ours}}{NAME}")]
    migration.migrate(empty_database)
    assert [noted(empty_database), run(empty_database, f"SELECT * FROM {{ours}}{NAME}")] == made
    assert made[0].keys() == set(catalogue.names())


@pytest.mark.parametrize("name", ["enrichment_status", "breaker", "batches", "enrichment_stats_hourly"])
def test_of_a_table_that_was_lost_nothing_is_noted_any_more(enrichlog: Command, database: Database, name: str) -> None:
    tell(database, "job-1", requested(), started(), failed())
    enrichlog.done("rebuild")
    run(database, f"DROP TABLE {{ours}}{name}" + (" CASCADE" if database.dialect.name == "postgresql" else ""))
    enrichlog.done("init")
    (one,) = (found for found in enrichlog.json("projections", "list")["projections"] if found["name"] == name)
    follows = name == "enrichment_stats_hourly"
    assert (one["fold"], one["position"]) == (("current", 0) if follows else ("never folded", 3))
    assert one["drift"] is None
    enrichlog.done("rebuild")
    enrichlog.done("verify")
