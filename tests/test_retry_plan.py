"""A bulk retry is a plan first: what it takes, what waits, what is used up, and what would bring the same again."""

import pytest

from enrichlog.retry import DEFAULT_MAX_ATTEMPTS
from enrichlog.retry_batch import request_plan
from enrichlog.retry_plan import RetryPlan, plan_retry, targets_of
from enrichlog.selection import Policy, Selection
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import Target
from eventlog.database import Database
from eventlog.events import BreakerSet
from tests.builders import StoppedClock, failed, requested, run, started, status, succeeded, tell
from tests.command_line import Command
from tests.service import import_many, import_postings, of_type, posting


def fail(database: Database, job_id: str, attempts: int = 1, **facts: object) -> None:
    """A posting that failed so many times; by default for a reason that is over at once."""
    verdict = {"error_type": "quota_exceeded", "counts": False, "wait_ms": 0, **facts}
    import_postings(database, posting(job_id))
    for number in range(1, attempts + 1):
        tell(database, f"job-{job_id}", started(number), failed(number, **verdict))


def plan(database: Database, *error_types: str, max_attempts: int | None = None) -> RetryPlan:
    return plan_retry(database, "job", Selection(error_types), Policy(max_attempts, DEFAULT_MAX_ATTEMPTS))


def targets(database: Database, made: RetryPlan) -> list[Target]:
    return [target for page in targets_of(database, made) for target in page]


def ids(database: Database, made: RetryPlan) -> list[str]:
    return [target.job_id for target in targets(database, made)]


def test_only_what_failed_is_in_the_plan_at_the_version_it_was_looked_at(database: Database) -> None:
    fail(database, "1")
    tell(database, "job-2", requested(), started(), succeeded())
    tell(database, "job-3", requested())
    made = plan(database)
    assert targets(database, made) == [Target("1", 3)]
    assert made.by_error_type() == {"quota_exceeded": {"will_try": 1, "waiting": 0, "exhausted": 0, "not_retryable": 0}}


def test_what_waits_says_until_when_and_is_taken_then(timed: Database, clock: StoppedClock) -> None:
    for job_id, wait in (("1", 60_000), ("2", 30_000)):
        fail(timed, job_id, error_type="timeout", counts=True, wait_ms=wait)
    made = plan(timed)
    assert (made.taken, made.total("waiting")) == (0, 2)
    assert made.why_nothing() == "2 postings wait until 2024-01-01 12:00:30 UTC or later; retry then."
    clock.advance(seconds=30)
    assert ids(timed, plan(timed)) == ["2"]


def test_used_up_budgets_are_told_with_what_to_type_and_an_explicit_maximum_reopens_them(database: Database) -> None:
    fail(database, "1", 5, error_type="timeout", counts=True)
    made = plan(database)
    assert made.total("exhausted") == 1
    assert made.why_nothing() == (
        "1 posting has used up its attempts. Allow one more with: enrichlog retry --max-attempts 6"
    )
    assert plan(database, max_attempts=5).taken == 0
    assert ids(database, plan(database, max_attempts=6)) == ["1"]


def test_what_to_type_for_used_up_budgets_would_try_them_all_and_only_what_was_asked_for(database: Database) -> None:
    fail(database, "1", 12, error_type="timeout", counts=True)
    fail(database, "2", 5, error_type="timeout", counts=True)
    made = plan(database, "timeout", max_attempts=3)
    assert made.why_nothing() == (
        "2 postings have used up their attempts. "
        "Allow one more with: enrichlog retry --error-type timeout --max-attempts 13"
    )
    assert plan(database, "timeout", max_attempts=13).total("will_try") == 2


def test_beyond_the_largest_maximum_only_force_is_left(database: Database) -> None:
    fail(database, "1", 100, error_type="timeout", counts=True)
    assert (
        plan(database, max_attempts=100)
        .why_nothing()
        .endswith("attempts. If you must: enrichlog enrich JOB_ID --force")
    )


def test_the_error_types_of_a_plan_stand_by_the_number_of_postings(database: Database) -> None:
    for job_id, error_type in (("1", "timeout"), ("2", "quota_exceeded"), ("3", "timeout"), ("4", "connection")):
        fail(database, job_id, error_type=error_type)
    assert list(plan(database).by_error_type()) == ["timeout", "connection", "quota_exceeded"]


def test_a_cap_is_overridden_by_an_explicit_maximum_in_both_directions(database: Database) -> None:
    fail(database, "1", 2, error_type="invalid_json", counts=True, cap=2)
    assert plan(database).total("exhausted") == 1
    assert plan(database, max_attempts=3).total("will_try") == 1
    assert plan(database, max_attempts=1).total("exhausted") == 1


def test_failures_that_do_not_count_use_nothing_up(database: Database) -> None:
    fail(database, "1", 8)
    assert plan(database).total("will_try") == 1


def test_what_brings_the_same_is_not_tried(database: Database) -> None:
    fail(database, "1", error_type="refusal", counts=True, retryable=False)
    made = plan(database, max_attempts=99)
    assert (made.taken, made.total("not_retryable")) == (0, 1)
    assert made.why_nothing().endswith("enrichlog enrich JOB_ID --force")


