"""What people type and what they see: each command on both databases, with the simulator as the API."""

import io
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import cli
from enrichlog import __version__, patience
from enrichlog.simulator import Fault, Rule, Script, Simulator
from eventlog import recorder
from eventlog.database import Database
from eventlog.errors import DatabaseUnavailable
from eventlog.log import append as real_append
from tests.builders import drop_triggers, failed, requested, run, started, tell
from tests.command_line import Command, contents, run_process
from tests.service import KEY, SAMPLES, import_many, import_postings, of_type, posting, whole_log

NAMES = sorted(cli.cli.commands)
QUOTA = Script(rules=[Rule("Work number", (Fault.QUOTA,))])
QUOTA_ONCE = Script(rules=[Rule("Work number 000", (Fault.QUOTA, Fault.OK))])
REFUSAL = Script(rules=[Rule("Work number 001", (Fault.REFUSAL,))])


class Terminal(io.StringIO):
    """A standard input at which someone sits."""

    def isatty(self) -> bool:
        return True


def fail(simulator: Simulator, fault: Fault) -> None:
    simulator.play(Script(rules=[Rule("Work number", (fault,))]))


# -- help -------------------------------------------------------------------------------------------------------------


def test_help_is_there_at_once_and_names_every_command(tmp_path: Path) -> None:
    said = run_process("--help", folder=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert all(f"\n  {name} " in said.out for name in NAMES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_each_command_has_an_example_and_json(user: Command, name: str) -> None:
    said = user.done(name, "--help")
    assert ("By hand: `" if name == "simulator" else f"Example:  enrichlog {name}") in said.out
    assert "--json" in said.out


def test_the_version_is_the_packages(user: Command) -> None:
    assert user.done("--version").out == f"enrichlog, version {__version__}\n"


def test_without_a_command_the_help_is_shown(user: Command) -> None:
    said = user()
    assert (said.code, said.out) == (2, "")
    assert "enrichlog demo" in said.err


# -- from an empty place to results -----------------------------------------------------------------------------------


def test_init_import_enrich_and_a_look_at_what_came_out(
    user: Command, empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    assert user.done("init").out.endswith("migration 0001. Next: enrichlog import FILE\n")
    assert user.done("import", SAMPLES).out.endswith(
        "44 added, 0 unchanged, 0 changed, 0 rejected\nNext: enrichlog enrich\n"
    )
    assert user.done("init").out.endswith("migration 0001. Next: enrichlog status\n")
    assert "44 attempts" in user.done("enrich", "--concurrency", "20").out
    assert "43 succeeded, 1 failed" in user.done("status").out.replace("running, ", "")
    assert user.done("verify").out.endswith("Sound.\n")


@pytest.mark.parametrize(("name", "shown"), [("my jobs.db", "'my jobs.db'"), ("a.db", "a.db")])
def test_the_next_step_names_the_database_when_it_was_named(user: Command, bare: Path, name: str, shown: str) -> None:
    said = user("status", "--database", name)
    assert said.error.endswith(f"Create it with: enrichlog init --database {shown}")
    assert user.done("init", "--database", name).out.endswith(f"Next: enrichlog import FILE --database {shown}\n")


def test_the_next_step_shows_no_password(user: Command, postgresql: Database) -> None:
    url = postgresql.url + ("&" if "?" in postgresql.url else "?") + "application_name=one-secret"
    said = user.done("init", "--database", url)
    assert said.out.endswith("Next: enrichlog import FILE --database URL\n")


def test_init_again_changes_nothing(enrichlog: Command, database: Database) -> None:
    import_many(database, 2)
    before = contents(database)
    enrichlog.done("init")
    assert contents(database) == before


def test_init_can_print_the_sql_instead(user: Command, empty_database: Database) -> None:
    said = user.done("init", "--sql", "--database", empty_database.url)
    assert "CREATE TABLE" in said.out
    assert user("status", "--database", empty_database.url).code == 1


def test_import_says_what_was_added_unchanged_changed_and_rejected_on_which_line(
    enrichlog: Command, bare: Path
) -> None:
    (bare / "jobs.csv").write_text("id,title,description\n1,Engineer,Build.\n2,Analyst,Look.\n")
    enrichlog.done("import", "jobs.csv")
    (bare / "jobs.csv").write_text("id,title,description\n1,Engineer,Build.\n2,Analyst,Count.\n3,Clerk,File.\n4,,No.\n")
    expected = "1 added, 1 unchanged, 1 changed, 1 rejected\n  line 5: it has no title\n"
    assert enrichlog.done("import", "jobs.csv", "--dry-run").out == f"jobs.csv: Would be: {expected}"
    assert enrichlog.done("import", "jobs.csv").out == f"jobs.csv: {expected}Next: enrichlog enrich\n"
    assert "Next" not in enrichlog.done("import", "jobs.csv").out


def test_a_column_of_another_name_is_mapped(enrichlog: Command, database: Database, bare: Path) -> None:
    (bare / "jobs.csv").write_text("nr,job_title,text\n7,Engineer,Build.\n")
    enrichlog.done("import", "jobs.csv", "--map", "id=nr", "--map", "title=job_title", "--map", "description=text")
    assert run(database, "SELECT id, title, description FROM job_postings") == [
        {"id": "7", "title": "Engineer", "description": "Build."}
    ]


# -- enrich -----------------------------------------------------------------------------------------------------------


def test_a_limit_takes_so_many_and_the_next_run_the_rest(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    assert enrichlog.done("enrich", "--limit", "2").out.startswith("2 attempts in ")
    assert enrichlog.done("enrich").out.startswith("1 attempt in ")
    assert enrichlog.done("enrich").out == "Nothing is due.\n"
    assert len(simulator.journal) == 3


def test_where_nothing_is_due_it_says_what_can_be_done_about_it(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    ways = "enrichlog import FILE, or from your tables: enrichlog sync"
    expected = f"There is no posting yet. Postings come in with: {ways}\n"
    assert enrichlog.done("enrich").out == expected
    assert enrichlog.done("status").out.endswith(expected)
    import_many(database, 2)
    simulator.play(REFUSAL)
    enrichlog.done("enrich")
    assert enrichlog.done("enrich").out == "Nothing is due.\n"
    tell(database, "job-000", requested("force"), started(2), failed(2))
    expected = "Nothing is due. What has failed may be tried again with: enrichlog retry\n"
    assert enrichlog.done("enrich").out == expected


def test_a_run_says_how_many_results_the_users_table_did_not_take(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    simulator.play(QUOTA_ONCE)
    enrichlog("enrich", "--concurrency", "1")
    enrichlog.done("breaker", "close", "--reason", "mended")
    run(database, "ALTER TABLE llm_enrichment DROP COLUMN result")
    told = "in the log and not in llm_enrichment. See why, and what to do: enrichlog projections failed"
    assert enrichlog.done("enrich", "--limit", "1").out.splitlines()[-1] == f"1 result is {told}"
    assert enrichlog.done("retry", "--yes").out.splitlines()[-1] == f"2 results are {told}"
    assert enrichlog.json("enrich")["projection_failed"] == 3


@pytest.mark.parametrize("as_json", [False, True])
def test_what_was_done_is_told_though_the_database_was_lost_and_then_the_error(
    enrichlog: Command, database: Database, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    import_many(database, 3)
    appends = iter([real_append])

    def append(*arguments: Any) -> Any:
        known = next(appends, None)
        if known is None:
            raise DatabaseUnavailable(where="there", reason="it is gone")
        return known(*arguments)

    monkeypatch.setattr(patience, "AWAY_SECONDS", 0.2)
    monkeypatch.setattr(recorder, "append", append)
    said = enrichlog("enrich", "--concurrency", "1", *(["--json"] if as_json else []))
    assert said.code == 1
    assert (said.document["succeeded"] if as_json else said.out.partition(" in ")[0]) == (1 if as_json else "1 attempt")
    warnings = [line for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert warnings[0].endswith("the URL is right. Trying again for 0.2 s.")
    assert said.err.splitlines()[-1].startswith("Error: The database there cannot be reached: it is gone.")


def test_progress_goes_to_standard_error(enrichlog: Command, database: Database) -> None:
    import_many(database, 2)
    said = enrichlog.done("enrich")
    assert "2/2" in said.err
    assert "2/2" not in said.out


def test_a_dry_run_says_how_many_and_neither_appends_nor_calls(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 3)
    before = contents(database)
    assert enrichlog.done("enrich", "--dry-run").out.startswith("Would take 3 postings; ")
    assert enrichlog.done("enrich", "--dry-run", "001").out.startswith("Would take 1 posting; ")
    assert (contents(database), simulator.journal) == (before, [])


def test_a_dry_run_with_nothing_to_take_says_so(enrichlog: Command, database: Database) -> None:
    assert enrichlog.done("enrich", "--dry-run").out == "Nothing is due.\n"
    assert enrichlog("enrich", "--force", "--all").code == 0  # nobody is asked about nothing


def test_a_dry_run_goes_by_the_price_of_the_model_that_would_be_asked(enrichlog: Command, database: Database) -> None:
    import_many(database, 3)
    enrichlog.done("enrich", "--limit", "1")
    told = enrichlog.done("enrich", "--dry-run", "--model", "nobody-knows").out
    assert told.startswith("Would take 2 postings; about ")
    assert "tokens, at a price that is not known (going by the last 1 answered call)." in told


def test_named_postings_alone_are_taken(enrichlog: Command, database: Database) -> None:
    import_many(database, 3)
    enrichlog.done("enrich", "002", "000", "002")
    assert sorted(start.stream_id for start in of_type(database, "EnrichmentStarted")) == ["job-000", "job-002"]


def test_a_posting_that_is_enriched_is_left_unless_forced(enrichlog: Command, database: Database) -> None:
    import_many(database, 1)
    enrichlog.done("enrich")
    left = enrichlog.done("enrich", "000").out
    assert left.startswith("000 was left: already enriched\nNothing was tried.")
    assert "1 attempt in " in enrichlog.done("enrich", "000", "--force").out
    assert [asked.facts["why"] for asked in of_type(database, "EnrichmentRequested")] == ["new", "force"]


def test_everything_is_forced_only_once_it_is_confirmed(
    enrichlog: Command, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_many(database, 2)
    enrichlog.done("enrich")
    for answer, code in (("n\n", 1), ("y\n", 0)):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        said = enrichlog("enrich", "--force", "--all")
        assert said.code == code
        assert "2 postings; about 398 tokens, $0.000126 (going by the last 2 answered calls)." in said.err
        assert answer == "y\n" or said.err.endswith("[y/N]: Nothing was done.\n")
    assert "2 attempts in " in enrichlog.done("enrich", "--force", "--all", "--yes").out
    assert len(of_type(database, "EnrichmentStarted")) == 6


@pytest.mark.parametrize("limit", [("--limit", "1"), ("--max-cost", "0.0000001")])
def test_a_forced_run_that_ends_early_leaves_nothing_to_pay_for_to_the_next(
    enrichlog: Command, database: Database, limit: tuple[str, str]
) -> None:
    import_many(database, 3)
    enrichlog.done("enrich")
    enrichlog("enrich", "--force", "--all", "--yes", *limit)
    assert enrichlog.json("status")["postings"] == {
        "pending": 0, "running": 0, "succeeded": 3, "failed": 0, "dismissed": 0,
    }  # fmt: skip
    assert enrichlog.json("enrich")["done"] == 0


def test_a_limit_of_money_stops_the_run_before_it_is_passed(enrichlog: Command, database: Database) -> None:
    import_many(database, 5)
    said = enrichlog("enrich", "--max-cost", "0.000001")
    assert said.code == 1
    told = next(line for line in said.out.splitlines() if line.startswith("Stopped early. The limit of money"))
    assert "One call must reserve what it may cost at the most, $0.00" in told
    assert told.endswith("or lower max_output_tokens, which is 4,096.")
    needed = re.search(r"\$(0\.\d+): give --max-cost at least that", told)
    assert needed is not None
    assert of_type(database, "EnrichmentStarted") == []
    assert "One call must reserve" in enrichlog("enrich", "000", "--max-cost", "0.000001", "--json").document["stopped"]
    enough = enrichlog("enrich", "--max-cost", needed[1])
    assert "must reserve" not in enough.out
    assert len(of_type(database, "EnrichmentStarted")) >= 1


def test_failures_are_no_failure_of_the_run_unless_asked_for(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 2)
    simulator.play(REFUSAL)
    said = enrichlog.done("enrich", "--limit", "1")
    assert enrichlog("enrich", "--fail-on-error").code == 3
    assert "0 failed" in said.out


def test_an_exhausted_quota_stops_the_run_and_says_why_and_what_to_do(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 30)
    simulator.play(QUOTA)
    said = enrichlog("enrich", "--concurrency", "2")
    assert said.code == 1
    assert "Stopped early. Quota Exceeded: Error code: 429 - You exceeded your current quota" in said.out
    assert "then: enrichlog retry --error-type quota" in said.out
    assert len(simulator.journal) < 30


def test_the_model_of_the_flag_is_asked_and_recorded(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_many(database, 1)
    enrichlog.done("enrich", "--model", "gpt-4.1-mini")
    (start,) = of_type(database, "EnrichmentStarted")
    assert start.facts["request_model"] == "gpt-4.1-mini"


def test_a_further_enrichment_of_the_settings_runs_beside_the_first(
    enrichlog: Command, database: Database, bare: Path
) -> None:
    (bare / "enrichlog.toml").write_text('[enrichments.brief]\nmodel = "gpt-4.1-nano"\n')
    import_many(database, 2)
    assert "2 attempts" in enrichlog.done("enrich", "--enrichment", "brief").out
    assert "2 pending" in enrichlog.done("status").out
    assert "2 succeeded" in enrichlog.done("status", "--enrichment", "brief").out
    assert "EnrichmentSucceeded" in enrichlog.done("history", "000", "--enrichment", "brief").out


# -- what failed, and why ---------------------------------------------------------------------------------------------


@pytest.fixture
def two_failed(enrichlog: Command, database: Database, simulator: Simulator) -> Command:
    """One posting that was refused, one that the server failed on, and one that succeeded."""
    import_postings(database, posting("001", company="Acme [Corp]"), posting("002"), posting("003"))
    rules = [Rule("Work number 001", (Fault.REFUSAL,)), Rule("Work number 002", (Fault.SERVER_ERROR, Fault.OK))]
    simulator.play(Script(rules=rules))
    enrichlog.done("enrich", "--concurrency", "1")
    return enrichlog


def test_failed_numbers_them_with_title_company_time_and_exact_error(two_failed: Command) -> None:
    lines = two_failed.done("failed").out.splitlines()
    assert lines[0] == "1. Engineer 002"
    assert lines[5] == "2. Engineer 001"
    assert lines[6] == "   Company:   Acme [Corp]"
    assert lines[7].startswith("   Failed at: 20")
    assert lines[8].startswith("   Error:     Could not extract structured output from API response: the model refused")
    assert lines[9] == "   Job id:    001 (refusal, attempt 1, not tried again by itself)"
    assert lines[-1] == "2 of 2"


def test_failed_shows_so_many_of_how_many(two_failed: Command) -> None:
    assert two_failed.done("failed", "--limit", "1").out.endswith("\n1 of 2\n")


def test_failed_narrows_by_error_type_and_by_time(two_failed: Command) -> None:
    assert "1 of 1" in two_failed.done("failed", "--error-type", "refusal").out
    assert "2 of 2" in two_failed.done("failed", "--error-type", "refusal", "--error-type", "server_error").out
    assert "2 of 2" in two_failed.done("failed", "--since", "1h").out
    assert two_failed.done("failed", "--since", "2999-01-01").out == "Nothing has failed like that.\n"
    assert two_failed.done("failed", "--error-type", "quota").out == "Nothing has failed like that.\n"
    assert two_failed.done("failed", "--enrichment", "job", "--limit", "1").out.endswith("1 of 2\n")


def test_errors_counts_by_type_and_says_what_to_do(two_failed: Command) -> None:
    heading, *rows = two_failed.done("errors").out.splitlines()
    assert heading.split() == ["Error", "type", "Group", "Postings", "What", "to", "do"]
    assert rows[0].startswith("refusal       Rejected         1  Trying again brings the same")
    assert any(row.startswith("server_error  Provider         1  The provider had trouble") for row in rows)


def test_history_tells_every_event_in_order(two_failed: Command) -> None:
    lines = two_failed.done("history", "001").out.splitlines()
    assert lines[0] == "001: 3 events"
    assert [line.split()[4] for line in lines[1:4]] == ["EnrichmentRequested", "EnrichmentStarted", "EnrichmentFailed"]
    assert "refusal: Could not extract structured output" in lines[3]
    assert [line.split()[3] for line in lines[1:4]] == ["UTC"] * 3
    assert two_failed.done("failed", "--error-type", "server_error").out.splitlines()[4].endswith(" UTC)")


def test_history_shows_how_a_reply_began_on_one_line(
    enrichlog: Command, database: Database, simulator: Simulator
) -> None:
    import_postings(database, posting("1", description="Work number 1. " + "many words " * 200))
    simulator.play(Script(rules=[Rule("Work number", (Fault.INVALID_JSON,))]))
    enrichlog.done("enrich")
    head, last = enrichlog.done("history", "1").out.splitlines()[-2:]
    assert "EnrichmentFailed" in head
    assert last.startswith('     The reply began: {"id":')
    assert (len(last), last[-1]) == (22 + 1_000, "…")


def test_status_says_where_everything_stands(two_failed: Command, database: Database) -> None:
    lines = two_failed.done("status").out.splitlines()
    assert lines[0] == f"Database: {database.dialect.where()}, 9 events"
    assert lines[1] == "Postings: 0 pending, 0 running, 1 succeeded, 2 failed, 0 dismissed"
    assert lines[2].startswith("Attempts: 3; ")


# -- rebuild and verify -----------------------------------------------------------------------------------------------


def test_a_row_that_was_deleted_is_found_and_given_back(two_failed: Command, database: Database) -> None:
    projections = two_failed.json("verify")["projections"]
    run(database, "DELETE FROM llm_enrichment WHERE job_posting_id = '003'")
    found = two_failed("rebuild", "--dry-run")
    verified = two_failed("verify")
    assert (found.code, verified.code) == (3, 3)
    assert verified.out.endswith("\nNot sound. The log is; make the rest equal to it with: enrichlog rebuild\n")
    assert "job-003 is missing" in found.out
    assert "1 row" in two_failed.done("rebuild", "llm_enrichment").out
    two_failed.done("stats")  # so that what follows the log has nothing to write either
    assert two_failed.done("rebuild", "--dry-run").out.count("no difference") == len(projections)


def test_a_row_that_was_deleted_with_its_posting_is_gone_and_not_missing(
    two_failed: Command, database: Database
) -> None:
    for table, key in (("job_postings", "id"), ("llm_enrichment", "job_posting_id")):
        run(database, f"DELETE FROM {table} WHERE {key} = '003'")
    said = two_failed.done("verify").out
    assert "llm_enrichment: 9 events of 3 streams, no difference; 1 row gone with the posting\n" in said
    assert two_failed.json("rebuild")["projections"][1]["gone"] == 1
    assert run(database, "SELECT * FROM llm_enrichment WHERE job_posting_id = '003'") == []


def test_a_changed_event_is_found_with_its_position(two_failed: Command, database: Database) -> None:
    drop_triggers(database)
    run(database, "UPDATE {ours}events SET facts = REPLACE(facts, 'gpt', 'GPT') WHERE position = 4")
    said = two_failed("verify")
    assert said.code == 3
    assert "Log: position 4: " in said.out
    assert said.out.endswith("Not sound.\n")


def test_verify_gives_an_anchor_that_it_takes_back(two_failed: Command, database: Database) -> None:
    anchor = two_failed.done("verify").out.splitlines()[1].removeprefix("Anchor to keep elsewhere: ")
    two_failed.done("verify", "--anchor", anchor)
    assert int(anchor.partition(":")[0]) == len(whole_log(database))
    other = two_failed("verify", "--anchor", f"{anchor.partition(':')[0]}:{'0' * 64}")
    assert other.code != 0


# -- config -----------------------------------------------------------------------------------------------------------


def test_config_says_what_is_set_and_where_and_shows_no_secret(enrichlog: Command, bare: Path) -> None:
    (bare / "enrichlog.toml").write_text("concurrency = 3\n")
    said = enrichlog.done("config", "--database", "postgresql://me:hunter2secret@host/jobs")
    rows = {line.split()[0]: line.split()[1:] for line in said.out.splitlines()}
    assert rows["concurrency"] == ["3", "enrichlog.toml"]
    assert rows["api_key"] == [f"…{KEY[-4:]}", "OPENAI_API_KEY"]
    assert rows["prompt"] == ["-", "default"]
    assert "hunter2secret" not in said.out


# -- where output goes ------------------------------------------------------------------------------------------------


def test_any_title_can_be_printed_where_the_locale_knows_few_characters(sqlite: Database, bare: Path) -> None:
    import_postings(sqlite, posting("1", title="Dévops 🚀 → Київ", description=""))
    variables = {"DATABASE_URL": sqlite.url, "OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "PYTHONIOENCODING": "cp1252"}
    assert run_process("enrich", folder=bare, **variables).code == 0
    said = run_process("failed", folder=bare, **variables)
    assert (said.code, said.err) == (0, "")
    assert "1. Dévops 🚀 → Київ" in said.out


def test_what_is_advised_is_about_the_same_enrichment_and_database(
    enrichlog: Command, database: Database, bare: Path
) -> None:
    (bare / "enrichlog.toml").write_text("[enrichments.brief]\n")
    import_many(database, 1)
    enrichlog.done("enrich", "--enrichment", "brief", "--database", database.url)
    said = enrichlog.done("enrich", "000", "--enrichment", "brief", "--database", database.url).out
    flag = "URL" if "@" in database.url else database.url
    assert f"enrichlog enrich JOB_ID --force --enrichment brief --database {flag}" in said
    assert (
        "JOB_ID --force\n" in enrichlog.done("enrich", "000").out + enrichlog.done("enrich", "000").out
    )  # the control


def test_rows_that_no_event_explains_are_told_as_the_users_own(two_failed: Command, database: Database) -> None:
    run(database, "INSERT INTO llm_enrichment (job_posting_id, enrichment) VALUES ('ghost', 'job')")
    for _ in range(2):
        said = two_failed("verify")
        assert (said.code, said.out.splitlines()[-1]) == (
            3,
            "Not sound. The log is; rows that no event explains are left as they are, for you to keep or to delete.",
        )
        two_failed.done("rebuild")


def test_a_verdict_names_what_was_edited_and_what_no_event_explains(two_failed: Command, database: Database) -> None:
    run(database, "INSERT INTO llm_enrichment (job_posting_id, enrichment) VALUES ('ghost', 'job')")
    run(database, "UPDATE llm_enrichment SET enrichment_error = 'looked into' WHERE job_posting_id = '003'")
    said = two_failed("verify")
    assert (said.code, said.out.splitlines()[-1]) == (
        3,
        "Not sound. The log is; to overwrite what was edited by hand: enrichlog rebuild --overwrite-edits; rows that "
        "no event explains are left as they are, for you to keep or to delete.",
    )


def test_everything_forced_is_a_plan_to_scripts_until_it_is_confirmed(enrichlog: Command, database: Database) -> None:
    import_many(database, 2)
    said = enrichlog("enrich", "--force", "--all", "--json")
    assert (said.code, said.document) == (2, {"dry_run": True, "would_take": 2, "left": {}})
