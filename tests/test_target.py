"""The table of an adopted database: what of a result goes to which of its columns, and that it stays so."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from enrichlog.adopted import adopted_of
from enrichlog.passed_over import show_what_was_passed_over
from enrichlog.postings import find_deleted
from eventlog.database import Database
from eventlog.errors import DatabaseRefused
from projections.adoption import Adopted
from projections.inline import append_all
from projections.reconcile import not_shown
from tests import adopted
from tests.adopted import a_result, add_postings, job_id, row_of, set_row, settings_of
from tests.builders import failed, proposal, requested, run, started, succeeded, tell
from tests.conftest import Databases
from tests.drift import rebuild, verify

ONE = f"job-{job_id(1)}"


@pytest.fixture
def theirs(databases: Databases) -> Iterator[Database]:
    """A database with tables of theirs and ours, adopted as the settings of the tests say."""
    yield from made(databases)


@pytest.fixture
def theirs_on_postgresql(server_databases: Databases) -> Iterator[Database]:
    """The same where columns have types that refuse and change values."""
    yield from made(server_databases)


def made(databases: Databases) -> Iterator[Database]:
    """Make it, and drop it at the end."""
    url = databases.adopted()
    database = Database(url)
    add_postings(database, range(1, 4))
    adopt(database)
    yield database
    database.close()
    databases.drop(url)


def adopt(database: Database, query: str = adopted.QUERY, **target: Any) -> None:
    """Adopt it, with this in place of what the settings say of the table."""
    told = adopted_of(settings_of(database, query, **target))
    assert isinstance(told, Adopted)
    with database.read() as connection:
        database.adopted = told.looked_up(database, connection)


def test_each_field_of_a_result_goes_to_its_column_as_what_it_is(theirs: Database) -> None:
    result = a_result()
    tell(theirs, ONE, requested(), started(), succeeded(result=result))
    row = row_of(theirs, 1)
    assert {name: row[name] for name in result} == result
    assert row["enrichment_model_version"] == "model-1-snapshot"
    assert row["enrichment_completed_at"] is not None
    assert (row["enrichment_error"], row["note"]) == (None, None)
    assert verify(theirs).total == 0


def test_a_failure_leaves_the_result_before_it_and_only_mapped_columns_are_written(theirs: Database) -> None:
    set_row(theirs, 1, note="theirs", rol_titel="old")
    tell(theirs, ONE, requested(), started(), failed())
    row = row_of(theirs, 1)
    assert (row["note"], row["rol_titel"]) == ("theirs", "old")
    assert row["enrichment_error"] == "Request timeout after 300 seconds"
    assert verify(theirs).total == 0


def test_rows_that_were_made_beforehand_and_show_nothing_are_none(theirs: Database) -> None:
    tell(theirs, ONE, requested())
    set_row(theirs, 2, enrichment_error="")
    assert verify(theirs).total == 0


def test_a_row_of_theirs_that_no_event_explains_is_extra_and_stays(theirs: Database) -> None:
    set_row(theirs, 2, enrichment_error="it was before us")
    assert (verify(theirs).counts["extra"], rebuild(theirs).counts["extra"]) == (1, 1)
    assert row_of(theirs, 2)["enrichment_error"] == "it was before us"


def test_what_was_lost_is_written_again_and_what_was_corrected_stays(theirs: Database) -> None:
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result()))
    set_row(theirs, 1, rol_titel="by hand", sector=None, rolniveau=[])
    assert verify(theirs).counts["edited"] == 1
    rebuild(theirs)
    row = row_of(theirs, 1)
    assert (row["rol_titel"], row["sector"], row["rolniveau"]) == ("by hand", "sector of it", [])
    rebuild(theirs, overwrites=True)
    assert row_of(theirs, 1)["rolniveau"] == a_result()["rolniveau"]
    assert verify(theirs).total == 0


def test_a_field_within_a_field_a_constant_and_sql_of_theirs_go_with_each_result(theirs: Database) -> None:
    adopt(
        theirs,
        columns={
            "rolniveau": "labels.topics", "note": {"constant": "by us"}, "sector": "labels.nothing.there",
            "enrichment_error": "@error",
        },
        after_success="UPDATE job_postings SET needs_ranking = true WHERE id = :id AND title <> 'a:b'",
    )  # fmt: skip
    ranked = "SELECT count(*) AS n FROM job_postings WHERE needs_ranking"
    tell(theirs, ONE, requested(), started(), failed())
    assert (row_of(theirs, 1)["note"], run(theirs, ranked)[0]["n"]) == (None, 0)
    tell(theirs, ONE, started(attempt=2), succeeded(attempt=2, result=a_result()))
    row = row_of(theirs, 1)
    assert (row["rolniveau"], row["note"], row["sector"]) == (["lakes", "é"], "by us", None)
    assert run(theirs, ranked)[0]["n"] == 1
    assert verify(theirs).total == 0
    assert run(theirs, ranked)[0]["n"] == 1


def test_sql_of_theirs_that_is_refused_leaves_the_row_unwritten_and_is_run_with_it_later(theirs: Database) -> None:
    adopt(theirs, after_success="UPDATE job_postings SET title = NULL WHERE id = :id")
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result()))
    assert row_of(theirs, 1)["rol_titel"] is None
    ((_, reason),) = not_shown(theirs).items()
    assert "title" in reason
    adopt(theirs, after_success="UPDATE job_postings SET title = 'told' WHERE id = :id")
    rebuild(theirs)
    assert row_of(theirs, 1)["rol_titel"] == "rol_titel of it"
    assert run(theirs, f"SELECT title FROM job_postings WHERE id = '{job_id(1)}'")[0]["title"] == "told"
    assert not_shown(theirs) == {}


def test_sql_of_theirs_is_run_with_a_result_that_is_shown_after_the_stream_has_moved_on(theirs: Database) -> None:
    adopt(theirs, after_success="UPDATE job_postings SET needs_ranking = true WHERE id = :id")
    for number in (1, 2):
        one = f"job-{job_id(number)}"
        tell(theirs, one, requested(), started(), succeeded(result=a_result(sourcing_type="nobody knows")))
        tell(theirs, one, requested("changed"), started(attempt=2), failed(attempt=2))
    assert len(not_shown(theirs)) == 2
    loosen(theirs)
    tell(theirs, ONE, requested("force"))
    assert ranked(theirs) == [job_id(1)]
    rebuild(theirs)
    assert ranked(theirs) == [job_id(1), job_id(2)]
    assert row_of(theirs, 2)["sourcing_type"] == "nobody knows"
    run(theirs, "UPDATE job_postings SET needs_ranking = false")
    tell(theirs, ONE, started(attempt=3), failed(attempt=3))
    rebuild(theirs)
    assert ranked(theirs) == []


def ranked(database: Database) -> list[str]:
    """The postings that SQL of theirs has been told of."""
    return [str(row["id"]) for row in run(database, "SELECT id FROM job_postings WHERE needs_ranking ORDER BY id")]


def loosen(database: Database) -> None:
    """Take the table's constraints away, as people do who mend it; SQLite makes it anew without them."""
    if database.dialect.name == "postgresql":
        run(database, "ALTER TABLE llm_enrichment DROP CONSTRAINT sourcing_is_known")
    else:
        run(database, "CREATE TABLE loose AS SELECT * FROM llm_enrichment")
        run(database, "DROP TABLE llm_enrichment")
        run(database, "ALTER TABLE loose RENAME TO llm_enrichment")
        run(database, "CREATE UNIQUE INDEX loose_key ON llm_enrichment (job_posting_id)")


