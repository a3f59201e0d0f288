"""What PostgreSQL tells of the users' tables."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.dialects.postgresql.base import RESERVED_WORDS
from sqlalchemy.exc import DBAPIError

from eventlog.inspection import Column, Found, Hidden, Reference, TableIndex, Watch, our_names, quoted
from eventlog.rights import APP_ROLE

_RELATIONS = """SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text IN ('r', 'p', 'f') AS is_table,
    pg_table_is_visible(c.oid) AS is_visible,
    CASE WHEN c.reltuples < 0 THEN pg_relation_size(c.oid) / 200 ELSE c.reltuples END::bigint AS rows
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND """

_ON_THE_PATH = """n.nspname = ANY (current_schemas(false)) AND NOT c.relispartition
    AND NOT (n.nspname = %s AND c.relname = ANY (%s)) ORDER BY n.nspname, c.relname"""

HELD_AS = """(WITH RECURSIVE held (kind, modifier) AS (SELECT atttypid, atttypmod
        UNION ALL SELECT typbasetype, typtypmod FROM held JOIN pg_type ON oid = kind WHERE typtype = 'd')
    SELECT format_type(kind, modifier) FROM held JOIN pg_type ON oid = kind WHERE typtype <> 'd')"""
"""The type of a column; where that is a domain, the one that is beneath it."""

_COLUMNS = f"""SELECT attrelid, attname::text AS name, {HELD_AS} AS type,
    NOT (attnotnull OR kind.typnotnull) AS is_nullable, atthasdef OR kind.typdefault IS NOT NULL AS has_default,
    attgenerated <> '' OR attidentity <> '' AS is_generated,
    ARRAY(SELECT enumlabel::text FROM pg_enum
        WHERE enumtypid IN (kind.oid, kind.typelem, kind.typbasetype) ORDER BY enumsortorder) AS labels
FROM pg_attribute JOIN pg_type kind ON kind.oid = atttypid
WHERE attrelid = ANY (%s::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum"""

_INDEXES = """SELECT i.indrelid, c.relname::text AS name,
    am.amname = 'btree' AS is_btree, i.indisvalid AS is_valid,
    i.indisunique AND i.indpred IS NULL AND i.indisvalid AND i.indnkeyatts = 1 AS is_unique,
    ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::int2[])) AS columns,
    ARRAY(SELECT a.attname::text FROM pg_depend d
        JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid) AS computed,
    ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[0]) AS first
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am am ON am.oid = c.relam
WHERE i.indrelid = ANY (%s::oid[]) ORDER BY c.relname"""

_REFERENCES = """SELECT conrelid, mine.attname::text AS column, n.nspname::text AS schema, c.relname::text AS table,
    theirs.attname::text AS referred, pg_table_is_visible(c.oid) AS is_visible
FROM pg_constraint
JOIN pg_attribute mine ON mine.attrelid = conrelid AND mine.attnum = conkey[1]
JOIN pg_attribute theirs ON theirs.attrelid = confrelid AND theirs.attnum = confkey[1]
JOIN pg_class c ON c.oid = confrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE contype = 'f' AND conrelid = ANY (%s::oid[]) AND cardinality(conkey) = 1 ORDER BY conname"""

_CHECKS = """SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint
WHERE contype = 'c' AND conrelid = %s AND conkey = ARRAY(
    SELECT attnum FROM pg_attribute WHERE attrelid = conrelid AND attname = %s)"""

_VIEWS = """SELECT DISTINCT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname::text
    ELSE n.nspname || '.' || c.relname END AS name, pg_get_viewdef(c.oid) AS text
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass
JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = %s AND c.oid <> d.refobjid AND c.relkind IN ('v', 'm')
ORDER BY 1"""

_INVOKING = """SELECT t.tgname::text AS name, p.prosrc AS source
FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = %s AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND NOT p.prosecdef ORDER BY t.tgname"""

_GOES_ELSEWHERE = re.compile(r"\b(?:insert\s+into|update\s+\w|delete\s+from|merge\s+into|perform|execute|from)\b", re.I)
"""What stands in a function that does more than change its row; only a word of advice goes by it."""

_LACKED = """SELECT CASE WHEN %(columns)s::text[] IS NULL THEN NOT has_table_privilege(role, %(table)s::oid, %(verb)s)
    ELSE cardinality(%(columns)s) > (SELECT count(*) FROM pg_attribute
        WHERE attrelid = %(table)s AND attname = ANY (%(columns)s)
            AND has_column_privilege(role, attrelid, attnum, %(verb)s)) END
