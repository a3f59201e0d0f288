"""How each projection stands: the fold that made its rows, how many there are, how far it is, what a check found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Table, func, select

from eventlog.database import Database
from eventlog.log import head_position
from projections import catalogue
from projections.checkpoints import NEVER_FOLDED, Noted, noted
from projections.enrichment_status import enrichment_status
from projections.tables import columns_there

Kind = Literal["per stream", "spanning", "following"]
"""One row per stream, or rows that span streams, both moved by each append; or following the log behind it."""

Fold = Literal["current", "outdated", "too new", "never folded", "not there"]
"""Whether the rows are what this code's fold makes of the log, as far as that is noted."""


@dataclass(frozen=True)
class ReadModel:
    """A projection as it stands.

    `fold_version` is the code's, `rows_fold_version` that of the rows. `rows` is None where the table is not there.
    `position` is the last one applied, `lag` how many events are not. `drift` counts the rows that differed when all
    were compared last, None when they never were. `failed_streams` are those that a table of the users' refused.
    """

    name: str
    kind: Kind
    fold: Fold
    fold_version: int
    rows_fold_version: int | None
    rows: int | None
    position: int
    lag: int
    drift: int | None
    checked_at: datetime | None
    checked_position: int | None
    failed_streams: int | None

    def document(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self)


def list_read_models(database: Database) -> tuple[int, list[ReadModel]]:
    """Where the log ends, and every projection that there is."""
    notes = noted(database)
    with database.read() as connection:
        head = head_position(connection)
    return head, [_read_model(database, name, notes.get(name), head) for name in catalogue.names()]


def folds(notes: Mapping[str, Noted]) -> dict[str, Fold]:
    """How the fold of each projection stands to what is noted of its rows."""
    return {name: _fold(name, notes.get(name)) for name in catalogue.names()}


def _read_model(database: Database, name: str, note: Noted | None, head: int) -> ReadModel:
    follows = name in catalogue.following()
    position = (note.position if note else None) or 0
    applied = min(position, head) if follows else head
    with database.read() as connection:
        table = catalogue.table_of(name, database.adopted)
        is_there = columns_there(connection, database, table) is not None
        rows = connection.execute(_count(table)).scalar_one() if is_there else None
        failed = _failed_streams(connection, database) if catalogue.is_users(name) else None
    return ReadModel(
        name, _kind(name), _fold(name, note), catalogue.version_of(name), note.fold_version if note else None, rows,
        applied, head - applied, *((note.drift, note.checked_at, note.checked_position) if note else (None,) * 3),
        failed,
    )  # fmt: skip


def _kind(name: str) -> Kind:
    if name in catalogue.following():
        return "following"
    return "spanning" if name in catalogue.spanning() else "per stream"


def _fold(name: str, note: Noted | None) -> Fold:
    if note is None:
        return "not there"
    version = catalogue.version_of(name)
    if note.fold_version == NEVER_FOLDED:
        return "never folded"
    return "current" if note.fold_version == version else "outdated" if note.fold_version < version else "too new"


def _count(table: Table) -> Any:
    return select(func.count()).select_from(table)


def _failed_streams(connection: Connection, database: Database) -> int | None:
    if columns_there(connection, database, enrichment_status) is None:
        return None
    hidden = enrichment_status.c.projection_error.is_not(None)
    return int(connection.execute(_count(enrichment_status).where(hidden)).scalar_one())


def advice(stand: Mapping[str, Fold], flag: str) -> Iterator[str]:
    """What to do about rows that are not what this code's folds would make of the log; nothing where all are.

    `flag` is what `enrichlog init` must be given to reach this database.
    """
    for fold, words in _ADVICE.items():
        names = [name for name, found in stand.items() if found == fold]
        if names:
            yield words.format(names=", ".join(names), typed=" ".join(names), flag=flag)


_ADVICE: dict[Fold, str] = {
    "outdated": (
        "An earlier version of enrichlog has made the rows of {names}. They are shown as they are, until: "
        "enrichlog rebuild {typed}"
    ),
    "never folded": "The rows of {names} lack what was in the log before them. Add it with: enrichlog rebuild {typed}",
    "too new": (
        "A later version of enrichlog has made the rows of {names}, and this one does not write them like it. Upgrade "
        "enrichlog, then: enrichlog rebuild {typed}"
    ),
    "not there": "This database has no {names} yet. Have it made by: enrichlog init{flag}",
}
