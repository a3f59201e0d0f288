"""Real postings, and our own: all of them import and enrich on both databases, and the log agrees with the server."""

from pathlib import Path

import pytest

from enrichlog.posting_files import import_file
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Rule, Script, Simulator
from eventlog.database import Database
from eventlog.integrity import verify_log
from tests.builders import run
from tests.drift import drift_of
from tests.service import SAMPLES, TEST_DATA, ends_of, enrich, error_types, whole_log

FILES = {"ours": SAMPLES, **({"real": TEST_DATA / "postings.jsonl"} if TEST_DATA else {})}


@pytest.fixture(params=list(FILES.values()), ids=list(FILES))
def postings(request: pytest.FixtureRequest) -> Path:
    """A file of postings."""
    path: Path = request.param
    return path


def test_all_postings_import_and_enrich(
    database: Database, simulator: Simulator, service: Settings, postings: Path
) -> None:
    many = configure(concurrency=32)
    found = import_file(database, postings, {}, ["job"], "tests")
    count = found.counts["added"]
    assert (count, found.rejected) == (len(postings.read_text("utf-8").splitlines()), [])
    empty = run(database, "SELECT id FROM job_postings WHERE trim(description) = ''")

    done = enrich(database, many)
    assert (done.succeeded, done.errors, done.stopped) == (count - len(empty), {"input_error": len(empty)}, None)
    assert len(simulator.journal) == done.succeeded
    assert {len(ends) for ends in ends_of(database).values()} == {1}
    assert len(whole_log(database)) == 3 * count  # requested, started, ended
    assert enrich(database, many).done == 0

    titles = "SELECT count(*) AS n FROM llm_enrichment WHERE result IS NOT NULL AND enrichment_error IS NULL"
    assert run(database, titles)[0]["n"] == done.succeeded
    assert verify_log(database).faults == []
    assert drift_of(database) == 0


def test_a_bad_night_over_all_postings_ends_well(
    sqlite: Database, simulator: Simulator, service: Settings, postings: Path
) -> None:
    often = [("a", "bad_gateway"), ("e", "rate_limit"), ("i", "reset"), ("o", "empty"), ("u", "truncated_json")]
    rules = [Rule(f"Title: {letter.upper()}", (fault, "ok")) for letter, fault in often]
    simulator.play(Script(rules=[*rules, Rule("Engineer", ("invalid_json", "server_error", "ok"))], retry_after=0.0))
    many = configure(concurrency=32, backoff_base_seconds=0.001)
    import_file(sqlite, postings, {}, ["job"], "tests")
    runs = [enrich(sqlite, many) for _ in range(4)]
    assert runs[0].failed > runs[-1].failed
    failing = run(sqlite, "SELECT job_posting_id FROM llm_enrichment WHERE enrichment_error IS NOT NULL")
    empty = run(sqlite, "SELECT id FROM job_postings WHERE trim(description) = ''")
    assert {row["job_posting_id"] for row in failing} == {row["id"] for row in empty}
    assert sum(error_types(sqlite).values()) == sum(each.failed for each in runs)
    assert len(simulator.journal) == sum(each.done for each in runs) - len(empty)
    assert {len(ends) for ends in ends_of(sqlite).values()} == {1}
    assert verify_log(sqlite).faults == []
