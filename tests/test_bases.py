"""Machines that are told different prompts, models or schemas: each is tried in full, and then there is an end."""

from collections.abc import Sequence
from itertools import count, cycle, islice
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from enrichlog.anew import with_failures_anew
from enrichlog.claims import claim
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.errors import ERROR_TYPES
from enrichlog.postings import store_postings
from enrichlog.retry import allowance, judged, verdict
from enrichlog.scope import Scope
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from eventlog.events import Event
from projections import bases
from projections.bases import FULL_LENGTH, MOST, basis, is_new, with_basis
from projections.status import Status, fold
from tests.builders import NOON, failed, requested, started, status, succeeded, tell
from tests.command_line import Command
from tests.drift import drift_of
from tests.service import import_many, of_type, posting
from tests.test_replay import Told

MOST_ATTEMPTS = 3
Turn = tuple[int, str]
"""Which of the configurations has its turn, and the type of the failure that its attempt meets."""

turns = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(sorted(ERROR_TYPES))), max_size=60)
counting = st.sampled_from(sorted(name for name, kind in ERROR_TYPES.items() if kind.counts))
numbers = count(1)


@pytest.fixture
def settings(bare: object) -> Settings:
    return configure(base_url="http://127.0.0.1:1/v1", model="model-1", max_attempts=MOST_ATTEMPTS)


def told(now: Status, event: Event) -> Status:
    """The status after this event."""
    return fold(now, Told("job-1", now.version + 1, type(event).__name__, event.payload(NOON).facts))


def ended(*events: Event) -> Status:
    now = Status()
    for event in events:
        now = told(now, event)
    return now


def begun(attempt: int, configuration: int) -> Event:
    return started(attempt, request_model="m", prompt_hash=f"prompt-{configuration}", schema_hash="s", input_hash="i")


def is_taken(now: Status, configuration: int) -> bool:
    """Whether a run of this configuration takes the posting, when every wait is over."""
    if now.state != "failed":
        return now.state == "pending"
    used = now.budget_used - now.grants
    allowed = allowance(now.max_attempts, now.cap, MOST_ATTEMPTS)
    found = verdict(
        retryable=bool(now.retryable), budget_used=used, allowed=allowed, deaths=now.deaths, due_at=now.due_at, now=NOON
    )
    is_anew = now.deaths == 0 and is_new(basis("m", f"prompt-{configuration}", "s"), now.bases)
    return found in ("will_try", "waiting") or is_anew


def failure(attempt: int, error_type: str) -> Event:
    kind = ERROR_TYPES[error_type]
    return failed(attempt, **judged(kind), fault=kind.fault, wait_ms=0)


def try_in_turn(taking: Sequence[Turn]) -> tuple[Status, list[str]]:
    """What becomes of a posting that always fails, and the types of the failures that counted."""
    now, counted = ended(requested()), list[str]()
    for configuration, error_type in taking:
        if is_taken(now, configuration):
            attempt = now.attempts + 1
            now = told(told(now, begun(attempt, configuration)), failure(attempt, error_type))
            counted += [error_type] if ERROR_TYPES[error_type].counts else []
    return now, counted


@given(turns)
@examples(max_examples=300)
@example([(turn % 4, "timeout") for turn in range(60)])
def test_each_configuration_uses_up_the_attempts_once_in_whatever_order_they_come(taking: list[Turn]) -> None:
    _, counted = try_in_turn(taking)
    configurations = {configuration for configuration, _ in taking}
    assert len(counted) <= len(configurations) * MOST_ATTEMPTS


@given(turns, st.integers(1, 4), counting)
def test_there_is_an_end_once_every_failure_counts(taking: list[Turn], configurations: int, error_type: str) -> None:
    before = [(configuration % configurations, name) for configuration, name in taking]
    after = list(islice(zip(cycle(range(configurations)), cycle([error_type])), 100))
    now, _ = try_in_turn([*before, *after])
    assert not any(is_taken(now, configuration) for configuration in range(configurations))


def test_when_each_comes_once_the_other_is_done_each_has_all_its_attempts() -> None:
    one_after_the_other = [(configuration, "timeout") for configuration in range(4) for _ in range(9)]
    assert len(try_in_turn(one_after_the_other)[1]) == 4 * MOST_ATTEMPTS


def test_were_the_last_basis_all_that_is_known_there_would_be_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bases, "with_basis", lambda known, wanted: wanted or known)
    assert len(try_in_turn([(turn % 2, "timeout") for turn in range(60)])[1]) == 60


# -- what a posting has been tried with -------------------------------------------------------------------------------


def test_a_basis_is_another_when_model_prompt_or_schema_is() -> None:
    assert len({basis("m", "p", "s"), basis("n", "p", "s"), basis("m", "q", "s"), basis("m", "p", "t")}) == 4
    assert basis("m", "p", "s") == basis("m", "p", "s")


def test_a_configuration_that_comes_back_goes_on_with_the_budget_as_it_stands() -> None:
    now = ended(begun(1, 1), failed(1), begun(2, 2), failed(2))
    assert (now.budget_used, now.failures) == (1, 1)
    now = told(now, begun(3, 1))
    assert (now.budget_used, now.failures) == (1, 1)
    assert told(now, failed(3)).failures == 2  # and so the waits grow


