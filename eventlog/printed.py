"""The migrations as one text of SQL for people who run it by hand, and the text that takes them back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from eventlog import revisions
from eventlog.database import Database
from eventlog.errors import TablesOfOthers
from eventlog.further import RETRY_VIEW, USERS_TABLES, Further, owners_rows, rights, tables_of_ours
from eventlog.revisions import VERSION_TABLE, newest
from eventlog.script import as_comment, joined

_TOO_NEW = "This database is at a later migration than {newest}. Upgrade enrichlog."


def forward(database: Database, further: Further, before: Sequence[str], after: Sequence[str]) -> str:
    """The text that migrates, between further statements, and behind it as a comment what takes that back."""
    dialect, script = database.dialect, database.dialect.script
    parts = [
        f"-- enrichlog, migration {newest()}. One transaction: all of it happens, or nothing.",
        script.opening(),
        *map(_ended, before),
        script.making_place(),
        _ended(revisions.version_table(dialect)),
        *map(_ended, owners_rows(database, further)),
        script.refusing(newest(), _refusals(database), _TOO_NEW.format(newest=newest())),
        *(script.unless_at(revision, _revision(database, revision)) for revision in revisions.revisions()),
        *_steps(database, further),
        *map(_ended, rights(database, further)),
        *map(_ended, after),
        "COMMIT;",
        "-- To take all of this back, run what follows without the two dashes that begin each line.\n--",
    ]
    return joined(parts) + as_comment(back(database, further, ()))


def _revision(database: Database, revision: str) -> str:
    """The SQL of a revision, and what notes that it is reached."""
    place = database.dialect.qualified(VERSION_TABLE)
    noting = f"DELETE FROM {place};\nINSERT INTO {place} (version_num) VALUES ('{revision}');"
    return f"{revisions.script(database, revision).strip()}\n\n{noting}"


def _steps(database: Database, further: Further) -> Iterator[str]:
    dialect, made = database.dialect, revisions.tables_made(database.dialect)
    for statements, table in further:
        text = "\n".join(_ended(dialect.spelt(statement)) for statement in statements)
        if table is None:
            yield text
        elif table not in made:
            yield dialect.script.unless_there(table, text)


def back(database: Database, further: Further, after: Sequence[str]) -> str:
    """The text that drops what is ours, and then runs further statements."""
    dialect, script = database.dialect, database.dialect.script
    views = [f"DROP VIEW IF EXISTS {dialect.qualified(RETRY_VIEW)};"]
    tables = [f"DROP TABLE IF EXISTS {dialect.qualified(name)};" for name in tables_of_ours(database, further)]
    parts = [
        "-- This drops all that enrichlog made, the log of all that was enriched included.",
        script.opening(),
        *(views if database.adopted is not None else [script.dropping_theirs(RETRY_VIEW, USERS_TABLES)]),
        "\n".join(reversed(tables)),
        script.dropping_place(),
        *map(_ended, after),
        "COMMIT;",
    ]
    return joined(parts)


def _ended(statement: str) -> str:
    return f"{statement.strip().removesuffix(';')};"


def _refusals(database: Database) -> list[tuple[str, str]]:
    """The tables that would be in the way, each with what is said then."""
    names = USERS_TABLES if database.adopted is None else ()
    return [(name, str(TablesOfOthers(where="The database", table=name))) for name in names]
