"""Every event type is stored as in tests/golden, one file for each schema version that was ever written."""

from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import orjson
import pytest
from pydantic import ValidationError

from eventlog import canonical, events
from eventlog.database import Database
from eventlog.errors import UnknownEventType
from eventlog.events import EVENT_TYPES, EnrichmentDismissed, Event, Payload, iso, moment
from eventlog.log import LogAlone, read_log, read_stream
from eventlog.upcasting import UPCASTERS, upcast
from tests.builders import NOON, offer, proposal, requested
from tests.golden_texts import GOLDEN, payload_of, texts_of

every_golden_file = pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
every_type = pytest.mark.parametrize("kind", EVENT_TYPES.values(), ids=EVENT_TYPES)


def check_against_golden(kind: type[Event], name: str) -> None:
    """Read the golden text of the type's present version into an event, with all its fields, and write it again."""
    facts, content = texts_of(f"{name}.{kind.schema_version}")
    values = {**orjson.loads(facts), **(orjson.loads(content) or {})}
    version = values.pop("schema_version")
    assert (version, values.keys()) == (kind.schema_version, kind.model_fields.keys())
    payload = kind.model_validate(values).payload(NOON)
    assert (canonical.facts_text(payload.facts), canonical.text(payload.content)) == (facts, content)


@every_type
def test_an_event_with_every_field_filled_is_stored_exactly_as_its_golden_text(kind: type[Event]) -> None:
    check_against_golden(kind, kind.__name__)


class _Added(EnrichmentDismissed):
    more: str | None = None


class _Renamed(Event):
    content_fields = frozenset({"reason"})
    who: str
    reason: str | None = None


class _NoLongerErasable(EnrichmentDismissed):
    content_fields = frozenset()


@pytest.mark.parametrize("changed", [_Added, _Renamed, _NoLongerErasable])
def test_a_field_added_renamed_or_moved_without_a_new_schema_version_is_noticed(changed: type[Event]) -> None:
    check_against_golden(EnrichmentDismissed, "EnrichmentDismissed")  # as it is: the control
    with pytest.raises((AssertionError, ValidationError)):
        check_against_golden(changed, "EnrichmentDismissed")


@every_golden_file
def test_every_golden_text_is_read_in_todays_version(golden: Path) -> None:
    kind = EVENT_TYPES[golden.stem.split(".")[0]]
    today = upcast(kind.__name__, *payload_of(golden.stem), 1)
    values = {**today.facts, **(today.content or {})}
    assert values.keys() - {"schema_version"} <= kind.model_fields.keys()
    assert kind.model_validate({name: value for name, value in values.items() if name != "schema_version"})


@every_golden_file
def test_what_is_written_is_what_is_read(golden: Path) -> None:
    facts, content = payload_of(golden.stem)
    again = (canonical.facts_text(facts), canonical.text(content))
    assert tuple(map(orjson.loads, again)) == (facts, content)


class _SecondVersion(Event):
    schema_version: ClassVar[int] = 2
    who: str


def test_an_older_version_is_lifted_by_its_upcaster(monkeypatch: pytest.MonkeyPatch) -> None:
    def lift(payload: Payload) -> Payload:
        facts = {("who" if name == "actor" else name): value for name, value in payload.facts.items()}
        return Payload(facts | {"schema_version": 2}, payload.content)

    monkeypatch.setitem(EVENT_TYPES, "EnrichmentDismissed", _SecondVersion)
    monkeypatch.setitem(UPCASTERS, ("EnrichmentDismissed", 1), lift)
    old = {"schema_version": 1, "actor": "anna"}
    assert upcast("EnrichmentDismissed", old, None, 1) == Payload({"schema_version": 2, "who": "anna"}, None)
    today = {"schema_version": 2, "who": "anna"}
    assert upcast("EnrichmentDismissed", today, None, 1) == Payload(today, None)


@pytest.mark.parametrize("version", [0, 2, -1, None, "1", 99, 1.5])
def test_an_unknown_version_is_refused_with_its_position(version: object) -> None:
    with pytest.raises(UnknownEventType, match=r"EnrichmentDismissed version .* at position 42"):
        upcast("EnrichmentDismissed", {"schema_version": version}, None, 42)


class FromTheFuture(Event):
    """A type that this code does not know, because a later one wrote it."""


def test_an_unknown_type_in_the_log_is_refused_with_its_position(database: Database) -> None:
    offer(database, proposal("job-1", requested()), proposal("job-1", FromTheFuture()), inline=LogAlone())
    with pytest.raises(UnknownEventType, match="FromTheFuture version 1 at position 2"):
        list(read_log(database))
    with pytest.raises(UnknownEventType, match="at position 2"):
        read_stream(database, "job-1")


def test_events_cannot_be_changed_and_take_no_unknown_fields() -> None:
    event = requested()
    with pytest.raises(ValidationError, match="frozen"):
        event.actor = "somebody else"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        requested(colour="red")


def test_facts_hold_no_field_that_is_erasable_and_nulls_are_left_out() -> None:
    facts, content = requested(reason="because").payload(NOON)
    assert facts == {"why": "new", "actor": "tests", "grant": 0, "schema_version": 1, "occurred_at": iso(NOON)}
    assert content == {"reason": "because"}
    assert requested().payload(NOON).content is None


def test_times_are_text_that_sorts_as_they_do() -> None:
    assert iso(NOON) == "2024-01-01T12:00:00.000000Z"
    assert moment(iso(NOON)) == NOON


def test_a_time_of_any_year_is_read_back_and_one_without_a_zone_is_refused() -> None:
    first = datetime(1, 1, 1, tzinfo=UTC)
    assert (iso(first), moment(iso(first))) == ("0001-01-01T00:00:00.000000Z", first)
    with pytest.raises(ValidationError, match="timezone"):
        requested(occurred_at=datetime(2024, 1, 1))  # noqa: DTZ001 - that is the point


def test_every_type_is_listed_under_its_own_name() -> None:
    abstract = {"Event", "Attempt", "End"}
    defined = {name for name, kind in vars(events).items() if isinstance(kind, type) and issubclass(kind, Event)}
    assert defined - abstract == set(EVENT_TYPES)
    assert all(kind.content_fields <= kind.model_fields.keys() for kind in EVENT_TYPES.values())
