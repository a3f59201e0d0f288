"""A bulk retry is a plan first: what it takes, what waits, what is used up, and what would bring the same again."""

import re
from collections import Counter
from datetime import timedelta
from itertools import product
from typing import Any

import pytest
from sqlalchemy import select

import cli
from enrichlog.estimate import AnsweredCalls, estimate
from enrichlog.exceptions import UsageError
from enrichlog.price import PricedModel, cost
from enrichlog.retry import DEFAULT_MAX_ATTEMPTS
from enrichlog.retry_batch import request_plan
from enrichlog.retry_plan import RetryPlan, plan_retry, targets_of
from enrichlog.retry_screen import why_nothing
from enrichlog.selection import Allowance, Selection, selection_of
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import Target
from eventlog.database import Database
from projections.enrichment_status import enrichment_status, status_of
from tests.builders import NOON, StoppedClock, failed, reclassified, requested, run, started, status, succeeded, tell
from tests.command_line import Command
from tests.service import import_many, import_postings, of_type, posting, whole_log

HOUR = timedelta(hours=1)


def fail(database: Database, job_id: str, attempts: int = 1, model: str = "model-1", **facts: object) -> None:
    """A posting that failed so many times; by default for a reason that is over at once."""
    verdict = {"error_type": "quota_exceeded", "counts": False, "wait_ms": 0, **facts}
    import_postings(database, posting(job_id))
    for number in range(1, attempts + 1):
        tell(database, f"job-{job_id}", started(number, request_model=model), failed(number, **verdict))


def plan(database: Database, *error_types: str, max_attempts: int | None = None) -> RetryPlan:
    return plan_retry(database, "job", Selection(error_types), Allowance(max_attempts, DEFAULT_MAX_ATTEMPTS))


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
    assert why_nothing(made) == "2 postings wait until 2024-01-01 12:00:30 UTC or later; retry then."
    clock.advance(seconds=30)
    assert ids(timed, plan(timed)) == ["2"]


def test_used_up_budgets_are_told_with_what_to_type_and_an_explicit_maximum_reopens_them(database: Database) -> None:
    fail(database, "1", 5, error_type="timeout", counts=True)
    made = plan(database)
    assert made.total("exhausted") == 1
    assert why_nothing(made) == (
        "1 posting has used up its attempts. Allow one more with: enrichlog retry --max-attempts 6"
    )
    assert plan(database, max_attempts=5).taken == 0
    assert ids(database, plan(database, max_attempts=6)) == ["1"]


def test_what_to_type_for_used_up_budgets_would_try_them_all_and_only_what_was_asked_for(database: Database) -> None:
    fail(database, "1", 12, error_type="timeout", counts=True)
    fail(database, "2", 5, error_type="timeout", counts=True)
    made = plan(database, "timeout", max_attempts=3)
    assert why_nothing(made) == (
        "2 postings have used up their attempts. "
        "Allow one more with: enrichlog retry --error-type timeout --max-attempts 13"
    )
    assert plan(database, "timeout", max_attempts=13).total("will_try") == 2


def test_beyond_the_largest_maximum_only_force_is_left(database: Database) -> None:
    fail(database, "1", 100, error_type="timeout", counts=True)
    told = why_nothing(plan(database, max_attempts=100))
    assert told.endswith("attempts. If you must: enrichlog enrich JOB_ID --force")


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
    assert why_nothing(made).endswith("enrichlog enrich JOB_ID --force")


def test_nothing_that_failed_so_is_told(database: Database) -> None:
    assert why_nothing(plan(database)) == "Nothing has failed."
    fail(database, "1")
    assert why_nothing(plan(database, "timeout")).startswith("No posting has failed like that.")
    assert plan(database, "timeout", "quota_exceeded").total("will_try") == 1


def test_a_posting_that_moved_on_since_the_plan_is_reported_and_not_requested(database: Database) -> None:
    fail(database, "1")
    fail(database, "2")
    made = plan(database, max_attempts=7)
    tell(database, "job-1", requested("retry"))
    outcome = request_plan(database, made, None)
    assert (outcome.requested, outcome.moved_on, outcome.moved) == (1, 1, ["1"])
    assert (status(database, "job-2")["max_attempts"], status(database, "job-1")["max_attempts"]) == (7, None)


def test_what_moved_on_since_the_plan_is_not_requested_though_it_could_be_tried_again(timed: Database) -> None:
    for job_id in ("1", "2", "3"):
        fail(timed, job_id)
    made = plan(timed)
    verdict: dict[str, Any] = {"error_type": "quota_exceeded", "retryable": True, "counts": False, "wait_ms": 0}
    tell(timed, "job-1", started(2), failed(2, **verdict))
    tell(timed, "job-2", reclassified(**verdict))
    assert ids(timed, plan(timed)) == ["1", "2", "3"]  # the control: a new plan takes them
    assert targets(timed, made) == [Target("3", 3)]


