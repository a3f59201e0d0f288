"""Adopting a database that was there before us: what is proposed, what is changed, and what is left as it was."""

import json
import tomllib
import uuid
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import BaseModel
from sqlalchemy import make_url

from enrichlog import adopt_changes
from enrichlog.adopt_file import FilePlan
from enrichlog.settings import configure
from eventlog.database import Database
from eventlog.inspection_postgresql import PostgreSQLInspection
from tests.adopted import QUERY, add_postings, columns, job_id, make_tables
from tests.adopting import DATA, MODEL, made, made_of_theirs, rows
from tests.builders import run
from tests.command_line import Command
from tests.dumps import dump
from tests.postgres import GivenServer, bound_socket

KEYS = {
    "source", "target", "result_model", "is_new", "faults", "warnings", "sql", "file", "diff", "for_workers",
    "database", "adopted",
}  # fmt: skip


class Titled(BaseModel):
    """What is asked of the model about postings that are in one table with the results."""

    title: str
    sector: str
    summary: str


@pytest.fixture
def theirs(user: Command, empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Their tables, with a few rows, and nothing of ours."""
    return their_own(empty_database, monkeypatch)


def their_own(database: Database, monkeypatch: pytest.MonkeyPatch, **made: bool) -> Database:
    make_tables(database, **{"error_column": False, **made})
    add_postings(database, range(3))
    add_postings(database, [7], "Other")
    monkeypatch.setenv("DATABASE_URL", database.url)
    return database


def file(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "enrichlog.toml").read_text())


def test_a_dry_run_proposes_all_of_it_and_changes_nothing(user: Command, theirs: Database, bare: Path) -> None:
    before = made(theirs), rows(theirs)
    said = user.done("adopt", *MODEL, *DATA, "--dry-run")
    assert (made(theirs), rows(theirs)) == before
    assert not (bare / "enrichlog.toml").exists()
    for line in QUERY.splitlines()[:-1]:
        assert f"  {line}\n" in said.out
    assert "Results go to llm_enrichment, found by job_posting_id\n" in said.out
    assert "44 fields to the column of the same name: rol_titel, " in said.out
    assert "Left alone: id, note\n" in said.out
    assert "ALTER TABLE llm_enrichment ADD COLUMN" in said.out
    assert "(enrichment_completed_at) WHERE enrichment_error IS NOT NULL;\n" in said.out


def test_adopting_adds_the_column_of_errors_with_its_index_and_nothing_else_of_theirs(
    user: Command, theirs: Database, bare: Path
) -> None:
    before, kept = made_of_theirs(theirs), rows(theirs)
    said = user.done("adopt", *MODEL, *DATA, "--yes")
    assert "Next: enrichlog enrich --dry-run" in said.out
    found = {one[:2] for one in set(made_of_theirs(theirs)) - set(before)}
    assert {name.rpartition(".")[2] for _, name in found} <= {
        "enrichment_error",
        "llm_enrichment_failed",
        "llm_enrichment",
    }
    assert "llm_enrichment_failed" in {name.rpartition(".")[2] for _, name in found}
    assert [
        [{k: v for k, v in row.items() if k != "enrichment_error"} for row in table] for table in rows(theirs)
    ] == kept
    told = file(bare)
    assert told["source"]["query"].strip() == QUERY.replace("posting.title_c", "title_c")
    assert told["target"] == {"table": "llm_enrichment", "id_column": "job_posting_id", "columns": columns()}
    assert told["result_model"] == "tests.adopted:DataJob"


def test_a_condition_is_taken_as_it_is(user: Command, theirs: Database, bare: Path) -> None:
    where = "posting.title LIKE '%engineer%' AND ':x' <> '%s'"
    assert user.json("adopt", *MODEL, "--where", where, "--yes")["adopted"] is True
    assert user.json("sync", "--dry-run")["new"] == 4


def test_a_file_that_cannot_be_written_is_told_before_anything_changes(
    user: Command, theirs: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FilePlan, "can_be_written", False)
    before = made(theirs)
    said = user("adopt", *MODEL, *DATA, "--yes")
    assert (said.code, "enrichlog.toml cannot be written: give this user the right" in said.out) == (2, True)
    assert made(theirs) == before


def test_adopting_again_is_harmless_and_says_so(user: Command, theirs: Database, bare: Path) -> None:
    user.done("adopt", *MODEL, *DATA, "--yes")
    before, text = made(theirs), (bare / "enrichlog.toml").read_text()
    said = user.done("adopt")
    assert "was adopted already, and nothing was left to do." in said.out
    assert user.json("adopt", *MODEL, *DATA, "--yes")["diff"] == ""
    assert (made(theirs), (bare / "enrichlog.toml").read_text()) == (before, text)


def test_a_document_has_all_of_it(user: Command, theirs: Database) -> None:
    document = user.json("adopt", *MODEL, *DATA, "--dry-run")
    assert set(document) == KEYS
    assert (document["faults"], document["adopted"], document["is_new"]) == ([], False, True)
    assert document["target"]["columns"] == columns()
    assert user.json("adopt", *MODEL, *DATA, "--yes")["adopted"] is True


def test_without_a_terminal_it_has_to_be_confirmed(user: Command, theirs: Database, bare: Path) -> None:
    before = made(theirs)
    said = user("adopt", *MODEL, *DATA)
    assert said.code == 2
    assert said.err.endswith("would be adopted as shown. Nothing was done: confirm with --yes.\n")
    assert made(theirs) == before
    assert not (bare / "enrichlog.toml").exists()


def test_what_is_said_goes_before_what_would_be_proposed(user: Command, theirs: Database, bare: Path) -> None:
    run(theirs, "CREATE VIEW open_postings AS SELECT id, title AS job_title, 'of it' AS body FROM job_postings")
    after = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
    words = (
        "--postings", "open_postings", "--map", "note=constant:by a model", "--map", "remote=",
        "--map", "sourcing_type=type_datarol", "--after-success", after,
    )  # fmt: skip
    user.done("adopt", *MODEL, *words, "--yes")
    told = file(bare)
    assert told["source"]["query"] == (
        "SELECT posting.id, posting.job_title AS title, posting.body AS description\nFROM open_postings posting\n"
    )
    assert told["target"]["after_success"] == after
    mapped = told["target"]["columns"]
    assert (mapped["note"], mapped["sourcing_type"]) == ({"constant": "by a model"}, "type_datarol")
    assert "remote" not in mapped
    assert not any(row["needs_ranking"] for row in run(theirs, "SELECT needs_ranking FROM job_postings"))


def test_the_file_keeps_what_is_in_it(user: Command, theirs: Database, bare: Path) -> None:
    (bare / "enrichlog.toml").write_text(
        "# ours\nmodel = 'gpt-4o' # the large one\n\n[error_codes]\n# by hand\nx = 'timeout'\n\n"
        "[source]\nquery = '''\n[not a header]\nSELECT 1'''\n\n[enrichments.other]\nmodel = 'small'\n"
    )
    user.done("adopt", *MODEL, *DATA, "--yes")
    text = (bare / "enrichlog.toml").read_text()
    assert text.startswith(
        "# ours\nmodel = 'gpt-4o' # the large one\nresult_model = \"tests.adopted:DataJob\"\n\n[error_c"
    )
    assert "# by hand\nx = 'timeout'" in text
    assert "[not a header]" not in text
    assert file(bare)["enrichments"] == {"other": {"model": "small"}}
    assert configure().source is not None


def test_a_password_is_never_written(
    user: Command, theirs: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL")
    user.done("adopt", *MODEL, *DATA, "--yes", "--database", theirs.url)
    assert file(bare)["database"] == theirs.url  # the control: it has none
    (bare / "enrichlog.toml").unlink()
    if "@" in theirs.url:
        secret = theirs.url.replace("@", ":secret@")
        said = user.done("adopt", *MODEL, *DATA, "--yes", "--database", secret)
        assert "set DATABASE_URL" in said.out
        assert "secret" not in said.out + said.err + (bare / "enrichlog.toml").read_text()


def test_a_password_in_the_file_is_not_shown_with_what_changes(user: Command, theirs: Database, bare: Path) -> None:
    (bare / "enrichlog.toml").write_text('database = "postgresql://u:hush@h/db"\n')
    for words in ((), ("--database", theirs.url)):  # it stays; it is replaced
        said = user.done("adopt", *MODEL, *DATA, "--dry-run", *words)
        document = user.json("adopt", *MODEL, *DATA, "--dry-run", *words)
        for told in (said.out + said.err, document["diff"]):
            assert ("database = " in told, "hush" in told) == (True, False)


def test_tables_that_are_ours_need_no_adopting(enrichlog: Command) -> None:
    said = enrichlog("adopt", "--dry-run")
    assert (said.code, said.error.partition(".")[0]) == (
        2, "Error: enrichlog made job_postings and llm_enrichment here itself: there is nothing to adopt",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--table", "nowhere"),
            "There is no table nowhere. There are: companies, job_descriptions, job_postings, llm_",
        ),
        (("--postings", "nowhere"), "There is no table nowhere. There are: companies"),
        (("--map", "note"), "--map note is not COLUMN=WHAT."),
        (("--rollback",), "--rollback goes with --sql"),
        (("--result-model", "nowhere:Model"), "The result model nowhere:Model is not usable"),
    ],
)
def test_what_cannot_be_meant_is_told(user: Command, theirs: Database, words: tuple[str, ...], told: str) -> None:
    said = user("adopt", *words)
    assert (said.code, told in said.error) == (2, True), said.error


def test_a_file_that_is_no_database_yet_is_not_made(user: Command, bare: Path) -> None:
    said = user("adopt", "--database", "nowhere.db")
    assert (said.code, said.error) == (
        2, f"Error: There is no database to adopt: {bare / 'nowhere.db'} is not there. Name yours with --database URL, "
        "or in DATABASE_URL.",
    )  # fmt: skip
    assert not (bare / "nowhere.db").exists()


@pytest.fixture
def on_a_server(user: Command, server_databases: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same tables on PostgreSQL, for what is true of it alone."""
    database = their_own(Database(server_databases.empty()), monkeypatch)
    yield database
    database.close()
    server_databases.drop(database.url)


def test_what_is_printed_does_the_same_as_often_as_wanted_and_can_be_taken_back(
    user: Command, on_a_server: Database, server_databases: Any, server: GivenServer
) -> None:
    twin = Database(server_databases.empty())
    make_tables(twin, error_column=False)
    before = dump(twin, server)
    script = user.done("adopt", *MODEL, *DATA, "--sql").out
    back = user.done("adopt", *MODEL, *DATA, "--sql", "--rollback").out
    assert dump(on_a_server, server) == before
    user.done("adopt", *MODEL, *DATA, "--yes")
    with psycopg.connect(twin.url.replace("+psycopg", ""), autocommit=True) as session:
        for _ in range(3):
            session.execute(script)  # as a SQL editor sends it
        assert dump(twin, server) == dump(on_a_server, server) != before
        for _ in range(2):
            session.execute(back)
        assert dump(twin, server) == before
    assert user.done("adopt", "--sql", "--rollback").out.endswith(
        "-- ALTER TABLE llm_enrichment DROP COLUMN IF EXISTS enrichment_error;\n"
    )
    twin.close()


def test_what_takes_an_adoption_back_is_printed_whatever_is_wrong_by_then(user: Command, on_a_server: Database) -> None:
    user.done("adopt", *MODEL, *DATA, "--yes")
    run(on_a_server, "DELETE FROM job_postings")
    assert user("adopt", "--sql").code == 2
    assert "DROP SCHEMA" in user.done("adopt", "--sql", "--rollback").out
    run(on_a_server, "DROP TABLE llm_enrichment")
    assert "DROP SCHEMA" in user.done("adopt", "--sql", "--rollback").out


def test_a_table_that_is_in_use_is_not_waited_for_long(
    user: Command, on_a_server: Database, monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    monkeypatch.setattr(PostgreSQLInspection, "patience", ("SET LOCAL lock_timeout = '20ms'",))
    before = made(on_a_server)
    with psycopg.connect(on_a_server.url.replace("+psycopg", "")) as session:
        session.execute("SELECT 1 FROM llm_enrichment")
        said = user("adopt", *MODEL, *DATA, "--yes")
    assert (said.code, "llm_enrichment is in use: it could not be altered within" in said.err) == (1, True)
    assert made(on_a_server) == before
    assert not (bare / "enrichlog.toml").exists()


def test_on_a_large_table_the_index_is_made_beside_those_who_write(
    user: Command, on_a_server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt_changes, "MANY_ROWS", 1)
    run(on_a_server, "ANALYZE llm_enrichment")
    said = user.done("adopt", *MODEL, *DATA, "--yes")
    assert "CREATE INDEX CONCURRENTLY IF NOT EXISTS llm_enrichment_failed" in said.out
    query = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'llm_enrichment_failed'::regclass"
    assert run(on_a_server, query) == [{"indisvalid": True}]
    printed = json.loads(user.done("adopt", *MODEL, *DATA, "--sql", "--json").out)["sql"]
    assert "CONCURRENTLY" not in printed  # it is there


def test_on_a_large_table_what_is_printed_makes_no_index_and_says_how_to(
    user: Command, on_a_server: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adopt_changes, "MANY_ROWS", 1)
    run(on_a_server, "ANALYZE llm_enrichment")
    script = user.done("adopt", *MODEL, *DATA, "--sql").out
    with psycopg.connect(on_a_server.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(script)
        assert session.execute("SELECT to_regclass('llm_enrichment_failed')").fetchone() == (None,)
        assert "-- The table is large, so nothing above makes the index that finds failures" in script
        (told,) = (line for line in script.splitlines() if line.startswith("-- CREATE INDEX"))
        session.execute(told.removeprefix("-- "))
    assert user.json("adopt", *MODEL, *DATA, "--dry-run")["sql"] == []  # nothing is lacking


def test_an_index_that_was_left_half_made_is_told_and_another_is_made(user: Command, on_a_server: Database) -> None:
    user.done("adopt", *MODEL, *DATA, "--yes")
    run(on_a_server, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'llm_enrichment_failed'::regclass")
    told = user.json("adopt", "--yes")
    assert any("DROP INDEX CONCURRENTLY llm_enrichment_failed;" in one for one in told["warnings"])
    assert [one for one in told["sql"] if "llm_enrichment_failed_2" in one] == told["sql"] != []
    assert user.json("adopt", "--yes")["sql"] == []


@pytest.mark.parametrize(
    "taken", ["TABLE llm_enrichment_failed (id int)", "INDEX llm_enrichment_failed ON llm_enrichment (note)"]
)
def test_where_the_name_of_the_index_is_taken_it_has_another(user: Command, theirs: Database, taken: str) -> None:
    run(theirs, f"CREATE {taken}")
    user.done("adopt", *MODEL, *DATA, "--yes")
    there = {one[1].rpartition(".")[2]: one[-1] for one in made(theirs) if one[0] == "index"}
    assert "(enrichment_completed_at) WHERE" in there["llm_enrichment_failed_2"]
    assert "was adopted already, and nothing was left to do." in user.done("adopt").out


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        ("TABLE llm_enrichment_failed (id int)", ()),
        ("INDEX llm_enrichment_failed ON llm_enrichment (note)", ()),
        ("INDEX llm_enrichment_failed ON llm_enrichment (note)", ("--no-index",)),
    ],
)
def test_what_takes_back_leaves_what_has_the_name_of_the_index(
    user: Command, on_a_server: Database, taken: str, words: tuple[str, ...]
) -> None:
    run(on_a_server, f"CREATE {taken}")
    before = made(on_a_server)
    back = user.done("adopt", *MODEL, *DATA, "--sql", "--rollback", *words).out
    user.done("adopt", *MODEL, *DATA, "--yes", *words)
    with psycopg.connect(on_a_server.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(back)
    assert made(on_a_server) == before


def test_of_an_index_that_is_there_what_takes_back_tells_only_how_to_drop_it(
    user: Command, on_a_server: Database
) -> None:
    run(on_a_server, "ALTER TABLE llm_enrichment ADD COLUMN enrichment_error text")
    run(on_a_server, "CREATE INDEX llm_enrichment_failed ON llm_enrichment (id) WHERE enrichment_error IS NOT NULL")
    before = made(on_a_server)
    user.done("adopt", *MODEL, *DATA, "--yes")
    back = user.done("adopt", "--sql", "--rollback").out
    assert "-- DROP INDEX IF EXISTS llm_enrichment_failed;\n-- ALTER TABLE llm_enrichment DROP COLUMN" in back
    with psycopg.connect(on_a_server.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(back)
    assert made(on_a_server) == before


@pytest.mark.parametrize(
    ("index", "is_enough"),
    [
        ("enrichment_error_of_last_year ON llm_enrichment (note)", False),
        ("theirs ON llm_enrichment (note) WHERE note = 'enrichment_error'", False),
        ('theirs ON llm_enrichment (id) WHERE "enrichment_error" IS NOT NULL', True),
        ("theirs ON llm_enrichment (id, enrichment_error)", True),
        ("theirs ON llm_enrichment ((lower(enrichment_error)))", True),
    ],
)
def test_an_index_is_enough_if_it_is_of_the_column_and_not_of_one_that_is_called_alike(
    user: Command, theirs: Database, index: str, is_enough: bool
) -> None:
    run(theirs, "ALTER TABLE llm_enrichment ADD COLUMN enrichment_error text")
    run(theirs, f"CREATE INDEX {index}")
    assert len(user.json("adopt", *MODEL, *DATA, "--dry-run")["sql"]) == (0 if is_enough else 1)


def test_no_index_is_made_where_none_is_wanted(user: Command, theirs: Database) -> None:
    assert len(user.json("adopt", *MODEL, *DATA, "--no-index", "--dry-run")["sql"]) == 1


def test_what_is_wrong_with_query_and_mapping_is_told_at_once_and_nothing_is_changed(
    user: Command, theirs: Database, bare: Path
) -> None:
    before = made(theirs), rows(theirs)
    run(theirs, "UPDATE job_postings SET title = '' WHERE title_classification = 'Other'")
    query = "SELECT company_id AS id, title, title AS description FROM job_postings"
    said = user("adopt", *MODEL, "--query", query, "--map", "sectr=sector", "--map", "sector=sectr", "--yes")
    assert said.code == 2
    assert said.err.endswith(
        "Error: Nothing was adopted: 4 faults stand above. Mend what is wrong, and run it again.\n"
    )
    for line in (
        "- The source query: 3 of its rows have the id of another, such as 00000010-0000-",
        "- The source query: 1 of its rows have no title, such as those of ",
        "- llm_enrichment has no column sectr (there is sector): mend [target.columns], or add the column.",
        "- sector is to have sectr, which is no field of the result model (there is sector): mend [target.columns].",
    ):
        assert line in said.out, said.out
    run(theirs, "UPDATE job_postings SET title = 'Data engineer 7' WHERE title = ''")
    assert (made(theirs), rows(theirs)) == before
    assert not (bare / "enrichlog.toml").exists()


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("DELETE FROM job_postings RETURNING *", "The source query: "),
        ("SELECT title, title AS description FROM job_postings", "It has no column id but title, description"),
        (
            "SELECT id, title, title AS description FROM job_postings WHERE 1 = 0",
            "It brings no row: see what its WHERE",
        ),
        ("SELECT id, title, title AS description FROM nowhere", "The source query: The database does not run it: "),
    ],
)
def test_a_query_that_cannot_be_is_refused(user: Command, theirs: Database, query: str, fault: str) -> None:
    kept = rows(theirs)
    document = user("adopt", *MODEL, "--query", query, "--yes", "--json")
    assert (document.code, document.err) == (2, "")
    assert any(fault in one for one in document.document["faults"]), document.document["faults"]
    assert rows(theirs) == kept


@pytest.mark.parametrize(
    ("name", "kind", "is_proposed"),
    [
        ("done_at", "timestamptz", True),
        ("finished_at", "timestamptz", True),
        ("processed_at", "timestamptz", True),
        ("doneAt", "timestamptz", True),
        ("done_at", "boolean", False),
        ("updated_at", "timestamptz", False),  # other programs write it
    ],
)
def test_a_column_of_times_that_tells_of_an_end_is_proposed_for_that(
    user: Command, theirs: Database, name: str, kind: str, is_proposed: bool
) -> None:
    run(theirs, "ALTER TABLE llm_enrichment DROP COLUMN enrichment_completed_at")
    run(theirs, f'ALTER TABLE llm_enrichment ADD COLUMN "{name}" {kind}')
    proposed = user.json("adopt", *MODEL, *DATA, "--dry-run")["target"]["columns"]
    assert proposed.get(name) == ("@completed_at" if is_proposed else None)


def test_what_was_adopted_is_enriched_into_its_columns(user: Command, theirs: Database) -> None:
    after = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
    user.done("adopt", *MODEL, *DATA, "--after-success", after, "--yes")
    assert "3 succeeded" in user.done("enrich").out
    found = run(theirs, "SELECT * FROM llm_enrichment WHERE enrichment_completed_at IS NOT NULL")
    assert [(row["enrichment_error"], row["type_datarol"]) for row in found] == [(None, "Data Engineer")] * 3
    assert sum(row["needs_ranking"] for row in run(theirs, "SELECT needs_ranking FROM job_postings")) == 3
    assert user.done("verify").out.endswith("Sound.\n")


def test_sql_is_printed_for_a_server_that_cannot_be_reached(
    user: Command, on_a_server: Database, server_databases: Any, server: GivenServer
) -> None:
    user.done("adopt", *MODEL, *DATA, "--yes")
    with bound_socket(0) as nobody:
        away = f"postgresql://me@127.0.0.1:{nobody.getsockname()[1]}/jobs"
        said = user.done("adopt", "--database", away, "--sql")
    assert said.out.startswith("-- The database postgresql://me@127.0.0.1")
    twin = Database(server_databases.empty())
    make_tables(twin, error_column=False)
    with psycopg.connect(twin.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(said.out)
    assert dump(twin, server) == dump(on_a_server, server)
    twin.close()


def test_what_takes_back_unseen_keeps_a_column_of_errors_that_may_have_been_there(
    user: Command, on_a_server: Database, server_databases: Any
) -> None:
    user.done("adopt", *MODEL, *DATA, "--yes")
    with bound_socket(0) as nobody:
        away = f"postgresql://me@127.0.0.1:{nobody.getsockname()[1]}/jobs"
        forth, back = (user.done("adopt", "--database", away, "--sql", *words).out for words in ([], ["--rollback"]))
    twin = Database(server_databases.empty())
    make_tables(twin)  # with the column
    add_postings(twin, [1])
    run(twin, "UPDATE llm_enrichment SET enrichment_error = 'of last year'")
    with psycopg.connect(twin.url.replace("+psycopg", ""), autocommit=True) as session:
        session.execute(forth)
        session.execute(back)
    assert run(twin, "SELECT enrichment_error FROM llm_enrichment") == [{"enrichment_error": "of last year"}]
    twin.close()


def test_tables_with_odd_names_in_another_schema_are_found_by_what_refers_to_them(
    user: Command, server_databases: Any, monkeypatch: pytest.MonkeyPatch, bare: Path
) -> None:
    database = Database(server_databases.empty())
    run(database, """CREATE SCHEMA "My Jobs";
        CREATE TABLE "My Jobs"."Employers" (nr int PRIMARY KEY, "Name" text);
        CREATE TABLE "My Jobs".jobs (
            id bigint PRIMARY KEY, "jobTitle" text, "group" text, body jsonb,
            "employerNr" int REFERENCES "My Jobs"."Employers"
        );
        CREATE TABLE "My Jobs"."Results" (
            "job" bigint UNIQUE REFERENCES "My Jobs".jobs, "roleType" text, "mustHaveSkills" text[],
            "salaryMinimum" int, "completedAt" timestamptz, "modelVersion" text
        );
        INSERT INTO "My Jobs".jobs VALUES (5, 'Engineer', 'x', '{"text": "y"}')""")  # fmt: skip
    monkeypatch.setenv("DATABASE_URL", database.url)
    document = user.json("adopt", "--table", "My Jobs.Results", "--yes")
    assert file(bare)["source"]["query"] == (
        'SELECT posting.id, posting."jobTitle" AS title, company."Name" AS company, '
        'CAST(posting.body AS text) AS description\nFROM "My Jobs".jobs posting\n'
        'LEFT JOIN "My Jobs"."Employers" company ON company.nr = posting."employerNr"\n'
    )
    assert document["target"] == {
        "table": "My Jobs.Results", "id_column": "job", "enrichment": "job", "after_success": None,
        "columns": {
            "roleType": "role_type", "mustHaveSkills": "must_have_skills", "salaryMinimum": "salary.minimum",
            "completedAt": "@completed_at", "modelVersion": "@model_version", "enrichment_error": "@error",
        },
    }  # fmt: skip
    assert document["sql"][0] == 'ALTER TABLE "My Jobs"."Results" ADD COLUMN IF NOT EXISTS enrichment_error text;'
    assert any("salary.maximum, salary.currency and" in one for one in document["warnings"]), document["warnings"]
    assert "1 succeeded" in user.done("enrich").out
    (row,) = run(database, 'SELECT * FROM "My Jobs"."Results"')
    assert (row["job"], row["enrichment_error"], row["completedAt"] is not None) == (5, None, True)
    database.close()


def test_what_the_table_knew_is_imported_where_that_is_asked_for(user: Command, theirs: Database) -> None:
    run(theirs, "ALTER TABLE llm_enrichment ADD COLUMN enrichment_error text")
    failure = "enrichment_error = 'Error code: 429 - You exceeded your current quota', enrichment_completed_at = "
    run(theirs, f"UPDATE llm_enrichment SET {failure} '2024-01-01 12:00:00+00' WHERE job_posting_id = '{job_id(1)}'")
    words = ("adopt", *MODEL, *DATA, "--import-history")
    assert "0 results and 1 failure would be imported" in user.done(*words, "--dry-run").out
    kept = rows(theirs)
    left = user.done(*words[:-1], "--yes").out
    assert "1 row with a result or an error that the log does not know" in left
    assert user.json("adopt", "--yes")["not_imported"] == 1
    said = user.done(*words, "--yes")
    assert "0 results and 1 failure imported" in said.out
    assert "does not know" not in user.done("adopt", "--yes").out
    assert rows(theirs) == kept
    assert [row["error_type"] for row in user.json("failed")] == ["quota_exceeded"]
    assert user.json(*words, "--dry-run")["history"]["known"] == 1
    assert user.json("adopt", "--import-history")["history"]["events"] == 0


def test_what_the_source_reads_of_the_same_table_is_not_proposed_for_results_and_refused_when_mapped(
    user: Command, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = "id integer PRIMARY KEY, title text, description text, sector text, enrichment_completed_at"
    kind = "timestamptz" if empty_database.dialect.name == "postgresql" else "text"
    run(empty_database, f"CREATE TABLE postings ({made} {kind}, enrichment_error text, summary text)")
    run(empty_database, "INSERT INTO postings (id, title, description) VALUES (1, 'Engineer', 'We look for one')")
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    words = (
        "adopt", "--result-model", "tests.test_adopt:Titled", "--table", "postings", "--postings", "postings",
        "--id-column", "id", "--where", "sector IS NULL",
    )  # fmt: skip
    found = user.json(*words, "--dry-run")
    assert found["faults"] == []
    assert found["target"]["columns"] == {
        "summary": "summary", "enrichment_completed_at": "@completed_at", "enrichment_error": "@error",
    }  # fmt: skip
    mapped = ("--map", "title=title", "--map", "sector=sector")
    faults = user(*words, *mapped, "--dry-run", "--json").document["faults"]
    assert [one.partition(",")[0] for one in faults] == [
        "The source query reads title of postings", "The source query reads sector of postings",
    ]  # fmt: skip


def test_a_field_is_proposed_for_a_column_that_takes_it_only(user: Command, on_a_server: Database) -> None:
    run(on_a_server, "ALTER TABLE llm_enrichment DROP COLUMN sector, ADD COLUMN sector text[]")
    run(on_a_server, "ALTER TABLE llm_enrichment DROP COLUMN enrichment_model_version, ADD COLUMN model date")
    found = user.json("adopt", *MODEL, *DATA, "--dry-run")
    lacking = ("sector", "enrichment_model_version")
    assert found["target"]["columns"] == {name: told for name, told in columns().items() if name not in lacking}
    assert any(one.startswith("sector (the column sector is text[]): no column takes it.") for one in found["warnings"])
    said = user("adopt", *MODEL, *DATA, "--map", "sector=sector", "--dry-run", "--json")
    assert said.document["faults"] == [
        "The column sector is text[], and the field sector is text: map it to a column of type text, or change the "
        "result model, or leave the column alone: --map sector=."
    ]


def test_what_a_worker_that_owns_nothing_needs_on_their_tables_is_printed_and_is_enough(
    user: Command, on_a_server: Database, server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(on_a_server, "CREATE SCHEMA other")
    run(on_a_server, "ALTER TABLE companies SET SCHEMA other")
    run(on_a_server, "ALTER TABLE llm_enrichment ADD COLUMN nr bigserial, ENABLE ROW LEVEL SECURITY")
    run(on_a_server, "ALTER TABLE job_postings ENABLE ROW LEVEL SECURITY")
    run(on_a_server, f"DELETE FROM llm_enrichment WHERE job_posting_id = '{job_id(0)}'")
    after = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
    words = ("adopt", *MODEL, "--query", QUERY.replace("companies", "other.companies"), "--after-success", after)
    grants = user.json(*words, "--dry-run")["for_workers"]
    (written,) = [one for one in grants if "llm_enrichment TO" in one and one.startswith("GRANT")]
    assert written.startswith("GRANT SELECT, INSERT, UPDATE (rol_titel, ")
    assert "enrichment_error" in written
    assert {one for one in grants if one != written} == {
        "GRANT SELECT, UPDATE (needs_ranking) ON public.job_postings TO enrichlog_app;",
        "GRANT USAGE ON SEQUENCE public.llm_enrichment_nr_seq TO enrichlog_app;",
        "GRANT SELECT ON public.job_descriptions TO enrichlog_app;",
        "GRANT USAGE ON SCHEMA other TO enrichlog_app;",
        "GRANT SELECT ON other.companies TO enrichlog_app;",
        "CREATE POLICY enrichlog_app ON public.job_postings TO enrichlog_app USING (true) WITH CHECK (true);",
        "CREATE POLICY enrichlog_app ON public.llm_enrichment TO enrichlog_app USING (true) WITH CHECK (true);",
    }
    said = user.done(*words, "--yes").out
    printed = user.done("adopt", "--sql").out
    for grant in grants:
        assert (f"  {grant}\n" in said, f"-- {grant}\n" in printed) == (True, True), grant
    name = f"worker_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {name} LOGIN IN ROLE enrichlog_app")
        monkeypatch.setenv("DATABASE_URL", make_url(on_a_server.url).set(username=name).render_as_string(False))
        assert user("enrich").code != 0  # the control
        for grant in grants:
            run(on_a_server, grant)
        assert "3 succeeded" in user.done("enrich").out
        owner.execute(f"DROP ROLE {name}")
    assert len(run(on_a_server, "SELECT 1 FROM job_postings WHERE needs_ranking")) == 3
    monkeypatch.setenv("DATABASE_URL", on_a_server.url)
    assert user.json("adopt", "--dry-run")["for_workers"] == []
    run(on_a_server, "DROP OWNED BY enrichlog_app")


@pytest.mark.parametrize("further", ["--dry-run", "--yes", "--import-history"])
def test_what_goes_with_no_printed_sql_is_refused_with_it(user: Command, theirs: Database, further: str) -> None:
    said = user("adopt", *MODEL, *DATA, "--sql", further)
    assert (said.code, said.out) == (2, "")
    assert "leave out --dry-run, --yes and --import-history" in said.err
