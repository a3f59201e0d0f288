"""A report as of a position is what that report said when the log ended there; as of a time, by what was recorded."""

import io
import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from random import Random
from typing import Any, NamedTuple, TextIO

import pytest

from enrichlog import as_of_reports, as_of_results, reports
from enrichlog.as_of import AsOf, as_of
from enrichlog.exceptions import BeforeTheLog, BeyondTheHead, EmptyLog, NoPosition, UnknownJob, YetToCome
from enrichlog.export import export_events, export_results
from enrichlog.retry import DEFAULT_MAX_ATTEMPTS
from enrichlog.selection import Selection
from eventlog import category
from eventlog.database import Database
from eventlog.events import iso
from eventlog.position import last_by
from projections.enrichment_status import enrichment_status
from tests.builders import (
    NOON,
    StoppedClock,
    dismissed,
    erased,
    failed,
    offer,
    proposal,
    reclassified,
    requested,
    started,
    succeeded,
    tell,
)
from tests.command_line import Command, contents
from tests.forging import forge
from tests.service import import_postings, posting, whole_log
from tests.test_histories import event_of

OF_RUNNING = ("fail", "fail", "defer", "give up", "succeed", "succeed", "changed", "retry")
OF_OTHERS = (
    "start", "start", "start", "start", "late", "retry", "force", "changed", "requeue", "dismiss", "reclassify",
    "erase", "retry in a batch", "cancel the batch",
)  # fmt: skip
JOBS = ("job-1", "job-2", "job-10", "job-é", "brief-1")
SELECTIONS = (Selection(), Selection(("timeout",), since=NOON + timedelta(minutes=1)), Selection(model="model-0"))
REPORTS = [["status"], ["errors"], ["failed"], ["history", "1"]]


class Told(NamedTuple):
    """What all reports say at one moment."""

    status: Any
    errors: Any
    failed: list[Any]
    histories: list[Any]
    results: list[str]
    events: list[str]


def lines(write: Callable[[TextIO], int]) -> list[str]:
    out = io.StringIO()
    assert write(out) == len(out.getvalue().splitlines())
    return [json.loads(line) for line in out.getvalue().splitlines()]


def live(database: Database) -> Told:
    """What they say of now; without what no event explains."""
    status = reports.status(database, "job")
    del status["projection_failed"]
    return Told(
        status,
        reports.errors(database, "job"),
        [reports.failed(database, "job", one, 2, DEFAULT_MAX_ATTEMPTS) for one in SELECTIONS],
        [reports.history(database, "job", job_id) for job_id in ("1", "2")],
        lines(lambda out: export_results(database, "job", (), "jsonl", out)),
        lines(lambda out: export_events(database, "jsonl", out)),
    )


