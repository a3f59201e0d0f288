"""Who may look at our tables, and change them: whoever made them, and nobody else who was not granted it by name."""

from collections.abc import Iterator

import psycopg
import pytest

from enrichlog.workers import register
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import RightMissing
from tests.builders import failed, run, started, tell
from tests.conftest import ServerDatabases
from tests.postgres import GivenServer
from tests.service import import_postings, posting, worker

TABLES = [
    "enrichlog.events", "enrichlog.enrichment_status", "enrichlog.workers", "enrichlog.alembic_version",
    "job_postings", "llm_enrichment",
]  # fmt: skip
VIEW = "jobs_needing_retry"
VERBS = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]


@pytest.fixture(scope="module")
def roles(server: GivenServer) -> Iterator[None]:
    """The two roles by which a hosted database lets the internet in; of the whole server, so made and dropped once."""
    with psycopg.connect(server.url, autocommit=True) as owner:
        known = [row[0] for row in owner.execute("SELECT rolname FROM pg_roles")]
        made = [name for name in ("anon", "authenticated") if name not in known]
        for name in made:
            owner.execute(f"CREATE ROLE {name}")
        yield
        for name in made:
            owner.execute(f"DROP ROLE {name}")


@pytest.fixture(scope="module", params=["public", "anon", "authenticated"])
def grantee(request: pytest.FixtureRequest, roles: None) -> str:
    """Whom a hosted database grants all that is made in it."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def hosted(server_databases: ServerDatabases, grantee: str) -> Iterator[Database]:
    """A database that was migrated where everything new is granted; `theirs` was made there by somebody else."""
    database = Database(server_databases.empty())
    for kind in ("TABLES", "SCHEMAS"):
        run(database, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {grantee}")
    migration.migrate(database)
    run(database, "CREATE SCHEMA theirs; CREATE TABLE theirs.theirs (id int); CREATE VIEW theirs.view AS SELECT 1")
    yield database
    if grantee != "public":
        run(database, f"DROP OWNED BY {grantee}")
    database.close()
    server_databases.drop(database.url)


def rights(database: Database, role: str, relation: str) -> list[str]:
    """The verbs that a role may use on a table or view."""
    held = [f"has_table_privilege('{role}', '{relation}', '{verb}') AS \"{verb}\"" for verb in VERBS]
    (row,) = run(database, f"SELECT {', '.join(held)}")
    return [verb for verb in VERBS if row[verb]]


@pytest.mark.parametrize("relation", [*TABLES, VIEW])
def test_what_a_hosted_database_grants_on_every_new_table_is_not_granted_on_ours(
    hosted: Database, grantee: str, relation: str
) -> None:
    assert rights(hosted, grantee, relation) == []
    assert rights(hosted, grantee, "theirs.theirs") == VERBS  # the control


def test_our_schema_is_closed_where_every_new_schema_is_open(hosted: Database, grantee: str) -> None:
    def may(schema: str) -> list[bool]:
        (row,) = run(
            hosted,
            f"SELECT has_schema_privilege('{grantee}', '{schema}', 'USAGE') AS use,"
            f" has_schema_privilege('{grantee}', '{schema}', 'CREATE') AS make",
        )
        return [row["use"], row["make"]]

    assert may("enrichlog") == [False, False]
    assert may("theirs") == [True, True]  # the control


def test_in_a_schema_that_others_use_only_what_is_ours_is_closed(server_databases: ServerDatabases) -> None:
    database = Database(server_databases.empty(), schema="public")
    run(database, "CREATE TABLE theirs (id int); GRANT ALL ON theirs TO PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC")
    run(database, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    migration.migrate(database)
    assert rights(database, "public", "theirs") == VERBS
    (schema,) = run(database, "SELECT has_schema_privilege('public', 'public', 'USAGE, CREATE') AS open")
    assert schema["open"]
    assert [rights(database, "public", name.removeprefix("enrichlog.")) for name in [*TABLES, VIEW]] == [[]] * 7
    database.close()
    server_databases.drop(database.url)


@pytest.fixture
def stranger(postgresql: Database) -> Iterator[psycopg.Connection]:
    """Somebody with a login and nothing else; each of our tables has a row, and so has the view."""
    name = postgresql.url.rpartition("/")[2]
    import_postings(postgresql, posting("1"))
    tell(postgresql, "job-1", started(), failed(wait_ms=0))
    register(postgresql, worker())
    with psycopg.connect(postgresql.url, autocommit=True) as owner:
        owner.execute(f'CREATE ROLE "{name}"')
        try:
            with psycopg.connect(postgresql.url, autocommit=True) as connection:
                connection.execute(f'SET ROLE "{name}"')
                yield connection
        finally:
            owner.execute(f'DROP OWNED BY "{name}"')
            owner.execute(f'DROP ROLE "{name}"')


def test_a_role_that_was_granted_nothing_sees_nothing(stranger: psycopg.Connection) -> None:
    for relation in [*TABLES, VIEW]:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(f"SELECT * FROM {relation}")


def test_a_role_that_was_granted_everything_sees_no_row_without_a_policy(stranger: psycopg.Connection) -> None:
    name = stranger.info.dbname
    stranger.execute("RESET ROLE")
    stranger.execute(f'GRANT USAGE ON SCHEMA enrichlog TO "{name}"')
    stranger.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA enrichlog, public TO "{name}"')
    relations = TABLES if stranger.info.server_version < 150_000 else [*TABLES, VIEW]
    for relation in relations:
        assert stranger.execute(f"SELECT * FROM {relation}").fetchall() != []  # its owner sees it: the control
    stranger.execute(f'SET ROLE "{name}"')
    for relation in relations:
        assert stranger.execute(f"SELECT * FROM {relation}").fetchall() == []


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ([], "permission denied for schema enrichlog"),
        (["USAGE ON SCHEMA enrichlog"], "permission denied for table alembic_version"),
        (["USAGE ON SCHEMA enrichlog", "ALL ON enrichlog.alembic_version"], "permission denied for table events"),
    ],
)
def test_whoever_lacks_a_right_is_told_which_one_and_who_can_grant_it(
    stranger: psycopg.Connection, postgresql: Database, granted: list[str], missing: str
) -> None:
    name = stranger.info.dbname
    stranger.execute("RESET ROLE")
    for right in granted:
        stranger.execute(f'GRANT {right} TO "{name}"')
    with pytest.raises(RightMissing, match=rf"{missing}\. Connect as the role that ran enrichlog init"):
        as_stranger(postgresql, name)


def as_stranger(database: Database, name: str) -> None:
    """Do as a role what every command begins with."""
    with database.write() as connection:
        connection.exec_driver_sql(f'SET LOCAL ROLE "{name}"')
        connection.exec_driver_sql("SELECT to_regclass('enrichlog.alembic_version')")
        connection.exec_driver_sql("SELECT * FROM enrichlog.alembic_version")
        connection.exec_driver_sql("SELECT * FROM enrichlog.events")
