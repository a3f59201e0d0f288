"""All that is known of an adoption before anything changes: the tables, what is proposed, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError

from enrichlog.adopt_changes import Changes, changes_of, free_index_name
from enrichlog.adopt_dialogue import Dialogue, Question
from enrichlog.adopt_file import FilePlan
from enrichlog.adopt_proposal import Proposal, Wishes, propose
from enrichlog.adopt_source import Quote
from enrichlog.adopted import adopted_of
from enrichlog.adoption_checks import check, fields_of_target
from enrichlog.exceptions import InvalidSetting, NothingToAdopt, NowhereToAdopt
from enrichlog.findings import Findings
from enrichlog.look import quoting
from enrichlog.place import database_of
from enrichlog.result import DEFAULT as DEFAULT_MODEL
from enrichlog.result_fields import Field, Path
from enrichlog.settings import Settings
from enrichlog.worker_rights import grants_for_workers
from eventlog.database import Database
from eventlog.errors import EnrichlogError
from eventlog.inspection import Found
from eventlog.revisions import VERSION_TABLE


@dataclass
class Adoption:
    """All that is known before anything changes."""

    database: Database
    proposal: Proposal
    found: Found | None
    fields: Mapping[Path, Field]
    changes: Changes
    findings: Findings
    plan: FilePlan | None
    for_workers: list[str]
    """The statements with which a login may work that is a member of the application role only."""


def prepare(
    settings: Settings, wishes: Wishes, question: Question | None, *, index: bool, is_printed: bool = False
) -> Adoption:
    """Look at the database, propose, and find all that is wrong; nothing is changed.

    What `is_printed` another role will run, so that this one's right to do so is of no interest.
    """
    looking = database_of(_without_sections(settings))
    of_file = settings.target.table if settings.target else None
    quote = quoting(looking)
    if not looking.dialect.exists():
        raise NowhereToAdopt(where=looking.dialect.where())
    with looking.read() as connection:
        tables = _tables(looking, connection, [wishes.table, wishes.postings, of_file])
        _refuse_ours(looking, connection, settings)
    if question is None or (settings.source and settings.target and not wishes.are_any):
        proposal = propose(settings, tables, wishes, looking)
    else:
        proposal = Dialogue(settings, looking, tables, quote, question).hold(wishes)
    database = _database_of(proposal.settings)
    with database.read() as connection:
        found, changes = _changes(database, connection, quote, index=index)
        for_workers = grants_for_workers(database, connection, tables)
    alters = None if is_printed else bool(changes.statements)
    findings = check(database, proposal.settings, adds=changes.adds, alters=alters)
    findings.faults += _not_proposed(proposal)
    if settings.sources["database"] == "flag" and _has_secret(settings.database):
        findings.warnings.append("The URL is not written into the file, as it may have a password: set DATABASE_URL.")
    fields = fields_of_target(proposal.settings)
    plan = _plan(proposal, findings, settings)
    return Adoption(database, proposal, found, fields, changes, findings, plan, for_workers)


def _tables(database: Database, connection: Connection, named: Iterable[str | None]) -> list[Found]:
    """The tables on the search path, those that are named, and those that one of all these refers to."""
    inspection = database.dialect.inspection
    tables = inspection.tables(connection)
    known = {(table.schema, table.name) for table in tables}
    wanted: set[tuple[str | None, str]] = {
        (schema, name) for told in named if told for schema, _, name in [told.rpartition(".")] if schema
    }
    while wanted := (wanted | {(one.schema, one.table) for table in tables for one in table.references}) - known:
        known |= wanted
        found = [inspection.table(connection, *place) for place in sorted(wanted, key=str)]
        tables += [table for table in found if table is not None and table not in tables]
    return tables


def _without_sections(settings: Settings) -> Settings:
    return settings.model_copy(update={"source": None, "target": None})


def _database_of(settings: Settings) -> Database:
    """The database as it will be adopted, with the types of its columns as far as these can be had."""
    database = database_of(settings)
    try:
        with database.read() as connection:
            adopted = adopted_of(settings)
            database.adopted = adopted.looked_up(database, connection) if adopted else None
    except EnrichlogError:
        pass  # the checks say why
    return database


def _changes(database: Database, connection: Connection, quote: Quote, *, index: bool) -> tuple[Found | None, Changes]:
    target, inspection = database.adopted.target, database.dialect.inspection
    found = inspection.table(connection, target.schema, target.table)
    if found is None:
        return None, Changes()
    name = free_index_name(connection, inspection, found) if index else None
    return found, changes_of(target, found, inspection, quote, index=name)


def _not_proposed(proposal: Proposal) -> Sequence[str]:
    if not proposal.lacking or proposal.postings is None:
        return []
    names = " and ".join(proposal.lacking)
    return [f"No column with the {names} of {proposal.postings.place} was found: give the whole query with --query."]


def _refuse_ours(database: Database, connection: Connection, settings: Settings) -> None:
    """Raises `NothingToAdopt` where the tables are those that `init` made."""
    if settings.source or settings.target or not database.dialect.has_our_table(connection, VERSION_TABLE):
        return
    postings = database.dialect.inspection.table(connection, None, "job_postings")
    if postings is not None and "input_hash" in postings.columns:
        reason = "enrichlog made job_postings and llm_enrichment here itself: there is nothing to adopt."
        raise NothingToAdopt(reason=f"{reason} Postings come in with: enrichlog import FILE")


def _plan(proposal: Proposal, findings: Findings, settings: Settings) -> FilePlan | None:
    top = _top(settings)
    if not proposal.is_new and not top:
        return None
    try:
        plan = FilePlan(proposal.source, proposal.target, top)
    except InvalidSetting as error:
        findings.faults.append(str(error))
        return None
    if plan.changes and not plan.can_be_written:
        findings.faults.append(f"{plan.path.absolute()} cannot be written: give this user the right to, there.")
    return plan


def _top(settings: Settings) -> dict[str, str]:
    """What was given by flags and is kept: never a URL with a secret in it."""
    top = {}
    if settings.sources["database"] == "flag" and not _has_secret(settings.database):
        top["database"] = settings.database
    if settings.sources["result_model"] in ("flag", "default") and settings.result_model != DEFAULT_MODEL:
        top["result_model"] = settings.result_model
    return top


def _has_secret(url: str) -> bool:
    try:
        parsed = make_url(url) if "://" in url else None
    except (ArgumentError, ValueError):
        return True
    return parsed is not None and (parsed.password is not None or bool(parsed.query))
