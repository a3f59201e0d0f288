"""What the tests stand on: both databases for real, migrated once and copied for each test; a stopped clock."""

import contextlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from enrichlog import patience
from enrichlog.place import close_databases
from enrichlog.settings import FILE, USUAL_NAMES, Settings, configure, reset
from enrichlog.simulator import Simulator
from eventlog import migration
from eventlog.database import Database
from eventlog.rights import APP_ROLE
from projections import brake
from tests.adopted import look_up, make_adopted, settings_file
from tests.builders import StoppedClock
from tests.command_line import Command, Demo, forget, play_demo
from tests.fleet import Fleet
from tests.forks import Forks
from tests.pgbouncer import PgBouncer
from tests.postgres import GivenServer, Server, server_for_tests
from tests.roles import made_roles
from tests.service import KEY

# The same examples in every run, so that a failure is of the change at hand; HYPOTHESIS_PROFILE=explore tries others.
settings.register_profile(
    "suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.register_profile("explore", settings.get_profile("suite"), derandomize=False, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))

pytest_plugins = ["tests.root_group"]


class Databases(Protocol):
    """Where databases come from; each call gives the URL of a new one."""

    def empty(self) -> str: ...
    def migrated(self) -> str: ...
    def adopted(self) -> str:
        """One with tables of others, beside which ours are made."""
        ...

    def drop(self, url: str) -> None: ...


class Files:
    """SQLite databases: copies of one migrated file, or of one that was adopted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._template = folder / "template.db"
        migrate(str(self._template))

    def empty(self) -> str:
        return f"sqlite:///{self._folder / uuid.uuid4().hex}.db"

    def migrated(self) -> str:
        url = self.empty()
        shutil.copy(self._template, url.removeprefix("sqlite:///"))
        return url

    def adopted(self) -> str:
        url = self.empty()
        shutil.copy(self._adopted, url.removeprefix("sqlite:///"))
        return url

    @cached_property
    def _adopted(self) -> Path:
        template = self._folder / "adopted.db"
        make_adopted(str(template))
        return template

    def drop(self, url: str) -> None:
        Path(url.removeprefix("sqlite:///")).unlink(missing_ok=True)


class ServerDatabases:
    """PostgreSQL databases: copies of one migrated template, each made while the test before runs."""

    def __init__(self, server: GivenServer) -> None:
        self._server = server
        self.empty = server.create_database
        self._template = server.create_database()
        migrate(self._template)
        self._aside = ThreadPoolExecutor(1)
        self._next = self._aside.submit(server.create_database, self._template)
        self._done_with = [self._template]

    def migrated(self) -> str:
        url = self._next.result()
        self._next = self._aside.submit(self._server.create_database, self._template)
        return url

    def adopted(self) -> str:
        return self._server.create_database(self._adopted)

    @cached_property
    def _adopted(self) -> str:
        template = self._server.create_database()
        make_adopted(template)
        self._done_with.append(template)
        return template

    def drop(self, url: str) -> None:
        """Not yet: each drop makes the server write everything to disk, which took half of the suite's time."""
        self._done_with.append(url)

    def close(self) -> None:
        """Drop them all; a server of the tests' own takes them with it when it ends."""
        self.drop(self._next.result())
        self._aside.shutdown()
        if not isinstance(self._server, Server):
            for url in self._done_with:
                self._server.drop_database(url)


class PooledDatabases:
    """The same databases, reached through PgBouncer."""

    def __init__(self, behind: ServerDatabases, pooler: PgBouncer) -> None:
        self._behind, self._pooler = behind, pooler

    def empty(self) -> str:
        return self._pooler.url(self._behind.empty())

    def migrated(self) -> str:
        return self._pooler.url(self._behind.migrated())

    def adopted(self) -> str:
        return self._pooler.url(self._behind.adopted())

    def drop(self, url: str) -> None:
        self._behind.drop(url)


def migrate(url: str) -> None:
    """Migrate a database and leave no connection to it, which its copying would not bear."""
    database = Database(url)
    migration.migrate(database)
    database.close()


@pytest.fixture(scope="session")
def place() -> str:
    """Where databases are put: in memory where there is room, since no test pulls the plug; that halves the time."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 4 * 2**30:
        may_run_programs = not os.statvfs(memory).f_flag & os.ST_NOEXEC  # a copy of PostgreSQL's may be put there
        return str(memory) if may_run_programs else tempfile.gettempdir()
    return tempfile.gettempdir()


@pytest.fixture(scope="session")
def server(place: str) -> Iterator[GivenServer]:
    """A real PostgreSQL server."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(tempfile, "tempdir", place)
        server = stack.enter_context(server_for_tests())
        patch.undo()
        yield server
        if isinstance(server, Server):
            server.stop("immediate")  # there is nothing to keep: do not write it all to disk first


@pytest.fixture(scope="session")
def server_databases(server: GivenServer) -> Iterator[ServerDatabases]:
    with made_roles(server, APP_ROLE):  # which migrations make: a server that is not ours is left as it was
        databases = ServerDatabases(server)
        yield databases
        databases.close()


@pytest.fixture(scope="session")
def pooled_databases(server: GivenServer, server_databases: ServerDatabases) -> Iterator[PooledDatabases]:
    with PgBouncer(server) as pooler:
        yield PooledDatabases(server_databases, pooler)


@pytest.fixture(scope="session")
def files(place: str) -> Iterator[Files]:
    """Where SQLite files come from."""
    with tempfile.TemporaryDirectory(prefix="enrichlog-", dir=place) as folder:
        yield Files(Path(folder))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests on both databases, and those that are marked `pooled` through PgBouncer too."""
    pooled = (
        [pytest.param("pooled", marks=pytest.mark.root)] if metafunc.definition.get_closest_marker("pooled") else []
    )
    if "databases" in metafunc.fixturenames:
        metafunc.parametrize("databases", ["sqlite", "postgresql", *pooled], indirect=True, scope="module")
    if pooled and "postgresql" in metafunc.fixturenames:
        metafunc.parametrize("postgresql", ["direct", *pooled], indirect=True)


@pytest.fixture(scope="module")
def databases(request: pytest.FixtureRequest) -> Databases:
    """Where databases of one kind come from, of the one kind and then of the others."""
    return _source(request, request.param)


def _source(request: pytest.FixtureRequest, kind: str) -> Databases:
    names = {"sqlite": "files", "pooled": "pooled_databases"}
    found: Databases = request.getfixturevalue(names.get(kind, "server_databases"))
    return found


@pytest.fixture
def database(databases: Databases) -> Iterator[Database]:
    """A migrated, empty database: every test that uses it runs on both."""
    yield from _lent(databases, databases.migrated())


@pytest.fixture
def adopted(databases: Databases, bare: Path) -> Iterator[Database]:
    """A database that was there before us, adopted as the settings say that are in force."""
    yield from lend_adopted(databases)


@pytest.fixture(scope="module")
def shared(databases: Databases) -> Iterator[Database]:
    """A migrated database for a whole module: for tests that look at streams of their own and change no table."""
    yield from _lent(databases, databases.migrated())


@pytest.fixture
def job() -> str:
    """The stream of a posting that no other test knows."""
    return f"job-{uuid.uuid4().hex}"


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A database that was never migrated; the SQLite one is not even a file yet."""
    yield from _lent(databases, databases.empty())


@pytest.fixture
def sqlite(files: Files) -> Iterator[Database]:
    """A migrated database, for what is true of SQLite alone."""
    yield from _lent(files, files.migrated())


@pytest.fixture
def postgresql(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database, for what is true of PostgreSQL alone."""
    databases = _source(request, getattr(request, "param", "direct"))
    yield from _lent(databases, databases.migrated())


def lend_adopted(databases: Databases) -> Iterator[Database]:
    """A database with tables that were there before us, adopted."""
    url = databases.adopted()
    database = look_up(Database(url))
    yield database
    database.close()
    databases.drop(url)


@pytest.fixture
def empty_postgresql(server_databases: ServerDatabases) -> Iterator[Database]:
    """A database that was never migrated, for what is true of PostgreSQL alone."""
    yield from _lent(server_databases, server_databases.empty())


def _lent(databases: Databases, url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()
    databases.drop(url)


@pytest.fixture
def clock() -> StoppedClock:
    """A clock that stands still until a test moves it."""
    return StoppedClock()


@pytest.fixture
def timed(database: Database, clock: StoppedClock) -> Iterator[Database]:
    """The test's database, which takes the time from `clock`."""
    database = Database(database.url, clock=clock)
    yield database
    database.close()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Nothing is set: no variable, no file, an empty folder to be in."""
    for name in [*USUAL_NAMES.values(), *(f"ENRICHLOG_{field}".upper() for field in Settings.model_fields)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(patience, "AWAY_LOOK_SECONDS", 0.01)  # no test waits for what it can have at once
    reset()
    yield tmp_path
    reset()
    close_databases()


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """A server that answers every call at once, until a test has it `play` something else."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def unbraked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulated rate limit slows nothing down: what began in a moment counts as if all of the minute were like it."""
    monkeypatch.setattr(brake, "LEAST", timedelta(milliseconds=1))


@pytest.fixture
def service(bare: Path, simulator: Simulator, unbraked: None) -> Settings:
    """Settings under which the simulator is asked, at the prices of a real provider."""
    return configure(base_url=simulator.base_url, api_key=KEY, prices_of="openai", deadline_seconds=5.0)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Where processes come from that are to be started by the dozen."""
    with Forks(tmp_path_factory.mktemp("forks")) as forks:
        yield forks


@pytest.fixture
def fleet(forks: Forks, database: Database, simulator: Simulator, bare: Path) -> Fleet:
    """Processes that enrich from the test's database."""
    return Fleet(forks, database, simulator, bare)


@pytest.fixture
def postgresql_fleet(forks: Forks, postgresql: Database, simulator: Simulator, bare: Path) -> Fleet:
    """The same, for what is true of PostgreSQL alone."""
    return Fleet(forks, postgresql, simulator, bare)


@pytest.fixture
def user(
    bare: Path,
    simulator: Simulator,
    unbraked: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Command]:
    """What a user types, in this process; the environment has a key, the simulator's URL and nothing else."""
    monkeypatch.setattr(patience, "PATIENCE_SECONDS", 1.0)  # no test waits for a breaker's cooldown
    variables = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": simulator.base_url, "ENRICHLOG_PRICES_OF": "openai"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    yield Command(capsys, monkeypatch)
    forget()


@pytest.fixture
def enrichlog(user: Command, database: Database, monkeypatch: pytest.MonkeyPatch) -> Command:
    """What a user types in an empty folder, with the test's database in the environment."""
    monkeypatch.setenv("DATABASE_URL", database.url)
    return user


@pytest.fixture
def adopter(user: Command, adopted: Database, bare: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """What a user types in a folder whose settings say what of the test's database was adopted."""
    (bare / FILE).write_text(settings_file())
    monkeypatch.setenv("DATABASE_URL", adopted.url)
    return user


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The demo, played once for all tests."""
    return play_demo(tmp_path_factory.mktemp("demo"))
