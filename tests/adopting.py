"""Looking at a database that is adopted: its whole make-up, and that of the users' tables alone."""

from typing import Any

from eventlog.database import Database
from tests.builders import run

MODEL = ("--result-model", "tests.adopted:DataJob")
DATA = ("--where", "title_classification = 'Data'")
THEIRS = ("companies", "job_descriptions", "job_postings", "llm_enrichment")

_MADE = {
    "sqlite": "SELECT type AS kind, name, tbl_name AS of, coalesce(sql, '') AS text FROM sqlite_master",
    "postgresql": """
        SELECT 'column' AS kind, c.relnamespace::regnamespace || '.' || attname AS name, c.relname AS of,
            format_type(atttypid, atttypmod) || ' ' || attnotnull || ' ' || coalesce(attacl::text, '') AS text
        FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
        WHERE attnum > 0 AND NOT attisdropped AND c.relkind IN ('r', 'v')
            AND c.relnamespace::regnamespace::text !~ '^pg_|information_schema'
        UNION ALL SELECT 'index', schemaname || '.' || indexname, tablename, indexdef FROM pg_indexes
            WHERE schemaname !~ '^pg_'
        UNION ALL SELECT 'constraint', conname, conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE connamespace::regnamespace::text !~ '^pg_|information_schema'
        UNION ALL SELECT 'rights', nspname || '.' || relname, relname, coalesce(relacl::text, '') || relrowsecurity
            FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname !~ '^pg_|information_schema'
        UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, tgrelid::regclass::text, pg_get_triggerdef(oid)
            FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'policy', schemaname || '.' || policyname, tablename, roles::text || cmd || qual
            FROM pg_policies
        UNION ALL SELECT 'schema', nspname, '', coalesce(nspacl::text, '') FROM pg_namespace WHERE nspname !~ '^pg_'""",
}


def made(database: Database) -> list[tuple[Any, ...]]:
    """All that is made in a database."""
    return sorted(tuple(row.values()) for row in run(database, _MADE[database.dialect.name]))


def made_of_theirs(database: Database) -> list[tuple[Any, ...]]:
    """What of it is of their tables."""
    return [one for one in made(database) if one[2] in THEIRS and "enrichlog" not in one[1]]


def rows(database: Database) -> list[Any]:
    """All rows of their tables."""
    return [run(database, f"SELECT * FROM {name} ORDER BY 1") for name in THEIRS]
