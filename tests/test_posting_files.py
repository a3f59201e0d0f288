"""Files of postings: CSV, JSON lines and JSON, their odd sides, and that a file with an error changes nothing."""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from enrichlog.exceptions import MalformedFile, MissingColumns, NoPostings, UnreadableFile, UsageError
from enrichlog.file_formats import Rejected
from enrichlog.own_postings import job_postings
from enrichlog.posting import Posting
from enrichlog.posting_files import ImportReport, import_file, read_file, read_map
from eventlog.database import Database
from tests.service import SAMPLES, TEST_DATA, of_type, real_rows, whole_log

ROWS = [
    {"id": "a-1", "title": "Data Engineer", "company": "Acme", "description": "SQL, Python.\nTwo lines, “quoted”."},
    {"id": "a-2", "title": "Développeur 🦀", "company": "", "description": "<p>Rust</p>"},
    {"id": "a-3", "title": "Ingenieur", "company": "Beta", "description": ""},
]
FORMATS = ["csv", "jsonl", "ndjson", "json"]


def write(folder: Path, kind: str, rows: list[dict[str, Any]], encoding: str = "utf-8") -> Path:
    """A file of that kind with these rows."""
    path = folder / f"postings.{kind}"
    with path.open("w", encoding=encoding, newline="") as file:
        if kind == "csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        elif kind == "json":
            json.dump(rows, file, indent=1)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def written(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def load(database: Database, path: Path, *pairs: str, dry_run: bool = False) -> ImportReport:
    return import_file(database, path, read_map(pairs), ["job"], "tests", dry_run=dry_run)


def stored(database: Database) -> dict[str, dict[str, Any]]:
    return {row.id: dict(row._mapping) for row in database.page(select(job_postings).order_by(job_postings.c.id))}


def postings_in(path: Path, *pairs: str) -> list[Posting]:
    return [line[1] for line in read_file(path, read_map(pairs)) if not isinstance(line, Rejected)]


def rejected_in(path: Path) -> list[tuple[int, str]]:
    return [(line.line, line.reason) for line in read_file(path, {}) if isinstance(line, Rejected)]


def count_of_everything(database: Database) -> tuple[int, int]:
    return len(stored(database)), len(whole_log(database))


# -- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_brings_the_same_postings(tmp_path: Path, kind: str) -> None:
    found = postings_in(write(tmp_path, kind, ROWS))
    assert [(one.id, one.title, one.company or "", one.description) for one in found] == [
        tuple(row.values()) for row in ROWS
    ]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path, kind: str) -> None:
    assert len(postings_in(write(tmp_path, kind, ROWS, encoding="utf-8-sig"))) == 3


@pytest.mark.parametrize("kind", FORMATS)
def test_columns_of_other_names_are_mapped(tmp_path: Path, kind: str) -> None:
    rows = [{"job_id": row["id"], "job_title": row["title"], "text": row["description"]} for row in ROWS]
    path = write(tmp_path, kind, rows)
    found = postings_in(path, "id=job_id", "title=job_title", "description=text")
    assert [(one.id, one.title) for one in found] == [(row["id"], row["title"]) for row in ROWS]


@pytest.mark.parametrize("kind", FORMATS)
def test_what_no_database_can_hold_is_replaced(tmp_path: Path, kind: str) -> None:
    row = {"id": "1", "title": "nul \0 here", "description": "half \ud83d" if kind != "csv" else "half \0"}
    (one,) = postings_in(write(tmp_path, kind, [row]))
    assert (one.title, one.description) == ("nul \ufffd here", "half \ufffd")


def test_a_cell_can_be_longer_than_the_csv_library_likes(tmp_path: Path) -> None:
    (one,) = postings_in(write(tmp_path, "csv", [{"id": "1", "title": "t", "description": "x" * 300_000}]))
    assert len(one.description) == 300_000


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_may_be_separated_by_what_stands_in_its_header(tmp_path: Path, separator: str, mark: str) -> None:
    lines = [("id", "title", "description"), ("1", "Clerk, part time", '"a; b\tc"')]
    path = written(tmp_path, "p.csv", mark + "\n".join(separator.join(line) for line in lines))
    (one,) = postings_in(path)
    assert (one.id, one.title, one.description) == ("1", "Clerk, part time", "a; b\tc")


def test_an_id_is_any_text_on_one_line(tmp_path: Path) -> None:
    ids = ["a\N{NO-BREAK SPACE}b", "👩\N{ZERO WIDTH JOINER}💻", ":smile:", "-7"]
    rows = [{"id": job_id, "title": "t", "description": "d"} for job_id in ids]
    assert [one.id for one in postings_in(write(tmp_path, "json", rows))] == ids


