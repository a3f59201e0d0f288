"""Files of postings: CSV, JSON lines and JSON, read as a stream of postings and rejected lines."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from enrichlog.exceptions import MalformedFile, MissingColumns, UnreadableFile, UsageError
from enrichlog.postings import CHANGES, Change, Posting, compare_postings, store_postings
from eventlog import canonical
from eventlog.database import Database

NEEDED = ("id", "title", "description")
BATCH = 500
LONGEST_ID = 500
"""Bytes of an id: an index of PostgreSQL refuses long ones."""
csv.field_size_limit(64 * 1024 * 1024)  # the default of 128 KiB is less than a long posting in HTML


class Rejected(NamedTuple):
    """A line that is no posting, and why."""

    line: int
    reason: str


@dataclass
class ImportReport:
    """What an import did, or with `dry_run` would do: how many postings by change, and the rejected lines."""

    path: str
    dry_run: bool = False
    counts: Counter[Change] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        counts: dict[str, Any] = {change: self.counts[change] for change in CHANGES}
        return {"file": self.path, "dry_run": self.dry_run, **counts, "rejected": [r._asdict() for r in self.rejected]}


def read_map(pairs: Iterable[str]) -> dict[str, str]:
    """Our column names to the file's, from texts `ours=theirs`. Raises `UsageError`."""
    columns = {}
    for pair in pairs:
        ours, _, theirs = pair.partition("=")
        if ours not in Posting._fields or not theirs:
            known = ", ".join(Posting._fields)
            raise UsageError(reason=f"--map {pair} is not OURS=THEIRS with one of ours: {known}")
        columns[ours] = theirs
    return columns


def import_file(
    database: Database,
    path: Path,
    columns: Mapping[str, str],
    enrichments: list[str],
    actor: str,
    *,
    dry_run: bool = False,
) -> ImportReport:
    """Import a file; `columns` maps our names to the file's. Nothing is written unless the whole file can be read.

    Raises `UnreadableFile`, `MalformedFile`, `MissingColumns`, and `UsageError` for ids that stand twice.
    """
    report = ImportReport(str(path), dry_run)
    _refuse_duplicates(path, read_file(path, columns))
    lines = read_file(path, columns)
    while batch := list(islice(lines, BATCH)):
        report.rejected += [line for line in batch if isinstance(line, Rejected)]
        postings = [posting for line in batch if not isinstance(line, Rejected) for posting in (line[1],)]
        if dry_run:
            report.counts.update(compare_postings(database, postings))
        elif postings:
            report.counts.update(store_postings(database, postings, enrichments, actor))
    return report


def read_file(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[int, Posting] | Rejected]:
    """The postings of a file with their line numbers, and its rejected lines."""
    kind = path.suffix.lower()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if kind == ".csv":
                yield from _read_csv(path, file, columns)
            elif kind in (".jsonl", ".ndjson"):
                yield from _read_json_lines(path, file, columns)
            elif kind == ".json":
                yield from _read_json(path, file.read(), columns)
            else:
                raise UnreadableFile(path=path, reason="its name ends in none of .csv, .jsonl, .ndjson, .json")
    except UnicodeDecodeError as error:
        raise MalformedFile(
            path=path, format="UTF-8", reason=f"byte {error.start} of a block does not belong"
        ) from error
    except OSError as error:
        raise UnreadableFile(path=path, reason=error.strerror) from error


def _read_csv(path: Path, file: Iterable[str], columns: Mapping[str, str]) -> Iterator[tuple[int, Posting] | Rejected]:
    reader = csv.DictReader(file, strict=True)
    try:
        _check_columns(path, reader.fieldnames or (), columns)
        for row in reader:
            cells = [cell for value in row.values() for cell in (value if isinstance(value, list) else [value or ""])]
            line = reader.reader.line_num - sum(cell.count("\n") for cell in cells)  # where the row began
            too_many = "it has more cells than the header" if None in row else None
            yield Rejected(line, too_many) if too_many else _posting(line, row, columns)
    except csv.Error as error:
        raise MalformedFile(path=path, format="CSV", reason=f"line {reader.reader.line_num}: {error}") from error


def _read_json_lines(
    path: Path, file: Iterable[str], columns: Mapping[str, str]
) -> Iterator[tuple[int, Posting] | Rejected]:
    empty = True
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        empty = False
        try:
            yield _posting(number, json.loads(line), columns)
        except (ValueError, RecursionError) as error:
            yield Rejected(number, f"it is not JSON: {error}")
    if empty:
        raise UnreadableFile(path=path, reason="it is empty")


def _read_json(path: Path, text: str, columns: Mapping[str, str]) -> Iterator[tuple[int, Posting] | Rejected]:
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
        raise MalformedFile(path=path, format="JSON", reason="it is not a list of postings")
    for number, row in enumerate(rows, 1):
        yield _posting(number, row, columns)


def _check_columns(path: Path, found: Iterable[str], columns: Mapping[str, str]) -> None:
    names = list(found)
    if not names:
        raise UnreadableFile(path=path, reason="it is empty")
    missing = [name for name in (*NEEDED, *columns) if columns.get(name, name) not in names]
    if missing:
        example = f"{missing[0]}={names[0]}"
        raise MissingColumns(
            path=path, missing=", ".join(dict.fromkeys(missing)), found=", ".join(names), example=example
        )


def _posting(line: int, row: Any, columns: Mapping[str, str]) -> tuple[int, Posting] | Rejected:
    if not isinstance(row, dict):
        return Rejected(line, "it is not an object")
    values: dict[str, str | None] = {}
    for name in Posting._fields:
        value = row.get(columns.get(name, name))
        if isinstance(value, dict | list):
            return Rejected(line, f"its {name} is not a text")
        values[name] = None if value is None else canonical.storable(str(value))
    job_id, title = (values["id"] or "").strip(), (values["title"] or "").strip()
    if not job_id:
        return Rejected(line, "it has no id")
    if len(job_id.encode()) > LONGEST_ID:
        return Rejected(line, f"its id is longer than {LONGEST_ID} bytes")
    if not title:
        return Rejected(line, "it has no title")
    filled = {"id": job_id, "title": title, "description": values["description"] or ""}
    return line, Posting(**{**values, **filled})  # type: ignore[arg-type]


def _refuse_duplicates(path: Path, lines: Iterator[tuple[int, Posting] | Rejected]) -> None:
    first: dict[str, int] = {}
    for line in lines:
        if isinstance(line, Rejected):
            continue
        number, posting = line
        if posting.id in first:
            reason = f"the id {posting.id} stands on lines {first[posting.id]} and {number}"
            raise UsageError(reason=f"{path}: {reason}. Keep one of them; nothing was imported.")
        first[posting.id] = number
