"""A posting that kills its worker runs alone after that, is given up after three, and takes no neighbour along.

On PostgreSQL the same is shown of a worker with a hundred calls open: `test_fleet.py`.
"""

import signal
import sys
from pathlib import Path

import pytest

from enrichlog.simulator import Simulator
from eventlog.database import Database
from eventlog.integrity import verify_log
from tests.builders import run, status
from tests.command_line import run_process
from tests.drift import drift_of
from tests.service import KEY, import_postings, of_type, posting

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal there")

POISON = '''
import os, signal
from pydantic import BaseModel, model_validator

class Vacancy(BaseModel):
    """A result model that one posting's answer makes end the whole process."""

    title: str

    @model_validator(mode="after")
    def look(self) -> "Vacancy":
        if "Poison" in self.title and KILLS:
            os.kill(os.getpid(), signal.SIGKILL)
        return self
'''


def enrich(database: Database, simulator: Simulator, folder: Path) -> int:
    """One `enrich` as a process of its own; then, if it was killed, its leases run out."""
    variables = {
        "DATABASE_URL": database.url, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.base_url,
        "ENRICHLOG_RESULT_MODEL": "vacancy:Vacancy", "PYTHONPATH": str(folder),
    }  # fmt: skip
    code = run_process("enrich", "--concurrency", "10", folder=folder, **variables).code

    overdue = "UPDATE {ours}enrichment_status SET due_at = '2000-01-01T00:00:00.000000Z' WHERE state = 'running'"
    run(database, overdue)
    return code


@pytest.mark.parametrize("kills", [True, False], ids=["a poison posting", "the control"])
def test_a_posting_that_kills_its_worker_is_given_up_after_three_and_takes_no_neighbour_along(
    sqlite: Database, simulator: Simulator, bare: Path, kills: bool
) -> None:
    (bare / "vacancy.py").write_text(POISON.replace("KILLS", str(kills)))
    import_postings(sqlite, *(posting(f"{number}", title=f"Engineer {number}") for number in range(9)))
    import_postings(sqlite, posting("poison", title="Poison"))
    codes = [enrich(sqlite, simulator, bare) for _ in range(5 if kills else 1)]
    if not kills:
        assert codes == [0]
        assert status(sqlite, "job-poison")["state"] == "succeeded"
        return
    assert codes == [-signal.SIGKILL] * 3 + [0, 0]
    states = {number: status(sqlite, f"job-{number}")["state"] for number in range(9)}
    assert set(states.values()) == {"succeeded"}
    found = status(sqlite, "job-poison")
    assert (found["state"], found["attempts"], found["deaths"], found["due_at"]) == ("failed", 3, 3, None)
    alone = [start for start in of_type(sqlite, "EnrichmentStarted") if start.stream_id == "job-poison"]
    assert len(alone) == 3
    assert verify_log(sqlite).faults == []
    assert drift_of(sqlite) == 0
