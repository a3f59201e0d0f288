"""A log that somebody has tampered with: what is folded from it stops at the position, and says what is wrong there."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert

from enrichlog.keeping_up import KeepingUp
from eventlog.database import Database
from eventlog.errors import LogUnsound
from eventlog.integrity import require_sound_until
from eventlog.schema import events
from projections import following
from projections import reconcile_following as rebuilding
from projections.enrichment_stats_hourly import projection
from projections.following import Standing, catch_up, standing
from projections.reconcile_following import reconcile_following
from tests.builders import StoppedClock, drop_triggers, failed, requested, run, started, tell
from tests.command_line import Command
from tests.forging import change, forge, retell, rows
from tests.hours import check, live
from tests.test_following import end_more, ended, short_pages

assert ended  # fixtures
assert short_pages
TAMPERED = 9
"""The position of a success behind the first page."""


def remove(database: Database, position: int = TAMPERED) -> None:
    drop_triggers(database)
    with database.write() as connection:
        connection.execute(delete(events).where(events.c.position == position))


def raise_tokens(database: Database, position: int = TAMPERED) -> None:
    facts = rows(database)[position - 1]["facts"]
    change(database, position, facts=facts.replace('"input_tokens":2', '"input_tokens":2000'))


def misshape(database: Database) -> None:
    """What even a chain that fits does not hide."""
    retell(database, TAMPERED, '"input_tokens":2', '"input_tokens":-2.5')


WAYS = {
    "its hash does not follow": raise_tokens,
    "positions 9 to 9 are missing": remove,
    "it is no EnrichmentSucceeded: input_tokens": misshape,
}


# -- what follows the log ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "tamper"), WAYS.items())
def test_a_follower_stops_before_the_page_that_was_tampered_with(
    ended: Database, short_pages: None, reason: str, tamper: Callable[[Database], None]
) -> None:
    at = TAMPERED + (tamper is remove)  # what is missing is told at the next event
    tamper(ended)
    for _ in range(2):
        with pytest.raises(LogUnsound, match=f"at position {at}: {reason}"):
            catch_up(ended, projection)
        assert standing(ended, projection).position == 5
    check(ended, until=5)


def test_a_follower_does_not_go_past_events_that_are_missing_where_its_page_ends(
    ended: Database, short_pages: None
) -> None:
    removed = rows(ended)[8:10]  # positions 9 and 10, the last of the second page
    for row in removed:
        remove(ended, row["position"])
    with pytest.raises(LogUnsound, match="at position 10: it is missing"):
        catch_up(ended, projection)
    assert standing(ended, projection).position == 5
    with ended.write() as connection:  # who brings them back has lost nothing
        connection.execute(insert(events), list(map(dict, removed)))
    assert catch_up(ended, projection)
    check(ended)


def test_a_follower_that_proves_nothing_takes_what_was_tampered_with(
    ended: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_tokens(ended)
    monkeypatch.setattr(following, "require_sound_between", lambda *_: None)
    assert catch_up(ended, projection)
    assert [row["input_tokens"] for row in live(ended).values()] == [2 * 19 + 2_000]


@pytest.mark.parametrize("seen", [0, 60])
def test_a_rebuild_proves_what_nobody_has_proved_in_its_pages_and_in_its_last_moment(
    ended: Database, short_pages: None, monkeypatch: pytest.MonkeyPatch, seen: int
) -> None:
    monkeypatch.setattr(rebuilding, "standing", lambda *_: Standing(0, seen, 1))
    catch_up(ended, projection)
    raise_tokens(ended)
    before = live(ended)
    for proved in (0, TAMPERED - 1):
        with pytest.raises(LogUnsound, match=f"at position {TAMPERED}: its hash"):
            reconcile_following(ended, projection, write=True, proved=proved)
    assert live(ended) == before
    reconcile_following(ended, projection, write=True, proved=TAMPERED)  # it is not proved twice
    assert live(ended) != before


def test_statistics_of_a_log_that_was_tampered_with_are_shown_as_they_were(enrichlog: Command, ended: Database) -> None:
    enrichlog.done("stats")
    end_more(ended, 3)
    raise_tokens(ended, 66)
    document = enrichlog.json("stats")
    assert (document["position"], document["behind"], document["total"]["attempts"]) == (60, 9, 20)
    assert document["why_behind"].startswith("The log is not what was appended: at position 66: its hash does not")
    said = enrichlog.done("stats")
    assert said.err.startswith(
        "These numbers are as of position 60, 9 events behind. They could not be moved on: The l"
    )
    assert "20 of 20 attempts succeeded" in said.out


def test_a_worker_tells_once_of_a_log_that_was_tampered_with_and_goes_on(
    ended: Database, clock: StoppedClock, caplog: pytest.LogCaptureFixture
) -> None:
    raise_tokens(ended)
    keeping = KeepingUp(ended, lambda: clock.now.timestamp())
    for _ in range(2):
        keeping.look()
        clock.advance(seconds=30)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert f"at position {TAMPERED}: its hash does not follow" in warning
    assert warning.endswith("enrichlog verify")


# -- what is folded as of an earlier position ----------------------------------------------------------------------

AS_OF = [["status"], ["errors"], ["failed"], ["export", "results"]]
FOLDING = [[*words, "--as-of"] for words in AS_OF] + [["diff", "--from", "1", "--to"]]


@pytest.mark.parametrize("words", FOLDING, ids=lambda words: words[0])
def test_a_prefix_of_the_log_is_proved_before_it_is_folded(
    enrichlog: Command, ended: Database, words: list[str]
) -> None:
    enrichlog.done(*words, "20")
    raise_tokens(ended)
    enrichlog.done(*words, str(TAMPERED - 1))  # of what comes later nothing is folded
    found = enrichlog(*words, "20")
    assert (found.code, found.out) == (1, "")
    assert found.error.startswith(
        f"Error: The log is not what was appended: at position {TAMPERED}: its hash does not f"
    )


@pytest.mark.parametrize(
    "words", [*FOLDING, ["why", "2", "--as-of"], ["history", "2", "--as-of"]], ids=lambda words: words[0]
)
def test_a_position_that_is_asked_for_and_missing_is_told_as_that(
    enrichlog: Command, ended: Database, words: list[str]
) -> None:
    remove(ended)
    found = enrichlog(*words, str(TAMPERED))
    assert (found.code, found.out) == (1, "")
    assert f"not what was appended: at position {TAMPERED}: it is missing" in found.error


def test_a_time_before_a_log_whose_first_event_is_missing_is_told_as_that(enrichlog: Command, ended: Database) -> None:
    remove(ended, 1)
    assert "at position 1: it is missing" in enrichlog("status", "--as-of", "1999-01-01").error


def test_a_gap_of_versions_behind_a_prefix_is_no_fault_of_it(ended: Database) -> None:
    forge(ended, 60, version=rows(ended)[59]["version"] + 1)
    require_sound_until(ended, 59)
    with pytest.raises(LogUnsound, match="at position 60: version"):
        require_sound_until(ended, 60)


def test_events_that_are_told_and_not_folded_are_told_whatever_was_done_to_them(
    enrichlog: Command, ended: Database
) -> None:
    raise_tokens(ended)
    assert len(enrichlog.done("export", "events", "--as-of", "20").out.splitlines()) == 20
    assert "(2,000 tokens" in enrichlog.done("history", "2", "--as-of", "20").out


# -- why a row is as it is -----------------------------------------------------------------------------------------


@pytest.fixture
def told(database: Database) -> Database:
    """Two postings whose events stand between each other's: those of the first at 1, 3, 5, 6 and 7."""
    tell(database, "job-1", requested())
    tell(database, "job-2", requested())
    tell(database, "job-1", started())
    tell(database, "job-2", started())
    tell(database, "job-1", failed(message="Gone"), requested("retry"), started(2))
    tell(database, "job-2", failed())
    return database


