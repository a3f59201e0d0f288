"""Every type of event: the story of one posting, and of what operators did."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from eventlog.errors import NotAppended

Origin = Literal["call", "external", "imported"]
Why = Literal["new", "retry", "force", "changed", "requeue"]
Fault = Literal["setup", "provider", "posting", "ours"]
"""Whose fault a failure is: of key, quota, model, schema or prompt; the provider's; the posting's; nobody else's."""


class Event(BaseModel):
    """What every event has. Fields named in `content_fields` can be erased; all others are facts, kept for ever.

    Facts hold no floats: money is in micro-dollars (1e-6 US dollar), durations in milliseconds or whole seconds.
    Names follow the OpenTelemetry conventions for generative AI where one exists, without `gen_ai.` and `usage.`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    schema_version: ClassVar[int] = 1
    content_fields: ClassVar[frozenset[str]] = frozenset()

    occurred_at: AwareDatetime | None = None
    """When it happened: stamped at append by the database's clock; given only for imported events."""

    def payload(self, occurred_at: datetime) -> Payload:
        """The event's two halves as JSON values, with its schema version and the time it happened; without nulls.

        Raises `NotAppended` when a value in it is no JSON, or nested too deep.
        """
        try:
            dumped = self.model_dump(mode="json")
        except ValueError as error:
            raise NotAppended(reason=str(error)) from error
        values = {name: value for name, value in dumped.items() if value is not None}
        content = {name: values.pop(name) for name in self.content_fields & values.keys()}
        happened = iso(self.occurred_at or occurred_at)
        return Payload(values | {"schema_version": self.schema_version, "occurred_at": happened}, content or None)


class Payload(NamedTuple):
    """An event's two halves, as JSON values: what folds read."""

    facts: dict[str, Any]
    content: dict[str, Any] | None


class Attempt(Event):
    """What the start and the end of an attempt both carry, so that a fold needs only the one event it is at."""

    attempt_id: str
    attempt: int = Field(ge=1, description="1 for the posting's first attempt; never starts again")
    origin: Origin = "call"
    provider_name: str | None = Field(None, description="null for a server that is not known to be of one")
    endpoint: str | None = Field(None, description="base URL of the API, without user and query")
    credential: str | None = Field(None, description="fingerprint of the key, never the key")
    openai_api_type: Literal["responses", "chat_completions"] | None = None
    request_model: str | None = None
    request_parameters: str | None = Field(None, description="canonical JSON text, because parameters may be floats")
    prompt_name: str | None = None
    prompt_version: str | None = None
    prompt_hash: str | None = None
    schema_hash: str | None = None
    input_hash: str | None = None


class Counted(BaseModel):
    """What an attempt counts with against limits: on its start, and on its end, which settles it."""

    reserved_microdollars: int | None = Field(None, description="what the call may cost at the most; 0 without a call")
    reserved_tokens: int | None = Field(None, description="tokens, in and out, that it may take; 0 without a call")
    requests_per_minute: int | None = Field(None, description="the setting of its process, if it has one")
    tokens_per_minute: int | None = Field(None, description="the setting of its process, if it has one")
    microdollars_per_day: int | None = Field(None, description="the limit that it began under")


class End(Attempt, Counted):
    """What every end of an attempt carries: usage, cost and latency are known on many failures too."""

    started_position: int | None = Field(None, description="of its start; null where both were appended together")
    started_at: Annotated[AwareDatetime, PlainSerializer(lambda at: iso(at))] | None = Field(
        None, description="when its start was recorded; null where both were appended together"
    )
    called: bool = True
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    finish_reason: str | None = None
    http_status: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    cost_microdollars: int | None = Field(None, description="null when the price is unknown, never 0 for that")
    latency_ms: int | None = None


class RawError(BaseModel):
    """What was said of a failure, unjudged: today's rules, and those of a later day, recognise it by this."""

    error_code: str | None = Field(None, description="the provider's `code`")
    error_param: str | None = Field(None, description="the provider's `param`")
    provider_error_type: str | None = Field(None, description="the provider's `type`")
    error_class: str | None = Field(None, description="class of the exception, when there was one")
    retry_after_ms: int | None = Field(None, description="the wait that the provider asked for")
    limit_tokens: int | None = Field(None, description="the provider's limit, of a call refused for its rate")
    remaining_tokens: int | None = Field(None, description="what was left of that limit")
    requested_tokens: int | None = Field(None, description="our estimate of what was sent, of a call that was refused")


