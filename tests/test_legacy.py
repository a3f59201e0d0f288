"""A message of which only the text is left has one error type: by structure first, by words last."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichlog import calls, orphans, outcome, signs
from enrichlog.errors import CODES, ERROR_TYPES, STATUSES, ProviderError, recognise
from enrichlog.legacy import classify_message
from enrichlog.phrases import PHRASES
from tests.service import TEST_DATA

OURS = Path(__file__).with_name("legacy_messages.jsonl")
NEEDED = 0.97
LABELS = {
    "context_length": {"input_too_large"},
    "parsing": {"empty_output", "output_truncated", "schema_mismatch"},
    "cancelled": {"interrupted"},
    "database": {"storage_error"},
}
"""What the labels of the real messages are called here, where that is something else."""

BY_US = {
    calls.SHUT_DOWN: "interrupted",
    calls.NOT_BEGUN: "interrupted",
    calls.TOO_LATE: "interrupted",
    orphans.LEASE_RAN_OUT.format(worker="timeout-429"): "interrupted",
    orphans.DIED.format(worker="timeout-429"): "interrupted",
    outcome.NOT_EXTRACTED.format(why="no text"): "empty_output",
    outcome.NOT_EXTRACTED.format(why="nothing within the fence"): "empty_output",
    outcome.NOT_EXTRACTED.format(why="the model refused: I was timed out by error 500"): "refusal",
    outcome.NOT_EXTRACTED.format(why="the content filter stopped it"): "content_filter",
    outcome.NOT_EXTRACTED.format(why="the output was cut off (length)"): "output_truncated",
    outcome.NOT_EXTRACTED.format(why="quota.timeout: Input should be 429 or 500; and 3 more"): "schema_mismatch",
    outcome.NOT_EXTRACTED.format(why="the answer has 1200 faults"): "schema_mismatch",
    "Request timeout after 2.5 seconds": "timeout",
    "No description found": "input_error",
}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_messages_as_providers_and_libraries_write_them_have_their_error_types() -> None:
    told = [(line["message"], classify_message(line["message"]).name, line["error_type"]) for line in lines(OURS)]
    assert [one for one in told if one[1] != one[2]] == []


def test_the_messages_are_many_and_of_all_error_types_that_have_signs() -> None:
    messages = lines(OURS)
    assert len({line["message"] for line in messages}) == len(messages) > 250
    assert {line["error_type"] for line in messages} == set(signs.SPECIFIC_FIRST)


@pytest.mark.skipif(TEST_DATA is None, reason="ENRICHLOG_TEST_DATA is not set")
def test_of_real_messages_nearly_all_kinds_are_right() -> None:
    assert TEST_DATA is not None
    right: dict[str, bool] = defaultdict(lambda: True)
    for line in lines(TEST_DATA / "error_messages.jsonl"):
        wanted = set[str]().union(*(LABELS.get(label, {label}) for label in (line["label"], *line["alt_labels"])))
        right[line["cluster"]] &= classify_message(line["message"]).name in wanted
    assert sum(right.values()) >= NEEDED * len(right), [cluster for cluster, is_right in right.items() if not is_right]


@pytest.mark.parametrize(("message", "error_type"), BY_US.items(), ids=list(BY_US))
def test_what_we_say_ourselves_is_known_again(message: str, error_type: str) -> None:
    assert classify_message(message).name == error_type


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("body", ['{{"error":{{"code":"{}"}}}}', "Error code: 418 - {{'error': {{'type': '{}'}}}}"])
def test_a_code_that_stands_in_a_text_means_what_it_means_in_a_reply(code: str, body: str) -> None:
    assert classify_message(body.format(code)).name == recognise(ProviderError(418, code)).name


KNOWN = [status for status in STATUSES if status >= 100]


@pytest.mark.parametrize(
    "spelling",
    [
        "Error code: {}", "HTTP {}", "HTTP/1.1 {}", "status_code={}", "[{}]: x", "Error {}: x",
        '{{"error":{{"code":{}}}}}', '{{"error":{{"code":"{}"}}}}',
        "{} Client Error", "got status {}", "statusCode: {},", "{}", "API Error ({} x)",
        "failed with {}", "request failed: status code: {}, body:", "'status': {}}}", "Error code: {} - x",
        "{} status code (no body)", "Error: {} status code (no body)", "it got a {} response",
    ],
)  # fmt: skip
def test_each_status_is_known_in_this_spelling(spelling: str) -> None:
    for status in (*KNOWN, 400, 422, 500, 502, 503, 504, 529):
        assert classify_message(spelling.format(status)).name == recognise(ProviderError(status)).name, status


@pytest.mark.parametrize(
    "message",
    [
        "Posting 429 is odd", "500 tokens", "port 443 of 502.example", "error: 500 characters", "v4.429", "code 4290",
        "$402 is the price", "line 503", "Error code: 1429", "id-401-x", "404040", "429 statuses",
        "it took 500 responses",
    ],
)  # fmt: skip
def test_another_number_is_no_status(message: str) -> None:
    assert classify_message(message).name == "other"


def test_a_code_counts_more_than_the_status_and_a_status_more_than_words() -> None:
    assert classify_message("Error code: 403 - timed out, insufficient_quota").name == "quota_exceeded"
    assert classify_message("Error code: 403 - timed out").name == "permission"
    assert classify_message("it has timed out").name == "timeout"


def test_a_vague_sign_is_narrowed_by_words_and_another_is_not() -> None:
    assert classify_message("Error code: 400 - the prompt is too long").name == "input_too_large"
    assert classify_message("Error code: 402 - the prompt is too long").name == "quota_exceeded"


def test_a_limit_by_the_minute_is_a_rate_whatever_it_is_called() -> None:
    assert classify_message("429 Quota exceeded for requests per minute").name == "rate_limited"
    assert classify_message("429 Quota exceeded for this month").name == "quota_exceeded"


@pytest.mark.parametrize("code", ["content_filter", "contentFilter", "ContentFilter", "content-filter"])
def test_a_code_is_known_in_whatever_way_its_words_are_joined(code: str) -> None:
    assert classify_message(f"Error code: 400 - {{'{code}': 1}}").name == "content_filter"
    assert classify_message("Error code: 400 - fewer max_tokens").name == "bad_request"  # MAX_TOKENS is another thing


def test_a_phrase_begins_with_a_word() -> None:
    assert classify_message("stream error: reset").name == "connection"
    assert classify_message("Upstream error: request timed out").name == "timeout"
    assert classify_message("Upstream error, then a stream error").name == "connection"


def test_line_breaks_that_a_body_has_escaped_are_blanks() -> None:
    assert classify_message(r"{'error': 'Rate\nlimit\\nreached'}").name == "rate_limited"


@pytest.mark.parametrize("around", [("{}" + "x " * 9_000), ("x " * 9_000 + "{}")], ids=["first", "last"])
def test_a_long_text_tells_by_its_beginning_or_its_end(around: str) -> None:
    assert classify_message(around.format("\nopenai.RateLimitError: slow\n")).name == "rate_limited"


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.text(), st.sampled_from(sorted(signs.WORDS)), st.integers(100, 999).map(str))))
def test_any_text_has_exactly_one_error_type(parts: list[str]) -> None:
    assert classify_message(" ".join(parts)) in ERROR_TYPES.values()


def test_all_signs_are_of_error_types_that_exist() -> None:
    named = {*signs.WORDS.values(), *signs.EXACT_CLASSES.values(), *signs.NARROWED}
    for pairs in (signs.STEMS, signs.FIXED):
        named |= {name for _, name in pairs}
    named |= {name for name, _ in PHRASES} | {name for names in signs.NARROWED.values() for name in names}
    assert named <= set(signs.SPECIFIC_FIRST) <= set(ERROR_TYPES)


def test_no_word_of_a_message_repeats_a_code_of_ours_or_contradicts_it() -> None:
    assert not signs.BESIDE_OURS.keys() & CODES.keys()


def test_all_phrases_are_of_use() -> None:
    phrases = [(name, phrase) for name, some in PHRASES for phrase in some]
    assert [phrase for _, phrase in phrases if phrase != phrase.lower()] == []
    assert [
        phrase
        for number, (name, phrase) in enumerate(phrases)
        if any(name == other and one in phrase and number != at for at, (other, one) in enumerate(phrases))
    ] == []
