"""What is found to be wrong before a database is adopted: all at once, each with what to do, and nothing is changed."""

import uuid
from datetime import datetime
from typing import Any, Literal

import psycopg
import pytest
from pydantic import BaseModel, Field
from sqlalchemy import make_url

from enrichlog.adoption_checks import check, require_fit
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import Unadoptable
from enrichlog.findings import Findings
from enrichlog.place import database_of
from enrichlog.result_fields import fields_of
from enrichlog.settings import Settings, configure
from eventlog.database import Database
from tests.adopted import QUERY, add_postings, columns, make_tables
from tests.adopting import DATA, MODEL, made
from tests.builders import run
from tests.command_line import Command


class Pay(BaseModel):
    """What is paid."""

    minimum: int
    currency: Literal["EUR", "USD", "GBP"] | None


class Result(BaseModel):
    """A result of each kind of field."""

    title: str = Field(max_length=10)
    kinds: list[str]
    sizes: list[int]
    pay: Pay
    score: float
    sure: bool
    seniority: Literal["junior", "senior"] | None
    anything: list[Pay]
    note: str | None


def test_fields_are_told_by_path_and_kind() -> None:
    found = fields_of(Result)
    assert {".".join(path): sorted(field.kinds) for path, field in found.items()} == {
        "title": ["string"], "kinds": ["array of string"], "sizes": ["array of integer"], "pay": ["object"],
        "pay.minimum": ["integer"], "pay.currency": ["string"], "score": ["number"], "sure": ["boolean"],
        "seniority": ["string"], "anything": ["array"], "note": ["string"],
    }  # fmt: skip
    assert (found["title",].longest, found["pay", "currency"].values) == (10, ("EUR", "USD", "GBP"))
    assert (found["note",].is_nullable, found["title",].is_nullable) == (True, False)


@pytest.fixture
def theirs(bare: Any, empty_database: Database) -> Database:
    """Their tables with a few rows."""
    make_tables(empty_database)
    add_postings(empty_database, range(3))
    return empty_database


def adopting(database: Database, query: str = QUERY, model: str = "tests.adopted:DataJob", **target: Any) -> Settings:
    """Settings that adopt it so."""
    told = {"columns": columns(), **target}
    return configure(database=database.url, source={"query": query}, target=told, result_model=model)


def findings(database: Database, query: str = QUERY, **target: Any) -> Findings:
    """What is found where it is adopted so, types known as when it is."""
    settings = adopting(database, query, **target)
    adopted = database_of(settings)
    assert adopted.adopted is not None
    with adopted.read() as connection:
        adopted.adopted = adopted.adopted.looked_up(adopted, connection)
    return check(adopted, settings)


def has(told: list[str], *parts: str) -> bool:
    return any(all(part in one for part in parts) for one in told)


def test_tables_that_fit_have_no_faults(theirs: Database) -> None:
    assert findings(theirs).faults == []


def test_all_that_is_wrong_with_a_mapping_is_told_at_once(theirs: Database) -> None:
    wrong = {
        "rol_titell": "rol_titel", "note": "rol_titell", "sector": "rolniveau", "uren_per_week": "sector",
        "labels": "labels.score", "remote": "remote.x", "job_posting_id": "sector", "perk_auto": {"constant": 5},
        "enrichment_completed_at": "@error", "enrichment_error": "@completed_at", "vakantiedagen": "labels.score",
    }  # fmt: skip
    before = made(theirs)
    found = findings(theirs, columns={**columns(), **wrong})
    assert made(theirs) == before
    everywhere = (
        ("llm_enrichment has no column rol_titell",),
        ("note is to have rol_titell, which is no field of the result model",),
        ("The column uren_per_week is integer, and the field sector is text: map it to a column of type text",),
        ("remote is to have remote.x, which is no field",),
        ("job_posting_id is the id of the row",),
        ("perk_auto is ", "a constant is an integer"),
        ("vakantiedagen is integer, and the field labels.score is a number",),
    )
    on_a_server = (
        ("enrichment_error is text, and @completed_at is a time with its zone",),
        ("sector is text, and the field rolniveau is a list of texts: map it to a column of type text[] or jsonb",),
    )
    for parts in everywhere:
        assert (parts, has(found.faults, *parts)) == (parts, True), found.faults
    for parts in on_a_server:  # a file keeps lists and times as texts
        assert (parts, has(found.faults, *parts)) == (parts, theirs.dialect.name == "postgresql")
    assert has(found.warnings, "labels.topics: no column takes it")


