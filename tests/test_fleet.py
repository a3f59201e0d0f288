"""A fleet over one database: each posting is called exactly once, whoever takes it, and nobody is told of a lock."""

import signal
import sys
from typing import Any

import pytest

from enrichlog.prompt import DEFAULT
from enrichlog.simulator import Fault, Rule, Script
from tests.builders import run, status
from tests.fleet import Fleet
from tests.forks import Fork, wait_until
from tests.service import import_many, import_postings, of_type, posting
from tests.test_poison import POISON

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no forks there")

WORKERS, POSTINGS, MANY = 3, 30, 100


@pytest.mark.pooled
def test_each_posting_is_called_exactly_once(fleet: Fleet) -> None:
    import_many(fleet.database, POSTINGS)
    fleet.simulator.play(Script(latency=(0.0, 0.1)))
    fleet.finish(*(fleet.worker(f"worker-{number}", concurrency=4) for number in range(WORKERS)))
    account = fleet.check()
    assert account.unfinished == account.succeeded_again == []
    assert account.calls == POSTINGS
    assert account.extra_calls == account.late_results == account.died == 0
    took_part = {start.facts["worker"] for start in of_type(fleet.database, "EnrichmentStarted")}
    assert len(took_part) == WORKERS


@pytest.mark.pooled
def test_a_rolling_restart_counts_for_nobody(fleet: Fleet) -> None:
    import_many(fleet.database, POSTINGS)
    fleet.simulator.play(Script(latency=0.05))
    workers: dict[str, Fork] = {name: fleet.worker(name, concurrency=4) for name in ("anna", "bert")}
    for number, name in enumerate(workers, 1):
        fleet.called(10 * number)
        workers[name].send(signal.SIGTERM)
        assert workers[name].wait() == 0
        workers[name] = fleet.worker(name, concurrency=4)
    fleet.finish(*workers.values())
    account = fleet.check()
    assert account.unfinished == account.succeeded_again == []
    assert account.calls == POSTINGS
    assert account.died == account.extra_calls == account.late_results == 0


def test_two_prompts_over_postings_that_fail_come_to_an_end_by_themselves(postgresql_fleet: Fleet) -> None:
    fleet = postgresql_fleet
    import_many(fleet.database, 3)
    fleet.simulator.play(Script(rules=[Rule("", (Fault.INVALID_JSON,))]))
    (fleet.folder / "terse.md").write_text(DEFAULT.read_text().replace("Use only", "Be terse. Use only"))
    anna: dict[str, Any] = {"ENRICHLOG_BACKOFF_BASE_SECONDS": "0.05"}
    bert = anna | {"ENRICHLOG_PROMPT": "terse.md"}
    workers = fleet.worker("anna", **anna), fleet.worker("bert", **bert)
    is_done = "state = 'failed' AND budget_used = 2 AND length(bases) = 17"  # of two words
    left = f"SELECT 1 FROM {{ours}}enrichment_status WHERE NOT ({is_done})"
    wait_until(lambda: not run(fleet.database, left), "they are not done with")
    fleet.end(*workers)
    calls = len(fleet.simulator.journal)
    assert fleet.enrich(**anna).wait() == fleet.enrich(**bert).wait() == 0
    account = fleet.check()
    assert account.calls == calls
    assert {one["attempts"] for one in account.postings.values()} <= {3, 4}  # two of one, and one or two of the other


def test_a_posting_that_kills_its_worker_is_given_up_alone_among_many_at_once(postgresql_fleet: Fleet) -> None:
    fleet = postgresql_fleet
    (fleet.folder / "vacancy.py").write_text(POISON.replace("KILLS", "True"))
    import_many(fleet.database, MANY - 1)
    import_postings(fleet.database, posting("poison", title="Poison"))
    variables = {"ENRICHLOG_RESULT_MODEL": "vacancy:Vacancy"}
    fleet.simulator.play(Script(rules=[Rule("Work number 0", (Fault.HANG,))]))  # the poison is claimed last
    for _ in range(3):
        assert fleet.worker("anna", concurrency=MANY, **variables).wait() == -signal.SIGKILL
        fleet.simulator.play(Script())
    fleet.finish(fleet.worker("anna", concurrency=MANY, **variables))
    account = fleet.check()
    assert account.given_up == ["job-poison"]
    assert account.unfinished == account.succeeded_again == []
    assert status(fleet.database, "job-poison")["attempts"] == 3
    assert account.extra_calls <= account.died  # each died once, with the poison; it died twice more, and alone
    assert account.died == MANY + 2
