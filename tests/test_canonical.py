"""Canonical JSON: one text for one value, which both databases can hold and which holds no secret."""

import json
import math
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st

from eventlog import canonical, redaction
from eventlog.errors import NotAppended
from eventlog.redaction import REDACTED, may_hold_secrets, redact, remember_secret

KEY = "sk-proj-4fKz81LmQ0xTn7Rb2Vw9"

storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
ascii_keys = st.text(st.characters(min_codepoint=1, max_codepoint=127), max_size=8)
whole_numbers = st.integers(-(2**53) + 1, 2**53 - 1)


def nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """JSON values of these leaves, in lists and objects."""
    return st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(keys, inner), max_leaves=10)


def strings(value: Any) -> Iterator[str]:
    """All strings of a JSON value, keys too."""
    match value:
        case str():
            yield value
        case dict():
            yield from (string for entry in value.items() for part in entry for string in strings(part))
        case list():
            yield from (string for entry in value for string in strings(entry))


anything = nested(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.tuples(st.text()),
    st.text() | st.integers(),
)
secrets_and_neighbours = st.lists(
    st.sampled_from(["sk-", "k-", "\r", "\n", "\t", "\\", '"', "a1" * 12, "***", "Bearer ", "://", "u:pw@", "é", " "])
).map("".join)


@given(st.dictionaries(ascii_keys, nested(st.none() | st.booleans() | whole_numbers | storable, ascii_keys)))
def test_facts_are_canonical_as_rfc_8785_has_it(facts: dict[str, Any]) -> None:
    assert canonical.facts_text(facts).encode() == rfc8785.dumps(facts)


@given(anything)
def test_every_value_has_a_text_that_reads_back_and_stays_as_it_is(value: Any) -> None:
    text = canonical.text(value)
    assert not any("\0" in string for string in strings(orjson.loads(text)))
    assert canonical.text(orjson.loads(text)) == text


@given(secrets_and_neighbours)
@example("\rk-" + "a1" * 12)  # the r of the escaped line end is no part of a key
def test_taking_secrets_out_leaves_json(text: str) -> None:
    assert isinstance(orjson.loads(canonical.text({"message": text}))["message"], str)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\0b", '"a\ufffdb"'),
        ("a\\u0000b", '"a\\\\u0000b"'),  # a backslash and letters, no NUL
        ("\ud800", '"\ufffd"'),
        ("\udc00\ud800", '"\ufffd\ufffd"'),
        ("\ud83d\ude00", '"\U0001f600"'),  # the two halves of one character, as some decoders hand them on
        ({"\0": 1, "\udfff": 2}, '{"\ufffd":2}'),
        (math.nan, "null"),
        (-math.inf, "null"),
        (1.5, "1.5"),
        (2**64 - 1, "18446744073709551615"),
        (2**64, '"18446744073709551616"'),
        (-(2**63), "-9223372036854775808"),
        (-(2**63) - 1, '"-9223372036854775809"'),
        (10**4000, '"1' + "0" * 4000 + '"'),
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ("/\x7f\x1f", '"/\x7f\\u001f"'),
    ],
)
def test_what_no_database_can_hold_is_replaced(value: Any, text: str) -> None:
    assert canonical.text(value) == text


@pytest.mark.parametrize("depth", [300, 5_000])
def test_a_value_that_is_nested_beyond_reason_is_refused_as_such(depth: int) -> None:
    value: Any = "bottom"
    for _ in range(depth):
        value = [value]
    with pytest.raises(NotAppended, match="nested too deep"):
        canonical.text(value)


@pytest.mark.parametrize("facts", [{"cost": 1.5}, {"a": {"b": [1, 2.0]}}, {"a": math.nan}, {"a": [{"b": -0.0}]}])
def test_a_float_is_no_fact(facts: dict[str, Any]) -> None:
    with pytest.raises(NotAppended, match="is a float"):
        canonical.facts_text(facts)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        (KEY, REDACTED),
        (f"Incorrect API key provided: {KEY}.", f"Incorrect API key provided: {REDACTED}."),
        ("key: sk-abc1****wxyz.", f"key: {REDACTED}"),
        ("key sk-****", f"key {REDACTED}"),
        (f"gsk-{'a1' * 10} xai-{'b2' * 10}", f"{REDACTED} {REDACTED}"),
        ("Authorization: Bearer abc.def-123", f"Authorization: {REDACTED}"),
        (f"Bearer {KEY}", REDACTED),
        ("postgresql://anna:geheim@host/db", f"postgresql://{REDACTED}@host/db"),
        ("redis://:geheim@host", f"redis://{REDACTED}@host"),
    ],
)
def test_secrets_are_taken_out(text: str, without: str) -> None:
    assert "sk-" not in redact(text)
    assert redact(text) == without


