"""What people see in a terminal: texts of other people as they are, each on its own line."""

import re

import pytest
from rich.console import Console
from rich.progress import Progress

from enrichlog import terminal
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from tests.command_line import Command
from tests.service import import_postings, posting

SHOW_CURSOR = "\x1b[?25h"
MARKS = ["e:smile:", ":key: [bold]Acme[/bold]", "[/]", "C:\\temp\\", "ends in \\"]
IDS = [
    "a\N{NO-BREAK SPACE}b",
    "👩\N{ZERO WIDTH JOINER}💻",
    "a\N{ZERO WIDTH SPACE}b",
    "a\tb",
    "a\nb",
    "\N{RIGHT-TO-LEFT MARK}",
    "-7",
]


@pytest.mark.parametrize("text", MARKS)
def test_what_rich_would_replace_is_shown_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(text)
    terminal.headline(text)
    terminal.table(("Name", "Value"), [("one", text)])
    assert [line.removeprefix("one   ").rstrip() for line in capsys.readouterr().out.splitlines()] == [
        text, text, "Name  Value", text,
    ]  # fmt: skip


def test_a_name_is_not_broken_where_the_terminal_is_narrow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.out, "width", 40)
    terminal.table(("Error type", "What to do"), [("invalid_response_body", "Wait for the provider " * 3)])
    assert "invalid_response_body" in capsys.readouterr().out


BATCHES = ("Batch", "Requested", "State", "Reason")
BATCH = ("1c6e0d09-1367-421b-a4ed-752e0d737cd7", "2026-11-26 00:56:49 UTC", "cancelled", "the quota is back " * 3)


@pytest.mark.parametrize("width", [100, 80, 60, 40])
def test_times_and_states_are_not_broken_however_narrow_the_terminal_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(terminal.out, "width", width)
    monkeypatch.setattr(terminal.out, "_force_terminal", True)
    terminal.table(BATCHES, [BATCH])
    lines = capsys.readouterr().out.splitlines()
    assert all(any(cell in line for line in lines) for cell in BATCH[1:3])
    assert max(map(len, lines)) <= width
    assert {"quota", "back"} <= set(" ".join(lines).split())


def test_where_no_column_but_the_last_need_be_broken_it_stays_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal.out, "width", 100)
    terminal.table(BATCHES, [BATCH])
    assert capsys.readouterr().out.splitlines()[0].split() == list(BATCHES)
    monkeypatch.setattr(terminal.out, "width", 90)
    terminal.table(BATCHES, [BATCH])
    assert capsys.readouterr().out.splitlines()[0] == f"Batch: {BATCH[0]}"


def test_a_paragraph_in_a_pipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.paragraph("word " * 100, indent=2)
    assert capsys.readouterr().out == "  " + "word " * 100 + "\n"


@pytest.mark.parametrize(
    ("ours", "among", "flag"),
    [
        ("job", [], ""),
        ("job", ["brief"], " --enrichment brief"),
        ("brief", ["job"], ""),
        ("brief", ["job", "brief"], " --enrichment brief"),
        ("brief", [], " --enrichment brief"),
    ],
)
def test_advice_is_about_the_enrichment_that_the_thing_is_of(ours: str, among: list[str], flag: str) -> None:
    terminal.remember_flags("", ours)
    assert terminal.advise("Then: enrichlog retry --error-type quota", among).endswith(f"quota{flag}")
    terminal.remember_flags("", "job")


def test_the_id_of_a_batch_is_not_torn_by_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(terminal._flags, "database", " --database x.db")
    command = "enrichlog batch cancel 1c6e0d09-1367-421b-a4ed-752e0d737cd7 --reason TEXT"
    assert terminal.advise(command) == f"{command} --database x.db"


def test_what_turns_the_direction_of_a_text_is_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say("a\u202eb\u2066c\u200fd")
    assert capsys.readouterr().out == "a\ufffdb\ufffdc\u200fd\n"


def test_a_title_cannot_tell_what_we_did_not_say(enrichlog: Command, database: Database, simulator: Simulator) -> None:
    forged = "Clerk\n   Error:     none\r\n2. Another\N{LINE SEPARATOR}line\x1b[2J"
    import_postings(database, posting("1", title=forged, company=forged))
    simulator.play(Script(rules=[Rule("Work number", (Fault.REFUSAL,))]))
    enrichlog.done("enrich")
    lines = enrichlog.done("failed").out.splitlines()
    assert lines[0] == "1. Clerk Error: none 2. Another line\ufffd[2J"
    assert [line.split(":")[0].strip() for line in lines[1:5]] == ["Company", "Failed at", "Error", "Job id"]
    assert lines[5:] == ["1 of 1"]


@pytest.mark.parametrize("job_id", IDS)
def test_every_id_that_is_in_the_database_can_be_asked_for(enrichlog: Command, database: Database, job_id: str) -> None:
    import_postings(database, posting(job_id))
    enrichlog.done("enrich", "--", job_id)
    assert enrichlog.done("history", "--json", "--", job_id).document["job_id"] == job_id
    assert enrichlog.done("history", "--", job_id).out.splitlines()[0].endswith(": 3 events")


@pytest.mark.parametrize("job_id", ["", "\udcff", "a\0b"])
def test_what_no_database_can_hold_is_no_id(enrichlog: Command, job_id: str) -> None:
    said = enrichlog("history", job_id)
    assert (said.code, "is no id of a posting" in said.error) == (2, True)


def test_an_unknown_id_with_a_line_break_is_told_in_one_line(enrichlog: Command) -> None:
    assert "There is no posting with the id a b" in enrichlog("history", "a\nb").error


@pytest.mark.parametrize("counted", [3, 0])
def test_a_bar_ends_at_its_total_whatever_was_passed_over(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, counted: int
) -> None:
    monkeypatch.setattr(terminal, "err", Console(stderr=True, force_terminal=True, width=140, _environ={}))
    with terminal.counting("batches", 160, quiet=False) as progress:
        progress(counted)
    assert re.findall(r"\d+/160", capsys.readouterr().err)[-1] == "160/160"


def test_ctrl_c_as_a_bar_begins_leaves_the_cursor_shown(enrichlog: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    start, begun = Progress.start, list[Progress]()

    def interrupted(bar: Progress) -> None:
        start(bar)
        begun.append(bar)
        raise KeyboardInterrupt

    monkeypatch.setattr(terminal.err, "_force_terminal", True)
    monkeypatch.setattr(Progress, "start", interrupted)
    said = enrichlog("verify")
    begun[0].stop()
    assert (said.code, said.err.endswith(SHOW_CURSOR)) == (130, True)
