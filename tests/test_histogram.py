"""Histograms: quantiles are right within one in a hundred, and parts merged are the whole."""

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from projections.histogram import bucket, histogram_of, mean, merged, quantile, text, with_one

durations = st.lists(st.one_of(st.integers(0, 200), st.integers(0, 900_000)), min_size=1, max_size=60)


def histogram(values: list[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for value in values:
        found = dict(with_one(found, bucket(value)))
    return found


@settings(max_examples=50)
@given(durations, st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_a_quantile_is_within_one_in_a_hundred_of_the_exact_one(values: list[int], share: float) -> None:
    exact = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    found = quantile(histogram(values), share)
    assert found is not None
    assert abs(found - exact) <= 0.01 * exact + 0.5


@settings(max_examples=50)
@given(durations, durations)
def test_the_histogram_of_all_is_its_parts_merged(some: list[int], others: list[int]) -> None:
    assert merged([histogram(some), histogram(others)]) == histogram(some + others)
    assert histogram_of(text(histogram(some))) == histogram(some)


def test_of_nothing_there_is_no_quantile_and_no_mean() -> None:
    assert (quantile({}, 0.5), mean({})) == (None, None)
    assert mean({1: 3, 3: 1}) == 1.5


def test_what_is_longer_than_any_call_or_negative_has_a_bucket_too() -> None:
    assert bucket(-5) == 0
    assert bucket(10**15) == bucket(10**16)


def test_a_bucket_is_named_for_the_least_that_is_in_it() -> None:
    assert [bucket(one) for one in (0, 49, 50, 51, 52)] == [0, 49, 50, 50, 52]
    assert bucket(bucket(1_000)) == bucket(1_000)
