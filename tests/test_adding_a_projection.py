"""docs/adding-a-projection.md: its example is a projection like any other, once its file is there and init was run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from eventlog.database import Database
from tests.builders import failed, requested, run, started, succeeded, tell
from tests.command_line import Command
from tests.example_projection import CODE, EXAMPLE, PAGE, added

WORK = f"SELECT worker, attempts FROM {{ours}}{EXAMPLE} ORDER BY worker"


@pytest.fixture
def told(database: Database) -> Database:
    """Three attempts of two workers."""
    tell(database, "job-1", requested(), started(worker="a"), failed(), started(2, worker="b"), succeeded(2))
    tell(database, "job-2", requested(), started(worker="a"), succeeded())
    return database


@pytest.fixture
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("projections")
    with added(folder):
        yield folder


def listed(enrichlog: Command) -> dict[str, object]:
    """How the example stands."""
    (one,) = [one for one in enrichlog.json("projections", "list")["projections"] if one["name"] == EXAMPLE]
    return dict(one)


def test_it_takes_less_than_thirty_lines() -> None:
    assert CODE.count("\n") < 30


def test_what_the_page_says_of_it_comes_true(enrichlog: Command, told: Database, example: Path) -> None:
    assert f"This database has no {EXAMPLE} yet. Have it made by: enrichlog init" in enrichlog.done("status").err
    assert listed(enrichlog)["rows"] is None
    assert f"CREATE TABLE {told.dialect.schema or 'main'}.{EXAMPLE} (" in enrichlog.done("init", "--sql").out
    enrichlog.done("init")
    assert enrichlog.done("status").err == ""
    assert (listed(enrichlog)["rows"], listed(enrichlog)["lag"]) == (0, 8)
    assert f"{EXAMPLE} is 8 events behind the log." in enrichlog.done("projections", "list").out
    enrichlog.done("rebuild", EXAMPLE)
    assert run(told, WORK) == [{"worker": "a", "attempts": 2}, {"worker": "b", "attempts": 1}]
    stand = listed(enrichlog)
    assert (stand["kind"], stand["rows"], stand["position"], stand["lag"]) == ("following", 2, 8, 0)
    enrichlog.done("verify")
    assert listed(enrichlog)["drift"] == 0
    run(told, f"UPDATE {{ours}}{EXAMPLE} SET attempts = 9")
    assert enrichlog("verify").code == 3
    assert listed(enrichlog)["drift"] == 2


def test_when_its_version_is_raised_its_old_rows_are_shown_until_a_rebuild(
    enrichlog: Command, told: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with added(tmp_path_factory.mktemp("before")):
        enrichlog.done("init")
        enrichlog.done("rebuild", EXAMPLE)
        before = run(told, WORK)
    changed = CODE.replace("version=1", "version=2").replace("work.attempts + 1", "work.attempts + 10")
    assert changed.count("version=2") == 1
    with added(tmp_path_factory.mktemp("after"), changed):
        warned = f"has made the rows of {EXAMPLE}. They are shown as they are, until: enrichlog rebuild {EXAMPLE}"
        assert warned in enrichlog.done("status").err
        assert enrichlog("rebuild", EXAMPLE, "--dry-run").code == 3
        assert (warned in enrichlog.done("status").err, run(told, WORK)) == (True, before)
        enrichlog.done("rebuild", EXAMPLE)
        assert (enrichlog.done("status").err, run(told, WORK)[0]) == ("", {"worker": "a", "attempts": 20})
        enrichlog.done("verify")


def test_the_page_names_the_tests_that_run_for_it() -> None:
    assert "`tests/test_every_projection.py`" in PAGE
