"""Where nobody has a table of results yet: `adopt` shows the statement that makes one, which is adopted as it is."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from enrichlog.adopt_proposal import Wishes
from enrichlog.settings import configure
from eventlog.database import Database
from tests.adopted import add_postings, make_tables
from tests.adopting import MODEL
from tests.builders import run
from tests.command_line import Command
from tests.test_adopt_dialogue import Answers, converse


class Part(BaseModel):
    """A part of a result."""

    name: str


class Result(BaseModel):
    """A field of each kind, and one that is called like a word of SQL."""

    order: str
    years: int | None
    share: float
    is_remote: bool
    skills: list[str]
    levels: list[int]
    parts: list[Part]
    part: Part
    size: str | int


OF_EACH_KIND = ("--result-model", f"{__name__}:Result")


@pytest.fixture
def theirs(user: Command, empty_database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Postings and their descriptions, and no table of results."""
    make_tables(empty_database)
    add_postings(empty_database, range(1, 4))
    run(empty_database, "DROP TABLE llm_enrichment")
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    return empty_database


def statement(told: str) -> str:
    return told[told.index("CREATE TABLE") :].partition("\n")[0]


@pytest.mark.parametrize("words", [(), ("--table", "found_out"), ("--table", "of vacancies")])
def test_the_table_whose_making_is_shown_takes_every_field(
    user: Command, theirs: Database, words: tuple[str, ...]
) -> None:
    said = user("adopt", *OF_EACH_KIND, *words)
    assert said.code == 2
    assert "If there is none yet, make one, such as this, and run adopt again: CREATE TABLE" in said.error
    run(theirs, statement(said.error))
    document = user.json("adopt", *OF_EACH_KIND, *words, "--yes")
    assert (document["faults"], document["warnings"], document["target"]["id_column"]) == ([], [], "job_posting_id")
    known = {f"enrichment_{name}": f"@{name}" for name in ("error", "completed_at", "model_version")}
    assert document["target"]["columns"] == {name: name for name in Result.model_fields} | known
    assert user.json("sync")["new"] == 3


def test_who_answers_with_nothing_is_told_what_to_make(theirs: Database, capsys: pytest.CaptureFixture[str]) -> None:
    configure(result_model=MODEL[1])
    converse(theirs, Answers("", "companies", "id", "job_postings", "", ""), Wishes())
    told = capsys.readouterr().err
    assert "No table of results was found. If there is none yet, make one" in told
    assert "One has to be named. There are: companies, job_descriptions, job_postings\n" in told
    assert "There is no ." not in told
    assert statement(told).endswith("enrichment_model_version text);")


def test_the_only_table_that_there_is_has_the_postings_too(
    user: Command, empty_database: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database.url)
    empty_database.dialect.create_place()
    run(empty_database, "CREATE TABLE stellen (id integer PRIMARY KEY, title text, description text, skills text)")
    run(empty_database, "INSERT INTO stellen VALUES (1, 'One', 'It is.', NULL)")
    document: Any = user.json("adopt", "--table", "stellen", "--dry-run")
    assert document["source"]["query"].endswith("FROM stellen posting")
    assert document["target"]["id_column"] == "id"
