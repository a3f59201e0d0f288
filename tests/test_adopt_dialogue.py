"""The questions of an adoption, at a terminal."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

import cli
from enrichlog.adopt_dialogue import Dialogue
from enrichlog.adopt_proposal import Proposal, Wishes
from enrichlog.settings import configure
from eventlog.database import Database
from tests.adopted import add_postings, columns, make_tables
from tests.adopting import made, made_of_theirs
from tests.builders import BOUND
from tests.command_line import CLI, Command, environment


@pytest.fixture
def theirs(bare: Path, empty_database: Database) -> Database:
    make_tables(empty_database, error_column=False)
    add_postings(empty_database, range(3))
    add_postings(empty_database, [7], "Other")
    return empty_database


class Answers:
    """Somebody who answers in turn, and keeps what was asked, and which answer was proposed."""

    def __init__(self, *answers: str | None) -> None:
        self._answers = iter(answers)
        self.asked: list[tuple[str, str]] = []

    def __call__(self, what: str, proposed: str) -> str:
        self.asked.append((what, proposed))
        answer = next(self._answers)
        return proposed if answer is None else answer


def converse(database: Database, answers: Answers, wishes: Wishes) -> Proposal:
    quote = database.engine.dialect.identifier_preparer.quote
    with database.read() as connection:
        tables = database.dialect.inspection.tables(connection)
    return Dialogue(configure(database=database.url), database, tables, quote, answers).hold(wishes)


def test_each_question_has_an_answer_that_enter_takes(theirs: Database, capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers("tests.adopted:DataJob", None, None, None, None, None)
    proposal = converse(theirs, answers, Wishes())
    assert [proposed for _, proposed in answers.asked] == [
        "enrichlog.result:JobEnrichment", "llm_enrichment", "job_posting_id", "job_postings", "", "",
    ]  # fmt: skip
    assert proposal.target.columns == columns()
    assert "WHERE" not in proposal.source.query
    assert "  title_classification: Data (3), Other (1)\n" in capsys.readouterr().err


def test_what_cannot_be_is_asked_again(theirs: Database, capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers(
        "nowhere:Model", "tests.adopted:DataJob", "result", "llm_enrichment", "note2", "job_posting_id", None,
        "kind = 'Data'", "title_classification = 'Data'", "",
    )  # fmt: skip
    proposal = converse(theirs, answers, Wishes())
    told = capsys.readouterr().err
    for line in (
        "The result model nowhere:Model is not usable",
        "There is no result. There are: companies",
        "There is no note2.",
    ):
        assert line in told
    assert re.search("That is no condition here: .*kind", told)
    assert proposal.source.query.endswith("\nWHERE title_classification = 'Data'")


def test_what_was_said_is_not_asked_for(theirs: Database) -> None:
    configure(result_model="tests.adopted:DataJob")
    wishes = Wishes(
        table="llm_enrichment", id_column="job_posting_id", postings="job_postings", where="is_active",
        after_success="",
    )  # fmt: skip
    assert converse(theirs, Answers(), wishes).source.query.endswith("WHERE is_active")


class Typist:
    """A person at a terminal: reads until something is asked, and types."""

    def __init__(self, folder: Path, url: str, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, str(CLI), "adopt", *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment(DATABASE_URL=url, COLUMNS="200", PYTHONPATH=str(CLI.parent)), start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.read = ""

    def wait_for(self, text: str) -> None:
        until, seen = time.monotonic() + BOUND, len(self.read)
        while text not in self.read[seen:]:
            assert select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0], self.read
            self.read += os.read(self._ours, 65536).decode()

    def answer(self, question: str, text: str = "") -> None:
        self.wait_for(question)
        os.write(self._ours, f"{text}\n".encode())

    def end(self) -> int:
        code = self.process.wait(BOUND)
        os.close(self._ours)
        return code


@pytest.fixture
def typist(bare: Path, files: Any) -> Any:
    database = Database(files.empty())
    make_tables(database, error_column=False)
    add_postings(database, range(3))
    typist = Typist(bare, database.url, "--result-model", "tests.adopted:DataJob")
    yield typist, database
    typist.process.kill()
    database.close()


def test_a_person_answers_sees_what_would_change_and_says_so(typist: Any, bare: Path) -> None:
    person, database = typist
    before = made_of_theirs(database)
    person.answer("takes the results [llm_enrichment]:")
    person.answer("[job_posting_id]:")
    person.answer("[job_postings]:")
    person.answer("(Enter for all):", "title_classification = 'Data'")
    person.answer("(Enter for none):")
    assert made_of_theirs(database) == before
    person.answer("Go on? [y/N]:", "y")
    person.wait_for("Adopted: ")
    assert person.end() == 0
    assert made_of_theirs(database) != before
    assert "title_classification = 'Data'" in (bare / "enrichlog.toml").read_text()


def test_ctrl_c_leaves_everything_as_it_was(
    user: Command, theirs: Database, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = made(theirs)
    answers = Answers(None, None)

    def question(what: str, proposed: str) -> str:
        if "posting's id" in what:
            raise click.Abort
        return answers(what, proposed)

    monkeypatch.setattr(cli, "_question", question)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    said = user("adopt", "--result-model", "tests.adopted:DataJob", "--database", theirs.url)
    assert (said.code, [what for what, _ in answers.asked]) == (130, ["The table that takes the results"])
    assert said.err.endswith("\nNothing was done.\n")
    assert (made(theirs), (bare / "enrichlog.toml").exists()) == (before, False)
