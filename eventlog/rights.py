"""Who may do what on PostgreSQL: the owner all, the application role what its work takes, and nobody else anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

APP_ROLE = "enrichlog_app"
"""A role without a login, whose members may run everything but `init`. It is of the whole server, as all roles are."""

OWNER_POLICY = "enrichlog_owner"
"""What lets a table's owner see its rows; on the users' tables it tells those that we have made."""

ROWS = "SELECT, INSERT, UPDATE, DELETE"
VERBS = {
    "events": "SELECT, INSERT",
    "alembic_version": "SELECT",
    "checkpoints": "SELECT, INSERT, UPDATE",
    "job_postings": "SELECT, INSERT, UPDATE",
    "llm_enrichment": "SELECT, INSERT, UPDATE",
    "jobs_needing_retry": "SELECT",
}
"""What the application role may do where that is less than with most tables. Nobody but an owner may TRUNCATE."""

FUNCTIONS = ("is_erased(text, integer)", "refuse_change()")
"""Those of our triggers, in the order in which they can be dropped; PostgreSQL would let everybody call them."""


def owners_rows(schema: str, ours: Iterable[str], theirs: Iterable[str]) -> str:
    """The statement that has row security on our tables, those that are there, and lets their owner see their rows.

    An owner that they were handed to since is let too, on those as well that we have made for the users.
    """
    return _ROW_SECURITY.format(
        relations=_listed(map(_literal, _places(schema, ours))),
        theirs=_listed(map(_literal, theirs)),
        owner_policy=OWNER_POLICY,
    )


def rights(schema: str, ours: Iterable[str], theirs: Iterable[str]) -> Iterator[str]:
    """The statements that give the rights to tables and views of ours, and to those that we have made for the users.

    The schema is in quotes. Each looks at what is there first: run again, it locks no table and changes nothing.
    """
    names, theirs = _places(schema, ours), list(theirs)
    verbs = {name: VERBS.get(name.rpartition(".")[2].strip('"'), ROWS) for name in (*names, *theirs)}
    yield _ROLE.format(role=APP_ROLE)
    yield _CLOSING.format(
        schema_text=_literal(schema),
        relations=_listed(map(_literal, names)),
        functions=_listed(_literal(f"{schema}.{name}") for name in FUNCTIONS),
    )
    yield _GRANTING.format(
        schema=schema,
        schema_text=_literal(schema),
        given=_listed(f"({_literal(name)}, {_literal(some)})" for name, some in verbs.items()),
        role=APP_ROLE,
    )


def _places(schema: str, names: Iterable[str]) -> list[str]:
    return [f'{schema}."{name}"' for name in names]


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _listed(parts: Iterable[str]) -> str:
    return ",\n        ".join(parts)


_ROLE = """
-- The application role, unless this user may not make it: init says so, and what to do.
DO $rights$
BEGIN
    IF to_regrole('{role}') IS NULL THEN
        CREATE ROLE {role} NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL;  -- another database of this server was faster
    WHEN insufficient_privilege THEN
        RAISE NOTICE 'There is no role {role}, and % may not create it', current_user;
END
$rights$"""

_ROW_SECURITY = """
-- Without a policy row security shows a role no row, whatever it was granted; it is forced for the owner too.
DO $rights$
DECLARE
    relations CONSTANT regclass[] := (SELECT array_agg(to_regclass(name)) FROM unnest(ARRAY[
        {relations}
    ]) AS name);
    theirs CONSTANT regclass[] := (SELECT array_agg(to_regclass(name)) FROM unnest(ARRAY[
        {theirs}
    ]::text[]) AS name);
    one record;
BEGIN
    FOR one IN
        SELECT pg_class.oid::regclass AS place, relowner::regrole AS owner,
               polroles, polroles = ARRAY[relowner] AS is_owners,
               is_theirs OR relrowsecurity AS is_on, is_theirs OR relforcerowsecurity AS is_forced
        FROM (SELECT unnest(relations), false UNION ALL SELECT unnest(theirs), true) AS given (place, is_theirs)
        JOIN pg_class ON pg_class.oid = given.place
        LEFT JOIN pg_policy ON polrelid = pg_class.oid AND polname = '{owner_policy}'
        WHERE relkind IN ('r', 'p') AND pg_has_role(relowner, 'USAGE') AND (polroles IS NOT NULL OR NOT is_theirs)
    LOOP
        IF one.polroles IS NULL THEN
            EXECUTE format(
                'CREATE POLICY {owner_policy} ON %s TO %s USING (true) WITH CHECK (true)', one.place, one.owner
            );
        ELSIF NOT one.is_owners THEN
            EXECUTE format('ALTER POLICY {owner_policy} ON %s TO %s', one.place, one.owner);
        END IF;
        IF NOT one.is_on THEN
            EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', one.place);
        END IF;
        IF NOT one.is_forced THEN
            EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', one.place);
        END IF;
    END LOOP;