def test_a_plan_can_be_of_a_time_and_of_a_model(timed: Database, clock: StoppedClock) -> None:
    for number in range(3):
        fail(timed, str(number), model=f"model-{number}")
        clock.advance(hours=1)
    for selection, expected in (
        (Selection(since=NOON + HOUR), ["1", "2"]),
        (Selection(until=NOON + HOUR), ["0"]),
        (Selection(since=NOON + HOUR, until=NOON + 2 * HOUR), ["1"]),
        (Selection(model="model-1"), ["1"]),
        (Selection(("quota_exceeded",), since=NOON + HOUR, model="model-2"), ["2"]),
        (Selection(("timeout",)), []),
    ):
        made = plan_retry(timed, "job", selection, Allowance(None, 5))
        assert (ids(timed, made), made.taken) == (expected, len(expected))


def test_times_that_leave_nothing_between_them_are_refused() -> None:
    with pytest.raises(UsageError, match="nothing lies between them"):
        selection_of((), NOON, NOON)
    assert selection_of((), NOON, NOON + HOUR).told() == (
        "--since 2024-01-01T12:00:00.000000Z --until 2024-01-01T13:00:00.000000Z"
    )


def test_a_limit_leaves_the_rest_for_later_and_says_how_many(database: Database) -> None:
    for number in range(5):
        fail(database, str(number), error_type=("quota_exceeded", "connection")[number % 2])
    made = plan_retry(database, "job", Selection(), Allowance(None, 5), 3)
    assert (made.taken, made.left_for_later) == (3, 2)
    outcome = request_plan(database, made, "the quota is back")
    assert (outcome.requested, outcome.moved_on, outcome.moved) == (3, 0, [])
    requests = of_type(database, "EnrichmentRequested")[-3:]
    assert {one.facts["batch"] for one in requests} == {outcome.batch}
    assert {one.facts["selection"] for one in requests} == {f"--limit 3 at position {made.position}"}
    assert [one.content for one in requests] == [{"reason": "the quota is back"}] * 3


def test_what_was_given_up_is_used_up_until_an_explicit_maximum_takes_it(database: Database) -> None:
    fail(database, "1", 1, error_type="connection", max_deferrals=1)
    assert plan(database).total("exhausted") == 1
    assert ids(database, plan(database, max_attempts=1)) == ["1"]


def test_what_failed_only_after_the_plan_is_no_part_of_it(database: Database) -> None:
    fail(database, "1")
    made = plan(database)
    fail(database, "2")
    assert ids(database, made) == ["1"]


def test_what_moved_on_before_its_page_was_read_is_told_by_name_and_counted(database: Database) -> None:
    for job_id in ("gone", "on", "still"):
        fail(database, job_id)
    import_postings(database, posting("new"))
    made = plan(database)
    tell(database, "job-on", started(2), succeeded(2))
    tell(database, "job-new", started(), failed())
    run(database, "DELETE FROM job_postings WHERE id = 'gone'")
    outcome = request_plan(database, made, None)
    assert (outcome.requested, outcome.moved_on, outcome.moved) == (1, 2, ["on"])


def test_the_sums_of_the_database_and_the_rule_for_one_posting_agree(timed: Database, clock: StoppedClock) -> None:
    kinds: list[dict[str, Any]] = [
        {"error_type": "timeout", "counts": True}, {"error_type": "timeout", "counts": True, "wait_ms": 60_000},
        {"error_type": "invalid_json", "counts": True, "cap": 2}, {"error_type": "refusal", "retryable": False},
        {"error_type": "connection", "max_deferrals": 2},
        {"error_type": "interrupted", "counts": True, "cap": 3, "worker_died": True},
    ]  # fmt: skip
    for number, (facts, attempts) in enumerate(product(kinds, (1, 2, 5))):
        fail(timed, str(number), attempts, **facts)
    statuses = [status_of(row._mapping) for row in timed.page(select(enrichment_status))]
    for policy in (Allowance(None, 5), Allowance(None, 1), Allowance(2, 5), Allowance(9, 5)):
        made = plan_retry(timed, "job", Selection(), policy)
        assert made.counts == Counter((one.error_type, policy.verdict(one, clock())) for one in statuses)


