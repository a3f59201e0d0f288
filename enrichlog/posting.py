"""A job posting, as it is read and sent."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from eventlog import canonical


class Posting(NamedTuple):
    """A job posting; an empty description is stored, and fails when it is to be enriched."""

    id: str
    title: str
    description: str
    company: str | None = None
    location: str | None = None
    url: str | None = None
    language: str | None = None

    @property
    def input_hash(self) -> str:
        """SHA-256 of what counts as input: when it changes, the posting is to be enriched again.

        A prompt may send the id, the URL and the language too; a change of those alone is no reason to pay again.
        """
        read = {name: getattr(self, name) for name in ("title", "company", "location", "description")}
        return hashlib.sha256(canonical.text(read).encode()).hexdigest()


class Titled(NamedTuple):
    """What people know a posting by; None where it is not there any more."""

    title: str | None = None
    company: str | None = None
