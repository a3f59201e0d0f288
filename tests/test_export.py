"""Results and the log going out: every row once, in order, as JSON lines or CSV that reads back the same."""

import csv
import errno
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from enrichlog import export
from enrichlog.export import export_events, export_results
from eventlog.database import Database
from tests.adopted import a_result, add_postings, job_id, write_settings
from tests.builders import BOUND, failed, requested, run, started, succeeded, tell
from tests.command_line import CLI, Command, environment, start
from tests.service import import_many, import_postings, posting, whole_log

TEXT = 'a "quoted", comma\nline\N{SNOWMAN} €'


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few rows are several pages."""
    monkeypatch.setattr(export, "PAGE", 2)


def enriched(database: Database, *job_ids: str) -> None:
    for one in job_ids:
        tell(database, f"job-{one}", requested(), started(), succeeded(result={"note": TEXT, "tags": ["a", one]}))


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


def test_one_event_is_told_as_one(enrichlog: Command, database: Database) -> None:
    import_many(database, 1)
    assert enrichlog.done("export", "events").err == "1 event\n"
    said = enrichlog.done("verify").out
    assert "Log: 1 event, positions" in said
    assert "enrichment_status: 1 event of 1 stream, no difference\n" in said


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


# -- a file that is there already --------------------------------------------------------------------------------------


def test_an_export_takes_the_place_of_the_file_with_its_rights(
    enrichlog: Command, database: Database, bare: Path
) -> None:
    import_many(database, 1)
    (bare / "out").write_text("old")
    (bare / "out").chmod(0o640)
    (bare / "link").symlink_to("out")
    enrichlog.done("export", "events", "--output", "link")
    assert (bare / "out").read_text().startswith('{"position": 1,')
    assert ((bare / "link").is_symlink(), (bare / "out").stat().st_mode & 0o777) == (True, 0o640)
    assert sorted(path.name for path in bare.iterdir()) == ["link", "out"]


@pytest.mark.parametrize("words", [["results", "--enrichment", "pay"], ["results"], ["events"]], ids=" ".join)
def test_an_export_that_fails_leaves_the_file_as_it_was(
    enrichlog: Command, database: Database, bare: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    import_many(database, 3)
    (bare / "out").write_text("old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(export, "_write_lines", full)
    said = enrichlog("export", *words, "--output", "out")
    assert said.code == 2
    assert "pay" in said.error or "out cannot be written: No space left on device. Name another" in said.error
    assert [(path.name, path.read_text()) for path in bare.iterdir()] == [("out", "old")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("words", [["export", "events"], ["status"], ["failed", "--json"], ["--help"]], ids=" ".join)
def test_a_full_disk_is_told_in_one_line(database: Database, bare: Path, words: list[str]) -> None:
    import_many(database, 1)
    with Path("/dev/full").open("w") as full:
        process = start(*words, folder=bare, variables={"DATABASE_URL": database.url}, out=full)
        _, err = process.communicate(timeout=BOUND)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("Error: The output cannot be written: No space left on device.")
    assert "defect" not in err
    assert "Exception" not in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_device_is_written_to_and_not_replaced(enrichlog: Command, database: Database) -> None:
    import_many(database, 1)
    assert "/dev/full cannot be written: No space left" in enrichlog("export", "events", "--output", "/dev/full").error
    assert Path("/dev/full").is_char_device()
    enrichlog.done("export", "events", "--output", "/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell closes it")
def test_a_standard_output_that_is_closed_is_told_before_anything_is_done(sqlite: Database, bare: Path) -> None:
    command = ["sh", "-c", '"$@" >&-', "sh", sys.executable, str(CLI), "init", "--database", "new.db"]
    done = subprocess.run(command, cwd=bare, env=environment(), stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, list(bare.iterdir())) == (1, [])
    assert done.stderr.startswith("Error: Standard output is closed. Send it to a file, or")


def test_a_row_that_cannot_be_read_is_told_with_what_mends_it(enrichlog: Command, sqlite: Database) -> None:
    enriched(sqlite, "1", "2", "3")
    run(sqlite, "UPDATE llm_enrichment SET result = 'not json' WHERE job_posting_id = '3'")
    said = enrichlog("export", "results", "--database", sqlite.url)
    assert (said.code, "behind that of 2 holds what is no value" in said.err) == (1, True)
    assert said.err.rstrip().endswith("llm_enrichment --overwrite-edits")


def test_results_of_an_adopted_database_are_written_as_the_log_has_them(
    user: Command, adopted: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", adopted.url)
    write_settings(bare)
    add_postings(adopted, [1])
    tell(adopted, f"job-{job_id(1)}", requested(), started(), succeeded(result=a_result()))
    (row,) = map(json.loads, user.done("export", "results").out.splitlines())
    assert (row["job_id"], row["title"], row["company"]) == (job_id(1), "Data engineer 1", "Acme")
    assert row["result"] == a_result()
