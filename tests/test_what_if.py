"""What the past would have come to under another policy, beside what it was, and which number is exact."""

from collections.abc import Callable
from typing import Any

import pytest

from enrichlog.odds import Estimate
from enrichlog.replay import Policy
from enrichlog.retry import DEFAULT_MAX_ATTEMPTS
from enrichlog.simulator import Simulator
from enrichlog.tally import Waits
from enrichlog.what_if import WhatIf, count_postings, what_if
from eventlog.database import Database
from eventlog.events import Event
from tests.builders import dismissed, failed, requested, run, started, succeeded, tell
from tests.command_line import Command, contents
from tests.service import import_postings, posting

USAGE = {"input_tokens": 100, "output_tokens": 10, "cost_microdollars": 7}
NO_TOKENS = {"input_tokens": None, "output_tokens": None}
QUOTA = {"error_type": "quota_exceeded", "counts": False, "wait_ms": 0, "cost_microdollars": 0}


def attempts(*ends: Callable[..., Event] | dict[str, Any]) -> list[Event]:
    """Attempts that ended so: successes, and failures with what differs from a timeout that counts."""
    told: list[Event] = []
    for number, end in enumerate(ends, 1):
        told.append(started(number))
        told.append(failed(number, **{**USAGE, **end}) if isinstance(end, dict) else end(number, **USAGE))
    return told


def live(database: Database, job_id: str, *events: Event) -> None:
    import_postings(database, posting(job_id))
    tell(database, f"job-{job_id}", *events)


@pytest.fixture(scope="module")
def past(shared: Database) -> Database:
    """Postings that succeeded at once, late and never; one deleted, one in flight, one pending, one dismissed."""
    live(shared, "at once", *attempts(succeeded))
    live(shared, "third", *attempts({}, {}, succeeded))
    live(shared, "outage", *attempts(QUOTA, QUOTA, succeeded))
    live(shared, "exhausted", *attempts({}, {}, {}, {}, {}))
    live(shared, "capped", *attempts({}, {"error_type": "invalid_json", "cap": 2}))
    live(shared, "refused", *attempts({"error_type": "refusal", "retryable": False, "wait_ms": None}))
    live(shared, "deleted", *attempts({}))
    live(shared, "flying", *attempts({}), started(2))
    live(shared, "waiting")
    live(shared, "left alone", *attempts({}), dismissed())
    run(shared, "DELETE FROM job_postings WHERE id = 'deleted'")
    tell(shared, "summary-third", requested(), *attempts({}, {}))
    return shared


@pytest.fixture
def typed(user: Command, past: Database, monkeypatch: pytest.MonkeyPatch) -> Command:
    """What a user types about that past."""
    monkeypatch.setenv("DATABASE_URL", past.url)
    return user


def ask(database: Database, most: int, *error_types: str, base: float | None = None) -> WhatIf:
    return what_if(database, "job", Policy(most, base), error_types, DEFAULT_MAX_ATTEMPTS)


def numbers(found: WhatIf, which: str, *names: str) -> tuple[Any, ...]:
    document = getattr(found, which).document()
    return tuple(document[name] for name in names)


MONEY = ("attempts", "calls", "tokens", "cost_microdollars")
STANDS = ("succeeded", "recovered", "given_up", "open", "pending", "running", "dismissed")


def test_history_stands_beside_what_a_tighter_policy_leaves_of_it_exactly(past: Database) -> None:
    found = ask(past, 2)
    assert numbers(found, "history", "postings", *MONEY) == (10, 19, 18, 1_980, 7 * 16)
    assert numbers(found, "replayed", "postings", *MONEY) == (10, 15, 14, 1_540, 7 * 12)
    assert numbers(found, "history", *STANDS) == (3, 2, 3, 1, 1, 1, 1)
    assert numbers(found, "replayed", *STANDS) == (2, 1, 4, 1, 1, 1, 1)
    assert (found.deleted, found.addition()) == (1, None)


