"""A log whose events were all written by an older version is read through the upcasters, by whoever reads it."""

from collections.abc import Collection
from hashlib import sha256
from typing import Any

import orjson
import pytest

from enrichlog.orphans import close_overdue
from eventlog import canonical
from eventlog.database import Database
from eventlog.errors import Unfoldable
from eventlog.events import EVENT_TYPES, BreakerSet, Event, Payload
from eventlog.integrity import verify_log
from eventlog.log import read_log
from eventlog.upcasting import UPCASTERS
from projections.open_attempts import find_abandoned
from tests.builders import StoppedClock, appended, failed, offer, proposal, requested, run, started, succeeded, tell
from tests.command_line import Command
from tests.drift import drift_of, rebuild
from tests.forging import documented_digest, rechain, rows
from tests.golden_texts import GOLDEN
from tests.service import import_postings, posting

OLD, LOST = "was_", "00000000-0000-4000-8000-000000000001"
PLACE: dict[str, Any] = {"endpoint": "https://api.openai.com/v1", "credential": "abcd", "request_model": "model-1"}
CALL = {**PLACE, "http_status": 500, "input_tokens": 900, "output_tokens": 90, "cost_microdollars": 243}
REFUSAL = {**CALL, "error_type": "refusal", "retryable": False, "fault": "posting", "error_code": "refusal"}
READERS = (
    ["history", "1"], ["history", "4"], ["errors"], ["failed"], ["status"], ["breaker", "list"],
    ["batch", "list"], ["batch", "show", "b"], ["retry", "--dry-run"], ["retry", "--what-if", "--max-attempts", "1"],
    ["reclassify", "--dry-run"], ["enrich", "--dry-run", "--force", "--all"],
)  # fmt: skip

WRITTEN = {
    "BatchCancelled.1": "60c56bd80a20b690",
    "BreakerSet.1": "a369af67cd1ddf65",
    "ContentErased.1": "988cb5d202202b60",
    "EnrichmentDismissed.1": "159efbfe25d2465d",
    "EnrichmentFailed.1": "87e6da2fd2f7b079",
    "EnrichmentLateResult.1": "9dcab7064b988182",
    "EnrichmentRequested.1": "de80c91cb9d5726b",
    "EnrichmentStarted.1": "b49d599d2b3e6f03",
    "EnrichmentSucceeded.1": "79a1909574c37d78",
    "FailureReclassified.1": "da46b23ab49ee960",
}
"""The beginnings of the SHA-256 of all golden texts."""


def age(database: Database) -> None:
    """Rewrite the log as an older version might have: every field had another name in it."""

    def renamed(text: str | None) -> str | None:
        values = None if text is None else orjson.loads(text)
        kept = {"schema_version"}
        return values and canonical.text({name if name in kept else OLD + name: one for name, one in values.items()})

    aged = [{**row, "facts": renamed(row["facts"]), "content": renamed(row["content"])} for row in rows(database)]
    rechain(database, [row | {"content_digest": documented_digest(row)} for row in aged])


def lift(payload: Payload) -> Payload:
    """What every type needs to be read in its second version."""
    facts, content = payload
    lifted = {name.removeprefix(OLD): value for name, value in facts.items()}
    return Payload(lifted, content and {name.removeprefix(OLD): value for name, value in content.items()})


def raise_versions(patch: pytest.MonkeyPatch) -> None:
    """Every event type is in its second version from now on."""
    for name, kind in EVENT_TYPES.items():
        patch.setattr(kind, "schema_version", 2)
        patch.setitem(UPCASTERS, (name, 1), lift)


@pytest.fixture
def lived(enrichlog: Command, database: Database) -> Command:
    """A result, a refusal, failures, one of them retried by a batch, an attempt in flight, a breaker opened by hand."""
    import_postings(database, *(posting(str(number)) for number in range(1, 6)))
    for number, last in enumerate((succeeded(**CALL), failed(**REFUSAL), *[failed(**CALL)] * 2), 1):
        tell(database, f"job-{number}", started(**PLACE), last)
    tell(database, "job-4", requested("retry", batch="b", reason="mended"), started(2, **PLACE), succeeded(2, **CALL))
    tell(database, "job-5", started(lease_seconds=1, **PLACE))
    held = BreakerSet(**PLACE, state="open", actor="anna", reason="maintenance")
    offer(database, proposal("$breaker-1", held))
    return enrichlog


