"""What `classify` makes of messages, and how that is printed."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable

from enrichlog.errors import ERROR_TYPES, ErrorType
from enrichlog.legacy import classify_message
from enrichlog.messages import Message
from enrichlog.terminal import counted, one_line, say, table
from eventlog.canonical import storable

_SHOWN = 90


def print_lines(messages: Iterable[Message]) -> None:
    """One JSON object per line and message, each as soon as its message is read."""
    for message in messages:
        kind = classify_message(message.text)
        told = {"message": message.text, "error_type": kind.name, "group": kind.group, "retryable": kind.retryable}
        sys.stdout.write(storable(json.dumps(message.named | told, ensure_ascii=False)) + "\n")


def show(messages: Iterable[Message]) -> None:
    """One line per message for people, then how many there are of each error type."""
    counts: Counter[str] = Counter()
    for message in messages:
        kind = classify_message(message.text)
        if not counts:
            say(_line("Error type", "Group", "Retryable", "Message"))
        counts[kind.name] += 1
        say(_line(kind.name, kind.group, _yes(kind), _cut(one_line(message.text))))
    if not counts:
        say("There was no message.")
        return
    say()
    rows = [(name, ERROR_TYPES[name].group, _yes(ERROR_TYPES[name]), f"{n:,}") for name, n in counts.most_common()]
    table(("Error type", "Group", "Retryable", "Messages"), rows, numbers=("Messages",))
    say(f"{counted(counts.total(), 'message')} in all")


def _line(error_type: str, group: str, retryable: str, message: str) -> str:
    return f"{error_type:<21}  {group:<14}  {retryable:<9}  {message}"


def _yes(kind: ErrorType) -> str:
    return "yes" if kind.retryable else "no"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
