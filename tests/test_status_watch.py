"""`status --watch`: the same as `status`, again and again; a database that goes away is told of and tried again."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection

from enrichlog import status_watch, terminal
from enrichlog.settings import Settings
from eventlog.database import Database
from eventlog.errors import DatabaseRefused, DatabaseUnavailable
from tests.builders import StoppedClock, requested, run, tell
from tests.command_line import Command

AT = "2024-01-01 12:00:00 UTC"
ERASED, SHOW_CURSOR = re.compile(r"\r(?:\x1b\[2K|\x1b\[1A)+"), "\x1b[?25h"
AWAY = DatabaseUnavailable(where="db", reason="nobody answers")


def watch(database: Database, rounds: int, between: Callable[[], Any] = lambda: None, *, as_json: bool = False) -> None:
    """So many rounds with `between` between them, ended by Ctrl-C while it waits for one more."""
    clock, left = StoppedClock(), iter(range(rounds - 1))

    def wait(seconds: float) -> None:
        clock.advance(seconds=seconds)
        if next(left, None) is None:
            raise KeyboardInterrupt
        between()

    status_watch.watch(Settings(), database, "job", every=5, as_json=as_json, clock=clock, wait=wait)


class Away:
    """A database that goes away and comes back, in turn."""

    def __init__(self, database: Database, patch: pytest.MonkeyPatch) -> None:
        self._read, self.is_away = database.read, False
        patch.setattr(database, "read", self.read)

    def turn(self) -> None:
        self.is_away = not self.is_away

    @contextmanager
    def read(self) -> Iterator[Connection]:
        if self.is_away:
            raise AWAY
        with self._read() as connection:
            yield connection


def test_each_round_tells_what_status_tells_below_the_time(
    enrichlog: Command, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    before = enrichlog.done("status").out
    watch(database, 2, lambda: tell(database, "job-1", requested()))
    first, second = capsys.readouterr().out.split("\n\n")[:2]
    assert first == f"{AT}\n{before}".rstrip()
    assert second == f"2024-01-01 12:00:05 UTC\n{enrichlog.done('status').out}".rstrip()
    assert "1 pending" in second


def test_as_json_each_round_is_a_line_with_the_document_of_status_and_the_time(
    enrichlog: Command, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = enrichlog.json("status")
    watch(database, 2, as_json=True)
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    times = ["2024-01-01T12:00:00.000000Z", "2024-01-01T12:00:05.000000Z"]
    assert documents == [{"at": at, **expected} for at in times]


def test_a_database_that_goes_away_is_told_of_and_looked_for_again(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(database, 3, Away(database, monkeypatch).turn)
    first, away, last = capsys.readouterr().out.strip().split("\n\n")
    assert away == f"2024-01-01 12:00:05 UTC: {AWAY}\nIt is tried again every 5 s."
    assert last.splitlines()[1:] == first.splitlines()[1:]


def test_as_json_a_round_without_the_database_is_a_line_with_the_error(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    watch(database, 3, Away(database, monkeypatch).turn, as_json=True)
    first, away, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert away == {"at": "2024-01-01T12:00:05.000000Z", "error": str(AWAY)}
    assert first | {"at": last["at"]} == last


def test_what_waiting_does_not_mend_ends_it(database: Database) -> None:
    with pytest.raises(DatabaseRefused):
        watch(database, 9, lambda: run(database, "DROP TABLE {ours}limits"))


def test_on_a_terminal_a_round_takes_the_place_of_the_last_and_what_was_known_stays_while_the_database_is_away(
    database: Database, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.out, "_force_terminal", True)
    watch(database, 2, Away(database, monkeypatch).turn)
    drawn = ERASED.split(capsys.readouterr().out)
    assert ["nobody answers" in one for one in drawn] == [False, True, True]  # the last is what stays when it ends
    assert all("0 pending" in one for one in drawn)
    assert drawn[-1].endswith(SHOW_CURSOR)


def test_ctrl_c_is_how_it_ends_and_so_its_exit_code_is_zero(
    enrichlog: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        assert seconds == 0.5
        raise KeyboardInterrupt

    monkeypatch.setattr(status_watch, "sleep", interrupt)
    assert "Postings: " in enrichlog.done("status", "--watch", "--every", "0.5").out


@pytest.mark.parametrize("more", [[], ["--as-of", "1"], ["--json"]])
def test_how_often_is_said_of_what_is_watched_only(enrichlog: Command, more: list[str]) -> None:
    said = enrichlog("status", "--every", "2", *more)
    assert (said.code, said.out, "--every goes with --watch" in said.error) == (2, "", True)


def test_what_does_not_change_any_more_is_not_watched(enrichlog: Command, database: Database) -> None:
    said = enrichlog("status", "--watch", "--as-of", "0")
    assert (said.code, "--watch shows what changes" in said.error) == (2, True)
