"""`enrichlog classify`: messages from a file or a pipe, and their error types for people and for scripts."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from enrichlog.errors import ERROR_TYPES
from enrichlog.messages import Message, read_messages
from tests.command_line import Command, Said

QUOTA = "Error code: 429 - You exceeded your current quota, please check your plan and billing details."
BODY = '{"error": {"code": 402, "message": "Insufficient Balance"}}'

REFUSED = {
    "a list over several lines": (b'[\n{"message": "x"}\n]', "JSON begins there that goes on over several lines"),
    "Latin-1": ("x\nBüro\n".encode("latin-1"), "Line 2 of old.txt cannot be taken: it has bytes that are not UTF-8"),
    "UTF-16": (
        "boom".encode("utf-16"),
        "Line 1 of old.txt cannot be taken: it has bytes that are not UTF-8. Write one",
    ),
}


def send(monkeypatch: pytest.MonkeyPatch, content: bytes, *, terminal: bool = False) -> None:
    """Have standard input hold this."""
    stdin = io.TextIOWrapper(io.BytesIO(content), encoding="utf-8")
    monkeypatch.setattr(stdin, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdin", stdin)


def rows(said: Said) -> list[dict[str, Any]]:
    assert said.err == ""
    return [json.loads(line) for line in said.out.splitlines()]


def test_a_file_of_plain_messages_and_json_lines_becomes_one_object_per_line(user: Command) -> None:
    made = json.dumps({"message": "boom\nRequest timed out", "id": 7, "title": "x"})
    Path("old.txt").write_text(f"\ufeff{QUOTA}\r\n\n  \n{made}\n{BODY}\n{{'error': 'boom'}}", "utf-8")
    told = rows(user.done("classify", "old.txt", "--json"))
    assert told == [
        {"message": QUOTA, "error_type": "quota_exceeded", "group": "Quota Exceeded", "retryable": True},
        {"id": 7, "message": "boom\nRequest timed out", "error_type": "timeout", "group": "Timeout", "retryable": True},
        {"message": BODY, "error_type": "quota_exceeded", "group": "Quota Exceeded", "retryable": True},
        {"message": "{'error': 'boom'}", "error_type": "other", "group": "Other", "retryable": True},
    ]


@pytest.mark.parametrize("words", [(), ("-",)], ids=["no file", "a dash"])
def test_messages_may_come_through_a_pipe(user: Command, monkeypatch: pytest.MonkeyPatch, words: tuple[str]) -> None:
    send(monkeypatch, b"No description found\n")
    (told,) = rows(user.done("classify", *words, "--json"))
    assert (told["error_type"], told["group"], told["retryable"]) == ("input_error", "Rejected", False)


def test_people_see_each_message_and_how_many_there_are_of_each_type(user: Command) -> None:
    long = "database is locked " * 20
    Path("old.txt").write_text(
        f"{QUOTA}\nNo description found\n{QUOTA}\n" + json.dumps({"message": f"x\x1b[1m\n{long}"})
    )
    lines = user.done("classify", "old.txt").out.splitlines()
    assert lines[0].split() == ["Error", "type", "Group", "Retryable", "Message"]
    assert lines[1].startswith("quota_exceeded         Quota Exceeded  yes        Error code: 429 - You exceeded")
    assert lines[2].split() == ["input_error", "Rejected", "no", "No", "description", "found"]
    assert lines[4].startswith("storage_error          Storage         yes        x\ufffd[1m database is locked")
    assert lines[4].endswith("…")
    assert [line.split() for line in lines[-4:]] == [
        ["quota_exceeded", "Quota", "Exceeded", "yes", "2"],
        ["input_error", "Rejected", "no", "1"],
        ["storage_error", "Storage", "yes", "1"],
        ["4", "messages", "in", "all"],
    ]


def test_the_lines_of_a_file_can_be_classified_again(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("old.txt").write_text("".join(json.dumps({"id": n, "message": n}) + "\n" for n in ERROR_TYPES))
    once = user.done("classify", "old.txt", "--json").out
    send(monkeypatch, once.encode())
    assert user.done("classify", "--json").out == once


def test_where_nothing_is_sent_there_is_no_message(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, b"\n \n")
    assert user.done("classify").out == "There was no message.\n"
    send(monkeypatch, b"")
    assert user.done("classify", "--json").out == ""


def test_what_no_output_can_hold_is_replaced(user: Command) -> None:
    Path("old.txt").write_text('{"message": "a\\ud800b"}\n' + "[" * 100_000 + "\n" + '{"message":' * 100_000, "utf-8")
    told = rows(user.done("classify", "old.txt", "--json"))
    assert [row["message"][:3] for row in told] == ["a\ufffdb", "[[[", '{"m']


def test_at_a_terminal_a_file_has_to_be_named(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    send(monkeypatch, QUOTA.encode(), terminal=True)
    said = user("classify")
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith("Error: There is nothing to read. Name a FILE, or send messages in")
    send(monkeypatch, QUOTA.encode(), terminal=True)
    assert len(rows(user.done("classify", "-", "--json"))) == 1


def test_a_closed_standard_input_is_told(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert "There is nothing to read." in user("classify", "-").error


@pytest.mark.parametrize(("content", "cause"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["people", "scripts"])
def test_a_line_that_is_no_message_is_named(user: Command, content: bytes, cause: str, form: tuple[str, ...]) -> None:
    Path("old.txt").write_bytes(content)
    said = user("classify", "old.txt", *form)
    assert said.code == 2
    assert cause in said.error


@pytest.mark.parametrize(("name", "reason"), [("gone.txt", "No such file or directory"), (".", "Is a directory")])
def test_what_is_no_file_is_told_with_its_reason(user: Command, name: str, reason: str) -> None:
    said = user("classify", name)
    assert (said.code, said.out) == (2, "")
    assert said.error.startswith(f"Error: {name} cannot be read: {reason}. Name a file of messages, one per line, or -")


def test_a_message_is_told_before_the_next_one_is_read(user: Command) -> None:
    Path("old.txt").write_bytes(b"boom\n\xff\n")
    assert json.loads(user("classify", "old.txt", "--json").out)["message"] == "boom"
    messages = read_messages(Path("old.txt"))
    assert next(messages) == Message("boom", {})


def test_no_database_is_looked_for(user: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
    Path("old.txt").write_text("boom\n")
    assert user.done("classify", "old.txt").out.endswith("1 message in all\n")
    assert [path.name for path in Path().iterdir()] == ["old.txt"]


@pytest.mark.parametrize("line", ['{"message": null}', '{"message": " "}', '{"message": 7}', '{"text": "boom"}'])
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["people", "scripts"])
def test_a_line_without_a_message_is_named_and_the_rest_is_read(user: Command, line: str, form: tuple[str]) -> None:
    Path("old.txt").write_text(f"boom\n{line}\nNo description found\n")
    said = user("classify", "old.txt", *form)
    assert (said.code, "input_error" in said.out) == (1, True)
    assert said.err == "line 2: it is a JSON object without a text in message\n1 line rejected\n"


OWN = """error_codes = { "1113" = "quota_exceeded", "rate_limit_error" = "server_error", "busy" = "connection",
"429" = "refusal", "bad:temperature" = "invalid_schema" }"""


@pytest.mark.parametrize(
    ("message", "error_type"),
    [
        ("Error code: 429 - {'error': {'code': '1113', 'message': 'Insufficient balance'}}", "quota_exceeded"),
        ("Error code: 400 - {'type': 'rate_limit_error'}", "server_error"),
        ("Error code: 400 - {'code': 'bad', 'param': 'temperature'}", "invalid_schema"),
        ("Error code: 400 - {'code': 'bad', 'param': 'top_p'}", "bad_request"),
        ("Error code: 500 - {'code': 'busy'}", "connection"),
        ("Error code: 500 - the server is busy", "server_error"),
        ("it took 1113 ms, then timed out", "timeout"),
        ("Error code: 429 - slow down", "rate_limited"),
    ],
)
def test_own_error_codes_win_where_a_message_states_them_as_codes(
    user: Command, bare: Path, message: str, error_type: str
) -> None:
    (bare / "enrichlog.toml").write_text(OWN.replace("\n", " "))
    Path("old.txt").write_text(message)
    assert rows(user.done("classify", "old.txt", "--json"))[0]["error_type"] == error_type
