"""Whether this role may do to the users' tables what has to be done, and see all of their rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from enrichlog.findings import Findings, listed
from enrichlog.look import Look, place_of
from enrichlog.named_tables import is_read_from, named_tables
from eventlog.inspection import Found


def check_rights(look: Look, tables: Sequence[Found]) -> Findings:
    """What the role lacks on the table of results, and which of the users' rows it does not see."""
    findings = check_rights_to_write(look)
    findings.add(_hidden_postings(look, tables))
    findings.warnings += _taken_by_triggers(look)
    return findings


def check_rights_to_write(look: Look) -> Findings:
    """What the role lacks to show results, and which of the rows it does not see."""
    findings = Findings([*_lacking(look)])
    findings.add(_hidden(look))
    return findings


def check_rights_to_change(look: Look, *, alters: bool) -> Iterator[str]:
    """What keeps the role from making what is ours, and from altering the table where that `alters` it."""
    for grant in look.inspection.missing_to_make(look.connection):
        may_not = "may not make a schema here" if "CREATE" in grant else "may not use what enrichlog has made here"
        yield f"The role {look.role} {may_not}. Have the database's owner run: {grant}"
    if alters and (owner := look.inspection.owner(look.connection, look.found)):
        yield (
            f"{look.found.place} is {owner}'s, and only its owner can add a column or an index. Have {owner} run what "
            f"enrichlog adopt --sql prints, or let this role act as {owner}: GRANT {owner} TO {look.role};"
        )


def _lacking(look: Look) -> Iterator[str]:
    mapped = [one.column for one in look.target.columns if one.column in look.found.columns]
    there = [name for name in (look.target.id_column, *mapped) if name in look.found.columns]
    needs = {"SELECT": there, "INSERT": there, "UPDATE": mapped}
    for grant in look.inspection.missing_grants(look.connection, look.found, needs):
        yield f"The role {look.role} lacks a right on {look.found.place}. Have its owner run: {grant}"


def _taken_by_triggers(look: Look) -> Iterator[str]:
    """Triggers that do more than change the row, with the rights of whoever writes it."""
    if names := look.inspection.invoking_triggers(look.connection, look.found):
        yield (
            f"What the triggers {listed(names)} of {look.found.place} read and write takes the rights of whoever "
            "writes a result: without them the table takes none. Grant them to the login that works, or have their "
            "functions be SECURITY DEFINER."
        )


def _hidden(look: Look) -> Findings:
    hidden, place = look.inspection.hidden(look.connection, look.found), look.found.place
    policy = f"CREATE POLICY enrichlog ON {look.sql} TO {look.role} USING (true) WITH CHECK (true);"
    if hidden == "all":
        fault = f"Row-level security hides all of {place} from the role {look.role}. Have its owner run: {policy}"
        return Findings([fault])
    if hidden == "some":
        told = f"Row-level security applies to the role {look.role} on {place}: rows that its policies hide are not"
        return Findings([], [f"{told} written. Should it see them all, have the owner run: {policy}"])
    return Findings()


def _hidden_postings(look: Look, tables: Sequence[Found]) -> Findings:
    """The tables that the query names and that hide postings, or what it joins with them, for all that is known."""
    query, findings = look.adopted.source.query, Findings()
    for table in named_tables(look.inspection, look.connection, query, tables):
        hidden = look.inspection.hidden(look.connection, table) if table.is_table else "none"
        if hidden == "none" or table.place == look.found.place:  # of the table of results is told apart
            continue
        place = place_of(table, look.quote)
        policy = f"CREATE POLICY {look.role} ON {place} FOR SELECT TO {look.role} USING (true);"
        if hidden == "all" and is_read_from(query, table):
            findings.faults.append(
                f"Row-level security hides all of {table.place}, which the source query reads, from the role "
                f"{look.role}. Have its owner run: {policy}"
            )
        else:
            findings.warnings.append(
                f"Row-level security applies to the role {look.role} on {table.place}, which the source query names: "
                f"what its policies hide is not enriched. Should it see all of it, have the owner run: {policy}"
            )
    return findings
