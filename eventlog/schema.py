"""The tables of the log, and the types that both databases share."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from eventlog.events import iso, moment

OURS = "enrichlog"
"""Schema of the tables that are ours; on PostgreSQL it is mapped to the configured name, on SQLite to none."""

PARTS = 64

metadata = MetaData()


class _UtcText(TypeDecorator[datetime]):
    """A moment in UTC as RFC 3339 text: SQLite has no type that keeps the time zone."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:
        return None if value is None else iso(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else moment(value)


class _UtcTimestamp(TypeDecorator[datetime]):
    """A moment in UTC: PostgreSQL hands timestamps back in the session's time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)


UtcDateTime = _UtcTimestamp().with_variant(_UtcText(), "sqlite")
Key = Text().with_variant(Text(collation="C"), "postgresql")  # one order of keys on both databases, whatever the locale
Number = BigInteger().with_variant(Integer(), "sqlite")  # only INTEGER is SQLite's own row id

events = Table(
    "events",
    metadata,
    Column("position", Number, primary_key=True, autoincrement=False),
    Column("event_id", Key, nullable=False),
    Column("stream_id", Key, nullable=False),
    Column("version", Integer, nullable=False),
    Column("part", SmallInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("recorded_at", UtcDateTime, nullable=False),
    Column("facts", Text, nullable=False),
    Column("content", Text),
    Column("salt", LargeBinary),
    Column("content_digest", LargeBinary, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("stream_id", "version", name="events_stream_version"),
    UniqueConstraint("event_id", name="events_event_id"),
    CheckConstraint("position >= 1 AND version >= 1", name="events_numbered_from_one"),
    CheckConstraint(f"part >= 0 AND part < {PARTS}", name="events_part"),
    schema=OURS,
)

Index("events_type", events.c.type, events.c.position)


def part_of(stream_id: str) -> int:
    """Which of the 64 parts a stream belongs to: the first byte of the SHA-256 of its name, modulo 64."""
    return hashlib.sha256(stream_id.encode()).digest()[0] % PARTS
