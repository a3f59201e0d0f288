"""`enrichlog stats`: what attempts came to, by what one asks for; what is not known is never shown as nothing."""

import re
from datetime import timedelta
from typing import Any

import pytest

from enrichlog.stats import whole_hours
from eventlog.database import Database
from eventlog.events import Event
from eventlog.log import LogAlone
from projections import enrichment_stats_hourly
from tests.builders import NOON, failed, offer, proposal, requested, run, started, succeeded, tell
from tests.command_line import Command
from tests.hours import counted
from tests.test_stats_hourly import late

PAID: dict[str, Any] = {
    "input_tokens": 80, "output_tokens": 20, "cost_microdollars": 1_000, "latency_ms": 2_000,
    "request_model": "model-1", "prompt_version": "1",
}  # fmt: skip
TOMORROW = NOON + timedelta(days=1)


def record(database: Database, *events: Event, stream: str = "job-1") -> None:
    offer(database, *(proposal(stream, event) for event in events), inline=LogAlone())


@pytest.fixture
def many(database: Database) -> Database:
    """Two days, two models, and of each kind of end one or more."""
    first = [succeeded(1, **PAID | {"occurred_at": NOON + timedelta(minutes=20 * number)}) for number in range(6)]
    second = [
        succeeded(3, **PAID | {"occurred_at": TOMORROW, "request_model": "model-2", "latency_ms": 4_000}),
        failed(1, **PAID | {"occurred_at": TOMORROW, "cost_microdollars": 500}),
        failed(2, occurred_at=TOMORROW, error_type="refusal", called=False),
    ]
    record(database, *first, *second, succeeded(1, **PAID | {"occurred_at": NOON}), stream="job-1")
    record(database, failed(1, occurred_at=NOON), stream="summary-1")
    return database


def shown(enrichlog: Command, *words: str) -> list[list[str]]:
    """The cells of the table that a command prints, row by row."""
    said = enrichlog.done("stats", *words)
    assert said.err == ""
    lines = said.out.splitlines()[1:]
    return [re.split(r"\s{2,}", line.strip()) for line in lines[: lines.index("")]]


def test_an_empty_log_has_no_numbers_and_says_what_is_next(enrichlog: Command) -> None:
    assert enrichlog.done("stats").out == "No attempt of job has ended yet. Next: enrichlog enrich\n"
    document = enrichlog.json("stats")
    assert (document["groups"], document["total"]["attempts"], document["total"]["success_rate"]) == ([], 0, None)
    assert enrichlog.done("stats", "--since", "7d").out.startswith("No attempt of job ended in these hours, since ")


@pytest.mark.parametrize("words", [[], ["--since", "2020-01-01"]])
def test_a_table_that_was_emptied_is_not_taken_for_a_log_without_attempts(
    enrichlog: Command, database: Database, words: list[str]
) -> None:
    tell(database, "job-1", requested(), started())
    assert enrichlog.json("stats", *words)["lacks_rows"] is False  # the control: none has ended
    tell(database, "job-1", failed(), started(2))
    assert enrichlog.json("stats", *words)["lacks_rows"] is False
    run(database, "DELETE FROM {ours}enrichment_stats_hourly")
    said = enrichlog.done("stats", *words).out
    assert said.startswith("Attempts of job have ended, and enrichment_stats_hourly lacks their rows.")
    assert (said.count("\n"), enrichlog.json("stats", *words)["lacks_rows"]) == (1, True)
    enrichlog.done("rebuild", "enrichment_stats_hourly")
    assert enrichlog.json("stats", *words)["total"]["attempts"] == 1


def test_one_attempt_is_a_row_and_what_it_means(enrichlog: Command, database: Database) -> None:
    record(database, succeeded(1, **PAID | {"occurred_at": NOON}))
    assert shown(enrichlog) == [
        ["Day", "Attempts", "Success", "Tries", "Tokens", "Cost", "p50", "p95", "Wasted"],
        ["2024-01-01", "1", "100.0 %", "1.00", "100", "$0.001", "2.0 s", "2.0 s", "-"],
    ]
    assert enrichlog.done("stats").out.splitlines()[-2:] == [
        "1 of 1 attempt succeeded.", "Tries until success: 1.00 on average; 1 at attempt 1."
    ]  # fmt: skip