def test_numbers_are_texts_and_white_space_around_an_id_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, "json", [{"id": 12, "title": " Engineer ", "description": None, "company": 7}])
    (one,) = postings_in(path)
    assert (one.id, one.title, one.description, one.company) == ("12", "Engineer", "", "7")


# -- rejected lines ---------------------------------------------------------------------------------------------------


def test_lines_of_json_that_are_no_posting_are_rejected_with_their_numbers(tmp_path: Path) -> None:
    lines = [
        '{"id": "1", "title": "one"}',
        "",
        '{"id": "2", "title": "two"',
        '["3"]',
        '{"title": "no id"}',
        '{"id": " ", "title": "blank id"}',
        '{"id": "7", "title": ""}',
        '{"id": "8", "title": ["t"]}',
        "[" * 100_000,
        '{"id": "10", "title": "ten"}',
        '{"id": true, "title": "t"}',
        '{"id": NaN, "title": "t"}',
        '{"id": "a\\tb", "title": "t"}',
        '{"id": "a\\u2028b", "title": "t"}',
    ]
    path = written(tmp_path, "p.jsonl", "\n".join(lines))
    found = rejected_in(path)
    assert [(line, reason.split(":")[0]) for line, reason in found] == [
        (3, "it is not JSON"),
        (4, "it is not an object"),
        (5, "it has no id"),
        (6, "it has no id"),
        (7, "it has no title"),
        (8, "its title is not a text"),
        (9, "it is not JSON"),
        (11, "its id is not a text"),
        (12, "its id is not a text"),
        (13, "its id has line breaks or control characters in it"),
        (14, "its id has line breaks or control characters in it"),
    ]
    assert [one.id for one in postings_in(path)] == ["1", "10"]


def test_rows_of_csv_are_rejected_with_the_line_they_begin_on(tmp_path: Path) -> None:
    text = 'id,title,description\n1,one,"two\nlines"\n,no id,x\n\n2,,"no\ntitle"\n3,three,x,too,many\n4,four\n'
    path = written(tmp_path, "p.csv", text)
    assert rejected_in(path) == [
        (4, "it has no id"),
        (6, "it has no title"),
        (8, "it has more cells than the header"),
    ]
    assert [(one.id, one.description) for one in postings_in(path)] == [("1", "two\nlines"), ("4", "")]


def test_entries_of_json_are_rejected_with_their_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, "p.json", json.dumps([{"id": "1", "title": "one"}, 5, {"id": "3"}]))
    assert rejected_in(path) == [(2, "it is not an object"), (3, "it has no title")]


def test_a_rejected_line_does_not_keep_the_others_out(database: Database, tmp_path: Path) -> None:
    rows = '{"id": "1", "title": "one", "description": "x"}\nnonsense\n{"id": "3", "title": "three"}\n'
    path = written(tmp_path, "p.jsonl", rows)
    report = load(database, path)
    assert (report.counts, [line.line for line in report.rejected]) == ({"added": 2}, [2])
    assert report.document()["rejected"][0]["line"] == 2
    assert list(stored(database)) == ["1", "3"]


# -- files that cannot be imported ------------------------------------------------------------------------------------

