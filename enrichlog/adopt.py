"""The command that adopts a database which was there before us: look, propose, check, ask, change, note."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from enrichlog import adopt_history, adopt_screen
from enrichlog.adopt_applied import apply, is_done, is_migrated
from enrichlog.adopt_dialogue import Question
from enrichlog.adopt_history import import_into
from enrichlog.adopt_prepared import Adoption, prepare
from enrichlog.adopt_proposal import Wishes
from enrichlog.asking import Confirm, ask, nobody
from enrichlog.exceptions import NothingAdopted
from enrichlog.history_import import count_unimported
from enrichlog.history_report import HistoryImport
from enrichlog.place import flag_for
from enrichlog.settings import Settings
from enrichlog.terminal import print_json, remember_flags

DONE, USAGE = 0, 2


@dataclass(frozen=True)
class Asked:
    """How an adoption is to be done."""

    dry_run: bool = False
    yes: bool = False
    index: bool = True
    history: bool = False
    as_json: bool = False


def adopt(settings: Settings, wishes: Wishes, asked: Asked, confirm: Confirm, question: Question | None) -> int:
    """Adopt the database; without a `question` nothing is asked for. Returns the exit code."""
    adoption = prepare(settings, wishes, question, index=asked.index)
    where, was_done = adoption.database.dialect.where(), is_done(adoption)
    if not asked.as_json:
        _show(adoption, where, briefly=was_done and asked.history)
    if adoption.findings.faults:
        return _refuse(adoption, asked)
    if asked.dry_run:
        _tell_history(adoption, asked)
        return DONE
    if not was_done and not asked.yes:
        plan = f"{where} would be adopted as shown." if not asked.as_json else f"{where} is to be adopted."
        ask(nobody if asked.as_json else confirm, plan)
    apply(adoption)
    history = _import(adoption, asked) if asked.history else None
    left = 0 if history else count_unimported(adoption.database)
    if asked.as_json:
        print_json(_document(adoption, adopted=True) | adopt_history.document(history) | {"not_imported": left})
    else:
        _tell_done(adoption, settings, history, left, was_done=was_done)
    return DONE


def _refuse(adoption: Adoption, asked: Asked) -> int:
    """Tell the faults in the document, and return the exit code; for people raises `NothingAdopted`."""
    if not asked.as_json:
        raise NothingAdopted(count=adopt_screen.wrong(adoption.findings))
    print_json(_document(adoption, adopted=False))
    return USAGE


def _tell_done(
    adoption: Adoption, settings: Settings, history: HistoryImport | None, left: int, *, was_done: bool
) -> None:
    """What was imported or is left of the history, and what comes next."""
    flag = flag_for(settings) if "database =" not in (adoption.plan.after if adoption.plan else "") else ""
    remember_flags(flag, adoption.database.adopted.target.enrichment)
    if history is not None:
        adopt_history.told(history)
    elif left:
        adopt_history.told_left(left, flag)
    following = "adopt --import-history" if left else "enrich --dry-run"
    adopt_screen.done(adoption.database.dialect.where(), f"enrichlog {following}{flag}", was_done=was_done)


def _import(adoption: Adoption, asked: Asked) -> HistoryImport:
    settings = adoption.proposal.settings
    return import_into(adoption.database, settings, dry_run=asked.dry_run, quiet=asked.as_json)


def _tell_history(adoption: Adoption, asked: Asked) -> None:
    """What the history would come to, in a dry run."""
    history = _import(adoption, asked) if asked.history else None
    if asked.as_json:
        print_json(_document(adoption, adopted=False) | adopt_history.document(history))
    elif history is not None:
        adopt_history.told(history)


def _show(adoption: Adoption, where: str, *, briefly: bool) -> None:
    """What is proposed, wrong and to be changed; `briefly`: only what is wrong."""
    if not briefly:
        adopt_screen.proposed(adoption.proposal, adoption.found, adoption.fields, adoption.changes.adds)
    adopt_screen.found_wrong(adoption.findings)
    if briefly:
        return
    if not adoption.findings.faults:
        adopt_screen.changed(adoption.changes, adoption.plan, where, is_made=is_migrated(adoption.database))
        adopt_screen.for_workers(adoption.for_workers)


def _document(adoption: Adoption, *, adopted: bool) -> dict[str, Any]:
    where = adoption.database.dialect.where()
    return adopt_screen.document(
        adoption.proposal, adoption.findings, adoption.changes, adoption.plan, for_workers=adoption.for_workers,
        database=where, adopted=adopted,
    )  # fmt: skip
