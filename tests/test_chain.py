"""The chain: whatever is changed behind the log's back is found, with its position."""

import hashlib
import pickle
import uuid
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import delete

from eventlog import faults, integrity
from eventlog.chain import digest_content
from eventlog.database import Database
from eventlog.errors import LogUnsound, UnknownEventType
from eventlog.faults import UNREADABLE, faults_in, unsound
from eventlog.integrity import Anchor, compare, require_sound, verify_log
from eventlog.log import LogAlone
from eventlog.schema import events
from tests.builders import drop_triggers, erased, failed, offer, proposal, requested, run, started, succeeded, tell
from tests.forging import change, documented_hash, erase_content, rechain, rows
from tests.test_events import FromTheFuture

BOB, EVE = "job-bob", "job-eve"


@pytest.fixture
def told(database: Database) -> Database:
    """Eight events of two streams: 1 to 4 of Bob's posting, 5 to 8 of Eve's; 4 and 7 have content."""
    tell(database, BOB, requested(), started(), requested("changed"), failed())
    tell(database, EVE, requested(), started(), succeeded(), requested("force"))
    return database


def test_the_chain_is_as_documented(told: Database) -> None:
    previous = bytes(32)
    for row in rows(told):
        previous = documented_hash(previous, row)
        assert row["hash"] == previous
        assert row["part"] == hashlib.sha256(row["stream_id"].encode()).digest()[0] % 64
        assert (row["salt"] is None) == (row["content"] is None)
    report = verify_log(told)
    assert report == (8, Anchor(8, previous.hex()), [], 0)


def test_an_empty_log_verifies(database: Database) -> None:
    assert verify_log(database) == (0, Anchor(0, bytes(32).hex()), [], 0)


def test_equal_contents_have_different_digests(database: Database) -> None:
    for stream in (BOB, EVE):
        tell(database, stream, requested(), started(), failed(message="the same"))
    digests = {row["content_digest"] for row in rows(database) if row["type"] == "EnrichmentFailed"}
    assert len(digests) == 2


CHANGES: dict[str, Any] = {
    "event_id": lambda row: str(uuid.uuid4()),
    "stream_id": lambda row: "job-mallory",
    "version": lambda row: row["version"] + 100,
    "part": lambda row: (row["part"] + 1) % 64,
    "type": lambda row: "EnrichmentLateResult",
    "recorded_at": lambda row: row["recorded_at"] + timedelta(microseconds=1),
    "facts": lambda row: row["facts"].replace('"attempt":1', '"attempt":2'),
    "content": lambda row: row["content"].replace("e", "3"),
    "salt": lambda row: bytes(16),
    "content_digest": lambda row: digest_content(row["salt"], "{}"),
    "hash": lambda row: bytes(32),
}


def test_every_column_but_the_position_is_changed_below() -> None:
    assert {"position", *CHANGES} == set(events.columns.keys())


def test_a_change_of_one_column_is_found_at_its_event_and_once(told: Database) -> None:
    for position in (4, 7):
        row, found = rows(told)[position - 1], dict[str, list[int]]()
        for column, changing in CHANGES.items():
            assert changing(row) != row[column]
            change(told, position, **{column: changing(row)})
            found[column] = [position for position, _ in verify_log(told).faults]
            change(told, position, **{column: row[column]})
        assert found.pop("hash") == [position, position + 1]  # the next one follows from another
        assert found == {column: [position] for column in CHANGES if column != "hash"}
    assert verify_log(told).faults == []


@pytest.mark.parametrize("column", ["content", "salt"])
def test_content_or_salt_that_is_taken_away_alone_is_found(told: Database, column: str) -> None:
    change(told, 4, **{column: None})
    assert [position for position, _ in verify_log(told).faults] == [4]


@pytest.mark.parametrize("left", [None, '"}'])
def test_content_that_is_moved_into_its_salt_is_found(told: Database, left: str | None) -> None:
    row = rows(told)[3]
    moved = row["content"].removesuffix(left or "").encode()
    change(told, 4, content=left, salt=row["salt"] + moved)
    after = rows(told)[3]
    assert digest_content(after["salt"], after["content"]) == row["content_digest"]  # the digest alone: the control
    assert verify_log(told).faults == [(4, "its content is not what was appended")]


def test_content_that_is_given_to_an_event_without_is_found(told: Database) -> None:
    change(told, 2, content='{"reason":"forged"}')
    assert [position for position, _ in verify_log(told).faults] == [2]


def test_content_that_is_given_back_to_an_erased_event_is_found(told: Database) -> None:
    tell(told, BOB, erased())
    erase_content(told, BOB)
    change(told, 4, content='{"message":"forged"}')
    assert [position for position, _ in verify_log(told).faults] == [4]