GOOD = "".join(json.dumps({"id": str(number), "title": "t", "description": "d"}) + "\n" for number in range(1_100))
REFUSED = {
    "trailing comma": (
        "p.json",
        '[{"id": "1", "title": "t"},\n ]',
        MalformedFile,
        r"not valid JSON: line \d, column \d",
    ),
    "half a file": ("p.json", '[{"id": "1", "title": "t"}, {"id"', MalformedFile, "not valid JSON: line 1, column 34"),
    "an object": ("p.json", '{"id": "1", "title": "t"}', MalformedFile, "it is not a list of postings"),
    "nested too deep": ("p.json", "[" * 100_000, MalformedFile, "not valid JSON"),
    "a quote left open": ("p.csv", 'id,title,description\n1,t,x\n2,t,"x\n', MalformedFile, "not valid CSV: line 3"),
    "text after a quote": ("p.csv", 'id,title,description\n1,t,"x"y\n', MalformedFile, "not valid CSV: line 2"),
    "not UTF-8": ("p.csv", b"id,title,description\n1,t,caf\xe9\n", MalformedFile, "not valid UTF-8: line 2 has bytes"),
    "not UTF-8 far on": (
        "p.jsonl",
        GOOD.encode() + b'{"id": "\xff"}',
        MalformedFile,
        "not valid UTF-8: line 1101 has bytes that do not belong; save it as UTF-8",
    ),
    "UTF-16": ("p.jsonl", GOOD.encode("utf-16"), MalformedFile, "not valid UTF-8: line 1 has bytes"),
    "half a character": ("p.json", b'[\n"\xc3', MalformedFile, "not valid UTF-8: line 2 has bytes"),
    "nothing that is JSON": ("p.jsonl", "no\nno\n", NoPostings, "can be taken; line 1: it is not JSON"),
    "no posting with an id": (
        "p.json",
        '[5, {"id": "", "title": "t", "description": "d"}]',
        NoPostings,
        "No posting of .* can be taken; posting 1: it is not an object",
    ),
    "keys of others": (
        "p.json",
        '[{"nr": 1, "name": "t"}, {"nr": 2, "text": "d"}]',
        MissingColumns,
        "no column for id, title, description. It has: nr, name, text. Say which is which, for example: --map id=nr",
    ),
    "a misspelt key": (
        "p.jsonl",
        '{"id": 1, "title": "t", "descripton": "d"}',
        MissingColumns,
        "no column for description. It has: id, title, descripton. Say .*: --map description=descripton",
    ),
    "no byte": ("p.csv", "", UnreadableFile, "it is empty"),
    "no line": ("p.jsonl", " \n\n", UnreadableFile, "it is empty"),
    "no text": ("p.json", "\n", UnreadableFile, "it is empty"),
    "only a mark": ("p.json", b"\xef\xbb\xbf", UnreadableFile, "it is empty"),
    "an unknown kind": ("p.xlsx", "PK", UnreadableFile, r"its name ends in none of \.csv, \.jsonl, \.ndjson, \.json"),
    "an id twice": (
        "p.jsonl",
        GOOD + '{"id": " 7 ", "title": "t"}\n',
        UsageError,
        "the id 7 stands on lines 8 and 1101",
    ),
    "an id twice in JSON": (
        "p.json",
        '[{"id": 7, "title": "t"},\n\n{"id": 7, "title": "t"}]',
        UsageError,
        "the id 7 stands on postings 1 and 2",
    ),
    "an id twice in a CSV": (
        "p.csv",
        "id,title,description\n1,a,x\n1,b,y\n",
        UsageError,
        "the id 1 stands on lines 2 and 3",
    ),
}


