"""The questions of an adoption, each with an answer that is proposed; whatever was given as a flag is not asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from sqlalchemy import text

from enrichlog.adopt_names import find
from enrichlog.adopt_proposal import Proposal, Wishes, propose, to_be_made
from enrichlog.adopt_source import Quote
from enrichlog.adoption_checks import fields_of_target
from enrichlog.exceptions import InvalidResultModel, NothingToAdopt
from enrichlog.findings import listed
from enrichlog.result import load_model
from enrichlog.settings import Settings
from enrichlog.terminal import note, one_line
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.inspection import Column, Found
from projections.adoption import escaped

Question = Callable[[str, str], str]
"""Asks a question with the answer that is proposed, and returns the answer."""

_LOOKED_AT = 50_000
_MOST_VALUES = 12
_LONGEST_VALUE = 40


class Dialogue:
    """One about the tables of a database; no transaction is open while somebody thinks."""

    def __init__(
        self, settings: Settings, database: Database, tables: Sequence[Found], quote: Quote, question: Question
    ) -> None:
        self._settings, self._database, self._tables = settings, database, tables
        self._quote, self._question = quote, question

    def hold(self, wishes: Wishes) -> Proposal:
        """Ask for what was not said, and propose what follows from the answers."""
        note("Each question has an answer that is proposed: Enter takes it. Nothing is changed before you say so.")
        self._ask_model()
        self._ask_target(wishes)
        if wishes.query is None:
            self._ask_postings(wishes)
            self._ask_where(wishes)
        if wishes.after_success is None:
            what = "SQL to run with each result, in which :id is the posting's id (Enter for none)"
            wishes.after_success = self._question(what, "").strip()
        return self._propose(wishes)

    def _propose(self, wishes: Wishes) -> Proposal:
        return propose(self._settings, self._tables, wishes, self._database)

    def _proposed(self, wishes: Wishes) -> Proposal | None:
        """What would be proposed by now, if that can be told."""
        try:
            return self._propose(replace(wishes))
        except NothingToAdopt:
            return None

    def _ask_model(self) -> None:
        while self._settings.sources["result_model"] == "default":
            what = "The pydantic model of the result, as package.module:Class"
            told = self._question(what, self._settings.result_model).strip()
            try:
                load_model(told)
            except InvalidResultModel as error:
                note(str(error))
                continue
            self._settings.result_model = told
            return

    def _ask_target(self, wishes: Wishes) -> None:
        if wishes.table is None:
            if remedy := to_be_made(self._tables, wishes, fields_of_target(self._settings), self._database):
                note(f"No table of results was found. {remedy}")
            proposed = self._proposed(wishes)
            places = [one.place for one in self._tables if one.is_table]
            known = proposed.target.table if proposed else ""
            wishes.table = self._one_of(places, "The table that takes the results", known)
        found = find(self._tables, wishes.table)
        if wishes.id_column is None and found is not None:
            proposed = self._proposed(wishes)
            known = proposed.target.id_column if proposed else ""
            wishes.id_column = self._one_of([*found.columns], "Its column that has the posting's id", known)

    def _ask_postings(self, wishes: Wishes) -> None:
        if wishes.postings is None:
            proposed = self._proposed(wishes)
            known = proposed.postings.place if proposed and proposed.postings else ""
            places = [one.place for one in self._tables]
            wishes.postings = self._one_of(places, "The table that has the postings", known)

    def _ask_where(self, wishes: Wishes) -> None:
        """Ask for a filter, until it is one; what the postings can be told apart by is shown before."""
        postings = find(self._tables, wishes.postings or "")
        if wishes.where is not None or postings is None:
            return
        shown = [*self._counts(postings)]
        if shown:
            note(f"{postings.place} can be told apart by:")
        for column, values in shown:
            note(f"  {column}: {values}")
        example = f", such as posting.{self._quote(shown[0][0])} = '…'" if shown else ""
        while True:
            wishes.where = self._question(f"Which are wanted? A condition of SQL{example} (Enter for all)", "").strip()
            fault = self._fault(wishes)
            if fault is None:
                return
            note(f"That is no condition here: {fault}")

    def _fault(self, wishes: Wishes) -> str | None:
        """Why a query with this condition does not run."""
        query = escaped(self._propose(replace(wishes)).source.query)
        try:
            with self._database.read() as connection:
                connection.execute(text(f"SELECT * FROM (\n{query}\n) AS source LIMIT 0"))
        except EnrichlogError as error:
            return str(error.facts.get("reason", error))
        return None

    def _counts(self, postings: Found) -> Iterator[tuple[str, str]]:
        """The columns of few values, with how many of the first rows have each."""
        schema = f"{self._quote(postings.schema)}." if postings.schema else ""
        for column in postings.columns.values():
            if column.name in postings.unique or not _tells_apart(column):
                continue
            rows = f"SELECT {self._quote(column.name)} AS value FROM {schema}{self._quote(postings.name)}"
            query = (
                f"SELECT value, count(*) FROM ({rows} LIMIT {_LOOKED_AT}) AS seen GROUP BY value "
                f"ORDER BY 2 DESC LIMIT {_MOST_VALUES + 1}"
            )
            try:
                with self._database.read() as connection:
                    found = connection.execute(text(escaped(query))).all()
            except EnrichlogError:  # it may not be read
                continue
            if 1 < len(found) <= _MOST_VALUES and all(len(str(value)) <= _LONGEST_VALUE for value, _ in found):
                yield column.name, ", ".join(f"{one_line(str(value))} ({count:,})" for value, count in found)

    def _one_of(self, known: Sequence[str], what: str, proposed: str) -> str:
        """An answer that is one of these."""
        while (told := self._question(what, proposed).strip()) not in known:
            fault = f"There is no {told}." if told else "One has to be named."
            note(f"{fault} There are: {listed(known, 60) or 'none'}")
        return told


def _tells_apart(column: Column) -> bool:
    """Whether a column may have few values."""
    return bool(column.labels) or bool(re.match(r"text|char|varchar|citext|bool|$", column.type))