def told(user: Command) -> list[Any]:
    """What the commands say, whatever the version that the events are in by now."""
    said = [user(*words, "--json") for words in READERS]
    assert {one.code for one in said} <= {0, 3}
    return [orjson.loads(one.out.replace('"schema_version": 1', '"schema_version": 2')) for one in said]


def test_every_command_tells_the_same_of_a_log_that_was_written_in_an_older_version(
    lived: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, count = told(lived), len(rows(database))
    age(database)
    assert len(verify_log(database).faults) == count  # nobody can read it as it is: the control
    raise_versions(monkeypatch)
    assert told(lived) == before
    assert verify_log(database).faults == []
    assert drift_of(database) == 0


def test_what_is_appended_now_goes_on_from_what_was_written_then(
    timed: Database, clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell(timed, "job-1", requested(batch="b"), started(), failed())
    tell(timed, "job-2", requested(), started(attempt_id=LOST))
    age(timed)
    raise_versions(monkeypatch)
    run(timed, "UPDATE {ours}enrichment_status SET projection_error = 'no' WHERE job_id = '1'")  # then all is folded
    appended(tell(timed, "job-1", started(2), succeeded(2)))
    assert [orjson.loads(row["facts"])["schema_version"] for row in rows(timed)] == [1, 1, 1, 1, 1, 2, 2]
    assert verify_log(timed).faults == []
    assert {event.facts["schema_version"] for page in read_log(timed) for event in page} == {2}
    assert drift_of(timed) == 0
    run(timed, "DELETE FROM llm_enrichment")
    assert rebuild(timed).written == 1
    clock.advance(seconds=330)
    assert [one.stream_id for one in find_abandoned(timed).examples] == ["job-2"]
    assert close_overdue(timed, "job") == 1


def test_an_upcaster_that_cannot_take_an_event_stops_the_reading_with_its_position(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lift(payload: Payload) -> Payload:
        return payload._replace(facts=payload.facts | {"who": payload.facts["nobody"]})

    tell(database, "job-1", requested())
    monkeypatch.setattr(EVENT_TYPES["EnrichmentRequested"], "schema_version", 2)
    monkeypatch.setitem(UPCASTERS, ("EnrichmentRequested", 1), lift)
    with pytest.raises(Unfoldable, match="EnrichmentRequested at position 1: it has no nobody"):
        list(read_log(database))
    assert verify_log(database).faults == [(1, "it is no EnrichmentRequested: it has no nobody")]


def missing(types: dict[str, type[Event]], upcasters: Collection[tuple[str, int]], golden: Collection[str]) -> set[str]:
    """What has to be there for every version that was ever written, and is not."""
    versions = {(name, number) for name, kind in types.items() for number in range(1, kind.schema_version + 1)}
    unread = {f"{name} {n}" for name, n in versions if n < types[name].schema_version and (name, n) not in upcasters}
    return unread | {f"{name}.{n}.json" for name, n in versions} - set(golden)


def test_no_version_that_was_ever_written_lacks_its_upcaster_or_its_golden_text() -> None:
    assert missing(EVENT_TYPES, UPCASTERS, [path.name for path in GOLDEN]) == set()
    assert {path.stem.split(".")[0] for path in GOLDEN} == EVENT_TYPES.keys()


def test_a_version_that_is_raised_without_them_is_noticed_and_a_golden_text_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {path.name for path in GOLDEN}
    monkeypatch.setattr(EVENT_TYPES["BreakerSet"], "schema_version", 2)
    assert missing(EVENT_TYPES, UPCASTERS, kept) == {"BreakerSet 1", "BreakerSet.2.json"}
    monkeypatch.setitem(UPCASTERS, ("BreakerSet", 1), lift)
    assert missing(EVENT_TYPES, UPCASTERS, kept) == {"BreakerSet.2.json"}
    with_the_new_one_alone = kept - {"BreakerSet.1.json"} | {"BreakerSet.2.json"}
    assert missing(EVENT_TYPES, UPCASTERS, with_the_new_one_alone) == {"BreakerSet.1.json"}


def test_no_golden_text_is_ever_changed() -> None:
    """Each is what is in somebody's log by now: a line here is added with a new version, and never touched again."""
    assert {path.stem: sha256(path.read_bytes()).hexdigest()[:16] for path in GOLDEN} == WRITTEN
