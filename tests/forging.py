"""What somebody with all rights, and with knowledge of the format, could do to a log: the tests' own forger."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import select, update

from eventlog.database import Database
from eventlog.schema import events
from tests.builders import drop_triggers, run


def rows(database: Database) -> list[Mapping[str, Any]]:
    """The whole log as it is stored."""
    return [row._mapping for row in database.page(select(events).order_by(events.c.position))]


def change(database: Database, at: int, **values: Any) -> None:
    """Change an event past the triggers, as somebody with all rights could."""
    drop_triggers(database)
    with database.write() as connection:
        connection.execute(update(events).where(events.c.position == at).values(**values))


def erase_content(database: Database, stream_id: str) -> None:
    """Take the content as the triggers allow it once the stream has its `ContentErased`."""
    erasable = f"stream_id = '{stream_id}' AND content IS NOT NULL"
    run(database, f"UPDATE {{ours}}events SET content = NULL, salt = NULL WHERE {erasable}")


def documented_hash(previous: bytes, row: Mapping[str, Any]) -> bytes:
    """The format as the documentation has it, written down a second time."""
    time = row["recorded_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    header = [str(row["position"]), row["event_id"], row["stream_id"], str(row["version"]), row["type"], time]
    texts = [text.encode("utf-8") for text in (*header, row["facts"])]
    sealed = b"".join(len(text).to_bytes(4, "big") + text for text in texts)
    return hashlib.sha256(previous + sealed + documented_digest(row)).digest()


def documented_digest(row: Mapping[str, Any]) -> bytes:
    """The digest of the content; where that was erased, as it is stored."""
    if row["content"] is None and row["salt"] is None:
        stored: bytes = row["content_digest"]
        return stored
    return hashlib.sha256((row["salt"] or b"") + (row["content"] or "").encode("utf-8")).digest()


def rechain(database: Database, changed: Sequence[Mapping[str, Any]]) -> None:
    """Write changed events with hashes that fit, as somebody who knows the format could."""
    first = changed[0]["position"]
    previous = rows(database)[first - 2]["hash"] if first > 1 else bytes(32)
    for row in reversed(changed):  # from the end, because versions move up
        change(database, row["position"], version=row["version"])
    for row in changed:
        previous = documented_hash(previous, row)
        change(database, row["position"], **{**row, "hash": previous})


def forge(database: Database, position: int, **values: Any) -> None:
    """Change one event, its content's digest too, and all hashes from there on: a chain that is unbroken."""
    forged, *later = rows(database)[position - 1 :]
    whole = {**forged, **values}
    if "content" in values:
        whole["content_digest"] = documented_digest(whole)
    rechain(database, [whole, *later])


def retell(database: Database, position: int, old: str, new: str) -> None:
    """Replace a part of one event's facts, chained as if it had been written so: by a later code, or a broken one."""
    facts = rows(database)[position - 1]["facts"]
    assert old in facts
    forge(database, position, facts=facts.replace(old, new))