def test_nothing_that_failed_so_is_told(database: Database) -> None:
    assert plan(database).why_nothing() == "Nothing has failed."
    fail(database, "1")
    assert plan(database, "timeout").why_nothing().startswith("No posting has failed like that.")
    assert plan(database, "timeout", "quota_exceeded").total("will_try") == 1


def test_a_posting_that_moved_on_since_the_plan_is_reported_and_not_requested(database: Database) -> None:
    fail(database, "1")
    fail(database, "2")
    made = plan(database, max_attempts=7)
    tell(database, "job-1", requested("retry"))
    outcome = request_plan(database, made, None)
    assert (outcome.requested, outcome.moved_on, outcome.moved) == (1, 1, ["1"])
    assert (status(database, "job-2")["max_attempts"], status(database, "job-1")["max_attempts"]) == (7, None)


# -- as typed ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(enrichlog: Command, database: Database, simulator: Simulator) -> Command:
    """One posting whose quota is back, one that always fails as JSON, one that is refused."""
    import_postings(database, posting("1"), posting("2"), posting("3"))
    faults = {"1": (Fault.QUOTA, Fault.OK), "2": (Fault.INVALID_JSON,), "3": (Fault.REFUSAL,)}
    simulator.play(Script(rules=[Rule(f"Work number {job_id}.", kinds) for job_id, kinds in faults.items()]))
    enrichlog("enrich", "--concurrency", "1", "2", "3")
    enrichlog("enrich", "1")
    close_breaker(database)
    return enrichlog


def close_breaker(database: Database) -> None:
    """What a person does who knows that the quota is back."""
    told = of_type(database, "EnrichmentFailed")[-1].facts
    about = {name: told[name] for name in ("endpoint", "request_model", "credential")}
    tell(database, "$breaker-1", BreakerSet(**about, state="closed", actor="tests"))


def test_a_dry_run_shows_the_plan_and_tries_nothing(mixed: Command, simulator: Simulator) -> None:
    calls = len(simulator.journal)
    rows = {line.split()[0]: line.split()[1:] for line in mixed.done("retry", "--dry-run").out.splitlines()[1:-2]}
    assert rows == {
        "quota_exceeded": ["1", "0", "0", "0"], "invalid_json": ["0", "1", "0", "0"], "refusal": ["0", "0", "0", "1"],
    }  # fmt: skip
    assert len(simulator.journal) == calls


@pytest.mark.parametrize(("name", "word"), [("--max-attempts", "3"), ("--max-retries", "2")])
def test_the_plan_shows_attempts_and_retries_whichever_was_typed(mixed: Command, name: str, word: str) -> None:
    told = (
        "At most 3 attempts each that count, the first included (2 retries); this overrides the usual 5 and all caps."
    )
    assert told in mixed.done("retry", "--dry-run", name, word).out


def test_one_attempt_is_told_as_one(mixed: Command) -> None:
    for word, told in (
        ("1", "1 attempt each that counts, the first included (0 r"),
        ("2", "each that count, the first included (1 retry)"),
    ):
        assert told in mixed.done("retry", "--dry-run", "--max-attempts", word).out


def test_a_retry_nobody_confirmed_is_a_plan_to_scripts(mixed: Command, simulator: Simulator) -> None:
    calls = len(simulator.journal)
    planned, said = mixed.json("retry", "--dry-run"), mixed("retry", "--json")
    assert (said.code, said.document) == (2, planned)
    assert said.error == "Error: 1 posting will be tried. Nothing was done: confirm with --yes."
    assert len(simulator.journal) == calls


def test_a_retry_takes_only_what_it_was_asked_for(mixed: Command, database: Database, simulator: Simulator) -> None:
    mixed.done("breaker", "close", "--reason", "mended")
    said = mixed.done("retry", "--error-type", "quota", "--yes", "--max-attempts", "3")
    assert "1 attempt in " in said.out
    request_made = of_type(database, "EnrichmentRequested")[-1]
    assert (request_made.stream_id, request_made.facts["why"], request_made.facts["max_attempts"]) == (
        "job-1", "retry", 3,
    )  # fmt: skip
    assert status(database, "job-1")["state"] == "succeeded"


def test_a_retry_without_anything_to_try_ends_well_and_says_what_to_type(mixed: Command, simulator: Simulator) -> None:
    calls = len(simulator.journal)
    assert "retry then." in mixed.done("retry", "--error-type", "json").out
    assert "enrichlog enrich JOB_ID --force" in mixed.done("retry", "--error-type", "refusal", "--yes").out
    assert len(simulator.journal) == calls


def test_short_names_stand_for_groups_of_error_types(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 1)
    simulator.play(Script(rules=[Rule("Work", (Fault.EMPTY,))]))
    enrichlog.done("enrich")
    assert "empty_output" in enrichlog.done("retry", "--dry-run", "--error-type", "parsing").out


def test_a_deleted_posting_is_no_part_of_the_plan(database: Database) -> None:
    import_many(database, 2)
    for job_id in ("000", "001"):
        tell(database, f"job-{job_id}", started(), failed(wait_ms=0))
    run(database, "DELETE FROM job_postings WHERE id = '000'")
    assert ids(database, plan(database)) == ["001"]
