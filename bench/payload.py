"""The event that every side stores: about a kilobyte, as the end of an attempt is."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from eventlog import canonical
from eventlog.events import EnrichmentSucceeded
from eventlog.log import Proposal

EVENT = EnrichmentSucceeded(
    attempt_id=str(uuid.UUID(int=1)),
    attempt=1,
    provider_name="openai",
    endpoint="https://api.openai.com/v1",
    openai_api_type="responses",
    request_model="gpt-4o-mini",
    prompt_name="job",
    prompt_version="1",
    prompt_hash="0" * 64,
    schema_hash="1" * 64,
    input_hash="2" * 64,
    http_status=200,
    input_tokens=900,
    output_tokens=180,
    cost_microdollars=243,
    latency_ms=1_840,
    result={
        "title": "Data Engineer",
        "must_have_skills": ["python", "sql", "airflow", "dbt"],
        "summary_long": "Builds pipelines. " * 12,
    },
)


def proposal() -> Proposal:
    """The event, to be appended to a stream of its own."""
    return Proposal(f"job-{uuid.uuid4()}", EVENT, str(uuid.uuid4()))


def stored_text() -> str:
    """Both halves as the log stores them."""
    payload = EVENT.payload(datetime(2024, 1, 1, tzinfo=UTC))
    return canonical.text(payload.facts) + canonical.text(payload.content)
