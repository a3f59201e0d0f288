"""The hash chain: how an event is sealed, so that nobody can change it unnoticed."""

from __future__ import annotations

import hashlib
import os
import struct
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from eventlog import canonical
from eventlog.events import Payload, iso
from eventlog.schema import part_of

GENESIS = bytes(32)
"""What stands for the hash before the first event."""

SALT_BYTES = 16  # so that a short content cannot be guessed from its digest after it has been erased


class Sealed(NamedTuple):
    """An event ready to be appended: everything but its position, time and hash."""

    event_id: str
    stream_id: str
    version: int
    part: int
    type: str
    facts: str
    content: str | None
    salt: bytes | None
    content_digest: bytes


def seal(event_id: str, stream_id: str, version: int, kind: str, payload: Payload) -> Sealed:
    """Write both halves as canonical text and digest the content with a fresh salt."""
    facts = canonical.facts_text(payload.facts)
    content = None if payload.content is None else canonical.text(payload.content)
    salt = None if content is None else os.urandom(SALT_BYTES)
    digest = digest_content(salt, content)
    return Sealed(event_id, stream_id, version, part_of(stream_id), kind, facts, content, salt, digest)


def digest_content(salt: bytes | None, content: str | None) -> bytes:
    """SHA-256(salt ‖ content); of nothing at all for an event that never had content."""
    return hashlib.sha256((salt or b"") + (content or "").encode()).digest()


_time_text = lru_cache(maxsize=1)(iso)  # all events of a batch were recorded at the same time
_length = struct.Struct(">I").pack


def link(
    previous: bytes, position: int, recorded_at: datetime, event_id: str, stream_id: str, version: int, kind: str,
    facts: str, content_digest: bytes,
) -> bytes:  # fmt: skip
    """SHA-256(previous hash ‖ header ‖ facts ‖ content digest), each text behind its length in 4 bytes, big-endian.

    The header is position, event id, stream id, version, type and time of recording, in this order, as text.
    """
    texts = (str(position), event_id, stream_id, str(version), kind, _time_text(recorded_at), facts)
    one, two, three, four, five, six, seven = map(str.encode, texts)
    # Spelt out: a loop over the fields took as long as all of the hashing.
    sealed = (
        previous,
        _length(len(one)), one, _length(len(two)), two, _length(len(three)), three, _length(len(four)), four,
        _length(len(five)), five, _length(len(six)), six, _length(len(seven)), seven,
        content_digest,
    )  # fmt: skip
    return hashlib.sha256(b"".join(sealed)).digest()
