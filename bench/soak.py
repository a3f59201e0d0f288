"""Workers of a fleet are killed at random moments, a thousand times; then log, tables and calls are compared.

    python -m bench.soak                          # both databases, 1,000 kills each
    python -m bench.soak sqlite --kills 100 --seed 7

Now and then one is frozen past its leases instead, or stopped in order; each is started again under its own name. Ends
with 1 when anything was lost, paid twice without a crash, or shown wrongly, and when there was no time for all kills.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

from bench.databases import KINDS, Kind, fresh_databases
from bench.service import import_postings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog import dialects
from eventlog.errors import DatabaseBusy
from tests.fleet import IN_ORDER, Fleet
from tests.forks import Fork, Forks

WORKERS: dict[Kind, int] = {"postgresql": 8, "sqlite": 4}
FREEZE, DRAIN = 0.04, 0.04
"""How much of what befalls a worker is no kill: frozen for a moment, or told to end and started again."""

AIMED = 0.7
"""How much of it befalls a worker that has calls open."""

FROZEN_SECONDS = 0.7
FED_TOGETHER = 100
ROUND, BUSY = 50, 35
"""Kills in a round, and those of them during which there is always more to do."""

LATENCY = (0.05, 0.6)
FAULTS = {Fault.OK: 92, Fault.SERVER_ERROR: 2, Fault.OVERLOADED: 2, Fault.RESET: 2, Fault.BAD_GATEWAY: 2}
"""No refusal for the rate: that would have the whole fleet go slowly for minutes."""

TOLD_EVERY = 50
QUIET_SECONDS = 300.0


def main() -> None:
    """Soak both databases, or the one that is named."""
    options = _options()
    faults: list[str] = []
    with fresh_databases() as databases, tempfile.TemporaryDirectory(prefix="enrichlog-soak-") as folder:
        for kind in options.kinds or KINDS:
            place = Path(folder) / kind
            place.mkdir()
            with Simulator(_script(options.seed)) as simulator, Forks(place) as forks:
                fleet = Fleet(forks, databases[kind], simulator, place)
                faults += Soak(kind, fleet, options).run()
    sys.exit(bool(faults))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    add("--kills", type=int, default=1_000)
    add("--workers", type=int, help="by default 8 on PostgreSQL, 4 on SQLite")
    add("--concurrency", type=int, default=1, help="calls at the same time in each worker: so many are lost by a kill")
    add("--every", type=float, default=0.5, metavar="SECONDS", help="between two kills, on the average")
    add("--minutes", type=float, default=25.0, help="kill nobody after so long")
    add("--seed", type=int, default=1)
    return parser.parse_args()


def _script(seed: int) -> Script:
    """Answers with some faults, all of them the provider's: no posting fails for good by them."""
    drawn = random.Random(seed).choices(list(FAULTS), list(FAULTS.values()), k=200_000)
    return Script(rules=[Rule("", [*drawn, Fault.OK])], latency=LATENCY)


