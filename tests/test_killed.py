"""A process that is killed leaves what it acknowledged, nothing of the rest, and nobody locked out."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eventlog.database import Database
from eventlog.integrity import verify_log
from tests.builders import failed, follow, requested, run, started, status, tell
from tests.drift import drift_of, rebuild

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")

CHECKOUT = Path(__file__).parent.parent
BEGIN = """
import os, signal, sys
from dataclasses import replace
from eventlog.database import Database
from projections import llm_enrichment, moments, reconcile
from tests.builders import failed, requested, started, tell

database = Database(sys.argv[1])

def kill_after(calls, function):
    left = iter(range(calls)[::-1])
    def call(*arguments):
        done = function(*arguments)
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return call
"""
APPEND = """
database.dialect.insert_events = kill_after(3, database.dialect.insert_events)
for event in (requested(), started(), failed(), started(2)):
    print(tell(database, "job-1", event)[0].position, flush=True)
"""
REBUILD = """
moments.EVENTS_PER_PAGE = 1
shown = llm_enrichment.projection
killing = replace(shown, store=kill_after(2, shown.store))
reconcile.reconcile(database, [killing], reconcile.Walk(write=True, progress=lambda events: print(events, flush=True)))
"""


def run_until_it_is_killed(script: str, database: Database) -> list[int]:
    """What the process said before it killed itself, just before the end of a transaction."""
    command = [sys.executable, "-c", BEGIN + script, database.url]
    killed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    return [int(line) for line in killed.stdout.splitlines()]


def check_that_all_is_sound(database: Database) -> None:
    assert verify_log(database).faults == []
    assert drift_of(database) == 0


def test_an_append_that_is_killed_has_written_nothing_and_can_be_done_again(database: Database) -> None:
    acknowledged = run_until_it_is_killed(APPEND, database)
    assert acknowledged == follow(database) == [1, 2]
    assert status(database, "job-1")["state"] == "running"
    check_that_all_is_sound(database)
    tell(database, "job-1", failed())
    assert follow(database) == [1, 2, 3]
    check_that_all_is_sound(database)


def test_a_rebuild_that_is_killed_keeps_what_it_had_written_and_can_be_done_again(database: Database) -> None:
    for name in ("job-1", "job-2", "job-3"):
        tell(database, name, requested(), started(), failed())
    run(database, "DELETE FROM llm_enrichment")
    assert run_until_it_is_killed(REBUILD, database) == [3]
    assert [row["job_posting_id"] for row in run(database, "SELECT * FROM llm_enrichment")] == ["1"]
    assert rebuild(database).written == 2
    check_that_all_is_sound(database)