def test_where_the_policy_is_looser_what_it_adds_is_an_estimate_and_the_rest_stays_exact(past: Database) -> None:
    found = ask(past, 6)
    assert numbers(found, "replayed", *MONEY) == numbers(found, "history", *MONEY)
    assert found.open == {("timeout", 1): 1, ("invalid_json", 4): 1}
    assert (found.given_up_before, found.deleted) == (2, 1)
    addition = found.addition()
    assert addition is not None
    assert (addition.postings, addition.recovered.low, addition.recovered.high) == (2, 0, 2)
    assert 2 <= addition.attempts.low <= addition.attempts.high
    assert addition.given_up == addition.recovered.rest_of(2)
    assert addition.tokens == addition.attempts.scaled(1_980 / 19)


def test_what_was_given_up_for_good_is_not_tried_further(past: Database) -> None:
    assert "refusal" not in {name for name, _ in ask(past, 100).open}


def test_an_error_type_takes_the_postings_that_ever_failed_so_and_what_is_known_of_all(past: Database) -> None:
    found = ask(past, 2, "quota_exceeded", "invalid_json")
    assert numbers(found, "history", "postings", "succeeded") == (2, 1)
    assert found.follow_ups == ask(past, 2).follow_ups


def test_waits_are_told_as_recorded_and_under_another_base(past: Database) -> None:
    recorded, other = ask(past, 2), ask(past, 2, base=1.0)
    assert (recorded.history.waits.count, recorded.replayed.waits.count) == (10, 6)
    assert recorded.history.waits.total_ms == 30_000 * 8
    assert recorded.replayed.waits.total_ms == 30_000 * 4
    assert numbers(other, "replayed", *MONEY) == numbers(recorded, "replayed", *MONEY)
    assert 4 * 500 <= other.replayed.waits.total_ms <= 4 * 1_000


def test_the_median_of_waits_is_the_one_that_half_do_not_exceed() -> None:
    assert Waits().median_seconds is None
    waits = Waits()
    for seconds in (900, 1, 30, 2):
        waits.add(seconds * 1_000)
    assert waits.median_seconds == 2


def test_cost_is_not_estimated_where_no_price_is_known(database: Database) -> None:
    live(database, "1", *attempts({}, {"cost_microdollars": None}))
    known = ask(database, 5).addition()
    assert known is not None
    assert known.cost_microdollars is not None
    live(database, "2", *attempts({"cost_microdollars": None, "error_type": "other"}))
    unknown = ask(database, 5, "other").addition()
    assert unknown is not None
    assert unknown.cost_microdollars is None


def test_calls_that_were_refused_are_no_part_of_what_an_answered_one_costs(database: Database) -> None:
    refused = {"error_type": "rate_limited", "counts": False, "cost_microdollars": 0} | NO_TOKENS
    live(database, "1", *attempts({}, refused, refused, refused))
    addition = ask(database, 5).addition()
    assert addition is not None
    assert addition.cost_microdollars is not None
    assert addition.cost_microdollars.low == round(addition.attempts.low * (1 / 4) * 7)


def test_a_cost_that_nobody_knows_is_not_nothing(database: Database, enrichlog: Command) -> None:
    refused = {"error_type": "rate_limited", "counts": False, "cost_microdollars": 0} | NO_TOKENS
    live(database, "1", *attempts(refused, {"cost_microdollars": None}))
    found = ask(database, 5)
    assert found.history.document()["cost_microdollars"] is found.replayed.document()["cost_microdollars"] is None
    told = enrichlog.done("retry", "--what-if", "--max-attempts", "5").out
    (line,) = (one for one in told.splitlines() if one.startswith("Cost"))
    assert line.split() == ["Cost", *["not", "known"] * 3]
    live(database, "2", *attempts({}))
    assert ask(database, 5).history.document()["cost_microdollars"] == 7


def test_progress_is_told_in_postings(past: Database) -> None:
    pages: list[int] = []
    what_if(past, "job", Policy(2), (), DEFAULT_MAX_ATTEMPTS, pages.append)
    assert sum(pages) == count_postings(past, "job") == 10