class Soak:
    """One fleet on one database, from its first start to its account."""

    def __init__(self, kind: Kind, fleet: Fleet, options: argparse.Namespace) -> None:
        self._kind, self._fleet, self._options = kind, fleet, options
        self._random = random.Random(options.seed)
        self._workers: dict[str, Fork] = {}
        self._kills = self._freezes = self._drains = self._fed = 0
        self._faults: list[str] = []

    def run(self) -> list[str]:
        """Kill until it is enough, let the fleet finish, and say what was found."""
        began = time.monotonic()
        count, concurrency = self._options.workers or WORKERS[self._kind], self._options.concurrency
        print(f"\nsoak, {self._kind}: {count} workers × {concurrency} calls, {self._options.kills:,} kills", flush=True)
        for number in range(count):
            self._start(f"soak-{number + 1}")
        while self._kills < self._options.kills and time.monotonic() - began < 60 * self._options.minutes:
            self._feed()
            time.sleep(self._random.expovariate(1 / self._options.every))
            self._befall(self._victim())
        if (missing := self._options.kills - self._kills) > 0:
            self._faults.append(f"{missing:,} kills are missing: give it more --minutes than {self._options.minutes:g}")
        self._finish()
        self._tell(time.monotonic() - began)
        return self._faults

    def _start(self, name: str) -> None:
        concurrency = self._options.concurrency
        self._workers[name] = self._fleet.worker(name, concurrency=concurrency, ENRICHLOG_BACKOFF_BASE_SECONDS="0.2")

    def _feed(self) -> None:
        """Keep the fleet busy, and now and then let it come to an end: then those run alone on which a worker died."""
        is_busy = self._kills % ROUND < BUSY
        if self._fleet.undone() < (FED_TOGETHER if is_busy else 1):
            import_postings(self._fleet.database, f"fed{self._fed}", FED_TOGETHER)
            self._fed += FED_TOGETHER

    def _victim(self) -> str:
        """A worker: mostly one that holds a posting at this moment, else any, and it may have just been started."""
        holders = sorted(self._fleet.holders() & self._workers.keys())
        is_aimed = holders and self._random.random() < AIMED
        return self._random.choice(holders if is_aimed else sorted(self._workers))

    def _befall(self, name: str) -> None:
        """Kill a worker, or freeze or stop it, and have it run again."""
        worker, drawn = self._workers[name], self._random.random()
        if (code := worker.code()) is not None:
            self._faults.append(f"{name} ended by itself with {code}: {worker.said[-500:]}")
        elif drawn < FREEZE:
            self._freeze(name, worker)
            return
        elif drawn < FREEZE + DRAIN:
            worker.send(signal.SIGTERM)
            self._expect(name, worker, *IN_ORDER)
            self._drains += 1
        else:
            worker.send(signal.SIGKILL)
            self._expect(name, worker, -signal.SIGKILL)
            self._kills += 1
            if self._kills % TOLD_EVERY == 0:
                calls = len(self._fleet.simulator.journal)
                print(f"  {self._kills:,} kills, {calls:,} calls, {self._fed:,} postings", flush=True)
        self._start(name)

    def _freeze(self, name: str, worker: Fork) -> None:
        """Frozen while its leases run out; whoever holds SQLite's file just then keeps all others from closing them."""
        worker.send(signal.SIGSTOP)
        with suppress(DatabaseBusy), _impatient():
            self._fleet.let_leases_run_out(name)
        time.sleep(FROZEN_SECONDS)
        worker.send(signal.SIGCONT)
        self._freezes += 1

    def _expect(self, name: str, worker: Fork, *codes: int) -> None:
        if (found := worker.wait()) not in codes:
            self._faults.append(f"{name} ended with {found}: {worker.said[-500:]}")

    def _finish(self) -> None:
        """Let the fleet finish by itself, and stop it in order."""
        deadline = time.monotonic() + QUIET_SECONDS
        while (undone := self._fleet.undone()) and time.monotonic() < deadline:
            time.sleep(0.5)
        if undone:
            self._faults.append(f"{undone} postings are not done with after {QUIET_SECONDS:.0f} s of quiet")
        for name, worker in self._workers.items():
            worker.send(signal.SIGTERM)
            self._expect(name, worker, *IN_ORDER)

    def _tell(self, seconds: float) -> None:
        account = self._fleet.account()
        self._faults += account.faults + self._fleet.unsound()
        self._faults += [f"{name} is not finished" for name in account.unfinished]
        most = self._options.concurrency * (self._kills + self._freezes)
        if not account.extra_calls <= account.died <= most:
            self._faults.append(f"{account.extra_calls} extra calls, {account.died} died, of {most} that may have")
        print(f"  {self._kills:,} kills, {self._freezes} freezes, {self._drains} restarts in order, {seconds:,.0f} s")
        print(f"  {len(account.postings):,} postings, {account.calls:,} calls, {account.late_results} late results")
        print(f"  {account.died:,} attempts died, {account.extra_calls:,} of which had called and are extra calls")
        print(f"  {len(account.given_up)} given up after three deaths, {len(account.succeeded_again)} succeeded again")
        print(f"  {len(self._faults)} faults", *self._faults[:20], sep="\n    ", flush=True)


@contextmanager
def _impatient() -> Iterator[None]:
    usual, dialects.BUSY_PATIENCE_SECONDS = dialects.BUSY_PATIENCE_SECONDS, 0.2
    try:
        yield
    finally:
        dialects.BUSY_PATIENCE_SECONDS = usual


if __name__ == "__main__":
    main()
