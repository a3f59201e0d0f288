"""Outdated: results of another prompt, schema, model or input than today's are counted, and renewed when asked."""

from pathlib import Path
from typing import Any

import pytest

from enrichlog import outdated as module
from enrichlog import renewal
from enrichlog.enrichment import Enrichment, enrichment_of
from enrichlog.outdated import OutdatedPlan, count_outdated, plan_outdated
from enrichlog.price import cost
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import MOVED_ON, Target
from eventlog.database import Database
from tests.builders import dismissed, failed, requested, run, shown, started, status, succeeded, tell
from tests.command_line import Command, contents
from tests.service import import_many, import_postings, of_type, posting

TODAYS = ("request_model", "prompt_hash", "schema_hash")


@pytest.fixture
def enrichment(service: Settings) -> Enrichment:
    """What is asked today."""
    return enrichment_of(service)


def enriched(database: Database, enrichment: Enrichment, job_id: str, **facts: Any) -> None:
    """A posting with a result of today's, but for these facts of its attempt."""
    import_postings(database, posting(job_id))
    basis = {name: enrichment.facts()[name] for name in TODAYS} | {"input_hash": posting(job_id).input_hash}
    known = {name: value for name, value in (basis | facts).items() if name in basis}
    tell(database, f"job-{job_id}", started(**known), succeeded(**basis | facts))


def counts(database: Database, enrichment: Enrichment) -> dict[str, int]:
    """What is outdated by cause, without the causes of nothing; the plan counts the same."""
    counted, plan = count_outdated(database, enrichment), plan_outdated(database, enrichment)
    by_cause: dict[str, int] = counted["by_cause"]
    assert by_cause == {cause: share.postings for cause, share in plan.by_cause.items()}
    assert counted["total"] == plan.total.postings == len(plan.targets)
    return {cause: count for cause, count in by_cause.items() if count}


@pytest.mark.parametrize(
    ("name", "cause"), [("request_model", "model"), ("prompt_hash", "prompt"), ("schema_hash", "schema")]
)
def test_a_result_is_outdated_when_what_it_rests_on_is_not_that_of_today(
    database: Database, enrichment: Enrichment, name: str, cause: str
) -> None:
    enriched(database, enrichment, "1", **{name: "another"})
    enriched(database, enrichment, "2")
    enriched(database, enrichment, "3", **{name: None})  # nobody knows what it rests on
    assert counts(database, enrichment) == {cause: 1}
    assert plan_outdated(database, enrichment).targets == [Target("1", 3)]


def test_several_causes_stand_beside_each_and_once_in_all(database: Database, enrichment: Enrichment) -> None:
    enriched(database, enrichment, "1", request_model="another", prompt_hash="another")
    enriched(database, enrichment, "2", prompt_hash="another")
    assert counts(database, enrichment) == {"prompt": 2, "model": 1}
    assert count_outdated(database, enrichment)["total"] == 2


def test_only_results_of_postings_that_are_there_are_outdated(database: Database, enrichment: Enrichment) -> None:
    events: dict[str, list[Any]] = {
        "again": [requested("force")], "runs": [started(2)], "failed": [started(2), failed(2)], "left": [dismissed()],
    }  # fmt: skip
    for job_id in (*events, "gone", "stays"):
        enriched(database, enrichment, job_id, prompt_hash="another")
        tell(database, f"job-{job_id}", *events.get(job_id, ()))
    run(database, "DELETE FROM job_postings WHERE id = 'gone'")
    tell(database, "brief-1", requested(), started(prompt_hash="another"), succeeded(prompt_hash="another"))
    assert [target.job_id for target in plan_outdated(database, enrichment).targets] == ["stays"]
    assert counts(database, enrichment) == {"prompt": 1}


def test_a_late_result_is_as_old_as_its_own_attempt(database: Database, enrichment: Enrichment) -> None:
    import_postings(database, posting("1"))
    old: dict[str, Any] = {"prompt_hash": "another"}
    new: dict[str, Any] = {"prompt_hash": enrichment.prompt.hash}
    tell(database, "job-1", started(**old), failed(), started(2, **new), failed(2), succeeded(1, **old))
    assert counts(database, enrichment) == {"prompt": 1}


def test_a_changed_input_is_outdated_until_it_is_noticed_and_then_due_by_itself(
    database: Database, enrichment: Enrichment
) -> None:
    enriched(database, enrichment, "1")
    changed = posting("1", description="Other work.")
    text = f"description = 'Other work.', input_hash = '{changed.input_hash}'"
    run(database, f"UPDATE job_postings SET {text} WHERE id = '1'")
    assert counts(database, enrichment) == {"input": 1}
    import_postings(database, changed)
    assert status(database, "job-1")["state"] == "pending"
    assert counts(database, enrichment) == {}


