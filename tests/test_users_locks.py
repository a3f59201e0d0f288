"""Rows and tables of the users' that somebody else has locked: nobody waits long, and they are written later."""

import psycopg
import pytest
from sqlalchemy import event

from eventlog.database import Database
from projections.reconcile import not_shown
from projections.users_table import LOCKED
from tests.builders import appended, failed, offer, proposal, requested, shown, started, status, tell
from tests.drift import rebuild

pytestmark = pytest.mark.pooled

REFUSED = "job-refused"


def test_a_row_that_somebody_else_has_locked_is_passed_over_and_marked(postgresql: Database) -> None:
    for name in ("job-0", REFUSED):
        tell(postgresql, name, requested(), started(), failed(message="before"))
        tell(postgresql, name, started(2))
    with psycopg.connect(postgresql.url) as somebody:
        somebody.execute("SELECT * FROM llm_enrichment WHERE job_posting_id = 'refused' FOR UPDATE")
        appended(offer(postgresql, *(proposal(name, failed(2, message="after")) for name in ("job-0", REFUSED))))
        somebody.execute("SELECT 1")  # it still holds the row: the append did not wait for it
        rows = [shown(postgresql, name) for name in ("job-0", REFUSED)]
    assert [row and row["enrichment_error"] for row in rows] == ["after", "before"]
    assert status(postgresql, REFUSED)["projection_error"] == LOCKED
    assert status(postgresql, "job-0")["projection_error"] is None


def test_a_row_that_somebody_else_is_about_to_insert_holds_nobody_up_for_long(postgresql: Database) -> None:
    names = [f"job-{number}" for number in range(50)]
    for told in (requested(), started()):
        offer(postgresql, *(proposal(name, told) for name in names))
    tries = count_tries(postgresql)
    with psycopg.connect(postgresql.url) as somebody:
        somebody.execute("INSERT INTO llm_enrichment (job_posting_id) VALUES ('20')")
        appended(offer(postgresql, *(proposal(name, failed()) for name in names)))
        somebody.execute("SELECT 1")  # it still has the row: nobody waited for it to end
        somebody.rollback()
    assert len(tries) == 2
    check_that_what_was_locked_is_written(postgresql, names)


def test_a_table_that_somebody_else_has_locked_is_waited_for_once_and_not_for_every_row(postgresql: Database) -> None:
    names = [f"job-{number}" for number in range(50)]
    for told in (requested(), started()):
        offer(postgresql, *(proposal(name, told) for name in names))
    tries = count_tries(postgresql)
    with psycopg.connect(postgresql.url) as somebody:
        somebody.execute("CREATE INDEX theirs ON llm_enrichment (enrichment_error)")
        appended(offer(postgresql, *(proposal(name, failed()) for name in names)))
    assert len(tries) == 2
    check_that_what_was_locked_is_written(postgresql, names)


def count_tries(database: Database) -> list[object]:
    """Every time that their table was tried, which can take as long as we wait for one lock."""
    tries: list[object] = []
    event.listen(database.engine, "savepoint", lambda connection, name: tries.append(name))
    return tries


def check_that_what_was_locked_is_written(database: Database, names: list[str]) -> None:
    """It is marked as locked, whatever the database called it, so that the end of a run writes it."""
    assert not_shown(database) == dict.fromkeys(names, LOCKED)
    assert rebuild(database, streams=names).written == len(names)
    assert not_shown(database) == {}
