"""Files of postings: what an import takes of one, what it rejects, and what it did."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from enrichlog.exceptions import NoPostings, UsageError
from enrichlog.file_formats import Rejected, Row, check_columns, read_rows, unit
from enrichlog.posting import Posting
from enrichlog.postings import CHANGES, Change, compare_postings, source_of, store_postings
from eventlog import canonical
from eventlog.database import Database

BATCH = 500
LONGEST_ID = 500
"""Bytes of an id: an index of PostgreSQL refuses long ones."""


@dataclass
class ImportReport:
    """What an import did, or with `dry_run` would do: how many postings by change, and the rejected ones.

    `unit` is what the numbers of those count: lines, or in JSON postings.
    """

    path: str
    unit: str
    dry_run: bool = False
    counts: Counter[Change] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        """The report as JSON values."""
        counts: dict[str, Any] = {change: self.counts[change] for change in CHANGES}
        rejected = {"unit": self.unit, "rejected": [one._asdict() for one in self.rejected]}
        return {"file": self.path, "dry_run": self.dry_run, **counts, **rejected}


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

    Raises `UnreadableFile`, `MalformedFile`, `MissingColumns`, `NoPostings`, `UsageError` for ids that stand twice, and
    `PostingsOfOthers` where other programs write the postings.
    """
    source_of(database).require_own()
    report = ImportReport(str(path), unit(path), dry_run)
    _check(path, columns)
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
    """The postings of a file with the numbers of their rows, and its rejected rows."""
    for row in read_rows(path, columns):
        yield row if isinstance(row, Rejected) else _posting(row, columns)


def _posting(row: Row, columns: Mapping[str, str]) -> tuple[int, Posting] | Rejected:
    values: dict[str, str | None] = {}
    for name in Posting._fields:
        value = row.values.get(columns.get(name, name))
        if not _is_text(value):
            return Rejected(row.number, f"its {name} is not a text")
        values[name] = None if value is None else canonical.storable(str(value))
    job_id, title = (values["id"] or "").strip(), (values["title"] or "").strip()
    if fault := _fault_of_id(job_id) or (None if title else "it has no title"):
        return Rejected(row.number, fault)
    filled = {"id": job_id, "title": title, "description": values["description"] or ""}
    return row.number, Posting(**{**values, **filled})  # type: ignore[arg-type]


def _is_text(value: Any) -> bool:
    """A number is one, as files of ids have them; true and NaN are not."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, bool | dict | list)


def _fault_of_id(job_id: str) -> str | None:
    if not job_id:
        return "it has no id"
    if len(job_id.encode()) > LONGEST_ID:
        return f"its id is longer than {LONGEST_ID} bytes"
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in job_id):
        return "its id has line breaks or control characters in it"
    return None


def _check(path: Path, columns: Mapping[str, str]) -> None:
    """Raises for what only the whole file tells: ids that stand twice, columns in no row, no posting to take at all."""
    names: dict[str, None] = {}
    first: dict[str, int] = {}
    rejected: list[Rejected] = []
    for row in read_rows(path, columns):
        if isinstance(row, Row):
            names.update(dict.fromkeys(row.values))
        line = row if isinstance(row, Rejected) else _posting(row, columns)
        if isinstance(line, Rejected):
            rejected = rejected or [line]
            continue
        number, posting = line
        if posting.id in first:
            reason = f"the id {posting.id} stands on {unit(path)}s {first[posting.id]} and {number}"
            raise UsageError(reason=f"{path}: {reason}. Keep one of them; nothing was imported.")
        first[posting.id] = number
    if names:
        check_columns(path, names, columns)
    if rejected and not first:
        raise NoPostings(path=path, unit=unit(path), number=rejected[0].line, reason=rejected[0].reason)
