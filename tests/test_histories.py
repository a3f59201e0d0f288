"""Whatever happens to a posting, the rows that its appends wrote are those that its events, read back, fold to."""

from collections.abc import Sequence
from itertools import count
from typing import Any, TypeVar

from hypothesis import example, given, settings
from hypothesis import strategies as st

from eventlog.database import Database
from eventlog.events import Event
from eventlog.log import Proposal, Recorded, read_stream
from projections import enrichment_status, llm_enrichment
from projections.projection import Projection
from tests.builders import (
    cancelled,
    dismissed,
    erased,
    failed,
    offer,
    proposal,
    reclassified,
    requested,
    row_of,
    started,
    status,
    succeeded,
)

S = TypeVar("S")
Step = tuple[str, dict[str, Any], bool]
"""An act, what it cost, and whether it is appended at once or together with the next."""

ACTS = st.sampled_from(
    ["new", "retry", "force", "changed", "requeue", "start", "succeed", "fail", "defer", "give up", "late", "dismiss",
     "reclassify", "erase", "retry in a batch", "force in a batch", "cancel the batch"]
)  # fmt: skip
usage = st.fixed_dictionaries({}, optional={"input_tokens": st.integers(0, 9), "cost_microdollars": st.integers(0, 9)})
histories = st.lists(st.tuples(ACTS, usage, st.booleans()), min_size=1, max_size=14)
numbers = count(1)


def event_of(act: str, attempts: int, facts: dict[str, Any]) -> Event:
    """The event of an act, about the last attempt or, when late, the one before."""
    last = max(attempts, 1)
    match act:
        case "start":
            model = f"model-{facts.get('input_tokens', 0) % 2}"
            return started(attempts + 1, request_model=model, prompt_hash="p", schema_hash="s")
        case "succeed":
            return succeeded(last, **facts)
        case "late":
            return succeeded(max(last - 1, 1), **facts)
        case "fail":
            return failed(last, **facts)
        case "defer":
            return failed(last, counts=False, wait_ms=None, message=None, **facts)
        case "give up":
            return failed(last, retryable=False, **facts)
        case "reclassify":
            return reclassified(last)
    return operators_act(act)


def operators_act(act: str) -> Event:
    """The event of what a person does."""
    match act:
        case "dismiss":
            return dismissed()
        case "erase":
            return erased()
        case "cancel the batch":
            return cancelled("b")
    why, in_batch, _ = act.partition(" in a batch")
    in_a_batch = {"batch": "b", "max_attempts": 9} if in_batch else {}
    return requested(why, grant=1 if why == "requeue" else 0, **in_a_batch)


def live_through(database: Database, stream_id: str, history: Sequence[Step]) -> None:
    """Offer each act, some of them together in one append; what conflicts is not appended."""
    waiting: list[Proposal] = []
    attempts = 0
    for act, facts, append_now in [("new", {}, True), *history]:
        waiting.append(proposal(stream_id, event_of(act, attempts, facts)))
        if act == "start" or append_now:
            offer(database, *waiting)
            waiting = []
            attempts = status(database, stream_id)["attempts"]
    if waiting:
        offer(database, *waiting)


def check_the_live_row(
    database: Database, projection: Projection[S], stream_id: str, events: Sequence[Recorded]
) -> None:
    """Compare what the log folds to with the row as it is, but for the columns that no event has set."""
    state = projection.initial
    for event in events:
        state = projection.fold(state, event)
    live, folded = row_of(database, projection.table, stream_id), projection.row(stream_id, state)
    assert (live is None) == (folded is None)
    if live is not None and folded is not None:
        assert {name: live[name] for name in folded} == folded
        assert all(live[name] is None for name in live.keys() - folded.keys())


def acts(*names: str) -> list[Step]:
    return [(name, {}, True) for name in names]


@given(histories)
@settings(max_examples=60)
@example(acts("erase"))
@example(acts("start", "fail", "retry", "start", "erase"))
@example(acts("start", "fail", "changed", "late", "erase"))
@example(acts("start", "fail", "retry in a batch", "cancel the batch", "start", "succeed"))
@example(acts("start", "succeed", "force in a batch", "cancel the batch", "erase"))
@example(acts("start", "fail", "dismiss", "retry in a batch", "late", "cancel the batch", "retry"))
@example(acts("start", "changed", "fail", "start", "late", "dismiss", "erase", "requeue", "start", "succeed"))
def test_folding_the_events_read_back_gives_the_live_rows(shared: Database, history: list[Step]) -> None:
    stream_id = f"job-{next(numbers)}"
    live_through(shared, stream_id, history)
    events = read_stream(shared, stream_id)
    check_the_live_row(shared, enrichment_status.projection, stream_id, events)
    check_the_live_row(shared, llm_enrichment.projection, stream_id, events)
