"""What `classify` makes of messages, and how that is printed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from enrichlog.errors import ERROR_TYPES, ErrorType
from enrichlog.file_formats import Rejected
from enrichlog.legacy import classify_message
from enrichlog.messages import Message
from enrichlog.terminal import counted, note, one_line, say, table
from eventlog.canonical import storable

_SHOWN = 90
_SHOWN_REJECTS = 10


def print_lines(messages: Iterable[Message | Rejected], codes: Mapping[str, str]) -> int:
    """One JSON object per line and message, each as soon as its message is read; returns how many lines have none."""
    rejected: list[Rejected] = []
    for message in _taken(messages, rejected):
        kind = classify_message(message.text, codes)
        told = {"message": message.text, "error_type": kind.name, "group": kind.group, "retryable": kind.retryable}
        sys.stdout.write(storable(json.dumps(message.named | told, ensure_ascii=False)) + "\n")
    _tell(rejected)
    return len(rejected)


def show(messages: Iterable[Message | Rejected], codes: Mapping[str, str]) -> int:
    """One line per message for people, then how many there are of each error type; returns how many lines have none."""
    counts, rejected = Counter[str](), list[Rejected]()
    for message in _taken(messages, rejected):
        kind = classify_message(message.text, codes)
        if not counts:
            say(_line("Error type", "Group", "Retryable", "Message"))
        counts[kind.name] += 1
        say(_line(kind.name, kind.group, _yes(kind), _cut(one_line(message.text))))
    if counts:
        say()
        rows = [(name, ERROR_TYPES[name].group, _yes(ERROR_TYPES[name]), f"{n:,}") for name, n in counts.most_common()]
        table(("Error type", "Group", "Retryable", "Messages"), rows, numbers=("Messages",))
    say(f"{counted(counts.total(), 'message')} in all" if counts else "There was no message.")
    _tell(rejected)
    return len(rejected)


def _taken(messages: Iterable[Message | Rejected], rejected: list[Rejected]) -> Iterator[Message]:
    """The messages; lines that have none are put aside."""
    for message in messages:
        if isinstance(message, Rejected):
            rejected.append(message)
        else:
            yield message


def _tell(rejected: list[Rejected]) -> None:
    """On standard error which lines have no message, and why."""
    for one in rejected[:_SHOWN_REJECTS]:
        note(f"line {one.line}: {one.reason}")
    if rejected:
        note(f"{counted(len(rejected), 'line')} rejected")


def _line(error_type: str, group: str, retryable: str, message: str) -> str:
    return f"{error_type:<21}  {group:<14}  {retryable:<9}  {message}"


def _yes(kind: ErrorType) -> str:
    return "yes" if kind.retryable else "no"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
