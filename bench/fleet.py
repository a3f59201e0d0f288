"""A fleet over 20,000 postings: each is called exactly once, by 8 workers on PostgreSQL and by 4 on one SQLite file.

    python -m bench.fleet                                                  # both databases
    python -m bench.fleet postgresql --requests-per-minute 600             # for three minutes
    python -m bench.fleet sqlite --dollars-per-day 0.05 --postings 1000    # until the money is used up

Under a limit it is counted what all workers together began: of requests over every 60 seconds of the server's journal,
of money by a second fold of the log.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from bench.databases import KINDS, Kind, fresh_databases
from bench.service import import_postings
from enrichlog.simulator import Simulator
from tests.account import Account, most_in_a_minute
from tests.fleet import Fleet
from tests.forks import Forks

WORKERS: dict[Kind, int] = {"postgresql": 8, "sqlite": 4}


POSTINGS, MINUTES = 20_000, 3
"""How many postings by default: under a limit of requests those that take so long."""

TOLERANCE = 1.1
"""So much of a limit of requests may begin in any minute."""

QUIET_SECONDS = 10.0
"""Once nobody has called for so long, the money is used up."""


def main() -> None:
    """Run both databases, or the one that is named; ends with 1 when anything is wrong."""
    options = _options()
    faults: list[str] = []
    with fresh_databases() as databases, tempfile.TemporaryDirectory(prefix="enrichlog-fleet-") as folder:
        for kind in options.kinds or KINDS:
            place = Path(folder) / kind
            place.mkdir()
            with Simulator() as simulator, Forks(place) as forks:
                fleet = Fleet(forks, databases[kind], simulator, place)
                faults += _enrich_all(kind, fleet, options)
    sys.exit(bool(faults))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("kinds", nargs="*", metavar="KIND", help=", ".join(get_args(Kind)))
    add("--postings", type=int, help=f"by default {POSTINGS:,}; under a limit of requests what takes {MINUTES} minutes")
    add("--concurrency", type=int, default=50, help="calls at the same time in each worker")
    add("--requests-per-minute", type=int, metavar="N", help="the setting of each worker, which they share")
    add("--dollars-per-day", type=float, metavar="D", help="the same of money")
    options = parser.parse_args()
    requests = options.requests_per_minute
    options.postings = options.postings or (MINUTES * requests if requests else POSTINGS)
    return options


def _enrich_all(kind: Kind, fleet: Fleet, options: argparse.Namespace) -> list[str]:
    """Enrich the postings, as far as the money allows; tell how that went, and return what was wrong."""
    count, postings, is_limited = WORKERS[kind], options.postings, options.dollars_per_day is not None
    print(f"\nfleet, {kind}: {count} workers × {options.concurrency} calls, {postings:,} postings", flush=True)
    import_postings(fleet.database, "fleet", postings)
    began = time.perf_counter()
    workers = [
        fleet.worker(f"fleet-{number + 1}", concurrency=options.concurrency, **_limits(options))
        for number in range(count)
    ]
    _watch(fleet, is_limited=is_limited)
    seconds = time.perf_counter() - began
    fleet.end(*workers)
    account = fleet.account()
    faults = account.faults + fleet.unsound()
    if not is_limited:
        faults += [f"{name} is not finished" for name in account.unfinished]
    if (account.calls != postings and not is_limited) or account.died or account.late_results or account.extra_calls:
        faults.append(f"{account.calls:,} calls, {account.died} died, {account.late_results} late results")
    print(f"  {account.calls:,} calls in {seconds:,.0f} s, {account.calls / seconds:,.0f} postings/s")
    faults += [*_beyond_the_rate(fleet, options.requests_per_minute), *_beyond_the_money(account, options)]
    print(f"  {len(faults)} faults", *faults[:20], sep="\n    ", flush=True)
    return faults


def _limits(options: argparse.Namespace) -> dict[str, Any]:
    """The variables that set what is limited."""
    given = {name: getattr(options, name) for name in ("requests_per_minute", "dollars_per_day")}
    return {f"ENRICHLOG_{name.upper()}": str(limit) for name, limit in given.items() if limit is not None}


def _watch(fleet: Fleet, *, is_limited: bool) -> None:
    """Wait until nothing is left to do, or, where money is limited, until nobody calls any more."""
    calls, since = 0, time.monotonic()
    while fleet.undone():
        time.sleep(1.0)
        if (now := len(fleet.simulator.journal)) != calls:
            calls, since = now, time.monotonic()
        if is_limited and calls and time.monotonic() - since > QUIET_SECONDS:
            return


def _beyond_the_rate(fleet: Fleet, limit: int | None) -> Iterator[str]:
    if limit is None:
        return
    most = most_in_a_minute(fleet.simulator.journal)
    print(f"  {most:,} calls in the fullest minute, {most / limit:.2f} × the limit, target ≤ {TOLERANCE} ×")
    if most > TOLERANCE * limit:
        yield f"{most:,} calls began within a minute, of {limit:,}"
    if most < limit / 2:
        yield f"the limit was not put to the test by {most:,} calls a minute: give it more --postings, or a lower limit"


def _beyond_the_money(account: Account, options: argparse.Namespace) -> Iterator[str]:
    if options.dollars_per_day is None:
        return
    most, limit = max(account.spent.values(), default=0), options.dollars_per_day * 1_000_000
    print(f"  ${most / 1e6:.6f} in a day, {most / limit:.3f} × the limit, target ≤ 1 ×")
    if most > limit:
        yield f"{most:,} micro-dollars were spent in a day, of {limit:,.0f}"
    if not account.unfinished:
        yield "the limit was not put to the test, there was money for all: give it more --postings, or a lower limit"


if __name__ == "__main__":
    main()
