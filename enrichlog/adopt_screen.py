"""How an adoption looks in a terminal and in documents: what was found, what is proposed, what it would change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enrichlog.adopt_changes import Changes
from enrichlog.adopt_file import FilePlan
from enrichlog.adopt_proposal import Proposal
from enrichlog.findings import Findings, listed
from enrichlog.result_fields import Field, Path
from enrichlog.settings import FILE, Constant
from enrichlog.terminal import counted, headline, one_line, paragraph, say, table
from eventlog.inspection import Found
from eventlog.rights import APP_ROLE


def proposed(proposal: Proposal, found: Found | None, fields: Mapping[Path, Field], adds: str | None) -> None:
    """The source, the table of results and its mapping."""
    headline("Postings come from" if proposal.is_new else f"Postings come from, as {FILE} says")
    for line in proposal.source.query.strip().splitlines():
        paragraph(line, indent=2)
    target = proposal.target
    headline(f"Results go to {target.table}, found by {target.id_column}")
    named = [name for name, told in target.columns.items() if told == name]
    if named:
        paragraph(f"{counted(len(named), 'field')} to the column of the same name: {listed(named, 100)}", indent=2)
    others = [(name, told) for name, told in target.columns.items() if told != name]
    rows = [(f"  {name}", _type(found, name, adds), _told(told), _kinds(told, fields)) for name, told in others]
    table(("  Column", "Type", "Takes", "Which is"), rows)
    if found is not None:
        alone = [name for name in found.columns if name not in target.columns and name != target.id_column]
        if alone:
            paragraph(f"Left alone: {listed(alone, 100)}", indent=2)
    if target.after_success:
        paragraph(f"With each result: {one_line(target.after_success)}", indent=2)


def _type(found: Found | None, name: str, adds: str | None) -> str:
    column = found.columns.get(name) if found else None
    return column.type if column else "(to be added)" if name == adds else "(not there)"


def _told(told: str | Constant) -> str:
    return f"always {told.constant!r}" if isinstance(told, Constant) else told


def _kinds(told: str | Constant, fields: Mapping[Path, Field]) -> str:
    field = fields.get(tuple(told.split("."))) if isinstance(told, str) else None
    return " or ".join(sorted(field.kinds)) if field else ""


def found_wrong(findings: Findings) -> None:
    """Faults and warnings."""
    for name, told in (("What has to be mended first", findings.faults), ("Worth knowing", findings.warnings)):
        if told:
            headline(name)
            for one in told:
                paragraph(f"- {one_line(one)}", indent=2)


def changed(changes: Changes, plan: FilePlan | None, where: str, *, is_made: bool) -> None:
    """The SQL that would run in their tables, and what would be written into the file."""
    headline(f"Changes in {where}")
    for statement in changes.statements:
        paragraph(f"{statement};", indent=2)
    if changes.aside:
        paragraph("The last one runs by itself, after the others: it lets everybody write meanwhile.", indent=2)
    if not changes.statements:
        paragraph("None in your tables.", indent=2)
    if not is_made:
        paragraph("And the tables of enrichlog are made, apart from yours.", indent=2)
    if plan is not None and plan.changes:
        headline(f"Changes in {FILE}")
        for line in plan.diff().splitlines():
            say(f"  {line}")


def for_workers(grants: Sequence[str]) -> None:
    """What somebody has to run before another login can work than the one that adopts."""
    if grants:
        headline("For workers")
        paragraph(f"A login that is a member of {APP_ROLE} only needs these too, on your tables:", indent=2)
        for grant in grants:
            paragraph(grant, indent=2)


def done(where: str, following: str, *, was_done: bool) -> None:
    """That it is adopted, and what comes next."""
    told = f"{where} was adopted already, and nothing was left to do." if was_done else f"Adopted: {where}."
    paragraph(f"{told} Next: {following}")


def document(
    proposal: Proposal, findings: Findings, changes: Changes, plan: FilePlan | None, **further: Any
) -> dict[str, Any]:
    """All of it, for scripts."""
    return {
        "source": proposal.source.model_dump(mode="json"),
        "target": proposal.target.model_dump(mode="json"),
        "result_model": proposal.settings.result_model,
        "is_new": proposal.is_new,
        "faults": findings.faults,
        "warnings": findings.warnings,
        "sql": [f"{statement};" for statement in changes.statements],
        "file": FILE,
        "diff": plan.diff() if plan else "",
        **further,
    }


def wrong(findings: Findings) -> str:
    """How many faults there are."""
    return counted(len(findings.faults), "fault") + (" stands" if len(findings.faults) == 1 else " stand")
