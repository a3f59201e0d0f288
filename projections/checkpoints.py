"""How far each projection is: the fold that made its rows, the position they stand at, what the last check found.

Operational: no fold explains these rows, and no rebuild touches them.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, SmallInteger, Table

from eventlog.schema import OURS, Key, Number, UtcDateTime, metadata

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("projection", Key, primary_key=True),
    Column("fold_version", SmallInteger, nullable=False),
    Column("position", Number),
    Column("checked_at", UtcDateTime),
    Column("checked_position", Number),
    Column("drift", Integer),
    schema=OURS,
)
"""`position` is the last one applied, of a projection that follows the log; null for one that moves with each append.

`drift` is how many rows differed when all were compared last, at `checked_at`, with the log up to `checked_position`;
after a rebuild, how many differ still.
"""

rebuilds = Table(
    "rebuilds",
    metadata,
    Column("projections", Key, primary_key=True),
    Column("share", Key, primary_key=True),
    Column("last_stream", Key, nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    schema=OURS,
)
"""Rebuilds that have not ended: which projections, which share of the parts, and the last stream that is done."""
