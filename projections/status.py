"""The status of one posting: what the events of its stream add up to. Pure: no I/O, no clock, no table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from eventlog import canonical
from eventlog.events import iso, moment
from projections import bases
from projections.projection import Foldable

State = Literal["pending", "running", "succeeded", "failed", "dismissed"]
STATES: tuple[State, ...] = ("pending", "running", "succeeded", "failed", "dismissed")
RESTS_ON = (*bases.PARTS, "input_hash")
"""What an attempt rests on."""

INTERRUPTED = "interrupted"
"""The error type of an attempt that its own worker did not bring to an end."""


class Status(NamedTuple):
    """What the events of one stream add up to.

    Model and hashes are those of the last attempt, but of a posting that has succeeded those of its result.
    `attempts` counts every start and is never reset; `budget_used` counts the failures that count since the posting
    last succeeded or began anew: with another input, or with a model, prompt and schema that are not among `bases`,
    which it has been tried with since it last succeeded, had another input or was requested with a new budget.
    `due_at` is when the posting may be claimed: at once for pending, after its wait for failed, when the lease runs out
    for running; null when it is not to be tried by itself.
    `failures` counts all since the last success or new budget; `deferrals` those that were the provider's alone, since
    the last request too; `deferred_since` is when it was first put off, be it by a rate limit; `deaths` counts the
    workers that died on it in a row: while there are any, it runs alone. `counted`: whether the failure it ended with
    is in the budget, `max_deferrals`: whether it is among the deferrals; `rerun`: requested again while an attempt
    runs; `awaiting`: failed, and the retry requested since has not ended.
    `erased_attempts` is how many attempts had begun when content was last erased: what comes of those is facts only.
    `before_batch` is what a cancelled batch gives back: canonical JSON of the fields that its request changed, while
    the posting awaits that request; null where it was pending or running already, and so is left as it is.
    """

    version: int = 0
    state: State = "pending"
    attempts: int = 0
    budget_used: int = 0
    grants: int = 0
    failures: int = 0
    deferrals: int = 0
    deferred_since: datetime | None = None
    deaths: int = 0
    successes: int = 0
    max_attempts: int | None = None
    attempt_id: str | None = None
    worker: str | None = None
    rerun: bool = False
    awaiting: bool = False
    error_type: str | None = None
    counted: bool | None = None
    retryable: bool | None = None
    cap: int | None = None
    max_deferrals: int | None = None
    due_at: datetime | None = None
    completed_at: datetime | None = None
    batch: str | None = None
    before_batch: str | None = None
    request_model: str | None = None
    prompt_hash: str | None = None
    schema_hash: str | None = None
    input_hash: str | None = None
    bases: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microdollars: int = 0
    unpriced_calls: int = 0
    reserved_microdollars: int = 0
    erased_attempts: int = 0


class Resting(Protocol):
    """What a posting rests on: its status, or the row that was made of it."""

    @property
    def input_hash(self) -> str | None: ...
    @property
    def bases(self) -> str | None: ...


def fold(status: Status, event: Foldable) -> Status:
    """The status after one more event of its stream."""
    step = _STEPS.get(event.type)
    after = status if step is None else step(status, event.facts)
    return after._replace(version=event.version)


def _on_requested(status: Status, facts: dict[str, Any]) -> Status:
    new_budget = facts["why"] in ("new", "changed", "force")
    after = status._replace(
        grants=0 if new_budget else status.grants + facts["grant"],
        budget_used=0 if new_budget else status.budget_used,
        failures=0 if new_budget else status.failures,
        deferrals=0,
        deferred_since=None,
        deaths=0 if new_budget else status.deaths,
        max_attempts=facts.get("max_attempts"),
        batch=facts.get("batch"),
        before_batch=_kept(status) if "batch" in facts else None,
        input_hash=facts.get("input_hash") or status.input_hash,
        bases=_running_basis(status) if new_budget else status.bases,
    )
    if status.state == "running":
        return after._replace(rerun=True)
    awaiting = status.error_type is not None
    return after._replace(state="pending", due_at=moment(facts["occurred_at"]), awaiting=awaiting)


def _on_started(status: Status, facts: dict[str, Any]) -> Status:
    asked = {name: facts[name] for name in RESTS_ON if name in facts}  # an external attempt does not say
    known = status.bases if _is_same_input(status, asked) else None
    same = not begins_anew(status, asked)
    return status._replace(
        state="running",
        attempts=facts["attempt"],
        attempt_id=facts["attempt_id"],
        worker=facts["worker"],
        due_at=moment(facts["occurred_at"]) + timedelta(seconds=facts["lease_seconds"]),
        budget_used=status.budget_used if same else 0,
        failures=status.failures if same else 0,
        deferrals=status.deferrals if same else 0,
        deferred_since=status.deferred_since if same else None,
        deaths=status.deaths if same else 0,
        reserved_microdollars=facts.get("reserved_microdollars") or 0,
        before_batch=None,
        bases=bases.with_basis(known, bases.basis_of(asked)),
        **asked,
    )


def _on_succeeded(status: Status, facts: dict[str, Any]) -> Status:
    return _again_if_wanted(status, _resting_on(_recovered(_ended(status, facts)), facts), facts)


def _on_failed(status: Status, facts: dict[str, Any]) -> Status:
    after = _ended(status, facts)._replace(
        failures=status.failures + 1, deaths=_deaths(status, facts), counted=None, max_deferrals=None
    )
    return _again_if_wanted(status, _failing(after, facts, moment(facts["occurred_at"])), facts)


def _on_late_result(status: Status, facts: dict[str, Any]) -> Status:
    after = _paid(status, facts)
    if not facts["used"]:
        return after
    recovered = _resting_on(_recovered(after._replace(completed_at=moment(facts["occurred_at"]))), facts)
    of_other_input = status.state == "pending" and facts.get("input_hash") not in (None, status.input_hash)
    if status.state == "running" or of_other_input:  # whoever holds the posting, or awaits its new input, goes on
        return recovered._replace(
            **{name: getattr(status, name) for name in ("state", "due_at", *RESTS_ON)}, bases=_running_basis(status)
        )
    return recovered


def _on_dismissed(status: Status, facts: dict[str, Any]) -> Status:
    return status._replace(state="dismissed", due_at=None, rerun=False, awaiting=False, before_batch=None)


def _on_cancelled(status: Status, facts: dict[str, Any]) -> Status:
    """What it was before the batch requested it, as far as it still awaits that."""
    if not awaits_batch(status, facts["batch"]):
        return status
    before = orjson.loads(status.before_batch or "")
    moments = {name: before[name] and moment(before[name]) for name in ("due_at", "deferred_since")}
    return status._replace(**before | moments, awaiting=False, before_batch=None)


def _on_reclassified(status: Status, facts: dict[str, Any]) -> Status:
    if status.state != "failed" or status.attempt_id != facts["attempt_id"] or status.completed_at is None:
        return status
    return _failing(status, facts, status.completed_at)


def _on_erased(status: Status, facts: dict[str, Any]) -> Status:
    return status._replace(erased_attempts=status.attempts)


_STEPS: dict[str, Callable[[Status, dict[str, Any]], Status]] = {
    "EnrichmentRequested": _on_requested,
    "EnrichmentStarted": _on_started,
    "EnrichmentSucceeded": _on_succeeded,
    "EnrichmentFailed": _on_failed,
    "EnrichmentLateResult": _on_late_result,
    "EnrichmentDismissed": _on_dismissed,
    "BatchCancelled": _on_cancelled,
    "FailureReclassified": _on_reclassified,
    "ContentErased": _on_erased,
}


def begins_anew(status: Resting, asked: Mapping[str, Any]) -> bool:
    """Whether an attempt that rests on what is asked begins a new budget of the posting."""
    return not _is_same_input(status, asked) or bases.is_new(bases.basis_of(asked), status.bases)


def _is_same_input(status: Resting, asked: Mapping[str, Any]) -> bool:
    return None in (status.input_hash, asked.get("input_hash")) or status.input_hash == asked["input_hash"]


def _running_basis(status: Status) -> str | None:
    """What is left of the bases where all begins anew: that of the attempt which runs."""
    return bases.basis_of(status._asdict()) if status.state == "running" else None


def awaits_batch(status: Status, batch: str) -> bool:
    """Whether the posting is pending for no other reason than that this batch requested it."""
    return status.state == "pending" and status.batch == batch and status.before_batch is not None


_CHANGED_BY_REQUEST = (
    "state", "due_at", "budget_used", "grants", "failures", "deferrals", "deferred_since", "deaths", "max_attempts",
    "batch", "input_hash", "bases",
)  # fmt: skip


def _kept(status: Status) -> str | None:
    """The fields that a request changes, of a posting at rest."""
    if status.state in ("pending", "running"):
        return None
    values = {name: getattr(status, name) for name in _CHANGED_BY_REQUEST}
    return canonical.text({name: iso(one) if isinstance(one, datetime) else one for name, one in values.items()})


def _ended(status: Status, facts: dict[str, Any]) -> Status:
    return _paid(status, facts)._replace(
        completed_at=moment(facts["occurred_at"]),
        reserved_microdollars=0,
        worker=None,
        rerun=False,
        awaiting=status.rerun,
    )


def _paid(status: Status, facts: dict[str, Any]) -> Status:
    cost = facts.get("cost_microdollars")
    return status._replace(
        input_tokens=status.input_tokens + (facts.get("input_tokens") or 0),
        output_tokens=status.output_tokens + (facts.get("output_tokens") or 0),
        cost_microdollars=status.cost_microdollars + (cost or 0),
        unpriced_calls=status.unpriced_calls + (facts["called"] and cost is None),
    )


def _recovered(status: Status) -> Status:
    return status._replace(
        state="succeeded",
        successes=status.successes + 1,
        budget_used=0,
        grants=0,
        failures=0,
        deferrals=0,
        deferred_since=None,
        deaths=0,
        max_attempts=None,
        error_type=None,
        counted=None,
        retryable=None,
        cap=None,
        max_deferrals=None,
        due_at=None,
        awaiting=False,
        before_batch=None,
        bases=None,
    )


def _resting_on(status: Status, facts: dict[str, Any]) -> Status:
    """Succeeded on what the end says, which need not be what the last attempt began with: the end may be a late one.

    One that was made elsewhere says neither prompt nor schema nor model: they are not known then.
    """
    basis = {name: facts.get(name) for name in RESTS_ON}
    return status._replace(**basis | {"input_hash": basis["input_hash"] or status.input_hash})


def _deaths(status: Status, facts: dict[str, Any]) -> int:
    """How many workers in a row died on the posting: any end but that of a stopped run clears it."""
    if facts["worker_died"]:
        return status.deaths + 1
    was_stopped = facts["error_type"] == INTERRUPTED and facts.get("http_status") is None
    return status.deaths if was_stopped else 0


def _failing(status: Status, facts: dict[str, Any], since: datetime) -> Status:
    """Failed as these facts say, which are those of the failure or of a later reading of it."""
    counts, most, longest = facts["counts"], facts.get("max_deferrals"), facts.get("max_deferred_seconds")
    was_deferred, is_deferred = status.max_deferrals is not None, most is not None and not counts
    deferrals = status.deferrals + is_deferred - was_deferred
    after = status._replace(
        state="failed",
        budget_used=status.budget_used + counts - (status.counted is True),
        deferrals=deferrals,
        deferred_since=_deferred_since(status, since, is_put_off=not counts and (most or longest) is not None),
        counted=counts,
        max_deferrals=most if is_deferred else None,
        error_type=facts["error_type"],
        retryable=facts["retryable"],
        cap=facts.get("cap"),
    )
    wait = timedelta(milliseconds=facts.get("wait_ms") or 0)
    return after._replace(due_at=since + wait if after.retryable and not _is_given_up(after, facts, since) else None)


def _deferred_since(status: Status, since: datetime, *, is_put_off: bool) -> datetime | None:
    """Since when a posting has been put off; a later reading may find that this failure does not do that."""
    if is_put_off:
        return status.deferred_since or since
    return None if status.deferred_since == since else status.deferred_since


def _is_given_up(status: Status, facts: dict[str, Any], since: datetime) -> bool:
    """Whether too many workers died on the posting, or the provider has had too many tries at it or for too long."""
    if facts.get("worker_died"):
        most = status.max_attempts or status.cap  # what a person allows overrides the cap
        return most is not None and status.deaths >= most
    longest, first = facts.get("max_deferred_seconds"), status.deferred_since
    if longest is not None and first is not None and since - first >= timedelta(seconds=longest):
        return True
    return status.max_deferrals is not None and status.deferrals >= status.max_deferrals


def _again_if_wanted(before: Status, ended: Status, facts: dict[str, Any]) -> Status:
    """A posting that changed while an attempt ran is due again, as it is now, as soon as that attempt ends."""
    if not before.rerun:
        return ended
    return ended._replace(state="pending", due_at=moment(facts["occurred_at"]), input_hash=before.input_hash)
