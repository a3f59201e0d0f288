"""The formats of files of postings: CSV, JSON lines and JSON, each read as rows with their numbers."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from enrichlog.exceptions import MalformedFile, MissingColumns, UnreadableFile

NEEDED = ("id", "title", "description")
_SHOWN_NAMES = 40
csv.field_size_limit(64 * 1024 * 1024)  # the default of 128 KiB is less than a long posting in HTML


class Row(NamedTuple):
    """The values of one posting by the file's names, and the number of its line, in JSON of the posting."""

    number: int
    values: Mapping[str, Any]


class Rejected(NamedTuple):
    """A line, in JSON a posting, that cannot be taken, and why."""

    line: int
    reason: str


def unit(path: Path) -> str:
    """What the numbers of a file's rows count."""
    return "posting" if path.suffix.lower() == ".json" else "line"


def read_rows(path: Path, columns: Mapping[str, str]) -> Iterator[Row | Rejected]:
    """The rows of a file; `columns` maps our names to the file's.

    Raises `UnreadableFile`, `MalformedFile`, and `MissingColumns` where a header tells.
    """
    kind = path.suffix.lower()
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UnreadableFile(path=path, reason="it is no regular file, and it is read twice")
        with path.open(encoding="utf-8-sig", newline="") as file:
            if kind == ".csv":
                yield from _read_csv(path, file, columns)
            elif kind in (".jsonl", ".ndjson"):
                yield from _read_json_lines(path, file)
            elif kind == ".json":
                yield from _read_json(path, file.read())
            else:
                raise UnreadableFile(path=path, reason="its name ends in none of .csv, .jsonl, .ndjson, .json")
    except UnicodeDecodeError as error:
        reason = f"line {_line_that_is_not_utf8(path)} has bytes that do not belong; save it as UTF-8"
        raise MalformedFile(path=path, format="UTF-8", reason=reason) from error
    except OSError as error:
        raise UnreadableFile(path=path, reason=error.strerror) from error


def check_columns(path: Path, found: Iterable[str], columns: Mapping[str, str]) -> None:
    """Raises `MissingColumns` unless all that is needed or mapped is among the names that were found."""
    names = list(found)
    missing = [name for name in (*NEEDED, *columns) if columns.get(name, name) not in names]
    used = {columns.get(name, name) for name in (*NEEDED, *columns)}
    if missing:
        more = f" and {len(names) - _SHOWN_NAMES:,} more" if len(names) > _SHOWN_NAMES else ""
        raise MissingColumns(
            path=path, missing=", ".join(dict.fromkeys(missing)), found=", ".join(names[:_SHOWN_NAMES]) + more,
            example=f"{missing[0]}={next((name for name in names if name not in used), 'COLUMN')}",
        )  # fmt: skip


def _read_csv(path: Path, file: TextIO, columns: Mapping[str, str]) -> Iterator[Row | Rejected]:
    reader = csv.DictReader(file, strict=True, delimiter=_delimiter(file))
    try:
        if not reader.fieldnames:
            raise UnreadableFile(path=path, reason="it is empty")
        check_columns(path, reader.fieldnames, columns)
        for row in reader:
            cells = [cell for value in row.values() for cell in (value if isinstance(value, list) else [value or ""])]
            line = reader.reader.line_num - sum(cell.count("\n") for cell in cells)  # where the row began
            yield Rejected(line, "it has more cells than the header") if None in row else Row(line, row)
    except csv.Error as error:
        raise MalformedFile(path=path, format="CSV", reason=f"line {reader.reader.line_num}: {error}") from error


def _delimiter(file: TextIO) -> str:
    """What separates the names of the header: where lists are written with ; or tabs there is no comma."""
    header = file.readline()
    file.seek(0)
    return "," if "," in header else next((mark for mark in ";\t" if mark in header), ",")


def _read_json_lines(path: Path, file: TextIO) -> Iterator[Row | Rejected]:
    empty = True
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        empty = False
        try:
            yield _row(number, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Rejected(number, f"it is not JSON: {error}")
    if empty:
        raise UnreadableFile(path=path, reason="it is empty")


def _read_json(path: Path, text: str) -> Iterator[Row | Rejected]:
    if not text.strip():
        raise UnreadableFile(path=path, reason="it is empty")
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        reason = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise MalformedFile(path=path, format="JSON", reason=reason) from error
    except (ValueError, RecursionError) as error:
        raise MalformedFile(path=path, format="JSON", reason=str(error)) from error
    if not isinstance(rows, list):
        raise MalformedFile(path=path, format="JSON of postings", reason="it is not a list of postings")
    yield from (_row(number, row) for number, row in enumerate(rows, 1))


def _row(number: int, value: Any) -> Row | Rejected:
    return Row(number, value) if isinstance(value, dict) else Rejected(number, "it is not an object")


def _line_that_is_not_utf8(path: Path) -> int:
    """The first one; the decoder tells only where in a block it stopped."""
    with path.open("rb") as file:
        return next((number for number, line in enumerate(file, 1) if not _is_utf8(line)), 1)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