FROM coalesce(to_regrole(%(role)s)::oid, 0) role"""
"""The right of a role, or of everybody where there is no such role; a column that is not there yet lacks it."""

_LACKED_SCHEMA = """SELECT quote_ident(nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE c.oid = %s AND NOT has_schema_privilege(coalesce(to_regrole(%s)::oid, 0), n.oid, 'USAGE')"""

_LACKED_SEQUENCES = """SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
FROM pg_attrdef d JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid AND p.refclassid = 'pg_class'::regclass
JOIN pg_class c ON c.oid = p.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE d.adrelid = %s AND a.attname <> ALL (%s) AND CASE WHEN c.relkind = 'S'
    THEN NOT has_sequence_privilege(coalesce(to_regrole(%s)::oid, 0), c.oid, 'USAGE, UPDATE') END ORDER BY 1"""
"""What the defaults of other columns count with; a column that is an identity counts without a right."""

_WITHOUT_POLICY = """SELECT 1 FROM pg_class c WHERE oid = %s AND relrowsecurity AND NOT EXISTS (
    SELECT 1 FROM pg_policy, unnest(polroles) one
    WHERE polrelid = c.oid AND polpermissive AND polcmd IN ('r', '*')
        AND (one = 0 OR pg_has_role(coalesce(to_regrole(%s)::oid, 0), one, 'USAGE')))"""

_HIDDEN = """SELECT row_security_active(%s::oid), EXISTS (SELECT 1 FROM pg_policy, unnest(polroles) role
    WHERE polrelid = %s AND polpermissive AND polcmd IN ('r', '*') AND (role = 0 OR pg_has_role(role, 'USAGE')))"""

_TEXTS = ("text", "character varying", "character", "citext", "name")
_NUMBERS = ("numeric", "real", "double precision")
_WHOLE = ("smallint", "integer", "bigint")
_MOMENTS = ("timestamp with time zone", "timestamp without time zone")
_SPELT_AS_TEXT = ("uuid", "date", "interval", "inet", "time without time zone", "time with time zone", *_MOMENTS)
_JSON = ("jsonb", "json")
_TAKEN = {
    "string": (*_TEXTS, *_SPELT_AS_TEXT, *_JSON),
    "integer": (*_WHOLE, *_NUMBERS, *_JSON),
    "number": (*_NUMBERS, *_JSON),
    "boolean": ("boolean", *_JSON),
    "moment": _MOMENTS,
}


class PostgreSQLInspection:
    """A server: schemas, roles, and types that insist. `schema` is ours."""

    patience: Sequence[str] = ("SET LOCAL lock_timeout = '5s'",)

    def __init__(self, schema: str) -> None:
        self._schema = schema

    def tables(self, connection: Connection) -> list[Found]:
        asked = (self._schema, sorted(our_names()))
        return self._found(connection, connection.exec_driver_sql(_RELATIONS + _ON_THE_PATH, asked).all())

    def table(self, connection: Connection, schema: str | None, name: str) -> Found | None:
        condition, asked = _named(schema, name)
        rows = connection.exec_driver_sql(_RELATIONS + condition, asked).all()
        return next(iter(self._found(connection, rows)), None)

    def is_taken(self, connection: Connection, schema: str | None, name: str) -> bool:
        condition, asked = _named(schema, name)
        query = f"SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {condition}"
        return connection.exec_driver_sql(query, asked).first() is not None

    def _found(self, connection: Connection, relations: Sequence[Any]) -> list[Found]:
        keys = ([row.oid for row in relations],)
        columns = _by_table(connection.exec_driver_sql(_COLUMNS, keys))
        indexes = _by_table(connection.exec_driver_sql(_INDEXES, keys))
        references = _by_table(connection.exec_driver_sql(_REFERENCES, keys))
        return [
            Found(
                None if row.is_visible else row.nspname,
                row.relname,
                {one.name: _column(one) for one in columns[row.oid]},
                frozenset(name for one in indexes[row.oid] if one.is_unique for name in one.first),
                tuple(_reference(one) for one in references[row.oid]),
                tuple(_index(one) for one in indexes[row.oid]),
                row.rows, row.is_table, row.oid,
            )
            for row in relations
        ]  # fmt: skip

    def fits(self, kind: str, column: Column) -> bool:
        spelt = re.sub(r"\(.*?\)", "", column.type)
        if kind == "any" or kind.startswith("array") or kind == "object":
            member = kind.removeprefix("array of ")
            is_list = spelt.endswith("[]") and member in _TAKEN and self.fits(member, column._replace(type=spelt[:-2]))
            return spelt in _JSON or (kind.startswith("array of ") and is_list)
        return spelt in _TAKEN[kind] or (kind == "string" and bool(column.labels) and not spelt.endswith("[]"))

    def takes_any_text(self, column: Column) -> bool:
        return re.sub(r"\(.*?\)", "", column.type) not in _SPELT_AS_TEXT

    def longest(self, column: Column) -> int | None:
        found = re.match(r"character(?: varying)?\((\d+)\)", column.type)
        return int(found[1]) if found else None

    def refused(self, connection: Connection, table: Found, column: Column, values: Sequence[Any]) -> list[Any]:
        if column.labels:
            return [value for value in values if not _each(value) <= set(column.labels)]
        checks = connection.exec_driver_sql(_CHECKS, (table.key, column.name)).scalars().all()
        if not checks:
            return []
        passed = " AND ".join(f"({check})" for check in checks).replace("%", "%%")
        row = f"SELECT CAST(%s AS {column.type}) AS {quoted(column.name)}"
        query = f"SELECT NOT coalesce({passed}, true) FROM ({row}) given"
        is_list = column.type.endswith("[]")
        return [value for value in values if _is_true(connection, query, _as_held(value, is_list=is_list))]

    def views(self, connection: Connection, table: Found) -> list[Watch]:
        return [Watch(*row) for row in connection.exec_driver_sql(_VIEWS, (table.key,))]

    def ending_triggers(self, connection: Connection, table: Found) -> list[Watch]:
        return []  # none can

    def invoking_triggers(self, connection: Connection, table: Found) -> list[str]:
        found = connection.exec_driver_sql(_INVOKING, (table.key,))
        return [row.name for row in found if _GOES_ELSEWHERE.search(row.source)]

    def late_keys(self, connection: Connection, table: Found, *, runs_more: bool) -> list[str]:
        return []  # all are looked at while rows are written

    def missing_grants(
        self, connection: Connection, table: Found, needs: Mapping[str, Sequence[str] | None], role: str | None = None
    ) -> list[str]:
        lacking, place = role or self.role(connection), self._place(connection, table)

        def is_lacked(verb: str, columns: Sequence[str] | None) -> bool:
            asked = {"table": table.key, "columns": columns and list(columns), "verb": verb, "role": lacking}
            return bool(connection.exec_driver_sql(_LACKED, asked).scalar_one())

        def spelt(verb: str, columns: Sequence[str] | None) -> str:
            named = role is not None and verb == "UPDATE" and columns  # to others no more is given than they need
            return f"UPDATE ({', '.join(map(_quoted_where_needed, columns or ()))})" if named else verb

        lacked = [spelt(verb, columns) for verb, columns in needs.items() if columns != [] and is_lacked(verb, columns)]
        schema = connection.exec_driver_sql(_LACKED_SCHEMA, (table.key, lacking)).scalar()
        rights = [f"USAGE ON SCHEMA {schema}"] if schema else []
        rights += [f"{', '.join(lacked)} ON {place}"] if lacked else []
        if "INSERT" in needs:
            inserted = (table.key, list(needs["INSERT"] or ()), lacking)
            counts = connection.exec_driver_sql(_LACKED_SEQUENCES, inserted).scalars()
            rights += [f"USAGE ON SEQUENCE {name}" for name in counts]
        return [f"GRANT {right} TO {lacking};" for right in rights]

    def missing_policies(self, connection: Connection, table: Found, role: str, *, writes: bool) -> list[str]:
        if connection.exec_driver_sql(_WITHOUT_POLICY, (table.key, role)).first() is None:
            return []
        place, check = self._place(connection, table), " WITH CHECK (true)" if writes else ""
        of = "" if writes else " FOR SELECT"
        return [f"CREATE POLICY {role} ON {place}{of} TO {role} USING (true){check};"]

    def missing_to_make(self, connection: Connection) -> list[str]:
        may_use, may_make, database = connection.exec_driver_sql(
            "SELECT has_schema_privilege(to_regnamespace(%s), 'USAGE'),"
            " has_database_privilege(current_database(), 'CREATE'), quote_ident(current_database())",
            (quoted(self._schema),),
        ).one()
        if may_use or (may_use is None and may_make):
            return []
        given = f"CREATE ON DATABASE {database}" if may_use is None else APP_ROLE
        return [f"GRANT {given} TO {self.role(connection)};"]

    def owner(self, connection: Connection, table: Found) -> str | None:
        query = "SELECT CASE WHEN NOT pg_has_role(relowner, 'USAGE') THEN relowner::regrole::text END FROM pg_class"
        owner: str | None = connection.exec_driver_sql(f"{query} WHERE oid = %s", (table.key,)).scalar()
        return owner

    def hidden(self, connection: Connection, table: Found) -> Hidden:
        is_on, has_policy = connection.exec_driver_sql(_HIDDEN, (table.key, table.key)).one()
        return "none" if not is_on else "some" if has_policy else "all"

    def role(self, connection: Connection) -> str:
        role: str = connection.exec_driver_sql("SELECT quote_ident(current_user)").scalar_one()
        return role

    @staticmethod
    def _place(connection: Connection, table: Found) -> str:
        """A table by schema and name, as SQL."""
        query = "SELECT quote_ident(nspname) || '.' || quote_ident(relname) FROM pg_class c"
        place = connection.exec_driver_sql(
            f"{query} JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = %s", (table.key,)
        )
        return str(place.scalar_one())

    def is_same_type(self, one: str, other: str) -> bool:
        return _family(one) == _family(other)

    def is_castable(self, one: str, other: str) -> bool:
        families = {_family(one), _family(other)}
        return "text" in families or len(families) == 1 or families <= {"whole", *_NUMBERS}

    def is_key_type(self, spelt: str) -> bool:
        return _family(spelt) in ("text", "whole", "uuid")

    def add_text(self, place: str, column: str) -> str:
        return f"ALTER TABLE {place} ADD COLUMN IF NOT EXISTS {column} text"

    def drop_column(self, place: str, column: str) -> str:
        return f"ALTER TABLE {place} DROP COLUMN IF EXISTS {column}"

    def aside(self, statement: str) -> str | None:
        return statement.replace("CREATE INDEX ", "CREATE INDEX CONCURRENTLY ", 1)

    def run_aside(self, engine: Engine, statement: str) -> None:
        connection = engine.raw_connection()  # ours begin a transaction each
        try:
            connection.cursor().execute(statement)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DBAPIError(statement, None, error) from error
        finally:
            connection.close()


def _named(schema: str | None, name: str) -> tuple[str, tuple[str, ...]]:
    """The condition of what has this name, and what it asks for: to_regclass raises where a schema may not be used."""
    if schema is None:
        return "c.relname = %s AND pg_table_is_visible(c.oid)", (name,)
    return "c.relname = %s AND n.nspname = %s", (name, schema)


def _quoted_where_needed(name: str) -> str:
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) and name not in RESERVED_WORDS else quoted(name)


def _family(spelt: str) -> str:
    plain = re.sub(r"\(.*?\)", "", spelt)
    return "text" if plain in _TEXTS else "whole" if plain in _WHOLE else plain


def _by_table(rows: Any) -> Mapping[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row[0]].append(row)
    return found


def _reference(row: Any) -> Reference:
    return Reference(row.column, None if row.is_visible else row.schema, row.table, row.referred)


def _column(row: Any) -> Column:
    return Column(row.name, row.type, row.is_nullable, row.has_default, row.is_generated, tuple(row.labels))


def _index(row: Any) -> TableIndex:
    mentions = frozenset((*row.columns, *row.computed))  # what an index of a constraint holds is not among the latter
    return TableIndex(row.name, tuple(row.columns if row.is_btree else ()), mentions, row.is_valid)


def _each(value: Any) -> set[str]:
    return {str(one) for one in (value if isinstance(value, list) else [value])}


def _as_held(value: Any, *, is_list: bool) -> Any:
    """A value as the driver sends it: in a list, where the column holds lists; objects as JSON."""
    if is_list:
        return value if isinstance(value, list) else [value]
    return json.dumps(value) if isinstance(value, list | dict) else value


def _is_true(connection: Connection, query: str, value: Any) -> bool:
    """Whether the database says yes, or refuses the value already."""
    try:
        with connection.begin_nested():
            return bool(connection.exec_driver_sql(query, (value,)).scalar_one())
    except DBAPIError:
        return True
