"""How workers look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from enrichlog.moments import told_age
from enrichlog.terminal import one_line, paragraph, table
from enrichlog.workers import CONFIGURED, Seen, differing

COLUMNS = ("Worker", "Host", "State", "In flight", "Since", "Last seen", "Ready")
_HASH_LENGTH = 8
_READY_WIDTH = 12  # then workers of short names are a table in a terminal of 80 characters


def show(found: Sequence[Seen]) -> None:
    """The workers there are, and in what those that live differ."""
    if not found:
        return
    table(COLUMNS, [_cells(one) for one in found], numbers=("In flight",), least=_READY_WIDTH)
    for column, names in differing(found).items():
        told = ", ".join(f"{_value(column, value)} ({', '.join(of)})" for value, of in names.items())
        paragraph(f"The workers differ in their {CONFIGURED[column]}: {told}")


def _cells(one: Seen) -> tuple[object, ...]:
    row, why = one.row, one.why_unready
    state = row.state if one.is_live else "not seen"
    since, seen = told_age(row.since, one.now), told_age(row.last_seen, one.now)
    ready = f"no: {why}" if why and one.is_live else "no" if why else "yes"
    return row.name, one_line(row.host), state, row.in_flight, since, seen, ready


def _value(column: str, value: str) -> str:
    return one_line(value) if column == "request_model" else value[:_HASH_LENGTH]
