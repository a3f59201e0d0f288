"""What `status` shows of workers, and of what they differ in."""

import re
from datetime import timedelta
from types import SimpleNamespace

import pytest

from enrichlog import terminal
from enrichlog.worker_screen import show
from enrichlog.workers import Registration, Seen, beat, register
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
    assert re.fullmatch(r"killed host not seen 9 [\d,]+ d ago [\d,]+ d ago no", killed)
    assert re.fullmatch(r"live host working 3 \d+ s ago \d+ s ago yes", live)
    told = enrichlog.json("status")["workers"]
    assert [(one["name"], one["live"], one["ready"]) for one in told] == [
        ("killed", False, False),
        ("live", True, True),
    ]


def test_workers_of_short_names_are_a_table_in_a_terminal_of_80_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.out, "width", 80)
    monkeypatch.setattr(terminal.out, "_force_terminal", True)
    states = {"waiting": 59, "away": 60, "idle": 3_600}
    seen = [
        Seen(SimpleNamespace(name=f"anna-worker-{number}", host="anna", state=state, in_flight=100,
                             since=NOON - timedelta(seconds=age), last_seen=NOON, request_model="m", prompt_hash="p",
                             schema_hash="s"), NOON)
        for number, (state, age) in enumerate(states.items(), 1)
    ]  # fmt: skip
    show(seen)
    header, waiting, away, *rest = capsys.readouterr().out.splitlines()
    assert header.split() == ["Worker", "Host", "State", "In", "flight", "Since", "Last", "seen", "Ready"]
    assert waiting.split() == ["anna-worker-1", "anna", "waiting", "100", "59", "s", "ago", "0", "s", "ago", "yes"]
    assert away.split()[3:11] == ["100", "1", "m", "ago", "0", "s", "ago", "no:"]
    assert rest[-1].split()[3:7] == ["100", "1", "h", "ago"]
    assert max(map(len, (header, waiting, away, *rest))) <= 80


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
