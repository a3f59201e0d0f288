"""Bring a database's tables to this version of enrichlog, and tell which version they are at."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Inspector, inspect

from eventlog import printed, revisions
from eventlog.database import Database
from eventlog.dialects import quoted
from eventlog.errors import AdoptedElsewhere, NotInitialised, SchemaOutdated, SchemaTooNew, TableNotMade, TablesOfOthers
from eventlog.further import RETRY_VIEW, TITLE, USERS_TABLES, Further, owners_rows, rights
from eventlog.revisions import VERSION_TABLE, newest


def migrate(database: Database, before: Sequence[str] = ()) -> str:
    """Create or upgrade the tables; several at once wait for each other. Returns the revision reached.

    `before` is SQL that runs first, in the same transaction. Raises `TablesOfOthers` when the users' tables are there,
    not ours and not adopted, `SchemaTooNew` for a later version's.
    """
    from alembic import command

    database.dialect.create_place()
    command.upgrade(_config(database, before=before), "head")
    return newest()


def sql(database: Database, before: Sequence[str] = (), after: Sequence[str] = ()) -> str:
    """The SQL that does what `migrate` does, between further statements; on PostgreSQL it may be run again and again.

    It ends with what takes it back, as a comment, of which `after` is no part.
    """
    return _printed(database, lambda further: printed.forward(database, further, before, after))


def rollback_sql(database: Database, after: Sequence[str] = ()) -> str:
    """The SQL that takes `migrate` back, and then runs further statements: what is ours is dropped, the log with it."""
    return _printed(database, lambda further: printed.back(database, further, after))


def lacking_role(database: Database) -> str | None:
    """The name of the application role where there should be one and is none: who migrated may not create it."""
    with database.read() as connection:
        return database.dialect.lacking_role(connection)


def check(database: Database, flag: str = "", needed: Collection[str] = ()) -> None:
    """Raises what is wrong when the tables are not those this code needs, those `needed` that no migration makes too.

    That is `NotInitialised`, `SchemaOutdated`, `SchemaTooNew`, `AdoptedElsewhere` or `TableNotMade`. `flag` is what
    `enrichlog init` must be given to reach this database.
    """
    if not database.dialect.exists():
        raise NotInitialised(where=database.dialect.where(), flag=flag)
    with database.read() as connection:
        found = _found(connection, database)
        lacking = [table for table in needed if not database.dialect.has_our_table(connection, table)]
        is_of_others = _is_adopted(connection, database)
    if found is None:
        raise NotInitialised(where=database.dialect.where(), flag=flag)
    if found > newest():
        raise SchemaTooNew(where=database.dialect.where(), found=found)
    if found < newest():
        raise SchemaOutdated(where=database.dialect.where(), found=found, needed=newest(), flag=flag)
    if database.adopted is None and is_of_others:
        raise AdoptedElsewhere(where=database.dialect.where(), flag=flag)
    for table in lacking:
        raise TableNotMade(where=database.dialect.where(), table=table, flag=flag)


def run_scripts(revision: str) -> None:
    """Run the SQL of a revision that is written for the database at hand."""
    from alembic import context, op

    database: Database = context.config.attributes["database"]
    _run(op.get_bind(), database, revisions.script(database, revision))


def run_online(context: Any, database: Database, further: Further) -> None:
    """Migrate in one transaction; whoever comes second finds the work done."""
    context.config.attributes["database"] = database
    with database.write() as connection:
        database.dialect.lock_migrations(connection)
        for text in owners_rows(database, further):
            _run(connection, database, text)
        found = _found(connection, database)
        if found is None and database.adopted is None:
            _refuse_tables_of_others(connection, database)
        elif found is not None and found > newest():
            raise SchemaTooNew(where=database.dialect.where(), found=found)
        elif database.adopted is None and _is_adopted(connection, database):
            raise AdoptedElsewhere(where=database.dialect.where(), flag="")
        for text in context.config.attributes.get("before", ()):
            _run(connection, database, text)
        if found is None:
            _create_schema(connection, database)
            connection.exec_driver_sql(revisions.version_table(database.dialect))
        context.configure(
            connection=connection, version_table=VERSION_TABLE, version_table_schema=database.dialect.schema
        )
        context.run_migrations()
        _run_further(connection, database, further)


def run_offline(context: Any, database: Database, further: Further) -> None:
    """Print the migrations instead of running them."""
    print_ = context.config.attributes.get("print", lambda further: printed.forward(database, further, (), ()))
    context.config.output_buffer.write(print_(further))


def _run_further(connection: Connection, database: Database, further: Further) -> None:
    for step in further:
        if step.unless_there is None or not database.dialect.has_our_table(connection, step.unless_there):
            for statement in step.statements:
                connection.execute(statement)
    for text in rights(database, further):
        _run(connection, database, text)


def _run(connection: Connection, database: Database, text: str) -> None:
    for statement in database.dialect.statements(text):
        connection.execution_options(no_parameters=True).exec_driver_sql(statement)


def _printed(database: Database, print_: Callable[[Further], str]) -> str:
    from alembic import command

    config = _config(database, print=print_)
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    return str(config.output_buffer.getvalue())


def _config(database: Database, **attributes: Any) -> Any:
    from alembic.config import Config

    config = Config(attributes={"database": database, **attributes})
    config.set_main_option("script_location", str(revisions.scripts()).replace("%", "%%"))
    return config


def _create_schema(connection: Connection, database: Database) -> None:
    schema = database.dialect.schema
    if schema and not inspect(connection).has_schema(schema):
        connection.exec_driver_sql(f"CREATE SCHEMA {quoted(schema)}")


def _found(connection: Connection, database: Database) -> str | None:
    """The revision the database is at; None when it was never migrated."""
    if not database.dialect.has_our_table(connection, VERSION_TABLE):
        return None
    table = database.dialect.qualified(VERSION_TABLE)
    found: str | None = connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar()
    return found


def _is_adopted(connection: Connection, database: Database) -> bool:
    """Whether what is ours was made beside tables of the users': then our view names none of their columns."""
    dialect = database.dialect
    columns = dialect.theirs.columns_of(connection, dialect.schema, RETRY_VIEW)
    return bool(columns) and TITLE not in columns


def _refuse_tables_of_others(connection: Connection, database: Database) -> None:
    inspector: Inspector = inspect(connection)
    for table in USERS_TABLES:
        if inspector.has_table(table):
            raise TablesOfOthers(where=database.dialect.where(), table=table)
