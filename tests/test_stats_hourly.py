"""The hours of ended attempts, against a second account of the log that shares nothing with the fold."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eventlog.database import Database
from eventlog.events import EnrichmentLateResult, Event
from eventlog.log import LogAlone
from projections.enrichment_stats_hourly import fold, projection
from projections.following import catch_up
from tests.builders import NOON, failed, offer, proposal, reclassified, requested, run, started, succeeded, tell
from tests.drift import drift_of
from tests.hours import check, counted

facts = st.fixed_dictionaries(
    {
        "occurred_at": st.integers(0, 200).map(lambda minutes: NOON + timedelta(minutes=minutes)),
        "attempt": st.integers(1, 4),
        "called": st.booleans(),
    },
    optional={
        "request_model": st.sampled_from(["model-1", "model-2"]),
        "prompt_version": st.sampled_from(["1", "2"]),
        "input_tokens": st.integers(0, 2_000),
        "output_tokens": st.integers(0, 300),
        "cost_microdollars": st.integers(0, 900),
        "latency_ms": st.integers(0, 310_000),
    },
)
kinds = st.sampled_from(
    ["succeeded", "timeout", "refusal", "interrupted", "late", "late used", "start", "reclassified"]
)
endings = st.lists(st.tuples(kinds, st.sampled_from(["job", "summary"]), facts), max_size=12)


def event_of(kind: str, facts: dict[str, Any]) -> Event:
    match kind:
        case "succeeded":
            return succeeded(**facts)
        case "late" | "late used":
            return late(used=kind == "late used", **facts)
        case "start":
            return started()
        case "reclassified":
            return reclassified()
    return failed(error_type=kind, **facts)


def late(*, used: bool, **facts: Any) -> EnrichmentLateResult:
    outcome = {"outcome": "succeeded", "used": used, "attempt_id": "attempt-1"}
    return EnrichmentLateResult.model_validate({"attempt": 1, **outcome, **facts})


@given(st.lists(endings, max_size=4))
@settings(max_examples=12)
def test_the_rows_are_what_a_second_account_of_the_log_counts(
    shared: Database, histories: list[list[tuple[str, str, dict[str, Any]]]]
) -> None:
    for history in histories:
        events = [proposal(f"{enrichment}-1", event_of(kind, facts)) for kind, enrichment, facts in history]
        offer(shared, *events, inline=LogAlone())
        catch_up(shared, projection)
    check(shared)
    assert drift_of(shared, projection.name) == 0


@given(st.permutations([(kind, {"attempt": number}) for number, kind in enumerate(["succeeded", "late used"] * 3, 1)]))
def test_the_order_of_events_within_an_hour_makes_no_difference(acts: list[tuple[str, dict[str, Any]]]) -> None:
    hour = projection.initial
    for kind, facts in acts:
        hour = fold(hour, recorded(event_of(kind, {**facts, "latency_ms": 7 * facts["attempt"]})))
    assert hour.ends == hour.late == 3
    assert hour.succeeded_at == dict.fromkeys(range(1, 7), 1)
    assert hour.latency == {7 * number: 1 for number in range(1, 7)}


def recorded(event: Event) -> Any:
    payload = event.payload(NOON)
    return type("Told", (), {"type": type(event).__name__, "facts": payload.facts})


def test_a_result_that_came_late_and_is_not_used_costs_where_its_attempt_ended(database: Database) -> None:
    tell(database, "job-1", requested(), started(), failed(error_type="interrupted", worker_died=True), started(2))
    tell(database, "job-1", succeeded(2, cost_microdollars=5), succeeded(1, cost_microdollars=7))
    catch_up(database, projection)
    rows = {key[-1]: row for key, row in check(database).items()}
    assert (rows[""]["ends"], rows[""]["cost_microdollars"], rows[""]["late"]) == (1, 5, 0)
    assert (rows["interrupted"]["ends"], rows["interrupted"]["cost_microdollars"]) == (1, 7)
    assert (rows["interrupted"]["late"], rows["interrupted"]["calls"]) == (1, 1)


def test_a_late_result_that_is_used_is_a_success_of_its_attempt_and_no_further_end(database: Database) -> None:
    tell(database, "job-1", requested(), started(), failed(error_type="interrupted", worker_died=True))
    tell(database, "job-1", succeeded(1, cost_microdollars=7))
    catch_up(database, projection)
    rows = {key[-1]: row for key, row in check(database).items()}
    assert (rows[""]["ends"], rows[""]["late"], rows[""]["cost_microdollars"]) == (0, 1, 7)
    assert rows[""]["succeeded_at"] == {1: 1}
    assert rows["interrupted"]["ends"] == 1


def test_a_failure_that_is_read_otherwise_later_stays_in_the_row_of_its_day(database: Database) -> None:
    tell(database, "job-1", requested(), started(), failed())
    catch_up(database, projection)
    before = check(database)
    tell(database, "job-1", reclassified())
    catch_up(database, projection)
    assert check(database) == before
    assert [key[-1] for key in before] == ["timeout"]


def test_the_money_of_all_hours_is_that_of_all_postings(database: Database) -> None:
    for number in (1, 2):
        job = f"job-{number}"
        tell(database, job, requested(), started(), failed(cost_microdollars=3), started(2), failed(2, called=False))
        tell(database, job, started(3), succeeded(3, input_tokens=8), succeeded(2, cost_microdollars=4))
    catch_up(database, projection)
    sums = "SELECT sum(cost_microdollars) AS money, sum(unpriced_calls) AS unpriced, sum(input_tokens) AS tokens"
    (of_postings,) = run(database, f"{sums} FROM {{ours}}enrichment_status")
    assert run(database, f"{sums} FROM {{ours}}enrichment_stats_hourly") == [of_postings]
    assert {name: int(value) for name, value in of_postings.items()} == {"money": 14, "unpriced": 2, "tokens": 16}
    assert sum(row["ends"] for row in counted(database).values()) == 6
