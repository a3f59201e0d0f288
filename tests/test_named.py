"""Postings that are named to `enrich`: which are left, why, what takes them all the same, and the exit code."""

import pytest

from eventlog.database import Database
from eventlog.events import Event
from tests.builders import dismissed, failed, started, succeeded, tell
from tests.command_line import Command
from tests.service import import_postings, posting

FORCE = "Nothing was tried. To take them all the same: enrichlog enrich JOB_ID --force"


@pytest.fixture
def named(enrichlog: Command, database: Database) -> Command:
    """A posting for each reason to be left."""
    refused = failed(error_type="refusal", retryable=False, wait_ms=None)
    events: dict[str, list[Event]] = {
        "done": [started(), succeeded()], "flying": [started()], "left": [dismissed()], "final": [started(), refused],
        "used": [one for number in range(1, 6) for one in (started(number), failed(number, wait_ms=0))],
    }  # fmt: skip
    for job_id, told in events.items():
        import_postings(database, posting(job_id))
        tell(database, f"job-{job_id}", *told)
    return enrichlog


@pytest.mark.parametrize(
    ("job_id", "code", "advice"),
    [
        ("done", 0, FORCE), ("final", 1, FORCE), ("used", 1, FORCE), ("flying", 1, "Nothing was tried."),
        ("left", 1, "Nothing was tried."),
    ],
)  # fmt: skip
def test_a_posting_that_is_left_ends_with_1_unless_it_is_done_and_has_one_advice(
    named: Command, job_id: str, code: int, advice: str
) -> None:
    said = named("enrich", job_id)
    lines = said.out.splitlines()
    assert (said.code, len(lines), lines[1]) == (code, 2, advice)
    assert lines[0].startswith(f"{job_id} was left: ")
    assert named("enrich", job_id, "--json").code == code


def test_where_anything_is_tried_the_others_are_no_error(named: Command, database: Database) -> None:
    import_postings(database, posting("new"))
    assert named("enrich", "left", "new").code == 0


def test_a_dismissed_posting_says_both_ways(named: Command) -> None:
    told = named("enrich", "left").out.splitlines()[0].removeprefix("left was left: it was dismissed; to try it all ")
    assert told == "the same: enrichlog requeue JOB_ID --reason TEXT, or give --force"
    assert named("enrich", "left", "--force").code == 0


def test_a_dry_run_says_what_would_be_left_and_why(named: Command, database: Database) -> None:
    assert named.done("enrich", "done", "--dry-run").out.splitlines() == [
        "done was left: already enriched", "Nothing would be tried.",
    ]  # fmt: skip
    import_postings(database, posting("new"))
    lines = named.done("enrich", "flying", "new", "--dry-run").out.splitlines()
    assert lines[0] == "flying was left: an attempt is in flight"
    assert lines[1].startswith("Would take 1 posting; ")