@pytest.mark.parametrize("why", ["new", "changed", "force"])
def test_a_request_with_a_new_budget_makes_every_configuration_new(why: str) -> None:
    now = ended(begun(1, 1), failed(1), begun(2, 2), failed(2), requested(why))
    assert now.bases is None
    now = told(told(now, begun(3, 1)), failed(3))
    assert told(now, begun(4, 2)).budget_used == 0


def test_a_retry_makes_none_of_them_new() -> None:
    now = ended(begun(1, 1), failed(1), begun(2, 2), failed(2))
    assert told(now, requested("retry")).bases == now.bases


def test_what_runs_while_a_new_budget_is_requested_is_in_it() -> None:
    now = ended(begun(1, 1), failed(1), begun(2, 2), requested("force"), failed(2))
    assert now.bases == basis("m", "prompt-2", "s")
    assert told(now, begun(3, 2)).budget_used == 1
    assert told(now, begun(3, 1)).budget_used == 0


def test_another_input_makes_every_configuration_new_but_the_one_that_runs() -> None:
    other = begun(3, 1).model_copy(update={"input_hash": "another"})
    now = ended(begun(1, 1), failed(1), begun(2, 2), failed(2), other)
    assert (now.budget_used, now.bases) == (0, basis("m", "prompt-1", "s"))


def test_a_success_makes_every_configuration_new() -> None:
    assert ended(begun(1, 1), failed(1), begun(2, 2), succeeded(2)).bases is None


def test_an_attempt_made_elsewhere_is_no_configuration() -> None:
    outside = started(2, origin="external", request_model=None)
    now = ended(begun(1, 1), failed(1), outside, failed(2))
    assert (now.bases, now.budget_used) == (basis("m", "prompt-1", "s"), 2)


def test_no_more_than_so_many_are_told_apart_and_a_further_one_is_no_reason_to_try_anew() -> None:
    one_a_day = [(day, "timeout") for day in range(2 * MOST) for _ in range(MOST_ATTEMPTS)]
    now, counted = try_in_turn(one_a_day)
    assert len(counted) == MOST * MOST_ATTEMPTS
    assert len(now.bases or "") == FULL_LENGTH
    assert with_basis(now.bases, "one more") == now.bases


# -- claims and runs --------------------------------------------------------------------------------------------------


def configured(settings: Settings, name: str, configuration: int) -> Enrichment:
    asked = enrichment_of(settings)
    return asked._replace(name=name, prompt=asked.prompt._replace(hash=f"prompt-{configuration}"))


def is_claimed(database: Database, settings: Settings, asked: Enrichment) -> str | None:
    """The attempt that a run of this configuration begins, if there is one for it."""
    scope = with_failures_anew(database, Scope(database.now()), asked, settings.max_attempts)
    for alone in (False, True):
        for one in claim(database, settings, asked, scope, "w", 1, alone=alone).taken:
            return one.started.event.attempt_id
    return None


@given(st.lists(st.tuples(st.integers(0, 2), counting), min_size=12, max_size=20))
@examples(max_examples=4)
@example([(turn % 3, "timeout") for turn in range(20)])
def test_claims_keep_to_it_and_agree_with_the_fold(shared: Database, settings: Settings, taking: list[Turn]) -> None:
    name = f"e{next(numbers)}"
    store_postings(shared, [posting("1")], [name], "tests")
    attempts = 0
    for configuration, error_type in taking:
        attempt_id = is_claimed(shared, settings, configured(settings, name, configuration))
        if attempt_id is not None:
            attempts += 1
            end = failure(attempts, error_type).model_copy(update={"attempt_id": attempt_id})
            tell(shared, f"{name}-1", end)
    assert attempts == len(try_in_turn(taking)[1])
    assert attempts <= len({configuration for configuration, _ in taking}) * MOST_ATTEMPTS


def test_two_prompts_in_turn_ask_about_postings_that_always_fail_so_often_and_no_more(
    enrichlog: Command, database: Database, simulator: Simulator, bare: Path
) -> None:
    for name in ("a", "b"):
        (bare / f"{name}.md").write_text(f"---\nname: {name}\nversion: 1\n---\nExtract {name}.\n---\n{{{{posting}}}}\n")
    import_many(database, 2)
    simulator.play(Script([Rule("Engineer 000", [Fault.REFUSAL]), Rule("Engineer 001", [Fault.INVALID_JSON])]))
    calls = []
    for turn in range(6):
        (bare / "enrichlog.toml").write_text(f'prompt = "{"ab"[turn % 2]}.md"\nbackoff_base_seconds = 0.001\n')
        enrichlog.done("enrich")
        calls.append(len(simulator.journal))
    assert calls == [2, 4, 5, 5, 5, 5]  # by a and by b, and once more by a what may fail twice
    assert len(of_type(database, "EnrichmentFailed")) == 5
    assert [len(status(database, f"job-00{number}")["bases"].split()) for number in range(2)] == [2, 2]
    assert drift_of(database) == 0