def test_the_document_says_of_each_number_what_it_is(past: Database, typed: Command) -> None:
    before = contents(past)
    exact = typed.json("retry", "--what-if", "--max-attempts", "2")
    assert (exact["policy"], exact["further"], exact["assumes"]) == (
        {"max_attempts": 2, "max_retries": 1, "base_seconds": None}, None, None,
    )  # fmt: skip
    assert (exact["history"]["attempts"], exact["replayed"]["attempts"], exact["replayed"]["is"]) == (19, 15, "exact")
    looser = typed.json("retry", "--what-if", "--max-retries", "5", "--base", "60")
    further = looser["further"]
    assert (further["is"], further["level"], further["postings"]) == ("estimate", 0.95, 2)
    assert further["recovered"].keys() == {"expected", "low", "high"}
    assert {one["error_type"]: one["pooled"] for one in further["by_error_type"]} == {
        "timeout": True, "invalid_json": True,
    }  # fmt: skip
    assert "other moments" in looser["assumes"]
    assert contents(past) == before


def test_the_screen_says_which_number_is_which(typed: Command, simulator: Simulator) -> None:
    said = typed.done("retry", "--what-if", "--max-attempts", "6")
    rows = {line[:20].strip(): line for line in said.out.splitlines()}
    assert rows["Attempts"].split()[1:4] == ["19", "exact:", "19"]
    assert "estimate: " in rows["Attempts"]
    assert "estimate: 0 to 2" in rows["Succeeded"]
    assert "estimate" not in rows["Pending"]
    assert "2 failed postings would be tried further (2 of them had been given up)." in said.out
    assert "2 postings in flight or pending: what becomes of them is not guessed." in said.out
    tight = typed.done("retry", "--what-if", "--max-attempts", "1").out
    assert "All of it is exact" in tight
    assert "estimate" not in tight
    assert not simulator.journal


def test_where_nothing_was_tried_again_nothing_is_expected(database: Database, enrichlog: Command) -> None:
    live(database, "1", *attempts({}))
    addition = ask(database, 5).addition()
    assert addition is not None
    assert addition.recovered == Estimate(None, 0, 1)
    assert "the chance of recovery is not known" in enrichlog.done("retry", "--what-if", "--max-attempts", "5").out


def test_an_empty_past_says_how_to_go_on(database: Database, enrichlog: Command) -> None:
    policy = ("--what-if", "--max-attempts", "2")
    assert enrichlog.done("retry", *policy).out.startswith("There is no posting yet.")
    assert "enrichlog errors" in enrichlog.done("retry", *policy, "--error-type", "timeout").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--what-if",), "add --max-attempts N"),
        (("--what-if", "--max-attempts", "2", "--max-retries", "1"), "not both"),
        (("--what-if", "--max-attempts", "0"), "--max-attempts"),
        (("--what-if", "--max-attempts", "2", "--yes"), "--yes makes no sense with --what-if"),
        (("--what-if", "--max-attempts", "2", "--dry-run"), "--dry-run makes no sense"),
        (("--what-if", "--max-attempts", "2", "--model", "gpt-4o"), "--model makes no sense"),
        (("--what-if", "--max-attempts", "2", "--concurrency", "2"), "--concurrency makes no sense"),
        (("--what-if", "--max-attempts", "2", "--error-type", "gravity"), "There is no error type gravity"),
        (("--what-if", "--max-attempts", "2", "--enrichment", "nothing"), "There is no enrichment nothing"),
        (("--what-if", "--max-attempts", "2", "--base", "0"), "--base 0 is no wait"),
        (("--what-if", "--max-attempts", "2", "--base", "-1"), "--base -1 is no wait"),
        (("--what-if", "--max-attempts", "2", "--base", "nan"), "--base nan is no wait"),
        (("--what-if", "--max-attempts", "2", "--base", "86400.5"), "at most 86,400"),
        (("--base", "60"), "--base goes with --what-if"),
        (("--base", "60", "--yes"), "--base goes with --what-if"),
    ],
)
def test_what_makes_no_sense_is_said_so(sqlite: Database, user: Command, words: tuple[str, ...], said: str) -> None:
    answer = user("retry", *words, "--database", sqlite.url)
    assert answer.code == 2
    assert said in answer.error
    assert answer.out == ""


def test_the_longest_base_is_a_day(sqlite: Database, user: Command) -> None:
    for base in ("86400", "0.5"):
        user.done("retry", "--what-if", "--max-attempts", "2", "--base", base, "--database", sqlite.url)
