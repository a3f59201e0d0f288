"""`enrichlog worker` as it is run: its name, its end, what it takes up again, and what it says."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from enrichlog import daemon
from enrichlog.progress import Run
from enrichlog.settings import configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.worker import Standing
from enrichlog.worker_name import hold, host_name
from enrichlog.workers import beat, list_workers, register
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from tests.builders import BOUND, NOON, run
from tests.command_line import Command, start
from tests.fleet import Fleet
from tests.service import ends_of, import_many, import_postings, of_type, posting, whole_log, worker

HANG = Script(rules=[Rule("Work number", (Fault.HANG,))])
posix = pytest.mark.skipif(sys.platform == "win32", reason="such signals are not sent there")


def wait_until(is_so: Callable[[], bool]) -> None:
    """Until something is so that another process does."""
    deadline = time.monotonic() + BOUND
    while not is_so():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)  # until the next look


@pytest.fixture
def state(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the names are kept that this test's workers have."""
    monkeypatch.setenv("ENRICHLOG_STATE_FOLDER", str(bare / "state"))
    return bare / "state"


class Workers:
    """Starts workers as processes of their own."""

    def __init__(self, simulator: Simulator, state: Path) -> None:
        self._url, self._state = simulator.base_url, state
        self.started: list[subprocess.Popen[str]] = []

    def start(self, database: Database, *words: str) -> "subprocess.Popen[str]":
        variables = {
            "DATABASE_URL": database.url, "OPENAI_BASE_URL": self._url, "ENRICHLOG_DEADLINE_SECONDS": "60",
            "ENRICHLOG_STATE_FOLDER": str(self._state),
        }  # fmt: skip
        folder = self._state.parent
        self.started.append(start("worker", "--poll", "0.1", *words, folder=folder, variables=variables))
        return self.started[-1]


@pytest.fixture
def workers(simulator: Simulator, state: Path) -> Iterator[Workers]:
    workers = Workers(simulator, state)
    yield workers
    for process in workers.started:
        process.kill()
        process.communicate(timeout=BOUND)


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """In this process a worker ends as soon as it might begin."""
    monkeypatch.setattr(daemon, "serve", lambda *_, **__: Run(signal=signal.SIGTERM, stopped="Ended by SIGTERM."))


@posix
def test_a_worker_takes_what_is_due_and_what_comes_later_and_ends_well_when_it_is_told_to(
    workers: Workers, enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    process = workers.start(database, "--name", "a", "--json")
    wait_until(lambda: len(simulator.journal) == 3)
    refused = enrichlog("worker", "--name", "a")
    assert (refused.code, refused.out) == (1, "")
    assert f"There is a worker a on this machine already: process {process.pid}, since 2" in refused.error
    assert refused.error.endswith("or leave that out: then the next free name is taken.")
    import_postings(database, posting("later"))
    wait_until(lambda: len(simulator.journal) == 4)
    wait_until(lambda: [one.why_unready for one in list_workers(database)] == [None])
    assert enrichlog.done("worker", "--check", "--name", "a").out.startswith("a is ready: ")
    assert [one["name"] for one in enrichlog.json("status")["workers"]] == ["a"]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=BOUND)
    assert process.returncode == 0
    told = json.loads(out)
    assert (told["worker"], told["done"], told["succeeded"], told["stopped"]) == ("a", 4, 4, "Ended by SIGTERM.")
    assert "info: Worker a asks gpt-4o-mini at http://127.0.0.1" in err
    assert list_workers(database) == []
    assert {event.facts["worker"] for event in of_type(database, "EnrichmentStarted")} == {"a"}
    enrichlog.done("verify")


@posix
def test_a_second_signal_cuts_open_calls_off_at_once_and_is_the_exit_code(
    workers: Workers, sqlite: Database, simulator: Simulator
) -> None:
    import_many(sqlite, 3)
    simulator.play(HANG)
    process = workers.start(sqlite, "--log-format", "json", "--grace", "600", "--concurrency", "2")
    wait_until(lambda: len(simulator.journal) == 2)
    process.send_signal(signal.SIGTERM)
    assert process.stderr is not None
    lines = [json.loads(process.stderr.readline()) for _ in range(2)]
    assert lines[0]["message"].startswith(f"Worker {host_name()}-worker-1 asks gpt-4o-mini at ")
    assert lines[1]["message"].startswith("Ending: open calls have 600 s to finish")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=BOUND)
    assert process.returncode == 128 + signal.SIGTERM
    assert out.startswith("2 attempts in ")
    assert "0 succeeded, 2 failed (2 interrupted)" in out
    ends = [end.facts for ends in ends_of(sqlite).values() for end in ends]
    assert [(end["error_type"], end["counts"]) for end in ends] == [("interrupted", False)] * 2
    assert list_workers(sqlite) == []


