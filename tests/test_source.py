"""Postings of an adopted database: read through the users' query, by ids of the type that theirs have."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from enrichlog import reports, rulings
from enrichlog.adoption_checks import check
from enrichlog.claims import claim
from enrichlog.enrichment import enrichment_of
from enrichlog.exceptions import PostingsOfOthers, UnknownJobOfTheirs, UnusableSource
from enrichlog.history_import import count_unimported, import_history
from enrichlog.outdated import count_outdated
from enrichlog.picking import pick
from enrichlog.posting import Posting, Titled
from enrichlog.posting_files import import_file
from enrichlog.postings import find_deleted, find_posting, find_titles, load_postings, source_of, store_postings
from enrichlog.retry_plan import plan_retry, targets_of
from enrichlog.scope import Scope, count_due
from enrichlog.selection import Allowance, Selection
from enrichlog.settings import current
from enrichlog.source_check import check_source, require_source
from enrichlog.source_check import look_up as look_up_source
from enrichlog.sync import sync
from enrichlog.targets import every_posting
from eventlog.canonical import REPLACEMENT
from eventlog.database import Database
from projections.adoption import Source as Query
from projections.enrichment_status import enrichment_status
from projections.reconcile import not_shown
from tests.adopted import QUERY, add_postings, adopt, job_id, look_up, settings_of, write_settings
from tests.builders import NOON, failed, requested, run, started, status, succeeded, tell
from tests.command_line import Command
from tests.conftest import ServerDatabases
from tests.drift import verify
from tests.postgres import GivenServer
from tests.roles import forget_role, made_roles, url_for
from tests.service import posting

FAR = NOON + timedelta(days=3_650)
PLAIN = "SELECT id, title, 'Work.' AS description FROM job_postings"


def remove(database: Database, number: int) -> None:
    run(database, f"DELETE FROM job_postings WHERE id = '{job_id(number)}'")


def streams(numbers: range) -> list[str]:
    return [f"job-{job_id(number)}" for number in numbers]


def test_a_posting_is_what_the_query_brings_and_what_it_does_not_bring_is_empty(adopted: Database) -> None:
    add_postings(adopted, [1])
    description = "We look for a data engineer, number 1."
    assert find_posting(adopted, job_id(1)) == Posting(job_id(1), "Data engineer 1", description, "Acme")


def test_a_posting_that_the_query_leaves_out_or_whose_id_can_be_none_is_unknown(adopted: Database) -> None:
    add_postings(adopted, [1])
    add_postings(adopted, [10], "Other")
    for name in (job_id(10), job_id(2), job_id(10).replace("a", "A"), "1", "no id", "1'; SELECT 1", f"{job_id(1)} "):
        with pytest.raises(UnknownJobOfTheirs, match=r"The query under \[source\] .* See in SQL"):
            find_posting(adopted, name)
    with adopted.read() as connection:
        assert list(load_postings(connection, adopted, ["no id", job_id(1), job_id(2)])) == [job_id(1)]
        assert find_titles(connection, adopted, [job_id(1), job_id(2)]) == {
            job_id(1): Titled("Data engineer 1", "Acme"), job_id(2): Titled(),
        }  # fmt: skip


@pytest.mark.parametrize("kind", ["bigint", "smallint", "text", "varchar(20)"])
def test_an_id_is_of_any_type_that_can_be_a_key(adopted: Database, kind: str) -> None:
    run(adopted, f"CREATE TABLE numbered (number {kind} PRIMARY KEY, title text)")
    run(adopted, "INSERT INTO numbered VALUES (2, 'two'), (10, 'ten'), (-3, 'three')")
    look_up(adopted, "SELECT number AS id, title, title AS description FROM numbered")
    assert check_source(adopted) == []
    assert sync(adopted, "job", "tests") == 3
    assert find_posting(adopted, "-3").title == "three"
    assert sorted(target.job_id for target in every_posting(adopted, "job")) == ["-3", "10", "2"]
    assert count_due(adopted, "job", Scope(FAR), 5) == 3
    for name in ("02", "2.0", "99999999999999999999", ""):
        with pytest.raises(UnknownJobOfTheirs):
            find_posting(adopted, name)


@pytest.mark.parametrize("kind", ['text COLLATE "en-x-icu"', 'text COLLATE "C"', "text COLLATE careless"])
def test_an_id_may_be_ordered_by_any_rule(on_server: Database, kind: str) -> None:
    run(on_server, "CREATE COLLATION careless (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    run(on_server, f"CREATE TABLE named (id {kind} PRIMARY KEY, title text)")
    run(on_server, f"CREATE TABLE results (id {kind} PRIMARY KEY, sector text, failure text, done timestamptz)")
    run(on_server, "INSERT INTO named VALUES ('b-1', 'one'), ('B-2', 'two'), ('é 3', 'three')")
    run(on_server, "INSERT INTO results VALUES ('b-1', 'IT', NULL, now()), ('B-2', NULL, 'timeout', now())")
    columns = {"sector": "sector", "failure": "@error", "done": "@completed_at"}
    query = "SELECT id, title, title AS description FROM named"
    look_up(on_server, query, table="results", id_column="id", columns=columns)
    assert check_source(on_server) == []
    assert sync(on_server, "job", "tests") == 3
    assert (count_due(on_server, "job", Scope(FAR), 5), count_unimported(on_server)) == (3, 2)
    assert import_history(on_server, current(), dry_run=False).rows == 2
    tell(on_server, "job-é 3", started(), failed())
    assert verify(on_server).total == 0


@pytest.mark.parametrize("kind", ["uuid", "bigint", "text", 'varchar(40) COLLATE "C"', 'text COLLATE "en-x-icu"'])
def test_a_posting_is_found_by_the_index_of_its_key(on_server: Database, kind: str) -> None:
    run(on_server, f"CREATE TABLE named (id {kind} PRIMARY KEY, title text)")
    look_up(on_server, "SELECT id, title, title AS description FROM named")
    source = source_of(on_server)
    query = on_server.dialect.spelt(select(enrichment_status.c.job_id).where(source.has_posting))
    with on_server.read() as connection:
        for way in ("hashjoin", "mergejoin", "seqscan", "bitmapscan"):
            connection.exec_driver_sql(f"SET LOCAL enable_{way} = off")
        connection = connection.execution_options(no_parameters=True)
        plan = "".join(connection.exec_driver_sql(f"EXPLAIN {query}").scalars())
    assert re.search(r"Index Only Scan using named_pkey on named *\(.*?\)\s*Index Cond", plan), plan


@pytest.mark.parametrize("kind", ["uuid", "bigint", "varchar(40)"])
def test_an_id_may_be_of_a_domain(on_server: Database, kind: str) -> None:
    ids = [str(number) if kind == "bigint" else job_id(number) for number in (1, 2)]
    run(on_server, f"CREATE DOMAIN base_id AS {kind}")
    run(on_server, "CREATE DOMAIN their_id AS base_id NOT NULL")
    run(on_server, "CREATE TABLE named (id their_id PRIMARY KEY, title text)")
    run(on_server, "CREATE TABLE results (id their_id PRIMARY KEY, sector text, failure text, done timestamptz)")
    run(on_server, f"INSERT INTO named VALUES ('{ids[0]}', 'one'), ('{ids[1]}', 'two')")
    run(on_server, f"INSERT INTO results (id, sector, done) VALUES ('{ids[0]}', 'IT', now())")
    columns = {"sector": "sector", "failure": "@error", "done": "@completed_at"}
    query = "SELECT id, title, title AS description FROM named"
    look_up(on_server, query, table="results", id_column="id", columns=columns)
    target = {"table": "results", "id_column": "id", "columns": columns}
    assert check(on_server, settings_of(on_server, query, **target)).faults == []
    assert (sync(on_server, "job", "tests"), find_posting(on_server, ids[1]).title) == (2, "two")
    assert import_history(on_server, current(), dry_run=False).rows == 1
    tell(on_server, f"job-{ids[1]}", started(), succeeded(result={"sector": "care"}))
    assert (not_shown(on_server), verify(on_server).total) == ({}, 0)
    assert run(on_server, "SELECT sector FROM results ORDER BY id") == [{"sector": "IT"}, {"sector": "care"}]


def test_the_query_is_taken_as_it_is_written(adopted: Database) -> None:
    add_postings(adopted, [1])
    look_up(adopted, f"SELECT source.*, '50% of :it' AS location, '::' AS url FROM ({QUERY}\n) source -- with a remark")
    one = find_posting(adopted, job_id(1))
    assert (one.location, one.url, one.company) == ("50% of :it", "::", "Acme")


def test_what_no_log_can_hold_is_replaced_as_it_is_read(sqlite: Database, bare: Path) -> None:
    database = adopt(sqlite.url)
    add_postings(database, [1])
    run(database, "UPDATE job_descriptions SET full_description_text = 'a' || char(0) || 'b'")
    assert find_posting(database, job_id(1)).description == f"a{REPLACEMENT}b"
    database.close()


def test_a_text_that_is_missing_is_empty(adopted: Database) -> None:
    add_postings(adopted, [1])
    run(adopted, "DELETE FROM job_descriptions")
    assert find_posting(adopted, job_id(1)).description == ""


def test_their_table_is_written_by_nobody_of_ours(adopted: Database, tmp_path: Path) -> None:
    for act in (
        lambda: store_postings(adopted, [posting()], ["job"], "tests"),
        lambda: import_file(adopted, tmp_path / "none.csv", {}, ["job"], "tests", dry_run=True),
    ):
        with pytest.raises(PostingsOfOthers, match="written by your own programs, never by enrichlog"):
            act()


def test_a_posting_that_is_gone_is_never_claimed_and_no_error(adopted: Database) -> None:
    add_postings(adopted, range(1, 5))
    sync(adopted, "job", "tests")
    for stream_id in streams(range(1, 4)):
        tell(adopted, stream_id, started(), failed(wait_ms=0))
    remove(adopted, 1)  # its row of results goes with it
    run(adopted, f"UPDATE job_postings SET title_classification = 'Other' WHERE id IN ('{job_id(2)}', '{job_id(4)}')")
    settings = current()
    found = claim(adopted, settings, enrichment_of(settings), Scope(FAR), "w", 10)
    assert [one.posting.id for one in found.taken] == [job_id(3)]
    assert reports.status(adopted, "job")["postings"]["pending"] == 1
    assert [status(adopted, one)["error_type"] for one in streams(range(1, 3))] == ["timeout"] * 2
    found_by_verify = verify(adopted, gone=find_deleted)
    assert (found_by_verify.total, found_by_verify.gone) == (0, 1)


def test_a_posting_that_is_gone_is_in_no_plan_and_is_listed_without_a_title(adopted: Database) -> None:
    add_postings(adopted, range(1, 3))
    for stream_id in streams(range(1, 3)):
        tell(adopted, stream_id, requested(), started(), failed(wait_ms=0))
    remove(adopted, 1)
    plan = plan_retry(adopted, "job", Selection(), Allowance(None, 5))
    assert (plan.taken, [one.job_id for page in targets_of(adopted, plan) for one in page]) == (1, [job_id(2)])
    listed = reports.failed(adopted, "job", Selection(), 10, 5)
    assert listed.total == 2
    told = {row["job_id"]: (row["title"], row["company"], row["error"]) for row in listed.rows}
    assert told == {
        job_id(1): (None, None, None),
        job_id(2): ("Data engineer 2", "Acme", "Request timeout after 300 seconds"),
    }
    ruled = rulings.requeue(adopted, "job", [job_id(1), job_id(2)], "again")
    assert (ruled.done, ruled.left) == ([job_id(2)], {job_id(1): "its posting is not there any more"})


def test_a_claim_begins_where_the_last_one_found_something_and_ends_with_what_came_back(adopted: Database) -> None:
    add_postings(adopted, range(1, 9))
    for stream_id in streams(range(1, 9)):
        tell(adopted, stream_id, requested())
    run(adopted, f"UPDATE job_postings SET title_classification = 'Other' WHERE id < '{job_id(5)}'")
    scope, taken = Scope(FAR), list[str]()
    for _ in range(2):
        with adopted.write() as connection:
            picked, scope = pick(connection, adopted, "job", scope, FAR, 5, 2, alone=False)
        taken += [row.job_id for row in picked]
        for row in picked:
            tell(adopted, row.stream_id, started())
    assert sorted(taken) == [job_id(number) for number in range(5, 9)]
    before = select(enrichment_status.c.job_id).where(enrichment_status.c.due_at < dict(scope.heads)[0])
    gone = {row.job_id for row in adopted.page(before)}
    assert gone == {job_id(number) for number in range(1, 5)}
    run(adopted, "UPDATE job_postings SET title_classification = 'Data'")
    with adopted.write() as connection:
        picked, scope = pick(connection, adopted, "job", scope, FAR, 5, 9, alone=False)
    assert {row.job_id for row in picked} == gone


def test_a_changed_text_is_no_outdated_result_before_a_sync_has_read_it(adopted: Database) -> None:
    add_postings(adopted, [1])
    counts = count_outdated(adopted, enrichment_of(current()))
    assert counts["by_cause"]["input"] == 0


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT id, title, text AS description FROM job_posting", "job_posting"),
        ("SELECT id, name AS title, 'd' AS description FROM job_postings", "name"),
        ("SELEC id FROM job_postings", "The database does not run it"),
        (f"{PLAIN}; {PLAIN}", "one statement, with no semicolon in it"),
        (f"{PLAIN}; -- it's the end", r"near \";\".*\. Take the semicolon out that stands before the comment at its"),
        (f"{PLAIN}; /* the * end */\n--", "Take the semicolon out"),
        (f"{PLAIN} FROM; -- x\n , 1", "one statement, with no semicolon in it"),
        ("SELECT title FROM job_postings", r"no column id but title: have it say … AS id\. It has no column descr"),
        (f"{PLAIN} UNION ALL {PLAIN}", rf"2 of its rows have the id of another, such as {job_id(1)}, {job_id(2)}:"),
        (f"{PLAIN} UNION ALL SELECT NULL, 't', 'd'", "1 of its rows have no id"),
        (f"{PLAIN} WHERE title = 'none'", "It brings no row: .* row-level security"),
        (PLAIN.replace("title,", "' ' AS title,"), rf"2 of its rows have no title, such as those of {job_id(1)}"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_query_is_told_with_what_to_do(adopted: Database, query: str, told: str) -> None:
    add_postings(adopted, range(1, 3))
    assert check_source(adopted) == []  # the control
    adopted.adopted = replace(adopted.adopted, source=Query(query))
    found = " ".join(check_source(adopted))
    assert re.search(told, found), found


@pytest.mark.parametrize(
    ("query", "is_told"),
    [
        ("DELETE FROM job_postings RETURNING *", True),
        (f"WITH gone AS (DELETE FROM job_postings RETURNING *) {PLAIN}", True),
        (f"-- SELECT\nwith put as (update job_postings p set title = 'x' returning id) {PLAIN}", True),
        ("", True),
        ("SELEC id FROM job_postings", True),
        (f"-- delete from\n({PLAIN.replace('title', 'titel')})", False),
        (f"{PLAIN} WHERE titel <> 'delete from'", False),
    ],
)
def test_where_a_query_is_no_select_that_only_reads_that_is_said_beside_the_words_of_the_database(
    adopted: Database, query: str, is_told: bool
) -> None:
    adopted.adopted = replace(adopted.adopted, source=Query(query))
    (told,) = check_source(adopted)
    assert told.startswith("The database does not run it: ")
    assert told.endswith(". It is to be one SELECT that only reads.") is is_told, told


def test_all_that_is_wrong_with_the_rows_is_told_at_once(adopted: Database) -> None:
    add_postings(adopted, [1])
    adopted.adopted = replace(
        adopted.adopted, source=Query(f"{PLAIN} UNION ALL {PLAIN} UNION ALL SELECT NULL, ' ', ''")
    )
    assert check_source(adopted, quick=True) == []  # which walks over none of them
    kinds = [re.search("no id|the id of another|no title", told) for told in check_source(adopted)]
    assert [kind and kind[0] for kind in kinds] == ["no id", "the id of another", "no title"]


def test_our_own_table_needs_no_check(database: Database) -> None:
    assert check_source(database) == []
    require_source(database, whole=True)


@pytest.fixture
def on_server(server_databases: ServerDatabases, bare: Path) -> Iterator[Database]:
    """An adopted database, for what is true of PostgreSQL alone."""
    url = server_databases.migrated()
    database = adopt(url)
    add_postings(database, [1])
    yield database
    database.close()
    server_databases.drop(url)


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ("1.5 AS id, title, '' AS description", "Its id is of type numeric: it is to be a uuid"),
        (
            "id, 7 AS title, '{}'::jsonb AS description",
            r"Its title is of type integer: say …::text AS title\. Its descr",
        ),
        ("id, title, '' AS description, ARRAY['a'] AS location", "Its location is of type text.*: say …::text AS loc"),
        ("id, title, 'd'::varchar(3) AS description, 7 AS needless", "^$"),
        ("id::text || '' AS id, title, '' AS description", "^$"),
    ],
)
def test_columns_are_of_types_that_can_be_read_or_the_cast_is_named(
    on_server: Database, columns: str, told: str
) -> None:
    on_server.adopted = replace(on_server.adopted, source=Query(f"SELECT {columns} FROM job_postings"))
    assert re.search(told, " ".join(check_source(on_server)))


@pytest.mark.parametrize(
    "query",
    [
        f"{PLAIN} FOR UPDATE",
        "SELECT id, touched(title) AS title, 'Work.' AS description FROM job_postings",
        f"WITH gone AS (DELETE FROM job_postings RETURNING *) {PLAIN}",
    ],
)
def test_a_query_that_writes_is_refused_and_has_written_nothing(on_server: Database, query: str) -> None:
    run(
        on_server,
        "CREATE FUNCTION touched(title text) RETURNS text LANGUAGE sql VOLATILE AS"
        " 'UPDATE job_postings SET title = touched.title || $$!$$ RETURNING title'",
    )
    on_server.adopted = replace(on_server.adopted, source=Query(query))
    assert re.search("writes, or locks|WITH clause containing a data-modifying", " ".join(check_source(on_server)))
    assert [row["title"] for row in run(on_server, "SELECT title FROM job_postings")] == ["Data engineer 1"]


def test_the_rights_that_are_missing_are_all_named_as_the_statements_that_give_them(
    on_server: Database, server: GivenServer
) -> None:
    name = f"reader_{uuid.uuid4().hex[:8]}"
    run(on_server, "CREATE SCHEMA hidden; CREATE VIEW hidden.names AS SELECT * FROM companies")
    query = QUERY.replace("companies company", "hidden.names company")
    with made_roles(server, name, options=f"LOGIN PASSWORD '{name}'"):
        database = Database(url_for(on_server.url, name), adopted=replace(on_server.adopted, source=Query(query)))
        (told,) = check_source(database)
        wanted = ["USAGE ON SCHEMA hidden"]
        wanted += [f"SELECT ON {table}" for table in ("job_postings", "job_descriptions", "hidden.names")]
        assert sorted(re.findall(r"GRANT (.*?) TO", told)) == sorted(wanted), told
        for right in wanted:
            run(on_server, f'GRANT {right} TO "{name}"')
        assert check_source(database) == []
        database.close()
        forget_role(on_server.url, name)


def test_an_id_that_is_computed_has_to_be_found_again(adopted: Database) -> None:
    add_postings(adopted, [1])
    run(adopted, "CREATE TABLE numbered (number integer PRIMARY KEY)")
    run(adopted, "INSERT INTO numbered VALUES (7)")
    computed = "SELECT number {}AS id, 't' AS title, 'd' AS description FROM numbered"
    for query, is_found in ((computed.format(""), True), (computed.format("+ 0 "), adopted.dialect.name != "sqlite")):
        adopted.adopted = replace(adopted.adopted, source=Query(query))
        assert (check_source(adopted) == []) is is_found


def test_a_command_says_what_is_wrong_with_the_query_and_what_to_do(
    user: Command, adopted: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", adopted.url)
    write_settings(bare, QUERY.replace("posting.title,", "posting.titel,"))
    said = user("status")
    assert (said.code, said.out) == (2, "")
    assert "The query under [source] in enrichlog.toml cannot be used. The database does not run it:" in said.err
    write_settings(bare)
    assert user.done("status").code == 0  # the control
    said = user("import", "postings.csv")
    assert (said.code, "their table is written by your own programs" in said.err) == (2, True)


def test_the_types_of_a_query_are_looked_up_when_a_database_is_opened(adopted: Database) -> None:
    adopted.adopted = replace(adopted.adopted, source=Query("SELECT 1 AS id"))
    with pytest.raises(UnusableSource, match="It has no column title but id: have it say … AS title"):
        look_up_source(adopted)
    with pytest.raises(UnusableSource):
        require_source(adopted)
