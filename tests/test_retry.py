"""When and how often a posting is tried again: exact waits, what the provider asks for, and the budget."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enrichlog.errors import ERROR_TYPES
from enrichlog.retry import allowance, backoff_ms, types_allowed_at, verdict, wait_ms
from enrichlog.retry_after import LONGEST_MS, retry_after_ms
from tests.builders import NOON

DAY = timedelta(days=1)


def test_the_waits_are_exact() -> None:
    assert [backoff_ms("job-1", failures) for failures in range(1, 8)] == [
        19_080,
        30_262,
        118_633,
        234_871,
        440_535,
        654_021,
        811_171,
    ]


def test_another_posting_waits_otherwise_so_that_not_all_come_back_at_once() -> None:
    assert backoff_ms("job-sample-001", 1) == 23_903
    assert len({backoff_ms(f"job-{number}", 1) for number in range(1_000)}) > 900


@given(st.text(), st.integers(1, 10_000))
def test_a_wait_is_the_same_whenever_it_is_computed_and_within_its_bounds(stream_id: str, failures: int) -> None:
    longest = min(900_000, 30_000 * 2 ** (failures - 1))
    assert longest / 2 <= backoff_ms(stream_id, failures) <= longest
    assert backoff_ms(stream_id, failures) == backoff_ms(stream_id, failures)


def test_the_base_of_the_waits_can_be_set() -> None:
    assert backoff_ms("job-1", 1, base_seconds=1.0) == 636  # 19,080 / 30


def test_each_error_type_waits_in_its_way() -> None:
    waits = {name: wait_ms(kind, "job-1", 2) for name, kind in ERROR_TYPES.items()}
    assert waits["timeout"] == waits["server_error"] == waits["rate_limited"] == 30_262
    assert waits["invalid_json"] == waits["schema_mismatch"] == 3_026
    assert waits["quota_exceeded"] == waits["authentication"] == waits["interrupted"] == 0


def test_what_the_provider_asks_for_is_a_floor() -> None:
    limited = ERROR_TYPES["rate_limited"]
    assert wait_ms(limited, "job-1", 1, retry_after_ms=60_000) == 60_000
    assert wait_ms(limited, "job-1", 1, retry_after_ms=1_000) == 19_080
    assert wait_ms(ERROR_TYPES["quota_exceeded"], "job-1", 1, retry_after_ms=5_000) == 5_000


ASKED = [
    ({"retry-after": "2"}, 2_000),
    ({"retry-after": "0"}, 0),
    ({"retry-after": " 7 "}, 7_000),
    ({"retry-after": "1.5"}, 1_500),
    ({"retry-after-ms": "250"}, 250),
    ({"retry-after-ms": "250", "retry-after": "2"}, 250),
    *(({"retry-after-ms": text, "retry-after": "2"}, 2_000) for text in ("soon", "-5", "nan", "1e400", "86400001", "")),
    *(({"retry-after": text, "x-ratelimit-reset-tokens": "6m0s"}, 3_000) for text in ("3", "3.0")),
    ({"retry-after": "Mon, 01 Jan 2024 12:00:30 GMT", "date": "Mon, 01 Jan 2024 12:00:00 GMT"}, 30_000),
    ({"retry-after": "Mon, 01 Jan 2024 13:00:30 +0100", "date": "Mon, 01 Jan 2024 12:00:00 GMT"}, 30_000),
    ({"retry-after": "Mon, 01 Jan 2024 12:00:30 GMT"}, 30_000),
    ({"retry-after": str(LONGEST_MS // 1_000)}, LONGEST_MS),
]
NONSENSE = [
    "",
    "soon",
    "-5",
    "+5",
    "nan",
    "inf",
    "1e400",
    "1e3",
    "1_000",
    "٣",
    "5, 10",
    "2s",
    "86401",
    "99999999999999999999",
    "Mon, 01 Jan 2020 00:00:00 GMT",
    "Mon, 01 Jan 2030 00:00:00 GMT",
    "Mon, 32 Jan 2024 00:00:00 GMT",
    "Mon, 01 Jan 99999999999 00:00:00 GMT",
    "Mon, 01 Jan 2024 00:00:00 +99999999999999999999",
    "Mon, 01 Jan 0000 00:00:00 GMT",
    "\x00",
]


@pytest.mark.parametrize(("headers", "wait"), ASKED)
def test_the_wait_that_is_asked_for_is_understood(headers: Mapping[str, str], wait: int) -> None:
    assert retry_after_ms(headers, NOON) == wait


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize("text", NONSENSE)
def test_nonsense_is_no_wait(name: str, text: str) -> None:
    if (name, text) != ("retry-after-ms", "86401"):  # a minute and a half, there
        assert retry_after_ms({name: text}, NOON) is None


@pytest.mark.parametrize("reset", ["1s", "6m0s", "20ms", "30"])
def test_when_a_limit_is_whole_again_is_not_when_to_call_again(reset: str) -> None:
    headers = {"x-ratelimit-reset-requests": reset, "x-ratelimit-reset-tokens": reset}
    assert retry_after_ms(headers, NOON) is None


@given(st.text(), st.text(), st.text())
def test_whatever_a_server_says_is_a_wait_of_at_most_a_day_or_none(after: str, milliseconds: str, date: str) -> None:
    wait = retry_after_ms({"retry-after": after, "retry-after-ms": milliseconds, "date": date}, NOON)
    assert wait is None or 0 <= wait <= LONGEST_MS


@pytest.mark.parametrize(
    ("explicit", "cap", "default", "allowed"),
    [(None, None, 5, 5), (None, 2, 5, 2), (None, 3, 1, 1), (8, 2, 5, 8), (1, None, 5, 1), (None, None, 9, 9)],
)
def test_an_explicit_maximum_overrides_the_default_and_the_cap(
    explicit: int | None, cap: int | None, default: int, allowed: int
) -> None:
    assert allowance(explicit, cap, default) == allowed


def test_an_error_type_is_tried_again_below_its_cap() -> None:
    assert set(types_allowed_at(0)) == set(types_allowed_at(1)) == {k.name for k in ERROR_TYPES.values() if k.retryable}
    assert "invalid_json" not in types_allowed_at(2)
    assert "interrupted" in types_allowed_at(2)
    assert "interrupted" not in types_allowed_at(3)
    assert "timeout" in types_allowed_at(4)
    assert types_allowed_at(5) == []


@pytest.mark.parametrize(
    ("retryable", "used", "due_at", "found"),
    [
        (True, 4, NOON, "will_try"),
        (True, 4, NOON + DAY, "waiting"),
        (True, 5, NOON, "exhausted"),
        (True, 5, NOON + DAY, "exhausted"),
        (False, 0, None, "not_retryable"),
        (True, 0, None, "exhausted"),
    ],
)
def test_a_retry_takes_what_is_retryable_within_its_budget_and_due(
    retryable: bool, used: int, due_at: datetime | None, found: str
) -> None:
    now = NOON.astimezone(UTC)
    assert verdict(retryable=retryable, budget_used=used, allowed=5, deaths=0, due_at=due_at, now=now) == found


@pytest.mark.parametrize(("due_at", "found"), [(NOON, "will_try"), (None, "exhausted")])
def test_the_death_of_a_worker_does_not_use_up_what_a_posting_is_allowed(due_at: datetime | None, found: str) -> None:
    assert verdict(retryable=True, budget_used=5, allowed=5, deaths=1, due_at=due_at, now=NOON) == found


@pytest.mark.parametrize(
    ("used", "deaths", "due_at", "found"),
    [
        (4, 0, None, "will_try"),
        (5, 0, None, "exhausted"),
        (4, 0, NOON + DAY, "waiting"),
        (4, 4, None, "will_try"),
        (5, 5, None, "exhausted"),
    ],
)
def test_an_explicit_maximum_also_takes_what_was_given_up(
    used: int, deaths: int, due_at: datetime | None, found: str
) -> None:
    now = NOON.astimezone(UTC)
    given = verdict(
        retryable=True, budget_used=used, allowed=5, deaths=deaths, due_at=due_at, now=now, explicit=True
    )  # fmt: skip
    assert given == found
