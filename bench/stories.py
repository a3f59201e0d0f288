"""What happens to postings: a few kinds of story, as the texts of the events that attempts really write."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from bench.replies import CASES, HEADERS, answered
from bench.service import sample_postings
from enrichlog.attempt import Started, end, start
from enrichlog.enrichment import Enrichment, enrichment_of, request_for
from enrichlog.outcome import judge
from enrichlog.reply import Reply
from enrichlog.result import JobEnrichment, Salary
from enrichlog.settings import Settings
from eventlog.canonical import text
from eventlog.events import EnrichmentRequested, Event, iso

LEASE_SECONDS, DEADLINE_SECONDS, INPUT_LIMIT = 360, 300, 100_000
QUEUED_MS, PICKED_MS, ANSWERED_MS, REQUESTED_MS = 20_000, 1_500, 2_400, 600_000
"""Until the first start, from due to the next start, from start to end; until a person asks for a retry."""

RUNNING, RETRIED = "running", "retried"
ENDINGS: tuple[tuple[str, ...], ...] = (
    *[("",)] * 7,
    ("timeout", ""),
    ("rate_limited", ""),
    ("server_error", ""),
    ("timeout", "schema_mismatch", ""),
    ("connection", ""),
    ("quota_exceeded", RETRIED, ""),
    ("quota_exceeded", RETRIED, "timeout"),
    ("refusal",),
    ("rate_limited", "server_error", "rate_limited"),
    ("invalid_json", "invalid_json"),
    (RUNNING,),
    (RUNNING,),
    (),
)
"""How the attempts of each story end: as an error type, or "" for well. RETRIED is no end: a person asks for a retry.

Together they are 80 events, four to a story.
"""


class Step(NamedTuple):
    """One event: its texts are templates of what `Told` names, `wait_ms` is how long it comes after the last."""

    type: str
    facts: str
    content: str | None
    wait_ms: int


class Told(NamedTuple):
    """What differs from one posting to the next with the same story."""

    occurred_at: str
    attempt_id: str
    started_at: str
    started_position: str
    input_hash: str


Story = tuple[Step, ...]

_HAPPENED, _BEGAN, _POSITION = datetime(1998, 1, 1, tzinfo=UTC), datetime(1999, 1, 1, tzinfo=UTC), 10**15
_BROKEN = {
    "timeout": Reply(1_000 * DEADLINE_SECONDS, broken="timeout", error_class="ReadTimeout"),
    "connection": Reply(12, broken="connection", error_class="ConnectError", error_text="refused", sent=False),
}
_REPLIES = _BROKEN | {case.error_type: Reply(ANSWERED_MS, case.status, HEADERS, case.body) for case in CASES}


def stories() -> Sequence[Story]:
    """The stories; each is told of as many postings as the others."""
    enrichment = enrichment_of(Settings(api_key="sk-bench", prices_of="openai", max_output_tokens=2_000))
    return [tuple(_steps(enrichment, endings, number)) for number, endings in enumerate(ENDINGS)]


def _steps(enrichment: Enrichment, endings: Sequence[str], number: int) -> Iterator[Step]:
    (posting,) = sample_postings("story", 1)
    request = request_for(enrichment, posting._asdict(), posting.input_hash, INPUT_LIMIT, cut=False)
    yield _step(EnrichmentRequested(why="new", actor="import", input_hash=posting.input_hash), 0, posting.input_hash)
    attempts, wait_ms = 0, QUEUED_MS
    for ending in endings:
        if ending == RETRIED:
            retry = EnrichmentRequested(why="retry", actor="anna", batch=f"{number:032x}", grant=1, reason="paid")
            yield _step(retry, REQUESTED_MS, posting.input_hash)
            wait_ms = PICKED_MS
            continue
        attempts += 1
        event = start(
            enrichment, request, number=attempts, input_hash=posting.input_hash, worker=f"loader-{number % 4}",
            lease_seconds=LEASE_SECONDS,
        )  # fmt: skip
        yield _step(event, wait_ms, posting.input_hash, event.attempt_id)
        if ending == RUNNING:
            return
        reply = _REPLIES[ending] if ending else _good_reply(number)
        outcome = judge(reply, enrichment.api, JobEnrichment, DEADLINE_SECONDS)
        ended = end(enrichment, Started(f"job-{number}", event, attempts - 1, _POSITION, _BEGAN), outcome)
        if getattr(ended, "error_type", "") != ending:
            raise SystemExit(f"not {ending or 'a success'}: {ended}")
        yield _step(ended, reply.latency_ms, posting.input_hash, event.attempt_id)
        wait_ms = PICKED_MS + (getattr(ended, "wait_ms", 0) or 0)


def _good_reply(number: int) -> Reply:
    result = JobEnrichment(
        title=f"Data Engineer {number}",
        role_type="data engineer",
        seniority="senior",
        contract="permanent",
        must_have_skills=["python", "sql", "airflow", "dbt", "spark"][: 2 + number % 4],
        nice_to_have_skills=["kafka", "terraform"],
        languages=["en", "de"],
        remote_policy="hybrid",
        salary=Salary(minimum=65_000 + 500 * number, maximum=85_000, currency="EUR", period="year"),
        summary_short="Builds and runs the pipelines of a shop that sells bicycles.",
        summary_long="Builds pipelines, and keeps them running. " * 6,
    )
    case = answered("", orjson.dumps(result.model_dump()).decode())
    return Reply(ANSWERED_MS, case.status, HEADERS, case.body)


def _step(event: Event, wait_ms: int, input_hash: str, attempt_id: str = "-") -> Step:
    """The event with the places marked where postings differ."""
    payload = event.payload(_HAPPENED)
    marks = Told(f'"{iso(_HAPPENED)}"', f'"{attempt_id}"', f'"{iso(_BEGAN)}"', str(_POSITION), f'"{input_hash}"')
    facts = text(payload.facts).replace("%", "%%")
    for name, mark in marks._asdict().items():
        place = f"%({name})s"
        facts = facts.replace(mark, f'"{place}"' if mark.startswith('"') else place)
    content = None if payload.content is None else text(payload.content)
    return Step(type(event).__name__, facts, content, wait_ms)