END
$rights$"""

_CLOSING = """
-- Nothing of ours is for roles that were not granted it by name. A hosted database grants every new table to anon and
-- authenticated, whom anybody on the internet can be. The schema public is not ours to close: others' tables are in it.
DO $rights$
DECLARE
    relations CONSTANT regclass[] := (SELECT array_agg(to_regclass(name)) FROM unnest(ARRAY[
        {relations}
    ]) AS name);
    functions CONSTANT regprocedure[] := (SELECT array_agg(to_regprocedure(name)) FROM unnest(ARRAY[
        {functions}
    ]) AS name);
    one record;
BEGIN
    FOR one IN
        WITH places AS (
            SELECT 'TABLE' AS kind, oid::regclass::text AS place, relowner AS owner
            FROM pg_class WHERE oid = ANY(relations)
            UNION ALL
            SELECT 'SEQUENCE', pg_class.oid::regclass::text, relowner FROM pg_class
            JOIN pg_depend ON classid = 'pg_class'::regclass AND objid = pg_class.oid AND deptype IN ('a', 'i')
            WHERE refobjid = ANY(relations) AND relkind = 'S'
            UNION ALL
            SELECT 'FUNCTION', oid::regprocedure::text, proowner FROM pg_proc WHERE oid = ANY(functions)
            UNION ALL
            SELECT 'SCHEMA', oid::regnamespace::text, nspowner FROM pg_namespace
            WHERE oid = to_regnamespace({schema_text}) AND nspname <> 'public'
        ), strangers AS (
            SELECT 'PUBLIC' AS stranger, 0::oid AS role
            UNION ALL
            SELECT quote_ident(rolname), oid FROM pg_roles WHERE rolname IN ('anon', 'authenticated', 'service_role')
        )
        SELECT kind, place, stranger FROM places CROSS JOIN strangers
        WHERE pg_has_role(owner, 'USAGE') AND role <> owner
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM %s', one.kind, one.place, one.stranger);
    END LOOP;
END
$rights$"""

_GRANTING = """
-- Members of the application role work with the rows of our tables and append to the log; no more.
DO $rights$
DECLARE
    one record;
BEGIN
    IF to_regrole('{role}') IS NULL THEN
        RETURN;
    END IF;
    IF NOT has_schema_privilege(to_regrole('{role}'), to_regnamespace({schema_text}), 'USAGE') THEN
        GRANT USAGE ON SCHEMA {schema} TO {role};
    END IF;
    FOR one IN
        WITH given AS (
            SELECT to_regclass(name) AS place, verbs FROM (VALUES
        {given}
            ) AS given (name, verbs)
        ), places AS (
            SELECT 'TABLE' AS kind, place, verbs FROM given
            UNION ALL
            SELECT 'SEQUENCE', objid::regclass, 'USAGE' FROM given
            JOIN pg_depend ON classid = 'pg_class'::regclass AND refobjid = place AND deptype IN ('a', 'i')
            WHERE verbs LIKE '%INSERT%'
        )
        SELECT kind, place, verbs, relkind IN ('r', 'p') AND NOT EXISTS (
            SELECT FROM pg_policy WHERE polrelid = place AND polname = '{role}'
        ) AS needs_policy
        FROM places JOIN pg_class ON oid = place
        WHERE pg_has_role(relowner, 'USAGE') AND relowner <> to_regrole('{role}') AND (kind = 'TABLE' OR relkind = 'S')
    LOOP
        EXECUTE format('REVOKE ALL ON %s %s FROM {role}', one.kind, one.place);
        EXECUTE format('GRANT %s ON %s %s TO {role}', one.verbs, one.kind, one.place);
        IF one.needs_policy THEN
            EXECUTE format('CREATE POLICY {role} ON %s TO {role} USING (true) WITH CHECK (true)', one.place);
        END IF;
    END LOOP;
END
$rights$"""
