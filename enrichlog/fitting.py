"""An answer as the user's result model holds it, or why it does not fit."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import to_jsonable_python

from eventlog.canonical import storable

MOST_FAULTS = 1_000


class DoesNotFit(ValueError):
    """The answer misses the schema; `error_class` is that of the exception which said so, if one did."""

    def __init__(self, why: str, error_class: str | None = None) -> None:
        super().__init__(why)
        self.error_class = error_class


def fit(value: Any, model: type[BaseModel]) -> dict[str, Any]:
    """The value as the result model holds it. Raises `DoesNotFit` with the first faults named."""
    try:
        result = to_jsonable_python(model.model_validate_json(_as_json(value)).model_dump(mode="json"))
    except ValidationError as error:
        raise DoesNotFit(describe(error), "ValidationError") from None
    except Exception as error:  # a user's own validator or serializer may raise anything
        raise DoesNotFit(told(error), type(error).__name__) from None
    if not isinstance(result, dict):
        raise DoesNotFit(f"{model.__name__} makes no object of the answer")
    return result


def _as_json(value: Any) -> str:
    """A JSON value as text again: a strict model takes a date or an enum from JSON, but not from Python values."""
    return storable(json.dumps(value, ensure_ascii=False))


def told(error: Exception) -> str:
    """The class and the text of an exception of which nothing is known, not even that it has a text."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:
        return type(error).__name__


def describe(error: ValidationError) -> str:
    """A validation error in one line: the first three faults, each with its place; of very many only their number."""
    count = error.error_count()
    if count > MOST_FAULTS:  # all of them are built to see the first
        return f"the answer has {count} faults"
    first = error.errors(include_url=False, include_context=False, include_input=False)[:3]
    faults = [f"{'.'.join(map(str, fault['loc'])) or 'the answer'}: {fault['msg']}" for fault in first]
    return "; ".join(faults) + (f"; and {count - len(faults)} more" if count > len(faults) else "")
