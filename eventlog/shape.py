"""The shape that a stored event of each type has: what every fold may rely on, checked before it does."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple, get_args

from pydantic import AfterValidator, AwareDatetime, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import CoreConfig, ErrorDetails, SchemaValidator, core_schema

from eventlog.events import EVENT_TYPES, Event, Payload, moment

NAMED = 3
"""So many things that are wrong with one event are told."""


class _Shape(NamedTuple):
    facts: SchemaValidator
    content: SchemaValidator


def misfit(kind: str, payload: Payload) -> str | None:
    """What of a payload in today's version is not as events of this type are written; None when all of it is.

    A field of a type that is never null stands in every stored event, also where a builder may leave it out; one that
    may be null is left out when it is. Content may be erased, so none of it has to be there.
    """
    shape = _shape_of(EVENT_TYPES[kind])
    try:
        shape.facts.validate_python(payload.facts)
        if payload.content is not None:
            shape.content.validate_python(payload.content)
    except ValidationError as error:
        return f"it is no {kind}: {_told(error)}"
    return None


@lru_cache(maxsize=64)
def _shape_of(kind: type[Event]) -> _Shape:
    fields = kind.model_fields
    facts = {name: field for name, field in fields.items() if name not in kind.content_fields}
    always = {"schema_version": _field(int, required=True), "occurred_at": _field(_Moment, required=True)}
    content = {name: _field(_kept(fields[name]), required=False) for name in kind.content_fields}
    return _Shape(_validator({name: _field_of(one) for name, one in facts.items()} | always), _validator(content))


def _validator(fields: dict[str, core_schema.TypedDictField]) -> SchemaValidator:
    """Of a plain dictionary: to make a model of each event takes half as long again."""
    strict = CoreConfig(strict=True)  # a fold adds numbers, and "1" is none
    return SchemaValidator(core_schema.typed_dict_schema(fields, extra_behavior="forbid", config=strict), strict)


def _field_of(field: FieldInfo) -> core_schema.TypedDictField:
    return _field(_kept(field), required=not _is_nullable(field.annotation))


def _field(annotation: Any, *, required: bool) -> core_schema.TypedDictField:
    return core_schema.typed_dict_field(TypeAdapter(annotation).core_schema, required=required)


def _kept(field: FieldInfo) -> Any:
    """The type of a field as JSON holds it."""
    if _holds_a_moment(field.annotation):
        return _Moment | None if _is_nullable(field.annotation) else _Moment
    return field.rebuild_annotation()


def _holds_a_moment(annotation: Any) -> bool:
    return annotation is AwareDatetime or any(map(_holds_a_moment, get_args(annotation)))


def _is_nullable(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _as_folds_read_it(text: str) -> str:
    """The text, when it is a moment. Raises `ValueError`."""
    if moment(text).tzinfo is None:
        raise ValueError
    return text


_Moment = Annotated[str, AfterValidator(_as_folds_read_it)]


def _told(error: ValidationError) -> str:
    """What is wrong, in words, and without the values: they may be of the content."""
    found = [_worded(one) for one in error.errors(include_url=False, include_input=False)]
    return "; ".join(found[:NAMED]) + (f"; and {len(found) - NAMED} more" if len(found) > NAMED else "")


def _worded(error: ErrorDetails) -> str:
    name = ".".join(map(str, error["loc"])) or "the whole"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is not one of its fields"
        case "value_error":
            return f"{name} is no moment"
    return f"{name}: {error['msg'][:1].lower()}{error['msg'][1:]}"
