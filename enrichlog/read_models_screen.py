"""How projections look in a terminal, and the word of warning while the rows of one are not of this code's fold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from enrichlog.adopted import adopted_of
from enrichlog.moments import told_age
from enrichlog.place import flag_for
from enrichlog.read_models import ReadModel, advice, folds
from enrichlog.screens import not_shown
from enrichlog.settings import Settings
from enrichlog.terminal import advise, counted, note, paragraph, say, table
from eventlog.database import Database
from projections.checkpoints import noted
from projections.shown import place_of

COLUMNS = ("Projection", "Kind", "Fold", "Rows", "Position", "Drift at last check")
_LEAST_WIDTH = 14


def show(found: Sequence[ReadModel], head: int, now: datetime, settings: Settings) -> None:
    """Every projection, and what to do where one is not as it should be."""
    say(f"The log ends at position {head:,}." if head else "There is no event yet.")
    rows = [(one.name, one.kind, _fold(one), _number(one.rows), f"{one.position:,}", _check(one, now)) for one in found]
    table(COLUMNS, rows, numbers=("Rows", "Position"), least=_LEAST_WIDTH)
    results = place_of(adopted_of(settings))
    stand = {one.name: one.fold for one in found}
    for line in (*advice(stand, flag_for(settings)), *(line for one in found for line in _remedies(one, results))):
        paragraph(advise(line))
    if any(one.checked_at is None for one in found):
        paragraph(advise("To compare all of them with the log: enrichlog verify"))


def warn(database: Database, settings: Settings) -> None:
    """Say on standard error which rows are not of this code's folds, and what mends them."""
    for line in advice(folds(noted(database)), flag_for(settings)):
        note(advise(line))


def _fold(one: ReadModel) -> str:
    if one.rows_fold_version in (one.fold_version, None):
        return "-" if one.rows_fold_version is None else str(one.fold_version)
    return f"{one.rows_fold_version}, code {one.fold_version}"


def _number(count: int | None) -> str:
    return "no table" if count is None else f"{count:,}"


def _check(one: ReadModel, now: datetime) -> str:
    if one.checked_at is None or one.drift is None:
        return "never checked"
    return f"{one.drift:,} at {one.checked_position:,}, {told_age(one.checked_at, now)}"


def _remedies(one: ReadModel, results: str) -> list[str]:
    """What to do about one projection whose rows are as its fold makes them, and not all there."""
    mend, said = f"enrichlog rebuild {one.name}", []
    if one.rows is None:
        said.append(f"{one.name} has no table any more. Make it again as it was, then: {mend}")
    if one.lag:
        said.append(
            f"{one.name} is {counted(one.lag, 'event')} behind the log. Workers bring it up to it, and so does: {mend}"
        )
    if one.drift:
        said.append(f"{one.name} was not what the log adds up to at its last check. To see how: {mend} --dry-run")
    if one.failed_streams:
        said.append(not_shown(one.failed_streams, results))
    return said
