"""How SQL is written that people run by hand: what it looks at first, so that it may be run again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from eventlog.rights import APP_ROLE, FUNCTIONS, OWNER_POLICY


class Script(Protocol):
    """How such a text is written for one kind of database."""

    def opening(self) -> str:
        """What it begins with: its transaction, and what migrations wait for."""
        ...

    def making_place(self) -> str:
        """What makes the place of our tables, where it is not there."""
        ...

    def refusing(self, newest: str, others: Sequence[tuple[str, str]], too_new: str) -> str:
        """What stops it, with a message, at a database of a later version or at one of these tables, if it is new."""
        ...

    def unless_at(self, revision: str, text: str) -> str:
        """A revision, if the database has not reached it."""
        ...

    def unless_there(self, table: str, text: str) -> str:
        """What makes a table of ours, if it is not there."""
        ...

    def dropping_theirs(self, view: str, tables: Sequence[str]) -> str:
        """What drops the view and the tables that we made for the users, and none that they made."""
        ...

    def dropping_place(self) -> str:
        """What drops our functions, and the place of our tables if nothing else is in it."""
        ...


class PlainScript:
    """For SQLite, whose SQL has no conditions: for a file that is empty."""

    def opening(self) -> str:
        return "BEGIN;"

    def making_place(self) -> str:
        return ""

    def refusing(self, newest: str, others: Sequence[tuple[str, str]], too_new: str) -> str:
        return ""

    def unless_at(self, revision: str, text: str) -> str:
        return text

    def unless_there(self, table: str, text: str) -> str:
        return text

    def dropping_theirs(self, view: str, tables: Sequence[str]) -> str:
        drops = [f"-- DROP TABLE {table};" for table in tables]
        return "\n".join([f"DROP VIEW IF EXISTS {view};", "-- These are yours to keep or to drop:", *drops])

    def dropping_place(self) -> str:
        return ""


class GuardedScript:
    """For PostgreSQL: each part looks at what is there first, so that the text may be run again and again.

    `schema` is in quotes; `lock` is the key of the lock that migrations wait for.
    """

    def __init__(self, schema: str, lock: int) -> None:
        self._schema, self._lock = schema, lock

    def opening(self) -> str:
        return f"BEGIN ISOLATION LEVEL READ COMMITTED;\n\nSELECT pg_advisory_xact_lock({self._lock});"

    def making_place(self) -> str:
        return _once(f"to_regnamespace({_literal(self._schema)}) IS NOT NULL", f"CREATE SCHEMA {self._schema};")

    def refusing(self, newest: str, others: Sequence[tuple[str, str]], too_new: str) -> str:
        reached = f"FROM {self._schema}.alembic_version"
        checks = [_check(f"EXISTS (SELECT {reached} WHERE version_num > '{newest}')", too_new)]
        checks += [
            _check(f"NOT EXISTS (SELECT {reached}) AND to_regclass('{table}') IS NOT NULL", message)
            for table, message in others
        ]
        return "DO $enrichlog$\nBEGIN\n" + "".join(checks) + "END\n$enrichlog$;"

    def unless_at(self, revision: str, text: str) -> str:
        return _once(f"EXISTS (SELECT FROM {self._schema}.alembic_version WHERE version_num >= '{revision}')", text)

    def unless_there(self, table: str, text: str) -> str:
        place = _literal(f'{self._schema}."{table}"')
        return _once(f"to_regclass({place}) IS NOT NULL", text)

    def dropping_theirs(self, view: str, tables: Sequence[str]) -> str:
        places = ", ".join(f"to_regclass('{table}')" for table in tables)
        return _DROPPING_THEIRS.format(tables=" and ".join(tables), view=view, places=places, policy=OWNER_POLICY)

    def dropping_place(self) -> str:
        functions = ", ".join(f"{self._schema}.{name}" for name in FUNCTIONS)
        return f"DROP FUNCTION IF EXISTS {functions};\n\n{_ROLE_STAYS}\n" + _DROPPING_SCHEMA.format(
            schema=self._schema, schema_text=_literal(self._schema)
        )


def as_comment(text: str) -> str:
    """A text whose lines are comments."""
    return "".join(f"-- {line}".rstrip() + "\n" for line in text.splitlines())


def joined(parts: Iterable[str]) -> str:
    """The parts of such a text, without those that are empty."""
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _once(condition: str, text: str) -> str:
    return (
        f"DO $enrichlog$\nBEGIN\n    IF NOT ({condition}) THEN\n"
        f"        EXECUTE $once$\n{text.strip()}\n$once$;\n    END IF;\nEND\n$enrichlog$;"
    )


def _check(condition: str, message: str) -> str:
    return f"    IF {condition} THEN\n        RAISE EXCEPTION USING MESSAGE = {_literal(message)};\n    END IF;\n"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


_DROPPING_THEIRS = """-- {tables}, with all their rows, if they are those that enrichlog made, which have its policy.
DO $enrichlog$
DECLARE
    made CONSTANT regclass[] := (
        SELECT array_agg(polrelid) FROM pg_policy
        WHERE polname = '{policy}' AND polrelid IN ({places})
    );
    place regclass;
BEGIN
    IF made IS NOT NULL THEN
        DROP VIEW IF EXISTS {view};
    END IF;
    FOREACH place IN ARRAY coalesce(made, '{{}}') LOOP
        EXECUTE format('DROP TABLE %s', place);
    END LOOP;
END
$enrichlog$;"""

_ROLE_STAYS = f"-- The role {APP_ROLE} stays: it is of the whole server, and other databases may have given it rights."

_DROPPING_SCHEMA = """DO $enrichlog$
BEGIN
    IF {schema_text} = '"public"' THEN
        RETURN;
    END IF;
    DROP SCHEMA IF EXISTS {schema};
EXCEPTION
    WHEN dependent_objects_still_exist THEN
        RAISE NOTICE 'The schema {schema} is kept: there is something in it that enrichlog did not make';
END
$enrichlog$;"""
