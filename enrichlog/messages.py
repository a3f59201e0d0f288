"""Error messages from a file or from standard input, one per line: as they are, or within JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from enrichlog.exceptions import NoMessage, UnreadableMessages, UsageError
from enrichlog.file_formats import Rejected

STANDARD_INPUT = Path("-")
_BOM = b"\xef\xbb\xbf"
_ERROR_BODY = ("error", "errors", "detail")


class Message(NamedTuple):
    """The text of an error, and what names it in a JSON line: the `id` as a field of its own, or nothing."""

    text: str
    named: dict[str, Any]


def read_messages(path: Path | None) -> Iterator[Message | Rejected]:
    """The messages of a file; of standard input where the path is `-`, or none is given and something is sent there.

    A line that is a JSON object has its text in `message`, else it is the body of an error; one that is neither is
    rejected, and the rest is read all the same. Blank lines are skipped.
    Raises `UnreadableMessages`, `NoMessage` and, where there is nothing to read, `UsageError`.
    """
    if path is not None and path != STANDARD_INPUT:
        return _read_file(path)
    if sys.stdin is None or (path is None and sys.stdin.isatty()):
        raise UsageError(reason="There is nothing to read. Name a FILE, or send messages in: … | enrichlog classify")
    return _read("standard input", sys.stdin.buffer)


def _read_file(path: Path) -> Iterator[Message | Rejected]:
    try:
        with path.open("rb") as file:
            yield from _read(str(path), file)
    except OSError as error:
        raise UnreadableMessages(path=path, reason=error.strerror) from error


def _read(name: str, lines: Iterable[bytes]) -> Iterator[Message | Rejected]:
    begun = False
    for number, line in enumerate(lines, 1):
        try:
            text = line.removeprefix(_BOM).decode().strip()
            if not begun and text in ("[", "{"):
                raise ValueError("JSON begins there that goes on over several lines")
            if text:
                yield _message(number, text)
        except UnicodeDecodeError as error:
            raise NoMessage(path=name, number=number, reason="it has bytes that are not UTF-8") from error
        except ValueError as error:
            raise NoMessage(path=name, number=number, reason=str(error)) from error
        begun = begun or bool(text)


def _message(number: int, text: str) -> Message | Rejected:
    """The message on a line; rejected is an object that has none."""
    value = _json_object(text) if text.startswith("{") else None
    if value is None:
        return Message(text, {})
    told = value.get("message")
    if isinstance(told, str) and told.strip():
        return Message(told, {"id": value["id"]} if "id" in value else {})
    if not any(value.get(key) for key in _ERROR_BODY):
        return Rejected(number, "it is a JSON object without a text in message")
    return Message(text, {})


def _json_object(text: str) -> dict[str, Any] | None:
    """The object that a text is in JSON; a text that only looks like one is a message."""
    try:
        value: dict[str, Any] = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return value


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
