"""What is true of every projection that there is, also of one that somebody adds: none of them is listed here."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest
from sqlalchemy import and_, delete, insert, select, update

from eventlog import migration
from eventlog.database import Database
from eventlog.log import Recorded
from eventlog.streams import is_operational
from projections import catalogue
from projections.following import catch_up
from tests.conftest import Databases
from tests.drift import rebuilt, verified
from tests.example_projection import EXAMPLE, added
from tests.interleaved import by_stream, interleaved, live_through
from tests.service import whole_log

ORDERS = 40
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module", autouse=True)
def example(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The projection of the docs is one of them, but not in the database that all others are copies of."""
    with added(tmp_path_factory.mktemp("projections")):
        yield


@pytest.fixture(scope="module")
def lived(shared: Database, example: None) -> Database:
    """A log with every type of event in it, and the rows that moved with it or followed it."""
    migration.migrate(shared)  # the example's table
    live_through(shared)
    for one in catalogue.following().values():
        catch_up(shared, one)
    return shared


@pytest.fixture(params=[*catalogue.names(), EXAMPLE])
def name(request: pytest.FixtureRequest) -> str:
    """A projection."""
    found: str = request.param
    return found


def rows_of(database: Database, name: str) -> Rows:
    """All rows of a projection, in the order of their keys."""
    table = catalogue.table_of(name)
    return [dict(row._mapping) for row in database.page(select(table).order_by(*table.primary_key))]


def same(name: str, row: dict[str, Any]) -> Any:
    """The condition that a row is this one."""
    return and_(*(column == row[column.name] for column in catalogue.table_of(name).primary_key))


def folded(name: str, events: Sequence[Recorded]) -> dict[Any, Any]:
    """The rows that these events fold to in this order, by key."""
    if name in catalogue.of_streams():
        of_streams = catalogue.of_streams()[name]
        states = {event.stream_id: of_streams.initial for event in events if not is_operational(event.stream_id)}
        for event in events:
            if event.stream_id in states:
                states[event.stream_id] = of_streams.fold(states[event.stream_id], event)
        return {stream_id: of_streams.row(stream_id, state) for stream_id, state in states.items()}
    one = {**catalogue.spanning(), **catalogue.following()}[name]
    found: dict[Any, Any] = {}
    for event in events:
        if event.type in one.types and (key := one.key(event)) is not None:
            found[key] = one.fold(found.get(key, one.initial), event)
    return {key: one.row(state) for key, state in found.items()}


def is_ordered(name: str) -> bool:
    """Whether a projection says of itself that the order of streams matters."""
    spanning = {**catalogue.spanning(), **catalogue.following()}
    return name in spanning and spanning[name].is_ordered


def test_the_log_has_every_type_of_event_that_a_projection_reads(lived: Database) -> None:
    found = {event.type for event in whole_log(lived)}
    spanning = [*catalogue.spanning().values(), *catalogue.following().values()]
    assert {kind for one in spanning for kind in one.types} - found == set()


def test_a_rebuild_from_nothing_gives_the_live_rows(lived: Database, name: str) -> None:
    live = rows_of(lived, name)
    assert live
    assert verified(lived, name).total == 0
    with lived.write() as connection:
        connection.execute(delete(catalogue.table_of(name)))
    assert verified(lived, name).total == len(live)
    rebuilt(lived, name)
    assert rows_of(lived, name) == live


def test_twice_is_as_good_as_once(lived: Database, name: str) -> None:
    live = rows_of(lived, name)
    found = [rebuilt(lived, name) for _ in range(2)]
    assert [(one.total, one.written) for one in found] == [(0, 0), (0, 0)]
    if name in catalogue.following():
        assert catch_up(lived, catalogue.following()[name])
    assert rows_of(lived, name) == live


def test_the_order_of_streams_matters_to_those_alone_that_say_so(lived: Database, name: str) -> None:
    events = whole_log(lived)
    once = folded(name, events)
    others = [
        folded(name, [event for _, event in interleaved(by_stream(events), Random(seed))]) for seed in range(ORDERS)
    ]
    assert any(other != once for other in others) == is_ordered(name)


def test_a_row_that_is_gone_comes_back(lived: Database, name: str) -> None:
    live = rows_of(lived, name)
    with lived.write() as connection:
        connection.execute(delete(catalogue.table_of(name)).where(same(name, live[0])))
    assert (verified(lived, name).total, rebuilt(lived, name).total) == (1, 1)
    assert rows_of(lived, name) == live


def changed(value: Any) -> Any:
    """Another value of the same kind; None where none is known."""
    match value:
        case bool():
            return None
        case int():
            return value + 1
        case datetime():
            return value + timedelta(seconds=1)
    return None


def test_a_row_of_which_much_was_changed_is_found_and_mended_unless_it_is_the_users_to_change(
    lived: Database, name: str
) -> None:
    live, table = rows_of(lived, name), catalogue.table_of(name)
    free = [column.name for column in table.columns if not column.primary_key]
    others = [{one: value for one in free if (value := changed(row[one])) is not None} for row in live]
    row, other = max(zip(live, others, strict=True), key=lambda pair: len(pair[1]))
    assert other
    with lived.write() as connection:
        connection.execute(update(table).where(same(name, row)).values(other))
    assert verified(lived, name).total == 1
    assert rows_of(lived, name) != live
    if catalogue.is_users(name):
        with lived.write() as connection:
            connection.execute(delete(table).where(same(name, row)))
    rebuilt(lived, name)
    assert rows_of(lived, name) == live


def test_a_row_that_no_event_explains_is_reported_and_removed_unless_it_is_the_users(
    lived: Database, name: str
) -> None:
    live, table = rows_of(lived, name), catalogue.table_of(name)
    key = next(column.name for column in table.primary_key if isinstance(live[0][column.name], str))
    ghost = {**live[0], key: f"{live[0][key]}-ghost"}
    with lived.write() as connection:
        connection.execute(insert(table), ghost)
    assert (verified(lived, name).total, rebuilt(lived, name).total) == (1, 1)
    assert (ghost in rows_of(lived, name)) == catalogue.is_users(name)
    with lived.write() as connection:
        connection.execute(delete(table).where(same(name, ghost)))
    assert rows_of(lived, name) == live
