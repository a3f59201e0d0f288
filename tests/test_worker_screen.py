"""What `status` shows of workers, and of what they differ in."""

import re

from enrichlog.workers import Registration, beat, register
from eventlog.database import Database
from tests.builders import NOON
from tests.command_line import Command
from tests.service import worker


def work(database: Database, one: Registration, in_flight: int = 3) -> None:
    """Have a worker be there, and at work."""
    beat(database, one, register(database, one).since, "working", in_flight)


def lines(enrichlog: Command) -> list[str]:
    """What `status` says below what it says of postings and attempts, columns apart by one space."""
    told = [" ".join(line.split()) for line in enrichlog.done("status").out.splitlines()]
    return told[next((number for number, line in enumerate(told) if line.startswith("Worker ")), len(told)) :]


def test_without_workers_status_says_nothing_of_them(enrichlog: Command, database: Database) -> None:
    assert lines(enrichlog) == []
    told = enrichlog.json("status")
    assert (told["workers"], told["workers_differ"]) == ([], {})


def test_status_lists_the_workers_of_the_enrichment_and_says_which_are_ready(
    enrichlog: Command, database: Database, timed: Database
) -> None:
    work(database, worker("live"))
    register(database, worker("other", enrichment="summary"))
    beat(timed, worker("killed"), NOON, "working", 9)
    header, killed, live = lines(enrichlog)
    assert header == "Worker Host State In flight Since Last seen Ready"
    assert killed == (
        "killed host not seen 9 2024-01-01 12:00:00 UTC long ago no: it was last seen 2024-01-01 12:00:00 UTC"
    )
    assert re.fullmatch(r"live host working 3 2.* UTC \d+ s ago yes", live)
    told = enrichlog.json("status")["workers"]
    assert [(one["name"], one["live"], one["ready"]) for one in told] == [
        ("killed", False, False),
        ("live", True, True),
    ]


def test_workers_with_different_prompts_or_models_are_told_apart(enrichlog: Command, database: Database) -> None:
    work(database, worker("a", prompt_hash="1234567890"))
    work(database, worker("b", prompt_hash="1234567890"))
    assert len(lines(enrichlog)) == 3
    work(database, worker("c", prompt_hash="9876543210", request_model="model-2"))
    assert lines(enrichlog)[4:] == [
        "The workers differ in their model: model-1 (a, b), model-2 (c)",
        "The workers differ in their prompt: 12345678 (a, b), 98765432 (c)",
    ]
    assert enrichlog.json("status")["workers_differ"] == {
        "request_model": {"model-1": ["a", "b"], "model-2": ["c"]},
        "prompt_hash": {"1234567890": ["a", "b"], "9876543210": ["c"]},
    }
