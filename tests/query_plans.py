"""How a database would run a query, in its own words."""

import re
from typing import Any

from sqlalchemy import ClauseElement, Executable, Select
from sqlalchemy.ext.compiler import compiles

from eventlog.database import Database
from eventlog.rights import APP_ROLE

WORDS = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN"}

AS_WORKER = {"sqlite": "SELECT 1", "postgresql": f"SET LOCAL ROLE {APP_ROLE}"}
"""What a worker may be: one for whom row security is a condition more, which is to cost no plan."""


class _Explained(Executable, ClauseElement):
    """The statement that tells how a query would be run, with the query's own parameters."""

    inherit_cache = False

    def __init__(self, words: str, query: Select[Any]) -> None:
        self.words, self.query = words, query


@compiles(_Explained)
def _compile_explained(element: _Explained, compiler: Any, **options: Any) -> str:
    return f"{element.words} {compiler.process(element.query, **options)}"


def plan_of(database: Database, query: Select[Any]) -> str:
    """How the database would find the rows of a query."""
    with database.read() as connection:
        connection.exec_driver_sql(AS_WORKER[database.dialect.name])
        rows = connection.execute(_Explained(WORDS[database.dialect.name], query))
        return "\n".join(str(row[-1]) for row in rows)


def plan_of_sql(database: Database, sql: str, parameters: Any = ()) -> str:
    """The same of plain SQL, `{ours}` being the schema of our tables."""
    statement = f"{WORDS[database.dialect.name]} {sql.replace('{ours}', database.dialect.qualified(''))}"
    with database.read() as connection:
        connection.exec_driver_sql(AS_WORKER[database.dialect.name])
        told = connection.execution_options(no_parameters=True).exec_driver_sql(statement, parameters)
        return "\n".join(str(row[-1]) for row in told)


def is_walked(found: str) -> bool:
    """Whether all of `enrichment_status` is read, as either database says it."""
    return re.search(r"(SCAN (main\.)?|Seq Scan on )enrichment_status\b(?! USING)", found) is not None
