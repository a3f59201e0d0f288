"""The database itself refuses to change the log, whoever asks; erasing content is the one exception."""

from collections.abc import Iterator
from typing import Any

import pytest

from eventlog.database import Database
from eventlog.errors import DatabaseRefused
from tests.builders import erased, failed, requested, run, started, tell
from tests.conftest import ServerDatabases

COLUMNS = "position, event_id, stream_id, version, part, type, recorded_at, facts, content, salt, content_digest, hash"
NAMES = COLUMNS.split(", ")
APPEND_ONLY = "events is append-only"

everywhere = [
    "UPDATE {ours}events SET facts = '{}' WHERE position = 1",
    "UPDATE {ours}events SET facts = facts",
    "UPDATE {ours}events SET position = position + 100",
    "DELETE FROM {ours}events",
    "DELETE FROM {ours}events WHERE position = 3",
    "UPDATE {ours}events SET content = NULL, salt = NULL WHERE position = 3",
    "INSERT INTO {ours}events SELECT * FROM {ours}events WHERE position = 1 "
    "ON CONFLICT (position) DO UPDATE SET facts = '{}'",
]


@pytest.fixture
def told(shared: Database, job: str) -> Database:
    """Three more events, of this test's posting; the third has content."""
    tell(shared, job, requested(), started(), failed())
    return shared


@pytest.fixture(scope="module")
def told_on_postgresql(server_databases: ServerDatabases) -> Iterator[Database]:
    """The same for what is true of PostgreSQL alone."""
    database = Database(server_databases.migrated())
    tell(database, "job-1", requested(), started(), failed())
    yield database
    database.close()
    server_databases.drop(database.url)


def everything(database: Database) -> list[dict[str, Any]]:
    return run(database, "SELECT * FROM {ours}events ORDER BY position")


def stored(database: Database, job: str) -> list[dict[str, Any]]:
    return [row for row in everything(database) if row["stream_id"] == job]


def refused(database: Database, sql: str) -> str:
    """The database's reason for refusing, having changed nothing."""
    before = everything(database)
    with pytest.raises(DatabaseRefused) as refusal:
        run(database, sql)
    assert everything(database) == before
    return str(refusal.value)


@pytest.mark.parametrize("sql", everywhere)
def test_changing_or_removing_events_is_refused(told: Database, sql: str) -> None:
    assert APPEND_ONLY in refused(told, sql)


@pytest.mark.parametrize("table", ["{ours}events", "{ours}events CASCADE", "{ours}enrichment_status, {ours}events"])
def test_truncating_the_log_is_refused(told_on_postgresql: Database, table: str) -> None:
    assert APPEND_ONLY in refused(told_on_postgresql, f"TRUNCATE {table}")


@pytest.mark.parametrize(
    "sql", [*everywhere[:6], "TRUNCATE {ours}events"], ids=lambda sql: sql.replace("{ours}", "").split(" WHERE")[0]
)
def test_the_role_of_a_replica_changes_nothing_either(told_on_postgresql: Database, sql: str) -> None:
    assert APPEND_ONLY in refused(told_on_postgresql, f"SET LOCAL session_replication_role = replica; {sql}")


@pytest.mark.parametrize("mine", ["position", "event_id", "stream_id, version"])
@pytest.mark.parametrize("verb", ["INSERT OR REPLACE", "REPLACE"])
def test_replacing_an_event_is_refused_by_whichever_key_it_is_found(sqlite: Database, verb: str, mine: str) -> None:
    tell(sqlite, "job-1", requested())
    others = {"position": 9, "event_id": "'other'", "stream_id": "'job-other'", "version": 9}
    values = ", ".join(str(others[c]) if c in others and c not in mine.split(", ") else c for c in NAMES)
    assert APPEND_ONLY in refused(sqlite, f"{verb} INTO events ({COLUMNS}) SELECT {values} FROM events")


def test_replacing_by_an_update_is_refused(sqlite: Database) -> None:
    tell(sqlite, "job-1", requested(), started())
    assert APPEND_ONLY in refused(sqlite, "UPDATE OR REPLACE events SET position = 1 WHERE position = 2")


def test_without_its_trigger_a_replacement_would_slip_past_the_one_for_deletes(sqlite: Database) -> None:
    tell(sqlite, "job-1", requested())
    run(sqlite, "DROP TRIGGER events_refuse_replace")
    names = COLUMNS.replace("facts", "'{}'")
    run(sqlite, f"INSERT OR REPLACE INTO events ({COLUMNS}) SELECT {names} FROM events")
    assert run(sqlite, "SELECT facts FROM events")[0]["facts"] == "{}"


def erase(job: str) -> str:
    return f"UPDATE {{ours}}events SET content = NULL, salt = NULL WHERE stream_id = '{job}' AND content IS NOT NULL"


def test_content_and_salt_can_be_taken_once_the_stream_has_a_later_erasure(told: Database, job: str) -> None:
    assert APPEND_ONLY in refused(told, erase(job))
    before = stored(told, job)
    tell(told, job, erased())
    run(told, erase(job))
    pairs = list(zip(before, stored(told, job), strict=False))
    changed = {name for old, new in pairs for name in old if old[name] != new[name]}
    assert changed == {"content", "salt"}


@pytest.mark.parametrize(
    "change",
    [
        "content = NULL",
        "salt = NULL",
        "content = NULL, salt = NULL, facts = '{}'",
        "content = NULL, salt = NULL, hash = content_digest",
        "content = NULL, salt = NULL, recorded_at = '2020-01-01T00:00:00.000000Z'",
        "content = '{}', salt = NULL",
        "content = '{}'",
    ],
)
def test_an_erasure_allows_nothing_else_to_be_changed(told: Database, job: str, change: str) -> None:
    tell(told, job, erased())
    assert APPEND_ONLY in refused(told, f"UPDATE {{ours}}events SET {change} WHERE stream_id = '{job}' AND version = 3")


def test_erased_content_cannot_be_given_back(told: Database, job: str) -> None:
    tell(told, job, erased())
    run(told, erase(job))
    giving = f"UPDATE {{ours}}events SET content = '{{}}' WHERE stream_id = '{job}' AND version = 3"
    assert APPEND_ONLY in refused(told, giving)


def test_an_erasure_is_of_earlier_events_of_its_own_stream_only(told: Database, job: str) -> None:
    tell(told, f"{job}-other", requested(), erased())
    assert APPEND_ONLY in refused(told, erase(job))
    tell(told, job, erased(), requested("changed"), started(2), failed(2))
    assert APPEND_ONLY in refused(told, erase(job))  # the second failure is later than the erasure
    run(told, erase(job) + " AND version < 4")
    kept = [row["content"] is not None for row in stored(told, job) if row["type"] == "EnrichmentFailed"]
    assert kept == [False, True]
