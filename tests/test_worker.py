"""The walk of many enrichments, claim → ask → record, from the first start to a log that agrees with the server."""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from enrichlog import attempt
from enrichlog import calls as calls_module
from enrichlog import intake as intake_module
from enrichlog import simulator as simulator_module
from enrichlog import worker as worker_module
from enrichlog.claims import claim
from enrichlog.enrichment import enrichment_of, request_for
from enrichlog.exceptions import MissingApiKey, UnknownPrice
from enrichlog.posting_files import import_file
from enrichlog.progress import Run
from enrichlog.reply import Api, Reply
from enrichlog.runs import perform
from enrichlog.scope import Scope
from enrichlog.settings import Settings, configure
from enrichlog.simulator import Fault, Rule, Script, Simulator
from enrichlog.targets import Target, open_scope, request
from enrichlog.waiting import Waiting
from enrichlog.worker import Worker
from eventlog.database import Database
from eventlog.errors import DatabaseRefused
from eventlog.integrity import verify_log
from tests.builders import BOUND, run, sessions, shown, status
from tests.drift import drift_of
from tests.service import (
    KEY,
    SAMPLES,
    close_breaker,
    ends_of,
    enrich,
    error_types,
    import_many,
    import_postings,
    of_type,
    posting,
    texts_of_log,
)

TROUBLE = {
    "Senior Data Scientist": (Fault.RATE_LIMIT, Fault.OK),
    "Security": (Fault.INVALID_JSON,),
    "Business": (Fault.BAD_GATEWAY,),
    "Governance": (Fault.RESET,),
    "Architect": (Fault.WRONG_SCHEMA, Fault.OK),
    "Artificial Intelligence Engineer": (Fault.REFUSAL,),
    "Analyst": (Fault.INCOMPLETE,),
}


def import_samples(database: Database) -> None:
    import_file(database, SAMPLES, {}, ["job"], "tests")


def play(simulator: Simulator, faults: dict[str, Any], **script: Any) -> None:
    """Faults by the text that a request must contain; a rate limit asks for no wait worth a test's time."""
    rules = [Rule(match, [names] if isinstance(names, str) else names) for match, names in faults.items()]
    simulator.play(Script(rules=rules, **{"retry_after": 0.02, **script}))


def called_attempts(database: Database) -> list[str]:
    """The attempts of which the log says that a call was made."""
    ends = [end for found in ends_of(database).values() for end in found]
    return [end.facts["attempt_id"] for end in ends if end.facts["called"]]


def assert_log_and_server_agree(database: Database, simulator: Simulator) -> None:
    """Every call received is a start whose end says so, every start has one end, every read model follows the log."""
    assert {len(found) for found in ends_of(database).values()} <= {1}
    assert sorted(called_attempts(database)) == sorted(str(call.client_request_id) for call in simulator.journal)
    assert verify_log(database).faults == []
    assert drift_of(database) == 0


# -- the whole walk ---------------------------------------------------------------------------------------------------