@posix
@pytest.mark.parametrize("where", ["enrichlog.enlisting close_own", "enrichlog.daemon serve"])
def test_a_worker_that_is_told_to_end_before_it_has_begun_ends_well_and_leaves_no_row(fleet: Fleet, where: str) -> None:
    held = hold(configure(state_folder=fleet.folder), f"{fleet.database.dialect.where()} enrichlog", "a")
    held.release()
    register(fleet.database, worker("a", host=host_name(), place=held.place))  # of one that died here
    told = fleet.worker("a", before=f"tests.crash_points:terminate_at {where}")
    assert told.wait() == 0, told.said
    assert list_workers(fleet.database) == []
    assert "Traceback" not in told.said


@posix
def test_what_a_killed_worker_had_begun_is_closed_at_once_by_the_next_of_its_name_and_by_no_other(
    workers: Workers, enrichlog: Command, database: Database, simulator: Simulator, briefly: None
) -> None:
    import_many(database, 2)
    simulator.play(HANG)
    process = workers.start(database, "--name", "a")
    wait_until(lambda: len(simulator.journal) == 2)
    process.kill()
    process.communicate(timeout=BOUND)
    assert [one.row.name for one in list_workers(database)] == ["a"]  # it stays, for all to see
    assert "Closed" not in enrichlog.done("worker", "--name", "b").err
    assert [ends for ends in ends_of(database).values() if ends] == []  # the control: they have their leases
    assert (
        "warning: Closed 2 attempts that the last worker of this name had left"
        in enrichlog.done("worker", "--name", "a").err
    )
    ends = [end.facts for ends in ends_of(database).values() for end in ends]
    assert [(end["error_type"], end["worker_died"]) for end in ends] == [("interrupted", True)] * 2
    assert enrichlog.json("status")["postings"]["running"] == 0
    assert "Closed" not in enrichlog.done("worker", "--name", "a").err


def test_a_name_that_may_be_alive_on_another_machine_is_refused_and_by_default_another_is_taken(
    enrichlog: Command, database: Database, briefly: None
) -> None:
    first = f"{host_name()}-worker-1"
    register(database, worker(first, host="another"))
    said = enrichlog("worker", "--name", first)
    assert said.code == 1
    assert f"A worker {first} is alive on another, last seen 2" in said.error
    assert enrichlog.done("worker", "--json").document["worker"] == f"{host_name()}-worker-2"
    assert [one.row.name for one in list_workers(database)] == [first]


