"""What is stored is not only intact but foldable: an event that is no such event is found before any fold meets it."""

from typing import Any, get_args

import orjson
import pytest

from eventlog.database import Database
from eventlog.events import EVENT_TYPES, Payload
from eventlog.integrity import verify_log
from eventlog.shape import NAMED, misfit
from tests.builders import erased, failed, requested, started, succeeded, tell
from tests.forging import erase_content, forge, rechain, retell, rows
from tests.golden_texts import payload_of

every_type = pytest.mark.parametrize("kind", EVENT_TYPES)


def golden(kind: str) -> Payload:
    return payload_of(f"{kind}.{EVENT_TYPES[kind].schema_version}")


def nullable(kind: str, name: str) -> bool:
    field = EVENT_TYPES[kind].model_fields.get(name)
    return name != "occurred_at" and field is not None and type(None) in get_args(field.annotation)


@every_type
def test_what_this_code_writes_fits(kind: str) -> None:
    assert misfit(kind, golden(kind)) is None


@every_type
def test_a_fact_that_is_missing_is_told_by_its_name_unless_it_may_be_null(kind: str) -> None:
    whole = golden(kind)
    for name in whole.facts:
        left = {other: value for other, value in whole.facts.items() if other != name}
        expected = None if nullable(kind, name) else f"it is no {kind}: {name} is missing"
        assert misfit(kind, whole._replace(facts=left)) == expected


@every_type
def test_a_field_that_no_such_event_has_is_told_by_its_name(kind: str) -> None:
    facts, content = golden(kind)
    told = f"it is no {kind}: colour is not one of its fields"
    assert misfit(kind, Payload({**facts, "colour": "red"}, content)) == told
    assert misfit(kind, Payload(facts, {**(content or {}), "colour": "red"})) == told


@every_type
def test_a_field_in_the_other_half_is_found(kind: str) -> None:
    facts, content = golden(kind)
    for name in content or {}:
        assert (
            misfit(kind, Payload({**facts, name: "text"}, None)) == f"it is no {kind}: {name} is not one of its fields"
        )


@every_type
def test_a_value_of_another_type_is_found_also_where_it_could_be_read_as_the_right_one(kind: str) -> None:
    facts, content = golden(kind)
    for name, value in facts.items():
        other: Any = int(value) + 1 if isinstance(value, bool) else str(value) if isinstance(value, int) else 7
        assert f"{name}: input should be" in (misfit(kind, Payload({**facts, name: other}, content)) or "")


@pytest.mark.parametrize("time", ["", "now", "2026-02-30T11:59:30.250000Z", "2026-03-01"])
def test_a_time_that_no_fold_can_read_is_found(time: str) -> None:
    facts, content = golden("EnrichmentSucceeded")
    for name in ("occurred_at", "started_at"):
        found = misfit("EnrichmentSucceeded", Payload({**facts, name: time}, content))
        assert found == f"it is no EnrichmentSucceeded: {name} is no moment"


def test_only_the_first_things_that_are_wrong_are_told_and_no_value() -> None:
    facts = golden("ContentErased").facts | {f"field_{number}": "secret" for number in range(NAMED + 2)}
    found = misfit("ContentErased", Payload(facts, None)) or ""
    assert found.endswith("field_2 is not one of its fields; and 2 more")
    assert "secret" not in found


@pytest.fixture
def told(database: Database) -> Database:
    """Five events of one posting; the third and the fifth have content."""
    tell(database, "job-1", requested(), started(), failed(), started(2), succeeded(2))
    return database


UNFOLDABLE = {
    (1, '"grant":0,', ""): "it is no EnrichmentRequested: grant is missing",
    (1, '"grant":0', '"grant":-1'): "it is no EnrichmentRequested: grant: input should be greater than or equal to 0",
    (1, '"why":"new"', '"why":"whim"'): "it is no EnrichmentRequested: why: input should be 'new', 'retry'",
    (2, ":330", ':"330"'): "it is no EnrichmentStarted: lease_seconds: input should be a valid integer",
    (3, '"fault":"provider"', '"fault":"gods"'): "it is no EnrichmentFailed: fault: input should be 'setup'",
    (3, '"called":true', '"called":true,"cause":1'): "it is no EnrichmentFailed: cause is not one of its fields",
    (3, '"called":true', '"called":NaN'): "it is no EnrichmentFailed: ",
    (3, '"called":true', '"called":true,'): "it is no EnrichmentFailed: ",
    (5, '"schema_version":1', '"schema_version":2'): "EnrichmentSucceeded version 2 at position 5. Upgrade",
    (5, '"schema_version":1', '"schema_version":0'): "EnrichmentSucceeded version 0 at position 5. Upgrade",
    (5, ',"schema_version":1', ""): "EnrichmentSucceeded version None at position 5. Upgrade",
}  # fmt: skip


def test_an_event_in_an_unbroken_chain_that_no_fold_may_take_is_found(told: Database) -> None:
    whole = rows(told)
    for (position, old, new), reason in UNFOLDABLE.items():
        retell(told, position, old, new)
        ((found, why),) = verify_log(told).faults
        assert (found, reason in why) == (position, True), why
        rechain(told, whole[position - 1 :])
    assert verify_log(told).faults == []


def test_content_in_an_unbroken_chain_that_no_fold_may_take_is_found(told: Database) -> None:
    for content in (
        '{"result":[1]}',
        '{"message":"of a failure"}',
        "[]",
        '{"result":{"n":NaN}}',
        '{"result":{}',
        "text",
    ):
        forge(told, 5, content=content)
        ((position, reason),) = verify_log(told).faults
        assert (position, reason.startswith("it is no EnrichmentSucceeded: ")) == (5, True)


def test_an_event_of_another_type_than_its_facts_are_of_is_found(told: Database) -> None:
    forge(told, 2, type="EnrichmentDismissed")
    ((position, reason),) = verify_log(told).faults
    assert (position, reason) == (
        2,
        "it is no EnrichmentDismissed: actor is missing; attempt is not one of its fields; "
        "attempt_id is not one of its fields; and 5 more",
    )


def test_an_erased_event_is_foldable_and_one_with_other_facts_is_not(told: Database) -> None:
    tell(told, "job-1", erased())
    erase_content(told, "job-1")
    assert verify_log(told).faults == []
    facts, digest = rows(told)[2]["facts"], rows(told)[2]["content_digest"]
    left = {name: value for name, value in orjson.loads(facts).items() if name != "counts"}
    forge(told, 3, facts=orjson.dumps(left, option=orjson.OPT_SORT_KEYS).decode(), content_digest=digest)
    assert verify_log(told).faults == [(3, "it is no EnrichmentFailed: counts is missing")]
