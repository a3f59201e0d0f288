"""The breaker opened and closed by a person: what that appends, what it says, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from enrichlog.breakers import set_by_hand
from enrichlog.enrichment import enrichment_of
from enrichlog.settings import Settings
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog.database import Database
from projections.breaker import breaker_id
from tests.builders import failed, requested, started, tell
from tests.command_line import Command
from tests.service import import_many, of_type

REASON = ("--reason", "because")


@pytest.fixture
def ours(service: Settings) -> str:
    """The id of the breaker of what these settings call."""
    return breaker_id(*enrichment_of(service).called)


def test_ours_is_opened_before_anybody_has_met_it_and_closed_with_its_reason(enrichlog: Command, ours: str) -> None:
    assert enrichlog.json("breaker", "open", *REASON)["id"] == ours
    closed = enrichlog.json("breaker", "close", ours, "--reason", "it is back")
    assert (closed["state"], closed["reason"], closed["changed"]) == ("closed", "it is back", True)


def test_one_that_is_closed_already_is_left_alone(enrichlog: Command, database: Database, ours: str) -> None:
    enrichlog.done("breaker", "open", *REASON)
    assert "a posting that waits" in enrichlog.done("breaker", "close", *REASON).out.lower()
    acts = len(of_type(database, "BreakerSet"))
    assert enrichlog.done("breaker", "close", *REASON).out.startswith(f"{ours} was closed already: ")
    assert enrichlog.json("breaker", "close", *REASON)["changed"] is False
    assert len(of_type(database, "BreakerSet")) == acts == 2


def test_closing_ends_the_wait_that_a_provider_has_asked_for(database: Database, service: Settings) -> None:
    names = ("endpoint", "request_model", "credential")
    called: dict[str, Any] = dict(zip(names, enrichment_of(service).called, strict=True))
    slow = failed(error_type="rate_limited", counts=False, fault="ours", retry_after_ms=60_000, **called)
    tell(database, "job-1", requested(), started(**called), slow)
    assert set_by_hand(database, "closed", None, enrichment_of(service).called, "it is free").changed
    assert not set_by_hand(database, "closed", None, enrichment_of(service).called, "it is free").changed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("close", *REASON), "There is no breaker "),
        (("open", "deadbeef", *REASON), "There is no breaker deadbeef. Known are: none yet."),
        (("open", "--reason", " "), "Say why with --reason TEXT"),
        (("close", "--reason", "\n"), "Say why with --reason TEXT"),
        (("open", "deadbeef", *REASON, "--model", "x"), "Give BREAKER or --model, not both"),
        (("close", "deadbeef", *REASON, "--api", "chat"), "Give BREAKER or --api, not both"),
        (("open", "deadbeef", *REASON, "--base-url", "http://127.0.0.1:9"), "Give BREAKER or --base-url, not both"),
        (("open", *REASON, "--concurrency", "2"), "No such option '--concurrency'"),
        (("close", *REASON, "--fail-on-error"), "No such option '--fail-on-error'"),
    ],
)
def test_what_makes_no_sense_is_told_and_appends_nothing(
    enrichlog: Command, database: Database, words: tuple[str, ...], told: str
) -> None:
    said = enrichlog("breaker", *words)
    assert (said.code, said.out, told in said.error) == (2, "", True)
    assert of_type(database, "BreakerSet") == []


def test_what_mends_it_names_the_enrichment_that_asks_this_model(
    enrichlog: Command, bare: Path, service: Settings, database: Database, simulator: Simulator
) -> None:
    (bare / "enrichlog.toml").write_text('[enrichments.brief]\nmodel = "gpt-4.1-mini"\n')
    simulator.play(Script(rules=[Rule("Work number", (Fault.QUOTA,))]))
    import_many(database, 1)
    assert "retry --error-type quota --enrichment brief" in enrichlog("enrich", "--enrichment", "brief").err
    assert "retry --error-type quota --enrichment brief" in enrichlog.done("breaker", "list").out
    enrichlog("enrich")
    mends = [line for line in enrichlog.done("breaker", "list").out.splitlines() if "retry --error-type quota" in line]
    assert [line.rpartition("quota")[2] for line in mends] == [" --enrichment brief", ""]


def test_a_run_that_could_not_begin_tells_of_the_breaker_once_and_one_that_met_it_tells_at_its_end(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 2)
    simulator.play(Script(rules=[Rule("Work number", (Fault.QUOTA,))]))
    assert enrichlog("enrich").err.count("The breaker has been open") == 1
    assert enrichlog("enrich").err.count("The breaker has been open") == 1