def past(database: Database, at: AsOf) -> Told:
    """What they say as of a position."""
    return Told(
        as_of_reports.status(database, "job", at),
        as_of_reports.errors(database, "job", at),
        [as_of_reports.failed(database, "job", one, 2, DEFAULT_MAX_ATTEMPTS, at) for one in SELECTIONS],
        [as_of_reports.history(database, "job", job_id, at) for job_id in ("1", "2")],
        lines(lambda out: export_results(database, "job", (), "jsonl", out, at)),
        lines(lambda out: export_events(database, "jsonl", out, at)),
    )


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few events are several pages."""
    for module, name in (
        (as_of_reports, "walk_events"),
        (as_of_reports, "walk_streams"),
        (as_of_results, "walk_events"),
    ):
        monkeypatch.setattr(module, name, partial(getattr(category, name), page=3))
    for module in (as_of_reports, as_of_results):
        monkeypatch.setattr(module, "STREAMS_PER_PAGE", 2)


def live_on(database: Database, clock: StoppedClock, acts: int) -> Iterator[int]:
    """Do things to postings, and yield the head after each append; the clock is set back now and then."""
    random = Random(7)
    import_postings(database, posting("1", company="Acme"), posting("2"))
    for job in JOBS:
        offer(database, proposal(job, requested()))
    for _ in range(acts):
        job = random.choice(JOBS)
        clock.advance(seconds=random.choice([0, 1, 20, 90, -45]))
        (row,) = database.page(enrichment_status.select().where(enrichment_status.c.stream_id == job))
        act = random.choice(OF_RUNNING if row.state == "running" else OF_OTHERS)
        facts = {"input_tokens": random.randrange(9), "cost_microdollars": random.randrange(9)}
        offer(database, proposal(job, event_of(act, row.attempts, facts)))
        yield reports.status(database, "job")["position"]


def test_as_of_each_position_reports_are_what_they_were_then(
    timed: Database, clock: StoppedClock, small_pages: None
) -> None:
    said = {head: live(timed) for head in live_on(timed, clock, acts=32)}
    assert len(said) > 18
    for head, then in said.items():
        assert past(timed, as_of(timed, head)) == then
    assert past(timed, as_of(timed, None)) == live(timed)
    assert len({json.dumps(then.status, default=str) for then in said.values()}) > 10
    assert max(len(then.results) for then in said.values()) > 1
    assert all(any(then.failed[number].total for then in said.values()) for number in range(len(SELECTIONS)))


def test_as_of_a_time_is_all_up_to_the_last_position_recorded_by_then(
    timed: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(live_on(timed, clock, acts=30))
    log = whole_log(timed)
    times = [event.recorded_at for event in log]
    assert times != sorted(times)  # the clock was set back
    for rows_together in (None, 1, 7):
        monkeypatch.setattr(timed.dialect, "rows_together", rows_together)
        for moment in {*times, *(time + timedelta(microseconds=1) for time in times), NOON - timedelta(days=1)}:
            expected = max((event.position for event in log if event.recorded_at <= moment), default=0)
            assert last_by(timed, moment) == expected


def test_a_clock_that_was_set_back_leaves_no_hole_in_what_is_told(timed: Database, clock: StoppedClock) -> None:
    tell(timed, "job-1", requested())
    clock.advance(hours=2)
    tell(timed, "job-1", started())
    clock.advance(hours=-1)
    tell(timed, "job-1", succeeded())
    clock.advance(hours=5)
    found = as_of(timed, NOON + timedelta(hours=1))
    assert found == AsOf(3, NOON + timedelta(hours=1))
    assert as_of_reports.status(timed, "job", found)["postings"]["succeeded"] == 1


def test_a_verdict_is_that_of_the_moment_and_not_of_now(timed: Database, clock: StoppedClock) -> None:
    tell(timed, "job-1", requested(), started(), failed())
    clock.advance(days=300)
    tell(timed, "job-1", reclassified())
    at = as_of(timed, 3)
    row = as_of_reports.failed(timed, "job", Selection(), 5, DEFAULT_MAX_ATTEMPTS, at).rows[0]
    assert (row["error_type"], row["retryable"], row["retry_at"]) == (
        "timeout",
        True,
        iso(NOON + timedelta(seconds=30)),
    )
    now = reports.failed(timed, "job", Selection(), 5, DEFAULT_MAX_ATTEMPTS).rows[0]
    assert (now["error_type"], now["retryable"]) == ("refusal", False)


def test_erased_content_is_told_as_the_events_have_it(timed: Database) -> None:
    tell(timed, "job-1", requested(), started(), failed(), erased(), dismissed(), requested("force"), started(2))
    tell(timed, "job-1", failed(2, message=None))
    page = as_of_reports.failed(timed, "job", Selection(), 5, DEFAULT_MAX_ATTEMPTS, as_of(timed, 4))
    assert page.rows[0]["error"] == "content erased"
    page = as_of_reports.failed(timed, "job", Selection(), 5, DEFAULT_MAX_ATTEMPTS, as_of(timed, 8))
    assert page.rows[0]["error"] == "timeout"


def test_a_posting_that_began_later_has_no_events_yet_and_an_unknown_one_is_unknown(database: Database) -> None:
    tell(database, "job-1", requested())
    tell(database, "job-2", requested())
    first = as_of(database, 1)
    assert as_of_reports.history(database, "job", "2", first) == {"job_id": "2", "events": []}
    with pytest.raises(UnknownJob):
        as_of_reports.history(database, "job", "3", first)


def test_what_is_no_place_in_the_log_is_refused(timed: Database, clock: StoppedClock) -> None:
    with pytest.raises(EmptyLog):
        as_of(timed, 1)
    with pytest.raises(EmptyLog):
        as_of(timed, NOON)
    tell(timed, "job-1", requested(), started())
    cases: list[tuple[int | datetime, type[Exception], str]] = [
        (0, NoPosition, "positions go from 1 to 2"),
        (-4, NoPosition, "There is no position -4"),
        (3, BeyondTheHead, "the log ends at position 2"),
        (NOON + timedelta(seconds=1), YetToCome, "2024-01-01 12:00:01 UTC is yet to come"),
        (NOON - timedelta(seconds=1), BeforeTheLog, "the log begins at 2024-01-01 12:00:00 UTC"),
    ]
    for asked, error, cause in cases:
        with pytest.raises(error, match=cause):
            as_of(timed, asked)


# -- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def old(timed: Database, clock: StoppedClock) -> Database:
    """Three postings of which one failed and one succeeded at noon, and that changed an hour later."""
    import_postings(timed, posting("1", company="Acme"), posting("2"), posting("3"))
    tell(timed, "job-1", started(), failed(input_tokens=7))
    tell(timed, "job-2", started(), succeeded(result={"note": "first"}))
    clock.advance(hours=1)
    tell(timed, "job-1", requested("retry"), started(2), succeeded(2))
    tell(timed, "job-2", requested("force"), started(2), failed(2, error_type="refusal", retryable=False))
    return timed


@pytest.mark.parametrize("place", ["7", "2024-01-01T12:30", "2024-01-01T13:30+01:00", "2024-01-01 12:00:00 UTC"])
def test_a_position_and_a_time_give_the_same_document(enrichlog: Command, old: Database, place: str) -> None:
    before = contents(old)
    at = {"position": 7, "recorded_at": iso(NOON)}
    document = enrichlog.json("status", "--as-of", place)
    assert (document["as_of"], document["position"], document["input_tokens"]) == (at, 7, 7)
    assert document["postings"] == {"pending": 1, "running": 0, "succeeded": 1, "failed": 1, "dismissed": 0}
    assert {"workers", "limits", "outdated", "held_by", "projection_failed"}.isdisjoint(document)
    errors = enrichlog.json("errors", "--as-of", place)
    assert (errors["as_of"], [(row["error_type"], row["count"]) for row in errors["errors"]]) == (at, [("timeout", 1)])
    found = enrichlog.json("failed", "--as-of", place)
    assert (found["as_of"], found["total"], found["of_today"]) == (at, 1, ["title", "company"])
    assert found["failed"][0]["error"] == "Request timeout after 300 seconds"
    history = enrichlog.json("history", "2", "--as-of", place)
    assert (history["as_of"], [event["version"] for event in history["events"]]) == (at, [1, 2, 3])
    assert contents(old) == before


def test_as_of_the_head_the_document_has_what_the_live_one_has(enrichlog: Command, old: Database) -> None:
    place = ("--as-of", "13")
    then, now = enrichlog.json("status", *place), enrichlog.json("status")
    assert {name: now[name] for name in then if name != "as_of"} == {
        name: value for name, value in then.items() if name != "as_of"
    }
    assert enrichlog.json("errors", *place)["errors"] == enrichlog.json("errors")
    assert enrichlog.json("failed", *place)["failed"] == enrichlog.json("failed") != []
    assert enrichlog.json("history", "1", *place)["events"] == enrichlog.json("history", "1")["events"]
    for what in ("results", "events"):
        for form in ("jsonl", "csv"):
            words = ("export", what, "--format", form)
            assert enrichlog.done(*words, *place).out == enrichlog.done(*words).out != ""


def test_people_are_told_as_of_when_and_what_is_of_today(enrichlog: Command, old: Database) -> None:
    moment = "s of position 7, 2024-01-01 12:00:00 UTC"
    for words in REPORTS:
        said = enrichlog.done(*words, "--as-of", "7")
        assert moment in said.out.splitlines()[0]
    assert "titles and companies are those of today" in enrichlog.done("failed", "--as-of", "7").out
    assert "Postings: 1 pending, 0 running, 1 succeeded, 1 failed" in enrichlog.done("status", "--as-of", "7").out


def test_an_export_of_then_says_as_of_when(enrichlog: Command, old: Database) -> None:
    said = enrichlog.done("export", "results", "--as-of", "7")
    assert [json.loads(line)["result"] for line in said.out.splitlines()] == [{"note": "first"}]
    assert said.err == "1 result, as of position 7, 2024-01-01 12:00:00 UTC\n"
    document = enrichlog.json("export", "events", "--as-of", "12h", "--output", "log.jsonl")
    assert (document["count"], document["as_of"]["position"]) == (13, 13)


def test_a_breaker_that_is_open_now_is_no_matter_of_then(enrichlog: Command, old: Database) -> None:
    enrichlog.done("breaker", "open", "--reason", "moving", "--for", "2h")
    assert enrichlog.done("errors").err != ""
    assert enrichlog.done("errors", "--as-of", "7").err == ""


WRONG = {
    "14": (2, "There is no position 14 yet: the log ends at position 13. Name one up to there, or a time"),
    "20240101": (2, "a number alone is a position; a date is written 2026-01-31"),
    "0": (2, "There is no position 0: positions go from 1 to 13, where the log ends."),
    "-3": (2, "There is no position -3: positions go from 1 to 13"),
    "2023-12-31": (2, "Nothing was recorded by 2023-12-31 00:00:00 UTC: the log begins at 2024-01-01 12:00:00 UTC"),
    "9000-01-01": (2, "9000-01-01 00:00:00 UTC is yet to come: the database's clock says 2"),
    "soon": (2, "'soon' is neither a position nor a time: write 1204 for a position, or 2026-01-31, 2026-01-31T08"),
    "": (2, "'' is neither a position nor a time"),
    "1" * 5_000: (2, "1111111111111111111… is no position: no log is that long"),
    "7.5": (2, "'7.5' is neither a position nor a time"),
}


def test_what_is_no_place_in_the_log_is_told_in_one_line(enrichlog: Command, old: Database) -> None:
    before = contents(old)
    for place, (code, cause) in WRONG.items():
        said = enrichlog("status", "--as-of", place)
        assert (said.code, said.out, cause in said.error) == (code, "", True), said.err
    for words in [*REPORTS, ["export", "results"], ["export", "events"], ["why", "1"], ["diff", "--from", "1", "--to"]]:
        flag = [] if words[0] == "diff" else ["--as-of"]
        assert "the log ends at position 13" in enrichlog(*words, *flag, "14").error
    assert contents(old) == before


def test_an_export_to_a_file_that_cannot_be_made_as_of_then_leaves_the_file(
    enrichlog: Command, old: Database, bare: Any
) -> None:
    (bare / "kept.jsonl").write_text("kept")
    assert enrichlog("export", "events", "--as-of", "99", "--output", "kept.jsonl").code == 2
    assert (bare / "kept.jsonl").read_text() == "kept"


def test_an_empty_log_has_nothing_to_look_back_on(enrichlog: Command) -> None:
    said = enrichlog("status", "--as-of", "1")
    assert (said.code, said.out) == (1, "")
    assert said.error.startswith(
        "Error: The log is empty: there is nothing to look back on. Postings come in with: enr"
    )


def test_an_event_that_cannot_be_read_stops_the_fold_with_its_position(enrichlog: Command, old: Database) -> None:
    forge(old, 5, type="EnrichmentDreamt")
    assert "EnrichmentDreamt version 1 at position 5" in enrichlog("status", "--as-of", "7").error
    assert enrichlog.json("status", "--as-of", "4")["position"] == 4