class Verdict(BaseModel):
    """The type of a failure, and what that means for the posting."""

    error_type: str
    retryable: bool
    counts: bool = Field(description="whether it uses up the posting's budget")
    cap: int | None = Field(
        None, description="most counted failures of the posting, of whatever type, while it fails this way"
    )
    max_deferrals: int | None = Field(
        None, description="most uncounted failures of the posting before it is left alone"
    )
    max_deferred_seconds: int | None = Field(
        None, description="the longest time it may be put off, from the first time on"
    )
    wait_ms: int | None = Field(None, description="before the next attempt, from occurred_at")


class EnrichmentRequested(Event):
    """Someone wants the posting enriched: it was seen for the first time, changed, or is to be tried again."""

    content_fields = frozenset({"reason"})
    why: Why
    actor: str
    input_hash: str | None = None
    batch: str | None = None
    grant: int = Field(0, ge=0)
    max_attempts: int | None = Field(None, ge=1)
    selection: str | None = Field(None, description="which postings the batch took, as its options would be typed")
    reason: str | None = None


class EnrichmentStarted(Attempt, Counted):
    """An attempt has begun: a worker holds the posting until the lease runs out. Committed before the call leaves."""

    worker: str
    lease_seconds: int = Field(ge=0)
    probe: bool = False
    input_characters: int | None = None
    input_kept_characters: int | None = Field(None, description="set when the input was cut to fit")


class EnrichmentSucceeded(End):
    """The attempt brought a result that fits the schema."""

    content_fields = frozenset({"result"})
    result: dict[str, Any] | None


class EnrichmentFailed(End, RawError, Verdict):
    """The attempt brought no result; the message is what people read."""

    content_fields = frozenset({"message", "raw_head"})
    fault: Fault
    worker_died: bool = Field(False, description="nobody ended the attempt: its lease ran out")
    message: str | None
    raw_head: str | None = Field(None, description="the first characters of the reply")


class EnrichmentLateResult(End, RawError):
    """An attempt ended after it had been closed: its cost counts, its result is used only if nothing else succeeded."""

    content_fields = frozenset({"result", "message", "raw_head"})
    outcome: Literal["succeeded", "failed"]
    used: bool
    error_type: str | None = None
    result: dict[str, Any] | None = None
    message: str | None = None
    raw_head: str | None = None


class EnrichmentDismissed(Event):
    """An operator says: leave this posting alone."""

    content_fields = frozenset({"reason"})
    actor: str
    reason: str | None = None


class FailureReclassified(Event, Verdict):
    """Today's rules read a stored failure differently from the rules of its day."""

    attempt_id: str
    actor: str
    previous_error_type: str


class ContentErased(Event):
    """The content of all earlier events of the stream is to be erased; facts and digests stay."""

    actor: str
    legal_basis: str | None = None


class BatchCancelled(Event):
    """An operator withdrew a batch of requests; appended to the batch's stream and to that of each posting it frees."""

    content_fields = frozenset({"reason"})
    batch: str
    actor: str
    reason: str | None = None


class BreakerSet(Event):
    """An operator opened or closed the breaker of one endpoint, model and credential by hand."""

    content_fields = frozenset({"reason"})
    endpoint: str
    request_model: str
    credential: str
    state: Literal["open", "closed"]
    cooldown_seconds: int | None = None
    actor: str
    reason: str | None = None


EVENT_TYPES: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        EnrichmentRequested,
        EnrichmentStarted,
        EnrichmentSucceeded,
        EnrichmentFailed,
        EnrichmentLateResult,
        EnrichmentDismissed,
        FailureReclassified,
        ContentErased,
        BatchCancelled,
        BreakerSet,
    )
}


def iso(moment: datetime) -> str:
    """A moment as RFC 3339 in UTC with exactly six decimals, so that text sorts as time does."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def moment(text: str) -> datetime:
    """The moment that `iso` wrote."""
    return datetime.fromisoformat(text)
