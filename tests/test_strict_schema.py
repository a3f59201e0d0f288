"""The strict schema: what it cannot express is refused before the first call; self-reference and unions it takes."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, RootModel

from enrichlog.exceptions import InvalidResultModel
from enrichlog.result import schema_hash, strict_schema


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every object within a schema."""
    if isinstance(schema, dict):
        yield schema
        schema = list(schema.values())
    if isinstance(schema, list):
        for inner in schema:
            yield from nodes(inner)


# -- what is refused --------------------------------------------------------------------------------------------------


class Odd:
    """No pydantic type."""


class Unwritable(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    odd: Odd


class Unfinished(BaseModel):
    pay: "Undefined"  # type: ignore[name-defined]  # noqa: F821


class Raising(BaseModel):
    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        raise RuntimeError


class Scores(BaseModel):
    by_skill: dict[str, int]


class DeepScores(BaseModel):
    parts: list[Scores | None]


class FreeKeys(BaseModel):
    anything: dict[str, Any]


class Names(RootModel[list[str]]):
    pass


class Scale(BaseModel):
    kind: Literal["scale"]
    step: int


class Range(BaseModel):
    kind: Literal["range"]
    lowest: int


class ScaleOrRange(RootModel[Scale | Range]):
    pass


FREE_KEYS = (
    "By Skill is an object with free keys, such as a dict, which strict mode cannot express; "
    "use a list of objects with one field for the key. Name a pydantic model"
)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Unwritable, "Cannot generate a JsonSchema for core_schema.IsInstanceSchema"),
        (Unfinished, "`Unfinished` is not fully defined"),
        (Raising, "RuntimeError"),
        (Scores, FREE_KEYS),
        (DeepScores, FREE_KEYS),
        (FreeKeys, "Anything is an object with free keys"),
        (Names, "it is no object with fields, which an answer must be"),
        (ScaleOrRange, "it is no object with fields, which an answer must be"),
    ],
)
def test_a_model_that_strict_mode_cannot_express_is_refused_in_one_line(model: type[BaseModel], reason: str) -> None:
    with pytest.raises(InvalidResultModel) as refused:
        strict_schema(model)
    assert str(refused.value).startswith(f"The result model {model.__name__} is not usable: {reason}")
    assert "\n" not in str(refused.value)


# -- models that contain themselves, and unions -----------------------------------------------------------------------


class Part(BaseModel):
    name: str
    parts: list["Part"] = []


class Piece(BaseModel):
    name: int
    parts: list["Piece"] = []


class Boxed(RootModel[Scale]):
    pass


class TwiceBoxed(RootModel[Boxed]):
    pass


class Pay(BaseModel):
    amount: Scale | Range = Field(discriminator="kind")
    earlier: list[Annotated[Scale | Range, Field(discriminator="kind")]]


@pytest.mark.parametrize("model", [Part, Boxed, TwiceBoxed])
def test_the_root_of_a_schema_is_an_object_and_every_reference_leads_somewhere(model: type[BaseModel]) -> None:
    schema = strict_schema(model)
    assert (schema["type"], list(schema["properties"])) == ("object", schema["required"])
    references = {node["$ref"].removeprefix("#/$defs/") for node in nodes(schema) if "$ref" in node}
    assert references <= schema["$defs"].keys()
    assert "Part" in references or model is not Part


def test_models_that_contain_themselves_are_told_apart() -> None:
    assert schema_hash(Part) != schema_hash(Piece)


def test_a_discriminated_union_is_a_plain_union_which_strict_mode_takes() -> None:
    schema = strict_schema(Pay)
    both = [{"$ref": "#/$defs/Scale"}, {"$ref": "#/$defs/Range"}]
    assert schema["properties"]["amount"]["anyOf"] == schema["properties"]["earlier"]["items"]["anyOf"] == both
    assert not [node for node in nodes(schema) if {"oneOf", "discriminator"} & node.keys()]