def test_a_field_that_goes_nowhere_is_told_and_what_the_table_would_not_show(theirs: Database) -> None:
    lacking = ("sector", "enrichment_error", "enrichment_completed_at")
    found = findings(theirs, columns={name: told for name, told in columns().items() if name not in lacking})
    assert found.faults == []
    assert has(found.warnings, "sector: no column takes it. It is kept in the log only")
    assert has(found.warnings, "No column is mapped to @error: failures will not be seen in llm_enrichment.")
    assert has(found.warnings, "No column is mapped to @completed_at", "passes for a result", "a default such as {}")
    assert has(found.warnings, "Map a column of times to it: --map COLUMN=@completed_at.")


@pytest.mark.parametrize(
    ("statements", "target", "faults"),
    [
        ([], {"table": "nowhere"}, ["There is no table nowhere: name it with --table. There are companies, job_desc"]),
        ([], {"id_column": "posting"}, ["llm_enrichment has no column posting: name the one that has the"]),
        ([], {"id_column": "note"}, ["llm_enrichment.note is not unique", "UNIQUE INDEX ON llm_enrichment (note);"]),
        (["CREATE VIEW shown AS SELECT * FROM llm_enrichment"], {"table": "shown"}, ["shown is a view: name"]),
        ([], {"after_success": "UPDATE job_postings SET needs_ranked = true WHERE id = :id"},
         ["after_success does not run: ", "needs_ranked"]),
        ([], {"after_success": "UPDATE job_postings SET needs_ranking = true"}, ["after_success names no :id"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_table_is_told(
    theirs: Database, statements: list[str], target: dict[str, Any], faults: list[str]
) -> None:
    for statement in statements:
        run(theirs, statement)
    told = findings(theirs, **target).faults
    for fault in faults:
        assert has(told, fault), told


def test_what_is_wrong_with_query_mapping_and_sql_after_a_success_is_told_at_once(theirs: Database) -> None:
    told = findings(
        theirs, "SELECT id, title FROM job_postings", columns={**columns(), "note": "no_field"},
        after_success="UPDATE job_postings SET needs_ranked = true WHERE id = :id",
    ).faults  # fmt: skip
    assert len(told) == 3
    for part in ("The source query: It has no column desc", "note is to have no_field", "after_success does not run: "):
        assert has(told, part), told


def test_sql_after_a_success_is_tried_and_taken_back(theirs: Database) -> None:
    after = "INSERT INTO companies SELECT id, 'x' FROM job_postings WHERE CAST(:id AS text) <> ''"
    assert findings(theirs, after_success=after).faults == []
    assert run(theirs, "SELECT name FROM companies") == [{"name": "Acme"}]
    told = "INSERT INTO job_descriptions VALUES (:id, 'of no posting')"
    assert findings(theirs, after_success=told).faults == []  # that the posting is not there is no wonder


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        ("UPDATE llm_enrichment SET sector = upper(sector), note = 'x' WHERE job_posting_id = :id", "sector"),
        ('update "llm_enrichment" as e set note = sector, "remote"=true where job_posting_id = :id', "remote"),
        ("UPDATE llm_enrichment SET (note, sector, remote) = ('a', 'b', NULL) WHERE job_posting_id = :id",
         "sector, remote"),
        ("UPDATE llm_enrichment SET note = sector WHERE job_posting_id = :id AND sector = 'IT'", None),
        ("UPDATE job_postings SET title = 'x' FROM llm_enrichment WHERE sector = 'IT' AND job_postings.id = :id", None),
    ],
)  # fmt: skip
def test_sql_after_a_success_that_sets_a_mapped_column_is_told(theirs: Database, sql: str, told: str | None) -> None:
    found = findings(theirs, after_success=sql)
    assert found.faults == []
    assert [one for one in found.warnings if one.startswith("after_success")] == (
        [] if told is None else [
            f"after_success sets {told}, where the result is shown: verify would take each for edited by hand. Have it "
            "set other columns, or take these out of [target.columns]."
        ]
    )  # fmt: skip


def test_keys_of_other_tables_that_only_a_commit_looks_at_are_told_where_a_result_sets_something_off(
    theirs: Database,
) -> None:
    said = "told_log: a foreign key there is looked at as a transaction ends"
    on_a_server = theirs.dialect.name == "postgresql"  # where they are looked at before
    kind = "uuid" if on_a_server else "text"
    run(theirs, f"CREATE TABLE told_log (id {kind} REFERENCES job_postings DEFERRABLE INITIALLY DEFERRED)")
    assert not has(findings(theirs).warnings, said)
    after = "INSERT INTO told_log VALUES (:id)"
    assert has(findings(theirs, after_success=after).warnings, said) is not on_a_server
    if not on_a_server:
        trigger = "AFTER UPDATE ON llm_enrichment BEGIN INSERT INTO told_log VALUES (NEW.note); END"
        run(theirs, f"CREATE TRIGGER telling {trigger}")
        assert has(findings(theirs).warnings, said)


def test_a_column_that_must_be_filled_is_a_fault_unless_each_posting_has_its_row(theirs: Database) -> None:
    run(theirs, "ALTER TABLE llm_enrichment ADD COLUMN owner text NOT NULL DEFAULT 'x'")
    assert findings(theirs).faults == []
    kinds = ("uuid", "timestamptz") if theirs.dialect.name == "postgresql" else ("text", "text")
    made = "posting_id {} PRIMARY KEY, owner text NOT NULL, failure text, done {}".format(*kinds)
    run(theirs, f"CREATE TABLE other ({made})")
    told: dict[str, Any] = {
        "table": "other",
        "id_column": "posting_id",
        "columns": {"failure": "@error", "done": "@completed_at"},
    }
    assert has(findings(theirs, **told).faults, "Not every posting has a row in other, and a new one would lack owner")
    run(theirs, "INSERT INTO other (posting_id, owner) SELECT id, 'x' FROM job_postings")
    assert findings(theirs, **told).faults == []


def test_values_that_a_constraint_refuses_are_told(theirs: Database) -> None:
    swapped = {**columns(), "sourcing_type": "type_datarol", "type_datarol": {"constant": "Data Wizard"}}
    found = findings(theirs, columns=swapped)
    assert found.faults == []
    assert has(found.warnings, "sourcing_type refuses Data Engineer, Data Analyst, Data Scientist, BI Developer, Other")
    assert has(found.warnings, "type_datarol refuses Data Wizard")


def test_a_view_that_takes_completed_for_enriched_is_told_with_what_to_add(theirs: Database) -> None:
    told = "SELECT job_posting_id FROM llm_enrichment WHERE enrichment_completed_at IS NOT NULL"
    run(theirs, f"CREATE VIEW enriched AS {told}")
    run(theirs, f"CREATE VIEW enriched_well AS {told} AND enrichment_error IS NULL")
    run(theirs, f"CREATE VIEW whole_rows AS {told.replace('job_posting_id', '*')}")  # the error is shown, not minded
    warning, other = sorted(one for one in findings(theirs).warnings if "view" in one)
    assert other.startswith("The view whole_rows takes")
    assert warning == (
        "The view enriched takes enrichment_completed_at IS NOT NULL for enriched, which holds for failures too: "
        "add AND enrichment_error IS NULL to it."
    )


def test_an_index_that_holds_whole_messages_is_told(theirs: Database) -> None:
    run(theirs, "CREATE INDEX by_error ON llm_enrichment (enrichment_error)")
    assert has(
        findings(theirs).warnings, "The index by_error holds enrichment_error whole", "left(enrichment_error, 200)"
    )


def test_a_table_that_has_changed_since_stops_a_run_before_anybody_is_called(theirs: Database) -> None:
    settings = adopting(theirs)
    adopted, enrichment = database_of(settings), enrichment_of(settings)
    require_fit(adopted, settings, enrichment)
    run(theirs, "ALTER TABLE llm_enrichment DROP COLUMN sector")
    with pytest.raises(Unadoptable, match=r"llm_enrichment has no column sector.* See all .* enrichlog adopt --d"):
        require_fit(adopted, settings, enrichment)


def test_a_trigger_that_ends_our_transaction_is_refused(bare: Any, files: Any) -> None:
    database = Database(files.empty())
    make_tables(database)
    for name, word in (("gentle", "ABORT"), ("harsh", "ROLLBACK")):
        run(
            database,
            f"CREATE TRIGGER {name} BEFORE UPDATE ON llm_enrichment WHEN new.note = '{name}' BEGIN SELECT "
            f"RAISE({word}, 'no'); END",
        )
    (fault,) = [one for one in findings(database).faults if "trigger" in one]
    assert fault.startswith("The trigger harsh on llm_enrichment rolls back the whole transaction")
    database.close()


@pytest.fixture
def on_a_server(bare: Any, server_databases: Any) -> Any:
    """The same tables on PostgreSQL, for what is true of it alone."""
    database = Database(server_databases.empty())
    make_tables(database)
    add_postings(database, range(3))
    yield database
    database.close()
    server_databases.drop(database.url)


def test_types_of_a_server_are_looked_at(on_a_server: Database) -> None:
    run(on_a_server, "CREATE TYPE grade AS ENUM ('junior')")
    run(on_a_server, """CREATE TABLE results (
        nr bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, job text UNIQUE DEFERRABLE INITIALLY DEFERRED,
        title varchar(5), kinds text[], sizes int[], pay jsonb, score int, sure boolean, seniority grade,
        anything jsonb[], note text GENERATED ALWAYS AS (title || 'x') STORED, failure varchar(100), done date,
        key double precision UNIQUE)""")  # fmt: skip
    names = ("title", "kinds", "sizes", "pay", "score", "sure", "seniority", "anything", "note")
    mapped = {**{name: name for name in names}, "failure": "@error", "done": "@completed_at"}
    query = "SELECT id::text AS id, title, title AS description FROM job_postings"
    settings = configure(
        database=on_a_server.url, source={"query": query}, result_model="tests.test_adoption_checks:Result",
        target={"table": "results", "id_column": "job", "columns": mapped},
    )  # fmt: skip
    found = check(database_of(settings), settings)
    assert sorted(one.partition(":")[0] for one in found.faults) == [
        "The column anything is jsonb[], and the field anything is a list",
        "The column done is date, and @completed_at is a time with its zone, such as timestamptz",
        "The column score is integer, and the field score is a number",
        "note is filled by the database itself and cannot be written",
    ]
    for parts in (
        ("title: at most 5 characters fit, and the result model allows more", "max_length=5"),
        ("failure takes 100 characters and messages have up to 2,000", "TYPE text;"),
        ("seniority refuses senior",),
    ):
        assert (parts, has(found.warnings, *parts)) == (parts, True), found.warnings
    for column, fault in (
        ("nr", "nr is filled by the database itself, so no row can be made for a posting"),
        ("key", "key is double precision: ids are uuid, texts or whole numbers"),
    ):
        told = {"table": "results", "id_column": column, "columns": mapped}
        again = configure(target=told)
        assert has(check(database_of(again), again).faults, fault)


def test_ids_of_two_types_are_told_with_the_cast(on_a_server: Database) -> None:
    query = QUERY.replace("posting.id", "posting.id::text AS id", 1)
    assert has(findings(on_a_server, query).faults, "The source's id is text and llm_enrichment.job_posting_id is uuid")


@pytest.mark.parametrize(
    ("told", "held", "is_cast"), [("uuid", "integer", False), ("bigint", "uuid", False), ("text", "integer", True)]
)
def test_of_ids_of_which_no_cast_makes_the_others_it_is_said_that_they_cannot_be_the_same(
    on_a_server: Database, told: str, held: str, *, is_cast: bool
) -> None:
    run(on_a_server, f"ALTER TABLE llm_enrichment ADD COLUMN nr {held} UNIQUE")
    query = f"SELECT CAST(NULL AS {told}) AS id, 'x' AS title, 'y' AS description"
    (fault,) = (one for one in findings(on_a_server, query, id_column="nr").faults if "The source's id is" in one)
    assert ("CAST(… AS" in fault, "these cannot be the same ids. Name the column" in fault) == (is_cast, not is_cast)


def test_constants_are_tried_as_the_column_would_hold_them(on_a_server: Database) -> None:
    run(on_a_server, "CREATE TYPE tone AS ENUM ('warm')")
    run(on_a_server, """ALTER TABLE llm_enrichment ADD COLUMN tones tone[],
        ADD COLUMN tags text[] CHECK ('a' = ANY (tags)), ADD COLUMN about jsonb CHECK (about ? 'by')""")  # fmt: skip
    values = {"tones": ["warm"], "tags": ["a", "b"], "about": {"by": "us"}}
    told = {**columns(), **{name: {"constant": value} for name, value in values.items()}}
    assert not has(findings(on_a_server, columns=told).warnings, "refuses")
    wrong = {"tones": {"constant": ["cold"]}, "tags": {"constant": ["b"]}, "about": {"constant": {}}}
    warnings = findings(on_a_server, columns={**columns(), **wrong}).warnings
    assert sum("refuses" in one for one in warnings) == 3, warnings


class Loose(BaseModel):
    """A result of texts of any form."""

    kind: str
    when: str
    at: datetime
    levels: list[Literal["junior", "senior"]]


def test_a_text_of_any_form_is_a_fault_for_a_column_of_times_and_a_warning_for_one_of_some_texts(
    on_a_server: Database,
) -> None:
    run(on_a_server, """CREATE TABLE "Results" ("Job Id" uuid UNIQUE, kind text CHECK (kind ~ '^[a-z]+%?$'),
        "when" date, at timestamptz,
        levels text[] CHECK (levels <@ ARRAY['junior']), failure text)""")  # fmt: skip
    told = {"kind": "kind", "when": "when", "at": "at", "levels": "levels", "failure": "@error"}
    found = findings(
        on_a_server, model="tests.test_adoption_checks:Loose", table="Results", id_column="Job Id", columns=told
    )
    assert [one.partition(":")[0] for one in found.faults] == [
        "The column when is date, and the field when can be any text"
    ]
    assert has(found.warnings, "kind takes some texts only, and the result model allows any")
    assert has(found.warnings, "levels refuses senior, which the result model allows")


@pytest.fixture
def limited(on_a_server: Database, server: Any) -> Any:
    """A role that may log in and read, and nothing else."""
    name = f"reader_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN")
        run(on_a_server, f"GRANT SELECT ON companies, job_postings, job_descriptions TO {name}")
        database = Database(make_url(on_a_server.url).set(username=name).render_as_string(False))
        yield database
        database.close()
        run(on_a_server, f"DROP OWNED BY {name}")
        owner.execute(f"DROP ROLE {name}")


def test_each_right_that_a_role_lacks_is_told_as_a_grant(
    user: Command, on_a_server: Database, limited: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(on_a_server, "ALTER TABLE llm_enrichment DROP COLUMN enrichment_error")
    monkeypatch.setenv("DATABASE_URL", limited.url)
    before = made(on_a_server)
    said = user("adopt", *MODEL, *DATA, "--yes", "--json")
    assert said.code == 2
    faults = said.document["faults"]
    name = make_url(limited.url).username
    assert has(faults, f"GRANT SELECT, INSERT, UPDATE ON public.llm_enrichment TO {name};")
    assert has(faults, "may not make a schema here", "GRANT CREATE ON DATABASE", f" TO {name};")
    assert has(faults, "llm_enrichment is postgres's, and only its owner can add a column", "adopt --sql")
    assert made(on_a_server) == before
    run(on_a_server, f"GRANT SELECT, INSERT, UPDATE ON public.llm_enrichment TO {name}")
    assert user.done("adopt", *MODEL, *DATA, "--sql").out  # for who may


def test_row_level_security_that_hides_rows_is_told_with_the_policy(on_a_server: Database, limited: Database) -> None:
    name = make_url(limited.url).username
    run(on_a_server, f"GRANT SELECT, INSERT, UPDATE ON llm_enrichment TO {name}")
    run(on_a_server, "ALTER TABLE llm_enrichment ENABLE ROW LEVEL SECURITY")
    policy = f"CREATE POLICY enrichlog ON llm_enrichment TO {name} USING (true) WITH CHECK (true);"
    assert has(findings(limited).faults, f"hides all of llm_enrichment from the role {name}", policy)
    run(on_a_server, policy)
    found = findings(limited)
    assert (found.faults, has(found.warnings, f"Row-level security applies to the role {name}")) == ([], True)


def test_row_level_security_that_hides_what_the_query_joins_is_told_with_the_policy(
    on_a_server: Database, limited: Database
) -> None:
    name = make_url(limited.url).username
    run(on_a_server, f"GRANT SELECT, INSERT, UPDATE ON llm_enrichment TO {name}")
    assert findings(limited).faults == []  # the control
    run(on_a_server, "CREATE SCHEMA other; ALTER TABLE companies SET SCHEMA other")
    run(on_a_server, f"GRANT USAGE ON SCHEMA other TO {name}")
    run(on_a_server, "CREATE TABLE company (id int)")  # no more than the alias of a column, for the query
    joined = ("job_descriptions", "other.companies")
    for table in (*joined, "company"):
        run(on_a_server, f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    query = QUERY.replace("JOIN companies company", "JOIN other.companies firm").replace("company.", "firm.")
    found = findings(limited, query)
    assert len(found.faults) == len(joined), found.faults
    for table in joined:
        policy = f"CREATE POLICY {name} ON {table} FOR SELECT TO {name} USING (true);"
        assert has(found.faults, f"hides all of {table}, which the source query reads,", policy), found.faults
        run(on_a_server, policy.replace("true", "false"))
        policies = findings(limited, query)
        assert has(policies.warnings, f"applies to the role {name} on {table}", policy), policies.warnings
    assert policies.faults == []


@pytest.mark.parametrize(
    ("policy", "shows"),
    [
        ("FOR INSERT WITH CHECK (true)", False),
        ("AS RESTRICTIVE USING (true)", False),
        ("FOR SELECT USING (true)", True),
    ],
)
def test_row_level_security_hides_all_where_no_policy_lets_the_role_read(
    on_a_server: Database, limited: Database, policy: str, shows: bool
) -> None:
    role = make_url(limited.url).username
    run(on_a_server, "INSERT INTO companies VALUES (gen_random_uuid(), 'Another')")
    run(on_a_server, f"ALTER TABLE companies ENABLE ROW LEVEL SECURITY; CREATE POLICY told ON companies {policy}")
    with limited.read() as connection:
        inspection = limited.dialect.inspection
        table = inspection.table(connection, None, "companies")
        assert table is not None
        assert bool(connection.exec_driver_sql("SELECT * FROM companies").all()) is shows  # what it is to tell
        assert inspection.hidden(connection, table) == ("some" if shows else "all")
        assert bool(inspection.missing_policies(connection, table, str(role), writes=False)) is not shows


def test_each_right_that_sql_after_a_success_lacks_is_told_as_a_grant(on_a_server: Database, limited: Database) -> None:
    name = make_url(limited.url).username
    run(on_a_server, f"GRANT SELECT, INSERT, UPDATE ON llm_enrichment TO {name}")
    run(on_a_server, "CREATE SCHEMA other; CREATE TABLE other.told (id uuid, at timestamptz)")
    run(on_a_server, "ALTER TABLE other.told ENABLE ROW LEVEL SECURITY")
    update = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
    insert = "INSERT INTO other.told SELECT CAST(:id AS uuid), now()"
    told = "The role {} lacks a right that after_success takes (permission denied for {}). Have their owner run: {}"
    policy = f"CREATE POLICY {name} ON other.told TO {name} USING (true) WITH CHECK (true);"
    grants = [f"GRANT {right} TO {name};" for right in ("USAGE ON SCHEMA other", "SELECT, INSERT ON other.told")]
    for sql, of, missing in (
        (update, "table job_postings", [f"GRANT UPDATE ON public.job_postings TO {name};"]),
        (insert, "schema other", [*grants, policy]),
    ):
        assert findings(limited, after_success=sql).faults == [told.format(name, of, " ".join(missing))]
        for grant in missing:
            run(on_a_server, grant)
        assert findings(limited, after_success=sql).faults == []


def test_a_sequence_that_numbers_the_rows_is_to_be_used_too_unless_it_is_of_an_identity(
    on_a_server: Database, limited: Database
) -> None:
    name = make_url(limited.url).username
    for table, kind in (("numbered", "bigserial"), ("identified", "bigint GENERATED BY DEFAULT AS IDENTITY")):
        made = f"id {kind} PRIMARY KEY, job_posting_id uuid UNIQUE, failure text, done timestamptz"
        run(on_a_server, f"CREATE TABLE {table} ({made})")
        run(on_a_server, f"GRANT SELECT, INSERT, UPDATE ON {table} TO {name}")
    told: dict[str, Any] = {"columns": {"failure": "@error", "done": "@completed_at"}}
    grant = f"GRANT USAGE ON SEQUENCE public.numbered_id_seq TO {name}"
    assert findings(limited, table="identified", **told).faults == []
    run(limited, f"INSERT INTO identified (job_posting_id) VALUES ('{uuid.UUID(int=1)}')")
    (fault,) = findings(limited, table="numbered", **told).faults
    assert fault == f"The role {name} lacks a right on numbered. Have its owner run: {grant};"
    run(on_a_server, grant)
    assert findings(limited, table="numbered", **told).faults == []
    run(limited, f"INSERT INTO numbered (job_posting_id) VALUES ('{uuid.UUID(int=1)}')")


def test_a_schema_that_a_role_may_not_use_is_one_fault_among_the_others(
    user: Command, on_a_server: Database, limited: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = make_url(limited.url).username
    monkeypatch.setenv("DATABASE_URL", on_a_server.url)
    user.done("adopt", *MODEL, *DATA, "--yes")  # so that our schema is there, which the role may not use either
    run(on_a_server, "CREATE SCHEMA other")
    for table in ("job_postings", "llm_enrichment"):
        run(on_a_server, f"ALTER TABLE {table} SET SCHEMA other")
    query = QUERY.replace("FROM job_postings", "FROM other.job_postings")
    monkeypatch.setenv("DATABASE_URL", limited.url)
    words = ("--query", query, "--table", "other.llm_enrichment", "--id-column", "job_posting_id", "--yes")
    said = user("adopt", *MODEL, *words, "--json")
    assert said.code == 2
    for grant in (
        "USAGE ON SCHEMA other", "SELECT, INSERT, UPDATE ON other.llm_enrichment", "enrichlog_app"
    ):  # fmt: skip
        assert has(said.document["faults"], f"GRANT {grant} TO {name};"), said.document["faults"]


def test_who_may_not_write_results_is_stopped_before_anybody_is_called(
    on_a_server: Database, limited: Database
) -> None:
    settings = adopting(limited)
    adopted, enrichment = database_of(settings), enrichment_of(settings)
    name = make_url(limited.url).username
    run(on_a_server, f"GRANT SELECT ON llm_enrichment TO {name}")
    with pytest.raises(Unadoptable, match=f"GRANT INSERT, UPDATE ON public.llm_enrichment TO {name};"):
        require_fit(adopted, settings, enrichment)
    run(on_a_server, f"GRANT INSERT, UPDATE ON llm_enrichment TO {name}")
    require_fit(adopted, settings, enrichment)


def test_triggers_that_take_rights_of_whoever_writes_are_told(on_a_server: Database) -> None:
    run(on_a_server, "CREATE TABLE audit (at timestamptz)")
    for name, does, definer in (
        ("noting", "INSERT INTO audit VALUES (now());", ""),
        ("of_its_own", "INSERT INTO audit VALUES (now());", "SECURITY DEFINER"),
        ("only_here", "NEW.note = 'x';", ""),
    ):
        run(
            on_a_server,
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql {definer} AS 'BEGIN "
            + does.replace("'", "''")
            + " RETURN NEW; END'",
        )
        run(
            on_a_server, f"CREATE TRIGGER {name} BEFORE UPDATE ON llm_enrichment FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    (told,) = [one for one in findings(on_a_server).warnings if "triggers" in one]
    assert told.startswith("What the triggers noting of llm_enrichment read and write takes the rights of whoever")
