"""How an event of an older schema version is read today: each upcaster lifts the facts and content by one version."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from eventlog.errors import Unfoldable, UnknownEventType
from eventlog.events import EVENT_TYPES, Payload
from eventlog.folding import FOLD_ERRORS, reason_of

Upcaster = Callable[[Payload], Payload]

UPCASTERS: dict[tuple[str, int], Upcaster] = {}
"""(event type, schema version it reads) -> function that gives the payload of the next version."""


def read(kind: str, facts: str, content: str | None, position: int) -> Payload:
    """The payload that was stored as these texts, in today's version: the only place that opens them.

    Raises `UnknownEventType`, and `Unfoldable` for texts that are no JSON or that an upcaster cannot take.
    """
    try:
        told = Payload(orjson.loads(facts), None if content is None else orjson.loads(content))
        known = EVENT_TYPES.get(kind)
        is_of_today = known is not None and told.facts.get("schema_version") == known.schema_version
        return told if is_of_today else upcast(kind, *told, position)
    except FOLD_ERRORS as error:
        raise Unfoldable(type=kind, position=position, reason=reason_of(error)) from error


def upcast(kind: str, facts: dict[str, Any], content: dict[str, Any] | None, position: int) -> Payload:
    """The payload in today's version. Raises `UnknownEventType` for a type or version this code does not know."""
    known = EVENT_TYPES.get(kind)
    version = facts.get("schema_version")
    if known is None or not isinstance(version, int) or not 1 <= version <= known.schema_version:
        raise UnknownEventType(type=kind, schema_version=version, where=f" at position {position}")
    payload = Payload(facts, content)
    while version < known.schema_version:
        payload = UPCASTERS[kind, version](payload)
        version += 1
        payload = Payload(payload.facts | {"schema_version": version}, payload.content)
    return payload
