"""`enrichlog limits`, and limits as flags and settings of one process."""

import re
from pathlib import Path

import pytest

from enrichlog.llm_enrichment import process_job_enrichment
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from eventlog.errors import HeldBack
from tests.command_line import Command
from tests.service import import_many, of_type

ALL = ("--requests-per-minute", "600", "--tokens-per-minute", "200000", "--dollars-per-day", "12.5")


def test_limits_are_set_listed_and_cleared(enrichlog: Command, database: Database) -> None:
    assert enrichlog.done("limits", "list").out.startswith(
        "There is no limit. Set one with: enrichlog limits set --req"
    )
    lines = enrichlog.done("limits", "set", *ALL).out.splitlines()
    assert lines[0].startswith("all calls: $12.50 per UTC day; $0.00 used or reserved until ")
    assert [line.rpartition(": ")[2] for line in lines[1:]] == [
        "600 requests per minute", "200,000 tokens per minute; 0 used or reserved in the last one",
    ]  # fmt: skip
    assert enrichlog.done("limits", "set", "--requests-per-minute", "300").out.count("\n") == 3
    told = enrichlog.json("status")["limits"]
    assert [(one["unit"], one["limit"]) for one in told] == [
        ("microdollars", 12_500_000), ("requests", 300), ("tokens", 200_000),
    ]  # fmt: skip
    assert enrichlog.done("limits", "clear", "--dollars-per-day").out == "Cleared: dollars per day.\n"
    assert enrichlog.json("limits", "clear") == {"cleared": ["requests", "tokens"], "missing": []}
    assert re.match("There is no limit for .*; no rate is lim", enrichlog.done("limits", "clear").out)
    assert enrichlog("limits", "clear", "--dollars-per-day")[:2] == (1, "There is no limit of dollars per day.\n")
    assert enrichlog.json("limits", "list")["limits"] == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("limits", "set"), "Say which limit: --requests-per-minute, --tokens-per-minute, --dollars-per-day."),
        (("limits", "set", "--requests-per-minute", "0"), "0 is not in the range"),
        (("limits", "set", "--tokens-per-minute", "-5"), "-5 is not in the range"),
        (("limits", "set", "--dollars-per-day", "0"), "0.0 is not in the range"),
        (("limits", "set", "--dollars-per-day", "0.0000009"), "0.0000009 is less than the least amount that is coun"),
        (("limits", "set", "--dollars-per-day", "1000001"), "1000001.0 is not in the range"),
        (("enrich", "--max-cost", "1e-7"), "1e-7 is less than the least amount that is counted, 0.000001"),
        (("limits", "set", "--dollars-per-day", "nan"), "'nan' is no amount"),
        (("limits", "set", "--dollars-per-day", "5", "--model", "nobodys"), "The price of nobodys at "),
        (("enrich", "--requests-per-minute", "0"), "0 is not in the range"),
        (("retry", "--tokens-per-minute", "0"), "0 is not in the range"),
        (("enrich", "--dollars-per-day", "-1"), "-1.0 is not in the range"),
        (("enrich", "--dollars-per-day", "5", "--model", "nobodys"), "The price of nobodys at "),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(
    enrichlog: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite.url)
    said = enrichlog(*words)
    assert (said.code, said.out, told in said.error) == (2, "", True)


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "dollars_per_day"])
def test_a_limit_of_zero_or_true_is_refused_in_a_variable_and_in_the_file(
    user: Command, bare: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (bare / "enrichlog.toml").write_text(f"{name} = 0\n")
    assert f"The setting {name} from enrichlog.toml is not usable: Input" in user("config").error
    monkeypatch.setenv(f"ENRICHLOG_{name.upper()}", "0")
    assert f"The setting {name} from ENRICHLOG_{name.upper()} is not usable" in user("config").error
    monkeypatch.setenv(f"ENRICHLOG_{name.upper()}", "true")
    assert f"The setting {name} from ENRICHLOG_{name.upper()} is not usable" in user("config").error


def test_a_limit_of_another_key_is_said_to_be_and_is_cleared_by_its_id(
    enrichlog: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite.url)
    enrichlog.done("limits", "set", "--requests-per-minute", "600")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-another")
    said = enrichlog("limits", "clear", "--requests-per-minute")
    (one,) = enrichlog.json("limits", "list")["limits"]
    where = f"{one['request_model']} at {one['endpoint']}, key"
    assert said.out.startswith(f"There is no limit of requests per minute for {where} ")
    there = f"{where} {one['credential']} ({one['id']})"
    assert said.out.endswith(f"those that are set are for {there}. To clear one of them: enrichlog limits clear ID\n")
    assert enrichlog.done("limits", "list").out.startswith(f"{one['id']} {where}")
    assert "There is no limit nine. Known are: " + one["id"] in enrichlog("limits", "clear", "nine").error
    for words in (("--model", "other"), ("--dollars-per-day",)):
        assert "not both" in enrichlog("limits", "clear", one["id"], *words).err
    tokens = enrichlog("limits", "clear", one["id"], "--tokens-per-minute", "--json")
    assert (said.code, tokens.code, tokens.document) == (1, 1, {"cleared": [], "missing": ["tokens"]})
    assert enrichlog.done("limits", "clear", one["id"]).out == "Cleared: requests per minute.\n"
    assert enrichlog.json("limits", "list")["limits"] == []


def test_a_rate_is_that_of_a_key_and_money_is_not(
    user: Command, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", sqlite.url)
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    for words in (("set", "--requests-per-minute", "5"), ("clear", "--tokens-per-minute"), ("clear",)):
        assert "There is no API key." in user("limits", *words).error
    user.done("limits", "set", "--dollars-per-day", "5")
    assert user.done("limits", "clear", "--dollars-per-day").out == "Cleared: dollars per day.\n"


def test_the_setting_of_a_process_is_listed_as_one_that_all_with_the_same_share(
    enrichlog: Command, service: Settings, database: Database
) -> None:
    import_many(database, 1)
    enrichlog.done("enrich", "--requests-per-minute", "600")
    told = enrichlog.done("limits", "list").out
    assert told.endswith(": 600 requests per minute for all processes with this setting\n")
    assert enrichlog.json("status")["limits"][0]["is_setting"] is True


def test_a_run_ends_when_the_money_of_the_day_is_used_up_and_says_until_when(
    enrichlog: Command, service: Settings, database: Database, simulator: Simulator
) -> None:
    import_many(database, 6)
    said = enrichlog("enrich", "--dollars-per-day", "0.0027")
    assert len(simulator.journal) == 1
    assert "Stopped early. The limit of $0.0027 per UTC day is used up or reserved: no call begins before " in said.out
    assert said.out.rstrip().endswith("That is this process's own setting dollars_per_day")
    enrichlog.done("limits", "set", "--dollars-per-day", "0.0027")
    before = len(simulator.journal)
    enrichlog("enrich", "000", "--force")
    assert len(simulator.journal) == before
    assert enrichlog.json("limits", "list")["limits"][0]["used_today"] > 0
    enrichlog.done("limits", "set", "--dollars-per-day", "5")
    assert enrichlog.done("enrich").code == 0


def test_the_first_call_that_costs_more_than_a_day_may_is_warned_of(enrichlog: Command, sqlite: Database) -> None:
    import_many(sqlite, 3)
    said = enrichlog("enrich", "--database", sqlite.url, "--dollars-per-day", "0.000001")
    warning = (
        "which is more than the limit of $0.000001 per day, which is this process's own setting dollars_per_day: such "
        "postings wait for the next day. Raise the limit, or"
    )
    assert (said.err.count(warning), said.err.count("warning: One call may cost $0.0")) == (1, 1)
    assert "3 × budget_exceeded" in said.out


def test_a_brake_is_told(enrichlog: Command, service: Settings, database: Database, simulator: Simulator) -> None:
    import_many(database, 1)
    simulator.play(Script(rules=[Rule("", (Fault.RATE_LIMIT,))], retry_after=0.0))
    enrichlog("enrich")
    assert len(of_type(database, "EnrichmentFailed")) == 1
    assert "requests per minute; braked since " in enrichlog.done("status").out
    (told,) = enrichlog.json("limits", "list")["limits"]
    assert (told["limit"], told["braked_at"] is not None) == (None, True)


def test_what_is_asked_for_by_force_or_from_python_begins_nothing_beyond_the_money_of_the_day(
    enrichlog: Command, service: Settings, database: Database, simulator: Simulator
) -> None:
    import_many(database, 2)
    enrichlog.done("limits", "set", "--dollars-per-day", "0.0027")
    enrichlog("enrich", "000")
    calls = len(simulator.journal)
    configure(database=database.url)
    with pytest.raises(HeldBack, match=r"The limit of \$0\.0027 per UTC day is used up"):
        process_job_enrichment("000", force=True)
    enrichlog("enrich", "--all", "--force", "--yes")
    assert len(simulator.journal) == calls == 1
