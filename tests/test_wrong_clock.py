"""Workers on machines whose clocks are hours off: on a server leases and waits go by the clock of the database."""

import json
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from enrichlog.simulator import Fault, Rule, Script
from eventlog.events import moment
from tests.builders import run
from tests.fleet import Fleet
from tests.forks import Fork, wait_until
from tests.service import import_many, of_type, whole_log

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no forks there")

HOURS = {"ahead": 5, "behind": -5}


def clock_of(worker: Fork) -> datetime:
    """What time it was for a worker when it first said something."""
    return moment(json.loads(worker.said.splitlines()[0])["at"])


def test_workers_whose_clocks_are_hours_off_do_all_as_others_do(postgresql_fleet: Fleet) -> None:
    fleet, began = postgresql_fleet, datetime.now(UTC)
    fleet.simulator.play(Script(rules=[Rule("number 00", (Fault.SERVER_ERROR, Fault.OK))], latency=0.2))
    soon: dict[str, Any] = {"ENRICHLOG_BACKOFF_BASE_SECONDS": "0.5"}
    workers = {
        name: fleet.worker(name, before=f"tests.wrong_clock:off {hours}", **soon) for name, hours in HOURS.items()
    }
    wait_until(lambda: len(run(fleet.database, "SELECT name FROM {ours}workers")) == len(HOURS), "they do not begin")
    import_many(fleet.database, 12)
    fleet.finish(*workers.values())
    account = fleet.check()
    ended = datetime.now(UTC)
    for name, hours in HOURS.items():  # the control: they were off
        assert abs(clock_of(workers[name]) - timedelta(hours=hours) - began) < timedelta(minutes=5)
    assert account.unfinished == account.succeeded_again == []
    assert account.died == account.late_results == account.extra_calls == 0
    assert {start.facts["worker"] for start in of_type(fleet.database, "EnrichmentStarted")} == HOURS.keys()
    for one in whole_log(fleet.database):  # leases and waits begin with what happened
        assert began < moment(one.facts["occurred_at"]) <= one.recorded_at < ended
    starts = of_type(fleet.database, "EnrichmentStarted")
    for failed in of_type(fleet.database, "EnrichmentFailed"):
        again = [one for one in starts if one.stream_id == failed.stream_id][1]
        waited = again.recorded_at - moment(failed.facts["occurred_at"])
        assert waited >= timedelta(milliseconds=failed.facts["wait_ms"])
