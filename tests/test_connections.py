"""Connections that break, while nobody uses them and in the middle; and a server that goes away and comes back."""

import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, closing
from typing import Any

import pytest
from sqlalchemy import text

from eventlog import migration
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.integrity import verify_log
from eventlog.log import Appended
from eventlog.recorder import Recorder
from projections.inline import InlineReadModels
from tests.builders import BOUND, follow, proposal, requested, run, started, tell
from tests.postgres import Server

TOGETHER = 5


def use_many(database: Database) -> list[int]:
    """Use several connections at once, so that as many lie in the pool then; their sessions on the server."""
    with ExitStack() as stack:
        connections = [stack.enter_context(database.read()) for _ in range(TOGETHER)]
        return [connection.execute(text("SELECT pg_backend_pid()")).scalar_one() for connection in connections]


def cut(database: Database, *sessions: int) -> None:
    """End sessions of the server, as an operator does or a firewall that forgot them."""
    with_another = Database(database.url)
    for session in sessions:
        run(with_another, f"SELECT pg_terminate_backend({session}, 10000)")
    with_another.close()


def test_connections_that_broke_while_nobody_used_them_are_replaced_unseen(postgresql: Database) -> None:
    broken = use_many(postgresql)
    cut(postgresql, *broken)
    tell(postgresql, "job-1", requested())
    assert set(use_many(postgresql)).isdisjoint(broken)


def test_what_breaks_in_the_middle_of_a_transaction_is_told_and_nothing_of_it_stays(postgresql: Database) -> None:
    with pytest.raises(DatabaseUnavailable), postgresql.write() as connection:  # noqa: PT012 (it breaks inside)
        connection.execute(text("CREATE TABLE half (id int)"))
        cut(postgresql, connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.execute(text("SELECT 1"))
    assert run(postgresql, "SELECT to_regclass('half') AS half") == [{"half": None}]


def seconds_of_silence(url: str) -> int:
    """After how many seconds without a word the system asks whether the server is still there."""
    with closing(Database(url)) as database, database.read() as connection:
        driver: Any = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(driver.fileno())) as wire:
            return wire.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="this system does not tell")
def test_a_server_that_vanishes_without_a_word_is_missed_soon(postgresql: Database) -> None:
    assert seconds_of_silence(postgresql.url) == 10
    assert seconds_of_silence(f"{postgresql.url}?keepalives_idle=99") == 99


@pytest.fixture(scope="module")
def leaving(place: str) -> Iterator[Server]:
    """A server that may be stopped."""
    with Server(place=place) as server:
        yield server


def test_a_server_that_crashes_and_comes_back_loses_nothing_that_was_acknowledged(
    leaving: Server, caplog: pytest.LogCaptureFixture
) -> None:
    database = Database(leaving.create_database())
    migration.migrate(database)
    use_many(database)
    acknowledged = record_while(database, leaving)
    assert "Trying again" in caplog.text  # it was away: the control
    check_that_each_is_there_once(database, acknowledged)
    database.close()


def record_while(database: Database, leaving: Server) -> list[Appended]:
    """Two events each of many streams, recorded while the server crashes and comes back."""
    submitted, enough = list[Future[Appended]](), threading.Event()

    def produce() -> None:
        for number in range(300):
            submitted.extend(recorder.submit(proposal(f"job-{number}", event)) for event in (requested(), started()))
            if number == 100:
                enough.set()

    with Recorder(database, InlineReadModels(database)) as recorder:
        producer = threading.Thread(target=produce)
        producer.start()
        assert enough.wait(BOUND)
        leaving.stop("immediate")
        producer.join(BOUND)
        leaving.start()
        return [future.result(BOUND) for future in submitted]


def check_that_each_is_there_once(database: Database, acknowledged: list[Appended]) -> None:
    assert sorted(one.position for one in acknowledged) == follow(database) == list(range(1, 601))
    assert verify_log(database).faults == []
