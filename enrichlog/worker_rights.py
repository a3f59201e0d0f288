"""The rights on the users' tables that a login needs which only works: a member of the application role."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlalchemy import Connection

from enrichlog.named_tables import Rights, named_tables, rights_of
from eventlog.database import Database
from eventlog.inspection import Found
from eventlog.rights import APP_ROLE


def grants_for_workers(database: Database, connection: Connection, tables: Sequence[Found]) -> list[str]:
    """The statements that give the application role what it lacks on their tables; none where there are no roles."""
    inspection = database.dialect.inspection
    given: dict[tuple[str | None, str], tuple[Found, Rights]] = {}
    for table, rights in _needed(database, connection, tables):
        place = (table.schema, table.name)
        _, held = given.get(place, (table, {}))
        given[place] = (table, _both(held, rights))
    grants = [inspection.missing_grants(connection, table, rights, APP_ROLE) for table, rights in given.values()]
    policies = [
        inspection.missing_policies(connection, table, APP_ROLE, writes=set(rights) != {"SELECT"})
        for table, rights in given.values()
    ]
    return list(dict.fromkeys(one for found in (*grants, *policies) for one in found))


def _needed(database: Database, connection: Connection, tables: Sequence[Found]) -> Iterator[tuple[Found, Rights]]:
    inspection, target, query = database.dialect.inspection, database.adopted.target, database.adopted.source.query
    for table in named_tables(inspection, connection, query, tables):
        yield table, {"SELECT": None}
    if found := inspection.table(connection, target.schema, target.table):
        mapped = [one.column for one in target.columns]
        written = {target.id_column: None} | dict.fromkeys(mapped)
        yield found, {"SELECT": None, "INSERT": list(written), "UPDATE": mapped}
    if target.after_success:
        for table in named_tables(inspection, connection, target.after_success, tables):
            yield table, rights_of(target.after_success, table)


def _both(one: Rights, other: Rights) -> Rights:
    """The rights of two uses of a table."""
    rights = dict(one)
    for verb, columns in other.items():
        held = rights.get(verb, ())
        rights[verb] = None if columns is None or held is None else list(dict.fromkeys((*held, *columns)))
    return rights
