"""Sync: what is new, what has changed and whose postings are gone, on an adopted database and on our own table."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event

from enrichlog import source, users_postings
from enrichlog import sync as sync_module
from enrichlog.exceptions import UnusableSource
from enrichlog.postings import find_posting
from enrichlog.sync import Synced, count_unrequested, refresh, sync, synced
from eventlog.database import Database
from tests.adopted import QUERY, add_postings, adopt, job_id, look_up, write_settings
from tests.builders import BOUND, requested, run, sessions, started, status, tell, wait_for_a_waiter
from tests.command_line import Command
from tests.service import import_postings, of_type, posting, whole_log

THEIRS = ("companies", "job_postings", "job_descriptions", "llm_enrichment")


def why(database: Database) -> list[tuple[str, str]]:
    return [(one.stream_id, one.facts["why"]) for one in of_type(database, "EnrichmentRequested")]


def say(database: Database, number: int, text: str) -> None:
    """Their own program describes a posting anew."""
    where = f"WHERE job_posting_id = '{job_id(number)}'"
    run(database, f"UPDATE job_descriptions SET full_description_text = '{text}' {where}")


def test_new_postings_are_requested_once_and_those_that_the_query_leaves_out_never(adopted: Database) -> None:
    add_postings(adopted, range(1, 4))
    add_postings(adopted, [9], "Other")
    assert count_unrequested(adopted, "job") == 3
    assert (sync(adopted, "job", "tests"), sync(adopted, "job", "tests")) == (3, 0)
    assert count_unrequested(adopted, "job") == 0
    assert sorted(why(adopted)) == [(f"job-{job_id(number)}", "new") for number in range(1, 4)]
    assert status(adopted, f"job-{job_id(1)}")["input_hash"] == find_posting(adopted, job_id(1)).input_hash


def test_each_enrichment_sees_their_postings_for_itself(adopted: Database) -> None:
    add_postings(adopted, range(1, 3))
    assert (sync(adopted, "job", "tests"), sync(adopted, "pay", "tests"), sync(adopted, "job", "tests")) == (2, 2, 0)


def test_a_changed_text_is_requested_when_all_are_read(adopted: Database) -> None:
    add_postings(adopted, range(1, 4))
    sync(adopted, "job", "tests")
    say(adopted, 2, "Another.")
    assert (sync(adopted, "job", "tests"), len(why(adopted))) == (0, 3)  # no text is read for that
    assert (refresh(adopted, "job", "tests"), refresh(adopted, "job", "tests")) == (1, 0)
    assert why(adopted)[3:] == [(f"job-{job_id(2)}", "changed")]


def test_a_change_while_an_attempt_runs_is_requested_once(adopted: Database) -> None:
    add_postings(adopted, [1])
    sync(adopted, "job", "tests")
    tell(adopted, f"job-{job_id(1)}", started(input_hash=find_posting(adopted, job_id(1)).input_hash))
    say(adopted, 1, "Another.")
    assert (refresh(adopted, "job", "tests"), refresh(adopted, "job", "tests")) == (1, 0)


def test_what_never_said_which_text_it_has_seen_has_not_changed(adopted: Database) -> None:
    add_postings(adopted, [1])
    tell(adopted, f"job-{job_id(1)}", requested())  # as of what was imported
    assert (sync(adopted, "job", "tests"), refresh(adopted, "job", "tests")) == (0, 0)
    assert len(why(adopted)) == 1


def test_whose_postings_are_gone_is_counted_with_the_first_of_them(adopted: Database) -> None:
    add_postings(adopted, range(1, 9))
    sync(adopted, "job", "tests")
    sync(adopted, "pay", "tests")
    run(adopted, f"DELETE FROM job_postings WHERE id < '{job_id(4)}'")
    run(adopted, f"UPDATE job_postings SET title_classification = 'Other' WHERE id < '{job_id(8)}'")
    gone = [job_id(number) for number in range(1, 6)]
    assert synced(adopted, "job", "tests") == Synced("job", 0, None, 7, gone)
    run(adopted, "UPDATE job_postings SET title_classification = 'Data'")
    assert synced(adopted, "job", "tests", reads=True) == Synced("job", 0, 0, 3, gone[:3])
    assert len(why(adopted)) == 16


def test_a_dry_run_says_the_same_and_requests_nothing(adopted: Database) -> None:
    add_postings(adopted, range(1, 4))
    sync(adopted, "job", "tests")
    add_postings(adopted, [5])
    say(adopted, 2, "Another.")
    run(adopted, f"DELETE FROM job_postings WHERE id = '{job_id(1)}'")
    before = whole_log(adopted)
    told = synced(adopted, "job", "tests", reads=True, dry_run=True)
    assert (told.new, told.changed, told.gone, whole_log(adopted)) == (1, 1, 1, before)
    done = synced(adopted, "job", "tests", reads=True)
    assert (done.new, done.changed, done.gone) == (1, 1, 1)


def test_more_postings_than_a_page_are_all_met(adopted: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "IDS_PAGE", 5)
    monkeypatch.setattr(users_postings, "TEXTS_PAGE", 2)
    monkeypatch.setattr(sync_module, "TEXTS_PAGE", 2)
    monkeypatch.setattr(adopted.dialect, "rows_together", adopted.dialect.rows_together and 3)
    add_postings(adopted, range(1, 18))
    assert synced(adopted, "job", "tests") == Synced("job", 17, None, 0)
    run(adopted, "UPDATE job_descriptions SET full_description_text = 'Another.'")
    assert refresh(adopted, "job", "tests") == 17
    run(adopted, "DELETE FROM job_postings")
    gone = [job_id(number) for number in range(1, 6)]
    assert synced(adopted, "job", "tests") == Synced("job", 0, None, 17, gone)
    assert len(set(why(adopted))) == len(why(adopted)) == 34


def test_a_posting_that_is_there_twice_is_refused_when_texts_are_read(adopted: Database) -> None:
    add_postings(adopted, [1])
    sync(adopted, "job", "tests")
    run(adopted, "CREATE TABLE twice (number integer)")
    run(adopted, "INSERT INTO twice VALUES (1), (2)")
    look_up(adopted, QUERY.replace("WHERE", "CROSS JOIN twice WHERE"))
    assert synced(adopted, "job", "tests").new == 0
    with pytest.raises(UnusableSource, match=f"1 of its rows have the id of another, such as {job_id(1)}"):
        synced(adopted, "job", "tests", reads=True)


def test_a_sync_waits_for_streams_before_it_locks_the_postings_of_ours(postgresql: Database) -> None:
    """A trigger of theirs on llm_enrichment may write to job_postings: the other order would deadlock with it."""
    import_postings(postgresql, posting("1"))
    run(postgresql, "UPDATE job_postings SET description = 'Edited.', input_hash = 'of another text'")
    with sessions(postgresql, 1) as (other,), ThreadPoolExecutor(1) as aside:
        other.execute("SELECT * FROM enrichlog.enrichment_status FOR UPDATE")
        syncing = aside.submit(sync, postgresql, "job", "tests")
        wait_for_a_waiter(postgresql)
        other.execute("SELECT * FROM job_postings FOR UPDATE NOWAIT")  # nobody has it locked
        other.rollback()
        assert syncing.result(BOUND) == 1


LOCKS = "SELECT relname, mode FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE relkind = 'r'"


def test_nothing_of_theirs_is_locked_against_reading_and_writing(postgresql: Database, bare: Path) -> None:
    adopted = adopt(postgresql.url)
    add_postings(adopted, range(1, 4))
    with sessions(adopted, 1) as (other,):
        found = list[tuple[str, str]]()

        def look(_: Connection) -> None:
            """What is held as a transaction of ours commits."""
            found.extend((name, mode) for name, mode in other.execute(LOCKS) if name in THEIRS)

        event.listen(adopted.engine, "commit", look)
        assert synced(adopted, "job", "tests", reads=True).new == 3
        assert {name for name, _ in found} >= {"job_postings", "companies", "job_descriptions"}
        assert {mode for _, mode in found} == {"AccessShareLock"}
        run(adopted, "SELECT FROM job_postings FOR UPDATE")  # the control
        assert "RowShareLock" in {mode for _, mode in found}
    adopted.close()


def test_our_own_postings_are_synced_too_and_read_when_sql_has_edited_them(database: Database) -> None:
    import_postings(database, posting("1"), posting("2"), posting("3"))
    run(database, "UPDATE job_postings SET description = 'Edited.' WHERE id = '1'")
    run(database, "DELETE FROM job_postings WHERE id = '2'")
    assert synced(database, "job", "tests") == Synced("job", 0, 0, 1, ["2"])
    assert synced(database, "job", "tests", reads=True, dry_run=True).changed == 1
    assert synced(database, "job", "tests", reads=True) == Synced("job", 0, 1, 1, ["2"])
    assert synced(database, "job", "tests", reads=True).changed == 0


def test_the_command_tells_what_was_found(
    user: Command, adopted: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", adopted.url)
    write_settings(bare)
    add_postings(adopted, range(1, 4))
    assert user.done("sync", "--dry-run").out.splitlines() == [
        "Would be requested: 3 new",
        "Changed texts were not looked for. To read them all: enrichlog sync --refresh",
    ]
    assert "Requested: 3 new\n" in user.done("sync").out
    run(adopted, f"DELETE FROM job_postings WHERE id = '{job_id(1)}'")
    say(adopted, 2, "Another.")
    document = {"enrichment": "job", "dry_run": False, "new": 0, "changed": None, "gone": 1}
    assert user.json("sync") == document | {"gone_examples": [job_id(1)]}
    assert user.done("sync", "--refresh").out.splitlines() == [
        "Requested: 0 new, 1 changed",
        f"1 posting is not there any more, and is not tried: {job_id(1)}",
        "Next: enrichlog enrich",
    ]
    assert user.json("enrich", "--dry-run")["would_take"] == 2
    assert user.done("enrich", "--outdated", "--dry-run").out.splitlines() == [
        "No result is outdated: prompt, schema and model are those of today.",
        "Changed texts were not looked for. To read them all: enrichlog sync --refresh",
    ]