@pytest.mark.parametrize("value", ["'text'", "x'ff'", "1.5", "CAST(x'ff' AS TEXT)"])
def test_a_value_of_another_type_is_a_fault_and_not_a_crash(sqlite: Database, value: str) -> None:
    tell(sqlite, BOB, requested(), started(), failed())
    anchor, found = verify_log(sqlite).anchor, dict[str, int]()
    drop_triggers(sqlite)
    run(sqlite, "CREATE TABLE kept AS SELECT * FROM events")
    run(sqlite, "PRAGMA ignore_check_constraints = 1")
    for column in CHANGES:
        run(sqlite, f"UPDATE events SET {column} = {value} WHERE position = 3")
        found[column] = verify_log(sqlite).faults[0][0]
        assert (compare(sqlite, anchor) is None) == (column != "hash")
        run(sqlite, f"UPDATE events SET {column} = (SELECT {column} FROM kept WHERE position = 3) WHERE position = 3")
    assert verify_log(sqlite).faults == []
    assert found == dict.fromkeys(CHANGES, 3)


def test_a_time_that_the_driver_cannot_read_is_a_fault_and_not_a_crash(postgresql: Database) -> None:
    tell(postgresql, BOB, requested(), started())
    drop_triggers(postgresql)
    run(postgresql, "UPDATE {ours}events SET recorded_at = 'infinity' WHERE position = 1")
    assert verify_log(postgresql).faults == [(1, UNREADABLE)]


def test_facts_that_are_chained_and_yet_no_event_are_found(told: Database) -> None:
    rechain(told, [*rows(told)[3:7], {**rows(told)[7], "facts": "no JSON"}])
    ((position, reason),) = verify_log(told).faults
    assert (position, "it is no EnrichmentRequested: " in reason) == (8, True)


@pytest.mark.parametrize("position", [0, -1, -(2**63)])
def test_an_event_below_the_first_position_is_found(told: Database, position: int) -> None:
    drop_triggers(told)
    drop_check = "ALTER TABLE {ours}events DROP CONSTRAINT events_numbered_from_one"
    run(told, drop_check if told.dialect.name == "postgresql" else "PRAGMA ignore_check_constraints = 1")
    change(told, 8, position=position)
    assert verify_log(told).faults == [(position, "positions begin at 1")]


def test_a_missing_event_is_found_where_the_log_goes_on(told: Database) -> None:
    drop_triggers(told)
    with told.write() as connection:
        connection.execute(delete(events).where(events.c.position.in_([3, 4])))
    faults = verify_log(told).faults
    assert (5, "positions 3 to 4 are missing") in faults


def test_an_event_moved_to_another_position_is_found(told: Database) -> None:
    change(told, 4, position=104)
    assert [position for position, _ in verify_log(told).faults][:1] == [5]


def test_two_swapped_events_are_found(told: Database) -> None:
    change(told, 4, position=99)
    change(told, 7, position=4)
    change(told, 99, position=7)
    assert [position for position, _ in verify_log(told).faults] == [4, 5, 7, 8]


def test_a_version_that_is_there_twice_is_found(postgresql: Database) -> None:
    tell(postgresql, EVE, requested(), started(), succeeded(), requested("force"))
    run_with_all_rights(postgresql, "ALTER TABLE {ours}events DROP CONSTRAINT events_stream_version")
    whole = rows(postgresql)
    rechain(postgresql, [*whole[:3], {**whole[3], "version": 3}])
    assert verify_log(postgresql).faults == [(4, f"version 3 of {EVE} stands where 4 belongs")]


def test_a_version_that_is_missing_from_its_stream_is_found(told: Database) -> None:
    one, *others = rows(told)[4:]
    rechain(told, [one, *({**row, "version": row["version"] + 1} for row in others)])
    assert verify_log(told).faults == [(6, f"version 3 of {EVE} stands where 2 belongs")]


def test_a_log_that_was_rewritten_with_fitting_hashes_is_found_by_its_anchor(told: Database) -> None:
    anchor = verify_log(told).anchor
    assert compare(told, anchor) is None
    forged = [{**row, "facts": row["facts"].replace('"counts":true', '"counts":false')} for row in rows(told)[3:]]
    rechain(told, forged)
    assert verify_log(told).faults == []  # the chain alone cannot tell: this is what anchors are for
    assert compare(told, anchor) == (8, "its hash is not that of the anchor")


def test_events_that_are_missing_at_the_end_are_found_by_an_anchor(told: Database) -> None:
    anchor = verify_log(told).anchor
    drop_triggers(told)
    with told.write() as connection:
        connection.execute(delete(events).where(events.c.position == 8))
    assert verify_log(told).faults == []
    assert compare(told, anchor) == (8, "it is missing, and an anchor says that it was there")