def test_a_hash_that_does_not_belong_to_its_text_costs_nothing(database: Database, enrichment: Enrichment) -> None:
    enriched(database, enrichment, "1")
    enriched(database, enrichment, "2", prompt_hash="another")
    run(database, "UPDATE job_postings SET input_hash = 'wrong'")
    plan = plan_outdated(database, enrichment)
    assert [target.job_id for target in plan.targets] == ["2"]
    assert (plan.by_cause["input"].postings, plan.by_cause["prompt"].postings) == (0, 1)


def test_the_estimate_is_what_a_result_took_at_the_price_of_today(database: Database, enrichment: Enrichment) -> None:
    import_postings(database, posting("1"))
    basis = {"prompt_hash": "another", "input_tokens": 1_000, "output_tokens": 300}
    tell(database, "job-1", started(), failed(input_tokens=200), started(2), succeeded(2, **basis))
    enriched(database, enrichment, "2", prompt_hash="another")  # it does not say
    estimate = plan_outdated(database, enrichment).total.estimate(enrichment)
    each = cost(enrichment.priced, 1_200, 300)
    assert each is not None
    assert estimate == {"postings": 2, "input_tokens": 2_400, "output_tokens": 600, "cost_microdollars": 2 * each}
    unpriced = enrichment._replace(model="nobody-knows")
    assert plan_outdated(database, unpriced).total.estimate(unpriced)["cost_microdollars"] is None


def test_a_posting_that_was_enriched_twice_is_estimated_at_what_one_result_took(
    database: Database, enrichment: Enrichment
) -> None:
    import_postings(database, posting("1"))
    basis: dict[str, Any] = {"prompt_hash": "another", "output_tokens": 300}
    tell(database, "job-1", started(), succeeded(input_tokens=1_000, **basis), requested("force"))
    tell(database, "job-1", started(2), succeeded(2, input_tokens=1_400, **basis))
    estimate = plan_outdated(database, enrichment).total.estimate(enrichment)
    assert (estimate["postings"], estimate["input_tokens"], estimate["output_tokens"]) == (1, 1_200, 300)


def test_what_nobody_has_told_is_not_estimated(database: Database, enrichment: Enrichment) -> None:
    enriched(database, enrichment, "1", prompt_hash="another")
    estimate = plan_outdated(database, enrichment).total.estimate(enrichment)
    assert estimate == {"postings": 1, "input_tokens": None, "output_tokens": None, "cost_microdollars": None}