def test_a_value_that_their_check_refuses_is_told_with_its_name_and_others_are_written(theirs: Database) -> None:
    for number, sourcing in ((1, "nobody knows"), (2, "direct")):
        one = f"job-{job_id(number)}"
        tell(theirs, one, requested(), started(), succeeded(result=a_result(sourcing_type=sourcing)))
    assert row_of(theirs, 2)["sourcing_type"] == "direct"
    assert "sourcing_is_known" in not_shown(theirs)[ONE]
    assert verify(theirs).counts["missing"] == 1


def test_a_text_too_long_is_told_with_its_column(theirs_on_postgresql: Database) -> None:
    theirs = theirs_on_postgresql
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result(perk_auto="a lease car of your choice")))
    assert not_shown(theirs)[ONE] == (
        "value too long for type character varying(20): perk_auto takes 20 characters, not 26"
    )
    run(theirs, "ALTER TABLE llm_enrichment ALTER COLUMN perk_auto TYPE varchar(40)")
    assert rebuild(theirs).written == 1
    assert row_of(theirs, 1)["perk_auto"] == "a lease car of your choice"


CHANGING = {
    "a trigger": """CREATE FUNCTION small() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN NEW.rol_titel = lower(NEW.rol_titel); RETURN NEW; END';
        CREATE TRIGGER small BEFORE UPDATE ON llm_enrichment FOR EACH ROW EXECUTE FUNCTION small()""",
    "types": """ALTER TABLE llm_enrichment ALTER rol_titel TYPE char(40), ALTER salaris_minimum TYPE numeric(10, 2),
        ALTER enrichment_completed_at TYPE timestamptz(0), ALTER sector TYPE varchar(300)""",
}


