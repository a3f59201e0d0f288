"""Results and events out, as JSON lines or CSV, page by page."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal, TextIO

from sqlalchemy import select, tuple_

from enrichlog.as_of import AsOf
from enrichlog.as_of_results import results_as_of, told_result
from enrichlog.exceptions import UnreadableRow
from enrichlog.postings import find_titles
from eventlog.database import Database
from eventlog.events import iso
from eventlog.log import read_log
from projections.llm_enrichment import llm_enrichment
from projections.users_table import READ_ERRORS

Format = Literal["jsonl", "csv"]
PAGE = 500
_HEAD = ("job_id", "enrichment", "title", "company", "enrichment_completed_at", "enrichment_model_version")
_EVENT = ("position", "event_id", "stream_id", "version", "type", "recorded_at", "facts", "content")


def export_results(
    database: Database, enrichment: str, fields: Iterable[str], form: Format, out: TextIO, at: AsOf | None = None
) -> int:
    """Write the results of an enrichment, or those of an earlier position; in CSV each of `fields` is a column.

    Returns how many.
    """
    rows = _results(database, enrichment) if at is None else results_as_of(database, enrichment, at)
    if form == "jsonl":
        return _write_lines(rows, out)
    columns = {f"result.{name}" if name in _HEAD else name: name for name in fields}
    flat = ({**row, **{column: row["result"].get(name) for column, name in columns.items()}} for row in rows)
    return _write_csv(flat, (*_HEAD, *columns), out)


def export_events(database: Database, form: Format, out: TextIO, at: AsOf | None = None) -> int:
    """Write the log in order of position, whole or up to an earlier one. Returns how many events."""
    rows = _events(database, at and at.position)
    return _write_lines(rows, out) if form == "jsonl" else _write_csv(rows, _EVENT, out)


def _results(database: Database, enrichment: str) -> Iterator[dict[str, Any]]:
    shown, after = llm_enrichment.c, ""
    query = (
        select(llm_enrichment)
        .where(shown.enrichment == enrichment, shown.result.is_not(None))
        .order_by(shown.job_posting_id)
        .limit(PAGE)
    )
    try:
        while page := database.page(query.where(tuple_(shown.job_posting_id) > tuple_(after))):
            with database.read() as connection:
                titles = find_titles(connection, database, [row.job_posting_id for row in page])
            for row in page:
                yield told_result(row._mapping, titles[row.job_posting_id])
            after = page[-1].job_posting_id
    except READ_ERRORS as error:
        raise UnreadableRow(after=after or "the first", reason=str(error)) from error


def _events(database: Database, until: int | None) -> Iterator[dict[str, Any]]:
    for page in read_log(database, page=PAGE, until=until):
        yield from ({**event._asdict(), "recorded_at": iso(event.recorded_at)} for event in page)


def _write_lines(rows: Iterable[dict[str, Any]], out: TextIO) -> int:
    return sum(1 for row in rows if out.write(json.dumps(row, ensure_ascii=False) + "\n"))


def _write_csv(rows: Iterable[dict[str, Any]], names: tuple[str, ...], out: TextIO) -> int:
    writer = csv.writer(out)
    writer.writerow(names)
    return sum(1 for row in rows if writer.writerow([_cell(row.get(name)) for name in names]))


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
