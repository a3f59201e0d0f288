"""Bases: what a posting has been tried with, so that what changes and changes back is no new start each time. Pure.

A basis is the model, the prompt and the schema of an attempt, told by eight hexadecimal digits; a posting's bases are
those words, the first before the second, with a space between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

PARTS = ("request_model", "prompt_hash", "schema_hash")
MOST = 32
"""So many bases of one posting are told apart: one more is no reason to try it anew."""

_DIGITS = 8
FULL_LENGTH = MOST * (_DIGITS + 1) - 1
"""The length of a text of bases that holds as many as it may."""


@lru_cache(maxsize=1024)
def basis(request_model: str, prompt_hash: str, schema_hash: str) -> str:
    """The basis of an attempt with this model, prompt and schema."""
    return hashlib.sha256("\0".join((request_model, prompt_hash, schema_hash)).encode()).hexdigest()[:_DIGITS]


def basis_of(said: Mapping[str, Any]) -> str | None:
    """The basis of an attempt of which this is said; None when not all is, as of one that was made elsewhere."""
    parts = [said[name] for name in PARTS if said.get(name)]
    return basis(*parts) if len(parts) == len(PARTS) else None


def is_new(wanted: str | None, bases: str | None) -> bool:
    """Whether a posting that was tried with these bases, if with any, is tried anew with this one.

    Where it is not known what the posting was tried with, nothing is new.
    """
    return wanted is not None and bases is not None and len(bases) < FULL_LENGTH and wanted not in bases.split()


def with_basis(bases: str | None, wanted: str | None) -> str | None:
    """The bases and this one; as they were when it is among them or there is no room for it."""
    if bases is None or wanted is None:
        return bases or wanted
    return f"{bases} {wanted}" if is_new(wanted, bases) else bases
