"""What the model is asked for: a pydantic model of the result, and its strict JSON schema."""

from __future__ import annotations

import hashlib
import importlib
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from enrichlog.exceptions import InvalidResultModel
from eventlog import canonical

DEFAULT = "enrichlog.result:JobEnrichment"


class Salary(BaseModel):
    """A range of pay as the posting states it."""

    model_config = ConfigDict(extra="forbid")

    minimum: int | None = Field(description="lower bound, in whole units of the currency")
    maximum: int | None = Field(description="upper bound, in whole units of the currency")
    currency: str | None = Field(description="ISO 4217 code, such as EUR")
    period: Literal["hour", "day", "month", "year"] | None


class JobEnrichment(BaseModel):
    """Structured fields of one job posting."""

    model_config = ConfigDict(extra="forbid")

    title: str = Field(description="the job title, without company, place, level of pay or gender markers")
    role_type: Literal[
        "data engineer", "data analyst", "data scientist", "machine learning engineer", "analytics engineer",
        "bi developer", "data architect", "data governance", "software engineer", "other",
    ]  # fmt: skip
    seniority: Literal["intern", "junior", "medior", "senior", "lead", "principal"] | None
    contract: Literal["permanent", "temporary", "freelance", "internship", "apprenticeship"] | None
    must_have_skills: list[str] = Field(description="skills the posting requires")
    nice_to_have_skills: list[str] = Field(description="skills the posting calls a plus")
    languages: list[str] = Field(description="spoken languages asked for, as ISO 639-1 codes")
    remote_policy: Literal["on-site", "hybrid", "remote"] | None
    salary: Salary | None
    summary_short: str = Field(description="one sentence")
    summary_long: str = Field(description="three to five sentences")


@lru_cache(maxsize=32)
def load_model(reference: str = DEFAULT) -> type[BaseModel]:
    """The result model that `package.module:Class` names, looked up from the current folder too.

    Raises `InvalidResultModel`.
    """
    module_name, _, class_name = reference.partition(":")
    if not module_name or not class_name:
        raise InvalidResultModel(reference=reference, reason="it has no module and class with a colon between")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module_name), class_name, None)
    except Exception as error:  # a user's module may raise anything at import
        raise InvalidResultModel(reference=reference, reason=f"{type(error).__name__}: {error}") from error
    if found is None:
        raise InvalidResultModel(reference=reference, reason=f"{module_name} has no {class_name}")
    if not (isinstance(found, type) and issubclass(found, BaseModel)):
        raise InvalidResultModel(reference=reference, reason=f"{class_name} is not a pydantic model")
    return found


@lru_cache(maxsize=32)
def strict_schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema as providers take it in strict mode: every property required, no others allowed.

    Raises `InvalidResultModel`. Source: the provider's guide to structured outputs, "supported schemas".
    """
    try:
        strict: dict[str, Any] = _strict(_with_root(model.model_json_schema()))
    except (
        Exception
    ) as error:  # a field of no JSON type, a name that is not defined, whatever a user's own schema raises
        reason = (str(error).splitlines() or [type(error).__name__])[0].removesuffix(".")
        raise InvalidResultModel(reference=model.__name__, reason=reason) from error
    if strict.get("type") != "object":
        raise InvalidResultModel(
            reference=model.__name__, reason="it is no object with fields, which an answer must be"
        )
    return strict


def schema_hash(model: type[BaseModel]) -> str:
    """SHA-256 of the strict schema's canonical text."""
    return hashlib.sha256(canonical.text(strict_schema(model)).encode()).hexdigest()


_VALUES = ("examples", "enum", "const")  # not schemas, whatever they look like
_NAMED = ("properties", "$defs")  # their keys are the user's names, which may be those of keywords
_UNKNOWN = ("default", "discriminator")  # refused, or without a meaning, in strict mode
_FREE_KEYS = (
    "{title} is an object with free keys, such as a dict, which strict mode cannot express; "
    "use a list of objects with one field for the key"
)


def _with_root(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its root in place: a model that contains itself has a reference there, which providers refuse."""
    root, definitions = schema, schema.get("$defs", {})
    for _ in definitions:  # each may be a reference to the next
        root = definitions[root["$ref"].rpartition("/")[2]] if "$ref" in root else root
    return schema if root is schema else {**root, "$defs": definitions}


def _each(nodes: dict[str, Any]) -> dict[str, Any]:
    return {name: _strict(node) for name, node in nodes.items()}


def _strict(node: Any) -> Any:
    if isinstance(node, list):
        return [_strict(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "object" and "properties" not in node:
        raise ValueError(_FREE_KEYS.format(title=node.get("title", "a part of it")))
    strict = {
        key: value if key in _VALUES else _each(value) if key in _NAMED else _strict(value)
        for key, value in node.items()
        if key not in _UNKNOWN
    }
    if "properties" in node:
        strict |= {"additionalProperties": False, "required": list(node["properties"])}
    if "oneOf" in strict:  # a discriminated union, whose members exclude each other anyway
        strict["anyOf"] = strict.pop("oneOf")
    if "$ref" in strict:  # nothing may stand beside a reference
        return {"$ref": strict["$ref"]}
    return strict
