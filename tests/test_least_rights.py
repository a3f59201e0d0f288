"""The whole walk as a role that may do little: a plain owner, and a login that is a member of the application role."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.workers import leave, register
from eventlog import dialects, migration, rights
from eventlog.database import Database
from eventlog.rights import APP_ROLE
from tests.builders import BOUND, requested, run, tell, wait_for_a_waiter
from tests.command_line import Command
from tests.conftest import ServerDatabases
from tests.pgbouncer import PgBouncer
from tests.postgres import GivenServer
from tests.roles import forget_role, made_roles, url_for
from tests.service import worker
from tests.test_rights import TABLES, VIEW

FAULTS = Script(rules=[Rule("Build", (Fault.SERVER_ERROR, Fault.OK)), Rule("Look", (Fault.REFUSAL,))])
DRIFT = """
INSERT INTO {ours}enrichment_status SELECT (jsonb_populate_record(status, '{"stream_id": "extra/job"}')).*
FROM {ours}enrichment_status AS status LIMIT 1;
INSERT INTO {ours}batches (batch, requested, freed) VALUES ('extra', 0, 0);
INSERT INTO {ours}breaker SELECT (jsonb_populate_record(breaker, '{"request_model": "extra"}')).*
FROM {ours}breaker LIMIT 1;
INSERT INTO {ours}enrichment_stats_hourly SELECT (jsonb_populate_record(one, '{"hour": "2000-01-01"}')).*
FROM {ours}enrichment_stats_hourly AS one LIMIT 1;
UPDATE {ours}checkpoints SET fold_version = 0 WHERE projection = 'enrichment_status';
UPDATE llm_enrichment SET result = NULL
"""


@pytest.fixture
def role(server: GivenServer) -> Iterator[str]:
    """A login of its own, which may do nothing yet."""
    name = f"enrichlog_test_{uuid.uuid4().hex[:12]}"
    with made_roles(server, name, options=f"LOGIN PASSWORD '{name}' NOSUPERUSER NOBYPASSRLS NOCREATEROLE"):
        yield name


@pytest.fixture
def owned(server_databases: ServerDatabases, role: str) -> Iterator[str]:
    """An empty database that belongs to this role; its URL for the role."""
    url = server_databases.empty()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f'ALTER DATABASE "{connection.info.dbname}" OWNER TO "{role}"')
        connection.execute(f'GRANT CREATE ON SCHEMA public TO "{role}"')
    yield url_for(url, role)
    forget_role(url, role)
    server_databases.drop(url)


def walk(user: Command, simulator: Simulator, folder: Path, superuser: Database) -> None:
    """Everything but `init`, with failures, limits, breakers, batches and drift; each command is to succeed."""
    (folder / "jobs.csv").write_text("id,title,description\n1,Engineer,Build.\n2,Analyst,Look.\n3,Clerk,File.\n")
    simulator.play(FAULTS)
    user.done("import", "jobs.csv")
    user.done("limits", "set", "--requests-per-minute", "6000", "--dollars-per-day", "20")
    user.done("enrich", "--concurrency", "1")
    states = "SELECT state, count(*) AS n FROM {ours}enrichment_status GROUP BY state ORDER BY state"
    assert run(superuser, states) == [{"state": "failed", "n": 2}, {"state": "succeeded", "n": 1}]
    for looking in (["failed"], ["errors"], ["status"], ["stats"], ["enrich", "--outdated", "--dry-run"]):
        user.done(*looking)
    user.done("dismiss", "2", "--reason", "none of ours")
    user.done("requeue", "2", "--reason", "ours after all")
    user.done("breaker", "open", "--reason", "tests")
    user.done("breaker", "close", "--reason", "tests")
    run(superuser, "UPDATE {ours}enrichment_status SET due_at = now() WHERE state = 'failed' AND retryable")
    assert "1 attempt" in user.done("retry", "--error-type", "server_error", "--yes").out
    user.done("batch", "list")
    user.done("limits", "clear", "--requests-per-minute")
    for looking in (["history", "1"], ["why", "1"], ["export", "results"], ["reclassify", "--dry-run"], ["verify"]):
        user.done(*looking)
    run(superuser, DRIFT)
    assert user("verify").code == 3
    user.done("rebuild", "--overwrite-edits")
    user.done("rebuild", "--anew", "--overwrite-edits")
    user.done("verify")
    assert run(superuser, "SELECT * FROM {ours}breaker WHERE request_model = 'extra'") == []


@pytest.mark.parametrize("way", ["direct", pytest.param("pooled", marks=pytest.mark.root)])
def test_a_member_of_the_application_role_can_do_all_but_init(
    user: Command, simulator: Simulator, bare: Path, monkeypatch: pytest.MonkeyPatch, server: GivenServer,
    postgresql: Database, role: str, way: str,
) -> None:  # fmt: skip
    run(postgresql, f'GRANT {APP_ROLE} TO "{role}"')
    url = url_for(postgresql.url, role)
    if way == "pooled":
        with PgBouncer(GivenServer(url)) as pooler:
            monkeypatch.setenv("DATABASE_URL", pooler.url(url))
            with psycopg.connect(pooler.url(url)) as connection:
                assert connection.execute("SELECT session_user").fetchone() == (role,)
            walk(user, simulator, bare, postgresql)
        return
    monkeypatch.setenv("DATABASE_URL", url)
    walk(user, simulator, bare, postgresql)
    with closing(Database(url)) as database:
        register(database, worker())
        leave(database, worker())
    assert user.done("init").out.startswith("Ready")  # there is nothing to be made
    run(postgresql, "DROP TABLE {ours}batches")
    assert "permission denied for schema enrichlog. Connect as the role that ran" in user("init").error


def test_a_plain_owner_can_do_all_though_row_security_is_forced(
    user: Command, simulator: Simulator, bare: Path, monkeypatch: pytest.MonkeyPatch, owned: str, server: GivenServer
) -> None:
    monkeypatch.setenv("DATABASE_URL", owned)
    assert user.done("init").out.startswith("Ready")
    plain = server.url.rpartition("/")[0] + "/" + owned.rpartition("/")[2]
    with closing(Database(plain)) as superuser:
        walk(user, simulator, bare, superuser)
        run(superuser, "DROP POLICY enrichlog_owner ON {ours}events")
        assert events_seen(user) == 0  # the control: it is the policy that shows its owner the log
    user.done("init")
    assert events_seen(user) > 0


def test_an_owner_that_the_tables_were_handed_to_sees_their_rows_once_it_has_run_init(
    user: Command, monkeypatch: pytest.MonkeyPatch, postgresql: Database, role: str
) -> None:
    tell(postgresql, "job-1", requested())
    run(postgresql, f'GRANT ALL ON SCHEMA enrichlog, public TO "{role}"')
    for table in (*TABLES, VIEW):
        run(postgresql, f'ALTER TABLE {table} OWNER TO "{role}"')
    monkeypatch.setenv("DATABASE_URL", url_for(postgresql.url, role))
    assert "enrichlog init" in user("status").error  # row security shows it nothing
    user.done("init")
    assert events_seen(user) == 1
    user.done("verify")
    forget_role(postgresql.url, role)


def events_seen(user: Command) -> int:
    """How many events the log has, as this user sees it."""
    return len(user.done("export", "events").out.splitlines())


@pytest.fixture
def other_role(monkeypatch: pytest.MonkeyPatch, server: GivenServer) -> Iterator[str]:
    """An application role of another name, which is not there."""
    name = f"enrichlog_app_{uuid.uuid4().hex[:12]}"
    monkeypatch.setattr(rights, "APP_ROLE", name)
    monkeypatch.setattr(dialects, "APP_ROLE", name)
    yield name
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f'DROP ROLE IF EXISTS "{name}"')


def test_where_the_application_role_may_not_be_made_init_says_so_and_a_later_one_grants_it_all(
    user: Command, monkeypatch: pytest.MonkeyPatch, owned: str, server: GivenServer, other_role: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", owned)
    said = " ".join(user.done("init").out.split())
    assert f"There is no role {other_role}, and this user may not create it" in said
    assert f"CREATE ROLE {other_role}, then run enrichlog init again" in said
    assert user.json("init")["lacking_role"] == other_role
    with made_roles(server, other_role):
        assert user.json("init")["lacking_role"] is None
        with psycopg.connect(owned) as owner:
            query = "SELECT has_table_privilege(%s, 'enrichlog.events', 'INSERT')"
            assert owner.execute(query, (other_role,)).fetchone() == (True,)
        forget_role(server.url.rpartition("/")[0] + "/" + owned.rpartition("/")[2], other_role)


def test_two_databases_of_a_server_that_make_the_application_role_at_once_both_succeed(
    server_databases: ServerDatabases, other_role: str
) -> None:
    url = server_databases.empty()
    with closing(Database(url)) as database, psycopg.connect(url) as other, ThreadPoolExecutor(1) as thread:
        other.execute(f'CREATE ROLE "{other_role}"')
        migrating = thread.submit(migration.migrate, database)
        wait_for_a_waiter(database)
        other.commit()
        migrating.result(BOUND)
        assert migration.lacking_role(database) is None
        assert run(database, f"SELECT has_table_privilege('{other_role}', 'enrichlog.events', 'INSERT') AS may") == [
            {"may": True}
        ]
        forget_role(url, other_role)
        server_databases.drop(url)
