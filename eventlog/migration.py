"""Bring a database's tables to this version of enrichlog, and tell which version they are at."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable, Inspector, inspect

from eventlog.database import Database
from eventlog.dialects import quoted
from eventlog.errors import NotInitialised, SchemaOutdated, SchemaTooNew, TableNotMade, TablesOfOthers

VERSION_TABLE = "alembic_version"
USERS_TABLES = ("job_postings", "llm_enrichment")

Further = Callable[[Callable[[str], bool]], Iterable[Executable]]
"""What is to be done once the migrations are: it is told which tables of ours are there."""


def scripts() -> Path:
    """The folder of the migrations: beside this module when installed, else that of the checkout."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "alembic"


def newest() -> str:
    """The revision that this version of the code needs."""
    return max(path.name[:4] for path in scripts().glob("versions/[0-9]*.py"))


def migrate(database: Database) -> str:
    """Create or upgrade the tables; several at once wait for each other. Returns the revision reached.

    Raises `TablesOfOthers` when the users' tables are there and not ours, `SchemaTooNew` for a later version's.
    """
    from alembic import command

    database.dialect.create_place()
    command.upgrade(_config(database), "head")
    return newest()


def sql(database: Database) -> str:
    """The SQL that `migrate` would run on an empty database."""
    from alembic import command

    config = _config(database)
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    return str(config.output_buffer.getvalue())


def check(database: Database, flag: str = "", needed: Collection[str] = ()) -> None:
    """Raises what is wrong when the tables are not those this code needs, those `needed` that no migration makes too.

    That is `NotInitialised`, `SchemaOutdated`, `SchemaTooNew` or `TableNotMade`. `flag` is what `enrichlog init` must
    be given to reach this database.
    """
    if not database.dialect.exists():
        raise NotInitialised(where=database.dialect.where(), flag=flag)
    with database.read() as connection:
        found = _found(connection, database)
        lacking = [table for table in needed if not database.dialect.has_our_table(connection, table)]
    if found is None:
        raise NotInitialised(where=database.dialect.where(), flag=flag)
    if found > newest():
        raise SchemaTooNew(where=database.dialect.where(), found=found)
    if found < newest():
        raise SchemaOutdated(where=database.dialect.where(), found=found, needed=newest(), flag=flag)
    for table in lacking:
        raise TableNotMade(where=database.dialect.where(), table=table, flag=flag)


def run_scripts(revision: str) -> None:
    """Run the SQL file of a revision that is written for the database at hand."""
    from alembic import context, op

    database: Database = context.config.attributes["database"]
    schema = database.dialect.schema
    path = scripts() / "versions" / f"{revision}_{database.dialect.name}.sql"
    script = path.read_text(encoding="utf-8")
    if schema:
        script = script.replace("{schema}", quoted(schema))
    script = script.replace("{ours}", f"{quoted(schema)}." if schema else "")
    for statement in database.dialect.statements(script):
        if context.is_offline_mode():
            op.get_context().impl.static_output(statement)  # as it is: through `execute` each % would be doubled
        else:
            op.get_bind().execution_options(no_parameters=True).exec_driver_sql(statement)


def run_online(context: Any, database: Database, further: Further) -> None:
    """Migrate in one transaction; whoever comes second finds the work done."""
    context.config.attributes["database"] = database
    with database.write() as connection:
        database.dialect.lock_migrations(connection)
        found = _found(connection, database)
        if found is None:
            _refuse_tables_of_others(connection, database)
        elif found > newest():
            raise SchemaTooNew(where=database.dialect.where(), found=found)
        _create_schema(connection, database)
        context.configure(connection=connection, **_version_table(database))
        context.run_migrations()
        for statement in further(lambda table: database.dialect.has_our_table(connection, table)):
            connection.execute(statement)


def run_offline(context: Any, database: Database, further: Further) -> None:
    """Print the migrations instead of running them."""
    context.config.attributes["database"] = database
    context.configure(dialect_name=database.dialect.name, **_version_table(database))
    schema = database.dialect.schema
    with context.begin_transaction():
        if schema:
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        context.run_migrations()
        made = _tables_made(database.dialect.name)
        for statement in further(made.__contains__):
            context.get_context().impl.static_output(f"{database.dialect.spelt(statement)};")


def _tables_made(dialect: str) -> set[str]:
    """The names of all tables that the scripts for one of the databases make."""
    texts = [path.read_text(encoding="utf-8") for path in scripts().glob(f"versions/*_{dialect}.sql")]
    return {name for text in texts for name in re.findall(r"^CREATE TABLE (?:\{ours\})?(\w+)", text, re.MULTILINE)}


def _config(database: Database) -> Any:
    from alembic.config import Config

    config = Config(attributes={"database": database})
    config.set_main_option("script_location", str(scripts()).replace("%", "%%"))
    return config


def _version_table(database: Database) -> dict[str, Any]:
    return {"version_table": VERSION_TABLE, "version_table_schema": database.dialect.schema}


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


def _refuse_tables_of_others(connection: Connection, database: Database) -> None:
    inspector: Inspector = inspect(connection)
    for table in USERS_TABLES:
        if inspector.has_table(table):
            raise TablesOfOthers(where=database.dialect.where(), table=table)
