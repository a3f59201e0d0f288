"""A rebuild that was stopped goes on where it was; several processes share one."""

import os
import signal
from dataclasses import replace
from typing import Any

import pytest

from eventlog import side_by_side
from eventlog.database import Database
from eventlog.errors import ProcessDied, UnknownEventType
from eventlog.integrity import verify_log
from projections import unfinished
from projections.checkpoints import rebuilds
from projections.drift import Drift
from projections.pages import FIRST, Share, read_page
from projections.rebuild import reconcile_named
from projections.reconcile import Walk
from projections.unfinished import Unfinished, go_on
from tests.builders import StoppedClock, drop_triggers, failed, requested, run, started, tell
from tests.drift import PROJECTIONS, SHOWN, drift_of

MANY = 12


@pytest.fixture
def emptied(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Postings that failed, of which the read models have lost all; a rebuild takes them one by one."""
    monkeypatch.setattr(unfinished, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr("projections.moments.EVENTS_PER_PAGE", 3)
    for number in range(MANY):
        tell(database, f"job-{number:02}", requested(), started(), failed())
    run(database, "DELETE FROM llm_enrichment")
    run(database, "DELETE FROM {ours}enrichment_status")
    return database


class Stopped(Exception):
    pass


def stop_after(pages: int) -> Any:
    left = iter(range(pages))

    def progress(_: int) -> None:
        if next(left, None) is None:
            raise Stopped

    return progress


def rebuild(database: Database, **told: Any) -> list[Drift]:
    begins_anew = told.pop("begins_anew", False)
    return go_on(database, list(PROJECTIONS.values()), Walk(write=True, **told), begins_anew=begins_anew)


def stop_after_five(database: Database) -> None:
    with pytest.raises(Stopped):
        rebuild(database, progress=stop_after(4))
    assert len(run(database, "SELECT * FROM llm_enrichment")) == 5


def test_a_rebuild_goes_on_after_the_last_stream_that_was_done(emptied: Database) -> None:
    stop_after_five(emptied)
    found = rebuild(emptied)
    assert [one.streams for one in found] == [MANY - 5] * 2
    assert {one.went_on_after for one in found} == {"job-04"}
    assert drift_of(emptied) == 0


def test_what_is_done_is_forgotten_and_the_next_rebuild_begins_anew(emptied: Database) -> None:
    stop_after_five(emptied)
    rebuild(emptied)
    assert run(emptied, "SELECT * FROM {ours}rebuilds") == []
    assert [(one.streams, one.went_on_after) for one in rebuild(emptied)] == [(MANY, None)] * 2


def test_what_was_refused_before_a_rebuild_was_stopped_is_not_passed_over(emptied: Database) -> None:
    run(emptied, "ALTER TABLE llm_enrichment RENAME TO real_enrichment")
    run(emptied, "CREATE VIEW llm_enrichment AS SELECT * FROM real_enrichment WHERE job_posting_id IS NULL")
    if emptied.dialect.name == "postgresql":
        run(emptied, "REVOKE ALL ON real_enrichment FROM public")
        run(emptied, "CREATE RULE nothing AS ON INSERT TO llm_enrichment DO INSTEAD NOTHING")
    with pytest.raises(Stopped):
        rebuild(emptied, progress=stop_after(4))
    run(emptied, "DROP VIEW llm_enrichment")
    run(emptied, "ALTER TABLE real_enrichment RENAME TO llm_enrichment")
    rebuild(emptied)
    assert drift_of(emptied) == 0


def test_a_rebuild_of_all_streams_leaves_no_mark_of_others(emptied: Database) -> None:
    for number in range(2):  # as a rebuild of two processes that was killed leaves them
        with emptied.write() as connection:
            values = {"projections": "enrichment_status:1 llm_enrichment:1", "share": f"{number}/2"}
            moment = emptied.dialect.clock(connection)
            connection.execute(rebuilds.insert().values(**values, last_stream="job-08", moved_at=moment))
    reconcile_named(emptied, write=True)
    run(emptied, "DELETE FROM llm_enrichment")
    reconcile_named(emptied, write=True, jobs=2)
    assert drift_of(emptied) == 0


def test_one_that_begins_anew_and_is_stopped_at_once_leaves_no_older_mark(
    emptied: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after_five(emptied)
    run(emptied, "DELETE FROM llm_enrichment")
    monkeypatch.setattr(unfinished, "PAUSE_SECONDS", 60.0)
    with pytest.raises(Stopped):
        rebuild(emptied, begins_anew=True, progress=stop_after(0))
    rebuild(emptied)
    assert drift_of(emptied) == 0


def test_one_can_begin_anew(emptied: Database) -> None:
    stop_after_five(emptied)
    run(emptied, "DELETE FROM llm_enrichment")
    assert [one.written for one in rebuild(emptied, begins_anew=True)] == [MANY - 5, MANY]


def test_a_rebuild_of_others_or_that_overwrites_edits_begins_anew(emptied: Database) -> None:
    stop_after_five(emptied)
    (found,) = go_on(emptied, [SHOWN], Walk(write=True))
    assert (found.streams, found.went_on_after) == (MANY, None)
    stop_after_five_of_none = rebuild(emptied, overwrites=True)
    assert [one.went_on_after for one in stop_after_five_of_none] == [None, None]


def test_a_rebuild_by_another_version_of_a_fold_begins_anew(emptied: Database) -> None:
    stop_after_five(emptied)
    later = [replace(one, version=one.version + 1) for one in PROJECTIONS.values()]
    assert [one.went_on_after for one in go_on(emptied, later, Walk(write=True))] == [None, None]


def test_a_check_neither_goes_on_nor_disturbs_what_does(emptied: Database) -> None:
    stop_after_five(emptied)
    found = go_on(emptied, list(PROJECTIONS.values()), Walk(write=False))
    assert [(one.streams, one.counts["missing"]) for one in found] == [(MANY, MANY - 5)] * 2
    assert {one.went_on_after for one in rebuild(emptied)} == {"job-04"}


def test_after_a_day_a_rebuild_begins_anew(timed: Database, clock: StoppedClock) -> None:
    noted = Unfinished(timed, "llm_enrichment:1", Share(), clock=iter(range(0, 100, 10)).__next__)
    noted.note("job-7")
    clock.advance(hours=23)
    assert Unfinished(timed, "llm_enrichment:1", Share()).last_stream() == "job-7"
    assert Unfinished(timed, "llm_enrichment:1", Share(1, 2)).last_stream() == FIRST
    clock.advance(hours=2)
    assert Unfinished(timed, "llm_enrichment:1", Share()).last_stream() == FIRST


def test_several_processes_find_and_mend_what_one_would(emptied: Database) -> None:
    found = reconcile_named(emptied, list(PROJECTIONS), write=True, jobs=2)
    assert [(one.streams, one.events, one.written) for one in found] == [(MANY, 3 * MANY, MANY)] * 2
    assert [one.counts["missing"] for one in found] == [MANY] * 2
    assert drift_of(emptied) == 0
    run(emptied, "INSERT INTO llm_enrichment (job_posting_id, enrichment_error) VALUES ('ghost', 'theirs')")
    checked = reconcile_named(emptied, list(PROJECTIONS), write=False, jobs=2)
    assert [one.counts["extra"] for one in checked] == [0, 1]


def test_the_shares_of_several_processes_are_all_streams_and_no_stream_is_in_two(emptied: Database) -> None:
    streams = [name for number in range(3) for name in shares_of(emptied, Share(number, 3))]
    assert sorted(streams) == [f"job-{number:02}" for number in range(MANY)]


def shares_of(database: Database, share: Share) -> list[str]:
    with database.read() as connection:
        return list(read_page(connection, FIRST, share, with_content=False, size=1_000).streams)


def test_an_event_that_one_process_cannot_read_stops_all_and_is_told(emptied: Database) -> None:
    break_one(emptied)
    with pytest.raises(UnknownEventType, match="position"):
        reconcile_named(emptied, list(PROJECTIONS), write=True, jobs=2)


def break_one(database: Database) -> None:
    drop_triggers(database)
    run(database, "UPDATE {ours}events SET type = 'Unheard' WHERE position = 20")


def test_a_process_that_is_killed_is_told_of_and_the_others_stop(
    emptied: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(side_by_side, "_work", _die)
    with pytest.raises(ProcessDied):
        reconcile_named(emptied, list(PROJECTIONS), write=True, jobs=2)
    monkeypatch.undo()
    reconcile_named(emptied, list(PROJECTIONS), write=True)
    assert drift_of(emptied) == 0


def _die(number: int, task: Any, pipe: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_several_processes_find_in_the_log_what_one_would(emptied: Database) -> None:
    drop_triggers(emptied)
    run(emptied, "UPDATE {ours}events SET facts = '{}' WHERE position IN (2, 3, 20)")
    assert len(verify_log(emptied).faults) == 3
    assert verify_log(emptied, jobs=3) == verify_log(emptied)
