"""A real PgBouncer in transaction mode before the tests' PostgreSQL: each transaction may meet another session."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.postgres import GivenServer, bound_socket, database_name, identity, server_account, temporary_folder

PROGRAMS = ("/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer")
START_SECONDS = 20.0

# Ends the pooler when the standard input closes: it never outlives its tests, however these end.
GUARD = """
"$1" -q "$2/pgbouncer.ini" &
echo $!
read -r stopped
kill -9 $!
"""

# Few sessions, so that clients share them; short waits, so that tests are. What is not set is as it is delivered.
SETTINGS = """
[databases]
* = {server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
logfile = {folder}/log
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 400
query_wait_timeout = {wait_seconds}
server_login_retry = 0.1
server_idle_timeout = 2
server_reset_query_always = 0
"""


class NoPgBouncer(Exception):
    """There is no PgBouncer to test with; the text says why and what to do."""


class PgBouncer:
    """A pooler of our own in front of a server, on a free port of 127.0.0.1; a context manager.

    It has `pool_size` sessions for each database, for which a client waits at most `wait_seconds`.
    """

    def __init__(self, server: GivenServer, pool_size: int = 4, wait_seconds: float = 20.0) -> None:
        self._program, self._account = find_program(), server_account()
        self._keeper: socket.socket | None = bound_socket(0)
        self.port: int = self._keeper.getsockname()[1]
        self.folder = temporary_folder(self._account)
        self._guard: subprocess.Popen[str] | None = None
        self._process = 0
        self._configure(server, pool_size, wait_seconds)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def url(self, direct: str) -> str:
        """The way through the pooler to the database that this URL reaches directly."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database_name(direct)}"

    def start(self) -> None:
        """Starts it, also after `kill`, and returns when it accepts connections."""
        if self._keeper is not None:
            self._keeper.close()
            self._keeper = None
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "guard", self._program, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            start_new_session=True,
            **identity(self._account),
        )
        assert self._guard.stdout is not None
        self._process = int(self._guard.stdout.readline())
        self._await_port()

    def kill(self) -> None:
        """Ends it as a crash does; its port is kept for `start`."""
        os.kill(self._process, signal.SIGKILL)
        self._dismiss_guard()
        self._keeper = bound_socket(self.port)

    def close(self) -> None:
        """Ends it for good and removes what it wrote."""
        self._dismiss_guard()
        if self._keeper is not None:
            self._keeper.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _configure(self, server: GivenServer, pool_size: int, wait_seconds: float) -> None:
        known = ("host", "port", "user", "password")
        found = {name: value for name, value in conninfo_to_dict(server.url).items() if name in known}
        text = SETTINGS.format(
            server=make_conninfo("", **found),
            port=self.port,
            folder=self.folder,
            pool_size=pool_size,
            wait_seconds=wait_seconds,
        )
        path = self.folder / "pgbouncer.ini"
        path.write_text(text)
        if self._account:
            os.chown(path, self._account.user, self._account.group)
        path.chmod(0o600)  # the server's password may stand in it

    def _await_port(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.01)
        log = self.folder / "log"
        raise NoPgBouncer(f"PgBouncer did not start: {log.read_text()[-2000:] if log.exists() else 'it wrote no log'}")

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.communicate("stopped\n")
            self._guard = None


def find_program() -> str:
    """Where PgBouncer is installed."""
    found = shutil.which("pgbouncer") or next((path for path in PROGRAMS if Path(path).is_file()), None)
    if found is None:
        raise NoPgBouncer("These tests need PgBouncer and found none. As root: apt-get install pgbouncer")
    return found
