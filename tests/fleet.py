"""A fleet: processes that enrich from one database, asking one simulator, and the account of what they did."""

import signal
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import func, select, update

from enrichlog.simulator import Call, Simulator
from eventlog.database import Database
from eventlog.integrity import verify_log
from projections.enrichment_status import IS_FAILED, IS_PENDING, IS_RUNNING, enrichment_status
from projections.rebuild import reconcile_named
from tests.account import Account, take_account
from tests.builders import run
from tests.forks import Fork, Forks, wait_until
from tests.service import KEY

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)

IN_ORDER = (0, -signal.SIGTERM)
"""How a worker ends that is told to; the latter before it has begun to work."""

UNSEEN = ("database is locked", "Traceback", "defect")


class Fleet:
    """Starts processes, and remembers them all."""

    def __init__(self, forks: Forks, database: Database, simulator: Simulator, folder: Path) -> None:
        self.database, self.simulator = database, simulator
        self.forks: list[Fork] = []
        self.folder, self._forks = folder, forks

    def enrich(self, *, concurrency: int = 2, before: str = "", **variables: str) -> Fork:
        """Begin `enrichlog enrich`, which says what it has recorded."""
        return self.start("enrich", "--concurrency", str(concurrency), before=before, **variables)

    def worker(self, name: str, *, concurrency: int = 2, before: str = "", **variables: str) -> Fork:
        """Begin `enrichlog worker` under a name; it looks for new work all the time."""
        words = ("worker", "--name", name, "--concurrency", str(concurrency), "--poll", "0.1")
        return self.start(*words, before=before, **{"ENRICHLOG_STATE_FOLDER": str(self.folder)} | variables)

    def start(self, *words: str, before: str = "", **variables: str) -> Fork:
        """Begin a command."""
        usual = {
            "DATABASE_URL": self.database.url, "OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": self.simulator.base_url,
            "ENRICHLOG_PRICES_OF": "openai", "ENRICHLOG_LOG_LEVEL": "info", "ENRICHLOG_LOG_FORMAT": "json",
        }  # fmt: skip
        fork = self._forks.start(*words, before=before, folder=self.folder, **usual | variables)
        self.forks.append(fork)
        return fork

    def let_leases_run_out(self, worker: str | None = None) -> None:
        """Have every running attempt, or those of one worker, be overdue, as if nobody had come back for them.

        Raises `DatabaseBusy` when somebody holds them.
        """
        with self.database.write() as connection:
            self.database.dialect.wait_briefly(connection)
            running = IS_RUNNING if worker is None else IS_RUNNING & (enrichment_status.c.worker == worker)
            connection.execute(update(enrichment_status).where(running).values(due_at=LONG_AGO))

    def called(self, number: int = 1) -> list[Call]:
        """The journal, once it has so many calls."""
        wait_until(lambda: len(self.simulator.journal) >= number, "nobody called")
        return self.simulator.journal

    def finish(self, *workers: Fork) -> None:
        """Once nothing is left that anybody could do, have these workers end, in order."""
        wait_until(lambda: not self.undone(), "something is left undone")
        self.end(*workers)

    def end(self, *workers: Fork) -> None:
        """Have these workers end, in order."""
        for worker in workers:
            worker.send(signal.SIGTERM)
        codes = [worker.wait() for worker in workers]
        assert set(codes) <= set(IN_ORDER), [worker.said[-1_000:] for worker in workers]

    def undone(self) -> int:
        """How many postings are waiting, running or due again at some time."""
        waits = IS_PENDING | IS_RUNNING | (IS_FAILED & enrichment_status.c.due_at.is_not(None))
        return self.database.count(select(func.count()).select_from(enrichment_status).where(waits))

    def holders(self) -> set[str]:
        """The workers that hold a posting just now."""
        found = self.database.page(select(enrichment_status.c.worker).where(IS_RUNNING).distinct())
        return {row.worker for row in found}

    def account(self) -> Account:
        """What log, tables, journal and the outputs of all processes say together."""
        acknowledged = {attempt_id for fork in self.forks for attempt_id in fork.acknowledged}
        return take_account(partial(run, self.database), self.simulator.journal, acknowledged)

    def check(self) -> Account:
        """The account, when nothing is wrong with it and nobody was shown what no user is to see."""
        account = self.account()
        assert account.faults + self.unsound() == []
        return account

    def unsound(self) -> list[str]:
        """What `verify` finds, and what processes printed that no user is to see."""
        faults = [str(fault) for fault in verify_log(self.database).faults]
        faults += [one.projection for one in reconcile_named(self.database, write=False) if one.total]
        return faults + [said for fork in self.forks for said in UNSEEN if said in fork.said]