@pytest.mark.pooled
def test_every_call_is_a_start_with_one_end_whatever_happens(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_samples(database)
    play(simulator, TROUBLE)
    done = enrich(database, service)
    assert (done.done, done.stopped, done.late) == (44, None, 0)
    assert len(simulator.journal) == 43  # one has no text
    assert_log_and_server_agree(database, simulator)


@pytest.mark.pooled
def test_a_run_tells_what_the_log_tells(database: Database, simulator: Simulator, service: Settings) -> None:
    import_samples(database)
    play(simulator, TROUBLE)
    done = enrich(database, service)
    successes, failures = of_type(database, "EnrichmentSucceeded"), of_type(database, "EnrichmentFailed")
    assert (done.succeeded, done.failed, done.errors) == (len(successes), len(failures), error_types(database))
    ends = [end.facts for end in successes + failures]
    assert done.input_tokens == sum(facts.get("input_tokens", 0) for facts in ends)
    assert done.input_tokens == sum(call.input_tokens for call in simulator.journal if call.completed)
    assert done.cost_microdollars == sum(facts.get("cost_microdollars", 0) for facts in ends) > 0
    assert done.unpriced_calls == done.errors["connection"] + done.errors["server_error"] > 0  # no usage came back
    assert {"input_error", "refusal", "rate_limited", "invalid_json", "connection"} <= done.errors.keys()


def test_the_read_models_show_each_result_and_each_error(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_postings(database, posting("good"), posting("bad"), posting("empty", description=""))
    play(simulator, {"Engineer bad": Fault.QUOTA})
    enrich(database, service)
    good, bad, empty = (shown(database, f"job-{job_id}") or {} for job_id in ("good", "bad", "empty"))
    assert good["result"]["title"] == "Engineer good"
    assert (good["enrichment_error"], good["enrichment_model_version"]) == (None, "gpt-4o-mini")
    assert bad["enrichment_error"].startswith("Error code: 429 - You exceeded your current quota")
    assert empty["enrichment_error"] == "No description found"
    assert all(row["enrichment_completed_at"] is not None for row in (good, bad, empty))


def test_a_later_run_takes_what_can_be_tried_again_and_nothing_else(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_samples(database)
    play(simulator, TROUBLE)
    soon = configure(backoff_base_seconds=0.001)
    play(simulator, TROUBLE, retry_after=0.0)
    first = enrich(database, soon)
    again = enrich(database, soon)
    assert again.done == first.failed - first.errors["input_error"] - first.errors["refusal"]
    assert status(database, "job-sample-001")["attempts"] == 1  # it was refused, and that is final
    assert_log_and_server_agree(database, simulator)


def test_nothing_is_left_to_do_after_a_run_without_trouble(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 25)
    assert (enrich(database, service).succeeded, enrich(database, service).done) == (25, 0)
    assert len(simulator.journal) == 25


def test_an_end_says_where_its_start_stands(database: Database, simulator: Simulator, service: Settings) -> None:
    import_many(database, 3)
    play(simulator, {"Engineer 001": Fault.QUOTA})
    enrich(database, service)
    starts = {one.facts["attempt_id"]: one.position for one in of_type(database, "EnrichmentStarted")}
    ends = {attempt_id: found[0].facts["started_position"] for attempt_id, found in ends_of(database).items()}
    assert starts == ends


def test_a_rate_limited_posting_waits_as_long_as_the_server_asks(
    sqlite: Database, simulator: Simulator, service: Settings
) -> None:
    import_postings(sqlite, posting())
    play(simulator, {"Engineer": Fault.RATE_LIMIT}, retry_after=600.0)
    enrich(sqlite, service)
    (failed,) = of_type(sqlite, "EnrichmentFailed")
    assert (failed.facts["retry_after_ms"], failed.facts["wait_ms"]) == (600_000, 600_000)
    assert (failed.facts["provider_error_type"], failed.facts["error_code"]) == ("requests", "rate_limit_exceeded")
    assert "error_class" not in failed.facts
    found = status(sqlite, "job-1")
    assert (found["due_at"] - found["completed_at"]).total_seconds() == 600.0
    assert (found["budget_used"], found["failures"], found["deferrals"]) == (0, 1, 0)


def test_a_run_over_a_batch_takes_the_batch(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_many(sqlite, 3)
    found = request(sqlite, "job", [Target("001", 1)], "outdated")
    done = perform(sqlite, service, enrichment_of(service), found.scope)
    assert done.done == 1
    assert of_type(sqlite, "EnrichmentSucceeded")[0].stream_id == "job-001"


def test_chat_completions_are_walked_the_same_way(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_samples(sqlite)
    play(simulator, TROUBLE)
    assert enrich(sqlite, configure(api="chat")).done == 44
    assert {call.path for call in simulator.journal} == {"/v1/chat/completions"}
    assert_log_and_server_agree(sqlite, simulator)


@pytest.mark.pooled
def test_what_another_program_holds_just_then_is_waited_for(
    postgresql: Database, service: Settings, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(postgresql, 2)
    with sessions(postgresql, 1) as (holder,):
        holder.execute("SELECT FROM enrichlog.enrichment_status FOR UPDATE")
        monkeypatch.setattr(worker_module, "LOOK_SECONDS", 0.01)
        held = enrich(postgresql, service)
        assert (held.done, held.stopped) == (0, "another program holds what is due.")
        looks: list[float | None] = []

        async def let_go(_: Waiting, seconds: float | None) -> None:
            looks.append(seconds)
            holder.rollback()

        monkeypatch.setattr(Waiting, "sleep", let_go)
        assert (enrich(postgresql, service).succeeded, looks) == (2, [0.01])


# -- limits -----------------------------------------------------------------------------------------------------------


def test_an_exhausted_quota_stops_the_run_after_few_calls_and_costs_no_budget(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 60)
    play(simulator, {}, quota=12, latency=0.005)
    done = enrich(database, service)
    assert done.stopped is not None
    assert done.stopped.startswith("Quota Exceeded: Error code: 429 - You exceeded your current quota")
    refused = [call for call in simulator.journal if call.fault == "quota"]
    assert 1 <= len(refused) <= service.concurrency
    assert (done.succeeded, done.errors) == (12, {"quota_exceeded": len(refused)})
    (sums,) = run(database, "SELECT sum(budget_used) AS used, count(*) AS postings FROM {ours}enrichment_status")
    assert (sums["used"], sums["postings"]) == (0, 60)
    assert_log_and_server_agree(database, simulator)

    simulator.restore_quota()
    close_breaker(database, service)
    assert enrich(database, service).succeeded == 48
    assert {row["state"] for row in run(database, "SELECT state FROM {ours}enrichment_status")} == {"succeeded"}


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.MODEL_NOT_FOUND, Fault.INVALID_SCHEMA])
def test_a_mistake_of_configuration_stops_the_run_and_says_what_it_is(
    sqlite: Database, simulator: Simulator, service: Settings, fault: Fault
) -> None:
    import_many(sqlite, 40)
    play(simulator, {"Engineer": fault})
    done = enrich(sqlite, service)
    assert (done.stopped or "").startswith("Configuration: Error code: 40")
    assert len(simulator.journal) <= 2 * service.concurrency
    assert status(sqlite, "job-000")["budget_used"] == 0


@pytest.mark.parametrize("limit", [0, 1, 7, 30])
def test_a_limit_bounds_the_postings_taken(
    sqlite: Database, simulator: Simulator, service: Settings, limit: int
) -> None:
    import_many(sqlite, 20)
    done = enrich(sqlite, service, limit=limit)
    assert done.done == len(simulator.journal) == len(ends_of(sqlite)) == min(limit, 20)


@pytest.mark.parametrize("calls", [0, 1, 9])
def test_no_more_than_the_limit_of_money_is_spent(
    sqlite: Database, simulator: Simulator, service: Settings, calls: int
) -> None:
    import_many(sqlite, 20)
    capped = configure(max_output_tokens=600)
    enrich(sqlite, capped, limit=1)
    price = of_type(sqlite, "EnrichmentStarted")[0].facts["reserved_microdollars"]
    most = calls * price + price // 2
    done = enrich(sqlite, capped, max_cost=most)
    assert done.cost_microdollars <= most
    assert done.done >= calls  # what was reserved and not spent pays for more
    if done.done < 19:
        assert done.stopped == "the limit of money for this run does not allow another call."
    assert_log_and_server_agree(sqlite, simulator)


def test_a_limit_of_money_caps_the_answers_that_nobody_capped(
    sqlite: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(sqlite, 2)
    enrich(sqlite, service, limit=1)
    enrich(sqlite, service, max_cost=1_000_000)
    parameters = [start.facts["request_parameters"] for start in of_type(sqlite, "EnrichmentStarted")]
    assert parameters == ["{}", '{"max_output_tokens":4096}']


def test_a_limit_of_money_without_a_known_price_is_refused_before_anything_starts(
    sqlite: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(sqlite, 2)
    with pytest.raises(UnknownPrice, match=r"The price of our-own-model at .* is not known.* Leave --max-cost out"):
        enrich(sqlite, configure(model="our-own-model"), max_cost=1_000_000)
    assert ends_of(sqlite) == {}


def test_an_unknown_price_is_told_as_unknown(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_many(sqlite, 3)
    done = enrich(sqlite, configure(model="our-own-model"))
    assert (done.cost_microdollars, done.unpriced_calls) == (0, 3)
    assert "cost_microdollars" not in of_type(sqlite, "EnrichmentSucceeded")[0].facts


def test_without_a_key_and_without_a_server_nothing_starts(sqlite: Database, bare: Path) -> None:
    import_many(sqlite, 2)
    with pytest.raises(MissingApiKey, match=r"There is no API key\. Set OPENAI_API_KEY"):
        enrich(sqlite, configure())
    assert ends_of(sqlite) == {}


def test_a_large_input_makes_no_call(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_postings(sqlite, posting("large", description="word " * 4_000), posting("small"))
    done = enrich(sqlite, configure(max_input_tokens=2_000))
    assert (done.succeeded, done.errors) == (1, {"input_too_large": 1})
    assert len(simulator.journal) == 1
    (failed,) = of_type(sqlite, "EnrichmentFailed")
    assert (failed.facts["called"], failed.facts["retryable"]) == (False, False)


def test_a_large_input_is_cut_when_that_is_asked_for(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_postings(sqlite, posting("large", description="word " * 4_000))
    assert enrich(sqlite, configure(max_input_tokens=2_000, cut_input=True)).succeeded == 1
    (start,) = of_type(sqlite, "EnrichmentStarted")
    assert 0 < start.facts["input_kept_characters"] < start.facts["input_characters"] == 20_000


# -- a client that a test holds in its hand ---------------------------------------------------------------------------


class Held:
    """A client whose calls wait until they are let go, and then answer."""

    def __init__(self, answer: Mapping[str, Any] | None = None) -> None:
        self.calls: list[str] = []
        self.answer = orjson.dumps(answer or ANSWER)
        self.at_once = self.most_at_once = 0
        self.go = asyncio.Event()
        self.asked = asyncio.Event()

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        self.calls.append(attempt_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.asked.set()
        try:
            await self.go.wait()
        finally:
            self.at_once -= 1
        return Reply(1, 200, {}, self.answer)

    async def until_asked(self, count: int) -> None:
        """Wait for so many calls."""
        async with asyncio.timeout(BOUND):
            while len(self.calls) < count:
                self.asked.clear()
                await self.asked.wait()


LISTS: dict[str, Any] = {"must_have_skills": [], "nice_to_have_skills": [], "languages": []}
NOTHING = dict.fromkeys(("seniority", "contract", "remote_policy", "salary"))
FIELDS = {"title": "T", "role_type": "other", "summary_short": "", "summary_long": "", **LISTS, **NOTHING}
TEXT = {"type": "output_text", "text": orjson.dumps(FIELDS).decode()}
ANSWER = {"status": "completed", "output": [{"type": "message", "content": [TEXT]}]}


def worker_of(database: Database, settings: Settings, client: Held, **options: Any) -> Worker:
    return Worker(database, settings, enrichment_of(settings), client, **options)


async def end_of(working: "asyncio.Task[Run]") -> Run:
    async with asyncio.timeout(BOUND):
        return await working


def interrupted_ends(database: Database) -> list[tuple[bool, bool, str]]:
    """What the ends of interrupted attempts say: whether they count, whether they called, and the message."""
    failures = [one for one in of_type(database, "EnrichmentFailed") if one.facts["error_type"] == "interrupted"]
    return [(one.facts["counts"], one.facts["called"], (one.content or {})["message"]) for one in failures]


def test_a_slow_call_does_not_keep_the_other_postings_waiting(sqlite: Database, service: Settings) -> None:
    import_many(sqlite, 30)

    async def walk() -> Run:
        client = SlowFirst()
        worker = worker_of(sqlite, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        await client.until_asked(30)
        client.go.set()
        return await end_of(working)

    assert asyncio.run(walk()).succeeded == 30


class SlowFirst(Held):
    """The same, where the first call alone has to be let go."""

    async def ask(self, api: Api, body: dict[str, object], attempt_id: str) -> Reply:
        if self.calls:
            self.calls.append(attempt_id)
            self.asked.set()
            return Reply(1, 200, {}, self.answer)
        return await super().ask(api, body, attempt_id)


def limited(database: Database, client: Held, calls: int) -> tuple[Worker, int]:
    """A worker whose money is enough for so many calls and a half, and what is reserved for each."""
    bounded = enrichment_of(configure(concurrency=20)).with_bounded_cost()
    whole = posting("000")
    reserved = attempt.reserve(bounded, request_for(bounded, whole._asdict(), whole.input_hash, 99_999, cut=False))
    assert reserved is not None
    return worker_of(database, configure(), client, max_cost=calls * reserved + reserved // 2), reserved


def test_what_running_calls_may_cost_is_not_given_to_others(
    sqlite: Database, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 40)
    moneys, claimed_twice = [], threading.Event()

    def watched_claim(*arguments: Any, alone: bool) -> Any:
        moneys.append(arguments[-1])
        if len(moneys) == 2:
            claimed_twice.set()
        return claim(*arguments, alone=alone)

    monkeypatch.setattr(intake_module, "claim", watched_claim)

    async def walk() -> int:
        client = Held()
        worker, reserved = limited(sqlite, client, calls=4)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        assert await asyncio.to_thread(claimed_twice.wait, BOUND)
        client.go.set()
        await end_of(working)
        return reserved

    reserved = asyncio.run(walk())
    assert moneys[:2] == [4 * reserved + reserved // 2, reserved // 2]


@pytest.mark.parametrize(("usage", "calls"), [({}, 4), ({"input_tokens": 1, "output_tokens": 1}, 40)])
def test_a_call_of_which_nobody_knows_what_it_cost_counts_with_what_was_reserved_for_it(
    sqlite: Database, service: Settings, usage: dict[str, int], calls: int
) -> None:
    import_many(sqlite, 40)

    async def walk() -> Run:
        client = Held({**ANSWER, "usage": usage})
        client.go.set()
        return await limited(sqlite, client, calls=4)[0].work(open_scope(sqlite, "job"))

    done = asyncio.run(walk())
    assert (done.succeeded, done.unpriced_calls) == (calls, 0 if usage else calls)
    assert (done.stopped is None) == (calls == 40)


def test_what_is_claimed_when_the_run_is_stopped_already_is_released(
    sqlite: Database, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 3)
    client = Held()
    workers: list[Worker] = []

    def late_claim(*arguments: Any, alone: bool) -> Any:
        claims = claim(*arguments, alone=alone)
        workers[0].run.stopped = "stopped while it claimed"
        return claims

    monkeypatch.setattr(intake_module, "claim", late_claim)

    async def walk() -> Run:
        client.go.set()
        workers.append(worker_of(sqlite, service, client))
        return await workers[0].work(open_scope(sqlite, "job"))

    assert asyncio.run(walk()).done == 0
    assert client.calls == []
    assert interrupted_ends(sqlite) == [(False, False, "The run was stopped before the call was begun")] * 3


def test_a_defect_in_judging_a_reply_is_an_end_like_any_other(
    sqlite: Database, service: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 2)

    def broken(*_: object) -> Any:
        raise ZeroDivisionError("of a result model")

    monkeypatch.setattr(calls_module, "judge", broken)

    async def walk() -> Run:
        client = Held()
        client.go.set()
        return await worker_of(sqlite, service, client).work(open_scope(sqlite, "job"))

    assert asyncio.run(walk()).errors == {"other": 2}
    (end,) = ends_of(sqlite).popitem()[1]
    assert (end.content or {})["message"] == "ZeroDivisionError: of a result model"
    assert (end.facts["error_class"], end.facts["called"]) == ("ZeroDivisionError", True)


def test_each_end_is_logged_with_its_job_and_its_attempt(
    sqlite: Database, simulator: Simulator, service: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "enrichlog")
    import_postings(sqlite, posting("good"), posting("bad", description=""))
    enrich(sqlite, service)
    told = {record.__dict__["job_id"]: record for record in caplog.records if record.name == "enrichlog.calls"}
    assert told["good"].getMessage() == "good: attempt 1 succeeded"
    assert told["bad"].getMessage() == "bad: attempt 1 failed, input_error: No description found"
    assert {record.__dict__["attempt_id"] for record in told.values()} == ends_of(sqlite).keys()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short grace."""
    monkeypatch.setattr(worker_module, "GRACE_SECONDS", 0.1)


SHUT_DOWN = (False, True, "The run was stopped before the answer came")


def test_no_more_calls_run_at_once_than_was_asked_for(sqlite: Database, service: Settings) -> None:
    import_many(sqlite, 12)

    async def walk() -> Held:
        client = Held()
        worker = worker_of(sqlite, configure(concurrency=5), client)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        await client.until_asked(5)
        client.go.set()
        assert (await end_of(working)).succeeded == 12
        return client

    assert asyncio.run(walk()).most_at_once == 5


def test_a_run_that_is_stopped_lets_what_runs_finish(sqlite: Database, service: Settings) -> None:
    import_many(sqlite, 12)

    async def walk() -> Run:
        client = Held()
        worker = worker_of(sqlite, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        await client.until_asked(4)
        worker.run.signal = signal.SIGTERM
        worker.stop("stopped by SIGTERM")
        client.go.set()
        return await end_of(working)

    done = asyncio.run(walk())
    assert (done.succeeded, done.failed, done.stopped) == (4, 0, "stopped by SIGTERM")
    assert len(ends_of(sqlite)) == 4


def test_what_does_not_finish_within_the_grace_is_closed_as_interrupted_and_does_not_count(
    database: Database, service: Settings, brief: None
) -> None:
    import_many(database, 12)

    async def walk() -> Run:
        client = Held()
        worker = worker_of(database, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(database, "job")))
        await client.until_asked(4)
        worker.run.signal = signal.SIGTERM
        worker.stop("stopped by SIGTERM")
        return await end_of(working)

    done = asyncio.run(walk())
    assert done.errors == {"interrupted": 4}
    assert interrupted_ends(database) == [SHUT_DOWN] * 4
    found = status(database, "job-000")
    assert (found["state"], found["budget_used"], found["retryable"]) == ("failed", 0, True)
    assert found["due_at"] == found["completed_at"]  # at once


def test_a_second_stop_does_not_wait_for_the_grace(sqlite: Database, service: Settings) -> None:
    import_many(sqlite, 4)

    async def walk() -> Run:
        client = Held()
        worker = worker_of(sqlite, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        await client.until_asked(4)
        worker.run.signal = signal.SIGINT
        worker.stop("stopped by SIGINT")
        worker.abandon()
        return await end_of(working)

    assert asyncio.run(walk()).errors == {"interrupted": 4}
    assert interrupted_ends(sqlite) == [SHUT_DOWN] * 4


@pytest.mark.pooled
def test_what_was_learnt_is_recorded_though_the_database_is_busy_when_the_grace_ends(
    database: Database, service: Settings, brief: None
) -> None:
    import_many(database, 4)
    held, never = threading.Event(), threading.Event()

    def hold() -> None:
        with database.write() as connection:
            database.dialect.lock_log(connection)
            held.set()
            never.wait(0.5)  # the grace ends several times over while nothing can be recorded

    locked = threading.Thread(target=hold)

    async def walk() -> Run:
        client = Held()
        worker = worker_of(database, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(database, "job")))
        await client.until_asked(4)
        locked.start()
        await asyncio.to_thread(held.wait, BOUND)
        worker.run.signal = signal.SIGTERM
        worker.stop("stopped by SIGTERM")
        client.go.set()
        return await end_of(working)

    asyncio.run(walk())
    locked.join()
    assert [len(found) for found in ends_of(database).values()] == [1] * 4
    assert len(of_type(database, "EnrichmentSucceeded")) == 4


def test_a_run_that_is_cancelled_ends_what_it_started(sqlite: Database, service: Settings, brief: None) -> None:
    import_many(sqlite, 12)

    async def walk() -> None:
        client = Held()
        worker = worker_of(sqlite, configure(concurrency=4), client)
        working = asyncio.create_task(worker.work(open_scope(sqlite, "job")))
        await client.until_asked(4)
        working.cancel()
        with pytest.raises(asyncio.CancelledError):
            await end_of(working)

    asyncio.run(walk())
    assert [len(found) for found in ends_of(sqlite).values()] == [1] * 4


def test_a_run_that_is_cancelled_while_it_claims_leaves_no_start_without_an_end(
    sqlite: Database, service: Settings, brief: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(sqlite, 3)
    claiming, go_on = threading.Event(), threading.Event()

    def slow_claim(*arguments: Any, alone: bool) -> Any:
        claiming.set()
        go_on.wait(BOUND)
        return claim(*arguments, alone=alone)

    monkeypatch.setattr(intake_module, "claim", slow_claim)

    async def walk() -> None:
        client = Held()
        client.go.set()
        working = asyncio.create_task(worker_of(sqlite, service, client).work(open_scope(sqlite, "job")))
        await asyncio.to_thread(claiming.wait, BOUND)
        working.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await end_of(working)

    asyncio.run(walk())
    assert [len(found) for found in ends_of(sqlite).values()] == [1] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_drains_the_run(
    sqlite: Database, simulator: Simulator, service: Settings, brief: None, number: signal.Signals
) -> None:
    import_postings(sqlite, posting("first"))
    import_many(sqlite, 20)
    play(simulator, {"Engineer first": Fault.OK, "Engineer": Fault.HANG})

    def notice(claim: Any, end: Any, so_far: Run) -> None:
        if claim.posting.id == "first":
            os.kill(os.getpid(), number)

    done = enrich(sqlite, service, signals=True, notice=notice)
    assert (done.signal, done.succeeded) == (number, 1)
    assert number.name in (done.stopped or "")
    assert 7 <= done.errors["interrupted"] == done.failed < 20
    assert_log_and_server_agree(sqlite, simulator)
    simulator.play(Script())
    assert enrich(sqlite, service).succeeded == 20


def test_a_call_is_not_begun_when_too_little_of_its_lease_is_left(sqlite: Database, service: Settings) -> None:
    import_many(sqlite, 2)
    times = iter([0.0, *[31.0] * 100])  # the claim took half a minute

    async def walk() -> tuple[Held, Run]:
        client = Held()
        client.go.set()
        worker = worker_of(sqlite, service, client, monotonic=lambda: next(times))
        return client, await worker.work(open_scope(sqlite, "job"))

    client, done = asyncio.run(walk())
    assert client.calls == []
    assert done.errors == {"interrupted": 2}
    assert interrupted_ends(sqlite) == [(False, False, "The call was not begun: too little of the lease was left")] * 2
    assert status(sqlite, "job-000")["budget_used"] == 0


# -- trouble with the database ----------------------------------------------------------------------------------------

REFUSE = {
    "sqlite": "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.type = 'EnrichmentSucceeded' "
    "BEGIN SELECT RAISE(ABORT, 'the disk says no'); END",
    "postgresql": "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
    "RAISE EXCEPTION 'the disk says no'; END $$; CREATE TRIGGER refuse BEFORE INSERT ON {ours}events "
    "FOR EACH ROW WHEN (NEW.type = 'EnrichmentSucceeded') EXECUTE FUNCTION refuse()",
}


def test_an_outcome_that_cannot_be_recorded_stops_the_run(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 40)
    run(database, REFUSE[database.dialect.name])
    with pytest.raises(DatabaseRefused, match="the disk says no"):
        enrich(database, service)
    assert 1 <= len(simulator.journal) <= 2 * service.concurrency
    assert of_type(database, "EnrichmentSucceeded") == []
    assert len(ends_of(database)) == len(simulator.journal)  # visible, until their leases run out


def test_a_defect_of_whoever_looks_on_is_told_and_loses_no_end(
    sqlite: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(sqlite, 2)

    def defect(*_: object) -> None:
        raise RuntimeError("a defect of whoever looks on")

    with pytest.raises(Exception, match="RuntimeError: a defect of whoever looks on"):
        enrich(sqlite, service, notice=defect)
    assert_log_and_server_agree(sqlite, simulator)


# -- where it runs ----------------------------------------------------------------------------------------------------


def test_a_run_works_within_a_running_event_loop(database: Database, simulator: Simulator, service: Settings) -> None:
    import_many(database, 10)

    async def notebook() -> Run:
        return enrich(database, service)

    assert asyncio.run(notebook()).succeeded == 10
    assert_log_and_server_agree(database, simulator)


@pytest.mark.pooled
def test_runs_in_several_threads_share_the_work(database: Database, simulator: Simulator, service: Settings) -> None:
    import_many(database, 60)
    scope = open_scope(database, "job")
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(perform, database, service, enrichment_of(service), scope) for _ in range(3)]
        assert sum(each.result(BOUND).succeeded for each in runs) == 60
    assert len(simulator.journal) == 60
    assert_log_and_server_agree(database, simulator)


@pytest.mark.pooled
def test_two_workers_of_two_programs_share_the_work(
    database: Database, simulator: Simulator, service: Settings
) -> None:
    import_many(database, 40)
    other = Database(database.url)
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(enrich, each, service) for each in (database, other)]
        assert sum(each.result(BOUND).succeeded for each in runs) == 40
    other.close()
    assert_log_and_server_agree(database, simulator)


def test_everybody_who_looks_on_sees_each_end_once(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_samples(sqlite)
    seen: Counter[str] = Counter()
    numbers = []

    def notice(claim: Any, end: Any, so_far: Run) -> None:
        seen[claim.posting.id] += 1
        numbers.append(so_far.done)

    enrich(sqlite, service, notice=notice)
    assert set(seen.values()) == {1}
    assert numbers == list(range(1, 45))


# -- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["", "\n", " \r\n"])
def test_no_event_holds_the_key_though_the_server_echoes_it(
    database: Database, simulator: Simulator, service: Settings, ending: str,
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    caplog.set_level("DEBUG")
    echo = simulator_module.PROBLEMS[Fault.UNAUTHORIZED]._replace(message=f"Incorrect key: {KEY}.")
    monkeypatch.setitem(simulator_module.PROBLEMS, Fault.UNAUTHORIZED, echo)
    import_postings(database, posting("1"), posting("2", title=f"The key is {KEY}"))
    play(simulator, {"Engineer 1": Fault.UNAUTHORIZED, "The key": Fault.INVALID_JSON})
    done = enrich(database, configure(api_key=KEY + ending))
    assert done.errors["authentication"] == 1
    assert simulator.journal[0].key_sha256 is not None
    (failed,) = [one for one in of_type(database, "EnrichmentFailed") if one.facts["error_type"] == "authentication"]
    assert (failed.content or {})["message"] == "Error code: 401 - Incorrect key: [redacted]."
    assert (done.stopped or "").endswith("Incorrect key: [redacted].")
    assert KEY not in texts_of_log(database) + caplog.text + str((shown(database, "job-1") or {})["enrichment_error"])


def test_scopes_are_told_apart(sqlite: Database, simulator: Simulator, service: Settings) -> None:
    import_many(sqlite, 3)
    scope = open_scope(sqlite, "job")
    past = replace(scope, horizon=scope.horizon.replace(year=2000))
    assert perform(sqlite, service, enrichment_of(service), past).done == 0
    assert perform(sqlite, service, enrichment_of(service), Scope(scope.horizon)).done == 3
