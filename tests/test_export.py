"""Results and the log going out: every row once, in order, as JSON lines or CSV that reads back the same."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from enrichlog import export
from enrichlog.export import export_events, export_results
from eventlog.database import Database
from tests.builders import failed, requested, started, succeeded, tell
from tests.command_line import Command
from tests.service import import_many, import_postings, posting, whole_log

TEXT = 'a "quoted", comma\nline\N{SNOWMAN} €'


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows are several pages."""
    monkeypatch.setattr(export, "PAGE", 2)


def enriched(database: Database, *job_ids: str) -> None:
    for job_id in job_ids:
        tell(database, f"job-{job_id}", requested(), started(), succeeded(result={"note": TEXT, "tags": ["a", job_id]}))


def written(write: Callable[[TextIO], int]) -> tuple[int, str]:
    out = io.StringIO(newline="")
    return write(out), out.getvalue()


def test_every_result_is_one_line_in_order_of_ids(database: Database) -> None:
    import_postings(database, posting("1", company="Acme"))
    enriched(database, "5", "4", "3", "2", "1")
    tell(database, "job-6", requested(), started(), failed())
    count, text = written(lambda out: export_results(database, "job", ["note"], "jsonl", out))
    rows = [json.loads(line) for line in text.splitlines()]
    assert (count, [row["job_id"] for row in rows]) == (5, ["1", "2", "3", "4", "5"])
    assert (rows[0]["title"], rows[0]["company"], rows[1]["title"]) == ("Engineer 1", "Acme", None)
    assert rows[0]["result"] == {"note": TEXT, "tags": ["a", "1"]}
    assert set(rows[0]) == {
        "job_id", "enrichment", "title", "company", "enrichment_completed_at", "enrichment_model_version", "result",
    }  # fmt: skip


def test_in_csv_each_field_of_the_result_is_a_column(database: Database) -> None:
    enriched(database, "1", "2", "3")
    fields = ["note", "tags", "title", "missing"]
    count, text = written(lambda out: export_results(database, "job", fields, "csv", out))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert count == len(rows) == 3
    assert (rows[2]["note"], json.loads(rows[2]["tags"]), rows[2]["missing"]) == (TEXT, ["a", "3"], "")
    assert list(rows[0])[-4:] == ["note", "tags", "result.title", "missing"]  # the posting has a title too


def test_results_of_another_enrichment_are_left_out(database: Database) -> None:
    tell(database, "brief-1", requested(), started(), succeeded())
    assert written(lambda out: export_results(database, "job", [], "jsonl", out)) == (0, "")


def test_the_log_goes_out_whole_and_in_order(database: Database) -> None:
    enriched(database, "1", "2")
    log = whole_log(database)
    count, text = written(lambda out: export_events(database, "jsonl", out))
    rows = [json.loads(line) for line in text.splitlines()]
    assert (count, [row["position"] for row in rows]) == (6, [1, 2, 3, 4, 5, 6])
    assert [(row["event_id"], row["facts"], row["content"]) for row in rows] == [
        (event.event_id, event.facts, event.content) for event in log
    ]


def test_the_log_as_csv_holds_the_same(database: Database) -> None:
    enriched(database, "1")
    count, text = written(lambda out: export_events(database, "csv", out))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert count == len(rows) == 3
    assert [json.loads(row["facts"]) for row in rows] == [event.facts for event in whole_log(database)]


@pytest.mark.parametrize("form", ["jsonl", "csv"])
@pytest.mark.parametrize("what", ["results", "events"])
def test_standard_output_and_a_file_get_the_same(
    enrichlog: Command, database: Database, bare: Path, what: str, form: str
) -> None:
    import_many(database, 3)
    enrichlog.done("enrich")
    printed = enrichlog.done("export", what, "--format", form)
    filed = enrichlog.done("export", what, "--format", form, "--output", "out")
    assert (bare / "out").read_bytes().decode() == printed.out
    count = {"results": 3, "events": 9}[what]
    assert (printed.err, filed.err, filed.out) == (f"{count} {what}\n", f"{count} {what} in out\n", "")