@pytest.mark.parametrize("what", CHANGING)
def test_what_the_table_makes_of_a_row_is_no_difference_and_a_correction_still_is(
    theirs_on_postgresql: Database, what: str
) -> None:
    theirs = theirs_on_postgresql
    run(theirs, CHANGING[what])
    adopt(theirs)
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result(rol_titel="Data Engineer")))
    before = row_of(theirs, 1)
    assert before["rol_titel"] != "Data Engineer"  # the control
    assert verify(theirs).total == 0
    set_row(theirs, 1, rol_titel="by hand")
    assert verify(theirs).counts["edited"] == 1
    assert row_of(theirs, 1)["rol_titel"].strip() == "by hand"


def test_a_time_without_a_zone_is_utc(theirs_on_postgresql: Database) -> None:
    theirs = theirs_on_postgresql
    run(theirs, "ALTER TABLE llm_enrichment ALTER enrichment_completed_at TYPE timestamp")
    adopt(theirs)
    tell(theirs, ONE, requested(), started(), failed())
    completed = row_of(theirs, 1)["enrichment_completed_at"].replace(tzinfo=UTC)
    assert abs(theirs.now() - completed) < timedelta(minutes=5)
    assert verify(theirs).total == 0


UNIQUE = "ALTER TABLE llm_enrichment DROP CONSTRAINT llm_enrichment_job_posting_id_key"


@pytest.mark.parametrize(
    "statements",
    [(), (UNIQUE, "ALTER TABLE llm_enrichment ADD UNIQUE (job_posting_id) DEFERRABLE INITIALLY DEFERRED"), (UNIQUE,)],
    ids=["unique", "deferrable", "not unique"],
)
def test_rows_that_were_not_made_beforehand_are_inserted(
    theirs_on_postgresql: Database, statements: tuple[str, ...]
) -> None:
    theirs = theirs_on_postgresql
    for statement in ("DELETE FROM llm_enrichment", *statements):
        run(theirs, statement)
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result()))
    assert row_of(theirs, 1)["rol_titel"] == "rol_titel of it"
    assert (not_shown(theirs), verify(theirs).total) == ({}, 0)


@pytest.mark.parametrize("kind", ["bigint", "varchar(40)", "text", "integer"])
def test_keys_may_be_numbers_and_texts(databases: Databases, kind: str) -> None:
    url = databases.migrated()
    database = Database(url)
    run(database, f'CREATE TABLE "Of Theirs" ("order" {kind} PRIMARY KEY, "The Error" text)')
    run(database, """INSERT INTO "Of Theirs" ("order") VALUES ('7')""")
    adopt(database, "SELECT 1 AS id", table="Of Theirs", id_column="order", columns={"The Error": "@error"})
    for name in ("7", "8", "x-9"):
        tell(database, f"job-{name}", requested(), started(), failed())
    shown = {str(row["order"]): row["The Error"] for row in run(database, 'SELECT * FROM "Of Theirs"')}
    assert {name: shown[name] for name in "78"} == dict.fromkeys("78", "Request timeout after 300 seconds")
    assert not_shown(database).keys() == {"job-x-9"} - {f"job-{name}" for name in shown}
    assert verify(database).counts["missing"] == len(not_shown(database))
    database.close()
    databases.drop(url)


def test_another_enrichment_than_the_targets_is_not_shown_there(theirs: Database) -> None:
    tell(theirs, f"summary-{job_id(1)}", requested(), started(), failed())
    assert row_of(theirs, 1)["enrichment_error"] is None
    assert (verify(theirs).total, not_shown(theirs)) == (0, {})


def test_imported_results_are_compared_without_constants_and_with_long_messages_cut(theirs: Database) -> None:
    adopt(theirs, columns={**adopted.columns(), "note": {"constant": "by us"}})
    long = "é" * 30_000
    set_row(theirs, 1, note="by a script", rol_titel="Data engineer", enrichment_completed_at="2026-01-01 10:00:00+00")
    set_row(theirs, 2, enrichment_error=long, enrichment_completed_at="2026-01-01T10:00:00.123456Z")
    told = a_result() | dict.fromkeys(a_result()) | {"rol_titel": "Data engineer", "labels": {}}
    at = datetime(2026, 1, 1, 10, tzinfo=UTC)
    imported: dict[str, Any] = {"origin": "imported", "occurred_at": at, "called": False}
    for number, end in (
        (1, succeeded(result=told, response_model=None, **imported)),
        (2, failed(message=long, **imported | {"occurred_at": at.replace(microsecond=123456)})),
    ):
        events = (requested(), started(origin="imported"), end)
        one = f"job-{job_id(number)}"
        with theirs.write() as connection:
            append_all(connection, theirs, [proposal(one, event) for event in events], shows=False)
    set_row(theirs, 1, enrichment_model_version=None)
    assert row_of(theirs, 2)["enrichment_error"] == long
    found = verify(theirs)
    assert found.total == 0, [one.columns for one in found.examples]