@pytest.mark.parametrize(("name", "text", "error", "reason"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_that_cannot_be_read_to_its_end_changes_nothing(
    sqlite: Database, tmp_path: Path, name: str, text: str, error: type[UsageError], reason: str, dry_run: bool
) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(error, match=reason) as refused:
        load(sqlite, path, dry_run=dry_run)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert count_of_everything(sqlite) == (0, 0)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are none here")
def test_a_pipe_is_not_waited_for(sqlite: Database, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UnreadableFile, match=r"pipe\.csv cannot be read: it is no regular file"):
        load(sqlite, tmp_path / "pipe.csv")


def test_a_file_that_is_not_there_is_named(sqlite: Database, tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"gone\.csv cannot be read: No such file or directory\."):
        load(sqlite, tmp_path / "gone.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    with pytest.raises(UnreadableFile, match=r"folder\.csv cannot be read: Is a directory\."):
        load(sqlite, folder)


def test_missing_columns_are_named_with_those_that_are_there(sqlite: Database, tmp_path: Path) -> None:
    path = written(tmp_path, "p.csv", "job_id,job_title,description\n1,t,x\n")
    with pytest.raises(MissingColumns) as refused:
        load(sqlite, path)
    assert str(refused.value) == (
        f"{path} has no column for id, title. It has: job_id, job_title, description. "
        "Say which is which, for example: --map id=job_id"
    )
    with pytest.raises(MissingColumns, match="has no column for company"):
        load(sqlite, path, "id=job_id", "title=job_title", "company=firm")


@pytest.mark.parametrize("pair", ["titel=job_title", "title", "title=", "=job_title"])
def test_a_map_that_maps_nothing_is_refused(pair: str) -> None:
    with pytest.raises(UsageError, match=f"--map {pair} is not OURS=THEIRS with one of ours: id, title, description"):
        read_map([pair])


# -- what an import does ----------------------------------------------------------------------------------------------


def test_an_import_stores_postings_and_requests_each(database: Database, tmp_path: Path) -> None:
    report = load(database, write(tmp_path, "csv", ROWS))
    assert report.counts == {"added": 3}
    assert [row["title"] for row in stored(database).values()] == [row["title"] for row in ROWS]
    requests = whole_log(database)
    assert [(one.stream_id, one.type, one.facts["why"]) for one in requests] == [
        (f"job-a-{number}", "EnrichmentRequested", "new") for number in (1, 2, 3)
    ]
    assert [one.facts["input_hash"] for one in requests] == [row["input_hash"] for row in stored(database).values()]


def test_the_same_file_again_changes_nothing(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path, "json", ROWS)
    load(database, path)
    before = stored(database), whole_log(database)
    assert load(database, path).counts == {"unchanged": 3}
    assert (stored(database), whole_log(database)) == before


def test_a_changed_posting_is_stored_and_requested_again(database: Database, tmp_path: Path) -> None:
    load(database, write(tmp_path, "json", ROWS))
    changed = [{**ROWS[0], "description": "Now in Go."}, *ROWS[1:], {"id": "a-4", "title": "New", "description": "x"}]
    assert load(database, write(tmp_path, "json", changed)).counts == {"changed": 1, "unchanged": 2, "added": 1}
    assert stored(database)["a-1"]["description"] == "Now in Go."
    last = whole_log(database)[3:]
    assert sorted((one.stream_id, one.facts["why"]) for one in last) == [("job-a-1", "changed"), ("job-a-4", "new")]


def test_a_dry_run_says_the_same_and_changes_nothing(database: Database, tmp_path: Path) -> None:
    load(database, write(tmp_path, "json", ROWS[:2]))
    before = count_of_everything(database)
    changed = [{**ROWS[0], "title": "Other"}, *ROWS[1:]]
    path = write(tmp_path, "json", changed)
    dry = load(database, path, dry_run=True)
    assert count_of_everything(database) == before
    assert dry.counts == load(database, path).counts == {"changed": 1, "unchanged": 1, "added": 1}


def test_two_imports_of_one_file_are_alike(files: Any, tmp_path: Path) -> None:
    def told() -> list[tuple[Any, ...]]:
        database = Database(files.migrated())
        load(database, SAMPLES)
        events = whole_log(database)
        database.close()
        return [(one.position, one.event_id, one.stream_id, one.facts["input_hash"]) for one in events]

    assert told() == told()


def test_a_posting_is_requested_for_each_enrichment(database: Database, tmp_path: Path) -> None:
    import_file(database, write(tmp_path, "csv", ROWS), {}, ["job", "pay"], "tests")
    requests = of_type(database, "EnrichmentRequested")
    assert sorted(one.stream_id for one in requests) == [f"{kind}-a-{n}" for kind in ("job", "pay") for n in (1, 2, 3)]


def test_our_samples_are_what_the_readme_promises(sqlite: Database) -> None:
    assert load(sqlite, SAMPLES).counts == {"added": 44}
    rows = list(stored(sqlite).values())
    assert ("Artificial Intelligence Engineer", "Randstad Digital Belgium") in [
        (r["title"], r["company"]) for r in rows
    ]
    assert ("Senior Data Scientist", "Acme Corp") in [(r["title"], r["company"]) for r in rows]
    assert sum(not row["description"].strip() for row in rows) == 1
    assert max(len(row["description"]) for row in rows) >= 15_000
    assert any("<p>" in row["description"] or "<li>" in row["description"] for row in rows)


# -- real input -------------------------------------------------------------------------------------------------------

OWN_NAMES = ("id=job_id", "title=job_title", "company=company_name", "location=location_text", "url=job_url",
             "description=job_description_text")  # fmt: skip

if TEST_DATA is not None:
    DATA = TEST_DATA

    def test_a_csv_with_column_names_of_its_own_imports_with_a_map(database: Database) -> None:
        path = DATA / "postings_original.csv"
        with pytest.raises(MissingColumns, match="has no column for id, title, description"):
            load(database, path)
        report = load(database, path, *OWN_NAMES)
        assert (report.counts, report.rejected) == ({"added": 60}, [])
        with path.open(encoding="utf-8-sig", newline="") as file:
            theirs = {row["job_id"]: row for row in csv.DictReader(file)}
        ours = stored(database)
        assert {key: (row["title"], row["description"]) for key, row in ours.items()} == {
            key: (row["job_title"].strip(), row["job_description_text"]) for key, row in theirs.items()
        }

    def test_a_malformed_file_fails_with_its_place_and_changes_nothing(database: Database) -> None:
        with pytest.raises(MalformedFile) as refused:
            load(database, DATA / "postings_malformed.json", "title=vacatureTitel")
        assert re.search(r"is not valid JSON: line 17[78], column \d+: ", str(refused.value))
        assert count_of_everything(database) == (0, 0)

    def test_real_postings_are_stored_as_they_are(database: Database) -> None:
        assert load(database, DATA / "postings.jsonl").counts == {"added": 651}
        ours = stored(database)
        for row in real_rows("postings.jsonl"):
            kept = ours[row["id"]]
            assert {name: kept[name] for name in row} == {**row, "title": row["title"].strip()}