GONE = {
    1: "version 2 of job-1 stands where 1 belongs",
    3: "version 3 of job-1 stands where 2 belongs",
    5: "positions 5 to 5 are missing",
    7: "it is missing: job-1 was at version 5, and its events end with version 4",
}


@pytest.mark.parametrize("position", GONE)
def test_an_event_that_is_missing_is_not_told_as_an_edit_of_the_rows(
    enrichlog: Command, told: Database, position: int
) -> None:
    assert "edited by hand" not in enrichlog.done("why", "1").out
    remove(told, position)
    found = enrichlog("why", "1")
    assert (found.code, found.out) == (1, "")
    assert GONE[position] in found.error


def test_what_is_missing_at_the_end_of_the_log_or_all_of_a_stream_is_missed_too(
    enrichlog: Command, told: Database
) -> None:
    remove(told, 8)
    assert "at position 8: it is missing: job-2 was at version 3" in enrichlog("why", "2").error
    assert enrichlog("why", "1").code == 0  # the other stream is whole
    assert enrichlog("why", "2", "--as-of", "7").code == 0  # and so is this one, up to there
    for position in (2, 4):
        remove(told, position)
    assert "at position 2: it is missing: job-2 was at version 3" in enrichlog("why", "2").error


CHANGES: dict[str, dict[str, Any]] = {
    "its content is not what was appended": {"content": '{"message":"Came"}'},
    "its hash does not follow": {"facts": "{}"},
    "its part is ": {"part": 63},
    "its content is gone and was never erased": {"content": None, "salt": None},
}


@pytest.mark.parametrize(("reason", "values"), CHANGES.items())
def test_an_event_that_was_changed_is_not_told_as_an_edit_and_those_of_others_are_their_matter(
    enrichlog: Command, told: Database, reason: str, values: dict[str, Any]
) -> None:
    change(told, 8, **values)
    enrichlog.done("why", "1")
    change(told, 5, **values)
    assert f"at position 5: {reason}" in enrichlog("why", "1").error


def test_an_edit_of_a_row_whose_stream_is_whole_is_told_as_one(enrichlog: Command, told: Database) -> None:
    run(told, "UPDATE llm_enrichment SET enrichment_error = 'looked into' WHERE job_posting_id = '1'")
    assert "edited by hand" in enrichlog.done("why", "1").out
