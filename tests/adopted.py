"""A database that was there before us: postings, companies, descriptions, and a table with a row for each's result."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, create_model

from enrichlog.adopted import adopted_of
from enrichlog.settings import Settings, configure
from eventlog import migration
from eventlog.database import Database
from projections.adoption import Adopted, Source, Target
from tests.builders import run

TEXTS = (
    "rol_titel", "functie_omschrijving", "opleidingsniveau", "werkervaring", "contract_soort", "thuiswerkbeleid",
    "salaris_periode", "salaris_valuta", "sector", "team_omschrijving", "locatie_plaats", "locatie_land",
    "visum_sponsoring", "reisbereidheid", "samenvatting_kort_nl", "samenvatting_kort_fr", "samenvatting_kort_en",
    "samenvatting_lang_nl", "samenvatting_lang_fr", "samenvatting_lang_en",
)  # fmt: skip
LISTS = (
    "rolniveau", "seniority", "must_have_programmeertalen", "nice_to_have_programmeertalen", "must_have_ecosystemen",
    "nice_to_have_ecosystemen", "must_have_talen", "certificaten", "methodieken",
)  # fmt: skip
PERKS = ("perk_auto", "perk_fiets", "perk_bonus", "perk_pensioen", "perk_opleiding", "perk_laptop")
NUMBERS = ("salaris_minimum", "salaris_maximum", "uren_per_week", "vakantiedagen", "teamgrootte")
DATAROLLEN = ("Data Engineer", "Data Analyst", "Data Scientist", "BI Developer", "Other")
SOURCING = ("direct", "agency", "unknown")

QUERY = """SELECT posting.id, posting.title, company.name AS company, described.full_description_text AS description
FROM job_postings posting
LEFT JOIN companies company ON company.id = posting.company_id
LEFT JOIN job_descriptions described ON described.job_posting_id = posting.id
WHERE posting.title_classification = 'Data'"""


class Labels(BaseModel):
    """Free labels."""

    model_config = ConfigDict(extra="forbid")

    topics: list[str]
    score: float


_FIELDS: dict[str, Any] = {
    **dict.fromkeys(TEXTS, (str | None, ...)),
    **dict.fromkeys(LISTS, (list[str], ...)),
    **dict.fromkeys(PERKS, (str | None, ...)),
    **dict.fromkeys(NUMBERS, (int | None, ...)),
    "type_datarol": (Literal[DATAROLLEN], ...),
    "sourcing_type": (Literal[SOURCING], ...),
    "remote": (bool | None, ...),
    "labels": (Labels, ...),
}

DataJob: type[BaseModel] = create_model(
    "DataJob", __config__=ConfigDict(extra="forbid"), __module__=__name__, **_FIELDS
)
"""What is asked of the model: the fields of the table that was there before us."""


POSTGRESQL = f"""
CREATE TABLE companies (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE job_postings (
    id uuid PRIMARY KEY, title text NOT NULL, company_id uuid REFERENCES companies, title_classification text,
    is_active boolean NOT NULL DEFAULT true, needs_ranking boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE job_descriptions (
    job_posting_id uuid PRIMARY KEY REFERENCES job_postings ON DELETE CASCADE, full_description_text text
);
CREATE TABLE llm_enrichment (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    job_posting_id uuid NOT NULL UNIQUE REFERENCES job_postings ON DELETE CASCADE,
    {", ".join(f"{name} text" for name in TEXTS)},
    {", ".join(f"{name} text[]" for name in LISTS)},
    {", ".join(f"{name} varchar(20)" for name in PERKS)},
    {", ".join(f"{name} integer" for name in NUMBERS)},
    type_datarol text CHECK (type_datarol IN ({", ".join(f"'{name}'" for name in DATAROLLEN)})),
    sourcing_type text CONSTRAINT sourcing_is_known CHECK (sourcing_type IN ('direct', 'agency', 'unknown')),
    remote boolean, labels jsonb DEFAULT '{{}}',
    enrichment_completed_at timestamptz, enrichment_model_version text, note text
);
"""

SQLITE = (
    POSTGRESQL.replace("uuid", "TEXT").replace(" DEFAULT gen_random_TEXT()", " DEFAULT (lower(hex(randomblob(16))))")
    .replace("text[]", "TEXT").replace("jsonb", "TEXT").replace("timestamptz", "TEXT")
    .replace("DEFAULT now()", "DEFAULT CURRENT_TIMESTAMP")
)  # fmt: skip


def make_tables(database: Database, *, error_column: bool = True) -> None:
    """Make the tables, with or without the column of errors."""
    script = POSTGRESQL if database.dialect.name == "postgresql" else SQLITE
    with database.write() as connection:
        for statement in script.split(";"):
            if statement.strip():
                connection.exec_driver_sql(statement)
        if error_column:
            connection.exec_driver_sql("ALTER TABLE llm_enrichment ADD COLUMN enrichment_error text")


def job_id(number: int) -> str:
    """The id of the posting of this number."""
    return str(uuid.UUID(int=number))


COMPANY = str(uuid.UUID(int=2**100))


def add_postings(database: Database, numbers: range | list[int], classification: str = "Data") -> None:
    """Postings with their descriptions and an empty row for the results of each."""
    with database.write() as connection:
        connection.exec_driver_sql(f"INSERT INTO companies VALUES ('{COMPANY}', 'Acme') ON CONFLICT DO NOTHING")
        for number in numbers:
            one = job_id(number)
            for statement in (
                "INSERT INTO job_postings (id, title, company_id, title_classification)"
                f" VALUES ('{one}', 'Data engineer {number}', '{COMPANY}', '{classification}')",
                f"INSERT INTO job_descriptions VALUES ('{one}', 'We look for a data engineer, number {number}.')",
                f"INSERT INTO llm_enrichment (job_posting_id) VALUES ('{one}')",
            ):
                connection.exec_driver_sql(statement)


def columns() -> dict[str, Any]:
    """The mapping of the table: each field of the result to the column of its name."""
    fields = {name: name for name in DataJob.model_fields}
    known = {name: f"@{name.removeprefix('enrichment_')}" for name in ("enrichment_error", "enrichment_completed_at")}
    return {**fields, **known, "enrichment_model_version": "@model_version"}


def settings_of(database: Database, query: str = QUERY, **target: Any) -> Settings:
    """The settings with which the database is adopted; `target` replaces what they say of the table of results."""
    told = {"columns": columns(), **target}
    return configure(database=database.url, source={"query": query}, target=told, result_model="tests.adopted:DataJob")


def settings_file(**target: Any) -> str:
    """The same settings as the text of a file."""
    told = {"columns": columns(), **target}
    lines = [f"{name} = {_inline(value)}" for name, value in told.items()]
    return "\n".join(
        ['result_model = "tests.adopted:DataJob"', "[source]", f"query = {json.dumps(QUERY)}", "[target]", *lines]
    )


def _inline(value: Any) -> str:
    """A value of TOML, which takes the texts of JSON."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(name)} = {_inline(one)}" for name, one in value.items()) + " }"
    return json.dumps(value)


def a_result(**fields: Any) -> dict[str, Any]:
    """A result that the model of results and the table take."""
    values: dict[str, Any] = {
        **{name: f"{name} of it" for name in TEXTS},
        **{name: ["one", "two, with \"quotes\" and {braces}"] for name in LISTS},
        **dict.fromkeys(PERKS, "yes"),
        **{name: number for number, name in enumerate(NUMBERS, 1)},
        "type_datarol": "Data Engineer", "sourcing_type": "direct", "remote": True,
        "labels": {"topics": ["lakes", "é"], "score": 0.5},
    }  # fmt: skip
    return values | fields


def row_of(database: Database, number: int) -> Mapping[str, Any]:
    """The row of a posting as the driver has it, lists and objects read."""
    (row,) = run(database, f"SELECT * FROM llm_enrichment WHERE job_posting_id = '{job_id(number)}'")
    read = {name: json.loads(row[name]) for name in (*LISTS, "labels") if isinstance(row[name], str)}
    return {**row, **read}


def set_row(database: Database, number: int, **values: Any) -> None:
    """Write into a row as the programs do that were there before us."""
    assigned = ", ".join(f"{name} = {_told(database, value)}" for name, value in values.items())
    run(database, f"UPDATE llm_enrichment SET {assigned} WHERE job_posting_id = '{job_id(number)}'")


def _told(database: Database, value: Any) -> str:
    """A value as SQL."""
    match value:
        case None:
            return "NULL"
        case bool() | int():
            return str(value)
        case list() if database.dialect.name == "postgresql":
            return f"ARRAY[{', '.join(_told(database, one) for one in value)}]::text[]"
        case list() | dict():
            return _told(database, json.dumps(value))
    return "'" + str(value).replace("'", "''") + "'"


def adopt(url: str) -> Database:
    """A migrated database whose own tables of postings and results make room for those that were there before us."""
    database = Database(url)
    view = "DROP VIEW IF EXISTS jobs_needing_retry"
    for statement in (view, "DROP TABLE IF EXISTS llm_enrichment", "DROP TABLE IF EXISTS job_postings"):
        run(database, statement)
    make_tables(database)
    return look_up(database)


def make_adopted(url: str) -> None:
    """Make a database with tables of others, and ours beside them; leaves no connection to it."""
    theirs, ours = Database(url), Database(url, adopted=Adopted(Source(QUERY), Target(None, "", "", "", ())))
    theirs.dialect.create_place()
    make_tables(theirs)
    theirs.close()
    migration.migrate(ours)
    ours.close()


def look_up(database: Database, query: str = QUERY, **target: Any) -> Database:
    """Adopt what the database has by now; `target` replaces what the settings say of the table of results."""
    found = adopted_of(settings_of(database, query, **target))
    assert found is not None
    with database.read() as connection:
        database.adopted = found.looked_up(database, connection)
    return database


def write_settings(folder: Path, query: str = QUERY) -> None:
    """The file of settings of somebody who has adopted the database."""
    columns_told = "\n".join(f'{name} = "{told}"' for name, told in columns().items())
    (folder / "enrichlog.toml").write_text(
        f"result_model = \"tests.adopted:DataJob\"\n[source]\nquery = '''\n{query}\n'''\n"
        f'[target]\ntable = "llm_enrichment"\n[target.columns]\n{columns_told}\n'
    )
