"""An event that a fold cannot take stops it with its position and type, as an error that says what to do."""

import pytest

from eventlog.database import Database
from eventlog.errors import Unfoldable, UnknownEventType
from eventlog.folding import fold_all
from eventlog.log import LogAlone, Recorded, read_log, read_stream
from eventlog.schema import events
from projections.catalogue import spanning
from projections.rebuild import reconcile_named
from projections.status import Status, fold
from tests.builders import failed, offer, proposal, requested, run, started, tell
from tests.drift import drift_of
from tests.forging import forge, retell
from tests.test_events import FromTheFuture

STREAM = "job-1"


def test_all_events_of_a_stream_are_folded(database: Database) -> None:
    tell(database, STREAM, requested(), started(), failed())
    status = fold_all(fold, Status(), read_stream(database, STREAM))
    assert (status.version, status.state) == (3, "failed")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (',"why":"new"', "", "it has no why"),
        ('"lease_seconds":330', '"lease_seconds":"long"', "unsupported type"),
        ('"lease_seconds":330', '"lease_seconds":100000000000000', "days="),
        ('"occurred_at":"2', '"occurred_at":"x', "Invalid isoformat string"),
    ],
)
def test_a_fold_stops_at_the_event_it_cannot_take(database: Database, old: str, new: str, reason: str) -> None:
    tell(database, "job-0", requested())
    tell(database, STREAM, requested(), started())
    position = 2 if "why" in old else 3
    retell(database, position, old, new)
    with pytest.raises(Unfoldable, match=f" at position {position}: {reason}.*upgrade"):
        fold_all(fold, Status(), read_stream(database, STREAM))


def test_what_fails_before_any_event_is_told_as_it_is() -> None:
    def history() -> list[Recorded]:
        raise KeyError("not of an event")

    with pytest.raises(KeyError, match="not of an event"):
        fold_all(fold, Status(), (event for event in history()))


@pytest.mark.parametrize("facts", ["no JSON", "[]", "7", '{"schema_version":1,"cost":NaN}', ""])
def test_facts_that_are_no_json_object_stop_every_reader(database: Database, facts: str) -> None:
    tell(database, STREAM, requested())
    forge(database, 1, facts=facts)
    with pytest.raises(Unfoldable, match="EnrichmentRequested at position 1"):
        list(read_log(database))
    assert len(database.page(events.select())) == 1  # it is there: the control


def test_rows_that_span_streams_are_left_as_they_are_when_an_event_stops_their_fold(database: Database) -> None:
    tell(database, STREAM, requested(batch="b"), started(), failed())
    before = run(database, "SELECT * FROM {ours}batches")
    retell(database, 1, '"actor":"tests",', "")
    with pytest.raises(Unfoldable, match="EnrichmentRequested at position 1: it has no actor"):
        reconcile_named(database, ["batches"], write=True)
    assert drift_of(database, "breaker") == 0  # it does not read that one: the control
    assert run(database, "SELECT * FROM {ours}batches") == before


@pytest.mark.parametrize("name", spanning())
def test_an_event_of_a_type_nobody_knows_stops_a_fold_that_reads_only_some_types(database: Database, name: str) -> None:
    tell(database, STREAM, requested(batch="b"))
    offer(database, *(proposal(one, FromTheFuture()) for one in ("$breaker-1", "job-2")), inline=LogAlone())
    with pytest.raises(UnknownEventType, match="FromTheFuture version 1 at position 2"):
        reconcile_named(database, [name], write=True)
