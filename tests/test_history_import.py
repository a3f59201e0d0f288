"""History: what an adopted table knew before us becomes events once, and nothing of the table is written."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from enrichlog import history_import_screen, history_screen, past_rows, reports, why_screen
from enrichlog.exceptions import NoHistory
from enrichlog.history_import import count_history, import_history
from enrichlog.history_report import HistoryImport
from enrichlog.legacy import classify_message
from enrichlog.noticing import request_unseen
from enrichlog.settings import Settings, current
from enrichlog.why import why
from eventlog.canonical import REPLACEMENT
from eventlog.database import Database
from eventlog.events import iso, moment
from eventlog.held import TOO_LARGE, read_row
from eventlog.log import Recorded, read_log, read_stream
from projections import limits
from projections.enrichment_stats_hourly import enrichment_stats_hourly
from projections.enrichment_stats_hourly import projection as stats_hourly
from projections.following import catch_up
from projections.limit import MONEY
from tests.adopted import a_result, add_postings, adopt, job_id, look_up, make_tables, row_of, set_row
from tests.adopted import columns as adopted_columns
from tests.builders import (
    BOUND,
    appended,
    dismissed,
    failed,
    run,
    sessions,
    started,
    status,
    succeeded,
    tell,
    wait_for_a_waiter,
)
from tests.conftest import Databases, lend_adopted
from tests.drift import drift_of, rebuild, verify

AT = "2024-01-01T12:00:00.123456+00:00"
QUOTA = "Error code: 429 - {'error': {'code': 'insufficient_quota', 'message': 'You exceeded your current quota'}}"
TIMEOUT = "Request timeout after 300 seconds"
SUCCEEDED, FAILED, AWAITING, UNTRIED = range(1, 5)


def stream(number: int) -> str:
    return f"job-{job_id(number)}"


def told(database: Database, number: int) -> list[Recorded]:
    return read_stream(database, stream(number))


def again(database: Database, **options: Any) -> HistoryImport:
    return import_history(database, current(), **{"dry_run": False, **options})


def theirs(database: Database) -> list[dict[str, Any]]:
    """The table of theirs, with what tells that a row was written: where it lies, and by which transaction."""
    place = ", ctid::text, xmin::text" if database.dialect.name == "postgresql" else ""
    return run(database, f"SELECT *{place} FROM llm_enrichment ORDER BY job_posting_id")


@pytest.fixture
def old(adopted: Database) -> Database:
    """Four postings: one has a result, one has failed, one awaits its retry, one was never tried."""
    return fill(adopted)


@pytest.fixture
def on_postgresql(server_databases: Databases, bare: Path) -> Iterator[Database]:
    """An adopted database where columns have types, and rows and tables are locked apart."""
    yield from lend_adopted(server_databases)


def fill(database: Database) -> Database:
    """Make the four postings with their rows."""
    add_postings(database, range(1, 5))
    set_row(database, SUCCEEDED, **a_result(), enrichment_completed_at=AT, enrichment_model_version="gpt-4o-mini")
    set_row(database, FAILED, enrichment_error=QUOTA, enrichment_completed_at=AT, rol_titel="of an older result")
    set_row(database, AWAITING, enrichment_error=TIMEOUT)
    set_row(database, UNTRIED, enrichment_error="  ")
    return database


# -- what becomes of a row --------------------------------------------------------------------------------------------


def test_a_result_becomes_a_success_of_its_time_with_the_columns_as_they_were(old: Database) -> None:
    again(old)
    requested, start, success = told(old, SUCCEEDED)
    assert (requested.facts["why"], start.facts["origin"], success.type) == ("new", "imported", "EnrichmentSucceeded")
    assert requested.facts["input_hash"]
    assert {event.facts["occurred_at"] for event in told(old, SUCCEEDED)} == {iso(moment(AT))}
    assert success.facts["origin"] == "imported"
    assert (success.facts["called"], success.facts["response_model"]) == (False, "gpt-4o-mini")
    assert success.content == {"result": a_result()}
    found = status(old, stream(SUCCEEDED))
    assert (found["state"], found["attempts"], found["successes"], found["completed_at"]) == (
        "succeeded",
        1,
        1,
        moment(AT),
    )


def test_an_error_becomes_a_failure_that_is_classified_and_due_at_once(old: Database) -> None:
    again(old)
    *_, failure = told(old, FAILED)
    assert failure.type == "EnrichmentFailed"
    assert failure.content == {"message": QUOTA}
    names = ("origin", "error_type", "retryable", "counts", "fault", "wait_ms")
    assert [failure.facts[name] for name in names] == ["imported", "quota_exceeded", True, False, "setup", 0]
    found = status(old, stream(FAILED))
    assert (found["state"], found["due_at"]) == ("failed", moment(AT))


def test_an_error_with_a_code_of_the_settings_is_of_the_type_that_these_say(old: Database) -> None:
    set_row(old, AWAITING, enrichment_error="The gateway says acme_overload. Come back.")
    codes = current().model_copy(update={"error_codes": {"acme_overload": "rate_limited"}})
    import_history(old, codes, dry_run=False)
    found = [one.facts["error_type"] for one in told(old, AWAITING) if one.type == "EnrichmentFailed"]
    assert found == ["rate_limited"]
    assert classify_message("The gateway says acme_overload. Come back.").name != "rate_limited"  # the control


def test_an_error_without_a_time_of_completion_awaits_its_retry_as_it_did_before(old: Database) -> None:
    before = row_of(old, AWAITING)
    again(old)
    *_, failure, retry = told(old, AWAITING)
    assert (failure.facts["error_type"], retry.type, retry.facts["why"]) == ("timeout", "EnrichmentRequested", "retry")
    found = status(old, stream(AWAITING))
    assert (found["state"], found["awaiting"]) == ("pending", True)
    assert row_of(old, AWAITING) == before


def test_a_row_that_tells_of_no_attempt_is_left_to_sync(old: Database) -> None:
    assert again(old).untried == 1
    assert told(old, UNTRIED) == []


def test_the_report_says_what_was_found_and_a_dry_run_says_the_same_and_changes_nothing(old: Database) -> None:
    dry = again(old, dry_run=True)
    assert list(read_log(old)) == []
    found = again(old)
    assert (found.rows, found.succeeded, found.failed, found.awaiting, found.untried) == (4, 1, 2, 1, 1)
    assert [(one.error_type, one.group, one.example) for one in found.failures] == [
        ("quota_exceeded", "Quota Exceeded", QUOTA), ("timeout", "Timeout", TIMEOUT),
    ]  # fmt: skip
    assert found.events == 3 + 3 + 4
    assert found.document() | {"dry_run": True, "events": 0} == dry.document()
    assert count_history(old, current()) == 4


def test_a_dry_run_may_come_before_what_adopt_makes(empty_database: Database, bare: Path) -> None:
    empty_database.dialect.create_place()
    make_tables(empty_database, error_column=False)  # which adopt adds
    add_postings(empty_database, range(1, 3))
    set_row(empty_database, SUCCEEDED, **a_result(), enrichment_completed_at=AT)
    found = again(look_up(empty_database), dry_run=True)
    assert (found.succeeded, found.failed, found.untried, found.known) == (1, 0, 1, 0)


def test_their_table_is_neither_written_nor_does_it_differ_from_what_the_log_says(old: Database) -> None:
    refuse(old)
    before = theirs(old)
    again(old)
    assert theirs(old) == before
    assert drift_of(old) == 0


def refuse(database: Database) -> None:
    """Have every write to their table be refused."""
    refusing = "BEGIN RAISE EXCEPTION 'hands off'; END"
    if database.dialect.name == "postgresql":
        run(
            database,
            f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS '{refusing.replace(chr(39), chr(39) * 2)}'",
        )
        trigger = "BEFORE INSERT OR UPDATE OR DELETE ON llm_enrichment FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
        run(database, f"CREATE TRIGGER refuse {trigger}")
    else:
        run(
            database, "CREATE TRIGGER refuse BEFORE UPDATE ON llm_enrichment BEGIN SELECT RAISE(FAIL, 'hands off'); END"
        )


def test_tables_that_others_have_locked_are_imported_without_waiting(on_postgresql: Database) -> None:
    fill(on_postgresql)
    with sessions(on_postgresql, 1) as (other,):
        other.execute("LOCK TABLE llm_enrichment, job_postings IN EXCLUSIVE MODE")  # all is refused but to read
        assert again(on_postgresql).events == 10


# -- once -------------------------------------------------------------------------------------------------------------


def test_a_second_import_appends_nothing(old: Database) -> None:
    again(old)
    found = again(old)
    assert (found.events, found.known, found.untried) == (0, 3, 1)
    assert (found.succeeded, found.failed) == (0, 0)


def test_the_ids_of_what_is_imported_follow_from_the_posting(old: Database) -> None:
    again(old)
    told = [one.event_id for page in read_log(old) for one in page]
    run(old, "DELETE FROM {ours}enrichment_status")  # who has lost it offers all of it again
    again(old)
    assert [one.event_id for page in read_log(old) for one in page] == told


def test_an_import_that_ends_in_the_middle_is_gone_on_with(old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_rows, "PAGE", 1)
    for page in range(1, 4):
        with pytest.raises(KeyboardInterrupt):
            again(old, progress=interrupt_after(page))
    assert again(old).events == 0
    assert [len(told(old, number)) for number in range(1, 5)] == [3, 3, 4, 0]
    assert drift_of(old) == 0


def interrupt_after(pages: int) -> Callable[[int], None]:
    left = iter(range(pages, 0, -1))

    def progress(_rows: int) -> None:
        if next(left) == 1:
            raise KeyboardInterrupt

    return progress


def test_two_imports_at_once_record_each_attempt_once(old: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past_rows, "PAGE", 1)
    add_postings(old, range(5, 40))
    for number in range(5, 40):
        set_row(old, number, enrichment_error=TIMEOUT, enrichment_completed_at=AT)
    found: list[HistoryImport] = []
    both = [threading.Thread(target=lambda: found.append(again(old))) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(BOUND)
    assert [sum(one.events for one in found), sum(one.failed for one in found)] == [10 + 35 * 3, 2 + 35]
    assert sum(len(page) for page in read_log(old)) == 10 + 35 * 3


def test_what_a_worker_has_begun_is_left_alone(old: Database) -> None:
    notice(old, FAILED)
    tell(old, stream(FAILED), started())
    found = again(old)
    assert (found.known, [event.type for event in told(old, FAILED)][1:]) == (1, ["EnrichmentStarted"])


def test_what_was_decided_of_a_posting_stands(old: Database) -> None:
    notice(old, FAILED)
    tell(old, stream(FAILED), dismissed())
    assert again(old).known == 1
    assert status(old, stream(FAILED))["state"] == "dismissed"


def test_a_posting_that_was_noticed_before_is_not_requested_again(old: Database) -> None:
    notice(old, SUCCEEDED)
    assert again(old).events == 2 + 3 + 4
    assert [event.type for event in told(old, SUCCEEDED)].count("EnrichmentRequested") == 1
    assert status(old, stream(SUCCEEDED))["state"] == "succeeded"


def notice(database: Database, number: int) -> None:
    """As a sync does."""
    with database.write() as connection:
        assert request_unseen(connection, database, ["job"], {job_id(number): "h"}, "tests") == {"new": 1}


def test_what_is_noticed_afterwards_is_not_requested_again(old: Database) -> None:
    again(old)
    (requested, *_) = told(old, SUCCEEDED)
    with old.write() as connection:
        hashes = {job_id(SUCCEEDED): requested.facts["input_hash"]}
        assert request_unseen(connection, old, ["job"], hashes, "tests") == {}


def test_a_stream_that_never_said_what_it_has_seen_is_neither_new_nor_changed(old: Database) -> None:
    run(old, f"UPDATE job_postings SET title_classification = 'Other' WHERE id = '{job_id(FAILED)}'")
    again(old)
    before = told(old, FAILED)
    assert "input_hash" not in before[0].facts
    with old.write() as connection:
        assert request_unseen(connection, old, ["job"], {job_id(FAILED): "h"}, "tests") == {}
        assert request_unseen(connection, old, ["job"], {job_id(SUCCEEDED): "h"}, "tests") == {"changed": 1}  # control
    assert told(old, FAILED) == before


def test_an_import_waits_for_a_stream_before_it_makes_the_row_of_another(on_postgresql: Database) -> None:
    """As a sync does: in another order they could wait for each other."""
    old = fill(on_postgresql)
    notice(old, FAILED)
    ours = "SELECT * FROM enrichlog.enrichment_status WHERE stream_id = %s FOR UPDATE"
    with sessions(old, 1) as (other,), ThreadPoolExecutor(1) as aside:
        other.execute("SET lock_timeout = '1s'")
        other.execute(ours, (stream(FAILED),))
        importing = aside.submit(again, old)
        wait_for_a_waiter(old)
        other.execute(MAKING, (stream(SUCCEEDED),))  # nobody is about to make it
        other.rollback()
        assert importing.result(BOUND).failed == 2


MAKING = """INSERT INTO enrichlog.enrichment_status
SELECT (jsonb_populate_record(one, jsonb_build_object('stream_id', %s::text))).* FROM enrichlog.enrichment_status one"""


# -- nothing is set off -----------------------------------------------------------------------------------------------


def test_no_breaker_opens_no_limit_is_used_and_no_money_is_spent(old: Database) -> None:
    limits.set_amounts(old, {MONEY: 1_000_000})
    with old.read() as connection:
        before = limits.load(connection)
    again(old)
    with old.read() as connection:
        assert limits.load(connection) == before
    assert run(old, "SELECT * FROM {ours}breaker") == []
    assert status(old, stream(SUCCEEDED))["unpriced_calls"] == 0


def test_attempts_are_counted_in_the_hour_in_which_they_happened(old: Database) -> None:
    again(old)
    catch_up(old, stats_hourly)
    table = enrichment_stats_hourly.c
    rows = old.page(select(table.hour, table.request_model, table.error_type, table.ends, table.calls))
    hour = moment("2024-01-01T12:00:00Z")
    assert (hour, "gpt-4o-mini", "", 1, 0) in rows
    assert (hour, "", "quota_exceeded", 1, 0) in rows


def test_a_posting_that_the_provider_failed_long_ago_is_put_off_as_it_fails_again(old: Database) -> None:
    set_row(old, FAILED, enrichment_error="Error code: 503 - overloaded", enrichment_completed_at=AT)
    again(old)
    assert status(old, stream(FAILED))["error_type"] == "server_error"
    bounds = {"max_deferrals": 20, "max_deferred_seconds": 14 * 24 * 60 * 60}
    failure = failed(attempt=2, error_type="server_error", counts=False, **bounds)
    appended(tell(old, stream(FAILED), started(attempt=2), failure))
    assert status(old, stream(FAILED))["due_at"] > moment(AT)


# -- what tables hold -------------------------------------------------------------------------------------------------

LONG = "Error code: 500 - " + "x" * 30_000
ROWS: dict[str, dict[str, Any]] = {
    "a long message": {"enrichment_error": LONG},
    "a long message of large characters": {"enrichment_error": "\N{PARTY POPPER}" * 3_000},
    "a message with blanks around": {"enrichment_error": "\n  Request timeout after 300 seconds  \n"},
    "a message with a key in it": {
        "enrichment_error": "Incorrect API key provided: sk-abcdefghijklmnopqrstuvwxyz123456."
    },
    "a long message that begins with a key": {"enrichment_error": "sk-abcdefghijklmnopqrstuvwxyz123456 " + "x" * 3_000},
    "a time without fractions": {"enrichment_error": TIMEOUT, "enrichment_completed_at": "2024-01-01 12:00:00+00:00"},
    "a time of another zone": {"enrichment_error": TIMEOUT, "enrichment_completed_at": "2024-01-01T12:00:00.5+05:30"},
    "texts with blanks, quotes and large characters": a_result(
        rol_titel=" two  words ",
        sector='it\'s "quoted" \\ {braces}, NULL',
        locatie_land="\N{PARTY POPPER}",
        werkervaring="",
    ),
    "lists that are empty or hold nothing": a_result(
        rolniveau=[], seniority=None, methodieken=["", "NULL", "a,b", "{}"]
    ),
    "numbers": a_result(salaris_minimum=0, salaris_maximum=-2_147_483_648, labels={"topics": [], "score": 1e-07}),
    "a result with a key in it": a_result(
        sector="sk-abcdefghijklmnopqrstuvwxyz123456", rolniveau=["https://me:word@host"]
    ),
    "nothing but a time": {},
    "an error beside an old result": a_result() | {"enrichment_error": TIMEOUT},
    "objects that hold more than the model": a_result(
        labels={"topics": ["é"], "score": 0.1, "more": {"deep": [None, 1.5]}}
    ),
}


def test_whatever_a_table_holds_is_what_the_log_says_afterwards(adopted: Database) -> None:
    add_postings(adopted, range(len(ROWS)))
    for number, values in enumerate(ROWS.values()):
        set_row(adopted, number, **{"enrichment_completed_at": AT} | values)
    before = theirs(adopted)
    found = again(adopted)
    assert (found.succeeded + found.failed, found.skipped) == (len(ROWS), 0)
    assert {name: drift(adopted, number) for number, name in enumerate(ROWS) if drift(adopted, number)} == {}
    assert drift_of(adopted) == 0
    assert theirs(adopted) == before


def drift(database: Database, number: int) -> dict[str, Any]:
    """The columns of a row that are not what the log says."""
    found = verify(database, streams=[stream(number)])
    return {name: pair for one in found.examples for name, pair in one.columns.items()}


TYPES = {
    "numeric": ("numeric", "12345678901234567890.123456789"),
    "numeric with places": ("numeric(10, 2)", "12.50"),
    "bigint": ("bigint", "9223372036854775807"),
    "double precision": ("double precision", "'NaN'"),
    "jsonb with a large number": ("jsonb", '\'{"n": 123456789012345678901234567890, "f": 1.10}\''),
    "jsonb null": ("jsonb", "'null'"),
    "json with blanks": ("json", '\'{"b" : 1,  "a" : [ ] }\''),
    "an enum": ("mood", "'so so'"),
    "a list of enums": ("mood[]", "'{happy,so so}'"),
    "a list with nulls": ("text[]", '\'{NULL,"NULL","a,b","\\""}\''),
    "a list of lists": ("text[]", "'{{a,b},{c,d}}'"),
    "blanks at the end": ("char(10)", "'abc'"),
    "a date": ("date", "'2024-02-29'"),
    "a span": ("interval", "'1 day 02:00'"),
    "a time with a zone": ("timestamptz", "'2024-01-01 12:00:00.123+05'"),
    "bytes": ("bytea", "'\\x00ff'"),
    "a network": ("inet", "'10.0.0.1'"),
    "a range": ("int4range", "'[1,5)'"),
}


def test_whatever_types_columns_have_is_what_the_log_says_afterwards(on_postgresql: Database) -> None:
    columns = {f"c{place}": told for place, told in enumerate(TYPES.values())}
    run(on_postgresql, "CREATE TYPE mood AS ENUM ('happy', 'so so')")
    defined = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    run(on_postgresql, f"CREATE TABLE typed (id uuid PRIMARY KEY, done timestamp, {defined})")
    values = ", ".join(value for _, value in columns.values())
    run(on_postgresql, f"INSERT INTO typed VALUES ('{job_id(1)}', '2024-01-01 12:00:00.000001', {values})")
    mapping = {name: name for name in columns} | {"done": "@completed_at"}
    look_up(on_postgresql, table="typed", id_column="id", columns=mapping)
    assert again(on_postgresql).succeeded == 1
    names = dict(zip(columns, TYPES, strict=True))
    assert {names.get(name, name): pair for name, pair in drift(on_postgresql, 1).items()} == {}


def test_what_a_trigger_makes_of_later_writes_is_no_difference(on_postgresql: Database) -> None:
    fill(on_postgresql)
    again(on_postgresql)
    run(on_postgresql, "CREATE FUNCTION loud() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.sector = upper(NEW.sector); RETURN NEW; END'")  # fmt: skip
    run(on_postgresql, "CREATE TRIGGER loud BEFORE UPDATE ON llm_enrichment FOR EACH ROW EXECUTE FUNCTION loud()")
    set_row(on_postgresql, SUCCEEDED, note="touched")
    assert row_of(on_postgresql, SUCCEEDED)["sector"] == "SECTOR OF IT"  # the control
    assert drift_of(on_postgresql) == 0


def test_a_row_of_a_posting_that_the_source_does_not_bring_is_imported_and_said_so(old: Database) -> None:
    run(old, f"UPDATE job_postings SET title_classification = 'Other' WHERE id = '{job_id(FAILED)}'")
    assert again(old).without_posting == 1
    assert [event.facts.get("input_hash") for event in told(old, FAILED)] == [None, None, None]
    assert drift_of(old) == 0


def test_fields_within_fields_are_put_together_and_constants_are_no_part_of_a_result(old: Database) -> None:
    columns = {
        "sector": "deep.in.it", "locatie_land": "deep.other", "rol_titel": "title", "note": {"constant": "ours"},
        "enrichment_completed_at": "@completed_at",
    }  # fmt: skip
    look_up(old, columns=columns)
    set_row(old, SUCCEEDED, note="theirs")
    again(old)
    result = {"title": "rol_titel of it", "deep": {"in": {"it": "sector of it"}, "other": "locatie_land of it"}}
    assert told(old, SUCCEEDED)[2].content == {"result": result}
    assert drift(old, SUCCEEDED) == {}


def test_where_columns_of_one_field_differ_the_first_is_imported_and_that_is_told(
    old: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    look_up(old, columns={**adopted_columns(), "sector": "rol_titel", "rolniveau": "labels.topics"})
    part, whole = {"topics": ["one"], "score": 0.5}, {"enrichment_completed_at": AT, "enrichment_error": None}
    set_row(old, SUCCEEDED, sector="Other", rol_titel="Title", rolniveau=["lakes", "é"])
    set_row(old, FAILED, **whole, rol_titel="Title", sector="Title", labels=part, rolniveau=["one"])
    set_row(old, AWAITING, **whole, rol_titel=None, sector=None, labels={}, rolniveau=None)
    set_row(old, UNTRIED, **whole, labels={"score": 0.5}, rolniveau=["one"])
    found = again(old)
    assert (found.succeeded, found.at_odds, found.document()["at_odds"]) == (4, 2, 2)
    assert (drift(old, FAILED), drift(old, AWAITING)) == ({}, {})
    assert [drift(old, UNTRIED)["labels"][1], drift(old, SUCCEEDED)] == [part, {"sector": ("Other", "Title")}]
    history_import_screen.show(found)
    assert "2 differ in columns of one field" in capsys.readouterr().out


def test_where_no_column_tells_of_completion_a_result_is_one_that_has_more_than_defaults(old: Database) -> None:
    columns = {name: name for name in a_result()} | {"enrichment_error": "@error"}
    look_up(old, columns=columns)
    found = again(old)
    assert (found.succeeded, found.failed, found.awaiting, found.untried) == (1, 2, 0, 1)


def test_another_time_of_a_row_stands_in_for_that_of_completion(old: Database) -> None:
    run(old, "ALTER TABLE llm_enrichment ADD COLUMN updated_at text")
    look_up(old)
    set_row(old, AWAITING, updated_at="2023-05-06 07:08:09")
    again(old)
    assert {event.facts["occurred_at"] for event in told(old, AWAITING)} == {"2023-05-06T07:08:09.000000Z"}
    assert drift_of(old) == 0


UNREADABLE: dict[str, dict[str, Any]] = {
    "sqlite": {"rolniveau": "one, two", "enrichment_completed_at": AT},
    "postgresql": {"enrichment_completed_at": "infinity"},
}


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_imported(old: Database) -> None:
    set_row(old, UNTRIED, **UNREADABLE[old.dialect.name])
    found = again(old)
    assert (found.succeeded, found.failed, found.skipped) == (1, 2, 1)
    (one,) = found.unreadable
    assert one.job_id == job_id(UNTRIED)
    assert ("rolniveau: it holds no JSON" in one.reason) or ("'infinity', which is no time" in one.reason)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("note", "9e999", "note: it holds a number without end, which is no value of a result"),
        ("enrichment_error", "x'ff'", "the error is bytes, which are no text"),
        ("enrichment_model_version", "x'ff'", "the version of the model is bytes, which are no text"),
    ],
)
def test_what_only_a_file_holds_and_no_log_is_named_and_left_out(
    sqlite: Database, bare: Path, column: str, value: str, reason: str
) -> None:
    old = fill(adopt(sqlite.url))
    run(old, "ALTER TABLE llm_enrichment DROP COLUMN note")
    run(old, "ALTER TABLE llm_enrichment ADD COLUMN note real")
    look_up(old, columns={**adopted_columns(), "note": "grade"})
    run(old, f"UPDATE llm_enrichment SET {column} = {value} WHERE job_posting_id = '{job_id(SUCCEEDED)}'")
    found = again(old)
    assert (found.succeeded, found.failed, found.skipped) == (0, 2, 1)
    assert [(one.job_id, one.reason) for one in found.unreadable] == [(job_id(SUCCEEDED), reason)]
    assert verify(old).counts["edited"] == 0


BEYOND = {
    "a number": ("labels", "labels", "jsonb", '{"topics": [1e400]}'),
    "a number by itself": ("note", "uren_per_week", "numeric", "1e400"),
    "lists within lists": ("labels", "labels", "jsonb", "[" * 3_000 + "]" * 3_000),
}


@pytest.mark.parametrize("what", BEYOND)
def test_a_value_that_nobody_can_read_ends_neither_an_import_nor_a_comparison(
    on_postgresql: Database, what: str
) -> None:
    column, field, kind, value = BEYOND[what]
    fill(on_postgresql)
    run(on_postgresql, f"ALTER TABLE llm_enrichment ALTER {column} DROP DEFAULT, ALTER {column} TYPE {kind} USING NULL")
    mapping = {"sector": "sector", "enrichment_error": "@error", "enrichment_completed_at": "@completed_at"}
    look_up(on_postgresql, columns=mapping | {column: field})
    found = again(on_postgresql, dry_run=True)
    assert (found.succeeded, found.failed, found.skipped) == (1, 2, 0)  # the control
    change = f"UPDATE llm_enrichment SET {column} = '{value}' WHERE job_posting_id = "
    run(on_postgresql, f"{change}'{job_id(SUCCEEDED)}'")
    found = again(on_postgresql)
    assert (found.succeeded, found.failed, found.skipped) == (0, 2, 1)
    (one,) = found.unreadable
    assert one.job_id == job_id(SUCCEEDED)
    assert re.match(r"\w+: it (holds a number that is too large|cannot)", one.reason)
    run(on_postgresql, f"{change}'{job_id(FAILED)}'")
    appended(tell(on_postgresql, stream(FAILED), started(attempt=2), succeeded(attempt=2, result=a_result())))
    run(on_postgresql, f"{change}'{job_id(FAILED)}'")
    assert verify(on_postgresql).counts == {"missing": 0, "stale": 0, "edited": 1, "extra": 1}
    assert rebuild(on_postgresql, overwrites=True).written == 1
    assert verify(on_postgresql).counts["edited"] == 0


def test_large_numbers_beside_one_that_is_too_large_are_read_as_ever() -> None:
    held = '{"whole": 18446744073709551615, "large": 18446744073709551616, "text": "1e400", "small": -1.5, "no": %s}'
    usual = read_row(held % 0, [])
    assert (usual["whole"], usual["large"]) == (2**64 - 1, 1.8446744073709552e19)
    assert read_row(held % "1e400", []) == usual | {"no": TOO_LARGE}
    assert read_row(held % f"-{'9' * 5_000}", []) == usual | {"no": TOO_LARGE}
    assert read_row(held % r'"\ud800"', []) == usual | {"no": REPLACEMENT}


def test_a_result_that_the_log_cannot_hold_is_named_and_the_others_are_imported(old: Database) -> None:
    deep = '{"topics":' + "[" * 300 + "]" * 300 + "}"
    run(old, f"UPDATE llm_enrichment SET labels = '{deep}' WHERE job_posting_id = '{job_id(SUCCEEDED)}'")
    found = again(old)
    assert (found.succeeded, found.failed, found.events) == (0, 2, 7)
    (one,) = found.unreadable
    assert one.job_id == job_id(SUCCEEDED)
    assert "depth exceeded" in one.reason
    assert told(old, SUCCEEDED) == []


def test_a_database_with_tables_of_ours_has_no_history_to_import(database: Database) -> None:
    with pytest.raises(NoHistory, match="enrichlog adopt"):
        import_history(database, Settings(), dry_run=True)


# -- what people see ---------------------------------------------------------------------------------------------------


def test_an_import_is_told_with_the_errors_by_type(old: Database, capsys: pytest.CaptureFixture[str]) -> None:
    set_row(old, UNTRIED, **UNREADABLE[old.dialect.name])
    history_import_screen.show(again(old, dry_run=True))
    history_import_screen.show(again(old))
    history_import_screen.show(again(old))
    dry, done, nothing = capsys.readouterr().out.split("llm_enrichment: 4 rows\n")[1:]
    assert dry.startswith("1 result and 2 failures would be imported.\n")
    assert done.startswith("1 result and 2 failures imported as 10 events.\n")
    assert nothing.startswith("There is nothing to import.\n")
    assert "quota_exceeded  Quota Exceeded         1  yes        Error code: 429" in done
    assert (
        f"1 left out, and so never tried for all the log knows, because they cannot be read:\n  {job_id(UNTRIED)}: "
        in done
    )
    assert "2 may be tried again" in done
    assert "See them with: enrichlog errors. See how many are due, with those that await their retry: " in done
    assert "3 left as they are" in nothing


def test_failures_that_all_await_their_retry_are_said_to_be_due_and_not_among_the_errors(
    old: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    set_row(old, FAILED, enrichment_completed_at=None)
    history_import_screen.show(again(old))
    told = capsys.readouterr().out
    assert "1 result and 2 failures imported" in told
    assert reports.errors(old, "job") == []
    assert "enrichlog errors" not in told
    assert "those that await their retry: enrichlog enrich --dry-run. Prove the import with: enrichlog verify" in told


def test_history_and_why_say_what_was_imported_and_when_it_happened(
    old: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    again(old)
    history_screen.show(reports.history(old, "job", job_id(SUCCEEDED)))
    history_screen.show(reports.history(old, "job", job_id(FAILED)))
    shown = capsys.readouterr().out
    assert "EnrichmentStarted     attempt 1, imported by " in shown
    assert "EnrichmentSucceeded   attempt 1 (imported, of 2024-01-01 12:00:00 UTC, gpt-4o-mini)" in shown
    assert "exceeded your current quota'}} (imported, of 2024-01-01 12:00:00 UTC)" in shown
    why_screen.show(why(old, "job", job_id(FAILED)))
    shown = capsys.readouterr().out
    assert "3. EnrichmentFailed, imported" in shown
    assert "of an older result (no event says so)" in shown
    assert "edited by hand" not in shown
