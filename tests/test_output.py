"""A model's text as a JSON value: strictly read, from one fence or one object at the most, never repaired."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import RootModel

from enrichlog import output
from enrichlog.outcome import judge
from enrichlog.reply import Reply
from tests.service import real_rows

VALUE = {"title": "Data Engineer", "skills": ["C++", "日本語"], "note": 'a "quoted" {brace} and a ```fence```'}
OBJECT = json.dumps(VALUE, ensure_ascii=False)
PLAIN = '{"title": "Data Engineer", "pay": null}'

VALID = {
    "an object": OBJECT,
    "white space around it": f"\n\t {OBJECT}\r\n ",
    "a BOM before it": f"\ufeff{OBJECT}",
    "a BOM after a line break": f"\n\ufeff\n{OBJECT}",
    "a fence": f"```json\n{PLAIN}\n```",
    "a fence without a language": f"```\n{PLAIN}\n```",
    "a fence in capitals": f"```JSON\n{PLAIN}\n```",
    "a fence on one line": f"```json {PLAIN}```",
    "prose around a fence": f"Here you are:\n\n```json\n{PLAIN}\n```\nAnything else?",
    "a fence that was never closed": f"```json\n{PLAIN}",
    "a fence around an object that holds one": f"```json\n{OBJECT}\n```",
    "prose before an object": f"The answer is {PLAIN}",
    "prose around an object that holds a fence": f"The answer is {OBJECT}, I think.",
    "reasoning before an object": f"<think>Is it pay? No.</think>{PLAIN}",
    "no object but a list": "[1, 2]",
    "a number": "3.5",
    "null": "null",
}
INVALID = {
    "prose": "I cannot help with that.",
    "single quotes": "{'title': 'Data Engineer'}",
    "a trailing comma": '{"title": "Data Engineer",}',
    "a missing brace": '{"title": "Data Engineer"',
    "a missing quote": '{"title: "Data Engineer"}',
    "quotes within quotes": '{"title": "the "Data" Engineer"}',
    "a comment": '{"title": 1 // the first\n}',
    "an unquoted key": "{title: 1}",
    "Python's literals": '{"remote": True, "pay": None}',
    "not a number": '{"pay": NaN}',
    "no finite number": '{"pay": -Infinity}',
    "two objects": f"{PLAIN}\n{PLAIN}",
    "two fences": f"```json\n{PLAIN}\n```\nor\n```json\n{PLAIN}\n```",
    "a trailing comma in a fence": f"```json\n{PLAIN[:-1]},}}\n```",
    "a list amid prose": "These: [1, 2].",
    "too many digits": "9" * 5_000,
    "nested too deep": "[" * 200_000,
    "nested too deep in a fence": f"```json\n{'[' * 200_000}\n```",
}
EMPTY = {
    "nothing": "",
    "white space": " \n\t",
    "a BOM": "\ufeff",
    "a fence around nothing": "```json\n\n```",
    "prose around such a fence": "Here:\n```\n```",
}


def read(text: str) -> str:
    """What becomes of a text, in the words that the real rows use."""
    try:
        output.parse(text)
    except output.EmptyOutput:
        return "empty"
    except json.JSONDecodeError:
        return "invalid_json"
    return "valid"


def fragments(text: str) -> Iterator[str]:
    """The text and every part of it that begins and ends with a brace."""
    yield text.strip().strip("\ufeff").strip()
    begins = [place for place, character in enumerate(text) if character == "{"]
    ends = [place + 1 for place, character in enumerate(text) if character == "}"]
    yield from (text[begin:end] for begin in begins for end in ends if begin < end)


def says(text: str, value: Any) -> bool:
    """Whether the text says exactly this somewhere."""
    for fragment in fragments(text):
        try:
            if json.loads(fragment) == value:
                return True
        except ValueError:
            continue
    return False


@pytest.mark.parametrize("text", VALID.values(), ids=VALID)
def test_a_strict_reading_is_taken(text: str) -> None:
    assert says(text, output.parse(text))


@pytest.mark.parametrize("text", INVALID.values(), ids=INVALID)
def test_nothing_is_repaired(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        output.parse(text)


@pytest.mark.parametrize("text", EMPTY.values(), ids=EMPTY)
def test_no_text_is_another_thing_than_wrong_text(text: str) -> None:
    with pytest.raises(output.EmptyOutput):
        output.parse(text)


def test_the_message_is_the_one_that_people_search_for() -> None:
    with pytest.raises(json.JSONDecodeError) as refused:
        output.parse("Sure! This is about Python.")
    assert str(refused.value) == "Expecting value: line 1 column 1 (char 0)"


def test_the_message_names_the_place_in_the_whole_text() -> None:
    with pytest.raises(json.JSONDecodeError) as refused:
        output.parse('{"title": "Data Engineer",\n"pay" 5}')
    assert (refused.value.lineno, refused.value.colno) == (2, 7)


OURS = [
    {"raw": text, "expected": expected, "ambiguous": False}
    for expected, texts in (("valid", VALID), ("invalid_json", INVALID), ("empty", EMPTY))
    for text in texts.values()
]


@pytest.mark.parametrize("row", [*OURS, *real_rows("llm_outputs.jsonl")], ids=lambda row: repr(row.get("kind", "ours")))
def test_outputs_that_people_met_are_read_by_the_policy(row: dict[str, Any]) -> None:
    found = read(row["raw"])
    if not row["ambiguous"]:
        assert found == row["expected"]
    elif found != row["expected"]:  # two readings can be defended, a repaired one cannot
        assert says(row["raw"], output.parse(row["raw"]))


class Anything(RootModel[dict[str, Any]]):
    """A result model that takes any object."""


ENDS = {"valid": {"", "schema_mismatch"}, "schema_mismatch": {"schema_mismatch"}, "invalid_json": {"invalid_json"},
        "empty": {"empty_output"}}  # fmt: skip


@pytest.mark.parametrize("row", [*OURS, *real_rows("llm_outputs.jsonl")], ids=lambda row: repr(row.get("kind", "ours")))
def test_outputs_that_people_met_end_as_the_policy_says(row: dict[str, Any]) -> None:
    completion = {"choices": [{"finish_reason": "stop", "message": {"content": row["raw"]}}]}
    outcome = judge(Reply(1, 200, body=json.dumps(completion).encode()), "chat", Anything, 300.0)
    name = outcome.failed.kind.name if outcome.failed else ""
    if not row["ambiguous"]:
        assert name in ENDS[row["expected"]]
    if outcome.result is not None:
        assert says(row["raw"], outcome.result)  # nothing that the model did not say


@pytest.mark.parametrize(
    "text", ["```" + " " * 20_000 + "x", "```json" + "\t \n" * 20_000, "```" * 20_000, "{" * 60_000]
)
def test_what_looks_like_a_fence_or_an_object_and_is_none_is_read_once(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        output.parse(text)  # an expression that goes back over it would take hours


@given(st.text())
@example("```")
@example("``````")
@example("{")
@example('{"')
@example('{"a": "\\')
@example("}{")
@example("-")
def test_any_text_is_read_or_refused(text: str) -> None:
    if read(text) == "valid":
        assert says(text, output.parse(text)) or "[" in text or "```" in text


scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
around = st.text(alphabet="abc .,:\n'\"[]", max_size=20)


@given(values)
def test_every_json_value_is_read_as_it_is(value: Any) -> None:
    assert output.parse(json.dumps(value)) == value
    assert output.parse(f" \ufeff{json.dumps(value, ensure_ascii=False)}\n") == value


@given(st.dictionaries(st.text(), values, max_size=4), around, around)
def test_one_object_amid_prose_is_found(value: dict[str, Any], before: str, after: str) -> None:
    assert output.parse(f"x {before}{json.dumps(value)}{after} y") == value