@pytest.mark.usefixtures("state")
@pytest.mark.parametrize(
    ("words", "cause"),
    [
        (["--concurrency", "0"], "0 is not in the range 1<=x<=1000"),
        (["--max-attempts", "0"], "0 is not in the range 1<=x<=100"),
        (["--poll", "0"], "0.0 is not in the range 0.1<=x<=3600"),
        (["--poll", "nan"], "'nan' is no amount"),
        (["--poll", "often"], "'often' is not a valid number"),
        (["--grace", "-1"], "-1.0 is not in the range 0<=x<=86400"),
        (["--name", "a b"], "'a b' cannot be the name of a worker: names have 1 to 100 of the characters"),
        (["--name", f"{host_name()}-7"], "runs of enrich on this machine are called like that"),
        (["--requests-per-minute", "0"], "0 is not in the range"),
        (["--enrichment", "pay"], "no enrichment pay. Known are: job"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_no_worker_can_begin_with_is_told_in_one_line(
    user: Command, sqlite: Database, words: list[str], cause: str
) -> None:
    said = user("worker", "--database", sqlite.url, *words)
    assert cause in said.error
    assert (said.code, said.out) == (2, "")
    assert (list_workers(sqlite), whole_log(sqlite)) == ([], [])


def test_without_a_key_or_a_place_for_its_name_no_worker_begins(
    enrichlog: Command, database: Database, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.touch()  # a file
    said = enrichlog("worker")
    assert f"{state} cannot be used to keep the names of workers: File exists. Name a folder in the s" in said.error
    monkeypatch.delenv("OPENAI_BASE_URL")
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "There is no API key. Set OPENAI_API_KEY" in enrichlog("worker").error
    assert (said.code, enrichlog("worker").code, list_workers(database)) == (2, 2, [])


def test_under_a_limit_of_money_and_without_a_price_no_worker_begins(
    user: Command, sqlite: Database, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("worker", "--database", sqlite.url)
    user.done("limits", "set", "--dollars-per-day", "1", *words[1:])
    monkeypatch.delenv("ENRICHLOG_PRICES_OF")
    own = user(*words, "--dollars-per-day", "1")
    assert "is not known, so this process's own limit of money cannot be kept. Leave dollars_per_day out" in own.error
    for_all = user(*words)
    assert "the limit of money for all calls cannot be kept. Say whose" in for_all.error
    assert for_all.error.endswith(f"limits clear --dollars-per-day --database {sqlite.url}")
    assert (own.code, for_all.code, list_workers(sqlite), state.exists()) == (2, 2, [], False)


@pytest.mark.parametrize(("revision", "next_step"), [("0000", "with: enrichlog init"), ("9999", "Upgrade enrichlog.")])
def test_on_a_database_of_another_version_no_worker_begins_and_none_is_healthy(
    enrichlog: Command, database: Database, state: Path, revision: str, next_step: str
) -> None:
    run(database, f"UPDATE {{ours}}alembic_version SET version_num = '{revision}'")
    for words in (["worker"], ["worker", "--check"]):
        said = enrichlog(*words)
        assert (said.code, said.error.endswith(next_step)) == (1, True)
    assert not state.exists()


def test_a_worker_that_nobody_told_to_end_has_failed(
    user: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    monkeypatch.setattr(daemon, "serve", lambda *_, **__: Run(stopped="Another has taken its name."))
    said = user("worker", "--database", sqlite.url)
    assert (said.code, said.out) == (
        1,
        "0 attempts in 0 s: 0 succeeded, 0 failed; 0 tokens, $0.00. Another has taken its name.\n",
    )


def test_a_worker_that_meets_a_defect_keeps_its_row_and_not_its_name(
    user: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    def broken(*_: object, **__: object) -> Run:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(daemon, "serve", broken)
        assert (
            "this is a defect of enrichlog: RuntimeError: broken"
            in user("worker", "--database", sqlite.url, "--name", "a").err
        )
    assert [(one.row.name, one.row.state) for one in list_workers(sqlite)] == [("a", "starting")]
    monkeypatch.setattr(daemon, "serve", lambda *_, **__: Run(signal=signal.SIGTERM))
    user.done("worker", "--database", sqlite.url, "--name", "a")


def test_what_was_done_until_the_database_was_lost_is_told_and_then_the_error(
    user: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    def lost(*_: object, watch: Callable[[Any], None], **__: object) -> Run:
        watch_in_a_loop(watch, Run(succeeded=3, stopped="It is gone."))
        raise DatabaseUnavailable(where="here", reason="it is gone")

    monkeypatch.setattr(daemon, "serve", lost)
    said = user("worker", "--database", sqlite.url)
    assert said.code == 1
    assert said.out == "3 attempts in 0 s: 3 succeeded, 0 failed; 0 tokens, $0.00. It is gone.\n"
    assert said.err.splitlines()[-1].startswith("Error: The database here cannot be reached: it is gone.")


def watch_in_a_loop(watch: Callable[[Any], None], run: Run) -> None:
    """Have a worker watched that has done so much, as is done in its event loop."""

    async def begin() -> None:
        watch(SimpleNamespace(run=run, standing=Standing("idle", 0), stop=None))

    asyncio.run(begin())


# -- health -----------------------------------------------------------------------------------------------------------


def test_a_health_check_finds_the_workers_of_this_machine_or_the_one_that_is_named(
    enrichlog: Command, database: Database
) -> None:
    assert enrichlog("worker", "--check")[:2] == (1, "There is no worker of this machine.\n")
    since = register(database, worker("elsewhere")).since
    beat(database, worker("elsewhere"), since, "working", 3)
    assert enrichlog("worker", "--check").code == 1
    assert enrichlog("worker", "--check", "--name", "elsewhere")[:2] == (
        0,
        "elsewhere is ready: working, 3 in flight.\n",
    )
    assert enrichlog("worker", "--check", "--name", "nobody")[:2] == (1, "There is no worker nobody.\n")
    here = worker("here", host=host_name(), enrichment="summary")
    register(database, here)
    said = enrichlog("worker", "--check", "--json")
    assert (said.code, said.document["told"]) == (1, "here is not ready: it has not claimed anything yet.")
    beat(database, here, since, "idle", 0)
    told = enrichlog.json("worker", "--check")
    assert (told["ready"], [one["name"] for one in told["workers"]]) == (True, ["here"])


@posix
@pytest.mark.usefixtures("state")
def test_a_worker_whose_process_has_ended_is_not_healthy_however_lately_it_was_seen(
    enrichlog: Command, sqlite: Database, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite.url)
    held = hold(configure(state_folder=state), f"{sqlite.dialect.where()} enrichlog", "a")
    one = worker("a", host=host_name(), place=held.place)
    beat(sqlite, one, register(sqlite, one).since, "working", 3)
    assert enrichlog("worker", "--check").code == 0  # its process is ours
    (file,) = state.glob("*.lock")
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    file.write_text(file.read_text().replace(f'"pid": {os.getpid()}', f'"pid": {ended.pid}'))
    said = enrichlog("worker", "--check", "--json")
    assert (said.code, said.document["told"]) == (1, "a is not ready: its process has ended.")
    assert [(told["live"], told["ready"]) for told in said.document["workers"]] == [(False, False)]
    file.write_text(file.read_text().replace("pid:[", "pid:[9"))  # numbers of another container's
    assert enrichlog("worker", "--check").code == (0 if sys.platform == "linux" else 1)
    held.release()


def test_a_worker_that_was_not_seen_just_now_is_not_healthy(
    enrichlog: Command, database: Database, timed: Database
) -> None:
    beat(timed, worker("a"), NOON, "working", 3)
    said = enrichlog("worker", "--check", "--name", "a")
    assert said[:2] == (1, "a is not ready: it was last seen 2024-01-01 12:00:00 UTC.\n")
