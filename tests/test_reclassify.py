"""Reclassify: today's rules applied to the failures that postings ended with; the log grows, and is never changed."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from enrichlog import reclassify as module
from enrichlog.errors import ERROR_TYPES
from enrichlog.reclassify import Reclassification, count_failed, reclassify
from enrichlog.retry import wait_ms
from enrichlog.settings import Settings, configure
from eventlog.database import Database
from eventlog.events import BreakerSet, Event
from tests.builders import (
    NOON,
    dismissed,
    failed,
    offer,
    proposal,
    requested,
    run,
    shown,
    started,
    status,
    succeeded,
    tell,
)
from tests.command_line import Command, contents
from tests.drift import drift_of
from tests.service import of_type

CODES = {"wallet_empty": "quota_exceeded"}
WALLET: dict[str, Any] = {
    "error_type": "rate_limited", "fault": "ours", "counts": False, "http_status": 429, "error_code": "wallet_empty",
    "message": "Error code: 429 - Your wallet is empty.",
}  # fmt: skip
COUNTED = {
    **WALLET,
    "error_type": "bad_request",
    "fault": "posting",
    "counts": True,
    "retryable": False,
    "wait_ms": None,
}


@pytest.fixture
def rules(bare: Path) -> Settings:
    """Settings under which `wallet_empty` is the code of an exhausted quota."""
    return configure(error_codes=CODES)


def fail(database: Database, job_id: str, **facts: Any) -> None:
    tell(database, f"job-{job_id}", requested(), started(), failed(**facts))


def read_all(database: Database, settings: Settings, *, dry_run: bool = False) -> Reclassification:
    return reclassify(database, settings, "job", dry_run=dry_run)


def is_sound(database: Database) -> bool:
    """Whether a rebuild would change nothing."""
    return not drift_of(database)


def test_a_failure_is_read_by_todays_rules_and_the_read_models_move_with_it(timed: Database, rules: Settings) -> None:
    fail(timed, "1", **COUNTED)
    before, told = status(timed, "job-1"), shown(timed, "job-1")
    found = read_all(timed, rules)
    after = status(timed, "job-1")
    assert (before["error_type"], before["retryable"], before["budget_used"], before["due_at"]) == (
        "bad_request", False, 1, None
    )  # fmt: skip
    assert (after["error_type"], after["retryable"], after["budget_used"], after["due_at"]) == (
        "quota_exceeded", True, 0, NOON
    )  # fmt: skip
    assert after["failures"] == before["failures"]
    assert shown(timed, "job-1") == told  # the message is what was said, whatever it is called
    (event,) = of_type(timed, "FailureReclassified")
    assert (event.version, event.facts["previous_error_type"], event.facts["error_type"]) == (
        4, "bad_request", "quota_exceeded"
    )  # fmt: skip
    assert event.facts["actor"]
    (difference,) = found.differences
    assert (difference.count, difference.job_ids) == (1, ["1"])
    assert difference.changes == {"retryable": (False, True), "counts": (True, False)}
    assert is_sound(timed)


def test_a_second_time_nothing_is_different(database: Database, rules: Settings) -> None:
    fail(database, "1", **COUNTED)
    fail(database, "2", **WALLET)
    assert read_all(database, rules).count == 2
    again = read_all(database, rules)
    assert (again.examined, again.count) == (2, 0)
    assert len(of_type(database, "FailureReclassified")) == 2


def test_rules_that_are_taken_back_are_taken_back_here_too(database: Database, rules: Settings) -> None:
    fail(database, "1", **WALLET)
    read_all(database, rules)
    found = read_all(database, Settings())
    assert [(one.previous_error_type, one.error_type) for one in found.differences] == [
        ("quota_exceeded", "rate_limited")
    ]
    assert is_sound(database)


def test_another_type_is_due_as_if_it_had_been_recognised_at_once(timed: Database, bare: Path) -> None:
    tell(timed, "job-1", requested(), started(), failed(), started(2), failed(2, http_status=503))
    read_all(timed, configure())
    row, kind = status(timed, "job-1"), ERROR_TYPES["server_error"]
    assert row["due_at"] == NOON + timedelta(milliseconds=wait_ms(kind, "job-1", 2))
    assert (row["deferrals"], row["max_deferrals"]) == (1, 20)


def test_only_the_last_failure_is_judged_anew(database: Database, rules: Settings) -> None:
    tell(
        database,
        "job-1",
        requested(),
        started(),
        failed(**COUNTED | {"retryable": True}),
        started(2),
        failed(2, **COUNTED),
    )
    read_all(database, rules)
    assert status(database, "job-1")["budget_used"] == 1
    assert [event.facts["attempt_id"] for event in of_type(database, "FailureReclassified")] == ["attempt-2"]


@pytest.mark.parametrize(
    "since", [[requested("retry")], [started(2)], [dismissed()], [started(2), succeeded(2)]],
    ids=["requested again", "running", "dismissed", "succeeded"],
)  # fmt: skip
def test_what_is_not_failed_now_is_left_alone(database: Database, rules: Settings, since: list[Event]) -> None:
    fail(database, "1", **WALLET)
    tell(database, "job-1", *since)
    assert (count_failed(database, "job"), read_all(database, rules).examined) == (0, 0)


def test_a_posting_that_moved_on_meanwhile_is_reported_and_not_overwritten(
    database: Database, rules: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in ("1", "2"):
        fail(database, job_id, **WALLET)
    append = module._append

    def append_late(database: Database, reread: Any) -> set[str]:
        tell(database, "job-1", requested("retry"))
        return append(database, reread)

    monkeypatch.setattr(module, "_append", append_late)
    found = read_all(database, rules)
    assert (found.moved_on, found.count) == (["1"], 1)
    assert (status(database, "job-1")["error_type"], status(database, "job-2")["error_type"]) == (
        "rate_limited", "quota_exceeded"
    )  # fmt: skip


def test_it_goes_through_all_of_one_enrichment_in_pages(
    database: Database, rules: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for job_id in "abcde":
        fail(database, job_id, **WALLET)
    tell(database, "brief-a", requested(), started(), failed(**WALLET))
    pages: list[int] = []
    found = reclassify(database, rules, "job", dry_run=False, examples=3, progress=pages.append)
    assert (found.examined, found.count, pages) == (5, 5, [2, 2, 1])
    assert found.differences[0].job_ids == ["a", "b", "c"]
    assert status(database, "brief-a")["error_type"] == "rate_limited"


def test_the_differences_of_most_postings_come_first(database: Database, rules: Settings) -> None:
    for job_id, facts in (("a", {"error_type": "other", "http_status": 402}), ("b", WALLET), ("c", WALLET)):
        fail(database, job_id, **facts)
    found = read_all(database, rules)
    assert [(one.previous_error_type, one.count) for one in found.differences] == [("rate_limited", 2), ("other", 1)]


@pytest.mark.parametrize("state", ["open", "closed"])
def test_a_failure_of_an_outage_is_not_counted_afterwards(database: Database, bare: Path, state: str) -> None:
    names: dict[str, Any] = {"endpoint": "https://api.test/v1", "request_model": "model-1", "credential": "c"}
    verdict = {"error_type": "server_error", "counts": False, "max_deferrals": 20}
    deferred: dict[str, Any] = {**names, **verdict, "http_status": 503, "error_code": "slow_down"}
    tell(database, "job-1", requested(), started(**names))
    offer(database, proposal("$breaker-x", BreakerSet(**names, state=state, actor="tests")))
    tell(database, "job-1", failed(**deferred, started_position=99))  # since the breaker was set
    breakers = run(database, "SELECT * FROM {ours}breaker")
    found = read_all(database, configure(error_codes={"slow_down": "timeout"}))
    assert (found.count, status(database, "job-1")["error_type"]) == (1, "timeout")
    assert status(database, "job-1")["budget_used"] == (1 if state == "closed" else 0)
    assert run(database, "SELECT * FROM {ours}breaker") == breakers
    assert is_sound(database)


# -- as typed ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(enrichlog: Command, database: Database, bare: Path) -> Command:
    """Four postings whose code means more today, and one that is read the same."""
    (bare / "enrichlog.toml").write_text('[error_codes]\nwallet_empty = "quota_exceeded"\n')
    for job_id in "abcd":
        fail(database, job_id, **COUNTED)
    fail(database, "e")
    return enrichlog


def test_a_dry_run_shows_the_difference_and_records_nothing(typed: Command, database: Database) -> None:
    before = contents(database)
    said = typed("reclassify", "--dry-run")
    assert (said.code, said.err) == (3, "")
    names, row, summary = said.out.splitlines()
    assert names.split()[:4] == ["Error", "type", "Today", "Postings"]
    assert row.split()[:3] == ["bad_request", "quota_exceeded", "4"]
    assert "retryable no → yes, counts yes → no" in row
    assert row.endswith("a, b, c, …")
    assert summary == (
        "5 failed postings: 4 are read differently today. Nothing was recorded; that does: enrichlog reclassify"
    )
    assert contents(database) == before


def test_it_is_recorded_and_told(typed: Command) -> None:
    said = typed.done("reclassify").out
    assert said.endswith("5 failed postings: 4 are read differently now. See: enrichlog errors\n")
    assert "bad_request → quota_exceeded, by" in typed.done("history", "a").out
    assert {row["error_type"]: row["count"] for row in typed.json("errors")} == {"quota_exceeded": 4, "timeout": 1}
    assert typed.done("reclassify", "--dry-run").out == "5 failed postings: today's rules read them all the same.\n"
    assert typed.done("verify").out.endswith("Sound.\n")


def test_a_document_names_every_posting(typed: Command) -> None:
    said = typed("reclassify", "--dry-run", "--json")
    assert (said.code, said.err) == (3, "")
    (difference,) = said.document.pop("differences")
    assert difference == {
        "previous_error_type": "bad_request", "error_type": "quota_exceeded", "count": 4,
        "changes": {"retryable": [False, True], "counts": [True, False]}, "job_ids": ["a", "b", "c", "d"],
    }  # fmt: skip
    document = typed.json("reclassify")
    assert {name: document[name] for name in document if name != "differences"} == {
        "dry_run": False, "examined": 5, "count": 4, "moved_on": [],
    }  # fmt: skip
