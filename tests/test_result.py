"""The result model: found by its name, and its JSON schema as strict mode takes it."""

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from enrichlog.exceptions import InvalidResultModel
from enrichlog.result import JobEnrichment, load_model, schema_hash, strict_schema


class Address(BaseModel):
    city: str = Field(description="where the work is")
    country: str = "BE"


class Nested(BaseModel):
    first: Address = Field(description="the main one")
    others: list[Address] = []
    either: Address | None = None
    kind: Literal["a", "b"] = "a"
    since: date | None = None


class Reserved(BaseModel):
    """Fields that go by the names of schema keywords."""

    properties: list[str]
    default: str = "x"
    required: bool
    type: str


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object within a schema."""
    if isinstance(schema, dict):
        yield schema
        for inner in schema.values():
            yield from nodes(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from nodes(inner)


def test_the_default_model_is_ours() -> None:
    assert load_model() is JobEnrichment


def test_the_default_model_has_the_fields_that_are_promised() -> None:
    assert list(JobEnrichment.model_fields) == [
        "title",
        "role_type",
        "seniority",
        "contract",
        "must_have_skills",
        "nice_to_have_skills",
        "languages",
        "remote_policy",
        "salary",
        "summary_short",
        "summary_long",
    ]


@pytest.mark.parametrize("model", [JobEnrichment, Nested, Address])
def test_a_strict_schema_requires_every_property_and_allows_no_other(model: type[BaseModel]) -> None:
    objects = [node for node in nodes(strict_schema(model)) if node.get("type") == "object"]
    assert objects
    assert all(node["additionalProperties"] is False for node in objects)
    assert all(node["required"] == list(node["properties"]) for node in objects)


@pytest.mark.parametrize("model", [JobEnrichment, Nested])
def test_a_strict_schema_has_no_defaults_and_nothing_beside_a_reference(model: type[BaseModel]) -> None:
    assert not [node for node in nodes(strict_schema(model)) if "default" in node]
    assert all(list(node) == ["$ref"] for node in nodes(strict_schema(model)) if "$ref" in node)


def test_fields_with_the_names_of_keywords_stay_what_they_are() -> None:
    schema = strict_schema(Reserved)
    assert {name: value.get("type") for name, value in schema["properties"].items()} == {
        "properties": "array",
        "default": "string",
        "required": "boolean",
        "type": "string",
    }
    assert schema["required"] == ["properties", "default", "required", "type"]
    assert schema["properties"]["properties"] == {"items": {"type": "string"}, "title": "Properties", "type": "array"}


def test_the_hash_follows_the_schema() -> None:
    other = type("Address", (BaseModel,), {"__annotations__": {"city": str}})
    assert schema_hash(Address) == schema_hash(Address)
    assert len({schema_hash(model) for model in (Address, Nested, JobEnrichment, other)}) == 4


def test_a_users_own_model_is_found_from_the_current_folder(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (bare / "models_of_mine.py").write_text("from pydantic import BaseModel\nclass Pay(BaseModel):\n    amount: int\n")
    load_model.cache_clear()
    assert list(load_model("models_of_mine:Pay").model_fields) == ["amount"]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("JobEnrichment", "it has no module and class with a colon between"),
        (":JobEnrichment", "it has no module and class with a colon between"),
        ("enrichlog.result:", "it has no module and class with a colon between"),
        ("no_such_module:Pay", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("enrichlog.result:Pay", "enrichlog.result has no Pay"),
        ("enrichlog.result:DEFAULT", "DEFAULT is not a pydantic model"),
        ("pathlib:Path", "Path is not a pydantic model"),
        ("enrichlog.result:load_model", "load_model is not a pydantic model"),
    ],
)
def test_what_is_no_result_model_is_refused_with_the_reason(reference: str, reason: str) -> None:
    with pytest.raises(InvalidResultModel) as refused:
        load_model(reference)
    expected = f"The result model {reference} is not usable: {reason}. Name a pydantic model as package.module:Class."
    assert str(refused.value) == expected


def test_a_module_that_fails_to_import_says_how(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (bare / "broken_of_mine.py").write_text("1 / 0\n")
    with pytest.raises(InvalidResultModel, match="ZeroDivisionError: division by zero"):
        load_model("broken_of_mine:Pay")
