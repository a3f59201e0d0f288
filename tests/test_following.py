"""Following the log with a checkpoint: each event is applied once, whoever is killed, however many follow at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eventlog import upcasting
from eventlog.database import Database
from eventlog.errors import FoldOutdated, FoldTooNew, Unfoldable, UnknownEventType
from eventlog.events import EVENT_TYPES
from eventlog.log import LogAlone, Recorded, head_position
from projections import following
from projections import reconcile_following as rebuilding
from projections.enrichment_stats_hourly import Hour, projection
from projections.following import catch_up, standing
from projections.reconcile_following import reconcile_following
from tests.builders import BOUND, offer, proposal, requested, run, started, succeeded, wait_for_a_waiter
from tests.command_line import Command
from tests.forks import Forks
from tests.hours import check
from tests.test_reconcile_live import other

assert other  # a fixture
pytestmark = pytest.mark.pooled
ENDS = 20
NAME = projection.name


@pytest.fixture
def ended(database: Database) -> Database:
    """A log in which attempts have ended, and much else has happened."""
    end_more(database)
    return database


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PAGE", 5)


def end_more(database: Database, count: int = ENDS) -> None:
    events = [(requested(), started(), succeeded(input_tokens=2, latency_ms=1_000 + number)) for number in range(count)]
    proposals = [proposal(f"job-{number % 3}", one) for number, some in enumerate(events) for one in some]
    offer(database, *proposals, inline=LogAlone())


def ends(database: Database) -> int:
    (row,) = run(database, "SELECT coalesce(sum(ends), 0) AS ends FROM {ours}enrichment_stats_hourly")
    return int(row["ends"])


def test_a_follower_comes_to_the_end_of_the_log_and_on_from_there(ended: Database, short_pages: None) -> None:
    pages: list[int] = []
    assert catch_up(ended, projection, progress=pages.append)
    assert (sum(pages), max(pages), standing(ended, projection).behind) == (3 * ENDS, 5, 0)
    end_more(ended, 1)
    assert standing(ended, projection).behind == 3
    assert catch_up(ended, projection)
    assert sum(row["ends"] for row in check(ended).values()) == ENDS + 1


def test_so_many_pages_are_applied_and_no_more(ended: Database, short_pages: None) -> None:
    assert not catch_up(ended, projection, pages=2)
    assert standing(ended, projection).position == 10
    check(ended, until=10)
    assert catch_up(ended, projection, pages=10)


def test_an_empty_log_has_been_followed_to_its_end_and_nothing_is_written(database: Database) -> None:
    noted = run(database, "SELECT * FROM {ours}checkpoints ORDER BY projection")
    assert catch_up(database, projection)
    assert standing(database, projection) == (0, 0, 1)
    assert run(database, "SELECT * FROM {ours}checkpoints ORDER BY projection") == noted


# -- two at once ---------------------------------------------------------------------------------------------------


def follow_together(database: Database, other: Database, patch: pytest.MonkeyPatch) -> None:
    """Two followers, each of which has read its first page before the other applies one."""
    both, next_page = threading.Barrier(2), following._next_page
    waits = threading.local()

    def meet(*arguments: Any) -> Any:
        page = next_page(*arguments)
        if not hasattr(waits, "is_over"):
            waits.is_over = True
            both.wait(BOUND)
        return page

    patch.setattr(following, "_next_page", meet)
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(lambda one: catch_up(one, projection), (database, other)))


def test_two_followers_at_once_apply_each_event_once(
    ended: Database, other: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_together(ended, other, monkeypatch)
    check(ended)


def test_two_followers_that_trust_what_they_read_before_the_lock_apply_events_twice(
    ended: Database, other: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    applied, lock = threading.local(), following.lock

    def trust(*arguments: Any) -> int:
        lock(*arguments)
        applied.position = getattr(applied, "position", -5) + 5
        return int(applied.position)

    monkeypatch.setattr(following, "lock", trust)
    follow_together(ended, other, monkeypatch)
    assert ends(ended) > ENDS


def intrude(patch: pytest.MonkeyPatch, look: Callable[..., int], meanwhile: Callable[[], Any]) -> None:
    """Have something happen once a follower has looked at its checkpoint, the first time that one does."""

    def looking(*arguments: Any, **options: Any) -> int:
        patch.undo()
        position = look(*arguments, **options)
        meanwhile()
        return position

    patch.setattr(following, "lock", looking)


def test_who_comes_while_another_holds_the_checkpoint_waits_and_goes_on_behind_it(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_more(postgresql)
    other = Database(postgresql.url)
    catch_up(postgresql, projection)
    end_more(postgresql, 2)
    with ThreadPoolExecutor(1) as thread:
        second: list[Any] = []

        def follow_too() -> None:
            second.append(thread.submit(catch_up, other, projection))
            wait_for_a_waiter(postgresql)

        intrude(monkeypatch, following.lock, follow_too)
        assert catch_up(postgresql, projection)
        assert second[0].result(BOUND)
    other.close()
    check(postgresql)


def test_a_follower_that_only_looks_at_the_checkpoint_applies_twice_what_another_does(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_more(postgresql)
    other = Database(postgresql.url)
    catch_up(postgresql, projection)
    end_more(postgresql, 2)

    def look(connection: Any, *_: Any) -> int:
        return int(connection.execute(following.checkpoint_of(projection)).one().position)

    intrude(monkeypatch, look, lambda: catch_up(other, projection))
    catch_up(postgresql, projection)
    other.close()
    assert ends(postgresql) == ENDS + 4


# -- killed --------------------------------------------------------------------------------------------------------


def kill_while_following(forks: Forks, database: Database, folder: Path, before: str) -> None:
    process = forks.start("stats", before=f"tests.followers:{before}", folder=folder, DATABASE_URL=database.url)
    assert process.wait() == -9


@pytest.mark.parametrize("point", ["rows-stored", "committed"])
def test_what_a_killed_follower_had_begun_is_applied_once(
    ended: Database, forks: Forks, bare: Path, point: str
) -> None:
    kill_while_following(forks, ended, bare, f"kill {point}")
    check(ended, until=5)
    assert catch_up(ended, projection)
    check(ended)


def test_a_checkpoint_that_moves_after_the_rows_are_committed_lets_events_be_applied_twice(
    ended: Database, forks: Forks, bare: Path
) -> None:
    kill_while_following(forks, ended, bare, "commit_twice")
    assert catch_up(ended, projection)
    assert ends(ended) > ENDS


# -- rebuild and verify --------------------------------------------------------------------------------------------


def test_what_was_not_applied_yet_is_no_drift(ended: Database, short_pages: None) -> None:
    assert reconcile_following(ended, projection, write=False).total == 0
    catch_up(ended, projection, pages=2)
    drift = reconcile_following(ended, projection, write=False)
    assert (drift.total, drift.events, drift.behind) == (0, ENDS, 3 * ENDS - 10)


def test_a_rebuild_tells_what_was_not_applied_and_counts_the_rows_that_it_writes_for_it(
    enrichlog: Command, ended: Database
) -> None:
    said = f"{NAME}: {ENDS} events of 1 row, no difference; "
    found = enrichlog("rebuild", NAME, "--dry-run")
    assert (found.code, found.out) == (3, f"{said}60 events behind\n")
    sound = enrichlog.done("verify", NAME)
    assert f"{said}60 events behind\nSound.\n" in sound.out
    assert enrichlog.done("rebuild", NAME).out == f"{said}was 60 events behind; 1 row written\n"
    assert enrichlog.done("rebuild", NAME, "--dry-run").out == f"{said[:-2]}\n"


def test_rows_that_were_wrong_and_rows_that_are_behind_are_written_once_each(ended: Database) -> None:
    catch_up(ended, projection)
    run(ended, DAMAGE["stale"])
    end_more(ended, 1)
    drift = reconcile_following(ended, projection, write=True)
    assert (drift.counts["stale"], drift.behind, drift.written) == (1, 3, 1)
    drift = reconcile_following(ended, projection, write=True)
    assert (drift.total, drift.behind, drift.written) == (0, 0, 0)


DAMAGE = {
    "missing": "DELETE FROM {ours}enrichment_stats_hourly",
    "stale": "UPDATE {ours}enrichment_stats_hourly SET input_tokens = input_tokens + 1",
    "extra": "UPDATE {ours}enrichment_stats_hourly SET request_model = 'nobody asked'",
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_table_is_found_and_mended_up_to_the_end_of_the_log(
    ended: Database, short_pages: None, kind: str
) -> None:
    catch_up(ended, projection, pages=2)
    run(ended, DAMAGE[kind])
    assert reconcile_following(ended, projection, write=False).counts[kind] == 1
    assert reconcile_following(ended, projection, write=True).counts[kind] == 1
    assert standing(ended, projection).behind == 0
    check(ended)
    assert reconcile_following(ended, projection, write=True).total == 0


def test_rows_whose_checkpoint_is_lost_are_not_counted_twice_after_a_rebuild(ended: Database) -> None:
    catch_up(ended, projection)
    run(ended, "DELETE FROM {ours}checkpoints")
    reconcile_following(ended, projection, write=True)
    catch_up(ended, projection)
    check(ended)


def test_a_rebuild_goes_on_behind_a_follower_that_was_faster(
    ended: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    moment = rebuilding._one_moment

    def late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(rebuilding, "_one_moment", moment)
        end_more(ended, 4)
        catch_up(ended, projection, pages=9)
        return moment(*arguments, **options)

    catch_up(ended, projection, pages=1)
    monkeypatch.setattr(rebuilding, "_one_moment", late)
    assert reconcile_following(ended, projection, write=True).total == 0
    check(ended)


def test_readers_see_all_rows_while_they_are_made_anew(postgresql: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    end_more(postgresql)
    catch_up(postgresql, projection)
    run(postgresql, "UPDATE {ours}enrichment_stats_hourly SET ends = 7")
    seen: list[int] = []
    move = following.move

    def look(*arguments: Any) -> None:
        other = Database(postgresql.url)
        seen.append(ends(other))
        other.close()
        move(*arguments)

    monkeypatch.setattr(rebuilding, "move", look)
    assert reconcile_following(postgresql, projection, write=True).written == 1
    assert (seen, ends(postgresql)) == ([7], ENDS)


def test_a_follower_that_goes_on_in_the_middle_of_a_comparison_is_no_difference(
    postgresql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(*arguments: Any) -> int:
        other = Database(postgresql.url)
        assert catch_up(other, projection)
        other.close()
        return read_head(*arguments)

    read_head = head_position
    end_more(postgresql)
    monkeypatch.setattr(rebuilding, "head_position", head)
    assert reconcile_following(postgresql, projection, write=False).total == 0
    assert ends(postgresql) == ENDS  # it did go on


@pytest.mark.parametrize(("change", "error"), [(1, FoldOutdated), (-1, FoldTooNew)])
def test_rows_of_another_version_of_the_fold_are_served_until_a_rebuild(
    ended: Database, change: int, error: type[Exception]
) -> None:
    catch_up(ended, projection)
    end_more(ended, 1)
    changed = replace(projection, version=projection.version + change)
    with pytest.raises(error, match="enrichlog"):
        catch_up(ended, changed)
    assert ends(ended) == ENDS
    reconcile_following(ended, changed, write=False)
    with pytest.raises(error):
        catch_up(ended, changed)
    if error is FoldTooNew:
        with pytest.raises(error):  # older rows are not written over newer ones
            reconcile_following(ended, changed, write=True)
        assert (ends(ended), standing(ended, changed).fold_version) == (ENDS, projection.version)
        return
    reconcile_following(ended, changed, write=True)
    assert (ends(ended), standing(ended, changed).fold_version) == (ENDS + 1, changed.version)
    assert catch_up(ended, changed)


def test_an_event_that_nobody_knows_here_is_not_passed_over(
    ended: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {name: kind for name, kind in EVENT_TYPES.items() if name != "EnrichmentStarted"}
    with monkeypatch.context() as patch:
        for module in (following, upcasting):
            patch.setattr(module, "EVENT_TYPES", known)
        with pytest.raises(UnknownEventType, match="EnrichmentStarted version 1 at position 2"):
            catch_up(ended, projection)
        with pytest.raises(UnknownEventType):
            reconcile_following(ended, projection, write=True)
    assert standing(ended, projection).position == 0
    assert catch_up(ended, projection)
    check(ended)


def test_an_event_that_the_fold_cannot_take_stops_it_with_its_position(ended: Database, short_pages: None) -> None:
    def fold(hour: Hour, event: Recorded) -> Hour:
        raise KeyError("called")

    defective = replace(projection, fold=fold)
    with pytest.raises(Unfoldable, match="EnrichmentSucceeded at position 3: it has no called"):
        catch_up(ended, defective)
    with pytest.raises(Unfoldable):
        reconcile_following(ended, defective, write=True)
    assert standing(ended, projection).position == 0


def test_rebuild_and_verify_know_what_follows(enrichlog: Command, ended: Database) -> None:
    assert NAME in [one["projection"] for one in enrichlog.json("rebuild")["projections"]]
    check(ended)
    run(ended, DAMAGE["stale"])
    found = enrichlog("rebuild", NAME, "--dry-run")
    assert (found.code, "1 stale" in found.out) == (3, True)
