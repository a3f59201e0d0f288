"""`enrichlog …` as users type it: within this process, which is fast, or as a process of its own."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import pytest

import cli
from enrichlog import place, terminal
from enrichlog.logs import OURS, THEIRS
from enrichlog.settings import reset
from eventlog.database import Database
from projections.adoption import Adopted
from tests.builders import run

CLI = Path(cli.__file__)
CHANGED_BY_USE = ("events", "enrichment_status")


class Said(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which is one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one line on standard error of a command that could do nothing."""
        assert "Traceback" not in self.err
        (line,) = self.err.splitlines()
        assert line.startswith("Error: ")
        return line


class Command:
    """Runs commands in this process; each reads the settings and opens the database anew, as in one of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capsys, self._databases = capsys, list[Database]()
        patch.setattr(place, "_database", self._open)

    def _open(self, url: str, schema: str, adopted: Adopted | None, process: int) -> Database:
        self._databases.append(Database(url, schema, adopted=adopted))
        return self._databases[-1]

    def __call__(self, *words: str | Path) -> Said:
        reset()
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        for database in self._databases:
            database.close()
        said = self._capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0, said.out, said.err)

    def done(self, *words: str | Path) -> Said:
        """Run a command that is to succeed."""
        said = self(*words)
        assert said.code == 0, said.err
        return said

    def json(self, *words: str | Path) -> Any:
        """The document of a command that is to succeed, and to print nothing else."""
        said = self.done(*words, "--json")
        assert said.err == ""
        return said.document


def forget() -> None:
    """Leave settings, logging and what is said behind commands as they were before one was run in this process."""
    reset()
    terminal.remember_flags("", "job")
    for name in (*OURS, *THEIRS):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(logging.WARNING if name == "sqlalchemy" else logging.NOTSET)  # as the library itself sets it


def environment(**variables: str) -> dict[str, str]:
    """The environment of a process: nothing that is set for enrichlog but these variables."""
    ours = ("ENRICHLOG_", "OPENAI_", "DATABASE_URL")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"PYTHONUNBUFFERED": "1"} | variables


def start(
    *words: str | Path, folder: Path, variables: Mapping[str, str], out: int | TextIO = subprocess.PIPE
) -> "subprocess.Popen[str]":
    """Start a command as a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(CLI), *map(str, words)], cwd=folder, env=environment(**variables), text=True,
        stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE,
    )  # fmt: skip


def run_process(*words: str | Path, folder: Path, **variables: str) -> Said:
    """Run a command as a process of its own, to its end."""
    process = start(*words, folder=folder, variables=variables)
    out, err = process.communicate(timeout=60)
    return Said(process.returncode, out, err)


class Demo(NamedTuple):
    """A demo that was played to its end as a process of its own: its files, its exit code, and all that it said."""

    folder: Path
    code: int
    said: str


def play_demo(folder: Path) -> Demo:
    """Play the demo, standard output and standard error as they come."""
    done = subprocess.run(
        [sys.executable, str(CLI), "demo", "--keep", "kept"], cwd=folder, env=environment(), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
    )  # fmt: skip
    return Demo(folder / "kept", done.returncode, done.stdout)


def contents(database: Database) -> dict[str, list[dict[str, Any]]]:
    """All rows that commands may change, to tell that one changed nothing."""
    ours = {name: run(database, f"SELECT * FROM {{ours}}{name} ORDER BY stream_id") for name in CHANGED_BY_USE}
    theirs = {
        "job_postings": run(database, "SELECT * FROM job_postings ORDER BY id"),
        "llm_enrichment": run(database, "SELECT * FROM llm_enrichment ORDER BY job_posting_id"),
    }
    return ours | theirs