def test_an_anchor_stays_true_while_the_log_grows(told: Database) -> None:
    anchor = verify_log(told).anchor
    tell(told, EVE, started(2))
    assert compare(told, anchor) is None


def test_the_anchor_of_an_empty_log_stays_true_and_proves_nothing(database: Database) -> None:
    anchor = verify_log(database).anchor
    assert compare(database, anchor) is None
    tell(database, EVE, requested())
    assert compare(database, anchor) is None
    assert compare(database, Anchor(0, "ff" * 32)) == (0, "its hash is not that of the anchor")


def test_erased_content_verifies_because_its_digest_stays(told: Database) -> None:
    tell(told, BOB, erased())
    erase_content(told, BOB)
    assert rows(told)[3]["content"] is None
    assert verify_log(told).faults == []


@pytest.mark.parametrize("erased_first", [False, True])
def test_content_that_is_gone_without_a_later_erasure_is_found(told: Database, erased_first: bool) -> None:
    if erased_first:
        tell(told, BOB, erased(), requested("changed"), started(2), failed(2))
    last = max(row["position"] for row in rows(told) if row["type"] == "EnrichmentFailed")
    change(told, last, content=None, salt=None)
    assert verify_log(told).faults == [(last, "its content is gone and was never erased")]


def test_an_erasure_of_one_stream_does_not_explain_what_is_gone_from_another(told: Database) -> None:
    tell(told, EVE, erased())
    change(told, 4, content=None, salt=None)
    assert [position for position, _ in verify_log(told).faults] == [4]


def test_an_event_that_this_version_cannot_read_is_found(told: Database) -> None:
    offer(told, proposal("job-new", FromTheFuture()), inline=LogAlone())
    ((position, reason),) = verify_log(told).faults
    assert (position, "FromTheFuture" in reason) == (9, True)
    with pytest.raises(UnknownEventType, match=r"FromTheFuture version 1 at position 9. Upgrade enrichlog."):
        require_sound(told)  # it is not said to have been tampered with
    assert str(unsound(pickle.loads(pickle.dumps((position, reason))))) == reason


def test_a_log_is_verified_page_by_page(told: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PAGE", 3)
    monkeypatch.setattr(integrity, "PAGE", 1)
    assert verify_log(told).events == 8
    change(told, 6, part=63 - rows(told)[5]["part"])
    assert [position for position, _ in verify_log(told).faults] == [6]


def test_ranges_side_by_side_find_what_the_whole_log_has(told: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "PAGE", 2)
    change(told, 3, hash=bytes(32))
    change(told, 6, part=63 - rows(told)[5]["part"])
    drop_triggers(told)
    with told.write() as connection:
        connection.execute(delete(events).where(events.c.position == 4))
    whole = list(faults_in(told, 0, 8))
    assert [position for position, _ in whole] == [3, 5, 6]
    for middle in range(9):
        assert [*faults_in(told, 0, middle), *faults_in(told, middle, 8)] == whole


def test_a_range_reads_no_event_outside_of_it_and_tells_its_progress(told: Database) -> None:
    change(told, 2, facts="{}")
    change(told, 7, facts="{}")
    read = list[int]()
    assert list(faults_in(told, 2, 6, read.append)) == []
    assert read == [4]
    assert verify_log(told, read.append).events == 8
    assert read == [4, 8]


def test_faults_beyond_a_thousand_are_counted(told: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(integrity, "MOST_TOLD", 3)
    run_with_all_rights(told, "UPDATE {ours}events SET part = 63 - part")
    report = verify_log(told)
    assert ([position for position, _ in report.faults], report.more) == ([1, 2, 3], 5)


def test_whoever_needs_a_sound_log_is_stopped_at_its_first_fault(
    told: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "PAGE", 2)
    assert require_sound(told) == verify_log(told).anchor
    change(told, 3, facts="{}")
    change(told, 7, facts="{}")
    read = list[int]()
    with pytest.raises(LogUnsound, match=r"at position 3: its hash does not follow .* See all .*: enrichlog verify"):
        require_sound(told, read.append)
    assert read == [2, 2]  # and no further


def run_with_all_rights(database: Database, sql: str) -> None:
    drop_triggers(database)
    run(database, sql)


def test_a_hash_that_became_a_text_is_told_once(sqlite: Database) -> None:
    tell(sqlite, BOB, requested(), started(), failed())
    drop_triggers(sqlite)
    run(sqlite, "UPDATE events SET hash = CAST(hash AS TEXT) WHERE position = 2")
    assert verify_log(sqlite).faults == [(2, UNREADABLE)]