@pytest.mark.parametrize("character", ["a", "é", "漢", "😀"])
def test_the_longest_message_of_any_characters_fits_an_index_of_theirs(
    theirs_on_postgresql: Database, character: str
) -> None:
    theirs = theirs_on_postgresql
    run(theirs, "CREATE INDEX llm_enrichment_errors ON llm_enrichment (enrichment_error)")
    first = ord(character)
    random = Random(6)  # or it would be compressed
    message = "".join(chr(first + random.randrange(20 if first < 128 else 60)) for _ in range(20_000))
    with pytest.raises(DatabaseRefused, match="index row"):
        set_row(theirs, 2, enrichment_error=message)  # the control
    tell(theirs, ONE, requested(), started(), failed(message=message))
    assert not_shown(theirs) == {}
    assert message.startswith(row_of(theirs, 1)["enrichment_error"])
    assert len(row_of(theirs, 1)["enrichment_error"]) >= 600


def test_an_error_of_blanks_is_none(theirs: Database) -> None:
    set_row(theirs, 2, enrichment_error=" \n\t")
    assert verify(theirs).total == 0


def test_what_the_log_redacts_is_no_difference_where_the_table_had_it_before(theirs: Database) -> None:
    keys = {"sector": "sk-abcdefghijklmnopqrstuvwxyz123456", "rolniveau": ["https://me:word@example.org"]}
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result(**keys)))
    set_row(theirs, 1, **keys)
    assert row_of(theirs, 1)["sector"] == keys["sector"]  # the control: it was written without
    assert verify(theirs).total == 0
    set_row(theirs, 1, sector="by hand")
    assert verify(theirs).counts["edited"] == 1


def test_a_posting_that_is_deleted_while_it_is_asked_for_ends_quietly(theirs: Database) -> None:
    tell(theirs, ONE, requested(), started())
    run(theirs, f"DELETE FROM job_postings WHERE id = '{job_id(1)}'")
    tell(theirs, ONE, succeeded(result=a_result()))
    show_what_was_passed_over(theirs)
    assert not_shown(theirs) == {}
    found = verify(theirs, gone=find_deleted)
    assert (found.total, found.gone) == (0, 1)


def test_a_whole_number_beyond_what_sqlite_holds_is_shown_and_no_result_is_lost(theirs: Database) -> None:
    adopt(theirs, columns={"note": "number", "enrichment_completed_at": "@completed_at"})
    tell(theirs, ONE, requested(), started(), succeeded(result={"number": 2**63}))
    assert row_of(theirs, 1)["note"] == str(2**63)
    assert (not_shown(theirs), verify(theirs).total) == ({}, 0)


def test_a_column_may_be_named_as_a_row_is_in_our_queries(theirs: Database) -> None:
    run(theirs, "ALTER TABLE llm_enrichment ADD COLUMN told text")
    adopt(theirs, columns={"told": "sector", "enrichment_completed_at": "@completed_at"})
    tell(theirs, ONE, requested(), started(), succeeded(result=a_result()))
    assert verify(theirs).total == 0


@pytest.mark.parametrize("columns", [{"enrichment_error": "@error"}, {"enrichment_error": "@error", "note": "note"}])
def test_where_no_time_of_completion_is_kept_a_success_may_leave_nothing_to_show(
    theirs: Database, columns: dict[str, str]
) -> None:
    adopt(theirs, columns=columns)
    tell(theirs, ONE, requested(), started(), failed())
    tell(theirs, ONE, requested("force"), started(attempt=2), succeeded(attempt=2, result=a_result()))
    tell(theirs, f"job-{job_id(2)}", requested())
    assert verify(theirs).total == 0
    set_row(theirs, 1, enrichment_error="by hand")
    assert verify(theirs).counts["edited"] == 1


def test_a_row_that_another_program_holds_is_not_called_edited_for_what_the_table_makes_of_it(
    theirs_on_postgresql: Database,
) -> None:
    theirs = theirs_on_postgresql
    run(theirs, CHANGING["a trigger"])
    for number in (1, 2):
        tell(theirs, f"job-{job_id(number)}", requested(), started(), succeeded(result=a_result(rol_titel="Engineer")))
    set_row(theirs, 2, rol_titel="by hand")
    with theirs.write() as other:
        other.exec_driver_sql(f"SELECT 1 FROM llm_enrichment WHERE job_posting_id = '{job_id(1)}' FOR UPDATE")
        found = verify(theirs)
        assert (found.total, found.counts["edited"], found.locked) == (1, 1, 1)
    assert verify(theirs).locked == 0


def test_a_model_that_was_left_blank_before_us_is_no_difference(theirs: Database) -> None:
    end = succeeded(result=a_result(), response_model="", origin="imported", request_model="model-1")
    with theirs.write() as connection:
        append_all(connection, theirs, [proposal(ONE, one) for one in (requested(), started(origin="imported"), end)])
    assert row_of(theirs, 1)["enrichment_model_version"] == ""
