"""docs/adopt-your-table.md, typed word for word: its tables are made, its commands run, and their lines compared.

What may differ is what may in the README. `psql` and `curl` are played here: nobody needs to have them.
"""

import re
import shlex
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enrichlog.settings import FILE
from eventlog.database import Database
from tests.builders import run
from tests.command_line import CLI, Command, start
from tests.roles import forget_role, url_for
from tests.test_readme import is_said, lines_of, normalised, passages

PAGE = (CLI.parent / "docs" / "adopt-your-table.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
URL = "postgresql://you@host/jobs"
PLACE = "http://127.0.0.1:8089"


def of_kind(kind: str) -> list[str]:
    """The blocks of one language, lines that go on in the next made one."""
    return [body.replace("\\\n", " ") for name, body in BLOCKS if name == kind]


class Terminal:
    """Types what the page shows; its database and its simulator are the test's."""

    def __init__(self, database: Database, enrichlog: Command, patch: pytest.MonkeyPatch) -> None:
        self._database, self._enrichlog, self._patch = database, enrichlog, patch
        self._simulator: subprocess.Popen[str] | None = None
        self._place = PLACE
        self._played = {"enrichlog": self._type, "export": self._export, "psql": self._psql, "curl": self._curl}

    def __call__(self, lines: list[str]) -> list[str]:
        """The lines that begin with `$`, and what each of them prints."""
        said: list[str] = []
        for line in lines:
            if line.startswith("$ "):
                program, *words = shlex.split(line.removeprefix("$ "), comments=True)
                said += [normalised(line), *self._played[program](words)]
        return said

    def become(self, role: str) -> None:
        """Go on as another role, whose password is its name."""
        self._patch.setenv("DATABASE_URL", url_for(self._database.url, role))

    def end(self) -> None:
        if self._simulator is not None:
            self._simulator.terminate()
            self._simulator.communicate()

    def _type(self, words: list[str]) -> list[str]:
        if words[0] == "simulator":
            return self._simulate(words)
        printed = self._enrichlog(*words)
        return lines_of((printed.err + printed.out).replace(self._database.url, URL))

    def _simulate(self, words: list[str]) -> list[str]:
        """Begun in another terminal, on a port that is free."""
        self._simulator = start(*words, "--port", "0", folder=Path.cwd(), variables={})
        assert self._simulator.stdout is not None
        said = [self._simulator.stdout.readline() for _ in range(2)]
        self._place = said[0].strip().removesuffix("/v1")
        return lines_of("".join(said))

    def _export(self, words: list[str]) -> list[str]:
        for name, _, value in (word.partition("=") for word in words):
            told = self._database.url if name == "DATABASE_URL" else value.replace(PLACE, self._place)
            self._patch.setenv(name, told)
        return []

    def _psql(self, words: list[str]) -> list[str]:
        """Rows without a head, their values between bars."""
        assert words[:2] == ["$DATABASE_URL", "-Atc"]
        return [normalised("|".join(map(_unaligned, row.values()))) for row in run(self._database, words[2])]

    def _curl(self, words: list[str]) -> list[str]:
        quiet, url, data, body = words
        assert (quiet, data) == ("-s", "-d")
        with urllib.request.urlopen(url.replace(PLACE, self._place), data=body.encode()) as answer:
            return lines_of(answer.read().decode())


def _unaligned(value: Any) -> str:
    return "" if value is None else str(value).lower()[0] if isinstance(value, bool) else str(value)


@pytest.fixture
def terminal(empty_postgresql: Database, user: Command, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    terminal = Terminal(empty_postgresql, user, monkeypatch)
    yield terminal
    terminal.end()


@pytest.fixture
def worker(empty_postgresql: Database) -> Iterator[str]:
    """The name of a role that the page makes and no other test has."""
    name = f"worker_{uuid.uuid4().hex[:12]}"
    yield name
    if run(empty_postgresql, f"SELECT 1 FROM pg_roles WHERE rolname = '{name}'"):
        forget_role(empty_postgresql.url, name)
        run(empty_postgresql, f"DROP ROLE {name}")


def test_the_page_says_what_is_printed(
    terminal: Terminal, empty_postgresql: Database, user: Command, bare: Path, worker: str
) -> None:
    tables, rows, roles = of_kind("sql")
    for script in (tables, rows):
        run_all(empty_postgresql, script)
    (bare / "vacancy.py").write_text(*of_kind("python"))
    missing = []
    for block in of_kind("console"):
        lines = [line for line in block.splitlines() if line.strip()]
        said = terminal(lines)
        missing += [passage for passage in passages(lines) if not is_said(passage, said)]
    assert missing == []
    assert [(bare / FILE).read_text()] == of_kind("toml")

    run_all(empty_postgresql, roles.replace("enrichlog_worker", worker).replace("'…'", f"'{worker}'"))
    terminal.become(worker)
    user.done("enrich")
    user.done("enrich", "--force", "--all", "--yes")
    user.done("adopt", "--dry-run")
    user.done("verify")


def run_all(database: Database, script: str) -> None:
    for statement in script.split(";"):
        if statement.strip():
            run(database, statement)
