"""SIGINT and SIGTERM: a run claims no more, finishes what runs or closes it as interrupted, and leaves all sound."""

import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from tests.builders import BOUND, status
from tests.command_line import Command, start
from tests.service import ends_of, import_many, of_type

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="such signals are not sent there")

CALLS, POSTINGS = 4, 12


class Running:
    """A run over more postings than it can ask about at once, in a process of its own, that has its calls open."""

    def __init__(self, database: Database, simulator: Simulator, folder: Path) -> None:
        import_many(database, POSTINGS)
        variables = {
            "DATABASE_URL": database.url, "OPENAI_BASE_URL": simulator.base_url, "ENRICHLOG_DEADLINE_SECONDS": "60",
        }  # fmt: skip
        self._process = start("enrich", "--concurrency", str(CALLS), folder=folder, variables=variables)
        deadline = time.monotonic() + BOUND
        while len(simulator.journal) < CALLS:
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            threading.Event().wait(0.005)  # until the next look

    def send(self, *signals: signal.Signals) -> tuple[int, str]:
        """The exit code after these signals, and what was said."""
        for one in signals:
            self._process.send_signal(one)
        out, err = self._process.communicate(timeout=BOUND)
        assert "Traceback" not in err
        assert err.count("warning: Ending: open calls have 10 s to finish; a second signal closes them at once.\n") == 1
        return self._process.returncode, out


def test_sigint_lets_open_calls_end_and_begins_no_more(
    enrichlog: Command, database: Database, simulator: Simulator, bare: Path
) -> None:
    simulator.play(Script(latency=0.4))
    code, said = Running(database, simulator, bare).send(signal.SIGINT)
    assert code == 130
    assert "Stopped early. Ended by SIGINT." in said
    assert said.startswith("4 attempts in ")
    assert "4 succeeded, 0 failed" in said
    assert len(simulator.journal) == CALLS
    assert enrichlog.json("status")["postings"]["pending"] == POSTINGS - CALLS
    enrichlog.done("verify")


def test_sigterm_does_the_same_and_has_its_own_exit_code(sqlite: Database, simulator: Simulator, bare: Path) -> None:
    simulator.play(Script(latency=0.4))
    code, said = Running(sqlite, simulator, bare).send(signal.SIGTERM)
    assert code == 143
    assert "Stopped early. Ended by SIGTERM." in said
    assert "4 succeeded, 0 failed" in said


def test_a_second_signal_closes_open_calls_at_once_uncounted_and_the_next_run_takes_them_up(
    enrichlog: Command, database: Database, simulator: Simulator, bare: Path
) -> None:
    simulator.play(Script(rules=[Rule("Work number", (Fault.HANG,))]))
    running = Running(database, simulator, bare)
    began = time.monotonic()
    code, said = running.send(signal.SIGINT, signal.SIGTERM)
    assert time.monotonic() - began < 5  # the grace alone is twice as long
    assert code in (130, 143)
    assert "0 succeeded, 4 failed" in said
    ends = [end for ends in ends_of(database).values() for end in ends]
    assert [(end.facts["error_type"], end.facts["counts"]) for end in ends] == [("interrupted", False)] * CALLS
    rows = [status(database, start.stream_id) for start in of_type(database, "EnrichmentStarted")]
    assert [(row["state"], row["budget_used"], row["attempts"]) for row in rows] == [("failed", 0, 1)] * CALLS
    enrichlog.done("verify")
    simulator.play(Script())
    assert f"{POSTINGS} succeeded" in enrichlog.done("enrich").out


def test_a_signal_ends_the_demo_not_only_its_act(bare: Path) -> None:
    process = start("demo", "--keep", "here", folder=bare, variables={})
    assert process.stdout is not None
    assert process.stderr is not None
    while not process.stdout.readline().startswith("$ enrichlog enrich"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "$ enrichlog failed" not in out