def test_days_are_rows_with_a_total_and_what_failures_took_is_told(enrichlog: Command, many: Database) -> None:
    assert shown(enrichlog)[1:] == [
        ["2024-01-01", "7", "100.0 %", "1.00", "700", "$0.007", "2.0 s", "2.0 s", "-"],
        ["2024-01-02", "3", "33.3 %", "3.00", "200", "$0.0015", "2.0 s", "4.0 s", "33.3 %"],
        ["Total", "10", "80.0 %", "1.25", "900", "$0.0085", "2.0 s", "4.0 s", "5.9 %"],
    ]
    assert enrichlog.done("stats").out.splitlines()[-3:] == [
        "8 of 10 attempts succeeded; 1 × refusal, 1 × timeout.",
        "Tries until success: 1.25 on average; 7 at attempt 1, 1 at attempt 3.",
        "Retry tax: failures took 100 tokens (11.1 % of all) and $0.0005 (5.9 % of all).",
    ]


def test_groups_are_by_all_that_is_asked_for_each_once(enrichlog: Command, many: Database) -> None:
    told = [row[:3] for row in shown(enrichlog, "--by", "model,error-type", "--by", "model")]
    assert told == [
        ["Model", "Error type", "Attempts"],
        ["model-1", "(succeeded)", "7"],
        ["(unknown)", "refusal", "1"],
        ["model-1", "timeout", "1"],
        ["model-2", "(succeeded)", "1"],
        ["Total", "10", "100.0 %"],
    ]
    assert [row[:2] for row in shown(enrichlog, "--by", "hour")][1:4] == [
        ["2024-01-01 12:00", "4"], ["2024-01-01 13:00", "3"], ["2024-01-02 12:00", "3"],
    ]  # fmt: skip
    assert [row[:2] for row in shown(enrichlog, "--by", "prompt-version")][1:3] == [["1", "9"], ["(unknown)", "1"]]


def test_a_group_for_scripts_names_what_it_is_of_and_adds_up(enrichlog: Command, many: Database) -> None:
    document = enrichlog.json("stats", "--by", "model,prompt-version")
    assert [(one["model"], one["prompt_version"], one["attempts"]) for one in document["groups"]] == [
        ("model-1", "1", 8), (None, None, 1), ("model-2", "1", 1),
    ]  # fmt: skip
    rows = [row for key, row in counted(many).items() if key[1] == "job"]
    for name in ("calls", "input_tokens", "output_tokens", "cost_microdollars", "unpriced_calls"):
        assert document["total"][name] == sum(row[name] for row in rows)
        assert document["total"][name] == sum(one[name] for one in document["groups"])
    assert document["total"]["attempts_until_success"] == {"mean": 1.25, "distribution": {"1": 7, "3": 1}}
    assert (document["position"], document["behind"], document["why_behind"]) == (11, 0, None)


def test_latency_is_that_of_all_calls_of_a_group_whatever_rows_they_are_in(
    enrichlog: Command, database: Database
) -> None:
    latencies = [10 * number for number in range(1, 101)]
    hours = (NOON + timedelta(hours=number % 5) for number in range(100))
    record(database, *(failed(latency_ms=one, occurred_at=at) for one, at in zip(latencies, hours, strict=True)))
    (day,) = enrichlog.json("stats")["groups"]
    assert abs(day["latency_ms"]["p50"] - 500) <= 5
    assert abs(day["latency_ms"]["p95"] - 950) <= 10


def test_whole_hours_count_from_that_of_since_to_that_before_until(enrichlog: Command, many: Database) -> None:
    document = enrichlog.json("stats", "--since", "2024-01-01T12:59", "--until", "2024-01-01T13:00")
    assert (document["since"], document["until"]) == ("2024-01-01T12:00:00.000000Z", "2024-01-01T13:00:00.000000Z")
    assert document["total"]["attempts"] == 4
    assert enrichlog.json("stats", "--since", "2024-01-01T13:59")["total"]["attempts"] == 6
    assert whole_hours(None, NOON + timedelta(seconds=1)) == (None, NOON + timedelta(hours=1))