def test_a_limit_takes_the_first_and_counts_all(
    database: Database, enrichment: Enrichment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    for job_id in "abcde":
        enriched(database, enrichment, job_id, prompt_hash="another")
    plan = plan_outdated(database, enrichment, 3)
    assert [target.job_id for target in plan.targets] == ["a", "b", "c"]
    assert (plan.taken.postings, plan.total.postings) == (3, 5)


# -- as typed ---------------------------------------------------------------------------------------------------------

OTHER = ("--model", "gpt-4.1-mini")


@pytest.fixture
def old(enrichlog: Command, database: Database) -> Command:
    """Three postings with results of the usual model."""
    import_many(database, 3)
    enrichlog.done("enrich")
    return enrichlog


def test_nothing_is_outdated_at_first_and_another_model_alone_asks_nobody(old: Command, simulator: Simulator) -> None:
    assert old.done("enrich", "--outdated").out.startswith("No result is outdated")
    calls = len(simulator.journal)
    assert old.done("enrich", *OTHER).out == "Nothing is due.\n"
    assert len(simulator.journal) == calls


def test_a_dry_run_tells_counts_and_cost_by_cause(old: Command, database: Database) -> None:
    before = contents(database)
    names, model, total = old.done("enrich", "--outdated", "--dry-run", *OTHER).out.splitlines()
    assert names.split() == ["What", "has", "changed", "Results", "Tokens", "Cost,", "about"]
    assert (model.split()[:2], total.split()[:3]) == (["model", "3"], ["in", "all", "3"])
    assert "$0.0" in total
    limited = old.done("enrich", "--outdated", "--dry-run", "--limit", "2", *OTHER).out.splitlines()
    assert limited[-1].startswith("2 postings will be enriched again, for about $0.0")
    assert limited[-1].endswith(" 1 more is left for later by --limit.")
    document = old.json("enrich", "--outdated", "--dry-run", "--limit", "2", *OTHER)
    assert set(document) == {
        "dry_run", "by_cause", "total", "would_take", "left_for_later", "requested_already",
    }  # fmt: skip
    assert set(document["by_cause"]) == {"prompt", "schema", "model", "input"}
    assert (document["by_cause"]["model"]["postings"], document["by_cause"]["prompt"]["postings"]) == (3, 0)
    assert (document["total"]["postings"], document["would_take"]["postings"]) == (3, 2)
    assert document["left_for_later"] == 1
    assert document["total"]["cost_microdollars"] > document["would_take"]["cost_microdollars"] > 0
    assert contents(database) == before


def test_what_is_outdated_runs_as_one_batch_and_a_result_stays_until_a_newer_one(
    old: Command, database: Database, simulator: Simulator
) -> None:
    before = shown(database, "job-001")
    simulator.play(Script(rules=[Rule("Work number 001", (Fault.REFUSAL,))]))
    document = old.json("enrich", "--outdated", "--yes", *OTHER)
    assert (document["succeeded"], document["errors"], document["left"]) == (2, {"refusal": 1}, {})
    requests = [event.facts for event in of_type(database, "EnrichmentRequested")][3:]
    assert {(facts["why"], facts["batch"]) for facts in requests} == {("changed", requests[0]["batch"])}
    after = shown(database, "job-001")
    assert before is not None
    assert after is not None
    assert after["result"] == before["result"]
    assert after["enrichment_error"]
    assert status(database, "job-000")["request_model"] == "gpt-4.1-mini"
    assert old.done("enrich", "--outdated", *OTHER).out.startswith("No result is outdated")


def test_a_posting_that_moved_on_since_the_plan_is_left(
    old: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_early(database: Database, enrichment: Enrichment, limit: int | None) -> OutdatedPlan:
        plan = plan_outdated(database, enrichment, limit)
        tell(database, "job-000", requested("force"))
        return plan

    monkeypatch.setattr(renewal, "plan_outdated", plan_early)
    document = old.json("enrich", "--outdated", "--yes", *OTHER)
    assert (document["done"], document["left"]) == (2, {"000": MOVED_ON})


def test_nothing_is_done_until_somebody_says_yes(old: Command, database: Database) -> None:
    before = contents(database)
    said = old("enrich", "--outdated", *OTHER)
    assert said.code == 2
    assert said.error.endswith("Nothing was done: confirm with --yes.")
    assert "3 postings will be enriched again, for about $0.0" in said.error
    asked = old("enrich", "--outdated", "--json", *OTHER)
    assert (asked.code, asked.document["total"]["postings"]) == (2, 3)
    assert contents(database) == before


@pytest.mark.parametrize("words", [["000"], ["--force", "--all"], ["000", "--force"]])
def test_it_finds_the_postings_itself(old: Command, words: list[str]) -> None:
    said = old("enrich", "--outdated", *words)
    assert (said.code, "leave out their ids, --force and --all." in said.error) == (2, True)


def test_a_limit_of_money_needs_a_price(old: Command, database: Database) -> None:
    before = contents(database)
    said = old("enrich", "--outdated", "--yes", "--max-cost", "1", "--model", "nobody-knows")
    assert (said.code, "The price of nobody-knows" in said.err) == (2, True)
    assert contents(database) == before


def test_status_counts_what_is_outdated(old: Command, bare: Path) -> None:
    assert "Outdated" not in old.done("status").out
    assert old.json("status")["outdated"] == {
        "total": 0, "by_cause": {"prompt": 0, "schema": 0, "model": 0, "input": 0}, "why_unknown": None,
    }  # fmt: skip
    (bare / "enrichlog.toml").write_text('model = "gpt-4.1-mini"\n')
    assert old.json("status")["outdated"]["by_cause"]["model"] == 3
    told = old.done("status").out.splitlines()[-1]
    assert told == "Outdated: 3 results (3 model). See: enrichlog enrich --outdated --dry-run"


def test_status_says_why_it_cannot_tell_what_is_outdated(old: Command, bare: Path) -> None:
    (bare / "enrichlog.toml").write_text('prompt = "gone.md"\n')
    assert old.json("status")["outdated"]["total"] is None
    assert old.done("status").out.splitlines()[-1].startswith("Outdated: not known. The prompt gone.md is not usable")


def test_another_enrichment_has_results_of_its_own(old: Command, bare: Path) -> None:
    (bare / "enrichlog.toml").write_text('[enrichments.brief]\nmodel = "gpt-4.1-mini"\n')
    assert old.json("status", "--enrichment", "brief")["outdated"]["total"] == 0
    assert old.json("enrich", "--enrichment", "brief")["succeeded"] == 3
    assert old.json("status", "--enrichment", "brief", *())["outdated"]["total"] == 0
    configure()
