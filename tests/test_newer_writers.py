"""A newer enrichlog has written to the same log: what an older one then appends is recorded, and corrupts nothing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from eventlog.database import Database
from eventlog.errors import UnknownEventType
from eventlog.events import EVENT_TYPES
from eventlog.integrity import verify_log
from eventlog.log import read_stream
from projections import enrichment_status
from tests.builders import appended, failed, requested, run, shown, started, status, succeeded, tell
from tests.drift import SHOWN, STATUS, rebuild
from tests.test_events import FromTheFuture

STREAM = "job-1"


@contextmanager
def newer() -> Iterator[None]:
    """What happens here is done by an enrichlog that knows one more type of event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(EVENT_TYPES, FromTheFuture.__name__, FromTheFuture)
        yield


@pytest.fixture
def told(database: Database) -> Database:
    """An attempt in flight, during which a newer process appended what this one does not know."""
    tell(database, STREAM, requested(), started())
    with newer():
        tell(database, STREAM, FromTheFuture())
    return database


def test_an_end_is_recorded_in_its_place_and_the_posting_goes_on(told: Database) -> None:
    assert [one.version for one in appended(tell(told, STREAM, failed(), started(2), succeeded(2)))] == [4, 5, 6]
    assert (status(told, STREAM)["state"], status(told, STREAM)["version"]) == ("succeeded", 6)
    with newer():  # who knows the type finds nothing amiss
        assert verify_log(told).faults == []
        assert [rebuild(told, one).total for one in (STATUS, SHOWN)] == [0, 0]


def test_a_rebuild_and_a_history_by_the_older_one_stop_at_what_it_does_not_know(told: Database) -> None:
    run(told, "UPDATE {ours}enrichment_status SET attempts = 7")
    for projection in (STATUS, SHOWN):
        with pytest.raises(UnknownEventType, match=r"FromTheFuture version 1 at position 3. Upgrade enrichlog."):
            rebuild(told, projection)
    with pytest.raises(UnknownEventType, match="at position 3"):
        read_stream(told, STREAM)
    assert status(told, STREAM)["attempts"] == 7  # nothing was written
    assert [position for position, _ in verify_log(told).faults] == [3]


def test_a_result_is_kept_where_the_users_table_waits_for_a_history_that_cannot_be_folded(told: Database) -> None:
    run(told, "UPDATE {ours}enrichment_status SET projection_error = 'the database said no'")
    appended(tell(told, STREAM, succeeded()))
    kept = status(told, STREAM)
    assert (kept["state"], kept["projection_error"]) == ("succeeded", "the database said no")
    assert shown(told, STREAM) is None
    with newer():
        rebuild(told, SHOWN)
        row = shown(told, STREAM)
    assert row is not None
    assert (row["result"], status(told, STREAM)["projection_error"]) == ({"attempt": 1}, None)


def test_a_row_stays_of_the_oldest_fold_that_had_a_part_in_it(told: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    raised = replace(enrichment_status.projection, version=2)
    with newer(), monkeypatch.context() as patch:
        patch.setattr(enrichment_status, "projection", raised)
        tell(told, STREAM, failed())
        assert status(told, STREAM)["fold_version"] == 1  # begun by the older fold: stale still
        assert rebuild(told, raised).written == 1
        tell(told, STREAM, started(2))
        assert status(told, STREAM)["fold_version"] == 2
    tell(told, STREAM, failed(2))
    assert status(told, STREAM)["fold_version"] == 1  # and so the newer one folds it anew