def test_an_unknown_price_is_never_nothing(enrichlog: Command, database: Database) -> None:
    unpriced = {name: value for name, value in PAID.items() if name != "cost_microdollars"} | {"occurred_at": NOON}
    record(database, failed(**unpriced), succeeded(2, **unpriced))
    assert shown(enrichlog)[1] == [
        "2024-01-01",
        "2",
        "50.0 %",
        "2.00",
        "200",
        "?",
        "2.0 s",
        "2.0 s",
        "50.0 % of tokens",
    ]
    total = enrichlog.json("stats")["total"]
    assert (total["cost_microdollars"], total["unpriced_calls"], total["retry_tax"]["cost_microdollars"]) == (
        None, 2, None,
    )  # fmt: skip
    record(database, succeeded(1, **PAID | {"occurred_at": NOON}))
    assert shown(enrichlog)[1][5::3] == ["$0.001+?", "?"]
    assert enrichlog.json("stats")["total"]["cost_microdollars"] == 1_000
    said = enrichlog.done("stats").out
    assert "failures took 100 tokens (33.3 % of all) and money that is not known." in said
    assert said.endswith("?: of 2 calls the price is unknown; no sum has it.\n")


def test_what_came_late_is_told_apart(enrichlog: Command, database: Database) -> None:
    interrupted = failed(error_type="interrupted", occurred_at=NOON)
    record(database, interrupted, late(used=False, **PAID | {"occurred_at": NOON}))
    total = enrichlog.json("stats")["total"]
    assert (total["attempts"], total["late_results"], total["retry_tax"]["cost_microdollars"]) == (1, 1, 1_000)
    assert "1 result came late: no attempts of their own, but what they took counts." in enrichlog.done("stats").out


def test_another_enrichment_has_its_own_numbers(enrichlog: Command, many: Database, bare: Any) -> None:
    (bare / "enrichlog.toml").write_text("[enrichments.summary]\n")
    assert enrichlog.json("stats", "--enrichment", "summary")["total"]["error_types"] == {"timeout": 1}


def test_many_rows_are_read_a_page_at_a_time(
    enrichlog: Command, many: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enrichlog.stats._ROWS_TOGETHER", 2)
    assert enrichlog.json("stats")["total"]["attempts"] == 10


# -- where the rows cannot be moved on -----------------------------------------------------------------------------


def test_who_may_not_write_sees_what_is_there_and_how_far_behind_that_is(
    user: Command, postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", postgresql.url)
    record(postgresql, succeeded(1, **PAID | {"occurred_at": NOON}))
    user.done("stats")
    record(postgresql, succeeded(2, **PAID | {"occurred_at": NOON}))
    monkeypatch.setenv("PGOPTIONS", "-c default_transaction_read_only=on")
    document = user.json("stats")
    assert (document["position"], document["behind"], document["total"]["attempts"]) == (1, 1, 1)
    assert "is read-only" in document["why_behind"]
    said = user.done("stats")
    assert said.err.startswith("These numbers are as of position 1, 1 event behind. They could not be moved on: The da")
    assert "1 of 1 attempt succeeded." in said.out


def test_rows_of_another_version_of_the_fold_are_shown_with_what_mends_them(enrichlog: Command, many: Database) -> None:
    enrichlog.done("stats")
    run(many, "UPDATE {ours}checkpoints SET fold_version = 0")
    record(many, succeeded(1, **PAID | {"occurred_at": NOON}))
    said = enrichlog.done("stats")
    assert "carried on until: enrichlog rebuild enrichment_stats_hourly" in said.err
    assert "8 of 10 attempts succeeded" in said.out
    enrichlog.done("rebuild", enrichment_stats_hourly.projection.name)
    assert "9 of 11 attempts succeeded" in enrichlog.done("stats").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--by", "week"], "There is no grouping 'week'. Known to --by are: hour, day, model, prompt-version, error-t"),
        (["--by", "day,"], "There is no grouping ''. Known to --by are: "),
        (["--since", "2026-01-02", "--until", "2026-01-01"], "--since 2026-01-02 00:00:00 UTC is not before --un"),
        (["--since", "yesterday"], "'yesterday' is no time: write "),
        (["--enrichment", "none"], "There is no enrichment none. "),
    ],
)
def test_wrong_options_are_told(enrichlog: Command, words: list[str], told: str) -> None:
    said = enrichlog("stats", *words)
    assert (said.code, said.out) == (2, "")
    assert told in said.error
