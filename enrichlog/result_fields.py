"""The fields of a result model by their paths, and which values each can have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from enrichlog.result import strict_schema

DEEPEST = 5
"""Further down no field is looked for: a model may contain itself."""

_FORMS = {"enum", "const", "format", "pattern"}

Path = tuple[str, ...]


class Field(NamedTuple):
    """A field: the JSON kinds of its values, all values it can have where these are known, and the longest text.

    Kinds are those of JSON schema; of a list it is `array of` the kind of its items, or `array` where these differ.
    `has_form`: its texts are times, ids or the like, or one of a few. `items` are all that a list can have in it, where
    these are known.
    """

    kinds: frozenset[str]
    values: tuple[Any, ...] | None
    longest: int | None
    is_nullable: bool
    has_form: bool = False
    items: tuple[Any, ...] | None = None


def fields_of(model: type[BaseModel]) -> dict[Path, Field]:
    """All fields, those within objects too. Raises `InvalidResultModel`."""
    schema = strict_schema(model)
    return dict(_fields(schema, schema.get("$defs", {}), ()))


def _fields(node: Mapping[str, Any], definitions: Mapping[str, Any], path: Path) -> Iterator[tuple[Path, Field]]:
    for name, inner in node.get("properties", {}).items():
        place, choices = (*path, name), [*_choices(inner, definitions)]
        yield place, _field(choices, definitions)
        for one in choices:
            if len(place) < DEEPEST:
                yield from _fields(one, definitions, place)


def _field(choices: list[Mapping[str, Any]], definitions: Mapping[str, Any]) -> Field:
    told = [one for one in choices if one.get("type") != "null"]
    values = _values(told)
    items = [
        inner for one in told if one.get("type") == "array" for inner in _choices(one.get("items", {}), definitions)
    ]
    kinds = frozenset(kind for one in told for kind in _kinds(one, definitions))
    lengths = [_longest(one, values) for one in told if "string" in _kinds(one, definitions)]
    longest = None if None in lengths or not lengths else max(length for length in lengths if length is not None)
    texts = [one for one in told if "string" in _kinds(one, definitions)]
    has_form = bool(texts) and all(_FORMS & one.keys() for one in texts)
    return Field(
        kinds - {"null"}, values or None, longest, len(told) < len(choices) or "null" in kinds, has_form, _values(items)
    )


def _values(nodes: list[Mapping[str, Any]]) -> tuple[Any, ...] | None:
    """All values that these schemas allow but null; None where they are not told, or there are none."""
    lists = [tuple(one["enum"]) if "enum" in one else (one["const"],) if "const" in one else None for one in nodes]
    known = [one for one in lists if one is not None]
    return tuple(value for one in known for value in one if value is not None) if len(known) == len(lists) else None


def _choices(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The schemas of which a value meets one, references followed."""
    if "$ref" in node:
        yield from _choices(definitions.get(node["$ref"].rpartition("/")[2], {}), definitions)
    elif parts := node.get("anyOf") or node.get("oneOf") or node.get("allOf"):
        for one in parts:
            yield from _choices(one, definitions)
    else:
        yield node


def _kinds(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    told = node.get("type")
    if told == "array":
        members = {kind for one in _choices(node.get("items", {}), definitions) for kind in _kinds(one, definitions)}
        (member,) = members - {"null"} if len(members - {"null"}) == 1 else ("",)
        return {f"array of {member}" if member in ("string", "integer", "number", "boolean") else "array"}
    if told is None:
        values = node.get("enum", [node["const"]] if "const" in node else [])
        return {kind_of(value) for value in values} or {"any"}
    return set(told) if isinstance(told, list) else {told}


def kind_of(value: Any) -> str:
    """The kind of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            kinds = {kind_of(one) for one in value} - {"null"}
            return f"array of {kinds.pop()}" if len(kinds) == 1 else "array"
    return "object"


def _longest(node: Mapping[str, Any], values: tuple[Any, ...] | None) -> int | None:
    if values:
        return max((len(value) for value in values if isinstance(value, str)), default=None)
    length: int | None = node.get("maxLength")
    return length
