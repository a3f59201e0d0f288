"""Projections whose rows span streams: a rebuild folds each event once, also those that come while it reads."""

from collections.abc import Callable

import pytest

from eventlog.database import Database
from projections import spanning
from projections.batches import projection
from projections.reconcile_spanning import reconcile_spanning
from tests.builders import requested, run, tell

pytestmark = pytest.mark.pooled


def request(database: Database, *numbers: int) -> None:
    """Requests of one batch, each for a posting of its own."""
    for number in numbers:
        tell(database, f"job-{number}", requested(batch="b"))


def once(act: Callable[[], None]) -> Callable[[int], None]:
    """Do this the first time that progress is told."""
    left = [act]
    return lambda _: left.pop()() if left else None


@pytest.fixture
def paged(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database that is read in pages of two events."""
    monkeypatch.setattr(spanning, "PAGE", 2)
    return database


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_event_is_folded_once_however_many_pages_there_are(paged: Database, count: int) -> None:
    request(paged, *range(count))
    told: list[int] = []
    found = reconcile_spanning(paged, projection, write=False, progress=told.append)
    assert (found.total, found.events, sum(told)) == (0, count, count)


def test_what_is_appended_while_the_log_is_read_is_folded_under_its_lock(paged: Database) -> None:
    request(paged, 1)
    found = reconcile_spanning(paged, projection, write=True, progress=once(lambda: request(paged, 2, 3, 4, 5, 6)))
    assert (found.total, found.events) == (0, 6)
    (row,) = run(paged, "SELECT requested FROM {ours}batches")
    assert row["requested"] == 6
