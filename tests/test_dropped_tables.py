"""A table that somebody has dropped or altered is told of with what to do, and doing that brings it back."""

import pytest

from eventlog import migration
from eventlog.database import Database
from projections.catalogue import is_users, names, table_of
from tests.builders import failed, run, started, tell
from tests.command_line import Command
from tests.drift import drift_of
from tests.service import import_many

OURS = [table_of(name).name for name in names() if not is_users(name)]


@pytest.fixture
def told(enrichlog: Command, database: Database) -> Command:
    """The command line, and a posting that has failed."""
    import_many(database, 1)
    tell(database, "job-000", started(), failed())
    return enrichlog


@pytest.mark.parametrize("table", OURS)
def test_a_table_of_ours_that_was_dropped_is_made_by_init_and_filled_by_rebuild(
    told: Command, database: Database, table: str
) -> None:
    run(database, f"DROP TABLE {{ours}}{table}{' CASCADE' if database.dialect.schema else ''}")
    said = told("rebuild")
    assert said.code == 1
    assert f"{table} is not there: somebody has dropped it. Make it again with: enrichlog init" in said.err
    verified = told("verify")
    assert (verified.code, verified.out.count("Not sound.")) == (3, 1)
    assert f"{table} is not there" in verified.out
    assert "chain unbroken" in verified.out
    told.done("init")
    told.done("rebuild")
    told.done("verify")
    assert drift_of(database) == 0


@pytest.mark.parametrize("table", ["checkpoints", "rebuilds"])
def test_an_operational_table_that_was_dropped_is_made_by_init(told: Command, database: Database, table: str) -> None:
    run(database, f"DROP TABLE {{ours}}{table}")
    for command in (["status"], ["verify"], ["rebuild"], ["projections", "list"], ["enrich"]):
        said = told(*command)
        assert (said.code, said.out) == (1, "")
        assert said.error.endswith(
            f"lacks the table {table}, which this version of enrichlog needs. Have it made by: enrichlog init"
        )
    told.done("init")
    told.done("rebuild")
    told.done("verify")


def test_the_users_table_that_was_dropped_is_theirs_to_make_again(told: Command, database: Database) -> None:
    if database.dialect.schema:
        run(database, "DROP VIEW jobs_needing_retry")
    run(database, "DROP TABLE llm_enrichment")
    said = told("rebuild", "llm_enrichment")
    assert (said.code, "llm_enrichment is not there" in said.err, "enrichlog init --sql" in said.err) == (1, True, True)
    printed = migration.sql(database)
    start = printed.index("CREATE TABLE llm_enrichment")
    run(database, printed[start : printed.index(";", start)])
    told.done("rebuild", "llm_enrichment")
    assert drift_of(database) == 0


def test_a_column_that_was_renamed_is_named(told: Command, database: Database) -> None:
    run(database, "ALTER TABLE llm_enrichment RENAME COLUMN result TO outcome")
    for command in ("rebuild", "verify"):
        said = told(command, "llm_enrichment")
        assert "The table llm_enrichment lacks result" in said.out + said.err
    assert told("verify").code == 3
    run(database, "ALTER TABLE llm_enrichment RENAME COLUMN outcome TO result")
    told.done("verify")
