"""Histograms whose sums are exact: of durations with a bounded relative error, and of small counts. Pure.

Buckets of durations grow by a constant factor, as in DDSketch (Masson, Rim and Lee, "DDSketch: a fast and fully
mergeable quantile sketch with relative-error guarantees", VLDB 2019), but between whole milliseconds: the borders are
the same on every machine, whatever its logarithm gives. A bucket is named for the least duration in it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping

import orjson

from eventlog import canonical

Histogram = Mapping[int, int]
"""How many of each value, or of each bucket under its name; what is not there is 0."""

RELATIVE_ERROR = 0.01
_LONGEST_MS = 10**10  # 115 days: what is longer counts with these


def _borders() -> tuple[int, ...]:
    """The names of all buckets: the quotient of the longest and the least duration of each is at most 101/99."""
    borders, least = [], 0
    while least < _LONGEST_MS:
        borders.append(least)
        least = _longest(least) + 1
    return tuple(borders)


def _longest(least: int) -> int:
    return least * 101 // 99


_BORDERS = _borders()


def bucket(duration_ms: int) -> int:
    """The bucket that a duration is in."""
    return _BORDERS[max(0, bisect_right(_BORDERS, duration_ms) - 1)]


def with_one(histogram: Histogram, value: int) -> Histogram:
    """The histogram with one more."""
    return {**histogram, value: histogram.get(value, 0) + 1}


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """All together: the same as of one histogram that had counted everything."""
    total: Counter[int] = Counter()
    for one in histograms:
        total.update(one)
    return dict(sorted(total.items()))


def quantile(histogram: Histogram, share: float) -> int | None:
    """The least duration in milliseconds that this share of all does not exceed; None when there are none.

    It differs from the exact one by no more than one in a hundred, or half a millisecond.
    """
    rank, seen = max(1, math.ceil(share * sum(histogram.values()))), 0
    for least, count in sorted(histogram.items()):
        seen += count
        if seen >= rank:
            longest = _longest(least)
            return round(2 * least * longest / (least + longest)) if least else 0
    return None


def mean(histogram: Histogram) -> float | None:
    """The mean of what is counted under its own value; None when nothing is."""
    count = sum(histogram.values())
    return sum(value * times for value, times in histogram.items()) / count if count else None


def text(histogram: Histogram) -> str:
    """The histogram as canonical JSON."""
    return canonical.text({str(value): count for value, count in histogram.items()})


def histogram_of(text: str) -> Histogram:
    """The histogram that `text` wrote."""
    return {int(value): count for value, count in orjson.loads(text).items()}
