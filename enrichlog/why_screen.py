"""How the reasons for a posting's rows look in a terminal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from enrichlog.as_of_screen import told
from enrichlog.moments import told_moment
from enrichlog.refusals import first_line
from enrichlog.screens import shortened
from enrichlog.terminal import advise, counted, one_line, say, table
from enrichlog.why import Column, Table, Why

_SHOWN_VALUE = 80


def show(found: Why) -> None:
    """Each column of both rows: its value, the event that set it, and when."""
    moment = f", {told(found.at)}" if found.at else ""
    say(f"{one_line(found.job_id)}: {counted(found.events, 'event')}{moment}")
    if found.not_shown:
        say(f"The table does not show it: {first_line(found.not_shown)}.")
        say(advise("Mend the table, then: enrichlog rebuild llm_enrichment"))
    for one in found.tables:
        _table(one, "not shown yet" if found.not_shown else "edited by hand")
    if any(column.differs and column.cause for one in found.tables for column in one.columns):
        say(advise("See all rows that are not what their events say with: enrichlog verify"))


def _table(one: Table, why: str) -> None:
    if not one.columns:
        say(f"{one.name}: no row yet")
        return
    say(one.name if one.is_there is not False else f"{one.name}: the row is not in the table; the events say")
    lines = [(column.name, *_cause(column), _value(column, why)) for column in one.columns]
    table(("Column", "Set by", "Position", "When", "Value"), lines, numbers=("Position",))


def _cause(column: Column) -> tuple[str, str, str]:
    if column.cause is None:
        return "no event", "", ""
    cause = column.cause
    imported = ", imported" if cause.imported else ""
    return f"{cause.version}. {cause.type}{imported}", f"{cause.position:,}", told_moment(cause.recorded_at)


def _value(column: Column, why: str) -> str:
    if not column.differs:
        return _text(column.value)
    if column.cause is None:  # it may have been there before us
        return f"{_text(column.live)} (no event says so)"
    return f"{_text(column.live)} ({why}: the events say {_text(column.value)})"


def _text(value: Any) -> str:
    if value is None:
        return "-"
    return told_moment(value) if isinstance(value, datetime) else shortened(one_line(str(value)), _SHOWN_VALUE)
