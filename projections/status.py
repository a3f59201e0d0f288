"""The status of one posting: what the events of its stream add up to. Pure: no I/O, no clock, no table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

import orjson

from eventlog import canonical
from eventlog.events import iso, moment
from projections import bases
from projections.draft import Draft
from projections.failing import deaths, fail
from projections.projection import Foldable

State = Literal["pending", "running", "succeeded", "failed", "dismissed"]
STATES: tuple[State, ...] = ("pending", "running", "succeeded", "failed", "dismissed")
RESTS_ON = (*bases.PARTS, "input_hash")
"""What an attempt rests on."""


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


INITIAL = Status()


class Resting(Protocol):
    """What a posting rests on: its status, or the row that was made of it."""

    @property
    def input_hash(self) -> str | None: ...
    @property
    def bases(self) -> str | None: ...


def fold(status: Status, event: Foldable) -> Status:
    """The status after one more event of its stream."""
    return fold_all((event,), status)


def fold_all(story: Iterable[Foldable], status: Status = INITIAL) -> Status:
    """The status after these events of its stream."""
    draft = Draft(status._asdict())
    for event in story:
        step = _STEPS.get(event.type)
        if step is not None:
            step(draft, event.facts)
        draft.version = event.version
    return Status._make(vars(draft).values())


def _on_requested(status: Draft, facts: dict[str, Any]) -> None:
    is_running, new_budget = status.state == "running", facts["why"] in ("new", "changed", "force")
    status.before_batch = _kept(status) if "batch" in facts else None
    status.grants = 0 if new_budget else status.grants + facts["grant"]
    if new_budget:
        status.set(budget_used=0, failures=0, deaths=0, bases=_running_basis(status))
    status.set(deferrals=0, deferred_since=None, max_attempts=facts.get("max_attempts"), batch=facts.get("batch"))
    status.input_hash = facts.get("input_hash") or status.input_hash
    if is_running:
        status.rerun = True
    else:
        status.set(state="pending", due_at=moment(facts["occurred_at"]), awaiting=status.error_type is not None)


def _on_started(status: Draft, facts: dict[str, Any]) -> None:
    asked = {name: facts[name] for name in RESTS_ON if name in facts}  # an external attempt does not say
    basis, is_same_input = bases.basis_of(asked), _is_same_input(status, asked)
    if not is_same_input or bases.is_new(basis, status.bases):
        status.set(budget_used=0, failures=0, deferrals=0, deferred_since=None, deaths=0)
    status.set(
        state="running",
        attempts=facts["attempt"],
        attempt_id=facts["attempt_id"],
        worker=facts["worker"],
        due_at=moment(facts["occurred_at"]) + timedelta(seconds=facts["lease_seconds"]),
        reserved_microdollars=facts.get("reserved_microdollars") or 0,
        before_batch=None,
        bases=bases.with_basis(status.bases if is_same_input else None, basis),
        **asked,
    )


def _on_succeeded(status: Draft, facts: dict[str, Any]) -> None:
    wanted = _wanted_input(status)
    _end(status, facts)
    _recover(status)
    _rest_on(status, facts)
    _again_if(wanted, status, facts)


def _on_failed(status: Draft, facts: dict[str, Any]) -> None:
    wanted = _wanted_input(status)
    _end(status, facts)
    status.set(failures=status.failures + 1, deaths=deaths(status, facts), counted=None, max_deferrals=None)
    fail(status, facts, moment(facts["occurred_at"]))
    _again_if(wanted, status, facts)


def _on_late_result(status: Draft, facts: dict[str, Any]) -> None:
    _pay(status, facts)
    if not facts["used"]:
        return
    of_other_input = status.state == "pending" and facts.get("input_hash") not in (None, status.input_hash)
    held = None
    if status.state == "running" or of_other_input:  # whoever holds the posting, or awaits its new input, goes on
        held = {name: getattr(status, name) for name in ("state", "due_at", *RESTS_ON)}
        held["bases"] = _running_basis(status)
    status.completed_at = moment(facts["occurred_at"])
    _recover(status)
    _rest_on(status, facts)
    status.set(**held or {})


def _on_dismissed(status: Draft, facts: dict[str, Any]) -> None:
    status.set(state="dismissed", due_at=None, rerun=False, awaiting=False, before_batch=None)


def _on_cancelled(status: Draft, facts: dict[str, Any]) -> None:
    """What it was before the batch requested it, as far as it still awaits that."""
    if awaits_batch(status, facts["batch"]):
        before = orjson.loads(status.before_batch or "")
        moments = {name: before[name] and moment(before[name]) for name in ("due_at", "deferred_since")}
        status.set(**before | moments, awaiting=False, before_batch=None)


def _on_reclassified(status: Draft, facts: dict[str, Any]) -> None:
    if status.state == "failed" and status.attempt_id == facts["attempt_id"] and status.completed_at is not None:
        fail(status, facts, status.completed_at)


def _on_erased(status: Draft, facts: dict[str, Any]) -> None:
    status.erased_attempts = status.attempts


_STEPS: dict[str, Callable[[Draft, dict[str, Any]], None]] = {
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


def _running_basis(status: Draft) -> str | None:
    """What is left of the bases where all begins anew: that of the attempt which runs."""
    return bases.basis_of(vars(status)) if status.state == "running" else None


def awaits_batch(status: Status | Draft, batch: str) -> bool:
    """Whether the posting is pending for no other reason than that this batch requested it."""
    return status.state == "pending" and status.batch == batch and status.before_batch is not None


_CHANGED_BY_REQUEST = (
    "state", "due_at", "budget_used", "grants", "failures", "deferrals", "deferred_since", "deaths", "max_attempts",
    "batch", "input_hash", "bases",
)  # fmt: skip


def _kept(status: Draft) -> str | None:
    """The fields that a request changes, of a posting at rest."""
    if status.state in ("pending", "running"):
        return None
    values = {name: getattr(status, name) for name in _CHANGED_BY_REQUEST}
    return canonical.text({name: iso(one) if isinstance(one, datetime) else one for name, one in values.items()})


def _end(status: Draft, facts: dict[str, Any]) -> None:
    _pay(status, facts)
    status.set(
        completed_at=moment(facts["occurred_at"]), reserved_microdollars=0, worker=None, awaiting=status.rerun,
        rerun=False,
    )  # fmt: skip


def _pay(status: Draft, facts: dict[str, Any]) -> None:
    cost = facts.get("cost_microdollars")
    status.input_tokens += facts.get("input_tokens") or 0
    status.output_tokens += facts.get("output_tokens") or 0
    status.cost_microdollars += cost or 0
    status.unpriced_calls += facts["called"] and cost is None


def _recover(status: Draft) -> None:
    vars(status).update(_RECOVERED)
    status.successes += 1


_RECOVERED = dict.fromkeys(("budget_used", "grants", "failures", "deferrals", "deaths"), 0) | {
    "state": "succeeded", "awaiting": False, "deferred_since": None, "max_attempts": None, "error_type": None,
    "counted": None, "retryable": None, "cap": None, "max_deferrals": None, "due_at": None, "before_batch": None,
    "bases": None,
}  # fmt: skip


def _rest_on(status: Draft, facts: dict[str, Any]) -> None:
    """Succeeded on what the end says, which need not be what the last attempt began with: the end may be a late one.

    One that was made elsewhere says neither prompt nor schema nor model: they are not known then.
    """
    known = status.input_hash
    for name in RESTS_ON:
        setattr(status, name, facts.get(name))
    status.input_hash = status.input_hash or known


def _wanted_input(status: Draft) -> tuple[str | None] | None:
    """The input of a posting that was requested again while an attempt runs; None when it was not."""
    return (status.input_hash,) if status.rerun else None


def _again_if(wanted: tuple[str | None] | None, status: Draft, facts: dict[str, Any]) -> None:
    """A posting that changed while an attempt ran is due again, as it is now, as soon as that attempt ends."""
    if wanted is not None:
        status.set(state="pending", due_at=moment(facts["occurred_at"]), input_hash=wanted[0])
