"""Who may do what with our tables: their owner all, the application role what its work takes, nobody else anything."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from enrichlog.workers import register
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import RightMissing
from eventlog.revisions import tables_made
from eventlog.rights import APP_ROLE
from projections import catalogue
from tests.builders import failed, run, started, tell
from tests.command_line import Command
from tests.conftest import ServerDatabases
from tests.example_projection import CODE, EXAMPLE, added
from tests.postgres import GivenServer
from tests.roles import forget_role, made_roles
from tests.service import import_postings, posting, worker

VERBS = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
STRANGERS = ["anon", "authenticated", "service_role"]
VIEW = "jobs_needing_retry"

MAY = {
    "enrichlog.alembic_version": "SELECT",
    "enrichlog.events": "SELECT INSERT",
    "enrichlog.enrichment_status": "SELECT INSERT UPDATE DELETE",
    "enrichlog.breaker": "SELECT INSERT UPDATE DELETE",
    "enrichlog.batches": "SELECT INSERT UPDATE DELETE",
    "enrichlog.limits": "SELECT INSERT UPDATE DELETE",
    "enrichlog.enrichment_stats_hourly": "SELECT INSERT UPDATE DELETE",
    "enrichlog.checkpoints": "SELECT INSERT UPDATE",
    "enrichlog.rebuilds": "SELECT INSERT UPDATE DELETE",
    "enrichlog.workers": "SELECT INSERT UPDATE DELETE",
    "job_postings": "SELECT INSERT UPDATE",
    "llm_enrichment": "SELECT INSERT UPDATE",
    VIEW: "SELECT",
}
"""What members of the application role may do with what."""

TABLES = [name for name in MAY if name != VIEW]
STATEMENTS = {
    "SELECT": "SELECT count(*) FROM {place}",
    "INSERT": "INSERT INTO {place} DEFAULT VALUES",
    "UPDATE": "UPDATE {place} SET {column} = DEFAULT",
    "DELETE": "DELETE FROM {place}",
    "TRUNCATE": "TRUNCATE {place}",
    "REFERENCES": "CREATE TABLE scratch.referring (one text REFERENCES {place})",
    "TRIGGER": "CREATE TRIGGER theirs BEFORE INSERT ON {place} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
}


@pytest.fixture(scope="module")
def strangers(server: GivenServer) -> Iterator[None]:
    """The roles by which a hosted database lets the internet in; of the whole server, so made and dropped once."""
    with made_roles(server, *STRANGERS):
        yield


@pytest.fixture(scope="module")
def hosted(server_databases: ServerDatabases, strangers: None) -> Iterator[Database]:
    """A database that was migrated where all that is made is granted to everybody; `theirs` others have made."""
    database = Database(server_databases.empty())
    everybody = ", ".join(["PUBLIC", *STRANGERS])
    for kind in ("TABLES", "SEQUENCES", "FUNCTIONS", "SCHEMAS"):
        run(database, f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {everybody}")
    migration.migrate(database)
    run(database, "CREATE SCHEMA theirs; CREATE TABLE theirs.theirs (id int); CREATE VIEW theirs.view AS SELECT 1")
    yield database
    run(database, f"DROP OWNED BY {', '.join(STRANGERS)}")
    database.close()
    server_databases.drop(database.url)


def rights(database: Database, role: str, *relations: str) -> dict[str, list[str]]:
    """The verbs that a role may use on tables or views, as the catalog says."""
    held = [
        f"SELECT '{relation}' AS relation, '{verb}' AS verb WHERE has_table_privilege('{role}', '{relation}', '{verb}')"
        for relation in relations for verb in VERBS
    ]  # fmt: skip
    found: dict[str, list[str]] = {relation: [] for relation in relations}
    for row in run(database, " UNION ALL ".join(held)):
        found[row["relation"]].append(row["verb"])
    return found


def test_the_table_of_rights_has_every_table_that_there_is(hosted: Database) -> None:
    ours = {*tables_made(hosted.dialect), *(table.name for table in catalogue.tables_of_ours())}
    assert {name for name in TABLES if "." in name} == {f"enrichlog.{name}" for name in ours}


@pytest.mark.parametrize("role", ["public", *STRANGERS])
def test_what_a_hosted_database_grants_on_all_that_is_new_is_not_granted_on_ours(hosted: Database, role: str) -> None:
    assert rights(hosted, role, *MAY, "theirs.theirs") == {**{name: [] for name in MAY}, "theirs.theirs": VERBS}


def test_the_application_role_may_do_what_its_work_takes_and_the_owner_all(hosted: Database) -> None:
    assert rights(hosted, APP_ROLE, *MAY) == {name: verbs.split() for name, verbs in MAY.items()}
    (owner,) = run(hosted, "SELECT tableowner::text AS name FROM pg_tables WHERE tablename = 'events'")
    assert rights(hosted, owner["name"], *MAY) == dict.fromkeys(MAY, VERBS)


@pytest.mark.parametrize("role", ["public", *STRANGERS, APP_ROLE])
def test_our_schema_and_functions_are_closed_where_everything_new_is_open(hosted: Database, role: str) -> None:
    may = [
        f"has_schema_privilege('{role}', 'enrichlog', 'USAGE')",
        f"has_schema_privilege('{role}', 'enrichlog', 'CREATE')",
        f"has_function_privilege('{role}', 'enrichlog.refuse_change()', 'EXECUTE')",
        f"has_function_privilege('{role}', 'enrichlog.is_erased(text, integer)', 'EXECUTE')",
        f"has_schema_privilege('{role}', 'theirs', 'CREATE')",  # the control
    ]
    (row,) = run(hosted, f"SELECT ARRAY[{', '.join(may)}] AS may")
    assert row["may"] == [role == APP_ROLE, False, False, False, True]


@pytest.mark.parametrize("role", [*STRANGERS, APP_ROLE])
def test_each_verb_that_a_role_may_not_use_is_refused_when_it_tries(hosted: Database, role: str) -> None:
    """Into the schema it is let for that, so that each table has to refuse for itself."""
    may = MAY if role == APP_ROLE else {}
    with psycopg.connect(hosted.url) as connection:
        connection.execute(f"GRANT USAGE ON SCHEMA enrichlog TO {role}; CREATE SCHEMA scratch AUTHORIZATION {role}")
        columns = {name: first_column(connection, name) for name in MAY}
        connection.execute(f"SET LOCAL ROLE {role}")
        found = {
            name: [verb for verb in verbs_to_try(name) if is_let(connection, verb, name, columns[name])] for name in MAY
        }
        connection.rollback()
    assert found == {name: may.get(name, "").split() for name in MAY}


def verbs_to_try(relation: str) -> list[str]:
    """All; the view joins tables, and PostgreSQL refuses to change what does before it looks at rights."""
    return ["SELECT"] if relation == VIEW else VERBS


def first_column(connection: psycopg.Connection, relation: str) -> str:
    query = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum = 1"
    row = connection.execute(query, (relation,)).fetchone()
    assert row
    return str(row[0])


def is_let(connection: psycopg.Connection, verb: str, relation: str, column: str) -> bool:
    """Whether a statement of this verb is not refused for want of a right; whatever else may be wrong with it."""
    statement = STATEMENTS[verb].format(place=relation, column=sql.Identifier(column).as_string())
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True
    return True


def test_nobody_can_truncate_the_log_its_owner_neither(hosted: Database) -> None:
    with psycopg.connect(hosted.url) as owner, pytest.raises(psycopg.errors.RestrictViolation):
        owner.execute("TRUNCATE enrichlog.events")


def test_row_security_is_on_and_forced_on_every_table_of_ours(hosted: Database) -> None:
    query = "SELECT oid FROM pg_class WHERE relkind = 'r' AND NOT (relrowsecurity AND relforcerowsecurity) AND oid ="
    assert [name for name in TABLES if run(hosted, f"{query} '{name}'::regclass")] == []
    assert len(run(hosted, f"{query} 'theirs.theirs'::regclass")) == 1  # the control


def test_init_on_a_database_that_is_up_to_date_waits_for_nobody_who_works_there(postgresql: Database) -> None:
    with psycopg.connect(postgresql.url) as working:
        working.execute(f"LOCK TABLE {', '.join(TABLES)} IN ROW EXCLUSIVE MODE")
        migration.migrate(postgresql)


def test_in_a_schema_that_others_use_only_what_is_ours_is_closed(server_databases: ServerDatabases) -> None:
    database = Database(server_databases.empty(), schema="public")
    run(database, "CREATE TABLE theirs (id int); GRANT ALL ON theirs TO PUBLIC; GRANT ALL ON SCHEMA public TO PUBLIC")
    run(database, "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC")
    migration.migrate(database)
    (schema,) = run(database, "SELECT has_schema_privilege('public', 'public', 'USAGE, CREATE') AS open")
    assert schema["open"]
    ours = [name.removeprefix("enrichlog.") for name in MAY]
    assert rights(database, "public", *ours, "theirs") == {**{name: [] for name in ours}, "theirs": VERBS}
    assert rights(database, APP_ROLE, "events")["events"] == VERBS[:2]
    database.close()
    server_databases.drop(database.url)


@pytest.fixture
def stranger(server: GivenServer, postgresql: Database) -> Iterator[psycopg.Connection]:
    """Somebody with a login and nothing else; each of our tables has a row, and so has the view."""
    name = postgresql.url.rpartition("/")[2]
    import_postings(postgresql, posting("1"))
    tell(postgresql, "job-1", started(), failed(wait_ms=0))
    register(postgresql, worker())
    with made_roles(server, name):
        with psycopg.connect(postgresql.url, autocommit=True) as connection:
            connection.execute(f'SET ROLE "{name}"')
            yield connection
        forget_role(postgresql.url, name)


def test_a_role_that_was_granted_nothing_sees_nothing(stranger: psycopg.Connection) -> None:
    for relation in MAY:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute(f"SELECT * FROM {relation}")


FILLED = ["enrichlog.events", "enrichlog.enrichment_status", "enrichlog.checkpoints", "enrichlog.workers",
          "enrichlog.alembic_version", "job_postings", "llm_enrichment"]  # fmt: skip


def test_a_role_that_was_granted_everything_by_mistake_meets_no_row_and_adds_none(
    stranger: psycopg.Connection,
) -> None:
    name = stranger.info.dbname
    stranger.execute("RESET ROLE")
    stranger.execute(f'GRANT USAGE ON SCHEMA enrichlog TO "{name}"')
    stranger.execute(f'GRANT ALL ON ALL TABLES IN SCHEMA enrichlog, public TO "{name}"')
    relations = FILLED if stranger.info.server_version < 150_000 else [*FILLED, VIEW]
    for relation in relations:
        assert stranger.execute(f"SELECT * FROM {relation}").fetchall() != []  # its owner sees it: the control
    stranger.execute(f'SET ROLE "{name}"')
    for relation in relations:
        assert stranger.execute(f"SELECT * FROM {relation}").fetchall() == []
    for relation in FILLED[1:]:
        assert stranger.execute(f"DELETE FROM {relation}").rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        stranger.execute("INSERT INTO enrichlog.alembic_version VALUES ('9999')")
    with pytest.raises(psycopg.errors.RestrictViolation):
        stranger.execute("TRUNCATE enrichlog.events")


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        ([], "permission denied for schema enrichlog"),
        (["USAGE ON SCHEMA enrichlog"], "permission denied for table alembic_version"),
        (["USAGE ON SCHEMA enrichlog", "ALL ON enrichlog.alembic_version"], "permission denied for table events"),
    ],
)
def test_whoever_lacks_a_right_is_told_which_one_and_how_to_get_it(
    stranger: psycopg.Connection, postgresql: Database, granted: list[str], missing: str
) -> None:
    name = stranger.info.dbname
    stranger.execute("RESET ROLE")
    for right in granted:
        stranger.execute(f'GRANT {right} TO "{name}"')
    remedy = (
        "Connect as the role that ran enrichlog init, or have it run: GRANT enrichlog_app TO <user>; "
        "where it is a table of your own, have its owner run: GRANT … ON <table> TO <user>"
    )
    with pytest.raises(RightMissing, match=rf"{missing}\. {remedy}"):
        as_stranger(postgresql, name)
    stranger.execute(f'GRANT {APP_ROLE} TO "{name}"')
    as_stranger(postgresql, name)


def as_stranger(database: Database, name: str) -> None:
    """Do as a role what every command begins with."""
    with database.write() as connection:
        connection.exec_driver_sql(f'SET LOCAL ROLE "{name}"')
        connection.exec_driver_sql("SELECT to_regclass('enrichlog.alembic_version')")
        connection.exec_driver_sql("SELECT * FROM enrichlog.alembic_version")
        connection.exec_driver_sql("SELECT * FROM enrichlog.events")


def test_what_the_application_role_was_given_beyond_that_is_taken_back_by_the_next_init(postgresql: Database) -> None:
    run(postgresql, f"GRANT UPDATE ON enrichlog.events TO {APP_ROLE}; GRANT DELETE ON job_postings TO {APP_ROLE}")
    found = rights(postgresql, APP_ROLE, "enrichlog.events", "job_postings")
    assert found == {"enrichlog.events": VERBS[:3], "job_postings": VERBS[:4]}  # the control
    migration.migrate(postgresql)
    assert rights(postgresql, APP_ROLE, *MAY) == {name: verbs.split() for name, verbs in MAY.items()}


def test_the_numbers_of_a_further_projection_are_for_the_application_role_alone(
    user: Command, postgresql: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgresql.url)
    run(postgresql, "ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO PUBLIC; CREATE SEQUENCE enrichlog.theirs")
    numbered = CODE.replace('Column("worker", Key, primary_key=True)', 'Column("number", Integer, primary_key=True)')
    with added(tmp_path, numbered.replace('event.facts["worker"]', 'event.facts["number"]')):
        user.done("init")
    sequence = f"enrichlog.{EXAMPLE}_number_seq"
    may = [
        f"has_sequence_privilege('{role}', '{name}', '{verb}')"
        for role, name, verb in (
            (APP_ROLE, sequence, "USAGE"), (APP_ROLE, sequence, "UPDATE"), ("public", sequence, "USAGE"),
            ("public", "enrichlog.theirs", "USAGE"),  # the control
        )
    ]  # fmt: skip
    assert run(postgresql, f"SELECT ARRAY[{', '.join(may)}] AS may") == [{"may": [True, False, False, True]}]
