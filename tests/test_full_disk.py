"""A disk that runs full in the middle: it is told with what to do, nothing acknowledged is lost, and it goes on."""

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from enrichlog.settings import Settings
from enrichlog.simulator import Simulator
from eventlog import migration
from eventlog.database import Database
from eventlog.errors import DiskFailed
from eventlog.integrity import verify_log
from projections import moments
from tests.builders import failed, requested, run, started, tell
from tests.drift import drift_of, rebuild, verify
from tests.postgres import Server
from tests.recording import check_that_all_is_there_once, record_while_away
from tests.service import ends_of, enrich, import_many
from tests.small_disk import SmallDisk, small_disk

CHECKOUT = Path(__file__).parent.parent
MAKE_ROOM = "Make room there"
LIMITED = """
import resource, sys
from eventlog.database import Database
from tests.recording import record_while_away

database, (_, hard) = Database(sys.argv[1]), resource.getrlimit(resource.RLIMIT_FSIZE)

def limit(bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, hard))

size = database.dialect.path.stat().st_size
acknowledged, told = record_while_away(database, lambda: limit(size + 2**15), lambda: limit(hard))
print(len(acknowledged), told)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit there")
def test_a_file_that_may_not_grow_is_waited_for_until_it_may(sqlite: Database) -> None:
    command = [sys.executable, "-c", LIMITED, sqlite.url]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    acknowledged, _, told = done.stdout.partition(" ")
    assert MAKE_ROOM in told
    check_that_all_is_there_once(sqlite, int(acknowledged))


class OnDisk(NamedTuple):
    """A migrated database on a small disk of its own."""

    database: Database
    disk: SmallDisk


@contextmanager
def sqlite_on_disk() -> Iterator[OnDisk]:
    with small_disk(4) as disk, closing(Database(str(disk.folder / "enrichlog.db"))) as database:
        migration.migrate(database)
        yield OnDisk(database, disk)


@contextmanager
def postgresql_on_disk() -> Iterator[OnDisk]:
    with (
        small_disk(160) as disk,
        Server(place=str(disk.folder)) as server,
        closing(Database(server.create_database())) as database,
    ):
        migration.migrate(database)
        run(database, "SELECT pg_switch_wal()")  # without room for that log the whole server goes down
        run(database, "CREATE TABLE begins_the_next_file_of_it (id int)")
        yield OnDisk(database, disk)


@pytest.mark.root
@pytest.mark.parametrize("mounted", [sqlite_on_disk, postgresql_on_disk])
def test_what_is_recorded_while_the_disk_is_full_is_kept_until_there_is_room(
    mounted: Callable[[], AbstractContextManager[OnDisk]],
) -> None:
    with mounted() as (database, disk):
        acknowledged, told = record_while_away(database, disk.fill, disk.make_room)
        assert MAKE_ROOM in told
        check_that_all_is_there_once(database, len(acknowledged))


class MakesRoom(logging.Handler):
    """Hears what is told of a full disk, and makes room on it."""

    def __init__(self, disk: SmallDisk) -> None:
        super().__init__(logging.WARNING)
        self._disk, self.heard = disk, list[str]()

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage())
        self._disk.make_room()


@pytest.mark.root
def test_a_run_on_a_full_disk_calls_nobody_and_goes_on_by_itself_when_there_is_room(
    simulator: Simulator, service: Settings
) -> None:
    with sqlite_on_disk() as (database, disk):
        import_many(database, 50)
        disk.fill()
        hearing, logger = MakesRoom(disk), logging.getLogger("enrichlog")
        logger.addHandler(hearing)
        done = enrich(database, service)
        logger.removeHandler(hearing)
        assert [MAKE_ROOM in told for told in hearing.heard] == [True]
        assert (done.succeeded, len(simulator.journal)) == (50, 50)
        assert {len(ends) for ends in ends_of(database).values()} == {1}


@pytest.mark.root
def test_a_rebuild_that_the_disk_stops_half_way_has_written_what_it_could_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fill_after(pages: int) -> Callable[[int], None]:
        left = iter(range(pages))
        return lambda _: None if next(left, None) is not None else mounted.disk.fill()

    monkeypatch.setattr(moments, "EVENTS_PER_PAGE", 60)
    with sqlite_on_disk() as mounted:
        database = mounted.database
        for number in range(200):
            tell(database, f"job-{number:03}", requested(), started(), failed(message="x" * 500))
        run(database, "DELETE FROM llm_enrichment")
        run(database, "DELETE FROM enrichment_status")
        with pytest.raises(DiskFailed, match=MAKE_ROOM):
            rebuild(database, progress=fill_after(3))
        written = len(run(database, "SELECT * FROM llm_enrichment"))
        assert 0 < written < 200
        assert (verify_log(database).faults, verify(database).counts["stale"]) == ([], 0)  # nothing worse than before
        mounted.disk.make_room()
        assert (rebuild(database).written, drift_of(database)) == (200 - written, 0)
