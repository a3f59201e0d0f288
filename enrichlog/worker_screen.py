"""How workers look in a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from enrichlog.moments import told_moment
from enrichlog.terminal import one_line, paragraph, table
from enrichlog.workers import RESTS_ON, Seen, differing

COLUMNS = ("Worker", "Host", "State", "In flight", "Since", "Last seen", "Ready")
_HASH_LENGTH = 8


def show(found: Sequence[Seen]) -> None:
    """The workers there are, and in what those that live differ."""
    if not found:
        return
    table(COLUMNS, [_cells(one) for one in found], numbers=("In flight",))
    for column, names in differing(found).items():
        told = ", ".join(f"{_value(column, value)} ({', '.join(of)})" for value, of in names.items())
        paragraph(f"The workers differ in their {RESTS_ON[column]}: {told}")


def _cells(one: Seen) -> tuple[object, ...]:
    row, why = one.row, one.why_unready
    state = row.state if one.is_live else "not seen"
    seen = f"{max(0, round((one.now - row.last_seen).total_seconds()))} s ago" if one.is_live else "long ago"
    ready = f"no: {why}" if why else "yes"
    return row.name, one_line(row.host), state, row.in_flight, told_moment(row.since), seen, ready


def _value(column: str, value: str) -> str:
    return one_line(value) if column == "request_model" else value[:_HASH_LENGTH]
