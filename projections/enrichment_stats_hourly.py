"""What came of the attempts that ended within an hour: counts, tokens, cost and latency, by model, prompt and outcome.

An hour is one of UTC, and an attempt belongs to the one in which it ended; an imported one to that in which it
happened. What was recorded stays as it was: a failure that is read as another type later (`FailureReclassified`) does
not move from the row of the type that it had then.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Column, Table, Text

from eventlog.events import EnrichmentFailed, EnrichmentLateResult, EnrichmentSucceeded, moment
from eventlog.log import Recorded
from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata
from eventlog.streams import is_operational, split_stream
from projections.failing import INTERRUPTED
from projections.histogram import Histogram, bucket, histogram_of, text, with_one
from projections.projection import Row
from projections.spanning import SpanningProjection

SUCCESS = ""
"""In the place of an error type, of what succeeded."""

_UNTOLD = "other"  # a failure without a type, as a program of one's own may record it, is no success


class Hour(NamedTuple):
    """What the ends of one hour, enrichment, model, prompt version and outcome add up to.

    `ends` are attempts that ended in time, `calls` those of them that called; `late` are results that came after their
    attempt had been closed: no ends, since that was counted when it was closed, but what they took counts. Money is in
    micro-dollars, and `unpriced_calls` are those of which it is not known. `latency` has the durations of calls in
    buckets; `succeeded_at` the numbers of the attempts that succeeded, late ones too when their result is used.
    """

    ends: int = 0
    calls: int = 0
    late: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    latency: Histogram = {}  # noqa: RUF012 - nobody changes a histogram
    succeeded_at: Histogram = {}  # noqa: RUF012 - as above


_SUMS = Hour._fields[:-2]


def key(event: Recorded) -> tuple[datetime, str, str, str, str] | None:
    """The row that an end or a late result counts in; model and prompt version are empty where they are not known.

    Of an imported result only the model that answered is known.
    """
    if is_operational(event.stream_id):
        return None
    facts = event.facts
    told = "response_model" if facts.get("origin") == "imported" else "request_model"
    model, prompt_version = facts.get(told) or "", facts.get("prompt_version") or ""
    hour = _hour(facts["occurred_at"][: len("2026-01-31T08")])
    return hour, split_stream(event.stream_id)[0], model, prompt_version, _outcome(event)


@lru_cache(maxsize=1_024)
def _hour(text: str) -> datetime:
    return moment(f"{text}:00:00Z")


def _outcome(event: Recorded) -> str:
    """The error type, or success.

    A late result that is not used stands where its attempt does, which was closed as interrupted.
    """
    if event.type == EnrichmentFailed.__name__:
        return str(event.facts["error_type"]) or _UNTOLD
    is_waste = event.type == EnrichmentLateResult.__name__ and not event.facts["used"]
    return INTERRUPTED if is_waste else SUCCESS


def fold(hour: Hour, event: Recorded) -> Hour:
    """The hour after one more event of its key; in which order they come makes no difference."""
    facts, is_late = event.facts, event.type == EnrichmentLateResult.__name__
    called, cost, latency = facts["called"], facts.get("cost_microdollars"), facts.get("latency_ms")
    return Hour(
        ends=hour.ends + (not is_late),
        calls=hour.calls + (called and not is_late),
        late=hour.late + is_late,
        input_tokens=hour.input_tokens + (facts.get("input_tokens") or 0),
        output_tokens=hour.output_tokens + (facts.get("output_tokens") or 0),
        cost_microdollars=hour.cost_microdollars + (cost or 0),
        unpriced_calls=hour.unpriced_calls + (called and cost is None),
        latency=hour.latency if latency is None else with_one(hour.latency, bucket(latency)),
        succeeded_at=with_one(hour.succeeded_at, facts["attempt"]) if _outcome(event) == SUCCESS else hour.succeeded_at,
    )


enrichment_stats_hourly = Table(
    "enrichment_stats_hourly",
    metadata,
    Column("hour", UtcDateTime, primary_key=True),
    Column("enrichment", Key, primary_key=True),
    Column("request_model", Key, primary_key=True),
    Column("prompt_version", Key, primary_key=True),
    Column("error_type", Key, primary_key=True),
    *(Column(name, Number, nullable=False) for name in _SUMS),
    Column("latency", Text, nullable=False),
    Column("succeeded_at", Text, nullable=False),
    schema=OURS,
)


def row(state: Hour) -> Row:
    """The columns beside the key."""
    return state._asdict() | {"latency": text(state.latency), "succeeded_at": text(state.succeeded_at)}


def state_of(row: Any) -> Hour:
    """The hour that a row was made of."""
    values = row._mapping
    sums = {name: values[name] for name in _SUMS}
    return Hour(**sums, latency=histogram_of(values["latency"]), succeeded_at=histogram_of(values["succeeded_at"]))


projection: SpanningProjection[Hour] = SpanningProjection(
    name="enrichment_stats_hourly",
    version=1,
    table=enrichment_stats_hourly,
    types=[kind.__name__ for kind in (EnrichmentSucceeded, EnrichmentFailed, EnrichmentLateResult)],
    initial=Hour(),
    key=key,
    fold=fold,
    row=row,
    state=state_of,
    is_following=True,
)