def test_what_a_plan_will_cost_goes_by_the_newest_calls_that_were_answered(database: Database) -> None:
    fail(database, "1")
    assert (plan(database).estimate.tokens_of(1), plan(database).estimate.cost_of(1)) == (None, None)
    usage = {"input_tokens": 100, "output_tokens": 20}
    tell(database, "other-1", requested(), started(), succeeded(input_tokens=9_000, cost_microdollars=9_000))
    tell(database, "job-2", requested(), started(), succeeded(**usage, cost_microdollars=40))
    tell(database, "job-3", requested(), started(), succeeded(input_tokens=60, output_tokens=20))
    tell(database, "job-4", requested(), started(), failed(called=False, **usage))
    found = plan(database).estimate
    assert found == AnsweredCalls(calls=2, tokens=200, priced=1, cost_microdollars=40)
    assert (found.tokens_of(3), found.cost_of(3), found.unpriced) == (300, 120, 1)


def test_what_another_model_took_is_estimated_at_the_price_of_the_one_to_be_asked(database: Database) -> None:
    tokens = {"input_tokens": 1_000, "output_tokens": 100}
    models = (("1", "gpt-4o", 9_000), ("2", "gpt-4o-mini", 7))
    for job_id, model, spent in models:
        events = started(request_model=model), succeeded(**tokens, request_model=model, cost_microdollars=spent)
        tell(database, f"job-{job_id}", requested(), *events)
    today = PricedModel("gpt-4o-mini", "https://api.openai.com/v1")
    repriced = cost(today, 1_000, 100)
    assert repriced is not None
    assert estimate(database, "job", today) == AnsweredCalls(2, 2_200, 2, 7 + repriced)
    assert estimate(database, "job", today._replace(model="nobody-knows")).cost_of(1) is None


# -- as typed ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(enrichlog: Command, database: Database, simulator: Simulator) -> Command:
    """One posting whose quota is back, one that always fails as JSON, one that is refused."""
    import_postings(database, posting("1"), posting("2"), posting("3"))
    faults = {"1": (Fault.QUOTA, Fault.OK), "2": (Fault.INVALID_JSON,), "3": (Fault.REFUSAL,)}
    simulator.play(Script(rules=[Rule(f"Work number {job_id}.", kinds) for job_id, kinds in faults.items()]))
    enrichlog("enrich", "--concurrency", "1", "2", "3")
    enrichlog("enrich", "1")
    enrichlog.done("breaker", "close", "--reason", "the quota is back")
    return enrichlog


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


def test_a_plan_says_what_it_rests_on(mixed: Command, database: Database) -> None:
    document = mixed.json("retry", "--error-type", "quota", "--since", "1d", "--max-attempts", "3", "--dry-run")
    assert document["position"] == whole_log(database)[-1].position
    assert document["selection"].startswith("--error-type quota_exceeded --since 20")
    assert (document["will_try"], document["left_for_later"], document["default_max_attempts"]) == (1, 0, 5)
    assert set(document["estimate"]) == {"tokens", "cost_microdollars", "based_on_calls", "of_unknown_price"}


def test_what_a_limit_leaves_is_said(enrichlog: Command, database: Database) -> None:
    for job_id in ("1", "2", "3"):
        fail(database, job_id)
    told = enrichlog.done("retry", "--dry-run", "--limit", "2").out.splitlines()
    assert told[-1] == "1 more could be tried, and is left for later by --limit."
    assert enrichlog.json("retry", "--dry-run", "--limit", "2")["left_for_later"] == 1
    assert "left for later" not in enrichlog.done("retry", "--dry-run").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--error-type", "nonsense"), "There is no error type nonsense."),
        (("--max-attempts", "0"), "0 is not in the range"),
        (("--since", "1h", "--until", "2h"), "nothing lies between them"),
        (("--limit", "0"), "0 is not in the range"),
        (("--max-attempts", "2", "--max-retries", "1"), "not both"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(enrichlog: Command, words: tuple[str, ...], told: str) -> None:
    said = enrichlog("retry", *words)
    assert said.code == 2
    assert told in said.error


def test_the_model_selects_and_another_one_can_be_asked(mixed: Command, database: Database) -> None:
    assert "No posting has failed like that." in mixed.done("retry", "--model", "nobody-asked-it", "--dry-run").out
    quota = ("--error-type", "quota", "--model", "gpt-4o-mini")
    mixed.done("retry", *quota, "--ask-model", "gpt-4o", "--yes", "--reason", "a better one")
    assert of_type(database, "EnrichmentStarted")[-1].facts["request_model"] == "gpt-4o"
    assert re.search(r"retry, batch [0-9a-f]{8}, by ", mixed.done("history", "1").out)
    assert ": a better one" in mixed.done("history", "1").out


def test_the_plan_tells_what_moved_on_while_somebody_was_asked(
    mixed: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_question: str) -> bool:
        tell(database, "job-1", requested("requeue", grant=1))
        return True

    monkeypatch.setattr(cli, "_confirm", answer)
    said = mixed("retry", "--error-type", "quota")
    assert "1 of 1 moved on since the plan was made, and is left." in said.out
    assert "1 was left: it has moved on since the plan was made" in said.out
    assert said.code == 0
