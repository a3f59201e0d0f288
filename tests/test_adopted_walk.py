"""The checklist of docs/from-your-scripts.md, line by line, on tables that were there before us, over real HTTP."""

import json
import re
from pathlib import Path

from enrichlog.settings import FILE
from enrichlog.simulator import Script, Simulator
from eventlog.database import Database
from tests.adopted import LISTS, TEXTS, add_postings, job_id, row_of, set_row, settings_file
from tests.builders import run
from tests.command_line import CLI, Command

PAGE = (CLI.parent / "docs" / "from-your-scripts.md").read_text(encoding="utf-8")
QUOTA = "Error code: 429 - You exceeded your current quota, please check your plan and billing details."
NEEDS_RANKING = "UPDATE job_postings SET needs_ranking = true WHERE id = :id"
FAILED, AWAITING = (" ".join(sql.split()).removesuffix(";") for sql in re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))


def found(database: Database, query: str) -> list[str]:
    """The postings that a query of theirs finds."""
    return [str(row["job_posting_id"]) for row in run(database, query)]


def needing_ranking(database: Database) -> list[str]:
    return [str(row["id"]) for row in run(database, "SELECT id FROM job_postings WHERE needs_ranking ORDER BY id")]


def test_the_checklist(adopted: Database, adopter: Command, simulator: Simulator, bare: Path) -> None:
    (bare / FILE).write_text(settings_file(after_success=NEEDS_RANKING))
    add_postings(adopted, [1])
    add_postings(adopted, [2], classification="Sales")  # not wanted
    one = job_id(1)
    simulator.play(Script(quota=0))

    # A posting that is enriched while the quota is exhausted fails.
    assert adopter("enrich", one).code == 1
    assert adopter.json("status")["postings"]["failed"] == 1

    # Its error is stored, in the provider's words; nothing else of its row is touched.
    row = row_of(adopted, 1)
    assert row["enrichment_error"].startswith(QUOTA)
    assert row["enrichment_completed_at"] is not None
    assert [row[name] for name in (*TEXTS, *LISTS, "note")] == [None] * len((*TEXTS, *LISTS, "note"))
    assert needing_ranking(adopted) == []

    # Both ways of looking for what failed find it.
    assert (found(adopted, FAILED), found(adopted, AWAITING)) == ([one], [])
    (told,) = adopter.json("failed")
    assert (told["job_id"], told["error_type"]) == (one, "quota_exceeded")

    # Once its retry is requested, the other query finds it too.
    adopter.done("requeue", one, "--reason", "the quota will be raised")
    assert (found(adopted, FAILED), found(adopted, AWAITING)) == ([one], [one])

    # It is retried with force, and succeeds.
    simulator.restore_quota()
    adopter.done("breaker", "close", "--reason", "the quota was raised")
    adopter.done("enrich", "--force", one)

    # Its error is cleared.
    assert (found(adopted, FAILED), found(adopted, AWAITING)) == ([], [])
    assert adopter.json("failed") == []

    # Its result is in its columns, lists and objects included.
    row = row_of(adopted, 1)
    result = json.loads(adopter.done("export", "results").out)["result"]
    assert {name: row[name] for name in result} == result
    assert isinstance(row["rolniveau"], list)
    assert set(row["labels"]) == {"topics", "score"}
    assert row["enrichment_model_version"]

    # And after_success has had its say, of this posting alone.
    assert needing_ranking(adopted) == [one]
    assert len(simulator.journal) == 2
    adopter.done("verify")


def test_the_page_has_a_line_for_each_step_of_it() -> None:
    assert PAGE.count("- [x] ") == 8


def test_what_an_old_script_goes_on_writing_is_told_and_left_or_imported(adopted: Database, adopter: Command) -> None:
    add_postings(adopted, [1, 2, 3])
    adopter.done("enrich", "--limit", "2")
    set_row(adopted, 1, rol_titel="as the old script has it", note="theirs")
    run(adopted, f"UPDATE llm_enrichment SET enrichment_completed_at = NULL WHERE job_posting_id = '{job_id(2)}'")
    set_row(adopted, 3, rol_titel="Data engineer", enrichment_completed_at="2026-01-12 03:10:00+00")
    said = adopter("verify")
    assert (said.code, "1 edited" in said.out, "1 extra" in said.out) == (3, True, True)
    adopter.done("adopt", "--import-history", "--yes")
    assert adopter.json("status")["postings"]["succeeded"] == 3
    adopter.done("rebuild")
    rows = [row_of(adopted, number) for number in (1, 2, 3)]
    assert [row["rol_titel"] for row in rows] == ["as the old script has it", rows[1]["rol_titel"], "Data engineer"]
    assert rows[0]["note"] == "theirs"
    assert rows[1]["enrichment_completed_at"] is not None
