"""The tests' own PostgreSQL: what the storage tests rely on."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.postgres import NoPostgres, Server, find_binaries, in_wheel, server_for_tests

CHECKOUT = Path(__file__).parent.parent
KILLED = """
import os, signal
from tests.postgres import Server
server = Server().__enter__()
print(server.folder, server.url, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def count_rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*) FROM kept").fetchone()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize("find", [find_binaries, lambda: in_wheel()[0]], ids=["found", "wheel"])
def test_a_committed_row_survives_a_crash_and_a_restart_of_the_server(find: Callable[[], Path]) -> None:
    with Server(find()) as server:
        url = server.create_database()
        with psycopg.connect(url) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        server.stop("immediate")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(url)
        server.start()
        assert count_rows(url) == 1
        assert count_rows(server.create_database(template=url)) == 1
        server.drop_database(url)
        with pytest.raises(psycopg.OperationalError, match="does not exist"):
            psycopg.connect(url)
    assert not server.folder.exists()


def test_the_server_never_runs_as_root_and_listens_on_loopback_only() -> None:
    with Server() as server, psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert server.data.stat().st_uid != 0


def test_tests_that_are_killed_leave_no_server_and_no_files() -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )  # its output closes when the last process of the server has ended
    folder, url = killed.stdout.split()
    assert not Path(folder).exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(url)


def test_a_given_server_is_used_and_databases_come_and_go_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with Server() as running:
        monkeypatch.setenv("TEST_DATABASE_URL", running.url.replace("postgresql://", "postgres://"))
        with server_for_tests() as given:
            url = given.create_database()
            psycopg.connect(url).close()
            given.drop_database(url)


def test_a_given_server_that_is_not_there_fails_the_run_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://postgres@127.0.0.1:1/postgres")
    with pytest.raises(NoPostgres, match="TEST_DATABASE_URL is set, but"), server_for_tests():
        pass


def test_without_any_binaries_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.postgres.INSTALLATIONS", ())
    monkeypatch.setattr("tests.postgres.WHEEL", "not_there")
    monkeypatch.setitem(os.environ, "PATH", "")
    with pytest.raises(NoPostgres, match="Set TEST_DATABASE_URL"):
        find_binaries()