@pytest.mark.parametrize("before", ["\n", "\r\n", "\t", "line one\n\n", '"', "\\", "\x1f"])
@pytest.mark.parametrize("secret", [KEY, "Bearer 4fKz81LmQ0xTn7Rb", "postgresql://anna:4fKz81LmQ0x@host/db"])
def test_secrets_are_found_wherever_they_stand_in_a_message(before: str, secret: str) -> None:
    assert "4fKz81LmQ0x" not in canonical.text({"message": before + secret, "list": [{"deep": before + secret}]})


@pytest.mark.parametrize(
    "text",
    ["sk-learn", "sk-learn and pk-tools", "risk-" + "a1" * 12, "Bearer of news", "https://example.org/a:b@c", "a://b",
     "user@example.org", "sk-" + "a" * 30, "Scikit-learn (sk-learn), PyTorch 2.0"],
)  # fmt: skip
def test_ordinary_words_are_left_alone(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("secret", ["correct horse battery", 'pa"ss\\word', "größer-als-3", "two\nlines"])
def test_a_secret_that_was_told_is_taken_out_whatever_is_in_it(secret: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", {})
    redaction.remember_secret(f" {secret} ")
    assert canonical.text({"message": f"it was {secret}!"}) == f'{{"message":"it was {REDACTED}!"}}'


@pytest.mark.parametrize("secret", ['pa"ss\\word', "two\nlines", "ends-with-\\"])
def test_a_secret_that_was_told_is_taken_out_of_a_reply_that_echoes_it_in_json(
    secret: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redaction, "_known", {})
    redaction.remember_secret(secret)
    reply = json.dumps({"error": f"no such key: {secret}"})
    assert redact(reply) == json.dumps({"error": f"no such key: {REDACTED}"})
    assert json.loads(canonical.text({"raw_head": reply})) == {"raw_head": redact(reply)}


def test_a_short_secret_is_not_remembered_because_it_would_hit_ordinary_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_known", {})
    redaction.remember_secret("test")
    assert redact("this is a test") == "this is a test"


def test_a_long_text_full_of_what_looks_like_the_beginning_of_a_key_is_read_once() -> None:
    text = "sk-" * 700_000  # read again from each of them it would take hours
    assert redact(text) == text
    assert redact(f"{text}1") == REDACTED


@given(storable)
def test_taking_secrets_out_twice_is_taking_them_out_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


PIECES = st.sampled_from(
    ["sk-", "pk-", "rk-", "gsk-", "xai-", "sess-", "Bearer ", "postgresql://", "https://", "admin:hunter2pass",
     "@db/x", "*", ".", "abcdefghij0123456789", "learn", " ", "/", "key=", "[redacted]"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=8).map("".join))
def test_the_quick_look_never_misses_what_the_close_one_takes_out(text: str) -> None:
    assert redact(text) == text or may_hold_secrets(orjson.dumps(text))


@given(st.lists(PIECES, max_size=8).map("".join))
def test_a_text_that_is_not_looked_at_closely_has_nothing_to_take_out(text: str) -> None:
    closely = redaction._KEYS.sub(redaction._replacement, redaction._OTHERS.sub(REDACTED, text))
    assert redact(text) == closely


@pytest.mark.parametrize("prefix", ["sk", "pk", "rk", "gsk", "xai", "sess"])
def test_a_word_that_looks_like_a_key_hides_no_password_and_no_token(prefix: str) -> None:
    assert canonical.text(f"postgresql://{prefix}-admin:hunter2pass@db/x") == '"postgresql://[redacted]@db/x"'
    assert "abcdefghijklmnop" not in canonical.text(f"{prefix}-Bearer abcdefghijklmnop")
    assert canonical.text(f"{prefix}-abcdefghij0123456789") == '"[redacted]"'


def test_a_secret_that_is_not_utf_8_is_no_defect() -> None:
    remember_secret("sk-\udcff\udcfeabcdefghijkl1")
