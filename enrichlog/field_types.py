"""Which JSON types a field of the result may have, so that what a column without types holds is read as what it was."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

MOST_NESTED = 32
"""How deep references are followed: a model may contain itself."""


def types_at(schema: dict[str, Any], path: Sequence[str]) -> frozenset[str]:
    """The types that the JSON schema of a model gives to what stands at a path; none where it does not say."""
    nodes = [schema]
    for name in path:
        meant = (one for node in nodes for one in _meant(node, schema))
        nodes = [one["properties"][name] for one in meant if name in one.get("properties", {})]
    return frozenset(kind for node in nodes for one in _meant(node, schema) for kind in _types(one))


def as_typed(held: Any, types: frozenset[str]) -> Any:
    """What a column holds as one of these types: a list or an object that is kept as text, and 0 or 1 for a truth.

    Raises `ValueError` for a text that should be a list or an object and is none, and for what no result can hold.
    """
    if isinstance(held, str) and types and "string" not in types and types & {"array", "object"}:
        return _opened(held)
    if held in (0, 1) and "boolean" in types and not types & {"integer", "number"}:
        return bool(held)
    if isinstance(held, bytes):
        raise ValueError("it holds bytes, which are no value of a result")
    if isinstance(held, float) and not math.isfinite(held):
        raise ValueError("it holds a number without end, which is no value of a result")
    return held


def _opened(text: str) -> Any:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it holds no JSON: {error}") from None
    if not isinstance(value, list | dict | None):
        raise ValueError("it holds neither a list nor an object")
    return value


def _meant(node: dict[str, Any], root: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """The schemas that a schema stands for: what it refers to, and its alternatives."""
    yield node
    if depth == MOST_NESTED:
        return
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        yield from _meant(root.get("$defs", {}).get(name, {}), root, depth + 1)
    for one in (*node.get("anyOf", ()), *node.get("oneOf", ()), *node.get("allOf", ())):
        yield from _meant(one, root, depth + 1)


def _types(node: dict[str, Any]) -> Iterator[str]:
    named = node.get("type", ())
    yield from (named,) if isinstance(named, str) else named
    if "type" not in node and any(isinstance(value, str) for value in (*node.get("enum", ()), node.get("const"))):
        yield "string"
