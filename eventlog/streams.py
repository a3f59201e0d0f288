"""Names of streams: `<category>-<key>`; a category that starts with `$` is for operators' acts."""

from __future__ import annotations

import re
from typing import TypeVar

from sqlalchemy import ColumnElement

from eventlog.errors import NotAppended

Name = TypeVar("Name", str, ColumnElement[str])

_CATEGORY = re.compile(r"\$?[a-z][a-z0-9_]*")


def stream_of(category: str, key: str) -> str:
    """The stream of one key: the part before the first dash is the category.

    Raises `NotAppended` for a category that is not lower-case letters, digits and underscores, and for an empty key.
    """
    if not _CATEGORY.fullmatch(category):
        raise NotAppended(reason=f"{category!r} is no name for an enrichment: use a-z, 0-9 and _, a letter first")
    if not key:
        raise NotAppended(reason="the posting has no id")
    return join(category, key)


def join(category: Name, key: Name) -> Name:
    """The name as it is spelt, of texts or, within a query, of columns; nothing is checked."""
    return category + "-" + key


def bounds(category: str) -> tuple[str, str]:
    """Two names between which all streams of a category lie, and no others: a walk over them is a range of a key."""
    return join(category, ""), f"{category}."  # the character behind the dash


def split_stream(stream_id: str) -> tuple[str, str]:
    """The category and the key of a stream."""
    category, _, key = stream_id.partition("-")
    return category, key


def is_operational(stream_id: str) -> bool:
    """Whether the stream tells of operators' acts; it has no status row."""
    return stream_id.startswith("$")
